"""A renewal that ended well is taken back on real workers: `runs rollback` reads, plans, waits at its gate, undoes."""

from __future__ import annotations

import json

from acceptance_engine import Engine, Shape
from renewing import WAITS, WRONG_INPUT, Renewal, begin, must, say, seen, steps_of

ENGINE = Shape(nodes=2, key_pool="60", simulator=("--services=webadmin,callbridge,webbridge3",))


def served(engine: Engine) -> dict[str, str]:
    """Return {node and endpoint: fingerprint of the leaf that is served}."""
    return {
        f"{node} {name}": endpoint["serves"]["fingerprint"]
        for node in ("cmscore1", "cmscore2")
        for service in engine.state_of(node)["services"].values()
        for name, endpoint in service["endpoints"].items()
        if endpoint.get("serves")
    }


def test_a_renewal_is_taken_back_and_every_port_serves_its_old_leaf(engine: Engine):
    """Its lines are shown before, approved by another person, and proved; then there is nothing left to undo."""
    must(engine, "survey")
    before = served(engine)
    run = begin(engine)
    run.to_the_end()
    assert set(served(engine).values()).isdisjoint(before.values())
    found = json.loads(must(engine, "runs", "rollback", run.run, "--preview", "-o", "json").out)
    assert (found["run"], found["preview"]["stops_at"]) == ("", ["seoul/go"])
    assert [one.run for one in engine.journal.runs() if one.kind != "survey"] == [run.run]
    said = must(engine, "runs", "rollback", run.run, "--yes")
    assert "approval of seoul/go: valid" in said.err
    back = Renewal(engine=engine, run=said.out.split()[-1])
    back.watch(WAITS)
    old = {node: len(seen(engine, node)) for node in ("cmscore1", "cmscore2")}
    back.approve("--gate", "go")
    back.watch(0)
    assert served(engine) == before
    for node, number in old.items():
        lines = [line for step in found["preview"]["would_run"] for line in _lines(back, step) if f"/{node}/" in step]
        assert [one.text for one in seen(engine, node)[number:]] == lines
    assert "Drift" not in must(engine, "survey").out
    again = say(engine, "runs", "rollback", run.run, "--yes")
    assert (again.code, "there is nothing to undo" in again.err) == (0, True)
    assert say(engine, "runs", "rollback", back.run, "--yes").code == WRONG_INPUT
    page = engine.root / "report.html"
    must(engine, "runs", "report", back.run, "--out", page)
    assert "uses its old certificate again" in page.read_text()
    assert "The old files are in use again" in page.read_text()
    assert "may delete" not in page.read_text()


def _lines(run: Renewal, step: str) -> list[str]:
    """Return the changing lines of a step behind the gate."""
    return [
        line["text"]
        for one in steps_of(run.plan())
        if one["id"] == step and one["stage"] >= 600
        for line in one["lines"]
        if line["kind"] == "command"
    ]
