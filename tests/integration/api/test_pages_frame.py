"""What every page has: language, light or dark, a problem told with its remedy, and nothing inline."""

from __future__ import annotations

import pytest
from fastapi import Request

from api.pages.drawing import draw
from api.problems import Problem
from workflows.people import Role


def test_a_problem_is_a_page_with_its_sentence_and_remedy(web):
    web.person("ann", Role.VIEWER)
    answer = web.signed_in("ann").get("/runs/nowhere")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>There is no run nowhere in the journal.</h1>" in answer.text
    assert 'aria-current="page" data-go="r"' in answer.text


def test_a_stranger_is_led_to_the_sign_in_page_and_back(web):
    answer = web.client().get("/runs/some?node=a&b=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fruns%2Fsome%3Fnode%3Da%26b%3D1")


@pytest.mark.parametrize("back", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "runs"])
def test_preferences_lead_back_to_our_own_pages_only(web, back):
    answer = web.client().post("/preferences", data={"language": "ko", "back": back})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_language_is_what_was_chosen_else_what_the_browser_asks_for(web):
    client = web.client(**{"Accept-Language": "fr;q=0.9, ko-KR;q=0.8, en;q=0.1"})
    assert '<html lang="ko"' in client.get("/no-such-page").text
    client.post("/preferences", data={"language": "en"})
    assert '<html lang="en"' in client.get("/no-such-page").text


def test_the_theme_is_kept_and_turned_over(web):
    client = web.client()
    client.post("/preferences", data={"theme": "toggle"})
    assert 'data-theme="dark"' in client.get("/no-such-page").text
    client.post("/preferences", data={"theme": "toggle"})
    assert 'data-theme="light"' in client.get("/no-such-page").text


def test_what_a_problem_says_is_escaped(web):
    request = Request(
        {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "app": web.app}
    )
    problem = Problem(type="t", title="t", status=404, detail="<script>alert(1)</script>", code="NotThere")
    assert b"<script>alert" not in draw(request, "problem.html", problem=problem).body
