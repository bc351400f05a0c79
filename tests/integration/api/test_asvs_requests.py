"""What holds for every request and answer of the real application (ASVS 5.0: 3.4, 3.5, 4.1, 6.2, 7.4, 13.4, 14.3)."""

from __future__ import annotations

import json
import re
from email.message import Message
from pathlib import Path

import pytest

from tests.integration.api.every_path import every
from tests.integration.api.seeded import Seeded
from workflows.journal import FLEET, Kind, accounts
from workflows.people import Role

STATIC = Path(__file__).parents[3] / "api" / "static"
OPEN = {
    "GET /healthz",
    "GET /invitation",
    "GET /oidc/callback",
    "GET /oidc/sign-in",
    "GET /sign-in",
    "POST /invitation",
    "POST /preferences",
    "POST /sign-in",
    "POST /sign-out",
}
"""All that asks for nobody. Whoever adds to it has thought about it."""
FORGED = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://certbridge.test"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {},
    # A proxy that asks for a password makes the browser send it along with whatever another site asks for.
    {"Sec-Fetch-Site": "cross-site", "Authorization": "Basic YW5uOnNlY3JldA=="},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Give two clusters, a run that waits, and root, who may do everything; the tests here change nothing of them."""
    with pytest.MonkeyPatch.context() as patch:
        made = Seeded(tmp_path_factory.mktemp("asvs"), patch)
        made.people()
        made.person("root", Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.ADMIN)
        viola = made.account("viola")
        made.journal.write(lambda tx: accounts.set_password(tx, viola, "$argon2id$none", by="test"))
        run = made.waiting_run("seoul")
        plan = made.signed_in("olga").post("/api/plans", json={"clusters": ["busan"]}).json()["digest"]
        made.names = {
            "run": run,
            "digest": plan,
            "node": "cms1",
            "cluster": "seoul",
            "lane": "seoul",
            "name": "sign",
            "step": "seoul/cms1/prepare",
            "action": "pause",
            "account": viola,
        }
        yield made
        made.journal.close()


def asks(world):
    return list(every(world.app, world.names))


def told(world):
    """Return every event there is, as text."""
    world.journal.write(lambda _: None)
    runs = [FLEET, *(one.run for one in world.journal.runs(limit=100))]
    return {run: [repr(one) for one in world.journal.events(run)] for run in runs}


def test_the_list_of_what_can_be_asked_for_is_long(world):
    unsafe = [one for one in asks(world) if not one.is_safe]
    assert (len(unsafe) > 35, len(asks(world)) > 90) == (True, True)


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_asvs_3_5_1_every_route_that_changes_something_refuses_another_site(world, headers):
    client = world.signed_in("root")
    del client.headers["Sec-Fetch-Site"]
    before = {run: len(found) for run, found in told(world).items() if run != FLEET}
    for one in asks(world):
        if not one.is_safe:
            answer = client.request(one.method, one.path, headers=headers, data={"name": "x"})
            assert (answer.status_code, "Another site asked" in answer.text) == (403, True), one
    assert {run: len(found) for run, found in told(world).items() if run != FLEET} == before
    assert client.get("/api/me").status_code == 200


def test_asvs_3_5_1_signing_in_is_refused_to_another_site_whatever_the_browser_adds(world):
    """Nobody is signed in as somebody else behind their back; a password of a proxy makes no difference."""
    for headers in FORGED:
        if headers:  # without any word of a browser there is no browser that could be abused
            client = world.client(**headers)
            if "Sec-Fetch-Site" not in headers:
                del client.headers["Sec-Fetch-Site"]
            answer = client.post("/sign-in", data={"name": "ann", "password": "walnut harbour zebra"})
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), headers


def test_asvs_3_5_2_what_a_form_of_another_site_can_send_is_no_request_of_ours(world):
    """JSON counts when it says so, which a browser asks about first: text/plain and forms go without being asked."""
    olga = world.signed_in("olga")
    body = json.dumps({"clusters": ["seoul"]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = olga.post("/api/plans", content=body, headers={"Content-Type": kind} if kind else {})
        assert answer.status_code in {400, 422}, kind
    assert olga.post("/api/plans", content=body, headers={"Content-Type": "application/json"}).status_code < 300


def test_asvs_3_5_2_and_3_4_2_no_other_site_is_told_that_it_may(world):
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/api/runs", "/api/me", "/sign-in", "/openapi.json", "/static/certbridge.css"):
        answer = world.client(**asking).options(path)
        assert answer.status_code in {404, 405}
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "access-control-allow-origin" not in world.signed_in("root").get(path, headers=asking).headers


def test_asvs_3_5_3_no_get_of_any_route_writes_an_event(world):
    """Looking changes nothing: every route is looked at by whoever may do everything."""
    client = world.signed_in("root")
    before = told(world)
    for one in asks(world):
        if one.is_safe and not one.is_endless:
            assert client.request(one.method, one.path).status_code != 500, one
    assert told(world) == before


def test_asvs_3_5_3_no_method_is_taken_in_place_of_another(world):
    """Neither a header nor a field makes a POST of a GET."""
    client = world.signed_in("root")
    before = told(world)
    path = f"/api/runs/{world.names['run']}/pause"
    for headers in ({"X-HTTP-Method-Override": "POST"}, {"X-Method-Override": "POST"}):
        assert client.get(f"{path}?_method=POST", headers=headers).status_code == 405
    assert told(world) == before


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def answers(world):
    """Yield (name, answer) of every route looked at by root, of faults of each kind, and of every asset."""
    root, nobody = world.signed_in("root"), world.client()
    for one in asks(world):
        if one.is_safe and not one.is_endless:
            yield f"{one.method} {one.path}", root.request(one.method, one.path)
            yield f"{one.method} {one.path} by nobody", nobody.request(one.method, one.path)
    yield "422", root.post("/api/plans", json={"nonsense": 1})
    yield "413", root.post("/api/plans", content=b"x" * 1_000_001)
    yield "405", root.put("/api/plans")
    yield "403", nobody.post("/sign-out", headers={"Sec-Fetch-Site": "cross-site"})
    yield "404", root.get("/nowhere")
    yield "document", nobody.get("/openapi.json")
    for file in STATIC.rglob("*"):
        if file.is_file():
            yield str(file.relative_to(STATIC)), nobody.get(f"/static/{file.relative_to(STATIC)}")


def test_asvs_4_1_1_and_3_4_every_answer_says_what_it_is_and_has_the_headers(world):
    """The kind fits what is in it, texts tell their encoding; 3.4.1 to 3.4.6 and 14.3.2 hold for faults and assets."""
    assets = {str(file.relative_to(STATIC)) for file in STATIC.rglob("*")}
    for name, answer in answers(world):
        found = answer.headers
        kind = Message()
        kind["content-type"] = found.get("content-type", "")
        said = kind.get_content_type()
        if answer.content:
            assert "content-type" in found, name
            if said.startswith("text/") or said.endswith("xml"):
                assert kind.get_param("charset") == "utf-8", name
                answer.content.decode("utf-8")
            if said in {"application/json", "application/problem+json"}:
                json.loads(answer.content)
            assert said in {"text/html", "image/svg+xml"} or not answer.content.lstrip().startswith(b"<"), name
        assert found["strict-transport-security"].startswith("max-age=31536000"), name
        assert found["x-content-type-options"] == "nosniff", name
        assert found["referrer-policy"] == "same-origin", name
        assert found["x-frame-options"] == "DENY", name
        policy = dict(part.split(" ", 1) for part in found["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["base-uri"], policy["frame-ancestors"]) == ("'none'",) * 3, name
        assert "unsafe" not in policy["script-src"], name
        assert name in assets or found["cache-control"] == "no-store", name


def test_asvs_13_4_5_and_8_2_1_strangers_can_ask_for_nothing_but_the_doors(world):
    """Whatever else there is asks who is asking: no metrics, no documentation of the framework, no console."""
    assert {f"{one.method} {one.template}" for one in asks(world) if one.needs.open} == OPEN
    assert world.client().get("/healthz").json() == {"status": "ok"}
    client = world.signed_in("root")
    for path in ("/docs", "/redoc", "/metrics", "/debug", "/admin", "/.git/config", "/static/", "/static/../app.py"):
        assert client.get(path).status_code == 404, path
    assert [one.path for one in asks(world) if one.path.startswith("/flower") and one.needs.open] == []


def test_asvs_13_4_2_nothing_of_a_debugger_is_on_and_no_setting_turns_it_on(world):
    assert world.app.debug is False
    assert [name for name in type(world.settings).model_fields if "debug" in name] == []
    client = world.client()
    assert client.request("TRACE", "/sign-in").status_code == 405


def test_asvs_16_3_3_what_another_site_made_a_browser_send_is_in_the_journal(web):
    for number in range(3):
        web.client(**{"Sec-Fetch-Site": "cross-site"}).post(f"/api/runs/{number}%0afake/pause")
    web.journal.write(lambda _: None)
    found = [one.data for one in web.journal.events(FLEET) if one.kind is Kind.ACCESS_REFUSED]
    assert [(one["what"], one["asked"]) for one in found] == [("forged", "POST /api/runs/0?fake/pause")]


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_7_4_4_every_page_has_a_way_out(world):
    client = world.signed_in("root")
    seen = 0
    for one in asks(world):
        if one.is_safe and not one.is_endless and not one.needs.open and not one.path.startswith("/api/"):
            text = client.get(one.path).text
            if "<html" in text:  # else it is a part that a page puts into itself
                assert '<form method="post" action="/sign-out">' in text, one
                seen += 1
    assert seen > 15


def test_asvs_6_2_6_and_6_2_7_passwords_are_masked_and_may_be_pasted_or_filled_in(world):
    """What stores passwords finds out which field is which; nothing of ours looks at what is pasted."""
    kinds = {"password": "-password", "current": "current-password", "new": "new-password", "again": "new-password"}
    seen = 0
    doors = [world.client().get(path) for path in ("/sign-in", "/invitation")]
    for page in [*doors, world.signed_in("viola").get("/settings")]:
        for field in re.findall(r"<input[^>]*>", page.text):
            told = dict(re.findall(r'(\w+)="([^"]*)"', field))
            if told.get("name") in kinds:
                assert told["type"] == "password", field
                assert told["autocomplete"].endswith(kinds[told["name"]]), field
                assert "value" not in told, field
                seen += 1
    assert seen == 6
    assert [file.name for file in STATIC.glob("*.js") if "paste" in file.read_text()] == []
