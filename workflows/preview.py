"""What would come of resuming, pausing, cancelling or rolling back a run: shown before it happens. Pure.

What runs next, what is kept, what is left undone, and whether what people approved still holds. Command line and pages
show the same value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from workflows.gate import SIGN
from workflows.journal.fold import GateState, LaneState, RunState, done_ids
from workflows.papers import digest_of_gate, nodes_out, wishes_of
from workflows.plan import DATABASE, Gate, Lane, Plan, Step, remaining
from workflows.runbook import standing_lines
from workflows.runbook_back import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A gate that people have met, whether what they decided holds, and why (not)."""

    gate: str
    valid: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would come of *action*; all but `effect` and `approvals` are ids of steps, in the order of the plan.

    `would_run`: steps that run then, up to the next gate that people must decide (`stops_at`). `kept`: what is done
    and stays done. `left`: steps that would not run; after a resume, those behind `stops_at`, until it is decided.
    `untouched`: nodes of the run that a rollback leaves alone. `standing`: where a cancel leaves the clusters of a
    database run, in a sentence each.
    """

    action: str
    run: str
    lanes: tuple[str, ...]
    would_run: tuple[str, ...]
    kept: tuple[str, ...]
    left: tuple[str, ...]
    stops_at: tuple[str, ...]
    approvals: tuple[Approval, ...]
    effect: str
    untouched: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()


def resume(plan: Plan, state: RunState, *, lane: str = "") -> Preview:
    """Return what resuming *lane* (all lanes without one) of a run would do."""
    moved = [one for one in _lanes(plan, lane) if _can_resume(_here(state, one), state)]
    run: list[str] = []
    left: list[str] = []
    stops: list[str] = []
    for one in moved:
        here = _here(state, one)
        behind = False
        for leaf in remaining(one, _done(one, here)):
            behind = behind or (isinstance(leaf, Gate) and not _goes_through(plan, one, here, leaf, state))
            if isinstance(leaf, Step):
                (left if behind else run).append(leaf.id)
            elif behind and isinstance(leaf, Gate) and not _named(stops, one):
                stops.append(leaf.id)
    names = tuple(one.name for one in moved)
    if not names:
        over = state.outcome != "open"
        effect = f"Nothing: {'the run is over' if over else 'it moves already, or waits for people at a gate'}."
    else:
        effect = (
            f"Lane {', '.join(names)} goes on: {_count(run)}; what is done stays done. "
            "A step reads its server first and sends only what is missing."
        )
        if not run and stops:
            effect = f"Lane {', '.join(names)} goes on, and people decide at {', '.join(stops)} before anything runs."
        elif stops:
            effect += f" Then people decide at {', '.join(stops)}."
    return _preview("resume", plan, state, moved, would_run=run, left=left, stops_at=stops, effect=effect)


def pause(plan: Plan, state: RunState, *, lane: str = "", dead: Collection[str] = ()) -> Preview:
    """Return what pausing *lane* (all lanes without one) of a run would do."""
    moved = [one for one in _lanes(plan, lane) if _here(state, one).status in {"ready", "running", "waiting"}]
    moved = moved if state.outcome == "open" else []
    running, left = _border(moved, state, dead)
    effect = (
        f"Lane {', '.join(one.name for one in moved)} is held at its next step border: {_ending(running)}. "
        f"Nothing is put back; `certbridge runs resume {state.run}` lets it go on."
        if moved
        else "Nothing: it does not move."
    )
    return _preview("pause", plan, state, moved, would_run=running, left=left, effect=effect)


def cancel(plan: Plan, state: RunState, *, dead: Collection[str] = ()) -> Preview:
    """Return what cancelling a run would do."""
    moved = [one for one in plan.lanes if _here(state, one).status not in {"done", "cancelled"}]
    moved = moved if state.outcome == "open" else []
    running, left = _border(moved, state, dead)
    effect = (
        f"The run ends for good and its servers are free: {_ending(running)}, {_count(left)} never run. "
        f"Nothing is put back: {_left_behind(moved, state)}"
        if moved
        else "Nothing: the run is over."
    )
    return _preview("cancel", plan, state, moved, would_run=running, left=left, effect=effect, ended=True)


def rollback(plan: Plan, state: RunState, back: Plan) -> Preview:
    """Return what going back would do: *back* is the plan that was made for it."""
    moved = [lane for lane in plan.lanes if _here(state, lane).status not in {"done", "cancelled"}]
    steps = [step.id for lane in back.lanes for step in lane.steps()]
    gates = [gate.id for lane in back.lanes for gate in lane.gates()]
    ends = f"Run {state.run} ends for good; a" if state.outcome == "open" else "A"
    waits = f"waits for approval at {', '.join(gates)}" if gates else "waits for nobody"
    effect = (
        f"{ends} new run goes back on {', '.join(back.nodes())}: {_count(steps)}; it {waits}. "
        "New files that the run made stay on the servers, unused."
    )
    untouched = tuple(name for name in plan.nodes() if name and name not in back.nodes())
    _, left = _border(moved, state) if state.outcome == "open" else ([], [])
    return Preview(
        action="rollback",
        run=state.run,
        lanes=tuple(lane.name for lane in back.lanes),
        would_run=tuple(steps),
        kept=(),
        untouched=untouched,
        left=tuple(left),
        stops_at=tuple(gates),
        approvals=tuple(_approvals(plan, plan.lanes, state, ended=True)),
        effect=effect,
    )


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _preview(
    action: str,
    plan: Plan,
    state: RunState,
    moved: Sequence[Lane],
    *,
    would_run: Sequence[str],
    left: Sequence[str],
    effect: str,
    stops_at: Sequence[str] = (),
    ended: bool = False,
) -> Preview:
    kept = [step.id for lane in moved for step in lane.steps() if step.id in done_ids(_here(state, lane))]
    return Preview(
        action=action,
        run=state.run,
        lanes=tuple(lane.name for lane in moved),
        would_run=tuple(would_run),
        kept=tuple(kept),
        left=tuple(left),
        stops_at=tuple(stops_at),
        approvals=tuple(_approvals(plan, moved, state, ended=ended)),
        effect=effect,
        standing=_standing(plan, moved, state) if ended else (),
    )


def _standing(plan: Plan, moved: Sequence[Lane], state: RunState) -> tuple[str, ...]:
    """Return where the clusters of *moved* stand; () of a run that touches no cluster."""
    return standing_lines(replace(plan, lanes=tuple(moved)), state) if state.kind == DATABASE else ()


def _left_behind(moved: Sequence[Lane], state: RunState) -> str:
    """Return what a cancelled run leaves as it is, and what people can do about it."""
    if state.kind != DATABASE:
        return "services that use their new files go on using them."
    standings = [Standing.of(lane, _here(state, lane)) for lane in moved]
    outside = [node for one in standings for node in one.outside]
    if outside:
        stay = f"out of the database cluster, as far as the journal knows, and left so: {', '.join(outside)}."
    elif all(one.untouched for one in standings):
        return "no node was taken out of its cluster or into one."
    else:
        stay = "the nodes stay in the cluster, or out of it, as they are now."
    return (
        f"{stay} To bring them in, do not cancel: `certbridge runs resume {state.run}` goes on, "
        f"`certbridge runs rollback {state.run}` goes back (after a cancel too), "
        f"`certbridge runs runbook {state.run}` has the lines by hand."
    )


def _lanes(plan: Plan, lane: str) -> list[Lane]:
    return [one for one in plan.lanes if lane in {"", one.name}]


def _here(state: RunState, lane: Lane) -> LaneState:
    return state.lanes.get(lane.name) or LaneState(name=lane.name)


def _done(lane: Lane, here: LaneState) -> frozenset[str]:
    out = nodes_out(lane, here)
    return done_ids(here) | {step.id for step in lane.steps() if step.node in out}


def _can_resume(here: LaneState, state: RunState) -> bool:
    if state.outcome != "open" or here.status in {"done", "cancelled"}:
        return False
    if here.status in {"stopped", "paused"}:
        return True
    states = {step.status for step in here.steps.values()}
    # As `journal.lanes.resume_lane`: a lane that is at work, or waits for people, needs nobody to resume it.
    return here.status != "waiting" and bool(states & {"failed", "parked"}) and not states & {"running", "waiting"}


def _goes_through(plan: Plan, lane: Lane, here: LaneState, gate: Gate, state: RunState) -> bool:
    """Return whether the lane will not wait for people at *gate*."""
    at = here.gates.get(gate.id)
    if at is None or at.status not in {"approved", "passed"} or not _holds(plan, lane, here, gate, at, state):
        return False
    if gate.name != SIGN or at.status == "passed":
        return True
    return all(wish in here.certificates for wish in wishes_of(plan, lane.name, here))


def _holds(plan: Plan, lane: Lane, here: LaneState, gate: Gate, at: GateState, state: RunState) -> bool:
    # A gate that was voided once has a digest of its own, and remembers the one of what it shows.
    shown = at.summary.get("shown", at.digest)
    return bool(shown == digest_of_gate(plan, state.digest, lane.name, gate.name, here))


def _approvals(plan: Plan, lanes: Sequence[Lane], state: RunState, *, ended: bool) -> Iterator[Approval]:
    for lane in lanes:
        here = _here(state, lane)
        for gate in lane.gates():
            at = here.gates.get(gate.id)
            if at is None:
                continue
            valid, why = _judged(plan, lane, here, gate, at, state)
            if ended and at.status != "passed":
                valid, why = False, "it ends with the run; a new run is approved anew"
            yield Approval(gate=gate.id, valid=valid, why=why)


def _judged(plan: Plan, lane: Lane, here: LaneState, gate: Gate, at: GateState, state: RunState) -> tuple[bool, str]:
    if at.status == "open":
        return False, "nobody has decided yet"
    when = f"{at.decided_at:%Y-%m-%d %H:%M} UTC" if at.decided_at else "an unknown time"
    if at.status == "rejected":
        return False, f"{at.decided_by} rejected it ({at.reason}); a resume opens it again"
    if not _holds(plan, lane, here, gate, at, state):
        return False, f"what {at.decided_by} approved at {when} has changed since"
    through = "; the lane has gone through it" if at.status == "passed" else ""
    if at.not_before is not None and not through:
        through = f"; the lane goes through it from {at.not_before:%Y-%m-%d %H:%M} UTC on"
    return True, f"{at.decided_by} approved it at {when}, and nothing of what was approved has changed{through}"


def _border(lanes: Sequence[Lane], state: RunState, dead: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Return (steps that are at work now, steps that have not begun, *dead* ones among them)."""
    running: list[str] = []
    left: list[str] = []
    for lane in lanes:
        here = _here(state, lane)
        done = _done(lane, here)
        for step in (one for one in lane.steps() if one.id not in done):
            at = here.steps.get(step.id)
            # As `journal.lanes.begun`: what has sent a line goes on to its end.
            begun = at is not None and at.status == "waiting" and bool(at.lines) and state.kind != DATABASE
            working = at is not None and at.status == "running" and step.id not in dead
            (running if begun or working else left).append(step.id)
    return running, left


def _ending(running: Sequence[str]) -> str:
    return (
        f"{_count(running)} at work now {'goes' if len(running) == 1 else 'go'} on to the end"
        if running
        else ("no step is at work now")
    )


def _count(steps: Sequence[str]) -> str:
    return f"{len(steps)} step{'' if len(steps) == 1 else 's'}"


def _named(stops: Sequence[str], lane: Lane) -> bool:
    return any(one.partition("/")[0] == lane.name for one in stops)
