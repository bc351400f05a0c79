"""Events: what happened, in order, hash-chained per run. Pure: no database, no clock.

An event is never changed. Each carries the SHA-256 of itself and of the one before it, so that an edited, missing or
moved event is found by `verify` (faults.md section 5). A cut tail cannot be seen from the events alone:
`Journal.verify` compares with the head that the database keeps beside them. Never put a secret into `data`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

FLEET = "fleet"
"""The chain of what belongs to no run: pinned host keys, resting credentials, facts of a bare survey."""


class Kind(StrEnum):
    """What happened. Steps, barriers and gates are named in the event's `step`."""

    RUN_CREATED = "run_created"
    LANE_SENT = "lane_sent"
    STEP_CLAIMED = "step_claimed"
    STEP_DROPPED = "step_dropped"
    INTENT = "intent"
    OUTCOME = "outcome"
    STEP_DONE = "step_done"
    STEP_FAILED = "step_failed"
    STEP_WAITING = "step_waiting"
    STEP_PARKED = "step_parked"
    STEPS_REOPENED = "steps_reopened"
    BARRIER_PASSED = "barrier_passed"
    LANE_STOPPED = "lane_stopped"
    LANE_RESUMED = "lane_resumed"
    LANE_PAUSED = "lane_paused"
    LANE_CANCELLED = "lane_cancelled"
    LANE_DONE = "lane_done"
    GATE_OPENED = "gate_opened"
    GATE_APPROVED = "gate_approved"
    GATE_REJECTED = "gate_rejected"
    GATE_PASSED = "gate_passed"
    CERTIFICATES_DELIVERED = "certificates_delivered"
    FACTS_RECORDED = "facts_recorded"
    PUT_BACK = "put_back"
    ROLLBACK_FAILED = "rollback_failed"
    HOST_KEY_SEEN = "host_key_seen"
    HOST_KEY_PINNED = "host_key_pinned"
    CREDENTIAL_REFUSED = "credential_refused"
    CREDENTIAL_WOKEN = "credential_woken"
    ACCOUNT_CHANGED = "account_changed"
    SIGNED_IN = "signed_in"
    SIGN_IN_REFUSED = "sign_in_refused"
    ACCESS_REFUSED = "access_refused"
    SESSION_ENDED = "session_ended"
    TOKEN_MADE = "token_made"  # noqa: S105 - a kind of event
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - as above
    GATE_VOTED = "gate_voted"
    GATE_REMINDED = "gate_reminded"
    WEBHOOK_CHANGED = "webhook_changed"
    NOTE = "note"
    RUN_CLOSED = "run_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as it is handed in; the journal adds number, time and hashes. `data` is plain JSON."""

    run: str
    kind: Kind
    lane: str = ""
    step: str = ""
    node: str = ""
    actor: str = "engine"
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(NewEvent):
    """An event as it stands in the journal: `n` counts from 1 in its run, `at` is aware UTC by the database's clock."""

    n: int
    at: datetime
    prev: str
    hash: str


def canonical_text(value: Any) -> str:
    """Return *value* as JSON with sorted keys, no spaces, ASCII only. Raises: ValueError for NaN and infinities.

    ASCII, other than `plan.canonical`, because replies of servers may hold bytes that are no text in any encoding.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_of(event: NewEvent, *, n: int, at: datetime, prev: str) -> str:
    """Return the SHA-256 (hex) over *prev* and the canonical JSON of all that *event* says."""
    said = {
        "run": event.run,
        "n": n,
        "kind": event.kind.value,
        "lane": event.lane,
        "step": event.step,
        "node": event.node,
        "actor": event.actor,
        "at": at.isoformat(timespec="microseconds"),
        "data": event.data,
    }
    return hashlib.sha256(f"{prev}\n{canonical_text(said)}".encode()).hexdigest()


def chained(event: NewEvent, *, n: int, at: datetime, prev: str) -> Event:
    """Return *event* as number *n* of its run, with `data` as it will be read back (tuples become lists)."""
    plain = NewEvent(
        run=event.run,
        kind=Kind(event.kind),
        lane=event.lane,
        step=event.step,
        node=event.node,
        actor=event.actor,
        data=json.loads(canonical_text(event.data)),
    )
    return Event(
        run=plain.run,
        kind=plain.kind,
        lane=plain.lane,
        step=plain.step,
        node=plain.node,
        actor=plain.actor,
        data=plain.data,
        n=n,
        at=at,
        prev=prev,
        hash=hash_of(plain, n=n, at=at, prev=prev),
    )


def verify(events: Iterable[Event]) -> tuple[str, ...]:
    """Return what is wrong with the events of one run, from its first on; empty when the chain is whole."""
    problems: list[str] = []
    expected_n, prev = 1, ""
    for event in events:
        if event.n != expected_n:
            problems.append(f"event {expected_n} is missing or out of order: {event.n} stands in its place")
        elif event.prev != prev:
            problems.append(f"event {event.n} does not follow the event before it")
        if hash_of(event, n=event.n, at=event.at, prev=event.prev) != event.hash:
            problems.append(f"event {event.n} was changed")
        expected_n, prev = event.n + 1, event.hash
    return tuple(problems)
