"""Gates: one decision, bound to a digest, by somebody else than who asked; then the lane goes on from the outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.journal.world import LANE, end, let_lanes_idle, make_run, must_take, next_generation, take
from workflows.errors import DigestChanged, FourEyes, GateDecided, GateError
from workflows.journal import Journal, Kind, Transaction, done_ids, outbox, tables
from workflows.journal.claims import Claim
from workflows.journal.gates import GateRow, decide, deliver, gate_row, open_gate, open_gates, pass_gate, reopen, void
from workflows.journal.lanes import cancel_lane, idle_gates, lane_row, pause_lane, resume_lane, stop_lane


@pytest.fixture
def at_gate(journal: Journal) -> Journal:
    """Give a journal whose lane stands at gate g1, with nothing left to send."""
    make_run(journal)
    assert opened(journal)
    let_lanes_idle(journal, 0)
    return journal


def opened(journal: Journal, **changes: Any) -> bool:
    """Open gate g1."""
    asked = {"gate": "g1", "name": "sign", "generation": 1, "digest": "d1", "summary": {"csrs": 3}, **changes}
    return journal.write(lambda tx: open_gate(tx, run="r1", lane=LANE, **asked))


def decided(journal: Journal, **changes: Any) -> GateRow:
    """Approve gate g1 as bob."""
    asked = {"decision": "approve", "by": "bob", "digest": "d1", "four_eyes": True, "requested_by": "ann", **changes}
    return journal.write(lambda tx: decide(tx, run="r1", lane=LANE, gate="g1", **asked))


def passed(journal: Journal) -> bool:
    """Pass gate g1."""
    return journal.write(lambda tx: pass_gate(tx, run="r1", lane=LANE, gate="g1"))


def flag(journal: Journal) -> str:
    """Return the lane's flag."""
    return journal.read(lambda connection: lane_row(connection, "r1", LANE)).flag


def status(journal: Journal) -> str:
    """Return the gate's status, as the row and the fold agree on it."""
    row = journal.read(lambda connection: gate_row(connection, "r1", LANE, "g1"))
    assert journal.state("r1").lanes[LANE].gates["g1"].status == row.status
    return row.status


def test_gate_is_opened_once_and_the_lane_waits(at_gate: Journal) -> None:
    """A second message changes nothing; a step cannot be claimed meanwhile; no generation is raised."""
    again = opened(at_gate, digest="other")
    gates = at_gate.read(open_gates)
    assert (again, flag(at_gate), status(at_gate)) == (False, "waiting", "open")
    assert [(gate.gate, gate.digest, gate.summary) for gate in gates] == [("g1", "d1", {"csrs": 3})]
    assert not isinstance(take(at_gate), Claim)
    assert next_generation(at_gate) is None


def test_old_generation_opens_no_gate(journal: Journal) -> None:
    """A late message of an old canvas does nothing."""
    make_run(journal)
    assert not opened(journal, generation=0)
    assert flag(journal) == ""


def test_approval_leads_on_through_the_outbox(at_gate: Journal) -> None:
    """Approved and advance are one commit; passing opens the way, once."""
    gate = decided(at_gate, reason="looks right")
    rows = at_gate.read(outbox.pending)
    moves = [passed(at_gate), passed(at_gate)]
    lane = at_gate.state("r1").lanes[LANE]
    assert (gate.status, gate.decided_by, gate.reason) == ("approved", "bob", "looks right")
    assert [(row.kind, row.data) for row in rows] == [("advance", {"gate": "g1"})]
    assert moves == [True, False]
    assert (flag(at_gate), status(at_gate), lane.status) == ("", "passed", "ready")
    assert done_ids(lane) == frozenset({"g1"})
    assert next_generation(at_gate) == 2
    assert isinstance(take(at_gate, generation=2, predecessors=frozenset({"g1"})), Claim)


def test_approval_survives_until_it_is_sent(url: str, at_gate: Journal) -> None:
    """The process dies between approved and sent: the next one finds the row, and sends it once."""
    decided(at_gate)
    at_gate.close()
    with Journal.open(url) as next_process:
        rows = next_process.write(outbox.due)
        marks = [next_process.write(lambda tx: outbox.sent(tx, rows[0].id)) for _ in range(2)]
        assert [(row.kind, row.run, row.lane) for row in rows] == [("advance", "r1", LANE)]
        assert marks == [True, False]
        assert next_process.write(outbox.due) == []


def test_second_decision_is_told_who_and_when(at_gate: Journal) -> None:
    """Approve after approve, reject after approve: refused with the name."""
    first = decided(at_gate)
    for decision in ("approve", "reject"):
        with pytest.raises(GateDecided, match="approved by bob") as refused:
            decided(at_gate, by="eve", decision=decision, reason="no")
        assert refused.value.data["when"] == first.decided_at


def test_requester_may_not_approve_but_may_reject(at_gate: Journal) -> None:
    """Four eyes; unless the fleet says otherwise."""
    with pytest.raises(FourEyes):
        decided(at_gate, by="ann")
    assert status(at_gate) == "open"
    assert decided(at_gate, by="ann", four_eyes=False).decided_by == "ann"


def test_approval_of_what_changed_meanwhile_is_refused(at_gate: Journal) -> None:
    """The digest that was looked at must be the one that stands there."""
    with pytest.raises(DigestChanged):
        decided(at_gate, digest="what I saw before")
    assert status(at_gate) == "open"


def test_rejection_needs_a_reason_and_stops_the_lane(at_gate: Journal) -> None:
    """The reason is the lane's; a resumed lane stands at the gate again."""
    with pytest.raises(GateError, match="needs a reason"):
        decided(at_gate, decision="reject", reason=" ")
    decided(at_gate, decision="reject", reason="wrong CN")
    lane = at_gate.state("r1").lanes[LANE]
    assert (lane.status, lane.reason) == ("stopped", "bob rejected sign: wrong CN")
    assert not passed(at_gate)
    assert at_gate.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert (flag(at_gate), status(at_gate), at_gate.state("r1").lanes[LANE].status) == ("waiting", "open", "waiting")
    assert decided(at_gate).status == "approved"


def test_gate_that_is_not_open_takes_no_decision(at_gate: Journal) -> None:
    """Unknown gate, cancelled lane, unknown word: a sentence each."""
    with pytest.raises(GateError, match="not open"):
        at_gate.write(
            lambda tx: decide(
                tx,
                run="r1",
                lane=LANE,
                gate="g9",
                decision="approve",
                by="b",
                digest="d",
                four_eyes=True,
                requested_by="a",
            )
        )
    with pytest.raises(GateError, match="approved or rejected"):
        decided(at_gate, decision="maybe")
    at_gate.write(lambda tx: cancel_lane(tx, "r1", LANE, "ann"))
    with pytest.raises(GateError, match="cancelled"):
        decided(at_gate)


def test_gate_is_not_passed_before_its_time(at_gate: Journal) -> None:
    """`not_before` is judged by the database's clock; the outbox row waits as long."""
    decided(at_gate, not_before=datetime.now(UTC) + timedelta(hours=2))
    early = passed(at_gate)
    waiting = at_gate.read(outbox.pending)
    not_before = at_gate.state("r1").lanes[LANE].gates["g1"].not_before
    at_gate.write(lambda tx: tx.connection.execute(sa.update(tables.gate).values(not_before=tables.clock() - 1)))
    assert (early, waiting) == (False, [])
    assert not_before is not None
    assert passed(at_gate)


def test_reopened_gate_forgets_the_approval(at_gate: Journal) -> None:
    """What was approved changed: approval void, old digest refused; after passing nothing is taken back."""

    def again(digest: str) -> None:
        at_gate.write(
            lambda tx: reopen(tx, run="r1", lane=LANE, gate="g1", digest=digest, summary={}, why="the primary changed")
        )

    decided(at_gate)
    again("d2")
    assert (status(at_gate), passed(at_gate)) == ("open", False)
    with pytest.raises(DigestChanged):
        decided(at_gate)
    decided(at_gate, digest="d2")
    assert passed(at_gate)
    with pytest.raises(GateError, match="passed already"):
        again("d3")


def test_gate_that_is_opened_again_leaves_a_paused_lane_paused(at_gate: Journal) -> None:
    """Row and fold agree that the lane is paused (found by test_journal_machine); resumed, it stands at the gate."""
    at_gate.write(lambda tx: pause_lane(tx, "r1", LANE, "ann"))
    at_gate.write(lambda tx: reopen(tx, run="r1", lane=LANE, gate="g1", digest="d2", summary={}, why="changed"))
    assert (flag(at_gate), status(at_gate), at_gate.state("r1").lanes[LANE].status) == ("paused", "open", "paused")
    assert at_gate.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert (flag(at_gate), at_gate.state("r1").lanes[LANE].status) == ("waiting", "waiting")


def test_pause_at_a_gate_keeps_the_gate(at_gate: Journal) -> None:
    """A paused lane passes no gate; resumed, it stands at the gate again."""
    at_gate.write(lambda tx: pause_lane(tx, "r1", LANE, "ann"))
    decided(at_gate)
    assert not passed(at_gate)
    assert at_gate.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert (flag(at_gate), at_gate.state("r1").lanes[LANE].status) == ("waiting", "waiting")
    assert passed(at_gate)


def test_delivered_certificates_are_in_the_state_and_wake_the_lane(at_gate: Journal) -> None:
    """Digests by wish; the lane is looked at again."""
    at_gate.write(lambda tx: deliver(tx, "r1", LANE, {"w1": {"leaf": "ab"}}, "bob"))
    event = at_gate.events("r1")[-1]
    assert (event.kind, event.actor) == (Kind.CERTIFICATES_DELIVERED, "bob")
    assert at_gate.state("r1").lanes[LANE].certificates == {"w1": {"leaf": "ab"}}
    assert [row.data for row in at_gate.read(outbox.pending)] == [{"delivered": ["w1"]}]


# ── approvals that are taken back ────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def voided(at_gate: Journal) -> Journal:
    """Give a journal whose gate was passed; the reading behind it found another primary, and voided the approval."""
    decided(at_gate, not_before=datetime.now(UTC) - timedelta(hours=1))
    assert passed(at_gate)
    assert next_generation(at_gate) == 2
    end(at_gate, must_take(at_gate, "read-a", generation=2, predecessors=frozenset({"g1"})))
    end(at_gate, must_take(at_gate, "read-b", generation=2, predecessors=frozenset({"g1"})), "failed")

    def write(tx: Transaction) -> None:
        stop_lane(tx, "r1", LANE, "another primary")
        void(tx, run="r1", lane=LANE, gate="g1", parts=["read-a", "read-b", "b1"], why="another primary")

    at_gate.write(write)
    let_lanes_idle(at_gate, 0)
    return at_gate


def shown(journal: Journal) -> str:
    """Return the digest of what gate g1 shows now."""
    return journal.read(lambda connection: gate_row(connection, "r1", LANE, "g1")).digest


def test_voided_approval_is_open_again_and_says_why(voided: Journal) -> None:
    """A new digest, nobody's decision, and the reason where the approver reads it; row, event and fold agree."""
    gate = voided.read(open_gates)[0]
    lane = voided.state("r1").lanes[LANE]
    event = voided.events("r1")[-1]
    assert (status(voided), gate.decided_by, gate.decided_at, gate.not_before) == ("open", "", None, None)
    assert gate.digest != "d1"
    assert gate.digest == event.data["digest"] == lane.gates["g1"].digest
    assert gate.summary == {"csrs": 3, "voided": "another primary", "shown": "d1"} == lane.gates["g1"].summary
    assert (event.kind, event.data["again"], event.data["reason"]) == (
        Kind.GATE_OPENED,
        "another primary",
        "another primary",
    )
    assert (flag(voided), lane.status, lane.reason) == ("waiting", "waiting", "another primary")


def test_nothing_goes_on_behind_a_voided_approval(voided: Journal) -> None:
    """Neither readings nor what comes after them may be claimed, no canvas is made, and the gate is not passed."""
    assert done_ids(voided.state("r1").lanes[LANE]) == frozenset()
    for step in ("read-a", "read-b", "s1"):
        assert not isinstance(take(voided, step, generation=2), Claim)
    assert next_generation(voided) is None
    assert not passed(voided)
    assert voided.write(lambda tx: idle_gates(tx, 0)) == []


def test_a_voided_approval_needs_a_new_one_by_somebody_else(voided: Journal) -> None:
    """The rules are those of the first time: four eyes, one decision, the digest that is shown."""
    with pytest.raises(FourEyes):
        decided(voided, by="ann", digest=shown(voided))
    decided(voided, by="eve", digest=shown(voided))
    with pytest.raises(GateDecided, match="approved by eve"):
        decided(voided, digest=shown(voided))
    assert passed(voided)
    assert not passed(voided)


def test_a_page_that_was_opened_before_cannot_approve_what_was_voided(voided: Journal) -> None:
    """It does not tell why the first approval is void, so the digest that it shows is refused."""
    with pytest.raises(DigestChanged):
        decided(voided, by="eve", digest="d1")
    assert (status(voided), flag(voided)) == ("open", "waiting")


def test_after_the_new_approval_the_readings_are_made_anew(voided: Journal) -> None:
    """The way leads through them again: neither the good nor the bad one of the first time counts."""
    decided(voided, digest=shown(voided))
    assert passed(voided)
    assert next_generation(voided) == 3
    wanted = frozenset({"g1", "read-a", "read-b"})
    early = take(voided, "s1", generation=3, predecessors=wanted)
    for step in ("read-a", "read-b"):
        claimed = must_take(voided, step, generation=3, predecessors=frozenset({"g1"}))
        assert claimed.attempt == 1
        end(voided, claimed)
    assert not isinstance(early, Claim)
    assert next_generation(voided) == 4
    assert isinstance(take(voided, "s1", generation=4, predecessors=wanted), Claim)


def test_an_approval_may_be_voided_more_than_once(voided: Journal) -> None:
    """Each time the last reason is shown, under a digest of its own; a rejection ends it."""
    first = shown(voided)
    decided(voided, digest=first)
    assert passed(voided)
    voided.write(lambda tx: void(tx, run="r1", lane=LANE, gate="g1", parts=["read-a"], why="a file changed"))
    assert voided.read(open_gates)[0].summary == {"csrs": 3, "voided": "a file changed", "shown": "d1"}
    assert shown(voided) not in {"d1", first}
    decided(voided, decision="reject", reason="look first", digest=shown(voided))
    assert (flag(voided), status(voided)) == ("stopped", "rejected")
