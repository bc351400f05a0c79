"""The checker itself: it finds what is wrong in made-up logs and journals, and nothing in good ones."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from checker import Findings, _intents, _one_driver, changing, forms_of

from workflows.journal.events import Event, Kind, NewEvent, chained

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CSR, RESTART = "pki csr callbridge-1 CN:a", "callbridge restart"


def event(second: float, kind: Kind, **data: Any) -> Event:
    """Return an event of one step on one server."""
    new = NewEvent(run="r", kind=kind, lane="seoul", step="seoul/cms1/request", node="cms1", data=data)
    return chained(new, n=1, at=NOW + timedelta(seconds=second), prev="")


def intent(second: float, text: str, line: int = 0) -> Event:
    """Return the intent of a line."""
    return event(second, Kind.INTENT, line=line, text=text)


def outcome(second: float, line: int = 0, state: str = "ok") -> Event:
    """Return the outcome of a line."""
    return event(second, Kind.OUTCOME, line=line, state=state)


def sent(second: float, text: str, *, number: int = 1, session: str = "c1", kind: str = "command") -> list[dict]:
    """Return what the simulator writes of a change."""
    common = {"node": "cms1", "kind": kind, "text": text, "number": number, "session": session}
    at = NOW + timedelta(seconds=second)
    return [
        {**common, "phase": "begin", "utc": at.isoformat()},
        {**common, "phase": "end", "outcome": "ok", "utc": (at + timedelta(seconds=0.5)).isoformat()},
    ]


def judged(log: list[dict], events: list[Event]) -> Findings:
    """Return what the checker says."""
    found = Findings()
    _intents(changing(log), events, found)
    _one_driver(changing(log), found)
    return found


def test_line_with_intent_and_outcome_is_good():
    """One intent, one command, one outcome; reading lines count for nothing."""
    log = [*sent(1, CSR), *sent(2, "pki list", number=2)]
    assert judged(log, [intent(0, CSR), outcome(2)]).wrong == []


def test_line_sent_twice_is_a_duplicate():
    """Though the journal meant it twice."""
    log = [*sent(1, CSR), *sent(4, CSR, number=2)]
    found = judged(log, [intent(0, CSR), intent(3, CSR), outcome(5)])
    assert [len(found.duplicates), found.never_came] == [1, 1]


def test_intent_that_was_never_sent_is_no_duplicate():
    """The worker died between intent and line; the next one sent it."""
    assert judged(sent(4, CSR), [intent(0, CSR), intent(3, CSR), outcome(5)]).wrong == []


def test_restart_may_come_twice_but_not_three_times():
    """Its effect cannot be read back."""
    twice = [*sent(1, RESTART), *sent(4, RESTART, number=2)]
    events = [intent(0, RESTART), intent(3, RESTART), outcome(5)]
    assert judged(twice, events).duplicates == []
    thrice = [*twice, *sent(7, RESTART, number=3)]
    assert len(judged(thrice, [*events, intent(6, RESTART), outcome(8)]).duplicates) == 1


def test_line_that_was_put_back_is_sent_again():
    """What was taken back is to be done anew."""
    log = [*sent(1, CSR), *sent(5, CSR, number=2)]
    events = [intent(0, CSR), outcome(2), event(3, Kind.PUT_BACK), intent(4, CSR), outcome(6)]
    assert judged(log, events).wrong == []


@pytest.mark.parametrize("events", [[], [intent(2, CSR), outcome(3)]])
def test_line_without_an_intent_before_it_is_found(events):
    """No intent at all, or one that came too late."""
    assert any("without an intent" in text for text in judged(sent(1, CSR), events).other)


def test_intent_without_outcome_is_found():
    """Nobody looked what came of it."""
    assert any("has no outcome" in text for text in judged(sent(1, CSR), [intent(0, CSR)]).other)


def test_two_sessions_at_work_on_one_server_are_found():
    """The second began before the first had ended."""
    first, second = sent(1, CSR), sent(1.2, RESTART, number=2, session="c2")
    found = judged([first[0], second[0], first[1], second[1]], [intent(0, CSR), intent(0, RESTART, 1)])
    assert len(found.order) == 1


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_secret_is_found_in_base64_wherever_it_stands(before):
    """Any of three places within the encoded text, and hex."""
    secret = b"correct-horse-battery"
    text = base64.b64encode(before.encode() + secret + b" and more")
    assert any(form in text for form in forms_of(secret))
    assert any(form in secret.hex().encode() for form in forms_of(secret))
