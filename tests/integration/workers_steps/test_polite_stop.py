"""A worker that is told to stop begins nothing more, and gives way where it only waits; nothing is sent twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from database_engine import DatabaseEngine
from steps_engine import RUN, Engine

from workers.attempt import Attempt, Outcome
from workflows.journal import outbox
from workflows.journal.events import Kind
from workflows.journal.lanes import raise_generation


def stopping_when(engine: Engine, condition: Callable[[], bool]) -> threading.Thread:
    """Tell the worker to stop as soon as *condition* holds."""

    def wait() -> None:
        while not condition():
            time.sleep(0.02)
        engine.work.ending.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def joins(engine: Engine, node: str) -> int:
    """Return how often *node* was told to join."""
    return sum(line.startswith("database cluster join") for line in engine.fleet.commands(node))


def patient(engine: Engine) -> None:
    """Let a step poll for most of a minute, as in production."""
    engine.work.settings = engine.settings.model_copy(update={"longest_poll_s": 50.0})


def test_a_long_poll_of_a_database_ends_early(start_database: Callable[..., DatabaseEngine]) -> None:
    """The join goes on by itself; it is journaled as waiting, and whoever looks next sees its end."""
    engine = start_database(joined=2)
    patient(engine)
    engine.to_the_gate()
    (join,) = [step for step in engine.work.plan(RUN)[0].lane("seoul").steps() if step.action == "database_join"]
    fault = engine.fleet.fault("database-stuck", node=join.node, match="join*")
    assert engine.beyond(until=join.id) == join.id
    stopping_when(engine, lambda: joins(engine, join.node) == 1)
    began = time.monotonic()
    assert engine.run_once() is None
    assert time.monotonic() - began < 15
    assert engine.state_of("seoul").steps[join.id].status == "waiting"
    engine.work.ending.clear()  # the next worker
    engine.fleet.mend(fault)
    engine.fleet.reboot(join.node, 0.1)
    engine.wait_until_it_answers(join.node)
    assert joins(engine, join.node) == 1


def test_waiting_for_a_port_ends_early_and_is_no_failure(start: Callable[..., Engine]) -> None:
    """The port is down while the worker ends: nobody puts the server back for that, and the next one proves it."""
    engine = start("webadmin", services=("webadmin",))
    patient(engine)
    engine.start(engine.plan())
    prove = "seoul/cmscore1/prove"
    assert engine.to_apply(until=prove) == prove
    fault = engine.fleet.fault("unreachable", node="cmscore1", match="webadmin")
    threading.Timer(1.0, engine.work.ending.set).start()
    began = time.monotonic()
    assert engine.go_on() == prove
    assert time.monotonic() - began < 15
    assert (engine.step(prove).status, engine.events(Kind.PUT_BACK)) == ("waiting", [])
    engine.work.ending.clear()
    engine.fleet.mend(fault)
    assert engine.go_on() == ""


def test_nothing_begins_and_the_lane_is_sent_again_once(start: Callable[..., Engine]) -> None:
    """Messages that were taken before TERM are handed on: no claim, one row in the outbox."""
    engine = start("webadmin", nodes=2, services=("webadmin",))
    engine.start(engine.plan())
    engine.work.ending.set()
    journal = engine.work.journal
    for row in journal.read(outbox.pending):
        journal.write(lambda tx, row=row: outbox.sent(tx, row.id))
    generation = journal.write(lambda tx: raise_generation(tx, RUN, "seoul", "test")) or 0
    for node in ("cmscore1", "cmscore2"):
        attempt = Attempt(engine.work, run=RUN, lane="seoul", step=f"seoul/{node}/prepare", generation=generation)
        assert attempt.carry_out() is Outcome.DROPPED
    assert [row.data["why"] for row in journal.read(outbox.pending)] == ["its worker was told to stop"]
    assert engine.events(Kind.STEP_CLAIMED) == []
