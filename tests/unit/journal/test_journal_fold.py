"""States are what events add up to."""

from datetime import UTC, datetime, timedelta
from typing import Any

from workflows.journal.events import Event, Kind, NewEvent, chained
from workflows.journal.fold import RunState, done_ids, fold

BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def story(*said: tuple[Kind, str, dict[str, Any]]) -> list[Event]:
    """Return the events of lane "seoul" of a run that ann asked for; each is (kind, step, data)."""
    created = {"kind": "renewal", "fleet": "demo", "digest": "d", "requested_by": "ann", "lanes": ["seoul", "busan"]}
    events = [chained(NewEvent(run="r1", kind=Kind.RUN_CREATED, data=created), n=1, at=BEGIN, prev="")]
    for number, (kind, step, data) in enumerate(said, start=2):
        event = NewEvent(run="r1", kind=kind, lane="seoul", step=step, node="a", actor="bob", data=data)
        events.append(chained(event, n=number, at=BEGIN + timedelta(seconds=number), prev=events[-1].hash))
    return events


def test_no_events_are_an_empty_state() -> None:
    """Nothing happened: nothing is known."""
    assert fold([]) == RunState()


def test_created_run_names_its_lanes() -> None:
    """Lanes are there, ready, before anything was sent."""
    state = fold(story())
    assert (state.run, state.kind, state.fleet, state.requested_by) == ("r1", "renewal", "demo", "ann")
    assert {name: lane.status for name, lane in state.lanes.items()} == {"seoul": "ready", "busan": "ready"}
    assert state.outcome == "open"


def test_step_tells_its_attempts_lines_and_error() -> None:
    """A line whose outcome never came is unknown once the step is tried again; a failure carries its remedy."""
    error = {"code": "CommandRejected", "text": "FAILURE", "remedy": "look"}
    state = fold(
        story(
            (Kind.LANE_SENT, "", {"generation": 1}),
            (Kind.STEP_CLAIMED, "s1", {"attempt": 1}),
            (Kind.INTENT, "s1", {"line": 1}),
            (Kind.OUTCOME, "s1", {"line": 1, "state": "ok"}),
            (Kind.INTENT, "s1", {"line": 2}),
            (Kind.LANE_SENT, "", {"generation": 2}),
            (Kind.STEP_CLAIMED, "s1", {"attempt": 2}),
            (Kind.STEP_FAILED, "s1", {"data": {"seen": 1}, "error": error}),
        )
    )
    lane = state.lanes["seoul"]
    step = lane.steps["s1"]
    assert (lane.generation, lane.status) == (2, "running")
    assert (step.status, step.attempts, step.node, step.error, step.data) == ("failed", 2, "a", error, {"seen": 1})
    assert step.lines == ((1, "ok"), (2, "unknown"))
    assert step.ended_at is not None
    assert step.started_at is not None
    assert step.ended_at - step.started_at == timedelta(seconds=1)


def test_done_ids_hold_what_need_not_be_sent_again() -> None:
    """Done and excused steps, passed barriers and gates; not a failed step, not an open gate."""
    state = fold(
        story(
            (Kind.STEP_DONE, "s1", {}),
            (Kind.STEP_FAILED, "s2", {}),
            (Kind.STEP_FAILED, "s3", {}),
            (Kind.BARRIER_PASSED, "b1", {"excused": ["s2"]}),
            (Kind.GATE_OPENED, "g1", {"digest": "x"}),
            (Kind.GATE_APPROVED, "g1", {}),
            (Kind.GATE_PASSED, "g1", {}),
            (Kind.GATE_OPENED, "g2", {"digest": "y"}),
        )
    )
    assert done_ids(state.lanes["seoul"]) == frozenset({"s1", "s2", "b1", "g1"})


def test_gate_remembers_the_decision_until_it_is_opened_again() -> None:
    """Approval names who and when; opened again with another digest it is void."""
    tomorrow = BEGIN + timedelta(days=1)
    approved = (
        (Kind.GATE_OPENED, "g1", {"name": "go", "digest": "x", "summary": {"restarts": 2}}),
        (Kind.GATE_APPROVED, "g1", {"digest": "x", "reason": "fine", "not_before": tomorrow.isoformat()}),
    )
    lane = fold(story(*approved)).lanes["seoul"]
    gate = lane.gates["g1"]
    assert (lane.status, gate.name, gate.status, gate.decided_by) == ("waiting", "go", "approved", "bob")
    assert (gate.reason, gate.not_before, gate.summary) == ("fine", tomorrow, {"restarts": 2})
    again = fold(story(*approved, (Kind.GATE_OPENED, "g1", {"digest": "y"}))).lanes["seoul"].gates["g1"]
    assert (again.status, again.digest, again.decided_by, again.not_before, again.name) == ("open", "y", "", None, "go")


def test_lane_resumed_at_an_open_gate_waits_again() -> None:
    """Pause and resume at a gate leave the lane at the gate; elsewhere it is ready."""
    pause = (Kind.LANE_PAUSED, "", {"reason": "lunch"})
    at_gate = story((Kind.GATE_OPENED, "g1", {}), pause, (Kind.LANE_RESUMED, "", {}))
    stopped = story((Kind.LANE_STOPPED, "", {"reason": "two nodes failed"}))
    assert fold(at_gate).lanes["seoul"].status == "waiting"
    assert fold(stopped).lanes["seoul"].reason == "two nodes failed"
    assert fold([*stopped, *story((Kind.LANE_RESUMED, "", {}))[1:]]).lanes["seoul"].status == "ready"


def test_certificates_of_several_deliveries_are_merged() -> None:
    """A second delivery adds to the first and replaces what it names again."""
    state = fold(
        story(
            (Kind.CERTIFICATES_DELIVERED, "", {"certificates": {"w1": {"leaf": "1"}, "w2": {"leaf": "2"}}}),
            (Kind.CERTIFICATES_DELIVERED, "", {"certificates": {"w2": {"leaf": "3"}}}),
        )
    )
    assert state.lanes["seoul"].certificates == {"w1": {"leaf": "1"}, "w2": {"leaf": "3"}}


def test_reopened_parts_are_to_be_gone_through_anew() -> None:
    """Steps are undone and keep what they tell; barriers hold no more; what nobody was on yet stays unknown."""
    lane = fold(
        story(
            (Kind.STEP_CLAIMED, "s1", {"attempt": 1}),
            (Kind.INTENT, "s1", {"line": 0}),
            (Kind.OUTCOME, "s1", {"line": 0, "state": "ok"}),
            (Kind.STEP_DONE, "s1", {"data": {"backup": "a.bak"}}),
            (Kind.STEP_DONE, "s2", {}),
            (Kind.BARRIER_PASSED, "b1", {}),
            (Kind.STEPS_REOPENED, "", {"steps": ["s1", "b1", "s9"], "reason": "too old"}),
        )
    ).lanes["seoul"]
    assert (lane.steps["s1"].status, lane.steps["s1"].lines, lane.steps["s1"].data) == (
        "undone",
        ((0, "ok"),),
        {"backup": "a.bak"},
    )
    assert (sorted(lane.steps), done_ids(lane)) == (["s1", "s2"], frozenset({"s2"}))


def test_reopened_parts_may_be_done_again() -> None:
    """The second time counts as the first did."""
    again = (
        (Kind.STEP_DONE, "s1", {}),
        (Kind.BARRIER_PASSED, "b1", {}),
        (Kind.STEPS_REOPENED, "", {"steps": ["s1", "b1"]}),
        (Kind.STEP_DONE, "s1", {}),
        (Kind.BARRIER_PASSED, "b1", {}),
    )
    assert done_ids(fold(story(*again)).lanes["seoul"]) == frozenset({"s1", "b1"})


def test_a_voided_approval_waits_at_its_gate_and_says_why() -> None:
    """The lane was stopped by the reading, and stands at the gate again in the same commit."""
    lane = fold(
        story(
            (Kind.GATE_OPENED, "g1", {"name": "point-of-no-return", "digest": "x"}),
            (Kind.GATE_APPROVED, "g1", {}),
            (Kind.GATE_PASSED, "g1", {}),
            (Kind.STEP_FAILED, "s1", {"error": {"code": "Drifted", "text": "another primary", "remedy": ""}}),
            (Kind.LANE_STOPPED, "", {"reason": "another primary"}),
            (Kind.STEPS_REOPENED, "", {"steps": ["g1", "s1", "b1"]}),
            (Kind.GATE_OPENED, "g1", {"name": "point-of-no-return", "digest": "x", "reason": "another primary"}),
        )
    ).lanes["seoul"]
    gate = lane.gates["g1"]
    assert (lane.status, lane.reason, lane.steps["s1"].status) == ("waiting", "another primary", "undone")
    assert (gate.status, gate.digest, gate.decided_by, done_ids(lane)) == ("open", "x", "", frozenset())
