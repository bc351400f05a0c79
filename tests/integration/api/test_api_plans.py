"""Plans and starting them over HTTP: kept by digest, compared with the last that succeeded, started by whoever may."""

from __future__ import annotations

import json

import pytest

from tests.integration.api.conftest import on_both
from tests.integration.cli.cli_world import pem_of
from workflows.people import Grant, Permission, Role


def made(client, **wish):
    """Return the plan that *wish* gives."""
    answer = client.post("/api/plans", json=wish)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def test_a_plan_is_made_once_and_says_what_the_command_line_says(seeded):
    seeded.survey()
    olga = seeded.signed_in("olga")
    first = olga.post("/api/plans", json={"clusters": ["seoul"]})
    second = seeded.with_token("olga").post("/api/plans", json={"clusters": ["seoul"]})
    assert (first.status_code, second.status_code) == (201, 200)
    plan = first.json()
    assert (plan["digest"], plan["made_by"], second.json()["made_by"]) == (second.json()["digest"], "olga", "olga")
    said = seeded.world.json("plan", "--cluster", "seoul")
    assert {name: plan[name] for name in ("format", "digest", "plan")} == {
        name: said[name] for name in ("format", "digest", "plan")
    }
    assert said["summary"].items() <= plan["summary"].items()
    assert olga.get("/api/plans").json()["items"][0]["digest"] == plan["digest"]
    shown = olga.get(f"/api/plans/{plan['digest']}").json()
    assert (shown["stale"], shown["shown"]) == ([], plan["shown"])


def test_what_keeps_a_plan_from_being_made_is_a_problem_with_its_remedy(seeded):
    olga = seeded.signed_in("olga")
    answer = olga.post("/api/plans", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "InputError")
    assert "certbridge survey" in answer.json()["remedy"]
    seeded.survey()
    cases = {
        "unknown cluster": {"clusters": ["seol"]},
        "length of time": {"within": "soon"},
        "`--primary` is for": {"primary": "cms1"},
        "Extra inputs": {"nonsense": 1},
    }
    for said, wish in cases.items():
        answer = olga.post("/api/plans", json=wish)
        assert answer.status_code == 422, said
        assert said in answer.text or said == "length of time"


def test_nothing_due_is_an_empty_plan_that_cannot_be_started(seeded):
    seeded.survey(days=300)
    seeded.world.beat()
    olga = seeded.signed_in("olga")
    plan = made(olga)
    assert plan["empty"] is True
    answer = olga.post("/api/runs", json={"plan": plan["digest"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "PlanError")


@on_both("seeded")
def test_a_run_is_started_by_digest_and_remembers_who_made_the_plan(seeded):
    seeded.survey()
    plan = made(seeded.signed_in("olga"), clusters=["seoul"])
    sol = seeded.signed_in("sol")
    answer = sol.post("/api/runs", json={"plan": plan["digest"]})
    assert (answer.status_code, answer.json()["code"]) == (503, "NoWorker")
    seeded.world.beat()
    answer = sol.post("/api/runs", json={"plan": plan["digest"]})
    assert answer.status_code == 202
    run = answer.json()["run"]
    shown = sol.get(f"/api/runs/{run}").json()
    assert (shown["requested_by"], shown["planned_by"], shown["digest"]) == ("sol", "olga", plan["digest"])
    assert seeded.journal.state(run).planned_by == "olga"
    again = sol.post("/api/runs", json={"plan": plan["digest"]})
    assert (again.status_code, again.json()["code"]) == (409, "Reserved")
    assert again.json()["run"] == run


def test_a_plan_from_old_facts_is_refused(seeded):
    seeded.survey()
    seeded.world.beat()
    olga = seeded.signed_in("olga")
    plan = made(olga, clusters=["seoul"])
    seeded.survey(12)
    assert olga.get(f"/api/plans/{plan['digest']}").json()["stale"] == ["cms1", "cms2"]
    answer = olga.post("/api/runs", json={"plan": plan["digest"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "PlanStale")
    assert olga.post("/api/runs", json={"plan": "0" * 64}).status_code == 404


def test_keys_that_are_brought_in_stay_with_the_machine_that_has_them(seeded):
    seeded.survey()
    seeded.world.beat()
    text = seeded.world.fleet.read_text()
    brought = "services: [callbridge, webadmin]\n        key: file\n        key_file: a.key\n        csr_file: a.csr"
    shared = text.replace("services: [callbridge, webadmin]", brought.replace("\n        key", "\n        key"))
    shared = shared.replace("name: callbridge\n", "name: callbridge\n        per: cluster\n").replace(
        '"{node}.example.com"', "join.example.com"
    )
    seeded.world.fleet.write_text(shared)
    olga = seeded.signed_in("olga")
    plan = made(olga, clusters=["seoul"])
    answer = olga.post("/api/runs", json={"plan": plan["digest"]})
    assert answer.status_code == 422
    assert "key: file" in answer.json()["detail"]
    assert "certbridge run" in answer.json()["remedy"]


def test_acting_needs_the_permission_for_every_lane(seeded):
    seeded.survey()
    seeded.world.beat()
    both = made(seeded.signed_in("olga"))
    sol = seeded.signed_in("sol")
    mine = made(sol)
    assert mine["lanes"] == ["seoul"]
    assert "cms3" not in json.dumps(mine)
    answer = sol.post("/api/runs", json={"plan": both["digest"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "NotAllowed")
    assert sol.get(f"/api/plans/{both['digest']}").json()["lanes"] == ["seoul"]
    assert "cms3" not in sol.get(f"/api/plans/{both['digest']}").text
    assert seeded.signed_in("bus").get(f"/api/plans/{mine['digest']}").status_code == 404
    assert seeded.signed_in("bus").get("/api/plans").json()["total"] == 1
    seeded.person("mix", Role.VIEWER, Grant(Role.OPERATOR, "seoul"))
    assert seeded.signed_in("mix").post("/api/plans", json={"clusters": ["busan"]}).status_code == 403
    for name in ("viola", "anna", "audrey", "adam", "bus"):
        client = seeded.with_token(name)
        assert client.post("/api/plans", json={}).status_code == 403
        assert client.post("/api/runs", json={"plan": both["digest"]}).status_code == 403
        assert client.post("/api/surveys", json={}).status_code == 403
    assert seeded.with_token("olga", Permission.READ).post("/api/plans", json={}).status_code == 403


def test_a_survey_is_started_for_ones_clusters(seeded):
    sol = seeded.signed_in("sol")
    assert sol.post("/api/surveys", json={}).status_code == 503
    seeded.world.beat()
    answer = sol.post("/api/surveys", json={})
    assert answer.status_code == 202
    assert sol.post("/api/surveys", json={"clusters": ["busan"]}).status_code == 422
    run = answer.json()["run"]
    seeded.world.advance(run)
    assert [(one["run"], one["outcome"]) for one in sol.get("/api/surveys").json()["items"]] == [(run, "done")]
    assert sol.get("/api/fleet").json()["surveyed"] == 2


@pytest.fixture
def renewed(seeded):
    """Give a web side on which a renewal of seoul succeeded."""
    run = seeded.waiting_run("seoul")
    folder = seeded.world.sign(run, lambda found: b"".join(map(pem_of, found)))
    seeded.world.ok("gates", "approve", run, "--yes", by="bob")
    seeded.world.ok("gates", "deliver", folder, by="dan")
    seeded.world.advance(run)
    seeded.world.ok("gates", "approve", run, "--yes", by="bob")
    seeded.world.advance(run)
    assert seeded.journal.state(run).outcome == "done"
    seeded.done = run
    return seeded


def test_the_difference_from_the_last_plan_that_succeeded(renewed):
    renewed.survey()
    olga = renewed.signed_in("olga")
    same = made(olga, clusters=["seoul"])
    (lane,) = olga.get(f"/api/plans/{same['digest']}/difference").json()["lanes"]
    assert (lane["run"], lane["same"], lane["nodes"]) == (renewed.done, True, [])
    text = renewed.world.fleet.read_text()
    renewed.world.fleet.write_text(text.replace("join.example.com]", "join.example.com, more.example.com]"))
    other = made(olga, clusters=["seoul"])
    (lane,) = olga.get(f"/api/plans/{other['digest']}/difference").json()["lanes"]
    assert lane["same"] is False
    assert {(one["certificate"], one["what"]) for one in lane["values"]} == {
        ("seoul/cms1/callbridge", "dns"),
        ("seoul/cms2/callbridge", "dns"),
    }
    (first, _) = lane["nodes"]
    assert (first["node"], len(first["added"]), len(first["removed"])) == ("cms1", 1, 1)
    assert "more.example.com" in first["added"][0]
    busan = made(olga, clusters=["busan"])
    (lane,) = olga.get(f"/api/plans/{busan['digest']}/difference").json()["lanes"]
    assert (lane["run"], lane["same"]) == ("", False)
