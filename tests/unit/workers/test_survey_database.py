"""From a status of the database cluster to facts: what a node says of its own place."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from workers.steps.survey import database_fact, database_state
from workflows.facts import DatabaseFact, DatabaseMember, DatabaseState, NodeFacts
from workflows.mmp.replies import parse_database_status

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts" / "database-cluster-status"


def fact_of(name: str) -> DatabaseFact:
    return database_fact(parse_database_status(tomllib.loads((TRANSCRIPTS / f"{name}.toml").read_text())["reply"]))


@pytest.mark.parametrize(
    ("transcript", "state"),
    [
        ("healthy", DatabaseState.REPLICA),
        ("master-and-slave", DatabaseState.PRIMARY),
        ("connected-only", DatabaseState.CONNECTED),
        ("disabled", DatabaseState.DISABLED),
        ("removed", DatabaseState.DISABLED),
        ("expired", DatabaseState.PRIMARY),
        ("expired-replica", DatabaseState.REPLICA),
        ("expired-connected", DatabaseState.CONNECTED),
        ("schema-error", DatabaseState.REPLICA),
        ("join-failed", DatabaseState.ERROR),
        ("initialize-failed", DatabaseState.ERROR),
        ("initializing", DatabaseState.BUSY),
        ("joining", DatabaseState.BUSY),
        ("connecting", DatabaseState.BUSY),
        ("removing", DatabaseState.BUSY),
        ("upgrading-schema", DatabaseState.BUSY),
    ],
)
def test_a_node_says_what_it_is_to_the_cluster(transcript, state):
    """Work under way counts most, then its own row, then an error."""
    assert state == database_state(fact_of(transcript))


def test_a_server_that_does_not_know_the_command_is_unknown():
    """Nothing is guessed."""
    assert database_state(None) is DatabaseState.UNKNOWN


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"members": (DatabaseMember(address="a", role="unknown", me=True),)}, DatabaseState.UNKNOWN),
        ({"last_command": "database cluster connect a"}, DatabaseState.CONNECTED),
        ({"last_command": "database cluster connect a", "progress": "failed"}, DatabaseState.UNKNOWN),
        ({"last_command": "database cluster connect a", "progress": "failed", "error": "no"}, DatabaseState.ERROR),
        ({"last_command": "database cluster connect a", "error": "expired"}, DatabaseState.CONNECTED),
        ({"last_command": "database cluster join a", "server_certificate": "s"}, DatabaseState.UNKNOWN),
        ({}, DatabaseState.UNKNOWN),
    ],
)
def test_a_node_without_a_row_of_its_own_is_judged_by_its_last_command(change, state):
    """A joined node that does not show itself is not taken for one that only connects."""
    others = {"members": (DatabaseMember(address="a", role="primary"),)} if "server_certificate" in change else {}
    assert state == database_state(replace(DatabaseFact(state="Enabled"), **(others | change)))


def test_the_fact_says_what_the_status_said():
    """Files, primary, marks and last command; nothing is lost but the rows nobody knows."""
    fact = fact_of("expired")
    assert (fact.primary, fact.expired, fact.error) == (
        "10.48.36.61",
        ("dbserver.cer", "dbclient.cer"),
        "Certificates have expired",
    )
    assert fact.files == ("dbserver.key", "dbserver.cer", "dbclient.key", "dbclient.cer", "dbca.cer")
    assert (fact.last_command, fact.progress) == ("database cluster initialize", "success")
    assert fact.members[1] == DatabaseMember(
        address="10.48.36.118", role="replica", text="Replica ( Connection Failure )"
    )


def test_what_comes_and_goes_in_the_cluster_makes_no_plan_stale():
    """In sync or not at this moment does not change the digest of the facts; another primary does."""
    fact = fact_of("healthy")
    lost = tuple(replace(one, in_sync=False, connected=False, text="lost") for one in fact.members)
    other = tuple(replace(one, role="primary" if one.me else "replica") for one in fact.members)
    facts = NodeFacts(
        node="n",
        at="",
        release="3.9",
        hostname="n",
        clock_skew_s=0,
        database=DatabaseState.REPLICA,
        database_primary="",
        services=(),
        trust=(),
        files=(),
        ports=(),
        database_cluster=fact,
    )
    assert replace(facts, database_cluster=replace(fact, members=lost)).digest() == facts.digest()
    assert replace(facts, database_cluster=replace(fact, members=other)).digest() != facts.digest()
    assert NodeFacts.from_json(facts.to_json()) == facts
