"""Fleet, servers and certificates over HTTP: inventory and last survey side by side, within one's clusters."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.integration.api.conftest import on_both
from tests.integration.cli.cli_world import facts_of
from workflows.facts import FileFact, TrustFact
from workflows.journal import Kind, NewEvent, stock


def test_the_fleet_shows_days_left_and_who_did_not_answer(seeded):
    seeded.done_survey(fail={"busan/cms3": "no route"})
    fleet = seeded.signed_in("viola").get("/api/fleet").json()
    assert (fleet["fleet"], fleet["nodes"], fleet["surveyed"], fleet["reachable"]) == ("test", 3, 2, 2)
    seoul, busan = fleet["clusters"]
    assert [(one["node"], one["days_left"], one["reachable"]) for one in seoul["nodes"]] == [
        ("cms1", 9, True),
        ("cms2", 9, True),
    ]
    assert busan["nodes"][0] | {"first": None} == {
        "node": "cms3",
        "cluster": "busan",
        "address": "127.0.0.1",
        "port": 2203,
        "release": "3.9",
        "database": "none",
        "database_state": "",
        "days_left": None,
        "first": None,
        "surveyed_at": None,
        "changed_at": None,
        "reachable": False,
        "said": "no route",
        "remedy": "Check the network.",
        "drift": 0,
        "held_by": None,
    }


@on_both("seeded")
def test_a_later_survey_is_seen_at_once(seeded):
    seeded.survey(days=10)
    client = seeded.signed_in("viola")
    assert client.get("/api/fleet").json()["days_left"] == 9
    seeded.survey(80)
    assert client.get("/api/fleet").json()["days_left"] == 79
    assert client.get("/api/nodes").json()["total"] == 3


def test_an_inventory_that_changed_is_read_anew_and_a_broken_one_is_a_problem(seeded):
    client = seeded.signed_in("viola")
    assert client.get("/api/fleet").json()["nodes"] == 3
    seeded.world.fleet.write_text(seeded.world.fleet.read_text().replace("fleet: test", "fleet: other"))
    assert client.get("/api/fleet").json()["fleet"] == "other"
    seeded.world.fleet.write_text("fleet: [")
    answer = client.get("/api/fleet")
    assert (answer.status_code, answer.json()["code"]) == (422, "InventoryError")
    assert client.get("/api/journal").status_code == 200


def test_a_server_is_shown_with_services_files_ports_and_what_is_wanted(seeded):
    seeded.survey()
    node = seeded.signed_in("viola").get("/api/nodes/cms1").json()
    assert [(one["service"], one["file"], one["served"]) for one in node["services"]] == [
        ("callbridge", "old.crt", "same"),
        ("webadmin", "old.crt", "same"),
    ]
    assert {one["name"]: len(one["certificates"]) for one in node["files"]} == {"old.crt": 1, "old.key": 0}
    assert [one["state"] for one in node["ports"]] == ["served", "served"]
    assert [(one["name"], one["trusted_by"]) for one in node["wishes"]] == [("callbridge", ["cucm.example.com"])]


def test_who_trusts_whom_is_read_from_the_stores(seeded):
    seeded.survey()
    one = facts_of("cms1", datetime.now(UTC) + timedelta(days=10))
    leaf = facts_of("cms2", datetime.now(UTC) + timedelta(days=10)).files[0].certificates[0]
    facts = dataclasses.replace(
        one,
        trust=(TrustFact(store="callbridge.c2w", file="trust.crt"),),
        files=(*one.files, FileFact(name="trust.crt", size=1, certificates=(leaf,))),
    )
    seeded.journal.write(partial(stock.put_facts, node="cms1", facts=facts.to_json()))
    client = seeded.signed_in("viola")
    cluster = client.get("/api/clusters/seoul").json()
    found = {(one["node"], one["store"], one["by"], one["trusts_node"]) for one in cluster["trusts"]}
    assert found == {("cms1", "callbridge.c2w", "leaf", "cms2")}
    assert [one["node"] for one in client.get("/api/nodes/cms2").json()["trusted_by"]] == ["cms1", "cms1"]


def test_certificates_are_sorted_filtered_and_paged(seeded):
    seeded.survey(40, "cms1")
    seeded.survey(10, "cms2")
    seeded.survey(20, "cms3")
    client = seeded.signed_in("viola")
    first = client.get("/api/certificates", params={"limit": 2}).json()
    assert ([one["node"] for one in first["items"]], first["total"], first["next_offset"]) == (["cms2", "cms2"], 6, 2)
    last = client.get("/api/certificates", params={"sort": "-days_left", "limit": 1}).json()
    assert last["items"][0]["node"] == "cms1"
    soon = client.get("/api/certificates", params={"within": "30d"}).json()
    assert {one["node"] for one in soon["items"]} == {"cms2", "cms3"}
    assert client.get("/api/certificates", params={"within": "soon"}).status_code == 422


def test_a_person_of_one_cluster_sees_that_cluster_alone(seeded):
    seeded.survey()
    client = seeded.signed_in("sol")
    assert [one["cluster"] for one in client.get("/api/fleet").json()["clusters"]] == ["seoul"]
    assert {one["node"] for one in client.get("/api/nodes").json()["items"]} == {"cms1", "cms2"}
    assert {one["node"] for one in client.get("/api/certificates").json()["items"]} == {"cms1", "cms2"}
    for path in ("/api/nodes/cms3", "/api/clusters/busan", "/api/certificates?node=cms3", "/api/nodes?cluster=busan"):
        assert client.get(path).status_code == 404, path


@on_both("seeded")
def test_servers_that_a_run_changed_since_their_survey_are_marked(seeded):
    """Until they are read again, the days that stand there are from before; the page says so and offers the survey."""
    seeded.survey()
    run = seeded.waiting_run("seoul")
    client = seeded.signed_in("olga")
    assert client.get("/api/fleet").json()["changed"] == 0
    assert "changed since" not in client.get("/").text
    seeded.journal.append(NewEvent(run=run, kind=Kind.INTENT, node="cms2", data={"line": 0, "text": "pki csr …"}))
    fleet = client.get("/api/fleet").json()
    marked = {row["node"]: row["changed_at"] is not None for one in fleet["clusters"] for row in one["nodes"]}
    assert (fleet["changed"], marked) == (1, {"cms1": False, "cms2": True, "cms3": False})
    assert client.get("/api/nodes/cms2").json()["changed_at"] is not None
    for page in ("/", "/clusters/seoul"):
        assert "1 server was changed since its last survey:" in client.get(page).text
    assert client.get("/").text.count('action="/surveys"') == 2
    seeded.survey(80)
    assert client.get("/api/fleet").json()["changed"] == 0
    assert "changed since" not in client.get("/").text
