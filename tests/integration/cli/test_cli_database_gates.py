"""The gates of a database run: what people see at the point of no return, and an outside CA at *sign*."""

from __future__ import annotations

import csv
from functools import partial

import pytest

from tests.ca import pem, without_client_auth
from tests.integration.cli.database_facts import CLUSTER, survey_databases
from workflows.journal import gates

GATE = "point-of-no-return"


def started(world, *words: str, days: float = -3, change=lambda text: text) -> str:
    """Return the id of a database run that ann started and that waits at its first gate."""
    survey_databases(world, days=days)
    world.fleet.write_text(change(CLUSTER))
    world.beat()
    run = world.ok("run", "--database", "renew", "--yes", *words).strip()
    world.advance(run)
    return run


def outside(text: str) -> str:
    """Let people bring the certificates of the database."""
    return text.replace("    certificates:", "    database_cluster: {issuer: manual}\n    certificates:")


def test_point_of_no_return_shows_what_the_rebuild_costs(world):
    """Certificates with their ends, outage, each Call Bridge restart, lost writes, the way back, backups, the lines."""
    run = started(world)
    shown = world.ok("gates", "show", run, "--gate", GATE).splitlines()
    assert shown[0] == "point-of-no-return of lane seoul: open"
    assert sum("certificate is here" in line for line in shown) == 2
    assert "    cms1: its database is away for 30 s to 5 min (predicted)" in shown
    assert "    cms2: the Call Bridge restarts at remove, join; each time its calls drop" in shown
    assert "    writes to any node but cms1 are lost, from the first `remove` to the last barrier" in shown
    assert "    cms1: none but forward, or the backup" in shown
    assert "  backups of cms1, cms2 are taken and fetched after the approval; else all stops" in shown
    lines = [line.strip() for line in shown if line.strip().startswith("database cluster ")]
    moves = [line.removeprefix("database cluster ").split("   ")[0] for line in lines if "(Y/n)" in line]
    assert moves == ["remove", "remove", "remove", "initialize", "join 10.0.0.1", "connect 10.0.0.1"]
    assert not any("pki csr" in line for line in shown)


def test_point_of_no_return_tells_programs_the_same(world):
    """`-o json` holds the numbers, not sentences."""
    run = started(world, days=20)
    (one,) = world.json("gates", "show", run, "--gate", GATE)
    assert one["database"]["away"]["cluster"] == [90, 1560]
    assert one["database"]["restarts"]["cms3"] == ["remove", "connect"]
    assert one["database"]["backups"] == ["cms1", "cms2"]
    assert one["database"]["way_back"]["cms3"] == "its own lines back, while the primary is in the cluster"
    assert [(made["wish"], made["subject"]) for made in one["made"]] == [
        ("seoul/dbclient", "CN=postgres"),
        ("seoul/dbserver", "CN=seoul-database-server"),
    ]
    assert one["voided"] == ""


def test_named_primary_wants_a_second_person_even_without_four_eyes(world):
    """`--primary` contradicts what the nodes say, so whoever asked may not approve; the gate says so."""
    run = started(world, "--primary", "cms2", change=lambda text: "four_eyes: false\n" + text)
    shown = world.ok("gates", "show", run)
    assert "who may decide: anyone but ann (a second person must" in shown
    refused = world.say("gates", "approve", run, by="ann")
    assert refused.exit_code == 2
    assert "may not approve it" in refused.stderr
    assert "database cluster remove" not in refused.stderr  # refused first, not after a hundred lines
    approved = world.say("gates", "approve", run, "--yes", by="bob")
    assert approved.exit_code == 0
    assert len(approved.stderr.splitlines()) < 10
    assert "the database cluster is away for " in approved.stderr
    world.journal.write(partial(gates.pass_gate, run=run, lane="seoul", gate=f"seoul/{GATE}"))
    late = world.say("gates", "approve", "--yes", by="eve")
    assert late.exit_code == 2
    assert f"The last one, {GATE} of lane seoul of run {run}, was approved by bob at " in late.stderr


def test_voided_approval_says_why(world):
    """When a node changed after the approval, people see the reason before they decide again."""
    run = started(world)
    world.ok("gates", "approve", run, "--yes", by="bob")
    write = world.journal.write
    write(partial(gates.pass_gate, run=run, lane="seoul", gate=f"seoul/{GATE}"))
    why = "cms2: No longer as it was approved: its role is primary, not replica."
    write(partial(gates.void, run=run, lane="seoul", gate=f"seoul/{GATE}", parts=["seoul/cms2/recheck"], why=why))
    assert f"  an earlier approval is void: {why}" in world.ok("gates", "show", run).splitlines()
    watched = world.say("runs", "watch", run)
    assert watched.exit_code == 3
    assert f"gate opened again, the earlier approval is void ({why})" in watched.stderr


def test_a_run_that_was_cancelled_predicts_nothing_more(world):
    """No node was ever away, and none will be; before that the outage is predicted."""
    run = started(world)
    assert "outage of the database of cms1: " in world.ok("runs", "show", run)
    world.ok("runs", "cancel", run, "--yes")
    assert "outage" not in world.ok("runs", "show", run)


def test_whole_run_ends_well_and_its_outage_is_measured(world):
    """After the approval the played worker does the rest: exit 0, the outage measured, the report has it too."""
    run = started(world)
    world.ok("gates", "approve", run, "--yes", by="bob")
    world.advance(run)
    shown = world.ok("runs", "watch", run).splitlines()
    measured = [line for line in shown if line.startswith("outage of ")]
    assert [line.split(":")[0] for line in measured] == [
        "outage of the database of cms3",
        "outage of the database of cms2",
        "outage of the database of cms1",
        "outage of the database cluster of seoul",
    ]
    assert all(" s measured, " in line for line in measured)
    assert measured == [line for line in world.ok("runs", "show", run).splitlines() if line.startswith("outage of ")]
    world.ok("runs", "report", run, "--out", world.root / "report.html")
    page = (world.root / "report.html").read_text()
    assert f"<h1>Database run {run}" in page
    assert ">the whole cluster</td>" in page
    assert "<td>Enabled, in its place</td>" in page
    assert "not measured" not in page


def test_outside_ca_is_asked_for_the_pairs_of_the_database(world):
    """Request sheet and CSR files name both pairs, each with its own usage."""
    run = started(world, change=outside)
    world.ok("gates", "approve", run, "--yes", by="bob")
    world.ok("gates", "csr", run, "--out", world.root / "out")
    rows = list(csv.DictReader((world.root / "out" / "request-sheet.csv").read_text().splitlines()))
    assert [(row["wish"], row["subject"], row["usages"]) for row in rows] == [
        ("seoul/dbserver", "CN=seoul-database-server", "serverAuth"),
        ("seoul/dbclient", "CN=postgres", "clientAuth"),
    ]
    assert {row["issuer"] for row in rows} == {"manual"}
    assert (world.root / "out" / "seoul_dbclient.csr").exists()


def test_certificate_without_client_auth_is_refused_before_any_server_is_touched(world):
    """Public CAs no longer issue clientAuth (faults.md, finding 12): the text says so, and nothing is taken."""
    run = started(world, change=outside)
    world.ok("gates", "approve", run, "--yes", by="bob")
    folder = world.root / "signed"
    folder.mkdir()
    for number, request in enumerate(world.csrs(run).values()):
        (folder / f"{number}.pem").write_bytes(pem(without_client_auth(world.ca, request).everything))
    refused = world.say("gates", "deliver", folder)
    assert refused.exit_code == 2
    assert "(seoul/dbclient): the extended key usage lacks clientAuth" in refused.stderr
    assert "public CAs no longer do, a private CA does" in refused.stderr
    assert "seoul/dbserver" not in refused.stderr
    assert world.journal.state(run).lanes["seoul"].certificates == {}


@pytest.mark.parametrize("days", [-3, 20])
def test_certificates_of_an_outside_ca_lead_to_the_point_of_no_return(world, days):
    """The client pair of `postgres` has no alternative names, and needs none."""
    run = started(world, days=days, change=outside)
    world.ok("gates", "approve", run, "--yes", by="bob")
    took = world.say("gates", "deliver", world.sign(run, pem))
    assert took.exit_code == 0
    assert "matched seoul/dbclient" in took.stdout
    assert "postgres" not in took.stderr
    world.advance(run)
    shown = world.ok("gates", "show", run, "--gate", GATE)
    assert shown.count("signed by CN=Test Issuing CA") == 2
