"""What is noted of refusals: something of everybody, and never so much that it fills the disk (ASVS 5.0, 16.3.1)."""

from __future__ import annotations

import time

import pytest

from api.auth.refusals import Refusals


class Noted:
    """A journal that keeps what is handed in; minutes pass when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Whole hours: the limits count in windows of the clock.
        self.now = (time.time() // 3600 + 1) * 3600.0
        self.events: list = []
        monkeypatch.setattr("time.time", lambda: self.now)

    def append(self, event):
        """Keep what is written."""
        self.events.append((event.actor, event.data["address"], event.data["left_out"]))

    def submit(self, function):
        """Write at once."""
        function(self)


@pytest.fixture
def noted(monkeypatch):
    return Noted(monkeypatch)


def noise(noted, refusals, what="NotAllowed", minutes=50, **who):
    for _ in range(minutes):
        refusals.note(what, **who)
        noted.now += 61


def test_one_persons_noise_hides_nobody_elses_refusal(noted):
    """Not even from many addresses; and the noise is counted."""
    refusals = Refusals(noted)
    for number in range(30):
        noise(noted, refusals, minutes=1, address=f"192.0.2.{number}", person="viola")
    assert len(noted.events) == 10
    refusals.note("NotAllowed", address="192.0.2.1", person="olga")
    assert noted.events[-1] == ("olga", "192.0.2.1", 20)


def test_one_networks_noise_hides_nobody_elses_refusal(noted):
    """An IPv6 customer is one network, whatever the address."""
    refusals = Refusals(noted)
    for number in range(40):
        noise(noted, refusals, "password", minutes=1, address=f"2001:db8:1:2::{number:x}")
    assert len(noted.events) == 10
    refusals.note("password", address="2001:db8:1:3::1")
    assert noted.events[-1] == ("somebody", "2001:db8:1:3::1", 30)


def test_addresses_of_one_network_are_noted_once_a_minute(noted):
    refusals = Refusals(noted)
    for number in range(5):
        refusals.note("password", address=f"2001:db8:1:2::{number:x}")
    assert len(noted.events) == 1


def test_strangers_from_everywhere_are_bounded_and_hide_nobody_who_is_signed_in(noted):
    refusals = Refusals(noted)
    for number in range(200):
        refusals.note("forged", address=f"192.0.2.{number}")
    assert len(noted.events) == 60
    refusals.note("forged", address="192.0.2.7", person="olga")
    assert noted.events[-1] == ("olga", "192.0.2.7", 140)


def test_an_hour_later_there_is_a_new_share(noted):
    refusals = Refusals(noted)
    noise(noted, refusals, minutes=30, address="192.0.2.1", person="viola")
    noted.now += 3600
    refusals.note("NotAllowed", address="192.0.2.1", person="viola")
    assert len(noted.events) == 11
