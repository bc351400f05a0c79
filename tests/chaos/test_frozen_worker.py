"""A worker that stood still until its lease was gone wakes up and sends nothing more (show 5)."""

from __future__ import annotations

import os
import signal

from acceptance_engine import Engine, Shape
from renewing import begin, must, planned, seen

from workflows.journal import stock
from workflows.journal.events import Kind

ENGINE = Shape(
    nodes=1,
    fleet_workers=2,
    key_pool="20",
    simulator=("--services=webadmin,callbridge",),
    settings={"lease_s": 3.0, "renew_s": 0.8, "reconcile_s": 1.5},
)
NODE = "cmscore1"


def test_worker_that_wakes_after_its_lease_has_gone_sends_no_further_command():
    """Stopped while the server enables `webadmin`: the other worker ends the run, and the server hears no more."""
    with Engine(ENGINE) as engine:
        must(engine, "survey")
        run = begin(engine)
        run.to_go()
        engine.fault("slow", NODE, match="webadmin enable", seconds=1)
        run.approve("--gate", "go")
        engine.wait(lambda: bool(engine.log(node=NODE, text="webadmin enable", phase="begin")), 60, "it is sent")
        name = at_work(engine, run.run)
        pid = engine.alive()[name]
        os.killpg(pid, signal.SIGSTOP)
        run.watch(0)
        assert [one.said for one in seen(engine, NODE)] == [one.said for one in planned(run.plan(), NODE)]
        before = len(engine.log())
        log = engine.settings.logs_dir / f"{name}.log"
        os.killpg(pid, signal.SIGCONT)
        engine.wait(lambda: "lease_lost" in log.read_text(), 30, f"{name} has found that its lease is gone")
        engine.wait(lambda: name_is_heard(engine, pid), 30, f"{name} works again")
        assert engine.log()[before:] == []


def at_work(engine: Engine, run: str) -> str:
    """Return the worker that has the step which enables `webadmin`."""
    claims = [event for event in engine.journal.events(run) if event.kind is Kind.STEP_CLAIMED]
    holder = str(claims[-1].data["holder"])
    (name,) = [name for name, pid in engine.alive().items() if str(pid) in holder.split(":")]
    return name


def name_is_heard(engine: Engine, pid: int) -> bool:
    """Return whether the worker of *pid* has told lately that it is there."""
    return any(row.info.get("pid") == pid for row in engine.journal.read(stock.workers))
