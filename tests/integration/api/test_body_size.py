"""Nobody fills the memory of the API with one request, whether its length was told or not (ASVS 5.0, 5.2.1)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.body_size import DELIVERY, SMALL
from workflows.people import Role


def pieces(size: int) -> Iterator[bytes]:
    """Yield *size* bytes in pieces, so that no length is told."""
    for _ in range(size // 100_000):
        yield b"x" * 100_000


def test_a_stranger_cannot_send_a_large_form(web):
    answer = web.client().post("/sign-in", data={"name": "x" * (SMALL + 1)})
    assert answer.status_code == 413


def test_a_large_request_is_refused_before_it_is_read(web):
    answer = web.client().post("/api/plans", content=b"x" * (SMALL + 1))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    # The name of RFC 9110, whichever one this Python has for 413.
    assert (answer.json()["code"], answer.json()["title"]) == ("ContentTooLarge", "Content Too Large")


def test_what_does_not_tell_its_length_is_counted(web):
    web.person("ann", Role.OPERATOR)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "one"}
    answer = web.with_token("ann").post("/api/plans", content=pieces(SMALL + 200_000), headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/api/webhooks/deliver"),
        ("PUT", "/api/users/deliveries"),
        ("POST", "/api/runs/a/deliver"),
        ("POST", "/api/runs/a/b/deliveries"),
        ("POST", "/gates/deliver"),
        ("PATCH", "/api/runs/r1/deliveries"),
    ],
)
def test_no_other_route_takes_as_much_because_of_how_its_path_ends(web, method, path):
    web.person("ann", Role.ADMIN)
    client = web.signed_in("ann")
    assert client.request(method, path, content=b"x" * (SMALL + 1)).status_code == 413
    for delivered in ("/api/runs/r1/deliveries", "/runs/r1/gates/seoul/sign/deliver"):
        assert client.post(delivered, content=b"x" * (SMALL + 1)).status_code != 413


def test_a_pile_of_certificates_may_be_large(web):
    web.person("ann", Role.OPERATOR)
    files = {"files": ("one.pem", b"x" * (SMALL + 1))}
    small = web.with_token("ann").post("/api/runs/r1/deliveries", files=files)
    large = web.with_token("ann").post("/api/runs/r1/deliveries", content=b"x" * (DELIVERY + 1))
    assert (small.status_code, large.status_code) == (404, 413)
