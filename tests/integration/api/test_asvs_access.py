"""Who may do what, and in which order, over the whole application (ASVS 5.0: 2.3, 8.2, 8.3, 16.3.2)."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from tests.integration.api.every_path import Ask, every
from tests.integration.api.seeded import PEOPLE
from workflows.journal import FLEET, Kind
from workflows.people import PERMISSIONS, Grant, Permission, Role

DIGEST = "0" * 64
BODIES: dict[str, dict[str, Any]] = {
    "/approve": {"digest": DIGEST},
    "/reject": {"digest": DIGEST, "reason": "no"},
    "/api/runs": {"plan": "{digest}"},
    "/runs": {"plan": "{digest}"},
    "/api/plans": {"clusters": ["busan"]},
    "/api/surveys": {"clusters": ["busan"]},
}
"""What a route is sent whose path ends so; else nothing, which is right for the others."""


def names_of(seeded, run, digest="x"):
    return {
        "run": run,
        "digest": digest,
        "node": "cms3",
        "cluster": "busan",
        "lane": "busan",
        "name": "sign",
        "step": "busan/cms3/prepare",
        "action": "pause",
        "account": seeded.account("viola"),
    }


def send(client, one: Ask, digest: str = DIGEST):
    """Ask for *one* with a body that fits it: JSON for the API, a form for pages."""
    if one.is_safe:
        return client.request(one.method, one.path)
    body = next((found for end, found in BODIES.items() if one.template.endswith(end)), {})
    body = {name: digest if value == "{digest}" else value for name, value in body.items()}
    if one.template.endswith(("/deliver", "/deliveries")):
        return client.request(one.method, one.path, files={"files": ("one.crt", b"x")})
    if one.path.startswith("/api/"):
        return client.request(one.method, one.path, json=body)
    return client.request(one.method, one.path, data=body)


def held(name: str) -> set[Permission]:
    """Return what *name* may do somewhere."""
    roles = [one.role if isinstance(one, Grant) else one for one in PEOPLE[name]]
    return {permission for role in roles for permission in PERMISSIONS[role]}


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_8_2_1_and_8_3_1_every_route_refuses_who_lacks_its_permission(seeded):
    """API and pages alike, by session and by token, whatever a page shows; nothing happens."""
    run = seeded.waiting_run()
    asked = list(every(seeded.app, names_of(seeded, run)))
    stranger = seeded.client()
    before = seeded.journal.state(run)
    refused = 0
    for one in asked:
        if not one.needs.open:
            answer = send(stranger, one)
            by_page = (answer.status_code, answer.headers.get("location", "")[:8]) == (303, "/sign-in")
            assert answer.status_code == 401 if one.path.startswith("/api/") else by_page, one
    for name in ("viola", "olga", "anna", "audrey", "adam"):
        for client in (seeded.signed_in(name), seeded.with_token(name)):
            for one in asked:
                if one.needs.permission and one.needs.permission not in held(name):
                    assert send(client, one).status_code == 403, (name, one)
                    refused += 1
    assert refused > 200
    assert seeded.journal.state(run) == before


def test_asvs_8_3_1_a_token_is_held_to_its_scopes_by_every_route(seeded):
    """Its owner may do everything; the token was made for reading."""
    seeded.person("root", Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.ADMIN)
    run = seeded.waiting_run()
    client = seeded.with_token("root", Permission.READ)
    for one in every(seeded.app, names_of(seeded, run)):
        if (one.needs.permission not in {"", Permission.READ} or one.needs.session) and not one.is_endless:
            assert send(client, one).status_code == 403, one


# ── objects and fields ───────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_8_2_2_what_is_of_another_cluster_cannot_be_asked_for_by_name(seeded):
    """A person with every role in seoul, and a run, a plan, servers and a gate of busan: they are not there."""
    seeded.survey()
    digest = seeded.signed_in("olga").post("/api/plans", json={"clusters": ["busan"]}).json()["digest"]
    run = seeded.waiting_run("busan")
    seeded.person("sally", *(Grant(role, "seoul") for role in (Role.OPERATOR, Role.APPROVER, Role.VIEWER)))
    before = seeded.journal.state(run)
    client = seeded.signed_in("sally")
    seen = 0
    for one in every(seeded.app, names_of(seeded, run, digest)):
        ours = one.template.startswith(("/api/runs", "/api/nodes", "/api/clusters", "/api/plans", "/runs", "/clusters"))
        named = "{" in one.template or one.template.endswith("/runs")
        if ours and named and not (one.is_safe and "{" not in one.template):
            answer = send(client, one, digest)
            assert answer.status_code == 404, (one, answer.status_code, answer.text[:300])
            assert not [word for word in ("cms3.example.com", "127.0.0.1", "olga") if word in answer.text], one
            seen += 1
    assert seen > 25
    assert seeded.journal.state(run) == before


def test_asvs_8_2_2_sessions_and_tokens_of_others_cannot_be_ended_by_their_id(seeded):
    olga, viola = seeded.signed_in("olga"), seeded.signed_in("viola")
    (session,) = olga.get("/api/sessions").json()["items"]
    token = olga.post("/api/tokens", json={"name": "ci", "scopes": ["read"]}).json()["token"]
    for path in (f"/api/sessions/{session['session']}", f"/api/tokens/{token}"):
        assert viola.delete(path).status_code == 404, path
    assert viola.get(f"/api/sessions?account={seeded.account('olga')}").status_code == 403
    assert olga.get("/api/me").status_code == 200
    assert olga.get("/api/tokens").json()["total"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/runs", {"plan": DIGEST, "requested_by": "adam"}),
        ("/api/runs", {"plan": DIGEST, "run": "of-my-choice"}),
        ("/api/plans", {"clusters": ["seoul"], "made_by": "adam"}),
        ("/api/me/password", {"current": "x" * 12, "new": "y" * 12, "grants": ["admin"]}),
        ("/api/tokens", {"name": "ci", "scopes": ["read"], "account": "adam"}),
    ],
)
def test_asvs_8_2_3_a_field_that_is_not_theirs_to_set_is_a_fault(seeded, path, body):
    """Names that the server fills in are not taken from anybody, nor quietly passed over."""
    answer = seeded.signed_in("olga").post(path, json=body)
    assert answer.status_code == 422
    assert [one["where"] for one in answer.json()["findings"]] == [f"body.{list(body)[-1]}"]


def test_asvs_8_2_3_no_body_that_is_taken_has_room_for_more(seeded):
    """Every body of the document forbids what it does not name."""
    document = seeded.client().get("/openapi.json").json()
    taken = {
        shape["schema"]["$ref"].rpartition("/")[2]
        for found in document["paths"].values()
        for operation in found.values()
        for shape in operation.get("requestBody", {}).get("content", {}).values()
        if "$ref" in shape["schema"]
    }
    assert len(taken) > 8
    schemas = document["components"]["schemas"]
    assert [name for name in taken if schemas[name].get("additionalProperties") is not False] == []


def test_asvs_8_3_3_whoever_asked_is_the_account_behind_a_session_or_token(seeded):
    """What a proxy or a script may claim about it counts for nothing; the journal names the account."""
    claims = {
        "X-Forwarded-User": "adam",
        "X-Remote-User": "adam",
        "Remote-User": "adam",
        "X-User": "adam",
        "From": "adam",
        "X-Original-URL": "/api/users",
        "X-Rewrite-URL": "/api/users",
    }
    viola = seeded.signed_in("viola")
    assert viola.get("/api/me", headers=claims).json()["name"] == "viola"
    assert viola.get("/api/users", headers=claims).status_code == 403
    assert seeded.client(**claims).get("/api/me").status_code == 401
    seeded.survey()
    seeded.world.beat()
    token = seeded.with_token("olga")
    plan = token.post("/api/plans", json={"clusters": ["seoul"]}, headers=claims).json()["digest"]
    run = token.post("/api/runs", json={"plan": plan}, headers=claims).json()["run"]
    assert (seeded.journal.state(run).requested_by, seeded.journal.state(run).planned_by) == ("olga", "olga")
    bearer_and_cookie = seeded.signed_in("adam")
    bearer_and_cookie.headers["Authorization"] = token.headers["Authorization"]
    assert bearer_and_cookie.get("/api/me").json()["name"] == "olga"


# ── the order of things ──────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_2_3_1_no_stage_of_a_run_can_be_passed_over(seeded):
    """Nobody approves `go` before it is opened, delivers before requests are out, or gets these before `sign`."""
    run = seeded.waiting_run("seoul")
    anna, olga = seeded.signed_in("anna"), seeded.signed_in("olga")
    sign, go = f"/api/runs/{run}/gates/seoul/sign", f"/api/runs/{run}/gates/seoul/go"
    digest = anna.get(sign).json()["digest"]
    assert anna.post(f"{go}/approve", json={"digest": digest}).status_code == 404
    assert olga.get(f"/api/runs/{run}/csr").status_code == 409
    early = olga.post(f"/api/runs/{run}/deliveries", files={"files": ("one.crt", b"x")})
    assert (early.status_code, early.json()["code"]) == (409, "GateError")
    assert anna.post(f"{sign}/approve", json={"digest": DIGEST}).json()["code"] == "DigestChanged"
    assert anna.post(f"{sign}/approve", json={"digest": digest}).json()["status"] == "approved"
    assert anna.post(f"{sign}/reject", json={"digest": digest, "reason": "late"}).status_code == 409
    assert anna.post(f"{go}/approve", json={"digest": digest}).status_code == 404
    seeded.world.advance(run)
    assert anna.post(f"{go}/approve", json={"digest": digest}).status_code == 404
    assert olga.post("/api/runs", json={"plan": DIGEST}).status_code == 404


def test_asvs_2_3_3_and_2_3_4_a_run_is_reserved_whole_or_not_at_all(seeded):
    """Two people start what shares a server: the second gets nothing of it, and nothing of theirs is left behind."""
    seeded.survey()
    seeded.world.beat()
    olga, sol = seeded.signed_in("olga"), seeded.signed_in("sol")
    both = olga.post("/api/plans", json={}).json()
    seoul = sol.post("/api/plans", json={"clusters": ["seoul"]}).json()
    first = sol.post("/api/runs", json={"plan": seoul["digest"]})
    second = olga.post("/api/runs", json={"plan": both["digest"]})
    assert (first.status_code, second.status_code) == (202, 409)
    assert (second.json()["code"], second.json()["run"]) == ("Reserved", first.json()["run"])
    assert olga.get("/api/runs?kind=renewal").json()["total"] == 1
    busan = olga.post("/api/plans", json={"clusters": ["busan"]}).json()
    assert olga.post("/api/runs", json={"plan": busan["digest"]}).status_code == 202


# ── what is noted ────────────────────────────────────────────────────────────────────────────────────────────────────
def refusals(seeded):
    seeded.journal.write(lambda _: None)  # they are handed in and not waited for
    return [one for one in seeded.journal.events(FLEET) if one.kind is Kind.ACCESS_REFUSED]


def test_asvs_16_3_2_whoever_was_not_allowed_is_in_the_journal(seeded):
    """Who, what, from where, and when; by page and by API; the second within a minute is counted only."""
    run = seeded.waiting_run("seoul")
    viola, olga = seeded.signed_in("viola"), seeded.signed_in("olga")
    viola.post(f"/runs/{run}/pause", data={})
    viola.post(f"/api/runs/{run}/pause", json={})
    seeded.with_token("olga", Permission.READ).post("/api/plans", json={})
    found = [(one.actor, one.data["what"], one.data["asked"], one.data["address"]) for one in refusals(seeded)]
    assert found == [
        ("viola", "NotAllowed", f"POST /runs/{run}/pause", "testclient"),
        ("olga", "NotAllowed", "POST /api/plans", "testclient"),
    ]
    assert refusals(seeded)[1].data["left_out"] == 1
    assert all(one.at.tzinfo for one in refusals(seeded))
    assert "access_refused" not in olga.get("/api/journal?limit=500").text
    assert "access_refused" in seeded.signed_in("audrey").get("/api/journal?limit=500").text


def test_asvs_16_3_3_an_attempt_to_approve_ones_own_work_is_in_the_journal(seeded):
    seeded.person("dan", Role.OPERATOR, Role.APPROVER)
    run = seeded.waiting_run("busan", by="dan")
    dan, gate = seeded.signed_in("dan"), f"/api/runs/{run}/gates/busan/sign"
    assert dan.post(f"{gate}/approve", json={"digest": dan.get(gate).json()["digest"]}).status_code == 403
    assert [(one.actor, one.data["what"]) for one in refusals(seeded)] == [("dan", "FourEyes")]


def test_asvs_16_3_4_what_nobody_expected_is_in_the_log_with_who_and_where_and_without_its_words(seeded, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("walnut harbour zebra")

    monkeypatch.setattr("api.routes.runs.page_of", broken)
    viola = seeded.signed_in("viola")
    with structlog.testing.capture_logs() as written:
        assert viola.get("/api/runs?requested_by=walnut").status_code == 500
    said = {"asked": "GET /api/runs", "person": "viola", "kind": "RuntimeError", "address": "testclient"}
    assert written == [{"event": "unexpected", "log_level": "error", **said}]
