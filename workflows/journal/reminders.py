"""Reminders of gates that wait for people: written once each, in the commit that sets the time of the next one.

When they are due is `Approval.next_reminder`; the control worker looks. Webhooks tell of them (`telling`). After a time
a reminder names the group to turn to; who may approve stays as the plan has it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from workflows import gate as rules
from workflows.journal import gates, tables, votes
from workflows.journal.events import Kind, NewEvent
from workflows.journal.gates import GateRow
from workflows.journal.lanes import lane_row
from workflows.journal.store import Transaction

_GATE = tables.gate


def remind(tx: Transaction) -> list[tuple[str, str]]:
    """Write what is due, and when the next is; return (run, lane) of each gate that people were reminded of.

    What was missed while no control worker ran is made up for by one reminder, not by many.
    """
    found = []
    for gate in gates.open_gates(tx.connection, ("open",), _GATE.c.remind_at <= tx.clock):
        over = lane_row(tx.connection, gate.run, gate.lane).flag in {"cancelled", "done"}
        after = None if over else gate.terms.next_reminder(gate.opened_at, after=tx.now())
        here = (_GATE.c.run == gate.run, _GATE.c.lane == gate.lane, _GATE.c.gate == gate.gate)
        tx.connection.execute(sa.update(_GATE).where(*here).values(remind_at=after and after.timestamp()))
        late = gate.expires_at is not None and gate.expires_at <= tx.now()  # `expire` decides it
        if not over and not late:
            said = _said(tx, gate)
            tx.append(NewEvent(run=gate.run, kind=Kind.GATE_REMINDED, lane=gate.lane, step=gate.gate, data=said))
            found.append((gate.run, gate.lane))
    return found


def _said(tx: Transaction, gate: GateRow) -> dict[str, Any]:
    """Return what a reminder says: who is waited for, since when and until when, and to whom to turn."""
    now, terms = tx.now(), gate.terms
    stages = votes.stages(tx.connection, (gate.run, gate.lane, gate.gate), gate.digest, terms)
    number = rules.current(stages)
    said: dict[str, Any] = {"name": gate.name, "hours": int((now - gate.opened_at).total_seconds() // 3600)}
    if number is not None:
        said |= {"group": stages[number].group, "missing": stages[number].missing}
    if gate.expires_at is not None:
        said["expires_at"] = gate.expires_at.isoformat()
    if now >= terms.last_reminder(gate.opened_at):
        said["last"] = True
    if terms.escalate_to and now >= gate.opened_at + terms.escalate_after:
        said["escalate_to"] = terms.escalate_to
    return said
