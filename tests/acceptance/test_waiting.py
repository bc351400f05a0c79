"""While a run waits for people nothing is busy, and the journal is all it needs to go on; people hold, end, and refuse.

Each test has a cluster of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from acceptance_engine import Engine, Shape
from renewing import STOPPED, WAITS, begin, count, must, nodes_of, planned, say, seen

from workflows.broker import KEY_PREFIX

ENGINE = Shape(clusters=7, nodes=2, key_pool="300", simulator=("--services=webadmin,callbridge",))


@pytest.fixture(scope="module", autouse=True)
def _surveyed(engine: Engine) -> None:
    """Read the whole fleet once; every test changes its own servers only."""
    must(engine, "survey")


@pytest.fixture(autouse=True)
def _mended(engine: Engine) -> Any:
    """Leave no fault behind."""
    yield
    engine.clear_faults()


def busy(engine: Engine) -> list[str]:
    """Return the names of the tasks that workers are at, the clock's own left out."""
    words = ["-m", "celery", "-A", "workers.app", "inspect", "active", "--json", "--timeout", "2"]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=60, check=True, env=engine.environment
    )
    workers = json.loads(done.stdout)
    assert len(workers) == 2  # control and fleet-1
    return [task["name"] for tasks in workers.values() for task in tasks if task["name"] != "reconcile"]


def test_nothing_is_busy_at_a_gate_and_the_run_outlives_an_emptied_broker(engine):
    """No task, no message, no chord key; all keys are deleted at both gates; approval goes on from the journal."""
    run = begin(engine, "--cluster", "seoul")
    run.watch(WAITS)
    assert busy(engine) == []
    assert {name: number for name, number in engine.queues().items() if name != "control"} == {"fleet": 0, "cluster": 0}
    ours = engine.keys(f"{KEY_PREFIX}*")
    assert [key for key in ours if "chord" in key or key.rpartition(".")[2] in {"j", "t", "s"}] == []
    engine.flush_broker()
    run.approve("--gate", "sign")
    run.watch(WAITS)
    engine.flush_broker()
    run.approve("--gate", "go")
    run.watch(0)
    for node in nodes_of(engine, "seoul"):
        assert [one.said for one in seen(engine, node)] == [one.said for one in planned(run.plan(), node)]


def test_paused_run_ends_its_step_and_begins_no_other(engine):
    """`webadmin` is in its new files when the pause comes; the call bridge is not touched until `resume`."""
    first = order_of_apply(engine, "busan")[0]
    engine.fault("slow", first, match="webadmin enable", seconds=1)
    run = begin(engine, "--cluster", "busan")
    run.to_go()
    run.approve("--gate", "go")
    engine.wait(lambda: bool(engine.log(node=first, text="webadmin enable")), 30, "webadmin is being enabled")
    must(engine, "runs", "pause", run.run, "--reason", "lunch")
    engine.wait(lambda: run.part(f"busan/{first}/apply/webadmin")["status"] == "done", 30, "the step has ended")
    assert run.lane()["status"] == "paused"
    assert run.watch(STOPPED).out.startswith(f"run {run.run}: paused")
    assert count(seen(engine, first), "callbridge certs") == 0
    run.resume()
    run.watch(0)
    for node in nodes_of(engine, "busan"):
        assert [one.said for one in seen(engine, node)] == [one.said for one in planned(run.plan(), node)]


def test_cancelled_run_ends_its_step_and_frees_its_servers(engine):
    """The step ends whole, no other begins, exit code 4; a new run may have the servers and finishes the work."""
    first = order_of_apply(engine, "incheon")[0]
    engine.fault("slow", first, match="webadmin enable", seconds=1)
    run = begin(engine, "--cluster", "incheon")
    run.to_go()
    run.approve("--gate", "go")
    engine.wait(lambda: bool(engine.log(node=first, text="webadmin enable")), 30, "webadmin is being enabled")
    must(engine, "runs", "cancel", run.run, "--reason", "change freeze", "--yes")
    run.watch(STOPPED)
    engine.wait(lambda: run.part(f"incheon/{first}/apply/webadmin")["status"] == "done", 30, "the step has ended")
    assert count(seen(engine, first), "callbridge certs") == 0
    engine.wait(lambda: run.shown()["outcome"] == "cancelled", 10, "the run is closed")
    assert say(engine, "runs", "resume", run.run).code != 0
    must(engine, "survey", "--cluster", "incheon")
    begin(engine, "--cluster", "incheon").to_the_end()


def test_rejected_request_says_why_and_resume_opens_the_gate_again(engine):
    """A rejection needs a reason; the lane waits with it; after `resume` the gate can be approved."""
    run = begin(engine, "--cluster", "daegu")
    run.watch(WAITS)
    assert say(engine, "gates", "reject", run.run, "--yes", "--reason", " ").code == 2
    must(engine, "gates", "reject", run.run, "--yes", "--reason", "the CN is wrong")
    assert "the CN is wrong" in must(engine, "runs", "show", run.run).out
    for node in nodes_of(engine, "daegu"):
        assert count(seen(engine, node), "pki csr") == 1
    run.resume()
    run.watch(WAITS)
    run.approve("--gate", "sign")
    run.watch(WAITS)
    assert run.lane()["waiting"]["name"] == "go"


def test_second_decision_on_a_gate_is_refused_with_the_first_one(engine):
    """Exit code 2, and who decided when."""
    run = begin(engine, "--cluster", "daejeon")
    run.watch(WAITS)
    run.approve("--gate", "sign")
    said = say(engine, "gates", "reject", run.run, "--gate", "sign", "--yes", "--reason", "too late")
    assert (said.code, "was approved by" in said.err) == (2, True)


def test_approval_for_later_moves_nothing_before_its_time(engine):
    """`--not-before`: the run tells what it waits for, and the first line comes after that time, by itself."""
    run = begin(engine, "--cluster", "gwangju")
    run.to_go()
    before = {node: len(seen(engine, node)) for node in nodes_of(engine, "gwangju")}
    opens = datetime.now(UTC) + timedelta(seconds=4)
    opens_at = time.monotonic() + 4
    run.approve("--gate", "go", "--not-before", opens.isoformat())
    run.watch(WAITS)
    assert f"{opens:%Y-%m-%d %H:%M} UTC" in run.lane()["waiting"]["on"]
    engine.wait(lambda: run.shown()["outcome"] == "done", 60, "the run has ended by itself")
    for node, number in before.items():
        changes = seen(engine, node)[number:]
        assert changes != []
        assert changes[0].at >= opens_at - 0.1


def test_second_run_on_the_same_servers_is_told_for_whom_it_waits(engine):
    """Exit code 4 and the other run's name; nothing is written and nothing sent."""
    run = begin(engine, "--cluster", "suwon")
    run.watch(WAITS)
    runs = len(engine.journal.runs(limit=1000))
    said = say(engine, "run", "--yes", "--cluster", "suwon")
    assert (said.code, run.run in said.err, "runs cancel" in said.err) == (STOPPED, True, True)
    assert len(engine.journal.runs(limit=1000)) == runs
    must(engine, "runs", "cancel", run.run, "--yes")
    must(engine, "survey", "--cluster", "suwon")  # the first run made new files
    engine.wait(lambda: say(engine, "run", "--yes", "--cluster", "suwon").code == 0, 20, "the servers are free")


def order_of_apply(engine: Engine, cluster: str) -> list[str]:
    """Return the nodes of *cluster* in the order in which they are applied: the database primary, the first, last."""
    first, *others = nodes_of(engine, cluster)
    return [*others, first]
