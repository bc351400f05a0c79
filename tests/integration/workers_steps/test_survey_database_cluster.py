"""What a survey reads of the database cluster, from simulated servers over SSH, and from port 5432."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.faults import FaultKind
from workflows.facts import DatabaseState, NodeFacts, PortState


def states_of(facts: dict[str, NodeFacts]) -> dict[str, DatabaseState]:
    return {name: one.database for name, one in facts.items()}


def test_every_node_tells_its_place_and_serves_its_certificate(start):
    """Two joined and one connected: roles, files, the one primary, and what port 5432 shows."""
    engine = start(joined=2, connected=1, primary=1)
    facts = engine.survey()
    assert list(states_of(facts).values()) == [
        DatabaseState.REPLICA,
        DatabaseState.PRIMARY,
        DatabaseState.CONNECTED,
    ]
    first, second, third = facts.values()
    assert {one.database_primary for one in facts.values()} == {engine.fleet.address(second.node)}
    assert [len(one.database_cluster.files) for one in facts.values()] == [5, 5, 3]
    assert (first.database_cluster.me.in_sync, third.database_cluster.me) == (True, None)
    for one in (first, second):
        port, file = one.port("database"), one.file(one.database_cluster.server_certificate)
        assert (port.state, port.port, port.address) == (PortState.SERVED, 5432, engine.fleet.address(one.node))
        assert port.chain[0].fingerprint == file.certificates[0].fingerprint
    assert third.port("database") is None


def test_an_expired_cluster_still_says_who_is_primary(start):
    """Nodes that refuse each other's certificates answer the command line and show their port."""
    engine = start(nodes=3, database_days_left=-3)
    facts = engine.survey()
    assert list(states_of(facts).values()) == [DatabaseState.PRIMARY, DatabaseState.REPLICA, DatabaseState.REPLICA]
    for one in facts.values():
        assert one.database_cluster.error
        assert one.database_cluster.expired
        assert one.port("database").state is PortState.SERVED
        assert datetime.fromisoformat(one.port("database").chain[0].not_valid_after) < datetime.now(UTC)


def test_a_database_that_is_out_of_sync_is_a_fact(start):
    """The replica says so itself."""
    engine = start(nodes=3)
    engine.fleet.fault(FaultKind.DATABASE_SYNC_LOST, node="cmscore3")
    facts = engine.survey()
    assert {name: one.database_cluster.me.in_sync for name, one in facts.items() if name != "cmscore1"} == {
        "cmscore2": True,
        "cmscore3": False,
    }


@pytest.mark.parametrize(("ready", "state"), [(False, DatabaseState.DISABLED), (True, DatabaseState.PRIMARY)])
def test_a_port_is_looked_at_where_a_database_is_to_listen(start, ready, state):
    """One that is in no cluster listens nowhere."""
    engine = start(joined=1, database_ready=ready)
    (facts,) = engine.survey().values()
    assert (facts.database, facts.port("database") is not None) == (state, ready)


@pytest.mark.parametrize(
    ("proof", "expected"),
    [
        ("none", (PortState.NOT_PROBED, 5432)),
        ({"port": 9}, (PortState.UNREACHABLE, 9)),
        ({"address": "127.0.0.1", "port": 9}, (PortState.UNREACHABLE, 9)),
    ],
)
def test_the_inventory_says_where_the_database_is_seen(start, proof, expected):
    """`proof: {database: …}` holds for its port as for any other."""

    def change(document: dict[str, Any]) -> None:
        document["clusters"][0]["nodes"][0]["proof"] = {"database": proof}

    (facts,) = start(joined=1, change=change).survey().values()
    port = facts.port("database")
    assert expected == (port.state, port.port)


def test_a_renewal_of_services_takes_no_notice_of_the_database(start):
    """The port of the database is no port of a wish."""
    engine = start("turn", joined=1)
    plan = engine.plan()
    proofs = [step for lane in plan.lanes for step in lane.steps() if step.action == "prove"]
    assert [port["service"] for step in proofs for port in step.params["ports"]] == ["turn"]
