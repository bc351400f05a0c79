"""Repair: let go of what a process held that is gone, so that its lanes need not wait for the lease to run out.

Who is gone, and how one knows, is the caller's (`workers.repair`). A line of the step may still be under way on its
server, though nobody waits for the answer: such a claim keeps its lease, which gives the server its time, and the lane
is rung when it ends. Every repair is a note in the journal of its run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from workflows.journal import outbox, tables
from workflows.journal.events import Kind, NewEvent
from workflows.journal.store import Transaction

_CLAIM, _LEASE, _EVENT = tables.claim, tables.lease, tables.event
_LIVE = sa.and_(_CLAIM.c.state == "running", _CLAIM.c.expires_at > tables.clock())


def holders(connection: sa.Connection) -> tuple[str, ...]:
    """Return who holds claims whose leases run."""
    return tuple(connection.execute(sa.select(_CLAIM.c.holder).where(_LIVE).distinct()).scalars())


def let_go(tx: Transaction, gone: Iterable[str]) -> tuple[str, ...]:
    """End the leases of the holders *gone*, ring their lanes, and return the steps; each is noted once."""
    rows = tx.connection.execute(
        sa.select(_CLAIM).where(_LIVE, _CLAIM.c.holder.in_(tuple(gone))).order_by(_CLAIM.c.run, _CLAIM.c.step)
    ).all()
    return tuple(row.step for row in rows if _let_go(tx, row))


def _let_go(tx: Transaction, row: Any) -> bool:
    line = _under_way(tx, row)
    if line and _noted(tx, row):
        return False
    left_s = max(0.0, row.expires_at - tx.clock) if line else 0.0
    if not line:
        here = (_CLAIM.c.run == row.run, _CLAIM.c.lane == row.lane, _CLAIM.c.step == row.step)
        tx.connection.execute(sa.update(_CLAIM).where(*here).values(expires_at=tx.clock))
        leased = (_LEASE.c.run == row.run, _LEASE.c.step == row.step, _LEASE.c.holder == row.holder)
        tx.connection.execute(sa.update(_LEASE).where(*leased).values(expires_at=tx.clock))
    found = f"the process that was at work on it, {row.holder}, is gone"
    done = (
        f"`{line}` may still be under way on the server, so its lease runs out first, in {left_s:.0f} s"
        if line
        else "its lease was ended, and the lane is sent again"
    )
    said = {"repair": "dead holder", "holder": row.holder, "attempt": row.attempt, "found": found, "done": done}
    tx.append(NewEvent(run=row.run, kind=Kind.NOTE, lane=row.lane, step=row.step, node=row.node, data=said))
    outbox.add(tx, outbox.ADVANCE, row.run, row.lane, {"why": found}, after_s=left_s)
    return True


def _under_way(tx: Transaction, row: Any) -> str:
    """Return the line of this step whose outcome nobody wrote down, or nobody knew, "" when there is none."""
    kinds = (Kind.INTENT.value, Kind.OUTCOME.value)
    query = (
        sa.select(_EVENT.c.kind, _EVENT.c.data)
        .where(_EVENT.c.run == row.run, _EVENT.c.step == row.step, _EVENT.c.kind.in_(kinds))
        .order_by(_EVENT.c.n.desc())
        .limit(2)
    )
    last = tx.connection.execute(query).all()
    if last and last[0].kind == Kind.OUTCOME.value and last[0].data["state"] == "unknown":
        last = last[1:]  # the connection was cut, and the server goes on: nobody knows more than of an intent alone
    return str(last[0].data["text"]) if last and last[0].kind == Kind.INTENT.value else ""


def _noted(tx: Transaction, row: Any) -> bool:
    query = sa.select(_EVENT.c.data).where(
        _EVENT.c.run == row.run, _EVENT.c.step == row.step, _EVENT.c.kind == Kind.NOTE.value
    )
    notes = tx.connection.execute(query).scalars()
    return any((one.get("holder"), one.get("attempt")) == (row.holder, row.attempt) for one in notes)
