"""A rebuild that cannot go on is taken back: `runs rollback` reads the nodes, plans, ends the old run, goes back."""

from __future__ import annotations

import pytest
from acceptance_engine import Engine, Shape
from renewing import FAILED, STOPPED, WAITS, WRONG_INPUT, Renewal, begin, must, say

ENGINE = Shape(
    key_pool="40",
    simulator=(
        "--joined=2",
        "--connected=1",
        "--database-days-left=5",
        "--days-left=100",
        "--services=callbridge,webadmin",
        "--speed=100",
    ),
)
NODES = ("cmscore1", "cmscore2", "cmscore3")


@pytest.fixture(scope="module")
def stopped(engine: Engine) -> Renewal:
    """Return a rebuild whose primary, already removed, cannot be initialized."""
    must(engine, "survey")
    engine.fault("database-fails", "cmscore1", match="initialize", text="No space left on device")
    run = begin(engine, "--database", "renew")
    run.watch(WAITS)
    assert say(engine, "runs", "rollback", run.run, "--yes").code == 0  # nothing was removed: nothing to undo
    run.approve("--gate", "point-of-no-return")
    run.watch(FAILED)
    return run


def test_a_stopped_rebuild_says_why_and_what_to_do(engine, stopped):
    """The reason is the server's, the remedy names the ways forward and back."""
    said = must(engine, "runs", "show", stopped.run).out
    assert "No space left on device" in said
    assert f"certbridge runs runbook {stopped.run}" in said


def test_a_survey_has_no_rollback_of_its_own(engine, stopped):
    """A survey is refused with the reason."""
    surveys = [one.run for one in engine.journal.runs() if one.kind == "survey"]
    said = say(engine, "runs", "rollback", surveys[0], "--yes")
    assert said.code == WRONG_INPUT
    assert "no rollback of its own" in said.err


def test_the_cluster_comes_back_with_its_old_files(engine, stopped):
    """The old run ends, a new one waits at its own gate, and then every node is as before."""
    before = engine.state_of("cmscore1")["database"]["data"]
    engine.clear_faults()
    back = Renewal(engine=engine, run=must(engine, "runs", "rollback", stopped.run, "--yes").out.split()[-1])
    assert engine.journal.state(stopped.run).outcome == "cancelled"
    back.watch(WAITS)
    back.approve("--gate", "point-of-no-return")
    back.watch(0)
    databases = {node: engine.state_of(node)["database"] for node in NODES}
    assert [one["role"] for one in databases.values()] == ["primary", "replica", "connected"]
    assert {file for one in databases.values() for file in one["files"]} == {
        "dbserver.key",
        "dbserver.crt",
        "dbclient.key",
        "dbclient.crt",
        "dbca.crt",
    }
    assert {databases[node]["data"] for node in NODES[:2]} == {before}
    assert say(engine, "runs", "watch", stopped.run).code == STOPPED
