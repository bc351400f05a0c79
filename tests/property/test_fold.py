"""Laws of the fold and of the chain, on any events at all."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from workflows.journal.events import Event, Kind, NewEvent, chained, verify
from workflows.journal.fold import RunState, done_ids, fold

BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NAMES = st.sampled_from(["a", "b", "c"])
DATA = st.fixed_dictionaries(
    {},
    optional={
        "lanes": st.lists(NAMES, max_size=3),
        "generation": st.integers(0, 9),
        "attempt": st.integers(0, 9),
        "line": st.integers(0, 4),
        "state": st.sampled_from(["ok", "refused", "unknown"]),
        "excused": st.lists(NAMES, max_size=3),
        "steps": st.lists(NAMES, max_size=3),
        "certificates": st.dictionaries(NAMES, st.dictionaries(NAMES, st.text(max_size=3), max_size=2), max_size=2),
        "reason": st.text(max_size=5),
        "error": st.fixed_dictionaries({"code": st.just("X"), "text": st.text(max_size=3), "remedy": st.just("")}),
        "digest": st.text(max_size=3),
        "summary": st.dictionaries(NAMES, st.integers(), max_size=2),
        "not_before": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "outcome": st.sampled_from(["done", "failed", "cancelled"]),
    },
)
NEW = st.builds(
    NewEvent,
    run=st.just("r1"),
    kind=st.sampled_from(Kind),
    lane=st.sampled_from(["", "seoul", "busan"]),
    step=NAMES,
    node=st.sampled_from(["", "n1", "n2"]),
    data=DATA,
)


def link(new: list[NewEvent]) -> list[Event]:
    """Return *new* as a chain."""
    events: list[Event] = []
    for number, event in enumerate(new, start=1):
        prev = events[-1].hash if events else ""
        events.append(chained(event, n=number, at=BEGIN + timedelta(seconds=number), prev=prev))
    return events


CHAINS = st.lists(NEW, max_size=30).map(link)


@given(events=CHAINS, data=st.data())
def test_fold_in_two_parts_is_fold_in_one(events: list[Event], data: st.DataObject) -> None:
    """fold(a + b) == fold(b, onto=fold(a)), wherever the cut is."""
    cut = data.draw(st.integers(0, len(events)))
    assert fold(events) == fold(events[cut:], onto=fold(events[:cut]))


@given(events=CHAINS)
def test_fold_leaves_the_state_it_was_put_onto_as_it_was(events: list[Event]) -> None:
    """A state that was handed out never changes under its reader."""
    half = len(events) // 2
    first, same = fold(events[:half]), fold(events[:half])
    fold(events[half:], onto=first)
    assert first == same


@given(events=CHAINS)
def test_nothing_is_done_that_no_event_called_done(events: list[Event]) -> None:
    """What need not be sent again was done, excused, or passed."""
    told = {(event.lane, event.step) for event in events if event.kind in {Kind.STEP_DONE, Kind.GATE_PASSED}}
    told |= {(event.lane, event.step) for event in events if event.kind is Kind.BARRIER_PASSED}
    told |= {
        (event.lane, step)
        for event in events
        if event.kind is Kind.BARRIER_PASSED
        for step in event.data.get("excused", ())
    }
    state: RunState = fold(events)
    assert {(lane.name, one) for lane in state.lanes.values() for one in done_ids(lane)} <= told


@given(events=CHAINS.filter(lambda events: len(events) > 1), data=st.data())
def test_an_event_taken_out_before_the_end_is_missed(events: list[Event], data: st.DataObject) -> None:
    """A whole chain is whole; with one event less (but the last) it is not."""
    assert verify(events) == ()
    gone = data.draw(st.integers(0, len(events) - 2))
    assert verify(events[:gone] + events[gone + 1 :]) != ()
