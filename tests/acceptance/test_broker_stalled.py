"""The broker stands still, or is away for long and comes back empty: nothing hangs, and the work goes on (F8, F9)."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from acceptance_engine import Engine, Shape
from renewing import WAITS, begin, must, same_as_planned

from workers.embedded import process_id
from workflows.journal import outbox

pytestmark = [pytest.mark.longer, pytest.mark.timeout(600 if os.environ.get("CERTBRIDGE_CHAOS") == "1" else 180)]
ENGINE = Shape(clusters=2, nodes=1, key_pool="60", simulator=("--services=webadmin",))
LONG = os.environ.get("CERTBRIDGE_CHAOS") == "1"
# Time-outs of sockets are 30 s, and workers try to reach the broker for two minutes before they say so.
STALLED_S, AWAY_S = (45.0, 150.0) if LONG else (3.0, 3.0)
READABLE_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _surveyed(engine: Engine) -> None:
    must(engine, "survey")


def lasts(engine: Engine, seconds: float) -> None:
    """Let *seconds* pass while all processes live."""
    until = time.monotonic() + seconds
    engine.wait(lambda: time.monotonic() >= until, seconds + 30, "the time has passed")


@contextmanager
def stalled(engine: Engine) -> Iterator[None]:
    """Stop the broker (SIGSTOP) for as long as this lasts."""
    process = process_id(engine._broker.listen)
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def readable(engine: Engine, run: str) -> None:
    """Read what a person reads, each within a minute on a busy machine, by processes of its own."""
    for words in (("runs", "list"), ("runs", "show", run), ("gates", "list"), ("journal", "verify", run)):
        began = time.monotonic()
        done = engine.cli(*words, timeout_s=READABLE_S)
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < READABLE_S


def test_a_stalled_broker_hangs_nothing(engine: Engine) -> None:
    """Redis hangs without being dead: runs are accepted, shown and approved; when it wakes the work goes on."""
    before = engine.alive()
    run = begin(engine, "--cluster", "seoul")
    run.watch(WAITS)
    with stalled(engine):
        run.approve("--gate", "sign")
        readable(engine, run.run)
        lasts(engine, STALLED_S)
    run.watch(WAITS)
    run.approve("--gate", "go")
    run.watch(0)
    same_as_planned(engine, run.plan(), "cmscore1", 0)
    assert engine.alive() == before


def test_a_broker_that_was_away_for_long_and_comes_back_empty(engine: Engine) -> None:
    """A run that begins meanwhile waits in the outbox; everything can be read; then all of it is carried out."""
    before = engine.alive()
    os.kill(process_id(engine._broker.listen) or 0, signal.SIGKILL)
    engine._broker.stop()
    run = begin(engine, "--cluster", "busan")
    readable(engine, run.run)
    lasts(engine, AWAY_S)
    waiting = [row for row in engine.journal.read(outbox.pending) if row.run == run.run]
    generation = engine.journal.state(run.run).lanes["busan"].generation
    assert waiting or generation > 0  # not sent yet, or sent into the void: the reconciler sends it again
    shutil.rmtree(engine.settings.valkey_dir)
    engine._broker.start()
    run.to_the_end()
    (node,) = {step["node"] for step in run.lane()["parts"] if step.get("node")}
    same_as_planned(engine, run.plan(), node, 0)
    assert engine.alive() == before
