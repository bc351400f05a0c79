"""A law of the fold: what was reopened is not done until an event says so anew."""

from hypothesis import given

from tests.property.test_fold import CHAINS
from workflows.journal.events import Event, Kind
from workflows.journal.fold import done_ids, fold


@given(events=CHAINS)
def test_what_was_reopened_is_done_only_by_a_later_event(events: list[Event]) -> None:
    """Steps and barriers alike. Gates are opened by an event of their own, and databases excuse nobody."""
    open_again: set[tuple[str, str]] = set()
    for event in events:
        if event.kind is Kind.STEPS_REOPENED:
            open_again |= {(event.lane, step) for step in event.data.get("steps", ())}
        if event.kind in {Kind.STEP_DONE, Kind.BARRIER_PASSED}:
            open_again -= {(event.lane, event.step)}
    for lane in fold(events).lanes.values():
        gates = {gate.id for gate in lane.gates.values()}
        assert not {(lane.name, one) for one in done_ids(lane) - gates - lane.excused} & open_again
