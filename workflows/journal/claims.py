"""Claims: a step is done by who claims it, once. Celery proposes, the journal disposes.

A claim is one row per (run, lane, step), set by compare-and-set; a message that comes twice, late or out of order is
dropped, and the drop is noted. With the claim come leases on the resources (node, cluster): all or none, by the
database's clock, each with a fence number that grows by one with every acquisition (engine-notes section 4.3). Who
lost a lease can journal nothing more. What a database cannot do is to stop a command already sent: the worker asks
`intent` before each line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import sqlalchemy as sa

from workflows.errors import JournalError, LeaseLost, Stopped
from workflows.journal import outbox, tables
from workflows.journal.events import Event, Kind, NewEvent
from workflows.journal.lanes import (
    HELD,
    LaneRow,
    cancel_lane,
    finish_lane,
    idle_lanes,
    lane_row,
    pause_lane,
    raise_generation,
    resume_lane,
    stop_lane,
    touch,
)
from workflows.journal.store import Transaction, moment

_CLAIM, _LEASE = tables.claim, tables.lease


class DropReason(StrEnum):
    """Why a message did nothing."""

    OLD_GENERATION = "old_generation"
    DONE = "done"
    CLAIMED = "claimed"
    PREDECESSORS = "predecessors"
    HELD = "held"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    PARKED = "parked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to do one step, until another takes it over. `fences` maps each leased resource to its fence number."""

    run: str
    lane: str
    step: str
    node: str
    generation: int
    attempt: int
    holder: str
    fences: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A message that did nothing, and why; `text` is for people."""

    reason: DropReason
    text: str


def claim(
    tx: Transaction,
    *,
    run: str,
    lane: str,
    step: str,
    node: str,
    generation: int,
    holder: str,
    predecessors: frozenset[str],
    resources: tuple[str, ...],
    lease_s: float = 60,
    max_attempts: int = 3,
) -> Claim | Drop:
    """Claim *step* and lease *resources* for *lease_s* seconds, or return why not.

    Each generation may try each step once. A claim of an older generation whose lease ran out is taken over; the event
    says from whom, and `attempt` counts on. More than *max_attempts* park the step and stop the lane.
    Raises: JournalError: no such lane.
    """
    row = lane_row(tx.connection, run, lane)
    old = _row(tx, run, lane, step)
    drop = _refusal(tx, row, old, generation, predecessors, resources)
    if drop is not None:
        return _dropped(tx, run, lane, step, node, generation, drop)
    attempt = 1 if old is None else old.attempt + (0 if old.state == "waiting" else 1)
    if attempt > max_attempts:
        return _park(tx, row, step, node, old, max_attempts)
    values = {
        "node": node,
        "generation": generation,
        "attempt": attempt,
        "holder": holder,
        "state": "running",
        "expires_at": tx.clock + lease_s,
        "intended": old is not None and old.intended,  # a step that was cut off half-way is still begun
    }
    tx.connection.execute(
        tx.insert(_CLAIM)
        .values(run=run, lane=lane, step=step, **values)
        .on_conflict_do_update(index_elements=["run", "lane", "step"], set_=values)
    )
    fences = {one: _acquire(tx, one, holder, run, lane, step, lease_s) for one in sorted(set(resources))}
    touch(tx, run, lane)
    data: dict[str, Any] = {"generation": generation, "attempt": attempt, "holder": holder, "fences": fences}
    if old is not None and old.state == "running":
        data["took_over"] = {"generation": old.generation, "attempt": old.attempt, "holder": old.holder}
    tx.append(NewEvent(run=run, kind=Kind.STEP_CLAIMED, lane=lane, step=step, node=node, data=data))
    return Claim(
        run=run, lane=lane, step=step, node=node, generation=generation, attempt=attempt, holder=holder, fences=fences
    )


def refusal(
    tx: Transaction,
    *,
    run: str,
    lane: str,
    step: str,
    generation: int,
    predecessors: frozenset[str],
    resources: tuple[str, ...],
) -> Drop | None:
    """Return why `claim` would refuse, None when it would not; nothing is written."""
    return _refusal(
        tx, lane_row(tx.connection, run, lane), _row(tx, run, lane, step), generation, predecessors, resources
    )


def renew(tx: Transaction, claim: Claim, lease_s: float = 60) -> bool:
    """Let the leases run *lease_s* seconds from now; False when the claim is no longer ours.

    One that ran out but was taken over by nobody is ours again.
    """
    if not _ours(tx, claim):
        return False
    until = tx.clock + lease_s
    tx.connection.execute(sa.update(_CLAIM).where(*_this(claim)).values(expires_at=until))
    if claim.fences:
        tx.connection.execute(
            sa.update(_LEASE).where(_LEASE.c.resource.in_(claim.fences)).values(holder=claim.holder, expires_at=until)
        )
    return True


def finish(
    tx: Transaction,
    claim: Claim,
    *,
    status: Literal["done", "failed", "waiting", "parked", "retry"],
    data: Mapping[str, Any] | None = None,
    error: Mapping[str, str] | None = None,
    events: Iterable[NewEvent] = (),
    advance: bool = False,
    wait_s: float | None = None,
) -> None:
    """Journal how the step ended, let go of its leases, and (*advance* or *wait_s*) have the lane looked at again.

    "waiting": look again after *wait_s*, as the first attempt. "retry": the same as a new attempt. *error* is {"code",
    "text", "remedy"}. Both may be claimed by a later generation. Raises: LeaseLost: another worker took over; nothing
    is written.
    """
    _fenced(tx, claim)
    for event in events:
        tx.append(event)
    values: dict[str, Any] = {"state": "open" if status == "retry" else status, "expires_at": tx.clock}
    if status == "retry":
        values["intended"] = False
    if status == "waiting":
        values["attempt"] = 1  # it came through: what is counted are tries that ended in nothing
    tx.connection.execute(sa.update(_CLAIM).where(*_this(claim)).values(**values))
    _release(tx, claim)
    said: dict[str, Any] = {"attempt": claim.attempt, "generation": claim.generation, "data": dict(data or {})}
    if error is not None:
        said["error"] = dict(error)
    if status == "retry":
        said["retry"] = True
    if wait_s is not None:
        said["look_again_at"] = moment(tx.clock + wait_s).isoformat()
    _say(tx, claim, _ENDS[status], said)
    touch(tx, claim.run, claim.lane)
    if advance or wait_s is not None:
        outbox.add(tx, outbox.ADVANCE, claim.run, claim.lane, {"step": claim.step}, after_s=wait_s or 0)


def intent(tx: Transaction, claim: Claim, line_no: int, text: str, *, back: bool = False) -> Event:
    """Journal that line *line_no* is about to be sent. Only after this returned may it be.

    Raises: LeaseLost: the lease ran out or was taken over. Stopped: before the step's first line only: the lane was
    paused or cancelled (so both act at step borders, and never leave a step half-done, not even one whose process
    died: it is begun until it ends, is put back or gone through anew). A line *back* is never stopped:
    it takes back what was done, and half a way back is worse than all of it.
    """
    row = _fenced(tx, claim)
    if row.expires_at <= tx.clock:
        raise LeaseLost("The lease ran out before this line was sent.", node=claim.node, step=claim.step)
    if not row.intended:
        flag = lane_row(tx.connection, claim.run, claim.lane).flag
        if flag in {"cancelled", "paused"} and not back:
            raise Stopped(f"Lane {claim.lane} is {flag}.", remedy=_AFTER_STOP[flag].format(run=claim.run))
        tx.connection.execute(sa.update(_CLAIM).where(*_this(claim)).values(intended=True))
    return _say(tx, claim, Kind.INTENT, {"line": line_no, "text": text, "attempt": claim.attempt})


def outcome(
    tx: Transaction, claim: Claim, line_no: int, state: Literal["ok", "refused", "unknown"], text: str = ""
) -> Event:
    """Journal how line *line_no* ended. Raises: LeaseLost: another worker took over."""
    _fenced(tx, claim)
    data = {"line": line_no, "state": state, "text": text, "attempt": claim.attempt}
    return _say(tx, claim, Kind.OUTCOME, data)


def excused(connection: sa.Connection, run: str, lane: str) -> tuple[str, ...]:
    """Return the steps of *lane* that a barrier let go within the fail limit."""
    query = sa.select(_CLAIM.c.step).where(_CLAIM.c.run == run, _CLAIM.c.lane == lane, _CLAIM.c.state == "excused")
    return tuple(connection.execute(query).scalars())


def parked(connection: sa.Connection, run: str, lane: str) -> frozenset[str]:
    """Return the steps of *lane* that are parked now; a resumed lane has none."""
    query = sa.select(_CLAIM.c.step).where(_CLAIM.c.run == run, _CLAIM.c.lane == lane, _CLAIM.c.state == "parked")
    return frozenset(connection.execute(query).scalars())


def pass_barrier(
    tx: Transaction,
    *,
    run: str,
    lane: str,
    barrier: str,
    generation: int,
    before: Mapping[str, str],
    fail_limit: int,
) -> Literal["passed", "stopped", "not yet"] | Drop:
    """Pass the barrier when all of *before* (step id → node) is over; exactly one caller gets "passed".

    A node with a failed or parked step is out, and its other steps are not waited for unless one is running. More such
    nodes than *fail_limit* stop the lane, with the reasons. Within the limit their steps are excused: they count as
    done.
    """
    row = lane_row(tx.connection, run, lane)
    mine = _row(tx, run, lane, barrier)
    drop = _refusal(tx, row, mine, generation, frozenset(), ())
    if drop is not None:
        return _dropped(tx, run, lane, barrier, "", generation, drop)
    states = _states(tx, run, lane)
    out = {node for step, node in before.items() if states.get(step) in {"failed", "parked"}}
    open_states = {step: states.get(step, "") for step in before if states.get(step) not in {"done", "excused"}}
    if any(before[step] not in out or state == "running" for step, state in open_states.items()):
        return "not yet"
    if len(out) > fail_limit:
        failed = sorted(step for step, state in open_states.items() if state in {"failed", "parked"})
        reasons = _reasons(tx, run, lane, failed)
        text = f"{len(out)} of {len(set(before.values()))} nodes failed (limit {fail_limit}): " + "; ".join(
            f"{step}: {reason}" for step, reason in reasons.items()
        )
        stop_lane(tx, run, lane, text, data={"barrier": barrier, "nodes": sorted(out), "failed": reasons})
        return "stopped"
    for step in open_states:
        pass_through(tx, run, lane, step, generation, node=before[step], state="excused")
    pass_through(tx, run, lane, barrier, generation)
    touch(tx, run, lane)
    data = {"generation": generation, "excused": sorted(open_states), "nodes_out": sorted(out)}
    tx.append(NewEvent(run=run, kind=Kind.BARRIER_PASSED, lane=lane, step=barrier, data=data))
    return "passed"


def pass_through(
    tx: Transaction, run: str, lane: str, step: str, generation: int, *, node: str = "", state: str = "done"
) -> None:
    """Write the claim row of what nobody works on (barrier, gate, excused step), so that its successors may begin."""
    values = {"node": node, "generation": generation, "state": state, "expires_at": tx.clock, "holder": "engine"}
    tx.connection.execute(
        tx.insert(_CLAIM)
        .values(run=run, lane=lane, step=step, attempt=0, intended=False, **values)
        .on_conflict_do_update(index_elements=["run", "lane", "step"], set_=values)
    )


_ENDS: Mapping[str, Kind] = {
    "done": Kind.STEP_DONE,
    "failed": Kind.STEP_FAILED,
    "waiting": Kind.STEP_WAITING,
    "retry": Kind.STEP_WAITING,
    "parked": Kind.STEP_PARKED,
}
_AFTER_STOP = {
    "paused": "Go on with `certbridge runs resume {run}`.",
    "cancelled": "Make a new plan and a new run.",
}
_FLAGS: Mapping[str, tuple[DropReason, str]] = {
    "paused": (DropReason.PAUSED, "the lane is paused"),
    "cancelled": (DropReason.CANCELLED, "the lane was cancelled"),
    "stopped": (DropReason.STOPPED, "the lane is stopped"),
    "waiting": (DropReason.PREDECESSORS, "the lane waits at a gate"),
    "done": (DropReason.DONE, "the lane is done"),
}


def _refusal(
    tx: Transaction,
    row: LaneRow,
    old: Any,
    generation: int,
    predecessors: frozenset[str],
    resources: tuple[str, ...],
) -> Drop | None:
    """Return why this may not be claimed now, the most lasting reason first."""
    if old is not None and old.state in {"done", "excused"}:
        return Drop(reason=DropReason.DONE, text="it is done already")
    if generation != row.generation:
        text = f"the message is of generation {generation}, the lane is at {row.generation}"
        return Drop(reason=DropReason.OLD_GENERATION, text=text)
    if row.flag and not (row.flag in HELD and old is not None and old.intended and old.state in {"running", "waiting"}):
        reason, text = _FLAGS[row.flag]
        return Drop(reason=reason, text=text)
    if old is not None and old.state in {"failed", "parked"}:
        return Drop(reason=DropReason(old.state), text=f"it has {old.state}; `certbridge runs resume` lets it be tried")
    if old is not None and old.generation == generation:
        return Drop(reason=DropReason.CLAIMED, text=f"this generation tried it already, by {old.holder}")
    if old is not None and old.state == "running" and old.expires_at > tx.clock:
        return Drop(reason=DropReason.HELD, text=f"{old.holder} is at work on it")
    states = _states(tx, row.run, row.lane) if predecessors else {}
    missing = sorted(one for one in predecessors if states.get(one) not in {"done", "excused"})
    if missing:
        return Drop(reason=DropReason.PREDECESSORS, text=f"not done yet: {', '.join(missing[:3])}")
    return _held(tx, resources)


def _held(tx: Transaction, resources: tuple[str, ...]) -> Drop | None:
    live = sa.select(_LEASE).where(
        _LEASE.c.resource.in_(resources), _LEASE.c.holder != "", _LEASE.c.expires_at > tx.clock
    )
    other = tx.connection.execute(live.order_by(_LEASE.c.resource)).first() if resources else None
    if other is None:
        return None
    text = f"{other.resource} is held by {other.holder} for {other.step} until {moment(other.expires_at):%H:%M:%S} UTC"
    return Drop(reason=DropReason.HELD, text=text)


def _acquire(tx: Transaction, resource: str, holder: str, run: str, lane: str, step: str, lease_s: float) -> int:
    until = tx.clock + lease_s
    values = {"holder": holder, "run": run, "lane": lane, "step": step, "expires_at": until}
    statement = (
        tx.insert(_LEASE)
        .values(resource=resource, token=1, **values)
        .on_conflict_do_update(
            index_elements=["resource"],
            set_={**values, "token": _LEASE.c.token + 1},
            where=sa.or_(_LEASE.c.holder == "", _LEASE.c.expires_at <= tx.clock),
        )
        .returning(_LEASE.c.token)
    )
    token = tx.connection.execute(statement).scalar_one_or_none()
    if token is None:
        raise JournalError(f"The lease on {resource} was taken between looking and taking.", resource=resource)
    return int(token)


def _release(tx: Transaction, claim: Claim) -> None:
    if claim.fences:
        tx.connection.execute(
            sa.update(_LEASE).where(_LEASE.c.resource.in_(claim.fences)).values(holder="", expires_at=tx.clock)
        )


# Made once: building a statement anew for each of a step's seven looks was a tenth of a worker's CPU.
_ROW = sa.select(_CLAIM).where(
    _CLAIM.c.run == sa.bindparam("run"), _CLAIM.c.lane == sa.bindparam("lane"), _CLAIM.c.step == sa.bindparam("step")
)
_STATES = sa.select(_CLAIM.c.step, _CLAIM.c.state).where(
    _CLAIM.c.run == sa.bindparam("run"), _CLAIM.c.lane == sa.bindparam("lane")
)
_TOKENS = sa.select(_LEASE.c.resource, _LEASE.c.token).where(
    _LEASE.c.resource.in_(sa.bindparam("resources", expanding=True))
)


def _row(tx: Transaction, run: str, lane: str, step: str) -> Any:
    return tx.connection.execute(_ROW, {"run": run, "lane": lane, "step": step}).one_or_none()


def _states(tx: Transaction, run: str, lane: str) -> dict[str, str]:
    return {row.step: row.state for row in tx.connection.execute(_STATES, {"run": run, "lane": lane})}


def _this(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (_CLAIM.c.run == claim.run, _CLAIM.c.lane == claim.lane, _CLAIM.c.step == claim.step)


def _ours(tx: Transaction, claim: Claim) -> Any:
    """Return the claim's row while it and every lease are still this holder's, expired or not; else None."""
    row = _row(tx, claim.run, claim.lane, claim.step)
    if row is None or (row.state, row.generation, row.attempt, row.holder) != (
        "running",
        claim.generation,
        claim.attempt,
        claim.holder,
    ):
        return None
    if not claim.fences:
        return row
    found = tx.connection.execute(_TOKENS, {"resources": list(claim.fences)})
    tokens = {lease.resource: lease.token for lease in found}
    return row if tokens == dict(claim.fences) else None


def _fenced(tx: Transaction, claim: Claim) -> Any:
    row = _ours(tx, claim)
    if row is None:
        raise LeaseLost(node=claim.node, step=claim.step)
    return row


def _say(tx: Transaction, claim: Claim, kind: Kind, data: Mapping[str, Any]) -> Event:
    return tx.append(NewEvent(run=claim.run, kind=kind, lane=claim.lane, step=claim.step, node=claim.node, data=data))


def _dropped(tx: Transaction, run: str, lane: str, step: str, node: str, generation: int, drop: Drop) -> Drop:
    data = {"reason": drop.reason.value, "text": drop.text, "generation": generation}
    tx.append(NewEvent(run=run, kind=Kind.STEP_DROPPED, lane=lane, step=step, node=node, data=data))
    return drop


def _park(tx: Transaction, row: LaneRow, step: str, node: str, old: Any, max_attempts: int) -> Drop:
    text = f"{step} was tried {old.attempt} times without an end{_last_words(tx, row, step)}"
    here = (_CLAIM.c.run == row.run, _CLAIM.c.lane == row.lane, _CLAIM.c.step == step)
    tx.connection.execute(sa.update(_CLAIM).where(*here).values(state="parked", expires_at=tx.clock))
    remedy = "Look at the server, mend the cause, then resume the run."
    error = {"code": "TooManyAttempts", "text": text, "remedy": remedy}
    data = {"attempt": old.attempt, "max_attempts": max_attempts, "error": error}
    tx.append(NewEvent(run=row.run, kind=Kind.STEP_PARKED, lane=row.lane, step=step, node=node, data=data))
    stop_lane(tx, row.run, row.lane, text, data={"failed": {step: text}})
    return Drop(reason=DropReason.PARKED, text=text)


def _last_words(tx: Transaction, row: LaneRow, step: str) -> str:
    """Return the last error of *step* since a person resumed the lane, or which line nobody knows the end of.

    A process that was killed says nothing, so what its lines came to is all there is.
    """
    table = tables.event
    here = sa.and_(table.c.run == row.run, table.c.lane == row.lane)
    ours = sa.and_(table.c.step == step, table.c.kind.in_(_SAYING))
    resumed = table.c.kind == Kind.LANE_RESUMED.value
    query = sa.select(table.c.kind, table.c.data).where(here, sa.or_(ours, resumed)).order_by(table.c.n.desc())
    for event in tx.connection.execute(query):
        if event.kind == Kind.LANE_RESUMED.value:
            break
        if event.kind == Kind.INTENT.value:
            return f"; last it sent `{event.data['text']}`, and nobody knows what came of it"
        error = (event.data.get("error") or {}).get("text") or (event.data.get("data") or {}).get("why")
        if event.kind == Kind.OUTCOME.value and event.data["state"] != "ok":
            error = event.data["text"]
        if error:
            return f"; the last error: {error}"
        if event.kind == Kind.OUTCOME.value:
            break
    return "; no try left an error, so each time its process ended or lost its lease"


_SAYING = (Kind.INTENT.value, Kind.OUTCOME.value, Kind.STEP_WAITING.value, Kind.STEP_FAILED.value)


def _reasons(tx: Transaction, run: str, lane: str, steps: list[str]) -> dict[str, str]:
    """Return the last error text of each of *steps*."""
    table = tables.event
    kinds = (Kind.STEP_FAILED.value, Kind.STEP_PARKED.value)
    query = (
        sa.select(table.c.step, table.c.data)
        .where(table.c.run == run, table.c.lane == lane, table.c.kind.in_(kinds))
        .order_by(table.c.n)
    )
    texts: dict[str, str] = defaultdict(lambda: "failed")
    told = [(row.step, row.data) for row in tx.connection.execute(query)]
    told += [
        (event.step, event.data)
        for event in tx.appended()
        if (event.run, event.lane) == (run, lane) and event.kind.value in kinds
    ]
    for step, data in told:
        texts[step] = str((data.get("error") or {}).get("text") or "failed")
    return {step: texts[step] for step in steps}


__all__ = [
    "Claim",
    "Drop",
    "DropReason",
    "cancel_lane",
    "claim",
    "finish",
    "finish_lane",
    "idle_lanes",
    "intent",
    "outcome",
    "pass_barrier",
    "pass_through",
    "pause_lane",
    "raise_generation",
    "refusal",
    "renew",
    "resume_lane",
    "stop_lane",
]
