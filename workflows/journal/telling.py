"""Which events webhooks are told of, and the rows of their deliveries, written in the commit of the event itself.

A delivery says what happened, to which run, lane and gate, and by whom; never why or with what: reasons, replies and
files stay in the journal, which whoever is told may ask over the API. Format: Standard Webhooks, "type" and "data".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from workflows.journal import tables
from workflows.journal.events import Event, Kind, canonical_text

TEST = "webhook.test"
OUTAGE = "outage.began"
_TYPES: Mapping[Kind, str] = {
    Kind.RUN_CREATED: "run.created",
    Kind.RUN_CLOSED: "run.closed",
    Kind.LANE_STOPPED: "lane.stopped",
    Kind.GATE_OPENED: "gate.opened",
    Kind.GATE_REMINDED: "gate.reminded",
    Kind.GATE_VOTED: "gate.voted",
    Kind.GATE_APPROVED: "gate.approved",
    Kind.GATE_REJECTED: "gate.rejected",
    Kind.CERTIFICATES_DELIVERED: "certificates.delivered",
    Kind.ROLLBACK_FAILED: "rollback.failed",
}
TYPES: tuple[str, ...] = (*_TYPES.values(), OUTAGE)
"""All that one may ask to be told of."""
_NAMES = ("kind", "fleet", "digest", "outcome", "name", "group", "escalate_to", "expires_at")
"""What of an event's data goes along: names, digests and times, nothing that a server or a person wrote freely."""


def type_of(event: Event) -> str:
    """Return what a webhook calls *event*, "" when nobody is told of it."""
    if event.kind is Kind.LANE_STOPPED and event.data.get("circuit") == "outage":
        return OUTAGE
    return _TYPES.get(event.kind, "")


def body_of(event: Event, kind: str) -> str:
    """Return the body of the delivery of *event*, as it is signed and sent."""
    data = {
        "run": event.run,
        "event": event.n,
        "lane": event.lane,
        "step": event.step,
        "node": event.node,
        "by": event.actor,
    }
    data |= {name: event.data[name] for name in _NAMES if isinstance(event.data.get(name), str)}
    said = {key: value for key, value in data.items() if value != ""}
    return canonical_text({"type": kind, "timestamp": event.at.isoformat(), "data": said})


def message_id(webhook: str, run: str, n: int) -> str:
    """Return the id of the message: the same at every try, so that a receiver knows what it has had already."""
    return f"msg_{hashlib.sha256(f'{webhook}/{run}/{n}'.encode()).hexdigest()[:32]}"


def write(connection: sa.Connection, events: Iterable[Event], clock: float) -> None:
    """Write a delivery for each active webhook that asked for one of *events*; no query when there is nothing to tell.

    Only the journal calls this, as the last thing before its commit.
    """
    told = [(event, kind) for event in events if (kind := type_of(event))]
    if not told:
        return
    table = tables.webhook
    hooks = connection.execute(sa.select(table.c.webhook, table.c.kinds).where(table.c.active)).all()
    rows = [
        row(hook.webhook, event, kind, clock)
        for event, kind in told
        for hook in hooks
        if not hook.kinds or kind in hook.kinds
    ]
    if rows:
        connection.execute(sa.insert(tables.webhook_delivery), rows)


def row(webhook: str, event: Event, kind: str, clock: float) -> dict[str, Any]:
    """Return the row of a delivery of *event*, due at once."""
    return {
        "webhook": webhook,
        "run": event.run,
        "n": event.n,
        "kind": kind,
        "body": body_of(event, kind),
        "tries": 0,
        "status": 0,
        "said": "",
        "at": clock,
        "due_at": clock,
    }
