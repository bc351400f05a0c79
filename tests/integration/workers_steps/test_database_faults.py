"""Every fault at every operation of a rebuild: it ends well, or stops with a true explanation and ends well later.

The data of the primary survives whatever happens, and the simulator's command log holds no line out of order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from database_engine import DatabaseEngine

REMOVES = (("cmscore3", "remove"), ("cmscore2", "remove"), ("cmscore1", "remove"))
BUILDS = (("cmscore1", "initialize"), ("cmscore2", "join"), ("cmscore3", "connect"))
OPERATIONS = REMOVES + BUILDS
FAULTS: dict[str, dict[str, Any]] = {
    "cut before": {"kind": "cut-before"},
    "cut after": {"kind": "cut-after"},
    "refused": {"kind": "failure", "text": "internal error"},
    "asked something else": {"kind": "question", "text": "Are you really sure? [y/n] "},
    "ends failed": {"kind": "database-fails", "text": "Couldn't do it"},
    "reboot, lost": {"kind": "database-reboot", "seconds": 0.3, "text": "lost"},
    "reboot, goes on": {"kind": "database-reboot", "seconds": 0.3, "text": "continues"},
    "the node reboots": {"kind": "reboot", "seconds": 0.3},
}
# After these the operation is done or goes on, and the engine sees it by itself.
MENDED_ALONE = {"cut after", "reboot, goes on"}


@pytest.fixture
def engine(start_database: Callable[..., DatabaseEngine]) -> DatabaseEngine:
    """Return an engine before a cluster of two joined nodes and one connected, with pairs that end soon."""
    return start_database(joined=2, connected=1, days_left=5, database_days_left=5)


def _match(verb: str) -> str:
    return f"database cluster {verb}*"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("node", "verb"), OPERATIONS)
def test_the_primarys_data_survives_every_fault_at_every_operation(
    engine: DatabaseEngine, node: str, verb: str, fault: str
) -> None:
    """One fault at one operation: the run ends well or says why not, and a resumed one ends well."""
    data = engine.databases()["cmscore1"]["data"]
    engine.to_the_gate()
    said = dict(FAULTS[fault])
    by_operation = said["kind"].startswith("database-")
    engine.fleet.fault(said.pop("kind"), node=node, match=f"{verb}*" if by_operation else _match(verb), **said)

    ended = engine.beyond()

    assert data == engine.databases()["cmscore1"]["data"]
    assert engine.violations(complete=False) == []
    if ended:
        stopped = engine.state_of("seoul")
        assert stopped.status == "stopped"
        failed = [step for step in stopped.steps.values() if step.status in {"failed", "parked"}]
        assert f"seoul/{node}/{verb}" in {step.id for step in failed}
        assert all(step.error and step.error["text"] and step.error["remedy"] for step in failed)
        engine.fleet.mend()
        engine.fleet.wait_idle("seoul")
        engine.resume()
        assert engine.run_lane() == ""
    else:
        assert fault in MENDED_ALONE or (fault, verb) in {("the node reboots", verb), ("reboot, lost", "remove")}
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
    assert {data} == {engine.databases()[one]["data"] for one in ("cmscore1", "cmscore2")}
    assert engine.violations() == []


@pytest.mark.parametrize(("node", "verb"), BUILDS[1:])
def test_a_node_that_cannot_come_in_is_left_for_later_and_the_others_go_on(
    start_database: Callable[..., DatabaseEngine], node: str, verb: str
) -> None:
    """One of several fails: the others are in, the cluster is called degraded, and resume takes up that one alone."""
    engine = start_database(joined=3, connected=2, days_left=5, database_days_left=5)
    node = {"join": "cmscore2", "connect": "cmscore4"}[verb]
    engine.to_the_gate()
    engine.fleet.fault("database-fails", node=node, match=f"{verb}*", text="Couldn't come in")

    assert engine.beyond() == "seoul/cmscore1/agree"

    lane = engine.state_of("seoul")
    assert (lane.status, "degraded" in lane.reason, node in lane.reason) == ("stopped", True, True)
    assert lane.steps[f"seoul/{node}/{verb}"].status == "parked"
    expected = {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "replica"}
    expected |= {"cmscore4": "connected", "cmscore5": "connected"}
    assert {**expected, node: "none"} == engine.roles()
    before = len(engine.fleet.records("database"))
    engine.resume()
    assert engine.run_lane() == ""
    assert expected == engine.roles()
    again = [record for record in engine.fleet.records("database")[before:] if record.phase == "begin"]
    assert [(node, verb)] == [(record.node, record.text.split()[0]) for record in again]
    assert engine.violations() == []


def test_a_primary_that_cannot_be_initialized_keeps_all_others_out(engine: DatabaseEngine) -> None:
    """Initialize fails: nothing more is sent, no replica is touched, and the reason is told."""
    engine.to_the_gate()
    engine.fleet.fault("database-fails", node="cmscore1", match="initialize", text="No space left")
    assert engine.beyond() == "seoul/cmscore1/initialize"
    lane = engine.state_of("seoul")
    assert "No space left" in lane.reason
    assert engine.roles() == {"cmscore1": "none", "cmscore2": "none", "cmscore3": "none"}
    assert not [line for node in ("cmscore2", "cmscore3") for line in engine.fleet.commands(node) if " join " in line]


def test_a_remove_that_fails_stops_before_the_primarys(engine: DatabaseEngine) -> None:
    """A replica cannot be removed: the primary stays, and so the cluster."""
    engine.to_the_gate()
    engine.fleet.fault("database-fails", node="cmscore2", match="remove", text="busy")
    assert engine.beyond() == "seoul/cmscore2/remove"
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "none"}
    assert "database cluster remove" not in engine.fleet.commands("cmscore1")


def test_a_replica_does_not_join_behind_a_primary_that_is_no_longer_one(engine: DatabaseEngine) -> None:
    """Between barrier and join the primary is looked at itself: a join elsewhere would overwrite the data to keep."""
    engine.to_the_gate()
    assert engine.beyond(until="seoul/cmscore2/join") == "seoul/cmscore2/join"
    engine.fleet.execute("cmscore1", "database cluster remove", "Y")
    engine.fleet.wait_idle("seoul")
    assert engine.run_lane() == "seoul/cmscore1/agree"
    assert "is not Connected Primary now" in engine.state_of("seoul").steps["seoul/cmscore2/join"].error["text"]
    assert not [line for line in engine.fleet.commands("cmscore2") if " join " in line]


def test_a_replica_that_falls_silent_stops_the_lane_since_its_join_may_still_run(
    start_database: Callable[..., DatabaseEngine],
) -> None:
    """Nobody can tell whether it still copies, so no second join begins; when it is back, the run goes on."""
    engine = start_database(joined=3, connected=0, days_left=5, database_days_left=5)
    engine.to_the_gate()
    engine.fleet.fault("database-reboot", node="cmscore2", match="join*", seconds=8, text="lost")
    assert engine.beyond() == "seoul/cmscore2/join"
    lane = engine.state_of("seoul")
    assert (lane.status, lane.steps["seoul/cmscore2/join"].status) == ("stopped", "failed")
    assert "fell silent" in lane.reason
    assert not [line for line in engine.fleet.commands("cmscore3") if " join " in line]
    engine.wait_until_it_answers("cmscore2")
    engine.resume()
    assert engine.run_lane() == ""
    assert engine.violations() == []


def test_the_schema_waits_for_nodes_that_are_left_for_later(start_database: Callable[..., DatabaseEngine]) -> None:
    """It is upgraded once all are in sync: the lane stops before it, and goes on when the missing one is in."""
    engine = start_database(joined=2, connected=1, database_ready=False)
    engine.to_the_gate(engine.database_plan("build", primary="cmscore1", upgrade_schema=True))
    engine.fleet.fault("database-fails", node="cmscore2", match="join*", text="Couldn't come in")
    assert engine.beyond() == "seoul/cmscore1/upgrade_schema"
    assert not [line for line in engine.fleet.commands("cmscore1") if "upgrade_schema" in line]
    engine.resume()
    assert engine.run_lane() == ""
    joined = [one.monotonic for one in engine.fleet.records("database", "cmscore2") if one.phase == "end"]
    upgraded = [one.monotonic for one in engine.fleet.records("database", "cmscore1") if "upgrade" in one.text]
    assert max(joined) < min(upgraded)


def test_a_replica_that_a_person_names_primary_leads_the_new_cluster(
    start_database: Callable[..., DatabaseEngine],
) -> None:
    """Its data is what all get: the acting primary leaves before it, and joins it afterwards."""
    engine = start_database(joined=3, connected=0, days_left=5, database_days_left=5)
    engine.fleet.fault("database-split", node="cmscore3", text=engine.fleet.address("cmscore2"))
    engine.to_the_gate(engine.database_plan(primary="cmscore2"))
    assert engine.beyond(until="seoul/cmscore2/remove") == "seoul/cmscore2/remove"
    engine.fleet.mend()
    assert engine.run_lane(until="seoul/cmscore2/initialize") == "seoul/cmscore2/initialize"
    data = engine.databases()["cmscore2"]["data"]
    assert engine.run_lane() == ""
    assert engine.roles() == {"cmscore1": "replica", "cmscore2": "primary", "cmscore3": "replica"}
    assert {data} == {state["data"] for state in engine.databases().values()}
    assert engine.violations(primary="cmscore2") == []
