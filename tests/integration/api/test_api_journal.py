"""The journal over HTTP: pages and filters, chains that are whole or not, export, and who sees what of it."""

from __future__ import annotations

import json

import sqlalchemy as sa

from tests.integration.api.conftest import on_both
from workflows.journal import lists, tables
from workflows.journal.engines import parse, writing
from workflows.people import Permission


@on_both("seeded")
def test_events_are_paged_and_filtered(seeded):
    run = seeded.waiting_run("seoul")
    client = seeded.signed_in("audrey")
    every = client.get("/api/journal", params={"run": run, "limit": 500}).json()
    assert every["total"] == len(every["items"]) == seeded.journal.state(run).n
    assert [one["n"] for one in every["items"]] == list(range(every["total"], 0, -1))
    opened = client.get("/api/journal", params={"kind": ["gate_opened", "run_created"]}).json()
    assert [one["kind"] for one in opened["items"]] == ["gate_opened", "run_created"]
    assert {one["node"] for one in client.get("/api/journal?node=cms1").json()["items"]} == {"cms1"}
    assert {one["kind"] for one in client.get("/api/journal?actor=olga").json()["items"]} == {"run_created"}
    latest = every["items"][0]["at"]
    later = client.get("/api/journal", params={"after": latest, "run": run}).json()
    assert later["total"] == 0
    oldest = client.get("/api/journal", params={"run": run, "order": "oldest", "limit": 1}).json()
    assert oldest["items"][0]["n"] == 1


@on_both("seeded")
def test_events_about_people_are_for_auditors(seeded):
    kinds = {kind.value for kind in lists.PEOPLE}
    seen = {one["kind"] for one in seeded.signed_in("audrey").get("/api/journal?limit=500").json()["items"]}
    assert "account_changed" in seen
    for client in (seeded.signed_in("viola"), seeded.with_token("audrey", Permission.READ)):
        events = client.get("/api/journal?limit=500").json()["items"]
        assert kinds & {one["kind"] for one in events} == set()


def test_an_edited_chain_is_found(seeded):
    run = seeded.waiting_run("seoul")
    client = seeded.signed_in("audrey")
    assert client.get("/api/journal/verify").json() == {"whole": True, "checked": 2, "chains": []}
    engine = writing(parse(seeded.settings.database_url))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER event_no_update")
        connection.execute(
            sa.update(tables.event).where(tables.event.c.run == run, tables.event.c.n == 2).values(actor="x")
        )
    engine.dispose()
    found = client.get("/api/journal/verify").json()
    assert (found["whole"], [one["run"] for one in found["chains"]]) == (False, [run])
    assert client.get(f"/api/journal/verify?run={run}").json()["chains"][0]["problems"] == ["event 2 was changed"]


def test_the_export_is_one_event_a_line(seeded):
    run = seeded.waiting_run("seoul")
    answer = seeded.signed_in("audrey").get("/api/journal/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["n"] for one in events if one["run"] == run] == list(range(1, seeded.journal.state(run).n + 1))
    for name in ("viola", "olga", "sol"):
        assert seeded.signed_in(name).get("/api/journal/export").status_code == 403
        assert seeded.signed_in(name).get("/api/journal/verify").status_code == 403


def test_plans_are_exported_to_those_alone_who_may_read_them(seeded):
    run = seeded.waiting_run()

    def heads(client, **more):
        answer = client.get("/api/journal/export", params={"plan": True, **more})
        return [one for one in map(json.loads, answer.text.splitlines()) if "plan" in one], answer

    plan = {"run": run, "plan": seeded.journal.plan(run)}
    assert heads(seeded.signed_in("audrey"))[0] == [{"run": "fleet", "plan": None}, plan]
    assert heads(seeded.with_token("audrey", Permission.AUDIT, Permission.READ), run=run)[0] == [plan]
    auditing = seeded.with_token("audrey", Permission.AUDIT)
    for more in ({}, {"run": run}):
        found, answer = heads(auditing, **more)
        assert (answer.status_code, [one for one in found if one["plan"]]) == (200, [])
        assert "cms1" not in answer.text


@on_both("seeded")
def test_a_person_of_one_cluster_sees_the_events_of_its_lanes_and_servers(seeded):
    run = seeded.waiting_run()
    events = seeded.signed_in("sol").get("/api/journal?limit=500").json()["items"]
    assert {one["lane"] for one in events} == {"", "seoul"}
    assert {one["node"] for one in events} == {"", "cms1", "cms2"}
    created = next(one for one in events if one["kind"] == "run_created")
    assert (created["run"], created["data"]["lanes"]) == (run, ["seoul"])
    assert created["data"]["resources"] == ["node:cms1", "node:cms2"]
    whole = seeded.signed_in("audrey").get("/api/journal?kind=run_created").json()["items"][0]
    assert len(whole["data"]["resources"]) == 3
