"""Runs: making one, with its lanes and reservations, and closing it.

A reservation (run ↔ node or cluster) lasts through gates, until the run is closed: a second run that wants the same
server is told who holds it. It is not a lease: a lease (worker ↔ node) lasts for one step, see `claims`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from workflows.errors import JournalError, Reserved
from workflows.journal import outbox, tables
from workflows.journal.events import FLEET, Kind, NewEvent
from workflows.journal.store import Transaction, moment


def create_run(
    tx: Transaction,
    *,
    run: str,
    kind: str,
    plan: Mapping[str, Any],
    digest: str,
    fleet: str,
    requested_by: str,
    lanes: Sequence[str],
    resources: Sequence[str],
    planned_by: str = "",
) -> None:
    """Write the run, its plan, its lanes (generation 0) and an outbox row each; reserve *resources* (() to read).

    *planned_by* made the plan, "" when it was *requested_by*: neither may approve it.
    Raises: Reserved: another run holds one of them. JournalError: there is such a run already.
    """
    if run == FLEET or not tx.insert_once(tables.chain, run=run, head_n=0, head_hash=""):
        raise JournalError(f"There is a run {run} already.", run=run)
    reserve(tx, run, resources)
    tx.connection.execute(
        sa.insert(tables.run).values(
            run=run,
            kind=kind,
            digest=digest,
            fleet=fleet,
            requested_by=requested_by,
            created_at=tx.clock,
            plan=plan,
            outcome="open",
            purpose=str(plan.get("purpose", "")),
        )
    )
    said = {"kind": kind, "fleet": fleet, "digest": digest, "requested_by": requested_by}
    said |= {"planned_by": planned_by or requested_by}
    about = {**said, "lanes": list(lanes), "resources": list(resources)}
    tx.append(NewEvent(run=run, kind=Kind.RUN_CREATED, actor=requested_by, data=about))
    for lane in lanes:
        tx.connection.execute(
            sa.insert(tables.lane).values(run=run, lane=lane, generation=0, touched_at=tx.clock, flag="")
        )
        outbox.add(tx, outbox.ADVANCE, run, lane)


def exists(connection: sa.Connection, run: str) -> bool:
    """Return whether there is such a run."""
    return connection.execute(sa.select(tables.run.c.run).where(tables.run.c.run == run)).first() is not None


def reserve(tx: Transaction, run: str, resources: Sequence[str]) -> None:
    """Hold *resources* for *run*, all or none. Raises: Reserved, with `run`, `resource`, `since` in its data."""
    table = tables.reservation
    for resource in dict.fromkeys(resources):
        tx.insert_once(table, resource=resource, run=run, since=tx.clock)
        held = tx.connection.execute(sa.select(table).where(table.c.resource == resource)).one()
        if held.run != run:
            raise _reserved(held)


def check_free(connection: sa.Connection, resources: Sequence[str]) -> None:
    """Return when nobody holds one of *resources* now; only `reserve` makes sure of it. Raises: Reserved."""
    table = tables.reservation
    for resource in resources:
        held = connection.execute(sa.select(table).where(table.c.resource == resource)).first()
        if held is not None:
            raise _reserved(held)


def _reserved(held: sa.Row[Any]) -> Reserved:
    since = moment(held.since)
    return Reserved(
        f"{held.resource.removeprefix('node:')} is held by run {held.run} since {since:%Y-%m-%d %H:%M:%S} UTC.",
        remedy=f"Wait for run {held.run} to end, or cancel it with `certbridge runs cancel {held.run}`.",
        run=held.run,
        resource=held.resource,
        since=since,
    )


def release(tx: Transaction, run: str) -> tuple[str, ...]:
    """Let go of all that *run* holds, and return it."""
    table = tables.reservation
    gone = tx.connection.execute(sa.delete(table).where(table.c.run == run).returning(table.c.resource))
    return tuple(sorted(gone.scalars()))


def reservations(connection: sa.Connection) -> Mapping[str, str]:
    """Return which run holds which resource, by resource."""
    table = tables.reservation
    return {row.resource: row.run for row in connection.execute(sa.select(table).order_by(table.c.resource))}


def close_run(tx: Transaction, run: str, outcome: Literal["done", "failed", "cancelled"]) -> bool:
    """End the run with *outcome* and let go of what it holds; False when it was closed already."""
    table = tables.run
    closed = tx.connection.execute(
        sa.update(table)
        .where(table.c.run == run, table.c.outcome == "open")
        .values(outcome=outcome, closed_at=tx.clock)
    )
    if closed.rowcount != 1:
        return False
    freed = release(tx, run)
    tx.append(NewEvent(run=run, kind=Kind.RUN_CLOSED, data={"outcome": outcome, "released": list(freed)}))
    return True
