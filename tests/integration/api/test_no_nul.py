"""The character NUL in address or body is 422 at every route, before anything is looked up or written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from tests.integration.api.conftest import Web
from workflows.people import Role

EVERYTHING = (Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.ADMIN)
ENDLESS = frozenset({"/api/events"})
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
FORM_JSON = f"{FORM}+json"
"""Begins as a form does, and is read as JSON."""
PARTS = 'multipart/form-data; boundary="b"'
PARTS_7 = f"{PARTS}; charset=utf-7"
IN_PARTS = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\na\x00b\r\n--b--\r\n'
IN_PARTS_7 = IN_PARTS.replace(b"a\x00b", b"a+AAA-b")
NOT_UTF_8 = ("utf-7", '"UTF-7"', "utf-16", '"utf-8;"', "utf-8; charset=utf-7")
BODIES = {
    JSON: (b'{"x": "a\\u0000b"}', b'{"x": "a\\\\\\u0000b"}', b'{"x": "a\x00b"}', '{"x": "a\\u0000b"}'.encode("utf-16")),
    FORM: (b"x=a%00b", b"x=a\x00b"),
    PARTS: (IN_PARTS,),
    FORM_JSON: (b'{"x": "a\\u0000b"}',),
    PARTS_7: (IN_PARTS_7,),
}


def requests(web: Web) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (method, path, more) of requests with NUL in one place each: every parameter and body of every route."""
    for one in iter_route_contexts(web.app.routes):
        if not isinstance(one.route, APIRoute) or one.path_format in ENDLESS:
            continue
        names = [part.name for part in one.route.dependant.path_params]
        plain = one.path_format.format(**dict.fromkeys(names, "x"))
        for method in one.methods:
            for name in names:
                yield method, one.path_format.format(**{**dict.fromkeys(names, "x"), name: "a%00b"}), {}
            yield method, plain, {"params": {"x": "a\x00b"}}
            if one.route.body_field is not None:
                kinds = (JSON, FORM_JSON) if plain.startswith("/api/") else (FORM, PARTS, PARTS_7)
                for kind in kinds:
                    for body in BODIES[kind]:
                        yield method, plain, {"content": body, "headers": {"Content-Type": kind}}


def test_it_is_refused_everywhere_in_the_same_way(web):
    web.person("root", *EVERYTHING)
    client = web.signed_in("root")
    found = []
    asked = list(requests(web))
    for method, path, more in asked:
        answer = client.request(method, path, **more)
        told = "problem+json" if path.startswith("/api/") else "text/html"
        status, word = (415, "UTF-8") if more.get("headers", {}).get("Content-Type") == PARTS_7 else (422, "NUL")
        right = answer.status_code == status and told in answer.headers["content-type"] and word in answer.text
        found += [] if right or method == "HEAD" else [(method, path, more, answer.status_code)]
    assert found == []
    assert {more.get("headers", {}).get("Content-Type", "") for _, _, more in asked} == {"", *BODIES}
    assert client.get("/static/a%00b").status_code == 422


@pytest.mark.parametrize("name", [r"a\u0000b", "a%00b", "a%2500b"])
def test_what_only_looks_like_it_is_taken(web, name):
    web.person("root", *EVERYTHING)
    client = web.signed_in("root")
    answer = client.post("/api/tokens", json={"name": name, "scopes": ["read"]})
    assert (answer.status_code, answer.json()["name"]) == (201, name)
    assert client.get("/api/runs", params={"kind": name}).status_code == 200


def test_it_is_found_in_a_body_that_comes_in_pieces(web):
    web.person("root", *EVERYTHING)
    body = json.dumps({"clusters": ["a\x00b"]}).encode()
    pieces = (body[place : place + 1] for place in range(len(body)))
    answer = web.signed_in("root").post("/api/surveys", content=pieces, headers={"Content-Type": JSON})
    assert (answer.status_code, "NUL" in answer.text) == (422, True)


def test_a_path_that_only_ends_as_a_delivery_is_looked_at(web):
    web.person("root", *EVERYTHING)
    answer = web.signed_in("root").patch("/api/webhooks/deliver", json={"url": "https://a\x00b"})
    assert (answer.status_code, "NUL" in answer.text) == (422, True)


def test_a_delivery_may_hold_zeros(web):
    web.person("root", *EVERYTHING)
    answer = web.signed_in("root").post("/api/runs/r1/deliveries", files={"files": ("one.der", b"\x30\x00\x00")})
    assert answer.status_code == 404  # there is no such run; the file is no fault


@pytest.mark.parametrize("kind", [JSON, FORM, PARTS])
@pytest.mark.parametrize("charset", NOT_UTF_8)
def test_text_in_another_encoding_is_refused(web, kind, charset):
    """A delivery too, which holds zeros but no names in UTF-7."""
    web.person("root", *EVERYTHING)
    client = web.signed_in("root")
    for path in ("/api/tokens", "/runs/r1/pause", "/api/runs/r1/deliveries"):
        answer = client.post(path, content=b"x", headers={"Content-Type": f"{kind}; charset={charset}"})
        assert (answer.status_code, "UTF-8" in answer.text) == (415, True)


@pytest.mark.parametrize("kind", [f"{FORM}=x; a=b", "json", "a/b/c", "text plain"])
def test_what_is_no_media_type_is_refused(web, kind):
    web.person("root", *EVERYTHING)
    assert web.signed_in("root").post("/api/tokens", content=b"x", headers={"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "utf8"])
def test_utf_8_may_be_said(web, charset):
    web.person("root", *EVERYTHING)
    body, kind = '{"name": "이름", "scopes": ["read"]}', f"{JSON}; charset={charset}"
    answer = web.signed_in("root").post("/api/tokens", content=body.encode(), headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["name"]) == (201, "이름")
