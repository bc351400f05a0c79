"""Whole rebuilds: renewal, expired, first building, dissolving, building again, outside CA, both wordings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from database_engine import GATE, DatabaseEngine

from workflows.errors import PlanError
from workflows.procedures.database_cluster import Purpose
from workflows.procedures.rollback import plan_rollback

SMALL = {"joined": 2, "connected": 1, "days_left": 5, "database_days_left": 5}
IN_PLACE = {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
OUT = dict.fromkeys(IN_PLACE, "none")


@pytest.mark.parametrize("release", ["3.9", "2.9"])
def test_an_expired_cluster_is_rebuilt_on_the_data_of_its_primary(
    start_database: Callable[..., DatabaseEngine], release: str
) -> None:
    """Nodes that cannot talk to each other still say who is primary; both wordings are understood."""
    engine = start_database(joined=3, connected=2, database_days_left=-3, release=release, primary=1)
    data = engine.databases()["cmscore2"]["data"]
    plan = engine.to_the_gate()
    assert engine.beyond() == ""
    roles = {"cmscore1": "replica", "cmscore2": "primary", "cmscore3": "replica"}
    assert roles | {"cmscore4": "connected", "cmscore5": "connected"} == engine.roles()
    assert {data} == {engine.databases()[node]["data"] for node in roles}
    assert engine.violations(primary="cmscore2") == []
    assert plan.nodes() == tuple(engine.fleet.nodes)


def test_a_finished_renewal_plans_nothing(start_database: Callable[..., DatabaseEngine]) -> None:
    """What is as wanted is not done again."""
    engine = start_database(**SMALL)
    engine.to_the_gate()
    assert engine.beyond() == ""
    assert engine.database_plan().empty


@pytest.mark.parametrize(("joined", "connected"), [(1, 0), (1, 2), (5, 0)])
def test_clusters_of_any_size_are_rebuilt(
    start_database: Callable[..., DatabaseEngine], joined: int, connected: int
) -> None:
    """One joined node alone, with connected ones, and the most that may join."""
    engine = start_database(joined=joined, connected=connected, database_days_left=5)
    engine.to_the_gate()
    assert engine.beyond() == ""
    assert engine.violations() == []


def test_a_cluster_is_built_for_the_first_time(start_database: Callable[..., DatabaseEngine]) -> None:
    """The node that a person names gives its data to all; before that nothing is planned."""
    engine = start_database(joined=2, connected=1, database_ready=False)
    with pytest.raises(PlanError, match="--primary"):
        engine.database_plan("build")
    data = engine.databases()["cmscore2"]["data"]
    engine.to_the_gate(engine.database_plan("build", primary="cmscore2"))
    assert engine.beyond() == ""
    assert engine.roles() == {"cmscore1": "replica", "cmscore2": "primary", "cmscore3": "connected"}
    assert {data} == {engine.databases()[node]["data"] for node in ("cmscore1", "cmscore2")}
    assert engine.violations(primary="cmscore2", removes=False) == []


def test_a_cluster_is_dissolved_and_built_again_with_its_schema_upgraded(
    start_database: Callable[..., DatabaseEngine],
) -> None:
    """As before and after an upgrade to 3.5: the primary is last to leave and first to come, the schema comes last."""
    engine = start_database(**SMALL)
    data = engine.databases()["cmscore1"]["data"]
    engine.to_the_gate(engine.database_plan("dissolve"))
    assert engine.beyond() == ""
    assert engine.roles() == OUT
    again = engine.database_plan("build", primary="cmscore1", upgrade_schema=True)
    engine.start(again, run="again")
    assert engine.run_lane(run="again") == GATE
    assert engine.beyond(run="again") == ""
    assert engine.roles() == IN_PLACE
    assert data == engine.databases()["cmscore2"]["data"]
    lines = [line for line in engine.fleet.commands("cmscore1") if "upgrade_schema" in line]
    assert lines == ["database cluster upgrade_schema"]
    assert engine.violations() == []


def test_an_outside_ca_signs_through_its_gate(start_database: Callable[..., DatabaseEngine]) -> None:
    """The pairs wait at *sign*; the CA's certificates become the CA file of every node."""

    def change(document: dict[str, Any]) -> None:
        for cluster in document["clusters"]:
            cluster["database_cluster"] = {"issuer": "local", "server": {"subject": {"CN": "db.example.com"}}}

    engine = start_database(change, **SMALL)
    engine.start(engine.database_plan())
    assert engine.run_lane() == "seoul/sign"
    engine.approve("sign")
    engine.sign()
    assert engine.run_lane() == GATE
    assert engine.beyond() == ""
    assert engine.roles() == IN_PLACE
    assert engine.violations() == []
    assert {"dbserver-1.crt", "dbca-1.crt"} <= set(engine.databases()["cmscore1"]["files"])


def _back(engine: DatabaseEngine, run: str) -> str:
    """Plan the way back from the run so far, and carry it out under the name "back"; return where it ended."""
    original, _ = engine.work.plan(run)
    plan = plan_rollback(original, engine.survey(), now=datetime.now(UTC))
    assert Purpose.ROLLBACK.value == plan.purpose
    engine.cancel(run)
    engine.start(plan, run="back")
    assert engine.run_lane(run="back") == GATE
    return engine.beyond(run="back")


@pytest.mark.parametrize("until", ["cmscore1/remove", "cmscore1/initialize", "cmscore2/join", "cmscore3/connect", ""])
def test_the_old_pairs_come_back_from_wherever_the_rebuild_stands(
    start_database: Callable[..., DatabaseEngine], until: str
) -> None:
    """Before the primary left, the others come back to it; after it, the cluster is built anew with the old files."""
    engine = start_database(**SMALL)
    data = engine.databases()["cmscore1"]["data"]
    old = {node: state["files"] for node, state in engine.databases().items()}
    engine.to_the_gate()
    engine.beyond(until=f"seoul/{until}" if until else "")
    initialized = len([one for one in engine.fleet.commands("cmscore1") if one.endswith("initialize")])

    assert _back(engine, "20261123-1200-test") == ""

    assert engine.roles() == IN_PLACE
    assert old == {node: state["files"] for node, state in engine.databases().items()}
    assert {data} == {engine.databases()[node]["data"] for node in ("cmscore1", "cmscore2")}
    again = len([one for one in engine.fleet.commands("cmscore1") if one.endswith("initialize")]) - initialized
    assert (0 if until == "cmscore1/remove" else 1) == again


def test_there_is_nothing_to_undo_before_the_first_remove(start_database: Callable[..., DatabaseEngine]) -> None:
    """All is as it was, and that is what is said."""
    engine = start_database(**SMALL)
    original = engine.to_the_gate()
    with pytest.raises(PlanError, match="nothing to undo"):
        plan_rollback(original, engine.survey(), now=datetime.now(UTC))


def test_the_way_back_is_refused_where_the_old_pairs_are_expired(start_database: Callable[..., DatabaseEngine]) -> None:
    """A cluster does not come up with expired pairs, so there is no plan but the reason, for every node."""
    engine = start_database(**SMALL)
    original = engine.to_the_gate()
    engine.beyond(until="seoul/cmscore2/join")
    later = datetime.now(UTC) + timedelta(days=30)
    with pytest.raises(PlanError, match=r"dbserver\.crt, in use before, ended"):
        plan_rollback(original, engine.survey(), now=later)


def test_a_run_that_a_person_finished_by_hand_is_resumed_to_its_end(
    start_database: Callable[..., DatabaseEngine],
) -> None:
    """The lines were typed from the runbook: resumed, the run sees all of it done, sends nothing, and proves it."""
    engine = start_database(**SMALL)
    plan = engine.to_the_gate()
    assert engine.beyond(until="seoul/cmscore2/remove") == "seoul/cmscore2/remove"
    for step in plan.lanes[0].steps():
        if step.stage >= 700 and step.lines and step.id != "seoul/cmscore3/remove":
            for line in step.lines:
                engine.fleet.execute(step.node, line.text, *([line.answer] if line.answer else []))
                engine.fleet.wait_idle("seoul")
    before = len(engine.fleet.records("database"))
    assert engine.run_lane() == ""
    assert before == len(engine.fleet.records("database"))
    assert engine.roles() == IN_PLACE
