"""Reminders of gates on both databases: each once, whoever looks and however often, and made up for by one."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from tests.integration.journal.virtual_clock import VirtualClock
from tests.integration.journal.world import LANE, make_run
from workflows.inventory import Approval, ApprovalStage
from workflows.journal import Journal, Kind, accounts, engines, gates, lists, reminders, tables, webhooks
from workflows.journal.lanes import cancel_lane, resume_lane
from workflows.journal.migrations import FOLDER
from workflows.people import Grant, Role

HOUR, DAY = 3600.0, 86_400.0
TERMS = Approval(
    gate="sign",
    stages=(ApprovalStage(group="pki"), ApprovalStage(group="security")),
    decide_within_days=4,
    escalate_after_hours=48,
    escalate_to="leads",
)


def at_gate(journal: Journal) -> None:
    """Let the lane stand at gate g1."""
    make_run(journal)
    opening = partial(gates.open_gate, run="r1", lane=LANE, gate="g1", name="sign", generation=1, summary={})
    assert journal.write(lambda tx: opening(tx, digest="d1", terms=TERMS))


def looked(journal: Journal) -> int:
    """Look as the control worker does, twice; return how many reminders were written."""
    found = journal.write(reminders.remind)
    assert journal.write(reminders.remind) == []
    return len(found)


def told(journal: Journal) -> list[dict[str, Any]]:
    """Return what the reminders say."""
    return [dict(event.data) for event in journal.events("r1") if event.kind is Kind.GATE_REMINDED]


def test_people_are_reminded_daily_and_before_the_time_is_up(url: str, journal: Journal) -> None:
    """Each reminder names the group that approves next, and after two days the one to turn to."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    clock.passes(DAY - 1)
    assert looked(journal) == 0
    clock.passes(1)
    assert looked(journal) == 1
    one = {name: value for name, value in told(journal)[0].items() if name != "expires_at"}
    assert one == {"name": "sign", "hours": 24, "group": "pki", "missing": 1}
    bob = journal.write(
        lambda tx: accounts.add(tx, name="bob", by="test", grants=[Grant(Role.APPROVER)], groups=["pki"])
    )
    person = journal.read(lambda connection: accounts.person(accounts.get(connection, bob)))
    asked = {"decision": "approve", "digest": "d1", "four_eyes": True, "requested_by": "ann", "reason": "so"}
    journal.write(lambda tx: gates.decide(tx, run="r1", lane=LANE, gate="g1", by="bob", person=person, **asked))
    clock.passes(DAY)
    assert looked(journal) == 1
    assert (told(journal)[1]["group"], told(journal)[1]["escalate_to"]) == ("security", "leads")
    clock.passes(DAY)
    assert looked(journal) == 1
    assert [one.get("last", False) for one in told(journal)] == [False, False, True]
    clock.passes(DAY - 1)
    assert looked(journal) == 0


def test_what_was_missed_is_made_up_for_by_one(url: str, journal: Journal) -> None:
    """The control worker was away for three days; after the time is up it is not a reminder that is needed."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    clock.passes(3 * DAY + HOUR)
    assert looked(journal) == 1
    assert told(journal)[0]["last"] is True


def test_after_the_time_is_up_nobody_is_reminded(url: str, journal: Journal) -> None:
    """Not even before `expire` has looked; opened again, the gate is reminded of from the beginning."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    clock.passes(4 * DAY)
    assert looked(journal) == 0
    journal.write(gates.expire)
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    clock.passes(DAY - 1)
    assert looked(journal) == 0
    clock.passes(1)
    assert looked(journal) == 1


@pytest.mark.parametrize("end", ["approve", "cancel"])
def test_nobody_is_reminded_of_what_is_decided_or_over(url: str, journal: Journal, end: str) -> None:
    """An approved gate, and one of a lane that was cancelled."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    if end == "cancel":
        journal.write(lambda tx: cancel_lane(tx, "r1", LANE, "ann", reason="over"))
    else:
        asked = {"decision": "reject", "digest": "d1", "four_eyes": True, "requested_by": "ann", "reason": "no"}
        journal.write(lambda tx: gates.decide(tx, run="r1", lane=LANE, gate="g1", by="ann", **asked))
    clock.passes(2 * DAY)
    assert looked(journal) == 0


def test_a_reminder_is_undone_with_its_time_when_the_commit_fails(url: str, journal: Journal) -> None:
    """Whoever dies before the commit has written nothing, and the next one reminds; after it nobody does again."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    clock.passes(DAY)

    def die(tx: Any) -> None:
        reminders.remind(tx)
        raise RuntimeError("died")

    with pytest.raises(RuntimeError):
        journal.write(die)
    assert told(journal) == []
    assert looked(journal) == 1
    assert len(told(journal)) == 1


def test_webhooks_are_told(url: str, journal: Journal) -> None:
    """The delivery is written with the event."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    address = "https://chat.example.com/hook"
    journal.write(
        lambda tx: webhooks.add(tx, webhook="h", url=address, kinds=["gate.reminded"], ciphertext=b"x", by="root")
    )
    clock.passes(2 * DAY)
    assert looked(journal) == 1
    ((_, delivery),) = journal.read(webhooks.due)
    assert delivery.kind == "gate.reminded"
    for word in ('"name":"sign"', '"group":"pki"', '"escalate_to":"leads"', '"expires_at":"'):
        assert word in delivery.body


def test_how_long_the_oldest_has_waited(url: str, journal: Journal) -> None:
    """By the database's clock, as all that is due."""
    clock = VirtualClock(journal, url)
    assert journal.read(lists.pending_gates) == []
    at_gate(journal)
    clock.passes(DAY)
    (one,) = journal.read(lists.pending_gates)
    assert (one.lane, one.name, one.count, round(one.age_s)) == (LANE, "sign", 1, DAY)


def test_a_gate_that_was_open_before_0004_is_reminded_of(url: str) -> None:
    """By the upgrade, a day after it was opened."""
    engine = engines.writing(engines.parse(url))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(FOLDER))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0003")
        values = "'r', 'l', 'g', 'sign', 'open', 'd', '{}', 1000.0, '', ''"
        names = "run, lane, gate, name, status, digest, summary, opened_at, decided_by, reason"
        connection.execute(sa.text(f"INSERT INTO gate ({names}) VALUES ({values})"))
    engine.dispose()
    with Journal.open(url) as journal:
        assert journal.read(lambda c: c.execute(sa.select(tables.gate.c.remind_at)).scalar_one()) == 1000.0 + DAY
