"""What holds for every route: it says what it asks for, and strangers are refused (ASVS 5.0, 8.2.1, 8.3.1)."""

from __future__ import annotations

from fastapi.routing import APIRoute, iter_route_contexts

from api.auth.identity import declares
from workflows.people import Permission, Role


def routes(app):
    """Return all routes of the application, those of included routers too."""
    return [one.route for one in iter_route_contexts(app.routes) if isinstance(one.route, APIRoute)]


def test_every_route_declares_what_it_asks_for(web):
    found = routes(web.app)
    assert {"/healthz", "/api/runs"} <= {route.path for route in found}
    assert [one.path for one in found if not any(declares(each.call) for each in one.dependant.dependencies)] == []


def test_a_stranger_is_refused_with_a_problem(web):
    answer = web.client().get("/api/runs")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "NotSignedIn"


def test_a_session_and_a_token_of_the_same_person_see_the_same(web):
    web.person("ann", Role.VIEWER)
    by_session = web.signed_in("ann").get("/api/runs")
    by_token = web.with_token("ann", Permission.READ).get("/api/runs")
    assert (by_session.status_code, by_token.status_code) == (200, 200)
    assert by_session.json() == by_token.json() == {"items": [], "total": 0, "next_offset": None}


def test_a_token_may_only_do_what_it_was_made_for(web):
    web.person("ann", Role.VIEWER)
    answer = web.with_token("ann", Permission.OPERATE).get("/api/runs")
    assert answer.status_code == 403
