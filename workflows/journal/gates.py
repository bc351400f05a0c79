"""Gates: people decide, exactly one decision wins, and it is bound to the digest of what was shown.

A gate moves open → approved → passed, or open → rejected; `reopen` and a resumed lane bring it back to open. Each move
is one conditional UPDATE (reading first and writing then gave 301 winners of 300 gates, faults.md F22).
How digests and summaries are made is in `workflows.gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from workflows.canonical import digest_of_json
from workflows.errors import DigestChanged, FourEyes, GateDecided, GateError
from workflows.journal import outbox, tables
from workflows.journal.claims import pass_through
from workflows.journal.events import Kind, NewEvent
from workflows.journal.lanes import lane_row, reopen_parts, stop_lane, touch
from workflows.journal.store import Transaction, moment

_GATE = tables.gate


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """A gate as it stands; times are aware UTC. status: open | approved | rejected | passed."""

    run: str
    lane: str
    gate: str
    name: str
    status: str
    digest: str
    summary: Mapping[str, Any]
    opened_at: datetime
    decided_by: str
    decided_at: datetime | None
    reason: str
    not_before: datetime | None


def open_gate(
    tx: Transaction,
    *,
    run: str,
    lane: str,
    gate: str,
    name: str,
    generation: int,
    digest: str,
    summary: Mapping[str, Any],
) -> bool:
    """Open the gate and let the lane wait at it; False when it was opened before, or the generation is old."""
    row = lane_row(tx.connection, run, lane)
    if row.flag not in {"", "waiting"} or generation != row.generation:
        return False
    values = {
        "name": name,
        "status": "open",
        "digest": digest,
        "summary": dict(summary),
        "opened_at": tx.clock,
        "decided_by": "",
        "reason": "",
    }
    if not tx.insert_once(_GATE, run=run, lane=lane, gate=gate, **values):
        return False
    touch(tx, run, lane, flag="waiting")
    said = {"name": name, "digest": digest, "summary": dict(summary), "generation": generation}
    tx.append(NewEvent(run=run, kind=Kind.GATE_OPENED, lane=lane, step=gate, data=said))
    return True


def decide(
    tx: Transaction,
    *,
    run: str,
    lane: str,
    gate: str,
    decision: Literal["approve", "reject"],
    by: str,
    reason: str = "",
    digest: str,
    not_before: datetime | None = None,
    four_eyes: bool,
    requested_by: str,
) -> GateRow:
    """Approve or reject what *digest* names, and return the gate as it stands then.

    An approval has the lane looked at again (at *not_before*, if given); a rejection needs a reason and stops the lane.
    Raises: GateDecided (`who`, `when`), DigestChanged, FourEyes, GateError: not open, no reason, the lane is over.
    """
    current = gate_row(tx.connection, run, lane, gate)
    _may_decide(tx, current, decision=decision, by=by, reason=reason, four_eyes=four_eyes, requested_by=requested_by)
    if current.digest != digest:
        raise DigestChanged(run=run, lane=lane, gate=gate)
    status = "approved" if decision == "approve" else "rejected"
    values = {
        "status": status,
        "decided_by": by,
        "decided_at": tx.clock,
        "reason": reason,
        "not_before": None if not_before is None else not_before.timestamp(),
    }
    won = tx.connection.execute(
        sa.update(_GATE)
        .where(*_this(run, lane, gate), _GATE.c.status == "open", _GATE.c.digest == digest)
        .values(**values)
    )
    after = gate_row(tx.connection, run, lane, gate)
    if won.rowcount != 1:
        raise _decided(after)
    said: dict[str, Any] = {"digest": digest, "reason": reason}
    if not_before is not None:
        said["not_before"] = not_before.isoformat()
    kind = Kind.GATE_APPROVED if decision == "approve" else Kind.GATE_REJECTED
    tx.append(NewEvent(run=run, kind=kind, lane=lane, step=gate, actor=by, data=said))
    if decision == "reject":
        stop_lane(tx, run, lane, f"{by} rejected {current.name}: {reason}", data={"gate": gate}, by=by)
    else:
        wait_s = 0.0 if not_before is None else max(0.0, not_before.timestamp() - tx.clock)
        outbox.add(tx, outbox.ADVANCE, run, lane, {"gate": gate}, after_s=wait_s)
    return after


def reopen(
    tx: Transaction,
    *,
    run: str,
    lane: str,
    gate: str,
    digest: str,
    summary: Mapping[str, Any],
    why: str,
    by: str = "engine",
) -> None:
    """Bring the gate back to open because what was approved changed; the earlier decision is void.

    Raises: GateError: it was passed already, so nothing can be taken back.
    """
    current = gate_row(tx.connection, run, lane, gate)
    values = {
        "status": "open",
        "digest": digest,
        "summary": dict(summary),
        "opened_at": tx.clock,
        "decided_by": "",
        "decided_at": None,
        "reason": "",
        "not_before": None,
    }
    undone = tx.connection.execute(
        sa.update(_GATE).where(*_this(run, lane, gate), _GATE.c.status != "passed").values(**values)
    )
    if undone.rowcount != 1:
        raise GateError(
            f"Gate {current.name} of lane {lane} was passed already.", remedy="Make a new plan and a new run."
        )
    flag = lane_row(tx.connection, run, lane).flag
    said = {"name": current.name, "digest": digest, "summary": dict(summary), "again": why}
    if flag not in {"", "waiting"}:
        said["flag"] = flag  # paused, stopped or over: the lane stays so, and the fold must not take it to wait here
    tx.append(NewEvent(run=run, kind=Kind.GATE_OPENED, lane=lane, step=gate, actor=by, data=said))
    if flag == "":
        touch(tx, run, lane, flag="waiting")


def void(tx: Transaction, *, run: str, lane: str, gate: str, parts: Sequence[str], why: str) -> None:
    """Take back an approval that was gone through already, because *why*: nothing behind the gate was changed yet.

    The gate is open again for what it showed, and *parts*, the readings that came after it, are made anew behind it.
    A gate that nobody went through, and one of a lane that is over, is left alone.
    """
    current = gate_row(tx.connection, run, lane, gate)
    if current.status != "passed" or lane_row(tx.connection, run, lane).flag in {"cancelled", "done"}:
        return
    summary = {**current.summary, "voided": why, "shown": current.summary.get("shown", current.digest)}
    # Another digest, so that a page opened before does not approve what it does not tell: why the first one is void.
    digest = digest_of_json({"digest": current.digest, "voided": why, "at": tx.clock})
    values = {
        "status": "open",
        "digest": digest,
        "summary": summary,
        "opened_at": tx.clock,
        "decided_by": "",
        "decided_at": None,
        "reason": "",
        "not_before": None,
    }
    tx.connection.execute(sa.update(_GATE).where(*_this(run, lane, gate)).values(**values))
    reopen_parts(tx, run, lane, [gate, *parts], why)
    said = {"name": current.name, "digest": digest, "summary": summary, "again": why, "reason": why}
    tx.append(NewEvent(run=run, kind=Kind.GATE_OPENED, lane=lane, step=gate, data=said))
    touch(tx, run, lane, flag="waiting")


def pass_gate(tx: Transaction, *, run: str, lane: str, gate: str) -> bool:
    """Let the lane go on behind an approved gate; True exactly once.

    False: not approved, its time has not come, passed before, or the lane is paused, stopped or over.
    """
    row = lane_row(tx.connection, run, lane)
    if row.flag not in {"", "waiting"}:
        return False
    due = sa.or_(_GATE.c.not_before.is_(None), _GATE.c.not_before <= tx.clock)
    passed = tx.connection.execute(
        sa.update(_GATE).where(*_this(run, lane, gate), _GATE.c.status == "approved", due).values(status="passed")
    )
    if passed.rowcount != 1:
        return False
    pass_through(tx, run, lane, gate, row.generation)
    tx.append(NewEvent(run=run, kind=Kind.GATE_PASSED, lane=lane, step=gate, data={"generation": row.generation}))
    touch(tx, run, lane, flag="")
    outbox.add(tx, outbox.ADVANCE, run, lane, {"gate": gate})
    return True


def must_be_approved(tx: Transaction, *, run: str, lane: str, name: str) -> None:
    """Return when the gate called *name* of *lane* is approved and not passed yet. Raises: GateError."""
    query = sa.select(_GATE.c.status).where(_GATE.c.run == run, _GATE.c.lane == lane, _GATE.c.name == name)
    if "approved" not in tx.connection.execute(query).scalars().all():
        raise GateError(
            f"Gate {name} of lane {lane} was passed or reopened meanwhile; nothing was taken.",
            remedy=f"See `certbridge runs show {run}`.",
        )


def deliver(tx: Transaction, run: str, lane: str, certificates: Mapping[str, Mapping[str, Any]], by: str) -> None:
    """Journal that signed certificates came in (wish id → digests), and have the lane looked at again.

    They were checked before (`workflows.x509`); the bytes are blobs, see `stock`.
    """
    data = {"certificates": {wish: dict(said) for wish, said in certificates.items()}}
    tx.append(NewEvent(run=run, kind=Kind.CERTIFICATES_DELIVERED, lane=lane, actor=by, data=data))
    outbox.add(tx, outbox.ADVANCE, run, lane, {"delivered": sorted(certificates)})


def gate_row(connection: sa.Connection, run: str, lane: str, gate: str) -> GateRow:
    """Return the gate. Raises: GateError: it was never opened."""
    row = connection.execute(sa.select(_GATE).where(*_this(run, lane, gate))).one_or_none()
    if row is None:
        raise GateError(
            f"Gate {gate} of run {run} is not open.", remedy="See `certbridge gates list` for those that are."
        )
    return _gate(row)


def open_gates(connection: sa.Connection, statuses: Sequence[str] = ("open",)) -> list[GateRow]:
    """Return the gates of open runs that stand at one of *statuses*, oldest first."""
    query = (
        sa.select(_GATE)
        .join(tables.run, tables.run.c.run == _GATE.c.run)
        .where(_GATE.c.status.in_(statuses), tables.run.c.outcome == "open")
        .order_by(_GATE.c.opened_at, _GATE.c.run, _GATE.c.lane, _GATE.c.gate)
    )
    return [_gate(row) for row in connection.execute(query)]


def _may_decide(
    tx: Transaction, current: GateRow, *, decision: str, by: str, reason: str, four_eyes: bool, requested_by: str
) -> None:
    if decision not in {"approve", "reject"}:
        raise GateError(f"A gate is approved or rejected, not {decision!r}.", remedy="Say approve or reject.")
    if current.status != "open":
        raise _decided(current)
    flag = lane_row(tx.connection, current.run, current.lane).flag
    if flag in {"cancelled", "done"}:
        raise GateError(f"Lane {current.lane} is {flag}; there is nothing left to decide.", remedy="Make a new run.")
    if decision == "reject" and not reason.strip():
        raise GateError("A rejection needs a reason.", remedy="Say why with `--reason`.")
    if decision == "approve" and four_eyes and by == requested_by:
        raise FourEyes(run=current.run, lane=current.lane, gate=current.gate, who=by)


def _decided(gate: GateRow) -> GateDecided:
    when = f"{gate.decided_at:%Y-%m-%d %H:%M:%S} UTC" if gate.decided_at else "an unknown time"
    word = "rejected" if gate.status == "rejected" else "approved"
    return GateDecided(
        f"The gate was {word} by {gate.decided_by} at {when} already.",
        run=gate.run,
        lane=gate.lane,
        gate=gate.gate,
        status=gate.status,
        who=gate.decided_by,
        when=gate.decided_at,
    )


def _this(run: str, lane: str, gate: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_GATE.c.run == run, _GATE.c.lane == lane, _GATE.c.gate == gate)


def _gate(row: Any) -> GateRow:
    return GateRow(
        run=row.run,
        lane=row.lane,
        gate=row.gate,
        name=row.name,
        status=row.status,
        digest=row.digest,
        summary=row.summary,
        opened_at=moment(row.opened_at),
        decided_by=row.decided_by,
        decided_at=None if row.decided_at is None else moment(row.decided_at),
        reason=row.reason,
        not_before=None if row.not_before is None else moment(row.not_before),
    )
