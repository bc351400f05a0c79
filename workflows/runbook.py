"""The runbook of a database run: where it stands, what is done, in doubt and next, and the way back that holds now.

A plain text, made anew from plan and journal at every event, so that a person with SSH alone can finish or go back when
the engine is gone (features.md idea 15). Each line to type says what it gives; what the server shows already is left
out. The forms of the lines are in `runbook_lines`, the way back in `runbook_back`, who writes it where in
`workers.runbooks`. Pure: plan, state and clock in, text out; nothing secret is in any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from workflows.journal.fold import GateState, LaneState, RunState, StepState, done_ids
from workflows.plan import Barrier, Gate, Lane, Line, LineKind, Plan, Step, walk
from workflows.runbook_back import Standing, back
from workflows.runbook_lines import ENTERS, OPERATIONS, looks, step_lines

_NUMBER = re.compile(r"^Journal event: (\d+)", re.MULTILINE)
_READING = """\
This file says how to finish, or to go back, by hand over SSH; see docs/howto/database-by-hand.md.

* First see that certbridge does not type as well: `certbridge runs pause {run}`, or stop its engine.
* `NODE> LINE` is typed on that node; `NODE: sftp …` is a transfer; `NODE? status shows: …` must be so, else stop.
* `gives` is what the line above brings. Where the node shows that (or the `or` below it) already, leave the line out.
* Read `database cluster status` on the node before every line. While its last command is in progress, wait.
* After a line that asks (Y/n) wait until the status shows what it gives. Where it fails instead, stop.
* "; " means *and*; older releases say Master and Slave for Primary and Replica.
* One node at a time, in this order. Never `initialize` a second node, never `join` a node whose data is to be kept.
"""


def render(plan: Plan, state: RunState, *, now: datetime) -> str:
    """Return the runbook of a run of *plan*, a database plan, whose journal says *state*."""
    return "\n".join(_lines(plan, state, now)) + "\n"


def event_number(text: str) -> int:
    """Return the number of the journal event up to which a runbook goes; 0 when *text* is none."""
    found = _NUMBER.search(text)
    return int(found[1]) if found else 0


def standing_lines(plan: Plan, state: RunState) -> tuple[str, ...]:
    """Return where each lane of *plan* stands, in one sentence each."""
    return tuple(
        f"lane {lane.name}: {where(Standing.of(lane, state.lanes[lane.name]))}"
        for lane in plan.lanes
        if lane.name in state.lanes
    )


def _lines(plan: Plan, state: RunState, now: datetime) -> Iterator[str]:
    yield f"# Runbook of run {state.run}"
    yield ""
    yield f"Database cluster, {plan.purpose}; asked for by {_plain(state.requested_by)}; the run is {state.outcome}."
    yield f"Digest: {state.digest}"
    yield f"Journal event: {state.n}"
    yield f"Written: {now:%Y-%m-%d %H:%M:%S} UTC"
    yield ""
    yield from _READING.format(run=state.run).splitlines()
    for lane in plan.lanes:
        yield from _lane(Standing.of(lane, state.lanes.get(lane.name) or LaneState(name=lane.name)))


def _lane(standing: Standing) -> Iterator[str]:
    for title, lines in (
        (f"## {standing.lane.name}: where it stands", [where(standing)]),
        (f"## {standing.lane.name}: done", list(_done(standing))),
        (f"## {standing.lane.name}: failed", list(_failures(standing))),
        (f"## {standing.lane.name}: in doubt", list(_doubts(standing))),
        (f"## {standing.lane.name}: next, in this order", list(_next(standing))),
        (f"## {standing.lane.name}: back", list(back(standing))),
    ):
        yield ""
        yield title
        yield ""
        yield from lines or ["Nothing."]


# ── where it stands ──────────────────────────────────────────────────────────────────────────────────────────────────
def where(standing: Standing) -> str:
    """Return in one sentence which nodes are in the cluster, by the journal, and what the run is at."""
    return f"{_nodes(standing)}; {_at(standing.lane, standing.state)}."


def _nodes(standing: Standing) -> str:
    primary = standing.cluster.primary
    ways_in = [step for step in standing.lane.steps() if step.action in ENTERS]
    if standing.untouched:
        return "No node was taken out of its cluster or into one"
    came = [step.node for step in ways_in if standing.done(step)]
    if standing.entered:
        missing = [step.node for step in ways_in if not standing.done(step)]
        if primary in missing:
            return f"Every node is out; {primary}, whose data is kept, is being made the primary"
        left = f"; still out: {', '.join(missing)}" if missing else ""
        return f"{primary} is the primary again; {len(came)} of {len(ways_in)} nodes are in the cluster{left}"
    gone = [step.node for step in standing.removes if standing.done(step)]
    if len(gone) == len(standing.removes):
        return f"Every node is out of the cluster; the data to keep is on {primary}"
    doubt = [step.node for step in standing.out if not standing.done(step)]
    told = [f"out of the cluster: {', '.join(gone)}"] if gone else []
    told += [f"leaving, or out already: {', '.join(doubt)}"] if doubt else []
    stays = f"; the primary {primary} is still in it" if primary not in {*gone, *doubt} else ""
    return f"{', '.join(told).capitalize()}{stays}"


def _at(lane: Lane, state: LaneState) -> str:
    reason = f" ({_plain(state.reason)})" if state.reason else ""
    gates = [gate for gate in state.gates.values() if gate.status != "passed"]
    said = {
        "ready": "the run goes on by itself",
        "running": "the run goes on by itself",
        "stopped": f"the run stopped{reason}",
        "paused": f"the run is paused{reason}",
        "cancelled": f"the run was cancelled{reason}",
        "done": "the run is done",
    }
    if state.status == "waiting" and gates:
        return _gate(gates[-1])
    return said.get(state.status, f"lane {lane.name} is {state.status}")


def _gate(gate: GateState) -> str:
    voided = gate.summary.get("voided")
    again = f"; an earlier approval is void ({_plain(str(voided))})" if voided else ""
    if gate.status == "approved":
        later = f", not before {gate.not_before:%Y-%m-%d %H:%M} UTC" if gate.not_before else ""
        return f"gate {gate.name} is approved by {_plain(gate.decided_by)}{later}"
    if gate.status == "rejected":
        return f"gate {gate.name} was rejected by {_plain(gate.decided_by)}"
    return f"the run waits at gate {gate.name}{again}"


# ── done, failed, in doubt, next ─────────────────────────────────────────────────────────────────────────────────────
def _done(standing: Standing) -> Iterator[str]:
    found = [(standing.step(step), step) for step in standing.lane.steps() if standing.done(step)]
    for state, step in sorted(found, key=lambda one: one[0].ended_at.timestamp() if one[0].ended_at else 0.0):
        yield f"- {_time(state.ended_at)} {_plain(step.title or step.id)}"


def _failures(standing: Standing) -> Iterator[str]:
    """Yield what is known to have failed, and changed no more than it says."""
    for step in standing.lane.steps():
        if not standing.done(step) and not _unknown(standing, step):
            yield from _error(step, standing.step(step))


def _error(step: Step, state: StepState) -> Iterator[str]:
    if state.error:
        later = " (left for later, the others go on)" if state.status == "parked" else ""
        yield f"- {_plain(step.title or step.id)}: failed{later}: {_plain(state.error.get('text', ''))}"


def _doubts(standing: Standing) -> Iterator[str]:
    """Yield every line that went out without a known end, and what was seen of it."""
    for step in standing.lane.steps():
        state = standing.step(step)
        lines = () if standing.done(step) else _unknown(standing, step)
        for line in lines:
            look = "database cluster status" if step.action in OPERATIONS else "pki list"
            said = line.text if line.kind is LineKind.COMMAND else str(line)
            yield (
                f"- {step.node}: `{said}` was sent at {_time(_since(state))} or after, and its end is not known: "
                f"read `{look}` on {step.node} first."
            )
        if state.data.get("status") and not standing.done(step):
            yield f"- {step.node} said last: {_plain(str(state.data['status']))}"
        if lines:
            yield from _error(step, state)


def _unknown(standing: Standing, step: Step) -> list[Line]:
    """Return the lines of *step* whose end is not known; an operation goes on after its line was answered."""
    state = standing.step(step)
    if standing.failed(step):
        return []
    if step.action in OPERATIONS and standing.moved(step):
        return [step.lines[-1]]
    told = dict(state.lines)
    return [line for number, line in enumerate(step.lines) if told.get(number) in {"intent", "unknown"}]


def _next(standing: Standing) -> Iterator[str]:
    done = done_ids(standing.state)
    number = 0
    for part in walk(standing.lane.tree):
        if part.id in done:
            continue
        if isinstance(part, Gate):
            yield f"- gate {part.name}: {_plain(part.needs)}"
        elif isinstance(part, Barrier):
            yield f"- before you go on: {_plain(part.holds)}"
        else:
            number += 1
            yield f"{number}. {_plain(part.title or part.id)}"
            yield from step_lines(part, standing.cluster)
            yield from looks(part, standing.cluster)


def _since(state: StepState) -> datetime | None:
    """Return when the line went out, as far as the state tells: else when the attempt began that sent it."""
    told = state.data.get("since")
    return datetime.fromisoformat(told) if told else state.started_at


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"


def _plain(text: str) -> str:
    """Return *text* on one line and printable, so that no reply of a server can look like a line of this file."""
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
