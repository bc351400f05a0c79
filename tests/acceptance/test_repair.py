"""Repair with the timings of production (leases of 45 s): a lane moves again within a minute, and it is told why."""

from __future__ import annotations

import time

import pytest
from acceptance_engine import Engine, Shape
from renewing import WAITS, Renewal, begin, must, nodes_of, planned, seen

from workflows.journal import Event, Kind

ENGINE = Shape(
    clusters=4,
    nodes=1,
    key_pool="60",
    fleet_workers=2,
    simulator=("--services=webadmin",),
    settings={"lease_s": 45.0, "renew_s": 10.0, "reconcile_s": 20.0},
)
QUICKLY_S = 30.0
WITHIN_S = 60.0
SLOW_S = 4.0


@pytest.fixture(scope="module", autouse=True)
def _surveyed(engine: Engine) -> None:
    """Read the whole fleet once; every test changes its own server only."""
    must(engine, "survey")


def at_work(engine: Engine, cluster: str, line: str) -> tuple[Renewal, str]:
    """Begin a run on *cluster* and return it with the worker that is at *line*, which takes its time."""
    (node,) = nodes_of(engine, cluster)
    engine.fault("slow", node, match=f"{line}*", seconds=SLOW_S)
    run = begin(engine, "--cluster", cluster)
    sent = {"node": node, "kind": "command", "text": line, "phase": "begin"}
    engine.wait(lambda: bool(engine.log(**sent)), 60, f"`{line}` was sent")
    (claimed,) = [one for one in engine.journal.events(run.run) if one.kind is Kind.STEP_CLAIMED][-1:]
    pid = int(claimed.data["holder"].split(":")[1])
    (worker,) = [name for name, one in engine.alive().items() if one == pid]
    return run, worker


def repairs(engine: Engine, run: Renewal) -> list[Event]:
    """Return the notes of what was repaired."""
    return [one for one in engine.journal.events(run.run) if one.kind is Kind.NOTE and "repair" in one.data]


def ends_well(engine: Engine, run: Renewal, cluster: str) -> None:
    """Carry the run to its end and compare what the server saw with the plan: each line once."""
    run.watch(WAITS)
    run.to_the_end()
    (node,) = nodes_of(engine, cluster)
    assert [one.said for one in seen(engine, node)] == [one.said for one in planned(run.plan(), node)]


@pytest.mark.parametrize(("cluster", "restart"), [("seoul", True), ("busan", False)])
def test_what_a_killed_worker_held_is_let_go_of_at_once(engine: Engine, cluster: str, restart: bool):
    """Its successor finds it, or the control worker where there is none: seconds, not the rest of the lease."""
    run, worker = at_work(engine, cluster, "pki match")
    began = time.monotonic()
    engine.kill(worker, restart=restart)
    run.watch(WAITS)
    assert time.monotonic() - began < QUICKLY_S
    (note,) = repairs(engine, run)
    assert (note.data["found"].endswith("is gone"), "its lease was ended" in note.data["done"]) == (True, True)
    sent = [one.data["why"] for one in engine.journal.events(run.run) if one.kind is Kind.LANE_SENT and one.n > note.n]
    assert note.data["found"] in sent
    if not restart:
        engine.restart(worker)
    ends_well(engine, run, cluster)


@pytest.mark.chaos
def test_lane_of_a_frozen_worker_moves_again_within_a_minute(engine: Engine):
    """It lives, so nobody may let go of what it holds; the lease runs out, and the clock finds the lane."""
    run, worker = at_work(engine, "incheon", "pki match")
    began = time.monotonic()
    engine.freeze(worker)
    run.watch(WAITS)
    assert time.monotonic() - began < WITHIN_S
    assert repairs(engine, run) == []
    engine.thaw(worker)
    ends_well(engine, run, "incheon")


@pytest.mark.chaos
def test_line_that_is_under_way_has_its_time_and_is_not_sent_again(engine: Engine):
    """The server is still at `webadmin enable` when the successor is there: its status says off, and it is waited."""
    (node,) = nodes_of(engine, "daegu")
    run = begin(engine, "--cluster", "daegu")
    run.to_go()
    engine.fault("slow", node, match="webadmin enable", seconds=15)
    run.approve("--gate", "go")
    sent = {"node": node, "kind": "command", "text": "webadmin enable", "phase": "begin"}
    engine.wait(lambda: bool(engine.log(**sent)), 60, "`webadmin enable` was sent")
    began = time.monotonic()
    for worker in ("fleet-1", "fleet-2"):
        engine.kill(worker)
    run.watch(0)
    assert time.monotonic() - began < WITHIN_S
    (note,) = repairs(engine, run)
    assert "`webadmin enable` may still be under way" in note.data["done"]
    assert [one.said for one in seen(engine, node)] == [one.said for one in planned(run.plan(), node)]
