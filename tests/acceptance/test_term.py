"""TERM in the middle of a long wait: the worker is gone in seconds, and the run ends well on the next one."""

from __future__ import annotations

import time

import pytest
from acceptance_engine import Engine, Shape
from renewing import WAITS, Renewal, begin, count, must, planned, say, seen

from workflows.journal import outbox

ENGINE = Shape(nodes=1, key_pool="30", simulator=("--services=webadmin",), settings={"longest_poll_s": 50.0})


@pytest.fixture(scope="module")
def run(engine: Engine) -> Renewal:
    """Return a run that stands before its gate `go`."""
    must(engine, "survey")
    begun = begin(engine)
    begun.to_go()
    return begun


def test_worker_ends_within_seconds_while_it_waits_for_a_port(engine: Engine, run: Renewal):
    """A port would be waited for three quarters of a minute; the command line says how it stands without a broker."""
    fault = engine.fault("unreachable", "cmscore1", match="webadmin")
    run.approve("--gate", "go")
    engine.wait(lambda: run.part("seoul/cmscore1/prove")["status"] == "running", 60, "the port is waited for")
    began = time.monotonic()
    engine.stop("fleet-1")
    assert time.monotonic() - began < 20
    assert run.part("seoul/cmscore1/prove")["status"] == "waiting"
    engine.simulator({"do": "remove", "id": fault})
    engine.restart("fleet-1")
    run.watch(0)
    changes = seen(engine, "cmscore1")
    assert [one.said for one in changes] == [one.said for one in planned(run.plan(), "cmscore1")]
    assert count(changes, "webadmin enable") == 1


def test_everything_can_be_read_while_the_broker_is_away(engine: Engine, run: Renewal):
    """Runs, gates and journal are in the database; Redis is asked for nothing that is only read."""
    engine.stop_broker()
    try:
        began = time.monotonic()
        for words in (
            ("runs", "list"),
            ("runs", "show", run.run),
            ("runs", "watch", run.run),
            ("runs", "resume", run.run, "--preview"),
            ("gates", "list"),
            ("gates", "show", run.run),
            ("journal", "show", run.run),
            ("journal", "verify", run.run),
        ):
            said = say(engine, *words)
            assert said.code in ({0, WAITS} if "watch" in words else {0}), said
        assert time.monotonic() - began < 60
    finally:
        engine.start_broker()


def test_the_control_worker_ends_though_the_broker_is_dead_and_something_is_to_be_sent(make_engine):
    """What cannot be sent still stands in the outbox, so nobody waits two minutes for a broker that is away."""
    engine = make_engine(nodes=1, key_pool="20", simulator=("--services=webadmin",))
    must(engine, "survey")
    engine.stop_broker()
    begin(engine)
    engine.wait(lambda: "row_not_sent" in engine.logs() or "Connection" in engine.logs(), 60, "sending was tried")
    engine.stop("control")  # within 30 s, or it is an error
    assert engine.journal.read(outbox.pending)
    engine.start_broker()
