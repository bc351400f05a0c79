"""A step that was cut off half-way goes on to its end though its lane was cancelled or paused: no service stays off."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from acceptance_engine import Engine
from renewing import Renewal, begin, must, nodes_of, seen

LINES = ["webadmin disable", "webadmin certs", "webadmin enable"]
SLOW_S = 3.0


@pytest.fixture
def cut_off(make_engine: Callable[..., Engine]) -> tuple[Engine, Renewal, str]:
    """Return an engine whose worker is killed while webadmin is off, its run, and the server."""
    engine = make_engine(
        nodes=1,
        simulator=("--services=webadmin",),
        settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5},
    )
    must(engine, "survey")
    (node,) = nodes_of(engine, "seoul")
    run = begin(engine)
    run.to_go()
    engine.fault("slow", node, match="webadmin certs*", seconds=SLOW_S)
    run.approve("--gate", "go")
    sent = {"node": node, "kind": "command", "text": "webadmin certs", "phase": "begin"}
    engine.wait(lambda: bool(engine.log(**sent)), 60, "`webadmin certs` was sent")
    engine.kill("fleet-1")
    return engine, run, node


@pytest.mark.parametrize("word", ["cancel", "pause"])
def test_step_that_was_cut_off_goes_on_to_its_end(cut_off: tuple[Engine, Renewal, str], word: str) -> None:
    """The worker died with webadmin off, and somebody holds the run: webadmin comes on, nothing else begins."""
    engine, run, node = cut_off
    must(engine, "runs", word, run.run, *(("--yes",) if word == "cancel" else ()))
    step = f"seoul/{node}/apply/webadmin"
    engine.wait(lambda: run.part(step)["status"] == "done", 60, "the step that had begun is done")
    if word == "cancel":
        engine.wait(lambda: engine.journal.state(run.run).outcome == "cancelled", 30, "the run is over")
    lane = engine.journal.state(run.run).lanes["seoul"]
    sent = [one.text for one in seen(engine, node) if one.text.startswith("webadmin")]
    assert [" ".join(text.split()[:2]) for text in sent] == LINES
    assert (lane.status, f"seoul/{node}/prove" in lane.steps) == (
        {"cancel": "cancelled", "pause": "paused"}[word],
        False,
    )
    if word == "pause":
        run.resume()
        run.watch(0)
