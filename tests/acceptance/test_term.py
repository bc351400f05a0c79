"""TERM in the middle of a long wait: the worker is gone in seconds, and the run ends well on the next one."""

from __future__ import annotations

import time

from acceptance_engine import Engine, Shape
from renewing import begin, count, must, planned, seen

ENGINE = Shape(nodes=1, key_pool="30", simulator=("--services=webadmin",), settings={"longest_poll_s": 50.0})


def test_worker_ends_within_seconds_while_it_waits_for_a_port(engine: Engine):
    """A port would be waited for three quarters of a minute; the command line says how it stands without a broker."""
    must(engine, "survey")
    run = begin(engine)
    run.to_go()
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


def test_everything_can_be_read_while_the_broker_is_away(engine: Engine):
    """Runs, gates and journal are in the database; Redis is asked for nothing that is only read."""
    run = engine.latest_run()
    engine.stop_broker()
    try:
        began = time.monotonic()
        for words in (
            ("runs", "list"),
            ("runs", "show", run),
            ("runs", "watch", run),
            ("runs", "resume", run, "--preview"),
            ("gates", "list"),
            ("gates", "show", run),
            ("journal", "show", run),
            ("journal", "verify", run),
        ):
            engine.ok(*words)
        assert time.monotonic() - began < 60
    finally:
        engine.start_broker()
