"""What those who follow a run are told of operations that take long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from api.cli.following import Waits, line_of
from api.cli.run_text import lines
from api.run_view import LaneView, PartView, RunView
from workflows.journal import Event, Kind

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
DATA = {
    "operation": "join",
    "since": "",
    "elapsed_s": 37.4,
    "usual_s": [30, 900],
    "status": "Connected Replica ( Sync in progress )",
}
TEXT = "join on cms2: 37 s so far (usually 30 to 900 s); the node says: Connected Replica ( Sync in progress )"


def event(kind: Kind = Kind.STEP_WAITING, *, after_s: float = 0, **data: object) -> Event:
    """Return an event of the step that joins cms2."""
    at = NOON + timedelta(seconds=after_s)
    return Event(
        run="r", kind=kind, lane="seoul", step="seoul/cms2/join", node="cms2", data=data, n=1, at=at, prev="", hash=""
    )


def waiting(after_s: float, **changes: object) -> Event:
    """Return the event of a look that found the operation still under way."""
    return event(after_s=after_s, data={**DATA, **changes})


def test_a_wait_is_told_with_time_usual_time_and_the_word_of_the_node():
    """One line says how long it has taken, how long it usually takes, and what the node says."""
    assert Waits().news(waiting(0)) == f"12:00:00 seoul/cms2/join: {TEXT}"


def test_waits_are_told_when_the_node_says_something_else_and_once_a_minute():
    """Every look is in the journal, but only news is worth a line."""
    waits = Waits()
    told = [bool(waits.news(waiting(after_s))) for after_s in (0, 20, 40, 60, 80)]
    assert told == [True, False, False, True, False]
    assert waits.news(waiting(90, status="In Sync"))
    assert not waits.news(waiting(95, status="In Sync", elapsed_s=50.0))


def test_a_silent_node_is_said_to_be_silent():
    """It may be rebooting; since when is what people want to know."""
    said = Waits().news(waiting(0, silent_since=NOON.isoformat(), status="No route to host."))
    assert said.endswith("the node does not answer since 2026-11-26 12:00:00 UTC (No route to host.)")


def test_a_wait_without_an_operation_is_not_told():
    """A step that goes back for fresh backups says so by the event that opens them again."""
    assert Waits().news(event(data={"why": "a backup is old"})) == ""
    reopened = event(Kind.STEPS_REOPENED, steps=["seoul/cms1/backup"], reason="a backup is older than 30 minutes")
    assert line_of(reopened) == "12:00:00 seoul/cms2/join: steps reopened (a backup is older than 30 minutes)"


def test_tree_shows_an_operation_under_way_below_its_step():
    """Both in `runs show` and on the live screen, while it waits and while somebody looks."""
    for status in ("waiting", "running"):
        shown = list(lines(view_of(part(status, data=DATA)), short=True))
        assert ("        ", (TEXT, "cyan")) in shown


def test_tree_says_how_long_a_step_usually_takes():
    """Before the first look is over, the usual time is all there is to tell."""
    shown = "".join(
        span if isinstance(span, str) else span[0] for line in lines(view_of(part("running"))) for span in line
    )
    assert "(usually 30 to 900 s)" in shown


def test_tree_counts_an_operation_from_its_line_to_its_end():
    """It was followed in several looks; the last of them is not how long it took."""
    one = replace(part("done", data={"took_s": 750.0}), ended_at=NOON + timedelta(seconds=750))
    shown = "".join(span if isinstance(span, str) else span[0] for line in lines(view_of(one)) for span in line)
    assert "cms2: joins cms1  12:00:00 12 min" in shown


def part(status: str, data: dict[str, object] | None = None) -> PartView:
    """Return the step that joins cms2."""
    return PartView(
        id="seoul/cms2/join",
        kind="step",
        title="cms2: joins cms1",
        status=status,
        stage=740,
        node="cms2",
        started_at=NOON,
        data=data or {},
        usual_s=(30, 900),
    )


def view_of(one: PartView) -> RunView:
    """Return a run with this one step."""
    lane = LaneView(name="seoul", status="running", reason="", moves=True, parts=(one,))
    return RunView(
        run="r",
        kind="database",
        fleet="demo",
        digest="d",
        requested_by="ann",
        created_at=NOON,
        closed_at=None,
        outcome="open",
        status="running",
        lanes=(lane,),
    )
