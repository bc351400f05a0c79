"""The chain of events: every tampering is found."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workflows.journal.events import Event, Kind, NewEvent, canonical_text, chained, verify

BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def chain(length: int) -> list[Event]:
    """Return a whole chain of notes."""
    events: list[Event] = []
    for number in range(1, length + 1):
        note = NewEvent(run="r1", kind=Kind.NOTE, data={"text": f"note {number}"})
        prev = events[-1].hash if events else ""
        events.append(chained(note, n=number, at=BEGIN + timedelta(seconds=number), prev=prev))
    return events


def test_whole_chain_has_no_problems() -> None:
    """A chain that nobody touched is whole, an empty one too."""
    assert verify(chain(5)) == ()
    assert verify([]) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"text": "something else"}},
        {"actor": "eve"},
        {"kind": Kind.GATE_APPROVED},
        {"node": "other"},
        {"at": BEGIN},
    ],
)
def test_edited_event_is_found(change: dict[str, object]) -> None:
    """Whatever is changed in an event, its number is named."""
    events = chain(5)
    events[2] = replace(events[2], **change)  # type: ignore[arg-type]
    assert verify(events) == ("event 3 was changed",)


def test_edited_event_with_a_new_hash_breaks_the_next_link() -> None:
    """Whoever recomputes the hash of an edited event breaks the event behind it."""
    events = chain(5)
    forged = NewEvent(run="r1", kind=Kind.NOTE, data={"text": "forged"})
    events[2] = chained(forged, n=3, at=events[2].at, prev=events[2].prev)
    assert verify(events) == ("event 4 does not follow the event before it",)


def test_missing_event_is_found() -> None:
    """A gap is named."""
    events = chain(5)
    del events[2]
    assert verify(events) == ("event 3 is missing or out of order: 4 stands in its place",)


def test_swapped_events_are_found() -> None:
    """Two events in each other's place are named."""
    events = chain(4)
    events[1], events[2] = events[2], events[1]
    assert verify(events)[0] == "event 2 is missing or out of order: 3 stands in its place"


def test_data_is_kept_as_it_will_be_read_back() -> None:
    """Tuples become lists before hashing, so that the event handed out equals the one read later."""
    event = chained(NewEvent(run="r1", kind=Kind.NOTE, data={"lines": (1, 2)}), n=1, at=BEGIN, prev="")
    assert event.data == {"lines": [1, 2]}


def test_bytes_that_are_no_text_can_be_journalled() -> None:
    """A reply decoded with surrogate escapes has a canonical form."""
    reply = b"caf\xe9\x00".decode(errors="surrogateescape")
    assert canonical_text({"reply": reply}) == '{"reply":"caf\\udce9\\u0000"}'


def test_what_is_no_json_is_refused() -> None:
    """Not-a-number has no canonical form."""
    with pytest.raises(ValueError, match="JSON"):
        canonical_text({"x": float("nan")})
