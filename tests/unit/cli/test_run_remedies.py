"""What a person is told to do next: with the run's id, and fit for how the run stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from api.cli import run_text
from api.cli.following import line_of
from api.run_view import LaneView, PartView, RunView, Waiting
from workflows.journal import Event, Kind

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ERROR = {"text": "it went wrong", "remedy": "Mend it, then `certbridge runs resume RUN`."}
FAILED = PartView(id="seoul/cms1/remove", kind="step", title="cms1 leaves", status="failed", node="cms1", error=ERROR)
STOPPED = LaneView(name="seoul", status="stopped", reason="", moves=False, parts=(FAILED,))
RUN = RunView(
    run="r1",
    kind="database",
    fleet="test",
    digest="",
    requested_by="ann",
    created_at=NOON,
    closed_at=None,
    outcome="open",
    status="stopped",
    lanes=(STOPPED,),
)
OPEN_GATE = Waiting(gate="g", name="g", on="approval", since=NOON, who="anyone", people=True)
VOIDED = replace(STOPPED, status="waiting", parts=(replace(FAILED, status="undone"),), waiting=OPEN_GATE)


def told(run: RunView, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what `runs watch` says at its end of what to do."""
    run_text.show_end(run)
    return [line.strip() for line in capsys.readouterr().out.splitlines() if "→" in line or line.startswith("next: ")]


def test_a_remedy_names_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to look for the id."""
    assert told(RUN, capsys) == [
        "→ Mend it, then `certbridge runs resume r1`.",
        "next: mend the cause, then `certbridge runs resume r1`",
    ]


def test_why_a_lane_stopped_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason of the lane repeats what its step says; other reasons stay."""
    lane = replace(STOPPED, reason="cms1 leaves: it went wrong\nann rejected go: no")
    run_text.show_end(replace(RUN, lanes=(lane,)))
    shown = capsys.readouterr().out
    assert shown.count("it went wrong") == 1
    assert "ann rejected go: no" in shown


@pytest.mark.parametrize(("outcome", "status"), [("cancelled", "cancelled"), ("open", "cancelled"), ("failed", "done")])
def test_what_is_over_is_not_to_be_resumed(outcome: str, status: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its replies and the lines by hand are what is left."""
    (line,) = told(replace(RUN, outcome=outcome, lanes=(replace(STOPPED, status=status),)), capsys)
    assert line == (
        "→ This run is over; `certbridge runs report r1` has every reply; "
        "`certbridge runs runbook r1` has the lines by hand."
    )


def test_at_a_voided_gate_people_look_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is to be resumed: the gate is open."""
    assert told(replace(RUN, lanes=(VOIDED,)), capsys) == [
        "→ Look at it again and approve or reject: `certbridge gates show r1`.",
        "next: look at it again and approve or reject: `certbridge gates show r1`",
    ]


def test_a_paused_run_has_no_cause_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    """A person held it, a person lets it go on."""
    paused = LaneView(name="seoul", status="paused", reason="", moves=False, parts=())
    assert told(replace(RUN, lanes=(paused,)), capsys) == ["next: `certbridge runs resume r1`"]


@pytest.mark.parametrize(
    ("actor", "words"), [("bob", "after its rejection"), ("engine", "the earlier approval is void")]
)
def test_a_gate_that_is_open_again_says_why(actor: str, words: str) -> None:
    """A rejection was no approval, so none is void."""
    data = {"again": "the lane was resumed"}
    event = Event(
        run="r1", kind=Kind.GATE_OPENED, lane="seoul", step="g", actor=actor, data=data, n=1, at=NOON, prev="", hash=""
    )
    assert f"gate opened again, {words}" in line_of(event)
