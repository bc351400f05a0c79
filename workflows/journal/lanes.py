"""Lanes: one cluster's share of a run, its generation and its flag. One row each; every move writes its event.

The flag says why no step may be claimed: "" (it moves), "paused", "cancelled", "stopped", "waiting" (at a gate),
"done". A generation is what one canvas was compiled for; it is raised only when nobody is at work on the lane
(DESIGN.md section 4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workflows.errors import JournalError, Stopped
from workflows.inventory import Approval
from workflows.journal import outbox, tables, votes
from workflows.journal.events import Kind, NewEvent
from workflows.journal.store import Transaction, moment

_LANE, _CLAIM, _GATE = tables.lane, tables.claim, tables.gate

HELD = frozenset({"paused", "cancelled"})
"""Flags under which nothing begins, and what has begun goes on to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """A lane as the engine sees it; `live` is true while somebody's lease on one of its steps runs."""

    run: str
    lane: str
    generation: int
    flag: str
    touched_at: datetime
    live: bool


def _live(now: Any) -> sa.Exists:
    return sa.exists().where(
        _CLAIM.c.run == _LANE.c.run,
        _CLAIM.c.lane == _LANE.c.lane,
        _CLAIM.c.state == "running",
        _CLAIM.c.expires_at > now,
    )


# Made once: every step looks at its lane several times, and building a statement costs more than asking.
_LANES = (
    sa.select(_LANE, _live(tables.clock()).label("live"))
    .where(_LANE.c.run == sa.bindparam("run"))
    .order_by(_LANE.c.lane)
)
_ONE_LANE = _LANES.where(_LANE.c.lane == sa.bindparam("lane"))


def lane_row(connection: sa.Connection, run: str, lane: str) -> LaneRow:
    """Return the lane. Raises: JournalError: no such lane."""
    found = lane_rows(connection, run, lane)
    if not found:
        raise JournalError(f"Run {run} has no lane {lane}.", run=run, lane=lane)
    return found[0]


def lane_rows(connection: sa.Connection, run: str, lane: str | None = None) -> list[LaneRow]:
    """Return the lanes of *run* by name."""
    found = (
        connection.execute(_LANES, {"run": run})
        if lane is None
        else connection.execute(_ONE_LANE, {"run": run, "lane": lane})
    )
    return [
        LaneRow(
            run=row.run,
            lane=row.lane,
            generation=row.generation,
            flag=row.flag,
            touched_at=moment(row.touched_at),
            live=bool(row.live),
        )
        for row in found
    ]


def begun(connection: sa.Connection, run: str, lane: str) -> tuple[str, ...]:
    """Return the steps of *lane* that have sent a line and are not at their end: a service may be off until they are.

    An operation of a database that is waited for is none: the server goes on with it by itself.
    """
    query = sa.select(_CLAIM.c.step).join(tables.run, tables.run.c.run == _CLAIM.c.run).where(_BEGUN)
    found = query.where(_CLAIM.c.run == run, _CLAIM.c.lane == lane).order_by(_CLAIM.c.step)
    return tuple(connection.execute(found).scalars())


def dead(connection: sa.Connection, run: str) -> frozenset[str]:
    """Return the steps of *run* whose worker let its lease run out before it had sent a line: nobody is on them."""
    gone = sa.and_(_CLAIM.c.state == "running", _CLAIM.c.expires_at <= tables.clock(), sa.not_(_CLAIM.c.intended))
    return frozenset(connection.execute(sa.select(_CLAIM.c.step).where(_CLAIM.c.run == run, gone)).scalars())


_BEGUN = sa.and_(
    _CLAIM.c.intended,
    sa.or_(_CLAIM.c.state == "running", sa.and_(_CLAIM.c.state == "waiting", tables.run.c.kind != "database")),
)


def touch(tx: Transaction, run: str, lane: str, **values: Any) -> None:
    """Note that somebody was on the lane just now, and set *values* of its row."""
    statement = sa.update(_LANE).where(_LANE.c.run == run, _LANE.c.lane == lane)
    if tx.connection.execute(statement.values(touched_at=tx.clock, **values)).rowcount != 1:
        raise JournalError(f"Run {run} has no lane {lane}.", run=run, lane=lane)


def stop_lane(
    tx: Transaction, run: str, lane: str, reason: str, *, data: Mapping[str, Any] | None = None, by: str = "engine"
) -> bool:
    """Stop the lane until somebody resumes it; False when it is stopped, cancelled or done already."""
    if lane_row(tx.connection, run, lane).flag in {"stopped", "cancelled", "done"}:
        return False
    return _flag(tx, run, lane, "stopped", Kind.LANE_STOPPED, by, {**(data or {}), "reason": reason})


def pause_lane(tx: Transaction, run: str, lane: str, by: str, reason: str = "") -> bool:
    """Let no further step begin until somebody resumes the lane; False when it does not move anyway."""
    if lane_row(tx.connection, run, lane).flag not in {"", "waiting"}:
        return False
    return _flag(tx, run, lane, "paused", Kind.LANE_PAUSED, by, {"reason": reason})


def cancel_lane(tx: Transaction, run: str, lane: str, by: str, reason: str = "") -> bool:
    """End the lane for good: running steps end at their border, no other begins. False when it was over already."""
    if lane_row(tx.connection, run, lane).flag in {"cancelled", "done"}:
        return False
    return _flag(tx, run, lane, "cancelled", Kind.LANE_CANCELLED, by, {"reason": reason})


def finish_lane(tx: Transaction, run: str, lane: str) -> bool:
    """Note that all of the lane is done; False when it was over already, or does not move."""
    if lane_row(tx.connection, run, lane).flag != "":
        return False
    return _flag(tx, run, lane, "done", Kind.LANE_DONE, "engine", {})


def resume_lane(tx: Transaction, run: str, lane: str, by: str, keep: Collection[str] = ()) -> bool:
    """Let the lane move again: failed and parked steps may be claimed anew, a rejected gate is open again.

    A step that only waits, or was let go of, needs nobody and is left as it is: "resumed" says that a person has looked
    at what failed. *keep* are steps that stay parked. False when the lane moves already, waits at a gate, or is done.
    Raises: Stopped: the lane was cancelled.
    """
    row = lane_row(tx.connection, run, lane)
    if row.flag == "cancelled":
        raise Stopped(
            f"Lane {lane} of run {run} was cancelled; it cannot be resumed.", remedy="Make a new plan and a new run."
        )
    here = (_CLAIM.c.run == run, _CLAIM.c.lane == lane)
    states = {one.step: one.state for one in tx.connection.execute(sa.select(_CLAIM).where(*here))}
    steps = sorted(step for step, state in states.items() if state in {"failed", "parked"} and step not in keep)
    at_work = not steps or bool({"running", "waiting"} & set(states.values()))
    if row.flag in {"done", "waiting"} or (row.flag == "" and at_work):
        return False
    again = sa.or_(_CLAIM.c.step.in_(steps), _CLAIM.c.state == "open")
    tx.connection.execute(sa.update(_CLAIM).where(*here, again).values(state="open", attempt=0, intended=False))
    tx.append(NewEvent(run=run, kind=Kind.LANE_RESUMED, lane=lane, actor=by, data={"steps": steps}))
    at_gate = _reopen_rejected(tx, run, lane, by)
    touch(tx, run, lane, flag="waiting" if at_gate else "")
    outbox.add(tx, outbox.ADVANCE, run, lane)
    return True


def reopen_steps(tx: Transaction, run: str, lane: str, steps: Sequence[str]) -> None:
    """Let steps that were done be claimed anew, because their node was put back (the `put_back` event names them)."""
    tx.connection.execute(
        sa.update(_CLAIM)
        .where(_CLAIM.c.run == run, _CLAIM.c.lane == lane, _CLAIM.c.step.in_(steps), _CLAIM.c.state == "done")
        .values(state="open", attempt=0, intended=False)
    )


def reopen_parts(tx: Transaction, run: str, lane: str, parts: Sequence[str], why: str) -> None:
    """Let steps and barriers be gone through anew, whatever came of them; the event says *why*."""
    tx.connection.execute(
        sa.update(_CLAIM)
        .where(_CLAIM.c.run == run, _CLAIM.c.lane == lane, _CLAIM.c.step.in_(parts), _CLAIM.c.state != "running")
        .values(state="open", attempt=0, intended=False)
    )
    tx.append(NewEvent(run=run, kind=Kind.STEPS_REOPENED, lane=lane, data={"steps": list(parts), "reason": why}))


def raise_generation(tx: Transaction, run: str, lane: str, why: str) -> int | None:
    """Return the lane's next generation, for which a new canvas is to be compiled; the event says *why*.

    None while anybody's lease on a step of the lane runs, and when the lane's flag lets nothing be claimed: in a lane
    that is paused or cancelled, only what was `begun`.
    """
    row = lane_row(tx.connection, run, lane)
    if row.live or (row.flag != "" and not (row.flag in HELD and begun(tx.connection, run, lane))):
        return None
    generation = row.generation + 1
    touch(tx, run, lane, generation=generation)
    data = {"generation": generation, "why": why}
    tx.append(NewEvent(run=run, kind=Kind.LANE_SENT, lane=lane, data=data))
    return generation


def idle_lanes(tx: Transaction, idle_s: float) -> list[tuple[str, str, int]]:
    """Return (run, lane, generation) of lanes that should move, nobody on them for *idle_s*, and nothing to send."""
    box = tables.outbox
    half_done = sa.exists().where(_CLAIM.c.run == _LANE.c.run, _CLAIM.c.lane == _LANE.c.lane, _BEGUN)
    moves = sa.or_(_LANE.c.flag == "", sa.and_(_LANE.c.flag.in_(HELD), half_done))
    to_send = sa.exists().where(box.c.run == _LANE.c.run, box.c.lane == _LANE.c.lane, box.c.sent_at.is_(None))
    query = (
        sa.select(_LANE.c.run, _LANE.c.lane, _LANE.c.generation)
        .join(tables.run, tables.run.c.run == _LANE.c.run)
        .where(tables.run.c.outcome == "open")
        .where(moves, _LANE.c.touched_at < tx.clock - idle_s, ~to_send, ~_live(tx.clock))
        .order_by(_LANE.c.touched_at)
    )
    return [(row.run, row.lane, row.generation) for row in tx.connection.execute(query)]


def idle_gates(tx: Transaction, idle_s: float) -> list[tuple[str, str]]:
    """Return (run, lane) of lanes that stand at a gate which was approved and whose time has come, idle for *idle_s*.

    The message that was to move them is lost: that to the issuer is the only one not written in the outbox. Each lane
    is touched, so that one which waits for people is looked at once in *idle_s*, too.
    """
    query = (
        sa.select(_LANE.c.run, _LANE.c.lane)
        .join(tables.run, tables.run.c.run == _LANE.c.run)
        .join(_GATE, sa.and_(_GATE.c.run == _LANE.c.run, _GATE.c.lane == _LANE.c.lane))
        .where(tables.run.c.outcome == "open", _LANE.c.flag == "waiting", _LANE.c.touched_at < tx.clock - idle_s)
        .where(_GATE.c.status == "approved", sa.or_(_GATE.c.not_before.is_(None), _GATE.c.not_before <= tx.clock))
        .distinct()
        .order_by(_LANE.c.run, _LANE.c.lane)
    )
    found = [(row.run, row.lane) for row in tx.connection.execute(query)]
    for run, lane in found:
        touch(tx, run, lane)
    return found


def _flag(tx: Transaction, run: str, lane: str, flag: str, kind: Kind, by: str, data: Mapping[str, Any]) -> bool:
    touch(tx, run, lane, flag=flag)
    tx.append(NewEvent(run=run, kind=kind, lane=lane, actor=by, data=data))
    return True


def _reopen_rejected(tx: Transaction, run: str, lane: str, by: str) -> bool:
    """Open rejected gates again, and return whether the lane stands at a gate that nobody has passed yet."""
    here = (_GATE.c.run == run, _GATE.c.lane == lane)
    gates: Sequence[sa.Row[Any]] = tx.connection.execute(sa.select(_GATE).where(*here)).all()
    for gate in gates:
        if gate.status == "rejected":
            terms = Approval.from_json(gate.terms)
            until = tx.now() + terms.decide_within
            again = {"status": "open", "opened_at": tx.clock, "decided_by": "", "decided_at": None, "reason": ""}
            again |= {"expires_at": until.timestamp(), "not_before": None}
            again |= {"remind_at": terms.first_reminder_s(tx.now())}
            tx.connection.execute(sa.update(_GATE).where(*here, _GATE.c.gate == gate.gate).values(**again))
            votes.clear(tx, (run, lane, gate.gate))
            said = {"name": gate.name, "digest": gate.digest, "summary": gate.summary, "again": "the lane was resumed"}
            said |= {"expires_at": until.isoformat()}
            tx.append(NewEvent(run=run, kind=Kind.GATE_OPENED, lane=lane, step=gate.gate, actor=by, data=said))
    return any(gate.status != "passed" for gate in gates)
