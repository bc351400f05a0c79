"""What a person sees of the database cluster in `fleet show` and `survey`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from tests.integration.cli import cli_world
from tests.integration.cli.cli_world import FLEET, facts_of
from workflows.facts import DatabaseFact, DatabaseMember, DatabaseState, NodeFacts

JOINED = FLEET.replace("port: 2201}", "port: 2201, database: joined}").replace(
    "port: 2202}", "port: 2202, database: connected}"
)
PRIMARY = DatabaseMember(address="10.0.0.1", role="primary", connected=True)


def with_database(node: str, ends: datetime) -> NodeFacts:
    """Return the world's facts of *node*, of which cms1 is the primary and cms2 connects."""
    own = node == "cms1"
    fact = DatabaseFact(
        state="Enabled", members=(replace(PRIMARY, me=own),), client_certificate="old.crt", expired=("old.crt",)
    )
    state = DatabaseState.PRIMARY if own else DatabaseState.CONNECTED
    return replace(facts_of(node, ends), database=state, database_primary="10.0.0.1", database_cluster=fact)


def test_fleet_show_has_the_certificates_of_the_database(world):
    """Who gets which pair, made where and signed by whom; nothing of it without a joined node."""
    assert "dbserver" not in world.ok("fleet", "show")
    world.fleet.write_text(JOINED)
    rows = [line.split() for line in world.ok("fleet", "show").splitlines() if "db" in line]
    assert rows == [
        ["seoul", "dbserver", "cms1", "seoul-database-server", "node", "built-in"],
        ["seoul", "dbclient", "cms1,", "cms2", "postgres", "node", "built-in"],
        ["seoul", "dbca", "cms1,", "cms2", "seoul-database-ca", "node", "itself"],
    ]


def test_fleet_show_has_no_ca_where_another_issuer_signs(world):
    """Its certificate is brought with the others."""
    world.fleet.write_text(
        JOINED.replace("    certificates:", "    database_cluster: {issuer: manual}\n    certificates:")
    )
    assert "dbca" not in world.ok("fleet", "show")


@pytest.mark.parametrize("silent", [False, True])
def test_survey_shows_roles_ends_and_who_the_primary_is(world, monkeypatch, silent):
    """One row for each server, and one sentence for the cluster, which names who did not answer."""
    world.fleet.write_text(JOINED)
    monkeypatch.setattr(cli_world, "facts_of", with_database)  # what the played worker finds
    with world.worker(fail={"seoul/cms2/survey": "no route to host"} if silent else None):
        shown = world.say("survey").stdout.splitlines()
    rows = [line.split() for line in shown if "database (" in line]
    expected = [
        ["cms1", "3.9", "database", "(primary)", "old.crt", "9", "expired:", "old.crt;"],
        ["cms2", "3.9", "database", "(connected)", "old.crt", "9", "expired:", "old.crt;"],
    ]
    assert [[*row[:5], *row[6:9]] for row in rows] == (expected[:1] if silent else expected)
    # The CN of the client is `postgres`, else no database lets it in.
    assert all(" ".join(row[9:-2]) == "old.crt lacks CN postgres, which the inventory asks for" for row in rows)
    assert shown[-1] == (
        "database of seoul: cms1 names cms1 (10.0.0.1) as the primary; cms2 did not answer"
        if silent
        else "database of seoul: all 2 servers name cms1 (10.0.0.1) as the primary"
    )


def test_survey_has_a_row_for_a_node_that_should_be_in_a_cluster(world):
    """`joined` in the inventory, but in no cluster: it stands in the table, not only in the sentence below."""
    world.fleet.write_text(JOINED)
    with world.worker():
        shown = world.say("survey").stdout.splitlines()
    rows = [line for line in shown if "database (none)" in line]
    assert [line.split()[0] for line in rows] == ["cms1", "cms2"]
    assert "joined in the inventory, but its status is not known" in rows[0]
    assert "connected in the inventory, but" in rows[1]


def test_survey_tells_programs_where_the_database_differs_from_the_inventory(world, monkeypatch):
    """The same as in the table, under `drift`."""
    world.fleet.write_text(JOINED)
    monkeypatch.setattr(cli_world, "facts_of", with_database)
    with world.worker():
        nodes = world.json("survey")["nodes"]
    what = "old.crt lacks CN postgres, which the inventory asks for"
    assert [{"service": "database", "what": what}] == nodes[1]["drift"]
