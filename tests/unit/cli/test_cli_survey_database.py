"""What the survey says of database clusters: one row for each server, one sentence for each cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.survey_database import complaints, sayings, soonest, takes_part
from workflows.facts import (
    CertificateFact,
    DatabaseFact,
    DatabaseMember,
    DatabaseState,
    FileFact,
    NodeFacts,
    PortFact,
    PortState,
)
from workflows.inventory import Fleet

NOW = datetime(2026, 11, 23, tzinfo=UTC)
FLEET = Fleet.from_yaml("""\
fleet: demo
clusters:
  - name: seoul
    nodes:
      - {name: n1, address: 10.0.0.1, database: joined}
      - {name: n2, address: 10.0.0.2, database: joined}
      - {name: n3, address: 10.0.0.3, database: joined}
      - {name: n4, address: 10.0.0.4, database: connected}
      - {name: n5, address: 10.0.0.5}
""").resolved()


def leaf(name: str, days: int) -> CertificateFact:
    return CertificateFact(
        fingerprint=name,
        spki_sha256=name,
        subject=name,
        issuer="dbca",
        not_valid_after=(NOW + timedelta(days=days)).isoformat(),
    )


def facts_of(node: str, primary: str = "10.0.0.1", **database: object) -> NodeFacts:
    """Return facts of a joined node that is in sync, or as *database* says."""
    address = f"10.0.0.{node[1:]}"
    role = "primary" if address == primary else "replica"
    fact = DatabaseFact(
        state="Enabled",
        members=(
            DatabaseMember(address=primary, role="primary", me=address == primary, connected=True),
            *([DatabaseMember(address=address, role="replica", me=True, in_sync=True)] if role == "replica" else []),
        ),
        server_key="s.key",
        server_certificate="s.crt",
        client_key="c.key",
        client_certificate="c.crt",
        ca_certificate="ca.crt",
        last_command="database cluster initialize",
        progress="success",
    )
    return NodeFacts(
        node=node,
        at=NOW.isoformat(),
        release="3.9",
        hostname=node,
        clock_skew_s=0,
        database=DatabaseState(role),
        database_primary=primary,
        services=(),
        trust=(),
        files=tuple(
            FileFact(name=f"{name}.crt", size=1, certificates=(leaf(name, days),))
            for name, days in (("s", 12), ("c", 9), ("ca", 900))
        ),
        ports=(),
        database_cluster=replace(fact, **database),
    )


def test_the_row_shows_the_certificate_that_ends_first():
    """An expired client pair stops the cluster as an expired server pair does."""
    assert soonest(facts_of("n1")) == ("c.crt", NOW + timedelta(days=9))


def test_a_certificate_that_was_not_read_still_has_a_name():
    """Without the files only the names of the status are known."""
    assert soonest(replace(facts_of("n1"), files=())) == ("s.crt", None)
    assert soonest(replace(facts_of("n1"), database_cluster=None)) == ("none", None)


@pytest.mark.parametrize(
    ("state", "expected"),
    [(state, state not in {DatabaseState.DISABLED, DatabaseState.UNKNOWN}) for state in DatabaseState],
)
def test_a_server_in_no_cluster_has_no_row(state, expected):
    """Most servers have no database cluster."""
    assert expected is takes_part(replace(facts_of("n1"), database=state))


@pytest.mark.parametrize(
    ("node", "change", "expected"),
    [
        ("n1", {}, ""),
        ("n2", {}, ""),
        ("n1", {"error": "no", "expired": ("s.crt", "c.crt")}, "no; expired: s.crt, c.crt"),
        ("n1", {"error": "A certificate has expired", "expired": ("s.crt",)}, "expired: s.crt"),
        (
            "n2",
            {"members": (DatabaseMember(address="10.0.0.2", role="replica", me=True, text="( Out of Sync )"),)},
            "not in sync: ( Out of Sync )",
        ),
        ("n1", {"progress": "failed", "last_command": "database cluster x"}, "`database cluster x` failed"),
    ],
)
def test_what_is_wrong_stands_in_the_row(node, change, expected):
    """Error, expired files, a replica that is not in sync, a command that failed."""
    assert expected == complaints(facts_of(node, **change))


def test_work_under_way_stands_in_the_row():
    """Then the rest may be different in a minute."""
    facts = replace(facts_of("n1", progress="in progress"), database=DatabaseState.BUSY)
    assert complaints(facts) == "`database cluster initialize` is under way"
    assert complaints(replace(facts, database_cluster=None)) == ""


def test_a_port_that_serves_another_certificate_is_told():
    """The database has its files in memory, and file and port differ."""
    port = PortFact(service="database", address="10.0.0.1", port=5432, state=PortState.SERVED, chain=(leaf("s", 1),))
    facts = replace(facts_of("n1"), ports=(port,))
    assert complaints(facts) == ""
    assert complaints(replace(facts, ports=(replace(port, chain=(leaf("old", 1),)),))) == (
        "serves another certificate than s.crt"
    )


def said(*facts: NodeFacts) -> list[tuple[str, bool]]:
    return list(sayings(FLEET, {one.node: one for one in facts}))


def test_a_primary_that_all_name_is_said_in_one_sentence():
    """By name and address; servers without a database have nothing to say."""
    connected = replace(facts_of("n4"), database=DatabaseState.CONNECTED)
    assert said(facts_of("n1"), facts_of("n2"), facts_of("n3"), connected) == [
        ("database of seoul: all 4 servers name n1 (10.0.0.1) as the primary", True)
    ]


def test_servers_that_do_not_agree_are_all_named():
    """With a split cluster, everybody must see who says what."""
    facts = [facts_of("n1"), facts_of("n2"), facts_of("n3", "10.0.0.9"), replace(facts_of("n4"), database_primary="")]
    expected = (
        "database of seoul: n1, n2 name n1 (10.0.0.1) as the primary; n3 names 10.0.0.9 as the primary; "
        "n4 names no primary"
    )
    assert said(*facts) == [(expected, False)]


def test_who_is_missing_is_said():
    """A server that was not read, and one that is in no cluster though it is to be."""
    out = replace(facts_of("n3"), database=DatabaseState.DISABLED)
    expected = (
        "database of seoul: n1 names n1 (10.0.0.1) as the primary; n2 did not answer; n3 is in no cluster; "
        "n4 did not answer"
    )
    assert said(facts_of("n1"), out) == [(expected, False)]


def test_a_fleet_without_database_clusters_is_told_nothing():
    """There is no sentence for what is not there."""
    assert said(replace(facts_of("n5"), database=DatabaseState.DISABLED)) == []
