"""A run as people see it: the plan's tree with the state of each part, and what the run waits for, in words.

Pure: plan and folded state in, frozen values out. The command line draws them, the report and the pages too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workflows import outage
from workflows.actions import barred_at
from workflows.gate import SIGN
from workflows.inventory import approval_of
from workflows.journal import Event, GateState, LaneState, RunState
from workflows.papers import wishes_of
from workflows.plan import DATABASE, Barrier, Gate, Lane, Plan, Step, walk

MANUAL = "manual"
KeptParts = tuple[LaneState, "tuple[PartView, ...]"]
"""A lane as it was, and the parts that were made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """A step, barrier or gate. status: open, running, done, failed, waiting, parked, excused, approved, rejected.

    `usual_s` says from and to how many seconds a step that is followed for long usually takes, () for all others.
    """

    id: str
    kind: str
    title: str
    status: str
    stage: int = 0
    node: str = ""
    attempts: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: Mapping[str, str] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    usual_s: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """How long a node's database (the whole cluster's where `node` is "") is away: predicted, and measured when over.

    `predicted_s` is None where it lasts until a cluster is built (a dissolution). `out_since` is set while a node that
    began to leave is not in the cluster again.
    """

    lane: str
    node: str
    predicted_s: outage.Span | None
    measured_s: float | None
    out_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a lane waits for: in words, since when, who may decide; `people` is False when it goes on by itself."""

    gate: str
    name: str
    on: str
    since: datetime | None
    who: str
    people: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """A lane; `moves` while it goes on without anybody."""

    name: str
    status: str
    reason: str
    moves: bool
    parts: tuple[PartView, ...]
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run. status: done, failed, cancelled, or what its lanes are at: running, waiting, stopped, paused."""

    run: str
    kind: str
    fleet: str
    digest: str
    requested_by: str
    created_at: datetime | None
    closed_at: datetime | None
    outcome: str
    status: str
    lanes: tuple[LaneView, ...]
    notices: tuple[str, ...] = ()
    away: tuple[Away, ...] = ()
    purpose: str = ""
    """What the plan is for, as `Plan.purpose`."""


def view(
    plan: Plan,
    state: RunState,
    *,
    now: datetime,
    events: Sequence[Event] = (),
    only: Collection[str] | None = None,
    kept: MutableMapping[str, KeptParts] | None = None,
) -> RunView:
    """Return what the run of *plan* looks like at *now*; outages are measured from *events*.

    *only* names the lanes that are shown (None: all); `status` is that of the whole run all the same. *kept* holds the
    parts of lanes from one look at this run to the next: those of a lane that did not move are not made again.
    """
    kept = {} if kept is None else kept
    every = [_lane(plan, lane, state, now, kept if only is None or lane.name in only else None) for lane in plan.lanes]
    lanes = tuple(lane for lane in every if only is None or lane.name in only)
    return RunView(
        run=state.run,
        kind=state.kind,
        fleet=state.fleet,
        digest=state.digest,
        requested_by=state.requested_by,
        created_at=state.created_at,
        closed_at=state.closed_at,
        outcome=state.outcome,
        status=_status(state, every),
        lanes=lanes,
        notices=plan.notices,
        purpose=plan.purpose,
        away=tuple(one for one in _away(plan, state, events) if only is None or one.lane in only),
    )


def waiting_on(plan: Plan, state: RunState, lane: LaneState, gate: GateState, now: datetime) -> Waiting | None:
    """Return what an opened gate waits for, None once it was passed."""
    needs = plan.lane(lane.name).part(gate.id)
    text = needs.needs if isinstance(needs, Gate) else gate.name
    two_people = isinstance(needs, Gate) and needs.two_people
    four_eyes = bool(plan.fleet.get("four_eyes", True)) or two_people
    who = _who(plan, gate, barred_at(state, lane, gate.name) if four_eyes else ())
    if two_people and not plan.fleet.get("four_eyes", True):
        who += " (a second person must, since the primary was named by hand)"
    said = {"gate": gate.id, "name": gate.name}
    if gate.status == "open":
        return Waiting(on=text, since=gate.opened_at, who=who, people=True, **said)
    if gate.status == "rejected":
        return Waiting(
            on=f"a mended cause: {gate.decided_by} rejected it ({gate.reason})",
            since=gate.decided_at,
            who="whoever resumes the run",
            people=True,
            **said,
        )
    if gate.status != "approved":
        return None
    missing = _missing(plan, lane) if gate.name == SIGN else ()
    if missing:
        people = tuple(wish for wish in missing if _by_hand(plan, wish))
        what = f"{len(missing)} certificate{'s' if len(missing) > 1 else ''}: {', '.join(missing)}"
        return Waiting(
            on=what,
            since=gate.decided_at,
            who="whoever has the signed files (`gates deliver`)" if people else "the issuer",
            people=bool(people),
            **said,
        )
    if gate.not_before and gate.not_before > now:
        return Waiting(
            on=f"{gate.not_before:%Y-%m-%d %H:%M} UTC, as {gate.decided_by} said",
            since=gate.decided_at,
            who="nobody",
            people=True,
            **said,
        )
    return Waiting(on="the engine", since=gate.decided_at, who="nobody", people=False, **said)


def _who(plan: Plan, gate: GateState, barred: Collection[str]) -> str:
    """Return who may approve next: "anyone but ann", "the group pki, but not ann"; *barred* by the rule of the gate."""
    stages = approval_of(plan.fleet, gate.name).stages
    given = [vote["stage"] for vote in gate.votes]
    # A vote that does not count any more is not seen here; `gate_view.stages_of` sees it.
    group = next((one.group for number, one in enumerate(stages) if given.count(number) < one.needs), "")
    names = ", ".join(barred)
    if group:
        return f"the group {group}, but not {names}" if names else f"the group {group}"
    return f"anyone but {names}" if names else "anyone"


def _away(plan: Plan, state: RunState, events: Sequence[Event]) -> Iterator[Away]:
    for lane in plan.lanes if plan.kind == DATABASE else ():
        measured, still_out = outage.measured(lane, events), outage.still_out(lane, events)
        here = state.lanes.get(lane.name)
        ended = state.outcome != "open" or (here is not None and here.status == "cancelled")
        endless = dict.fromkeys(sorted(outage.until_built(lane)))
        spans: dict[str, outage.Span | None] = {**outage.predicted(lane), **endless}
        for node, span in spans.items():
            if ended and node not in measured and node not in still_out:
                continue  # it was never away, and will not be
            yield Away(
                lane=lane.name,
                node=node,
                predicted_s=span,
                measured_s=measured.get(node),
                out_since=still_out.get(node),
            )
        whole = outage.measured_cluster(lane, events)
        if not ended or whole is not None or (outage.dissolves(lane) and state.outcome == "done"):
            yield Away(
                lane=lane.name,
                node="",
                predicted_s=None if outage.dissolves(lane) else outage.predicted_cluster(lane),
                measured_s=whole,
            )


def _lane(
    plan: Plan, lane: Lane, state: RunState, now: datetime, kept: MutableMapping[str, KeptParts] | None
) -> LaneView:
    here = state.lanes.get(lane.name) or LaneState(name=lane.name)
    waits = [found for gate in here.gates.values() if (found := waiting_on(plan, state, here, gate, now)) is not None]
    waiting = waits[-1] if waits and here.status in {"waiting", "ready", "running", "stopped"} else None
    moves = here.status in {"ready", "running"} or (here.status == "waiting" and not (waiting and waiting.people))
    return LaneView(
        name=lane.name,
        status=here.status,
        reason=here.reason,
        moves=moves and state.outcome == "open",
        parts=() if kept is None else _parts(lane, here, kept),
        waiting=waiting,
    )


def _parts(lane: Lane, here: LaneState, kept: MutableMapping[str, KeptParts]) -> tuple[PartView, ...]:
    before = kept.get(lane.name)
    # A fold leaves lanes alone that no event was about, so it is the same value, not only an equal one.
    if before is None or before[0] is not here:
        before = kept[lane.name] = (here, tuple(_part(leaf, here) for leaf in walk(lane.tree)))
    return before[1]


def _part(leaf: Step | Barrier | Gate, lane: LaneState) -> PartView:
    if isinstance(leaf, Barrier):
        status = "done" if leaf.id in lane.barriers else "open"
        return PartView(id=leaf.id, kind="barrier", title=leaf.holds, status=status)
    if isinstance(leaf, Gate):
        gate = lane.gates.get(leaf.id)
        status = {None: "open", "open": "waiting", "passed": "done"}.get(gate.status if gate else None, "")
        return PartView(
            id=leaf.id,
            kind="gate",
            title=leaf.needs,
            status=status or (gate.status if gate else "open"),
            started_at=gate.opened_at if gate else None,
            ended_at=gate.decided_at if gate else None,
            data={"decided_by": gate.decided_by, "reason": gate.reason} if gate and gate.decided_by else {},
        )
    step = lane.steps.get(leaf.id)
    said = {"id": leaf.id, "kind": "step", "title": leaf.title, "stage": leaf.stage, "node": leaf.node}
    if step is None:
        return PartView(status="excused" if leaf.id in lane.excused else "open", **said)  # type: ignore[arg-type]
    return PartView(
        **said,  # type: ignore[arg-type]
        status="excused" if leaf.id in lane.excused and step.status not in {"failed", "parked"} else step.status,
        attempts=step.attempts,
        started_at=step.started_at,
        ended_at=step.ended_at,
        error=step.error,
        data=step.data,
        usual_s=tuple(leaf.params.get("usual_s", ())),
    )


def _status(state: RunState, lanes: Sequence[LaneView]) -> str:
    if state.outcome != "open":
        return state.outcome
    if any(lane.moves for lane in lanes):
        return "running"
    found = {lane.status for lane in lanes}
    return next((one for one in ("waiting", "stopped", "paused", "cancelled") if one in found), "running")


def _missing(plan: Plan, lane: LaneState) -> tuple[str, ...]:
    return tuple(wish for wish in wishes_of(plan, lane.name, lane) if wish not in lane.certificates)


def _by_hand(plan: Plan, wish: str) -> bool:
    issuer = plan.wishes[wish].get("issuer", MANUAL)
    kinds = {one["name"]: one["kind"] for one in plan.fleet.get("issuers", ())}
    return bool(kinds.get(issuer, MANUAL) == MANUAL)
