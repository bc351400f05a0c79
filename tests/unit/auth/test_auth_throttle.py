"""Slowing down who guesses (ASVS 5.0, 6.3.1), and where a link may lead."""

from __future__ import annotations

import time

import pytest

from api.auth.refusals import printable
from api.auth.signing import local_path
from api.auth.throttle import Throttle, network
from workflows.errors import TooMany


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self, monkeypatch):
        self.now = time.time()
        monkeypatch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def waits(throttle, attempts, *key):
    """Return the waits that *attempts* are told (0: let through)."""
    found = []
    for _ in range(attempts):
        try:
            throttle.attempt(*key)
        except TooMany as error:
            found.append(error.data["retry_after_s"])
        else:
            found.append(0)
    return found


def test_asvs_6_3_1_the_wait_grows_with_the_attempts(clock):
    throttle = Throttle()
    key = ("sign-in", "192.0.2.1", "ann")
    assert waits(throttle, 6, *key) == [0, 0, 0, 0, 0, 60]
    clock.now += 61
    assert waits(throttle, 5, *key) == [0, 0, 0, 0, 539]
    clock.now += 540
    assert [one for one in waits(throttle, 9, *key) if one] == [60, 60, 60, 60]
    clock.now += 61
    assert max(waits(throttle, 5, *key)) > 2000


def test_asvs_6_3_1_one_account_is_not_locked_out_by_somebody_elsewhere(clock):
    throttle = Throttle()
    waits(throttle, 20, "sign-in", "192.0.2.1", "ann")
    assert waits(throttle, 1, "sign-in", "192.0.2.2", "ann") == [0]
    assert waits(throttle, 1, "sign-in", "192.0.2.1", "ben") == [0]


def test_one_address_cannot_try_one_password_at_every_account(clock):
    throttle = Throttle()
    found = [waits(throttle, 1, "sign-in", "192.0.2.1", f"account-{n}")[0] for n in range(40)]
    assert (found[:30], min(found[30:])) == ([0] * 30, 60)


def test_signing_in_forgets_the_attempts_before(clock):
    throttle = Throttle()
    waits(throttle, 4, "sign-in", "192.0.2.1", "ann")
    throttle.succeeded("sign-in", "192.0.2.1", "ann")
    assert waits(throttle, 5, "sign-in", "192.0.2.1", "ann") == [0] * 5


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("", "elsewhere"),
        ("testclient", "elsewhere"),
    ],
)
def test_an_ipv6_customer_counts_as_one(address, counts_as):
    assert network(address).replace("::ffff:c000:201", "::ffff:192.0.2.1") == counts_as


@pytest.mark.parametrize("path", ["/", "/runs/r1", "/runs?kind=renewal&x=%2F%2Fevil", "/gates#top"])
def test_a_path_of_ours_is_followed(path):
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "//evil.example", "/\\evil.example", "\\\\evil", "https://evil.example", "javascript:alert(1)", "runs",
     "/a\nb", "/\t/evil.example", "/x\\y", "/" + "x" * 3000],
)  # fmt: skip
def test_nobody_is_led_elsewhere(path):
    assert local_path(path) == "/"


def test_asvs_16_4_1_what_a_browser_says_of_itself_moves_no_terminal():
    assert printable("Mozilla\x1b[2J\r\nfake: line\u202e") == "Mozilla?[2J??fake: line?"
