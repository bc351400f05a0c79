"""Outbox: what is still to be sent to Celery. A row is written in the commit that makes it necessary.

The control worker looks at it every 100 ms (DESIGN.md section 4), sends, and marks the row. A crash between the two
sends it twice, which does no harm: a step is done by who claims it. Nothing here talks to a broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workflows.journal import tables
from workflows.journal.store import Transaction, moment

ADVANCE = "advance"
"""The one kind the engine itself writes: look at this lane, and send what may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One row that waits to be sent; `not_before` is aware UTC."""

    id: int
    kind: str
    run: str
    lane: str
    data: Mapping[str, Any]
    not_before: datetime


def add(
    tx: Transaction, kind: str, run: str, lane: str, data: Mapping[str, Any] | None = None, after_s: float = 0
) -> int:
    """Write a row that is due in *after_s* seconds by the database's clock, and return its id."""
    statement = (
        sa.insert(tables.outbox)
        .values(kind=kind, run=run, lane=lane, data=dict(data or {}), not_before=tx.clock + after_s)
        .returning(tables.outbox.c.id)
    )
    return int(tx.connection.execute(statement).scalar_one())


def waits(tx: Transaction, run: str, lane: str) -> bool:
    """Return whether a row of *lane* is not sent yet."""
    box = tables.outbox
    query = sa.select(box.c.id).where(box.c.run == run, box.c.lane == lane, box.c.sent_at.is_(None)).limit(1)
    return tx.connection.execute(query).first() is not None


def due(tx: Transaction, limit: int = 100) -> list[Outgoing]:
    """Return unsent rows whose time has come, oldest first. Two readers may see one row; `sent` tells them apart."""
    return _due(tx.connection, tx.clock, limit)


def pending(connection: sa.Connection, limit: int = 100) -> list[Outgoing]:
    """Return the same as `due` without a transaction that writes: cheap enough to ask every 100 ms."""
    return _due(connection, tables.clock(), limit)


def _due(connection: sa.Connection, now: Any, limit: int) -> list[Outgoing]:
    box = tables.outbox
    query = sa.select(box).where(box.c.sent_at.is_(None), box.c.not_before <= now).order_by(box.c.id).limit(limit)
    return [
        Outgoing(id=row.id, kind=row.kind, run=row.run, lane=row.lane, data=row.data, not_before=moment(row.not_before))
        for row in connection.execute(query)
    ]


def sent(tx: Transaction, outgoing_id: int) -> bool:
    """Mark the row as sent; False when it was already."""
    box = tables.outbox
    statement = sa.update(box).where(box.c.id == outgoing_id, box.c.sent_at.is_(None)).values(sent_at=tx.clock)
    return tx.connection.execute(statement).rowcount == 1
