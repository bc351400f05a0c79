"""Gates: people decide, exactly one decision wins, and it is bound to the digest of what was shown.

A gate moves open → approved → passed, or open → rejected; `reopen` and a resumed lane bring it back to open. Each move
is one conditional UPDATE (reading first and writing then gave 301 winners of 300 gates, faults.md F22).
An approval is a vote (`votes`); the one that fills the last stage is the decision. Two clocks run, both the database's:
to decide, and to use what was approved; `expire` lets `system` decide when one has run out. Rules and digests are in
`workflows.gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from workflows import gate as rules
from workflows.canonical import digest_of_json
from workflows.errors import DigestChanged, GateDecided, GateError, InputError
from workflows.gate import StageState
from workflows.inventory import Approval
from workflows.journal import outbox, tables, votes
from workflows.journal.claims import pass_through
from workflows.journal.events import Event, Kind, NewEvent
from workflows.journal.lanes import lane_row, reopen_parts, stop_lane, touch
from workflows.journal.store import Transaction, event_of, moment
from workflows.people import SYSTEM, Person

_GATE = tables.gate


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """A gate as it stands; times are aware UTC. status: open | approved | rejected | passed.

    `expires_at`: while it is open, the people's time is up then; while it is approved, the approval's.
    """

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
    expires_at: datetime | None
    terms: Approval


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
    terms: Approval | None = None,
) -> bool:
    """Open the gate and let the lane wait at it; False when it was opened before, or the generation is old.

    *terms* say who approves and how long people have, as the plan has it.
    """
    row = lane_row(tx.connection, run, lane)
    if row.flag not in {"", "waiting"} or generation != row.generation:
        return False
    asked = terms or Approval(gate=name)
    values = {"name": name, "digest": digest, "summary": dict(summary), "terms": asked.to_json()}
    if not tx.insert_once(_GATE, run=run, lane=lane, gate=gate, **values, **_anew(tx, asked)):
        return False
    touch(tx, run, lane, flag="waiting")
    said = {"name": name, "digest": digest, "summary": dict(summary), "generation": generation}
    said |= {"expires_at": _iso(tx.now() + asked.decide_within)}
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
    two_people: bool = False,
    requested_by: str,
    others: Mapping[str, str] | None = None,
    person: Person | None = None,
) -> GateRow:
    """Approve or reject what *digest* names, and return the gate as it stands then.

    *person* is who asks over the API; without one, *by* is the account of this machine. *others* may not approve
    either, beside the requester (`rules.barred`); *two_people*: they are told that no inventory can change that.
    An approval is a vote; the one that fills the last stage has the lane looked at again (at the latest *not_before* of
    all votes). A rejection needs a reason and stops the lane.
    Raises: GateDecided (`who`, `when`), DigestChanged, FourEyes, AlreadyVoted, NotAllowed, InputError (*not_before* is
    later than the approval is good for), GateError: not open, too late, no reason, the lane is over.
    """
    current = gate_row(tx.connection, run, lane, gate)
    _may_be_decided(tx, current, decision)
    if current.digest != digest:
        raise DigestChanged(rules.other_digest(digest, current.digest), run=run, lane=lane, gate=gate)
    who = votes.voter(tx.connection, by, person)
    key = (run, lane, gate)
    stages = votes.stages(tx.connection, key, digest, current.terms)
    if decision == "reject":
        rules.check_rejection(who, cluster=lane, stages=stages, requested_by=requested_by, reason=reason)
        return _reject(tx, current, by=by, reason=reason)
    why = {**(others or {}), **rules.barred(requested_by=requested_by)} if four_eyes else {}
    stage = rules.check_approval(who, cluster=lane, stages=stages, barred_people=why, two_people=two_people)
    if not_before is not None and not_before >= tx.now() + current.terms.valid_for:
        raise InputError(
            f"{not_before:%Y-%m-%d %H:%M} UTC is later than an approval is good for.",
            remedy=f"Name a time within the next {_days(current.terms.valid_for_days)}, or approve later.",
        )
    if not votes.give(tx, key, digest=digest, by=who, stage=stage, reason=reason, not_before=not_before):
        raise GateError("This account has a vote at this gate already.", remedy="See `certbridge gates show`.")
    stages = votes.stages(tx.connection, key, digest, current.terms)
    said = {"digest": digest, "reason": reason, "stage": stage, "via": who.via, **_invited(stages[stage], by)}
    if rules.current(stages) is not None:
        if not_before is not None:
            said["not_before"] = _iso(not_before)
        tx.append(NewEvent(run=run, kind=Kind.GATE_VOTED, lane=lane, step=gate, actor=by, data=said))
        return current
    times = [vote.not_before for each in stages for vote in each.votes if vote.counts and vote.not_before]
    return _approve(tx, current, by=by, reason=reason, not_before=max(times, default=None), said=said)


def _invited(stage: StageState, by: str) -> dict[str, Any]:
    """Return {"invited_by", "invited_at"} when the vote of *by* tells of an invitation, for its event; else {}."""
    vote = next(one for one in stage.votes if one.name == by)
    return {"invited_by": vote.invited_by, "invited_at": _iso(vote.invited_at)} if vote.invited_at else {}


def _approve(
    tx: Transaction, gate: GateRow, *, by: str, reason: str, not_before: datetime | None, said: dict[str, Any]
) -> GateRow:
    until = tx.now() + gate.terms.valid_for
    times = {"not_before": not_before, "expires_at": until}
    values = {name: None if value is None else value.timestamp() for name, value in times.items()}
    after = _decided_once(tx, gate, status="approved", by=by, reason=reason, **values)
    said |= {name: _iso(value) for name, value in times.items() if value is not None}
    here = {"run": gate.run, "lane": gate.lane, "step": gate.gate}
    tx.append(NewEvent(kind=Kind.GATE_APPROVED, actor=by, data=said, **here))
    wait_s = 0.0 if not_before is None else max(0.0, not_before.timestamp() - tx.clock)
    outbox.add(tx, outbox.ADVANCE, gate.run, gate.lane, {"gate": gate.gate}, after_s=wait_s)
    return after


def _reject(tx: Transaction, gate: GateRow, *, by: str, reason: str, why: str = "") -> GateRow:
    """Reject it, whatever it was; *why* instead of "BY rejected NAME" is what the lane says when it was approved."""
    after = _decided_once(tx, gate, status="rejected", by=by, reason=reason, not_before=None, expires_at=None)
    said = {"digest": gate.digest, "reason": reason}
    here = {"run": gate.run, "lane": gate.lane}
    tx.append(NewEvent(kind=Kind.GATE_REJECTED, step=gate.gate, actor=by, data=said, **here))
    stop_lane(tx, gate.run, gate.lane, why or f"{by} rejected {gate.name}: {reason}", data={"gate": gate.gate}, by=by)
    return after


def _decided_once(tx: Transaction, gate: GateRow, *, status: str, by: str, reason: str, **values: Any) -> GateRow:
    """Move *gate* from what it was when it was read to *status*; one of many at the same instant gets through."""
    values |= {"status": status, "decided_by": by, "decided_at": tx.clock, "reason": reason}
    here = _this(gate.run, gate.lane, gate.gate)
    won = tx.connection.execute(
        sa.update(_GATE).where(*here, _GATE.c.status == gate.status, _GATE.c.digest == gate.digest).values(**values)
    )
    after = gate_row(tx.connection, gate.run, gate.lane, gate.gate)
    if won.rowcount != 1:
        raise _decided(after)
    return after


def expire(tx: Transaction) -> list[tuple[str, str]]:
    """Let `system` reject what nobody decided, and void what nobody used, in time; return (run, lane) of each.

    The lane stops with the reason and keeps all it has, CSRs and certificates; `resume_lane` opens the gate again.
    """
    found = []
    for gate in open_gates(tx.connection, ("open", "approved"), _GATE.c.expires_at <= tx.clock):
        if lane_row(tx.connection, gate.run, gate.lane).flag in {"cancelled", "done"}:
            continue
        if gate.status == "approved":
            reason = f"the approval of {gate.decided_by} was not used within {_days(gate.terms.valid_for_days)}"
            why = f"{gate.name} is void: {reason}"
        else:
            key = (gate.run, gate.lane, gate.gate)
            stages = votes.stages(tx.connection, key, gate.digest, gate.terms)
            some = any(stage.votes for stage in stages)
            reason = (
                f"{'not enough people' if some else 'nobody'} decided within {_days(gate.terms.decide_within_days)}"
            )
            why = f"{gate.name}: {reason}"
        _reject(tx, gate, by=SYSTEM, reason=reason, why=why)
        found.append((gate.run, gate.lane))
    return found


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
    values = {"digest": digest, "summary": dict(summary), **_anew(tx, current.terms)}
    undone = tx.connection.execute(
        sa.update(_GATE).where(*_this(run, lane, gate), _GATE.c.status != "passed").values(**values)
    )
    if undone.rowcount != 1:
        raise GateError(
            f"Gate {current.name} of lane {lane} was passed already.", remedy="Make a new plan and a new run."
        )
    votes.clear(tx, (run, lane, gate))
    flag = lane_row(tx.connection, run, lane).flag
    said = {"name": current.name, "digest": digest, "summary": dict(summary), "again": why}
    said |= {"expires_at": _iso(tx.now() + current.terms.decide_within)}
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
    values = {"digest": digest, "summary": summary, **_anew(tx, current.terms)}
    tx.connection.execute(sa.update(_GATE).where(*_this(run, lane, gate)).values(**values))
    votes.clear(tx, (run, lane, gate))
    reopen_parts(tx, run, lane, [gate, *parts], why)
    said = {"name": current.name, "digest": digest, "summary": summary, "again": why, "reason": why}
    said |= {"expires_at": _iso(tx.now() + current.terms.decide_within)}
    tx.append(NewEvent(run=run, kind=Kind.GATE_OPENED, lane=lane, step=gate, data=said))
    touch(tx, run, lane, flag="waiting")


def pass_gate(tx: Transaction, *, run: str, lane: str, gate: str) -> bool:
    """Let the lane go on behind an approved gate; True exactly once.

    False: not approved, its time has not come or is over, passed before, or the lane is paused, stopped or over. Who
    approved is looked at again here: where somebody may no longer, the gate is open again.
    """
    row = lane_row(tx.connection, run, lane)
    if row.flag not in {"", "waiting"}:
        return False
    due = sa.or_(_GATE.c.not_before.is_(None), _GATE.c.not_before <= tx.clock)
    alive = sa.or_(_GATE.c.expires_at.is_(None), _GATE.c.expires_at > tx.clock)
    here = (*_this(run, lane, gate), _GATE.c.status == "approved", due, alive)
    found = tx.connection.execute(sa.select(_GATE).where(*here)).one_or_none()
    if found is None or not _still_approved(tx, _gate(found)):
        return False
    passed = tx.connection.execute(sa.update(_GATE).where(*here).values(status="passed", expires_at=None))
    if passed.rowcount != 1:
        return False
    pass_through(tx, run, lane, gate, row.generation)
    tx.append(NewEvent(run=run, kind=Kind.GATE_PASSED, lane=lane, step=gate, data={"generation": row.generation}))
    touch(tx, run, lane, flag="")
    outbox.add(tx, outbox.ADVANCE, run, lane, {"gate": gate})
    return True


def _still_approved(tx: Transaction, gate: GateRow) -> bool:
    """Return whether all who approved may still approve; else the gate is open again, and new votes are needed."""
    stages = votes.stages(tx.connection, (gate.run, gate.lane, gate.gate), gate.digest, gate.terms)
    lost = sorted({vote.name for stage in stages for vote in stage.votes if not vote.counts})
    if not lost or rules.current(stages) is None:
        return True
    reopen(
        tx,
        run=gate.run,
        lane=gate.lane,
        gate=gate.gate,
        digest=gate.digest,
        summary=gate.summary,
        why=f"{', '.join(lost)} approved it, and may not approve any more",
    )
    return False


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


def deliveries(connection: sa.Connection, run: str) -> list[Event]:
    """Return the events that tell of certificates which came in, oldest first."""
    table = tables.event
    kind = table.c.kind == Kind.CERTIFICATES_DELIVERED.value
    query = sa.select(table).where(table.c.run == run, kind).order_by(table.c.n)
    return [event_of(row) for row in connection.execute(query)]


def gate_row(connection: sa.Connection, run: str, lane: str, gate: str) -> GateRow:
    """Return the gate. Raises: GateError: it was never opened."""
    row = connection.execute(sa.select(_GATE).where(*_this(run, lane, gate))).one_or_none()
    if row is None:
        raise GateError(
            f"Gate {gate} of run {run} is not open.", remedy="See `certbridge gates list` for those that are."
        )
    return _gate(row)


def open_gates(
    connection: sa.Connection, statuses: Sequence[str] = ("open",), *conditions: sa.ColumnElement[bool]
) -> list[GateRow]:
    """Return the gates of open runs that stand at one of *statuses* (and meet *conditions*), oldest first."""
    query = (
        sa.select(_GATE)
        .join(tables.run, tables.run.c.run == _GATE.c.run)
        .where(_GATE.c.status.in_(statuses), tables.run.c.outcome == "open", *conditions)
        .order_by(_GATE.c.opened_at, _GATE.c.run, _GATE.c.lane, _GATE.c.gate)
    )
    return [_gate(row) for row in connection.execute(query)]


def open_by_lane(connection: sa.Connection) -> dict[str, int]:
    """Return {lane: how many gates of open runs are open}: what every page shows, so nothing else is read."""
    query = (
        sa.select(_GATE.c.lane, sa.func.count().label("many"))
        .join(tables.run, tables.run.c.run == _GATE.c.run)
        .where(_GATE.c.status == "open", tables.run.c.outcome == "open")
        .group_by(_GATE.c.lane)
    )
    return {row.lane: row.many for row in connection.execute(query)}


def _may_be_decided(tx: Transaction, current: GateRow, decision: str) -> None:
    if decision not in {"approve", "reject"}:
        raise GateError(f"A gate is approved or rejected, not {decision!r}.", remedy="Say approve or reject.")
    if current.status != "open":
        raise _decided(current)
    flag = lane_row(tx.connection, current.run, current.lane).flag
    if flag in {"cancelled", "done"}:
        raise GateError(f"Lane {current.lane} is {flag}; there is nothing left to decide.", remedy="Make a new run.")
    if current.expires_at is not None and current.expires_at <= tx.now():
        raise GateError(
            f"The time to decide ran out at {current.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
            remedy=f"`certbridge runs resume {current.run}` opens it again, once the lane has stopped.",
        )


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


def _anew(tx: Transaction, terms: Approval) -> dict[str, Any]:
    """Return the columns of a gate that nobody has decided, with the whole time before it."""
    nobody = {"decided_by": "", "decided_at": None, "reason": "", "not_before": None}
    times = {"expires_at": _after(tx, terms.decide_within), "remind_at": terms.first_reminder_s(tx.now())}
    return {"status": "open", "opened_at": tx.clock, **times, **nobody}


def _after(tx: Transaction, span: timedelta) -> float:
    return tx.clock + span.total_seconds()


def _iso(time: datetime) -> str:
    return time.isoformat()


def _days(number: int) -> str:
    return f"{number} day" if number == 1 else f"{number} days"


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
        expires_at=None if row.expires_at is None else moment(row.expires_at),
        terms=Approval.from_json({"gate": row.name, **row.terms}),
    )
