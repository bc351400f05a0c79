"""Fold: the state of a run is what its events add up to. Pure: no database, no clock.

Law: `fold(a + b) == fold(b, onto=fold(a))`, so a state may be kept and carried on when more events come.
Pages, reports and the canvas read states; only events are ever written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from workflows.journal.events import Event, Kind

LaneStatus = Literal["ready", "running", "waiting", "stopped", "paused", "cancelled", "done"]
StepStatus = Literal["running", "done", "failed", "waiting", "parked", "undone"]
GateStatus = Literal["open", "approved", "rejected", "passed"]
Outcome = Literal["open", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """One step, as its last attempt left it.

    `error` is {"code", "text", "remedy"} of the last failure; `lines` are (line number, state) pairs, state being
    intent | ok | refused | unknown. A line whose outcome never came is unknown as soon as the step is tried again.
    """

    id: str
    node: str = ""
    status: StepStatus = "running"
    attempts: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    lines: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateState:
    """One gate: what is decided on (`digest`, `summary`), and who decided what when.

    `votes` are the approvals so far, [{"name", "stage", "at", "reason"}]; `expires_at` is the end of the clock that
    runs: that of the people while it is open, that of the approval while it is approved.
    """

    id: str
    name: str = ""
    status: GateStatus = "open"
    digest: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    opened_at: datetime | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
    reason: str = ""
    not_before: datetime | None = None
    expires_at: datetime | None = None
    votes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """One lane. `excused` are steps that a barrier let go within the fail limit; "waiting" means: at a gate.

    `delivered_by` says who brought the certificate of a wish, by wish id.
    """

    name: str
    generation: int = 0
    status: LaneStatus = "ready"
    reason: str = ""
    steps: Mapping[str, StepState] = field(default_factory=dict)
    gates: Mapping[str, GateState] = field(default_factory=dict)
    barriers: frozenset[str] = frozenset()
    excused: frozenset[str] = frozenset()
    certificates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    delivered_by: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """One run and its lanes; `n` is the number of the last event that went in.

    `planned_by` made the plan that `requested_by` started; in runs of old they are one.
    """

    run: str = ""
    kind: str = ""
    digest: str = ""
    fleet: str = ""
    requested_by: str = ""
    planned_by: str = ""
    created_at: datetime | None = None
    lanes: Mapping[str, LaneState] = field(default_factory=dict)
    outcome: Outcome = "open"
    closed_at: datetime | None = None
    n: int = 0


def done_ids(lane: LaneState) -> frozenset[str]:
    """Return the ids that need not be sent again: done or excused steps, passed barriers, passed gates."""
    steps = {step.id for step in lane.steps.values() if step.status == "done"}
    gates = {gate.id for gate in lane.gates.values() if gate.status == "passed"}
    return frozenset(steps | gates) | lane.barriers | lane.excused


def fold(events: Iterable[Event], onto: RunState | None = None) -> RunState:
    """Return the state after *events*, which follow the ones that *onto* was made from."""
    state = onto or RunState()
    lanes = dict(state.lanes)
    # Mutable copies of what the events touch, made once each: a run has tens of thousands of events.
    opened: dict[str, tuple[dict[str, StepState], dict[str, GateState]]] = {}
    for event in events:
        state = _on_run(state, event, lanes)
        if event.lane:
            lane = lanes.get(event.lane) or LaneState(name=event.lane)
            if event.lane not in opened:
                opened[event.lane] = (dict(lane.steps), dict(lane.gates))
            steps, gates = opened[event.lane]
            if event.kind in _STEPS:
                before = steps.get(event.step) or StepState(id=event.step)
                steps[event.step] = _STEPS[event.kind](before, event)
            if event.kind in {Kind.PUT_BACK, Kind.ROLLBACK_FAILED, Kind.STEPS_REOPENED}:
                _undo(steps, event)
            if event.kind in _GATES:
                at_gate = gates.get(event.step) or GateState(id=event.step)
                gates[event.step] = _GATES[event.kind](at_gate, event)
            lanes[event.lane] = _on_lane(lane, event, gates)
    for name, (steps, gates) in opened.items():
        lanes[name] = replace(lanes[name], steps=steps, gates=gates)
    return replace(state, lanes=lanes)


def _undo(steps: dict[str, StepState], event: Event) -> None:
    for step in event.data.get("steps", ()):
        if event.kind is Kind.STEPS_REOPENED and step not in steps:
            continue  # a barrier or a gate, or nobody was on it yet
        undone = replace(steps.get(step) or StepState(id=step), status="undone")
        # Lines of a failed rollback stay to be seen: the node may stand anywhere between.
        steps[step] = replace(undone, lines=()) if event.kind is Kind.PUT_BACK else undone


def _on_run(state: RunState, event: Event, lanes: dict[str, LaneState]) -> RunState:
    if event.kind is Kind.RUN_CREATED:
        for name in event.data.get("lanes", ()):
            lanes.setdefault(name, LaneState(name=name))
        named = {name: str(event.data.get(name, "")) for name in ("kind", "digest", "fleet", "requested_by")}
        named["planned_by"] = str(event.data.get("planned_by") or named["requested_by"])
        return replace(state, run=event.run, created_at=event.at, n=event.n, **named)  # type: ignore[arg-type]
    if event.kind is Kind.RUN_CLOSED:
        return replace(state, outcome=event.data.get("outcome", "done"), closed_at=event.at, n=event.n)
    return replace(state, n=event.n)


def _on_lane(lane: LaneState, event: Event, gates: Mapping[str, GateState]) -> LaneState:
    data = event.data
    if event.kind is Kind.LANE_SENT:
        sent = replace(lane, generation=data.get("generation", lane.generation))
        # A lane that is paused or cancelled stays so: it was sent for a step that had begun, and goes on to its end.
        return sent if lane.status in {"paused", "cancelled"} else replace(sent, status="running", reason="")
    if event.kind is Kind.LANE_RESUMED:
        at_gate = any(gate.status != "passed" for gate in gates.values())
        return replace(lane, status="waiting" if at_gate else "ready", reason="")
    if event.kind is Kind.BARRIER_PASSED:
        excused = lane.excused | frozenset(data.get("excused", ()))
        return replace(lane, barriers=lane.barriers | {event.step}, excused=excused)
    if event.kind is Kind.STEPS_REOPENED:
        return replace(lane, barriers=lane.barriers - frozenset(data.get("steps", ())))
    if event.kind is Kind.CERTIFICATES_DELIVERED:
        came = data.get("certificates", {})
        by = {**lane.delivered_by, **dict.fromkeys(came, event.actor)}
        return replace(lane, certificates={**lane.certificates, **came}, delivered_by=by)
    if event.kind is Kind.GATE_OPENED and data.get("flag"):
        return lane  # a gate of a lane that is paused, stopped or over was opened again: the lane stays so
    status = _LANE_STATUS.get(event.kind)
    return lane if status is None else replace(lane, status=status, reason=str(data.get("reason", "")))


_LANE_STATUS: Mapping[Kind, LaneStatus] = {
    Kind.GATE_OPENED: "waiting",
    Kind.GATE_PASSED: "ready",
    Kind.LANE_STOPPED: "stopped",
    Kind.LANE_PAUSED: "paused",
    Kind.LANE_CANCELLED: "cancelled",
    Kind.LANE_DONE: "done",
}


def _claimed(step: StepState, event: Event) -> StepState:
    lines = tuple((number, "unknown" if state == "intent" else state) for number, state in step.lines)
    return replace(
        step,
        node=event.node or step.node,
        status="running",
        attempts=event.data.get("attempt", step.attempts + 1),
        started_at=event.at,
        ended_at=None,
        error=None,
        lines=lines,
    )


def _line(step: StepState, event: Event) -> StepState:
    number = int(event.data.get("line", 0))
    state = "intent" if event.kind is Kind.INTENT else str(event.data.get("state", "unknown"))
    lines = dict(step.lines)
    lines[number] = state
    return replace(step, lines=tuple(lines.items()))


def _ended(status: StepStatus) -> Callable[[StepState, Event], StepState]:
    def end(step: StepState, event: Event) -> StepState:
        return replace(
            step,
            node=event.node or step.node,
            status=status,
            ended_at=event.at,
            data=event.data.get("data", {}),
            error=event.data.get("error"),
        )

    return end


_STEPS: Mapping[Kind, Callable[[StepState, Event], StepState]] = {
    Kind.STEP_CLAIMED: _claimed,
    Kind.INTENT: _line,
    Kind.OUTCOME: _line,
    Kind.STEP_DONE: _ended("done"),
    Kind.STEP_FAILED: _ended("failed"),
    Kind.STEP_WAITING: _ended("waiting"),
    Kind.STEP_PARKED: _ended("parked"),
}


def _gate_opened(gate: GateState, event: Event) -> GateState:
    # A gate that is opened again forgets the earlier decision; the events still tell of it.
    data = event.data
    return GateState(
        id=gate.id,
        name=data.get("name", gate.name),
        digest=data.get("digest", ""),
        summary=data.get("summary", {}),
        opened_at=event.at,
        expires_at=_time(data.get("expires_at")),
    )


def _voted(gate: GateState, event: Event) -> GateState:
    said = {"name": event.actor, "at": event.at, **{name: event.data.get(name) for name in ("stage", "reason")}}
    return replace(gate, votes=(*gate.votes, said))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _decided(status: GateStatus) -> Callable[[GateState, Event], GateState]:
    def decide(gate: GateState, event: Event) -> GateState:
        return replace(
            _voted(gate, event) if status == "approved" else gate,
            status=status,
            decided_by=event.actor,
            decided_at=event.at,
            reason=event.data.get("reason", ""),
            not_before=_time(event.data.get("not_before")),
            expires_at=_time(event.data.get("expires_at")),
        )

    return decide


_GATES: Mapping[Kind, Callable[[GateState, Event], GateState]] = {
    Kind.GATE_OPENED: _gate_opened,
    Kind.GATE_VOTED: _voted,
    Kind.GATE_APPROVED: _decided("approved"),
    Kind.GATE_REJECTED: _decided("rejected"),
    Kind.GATE_PASSED: lambda gate, _: replace(gate, status="passed", expires_at=None),
}
