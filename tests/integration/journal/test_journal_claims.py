"""Claims, leases, fences, barriers and lanes: who may do what, once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.journal.world import (
    LANE,
    end,
    kinds,
    let_lanes_idle,
    let_leases_run_out,
    make_run,
    must_take,
    next_generation,
    take,
)
from workflows.errors import JournalError, LeaseLost, Stopped
from workflows.journal import Journal, Kind, NewEvent, Transaction, done_ids, tables
from workflows.journal.claims import Claim, Drop, DropReason, finish, intent, outcome, parked, pass_barrier, renew
from workflows.journal.lanes import (
    begun,
    cancel_lane,
    dead,
    finish_lane,
    idle_lanes,
    lane_row,
    pause_lane,
    reopen_parts,
    reopen_steps,
    resume_lane,
    stop_lane,
)
from workflows.journal.outbox import pending

ERROR = {"code": "CommandRejected", "text": "no such key", "remedy": "look"}


def reason(result: Claim | Drop | str) -> str:
    """Return why a claim or a barrier was dropped, in one word."""
    assert isinstance(result, Drop), result
    return result.reason.value


def flag(journal: Journal) -> str:
    """Return the flag of the lane."""
    return journal.read(lambda connection: lane_row(connection, "r1", LANE)).flag


def barrier(
    journal: Journal, before: Mapping[str, str], *, fail_limit: int = 0, generation: int = 1, name: str = "b1"
) -> str | Drop:
    """Try to pass barrier b1 of the lane."""
    return journal.write(
        lambda tx: pass_barrier(
            tx, run="r1", lane=LANE, barrier=name, generation=generation, before=before, fail_limit=fail_limit
        )
    )


# ── who may claim ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_second_message_for_a_step_is_dropped_and_noted(journal: Journal) -> None:
    """Claimed while running, done afterwards; both drops are events with their reason."""
    make_run(journal)
    claimed = must_take(journal)
    running = take(journal, holder="worker-2")
    end(journal, claimed)
    done = take(journal, holder="worker-2")
    dropped = [event.data["reason"] for event in journal.events("r1") if event.kind is Kind.STEP_DROPPED]
    assert (reason(running), reason(done)) == ("claimed", "done")
    assert dropped == ["claimed", "done"]


@pytest.mark.parametrize("generation", [0, 2])
def test_message_of_another_generation_is_dropped(journal: Journal, generation: int) -> None:
    """Old canvases do nothing, and one from the future does not either."""
    make_run(journal)
    assert reason(take(journal, generation=generation)) == "old_generation"


def test_step_waits_for_its_predecessors(journal: Journal) -> None:
    """It may be claimed when all before it are done, barriers included."""
    make_run(journal)
    first = must_take(journal, "s1")
    wanted = frozenset({"s1", "b1"})
    early = take(journal, "s2", predecessors=wanted)
    end(journal, first)
    before_barrier = take(journal, "s2", predecessors=wanted)
    assert barrier(journal, {"s1": "node-a"}) == "passed"
    assert reason(early) == "predecessors"
    assert reason(before_barrier) == "predecessors"
    assert isinstance(take(journal, "s2", predecessors=wanted), Claim)


def test_leases_are_taken_all_or_none(journal: Journal) -> None:
    """A step that gets one of two resources gets none; the other stays free for others."""
    make_run(journal)
    holding = must_take(journal, "s1", resources=("node:a",))
    refused = take(journal, "s2", resources=("node:b", "node:a"), holder="worker-2")
    assert isinstance(refused, Drop)
    assert (refused.reason, "worker-1" in refused.text) == (DropReason.HELD, True)
    assert must_take(journal, "s3", resources=("node:b",)).fences == {"node:b": 1}
    end(journal, holding)
    assert must_take(journal, "s4", resources=("node:a",)).fences == {"node:a": 2}


@pytest.mark.parametrize(
    ("move", "expected"), [(pause_lane, "paused"), (cancel_lane, "cancelled"), (stop_lane, "stopped")]
)
def test_lane_that_does_not_move_lets_nothing_be_claimed(journal: Journal, move: object, expected: str) -> None:
    """Paused, cancelled, stopped: each says so."""
    make_run(journal)
    assert callable(move)
    assert journal.write(lambda tx: move(tx, "r1", LANE, "ann"))
    assert reason(take(journal)) == expected
    assert journal.state("r1").lanes[LANE].status == expected


def test_unknown_lane_is_an_error(journal: Journal) -> None:
    """A message for what is not there is no drop but a fault."""
    make_run(journal)
    with pytest.raises(JournalError, match="no lane busan"):
        take(journal, lane="busan")


# ── leases, fences and the clock ─────────────────────────────────────────────────────────────────────────────────────
def test_lease_is_judged_by_the_clock_of_the_database(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process believes that it is ten days later; the lease runs on until the database says so."""
    make_run(journal)
    make_run(journal, "r2")
    claimed = must_take(journal, resources=("node:a",), lease_s=60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 864_000)
    other = take(journal, "s1", run="r2", resources=("node:a",))
    left_s = journal.read(
        lambda connection: connection.execute(sa.select(tables.lease.c.expires_at - tables.clock())).scalar_one()
    )
    assert reason(other) == "held"
    assert 0 < left_s <= 60
    assert journal.write(lambda tx: renew(tx, claimed, 600))
    longer_s = journal.read(
        lambda connection: connection.execute(sa.select(tables.lease.c.expires_at - tables.clock())).scalar_one()
    )
    assert 540 < longer_s <= 600
    let_leases_run_out(journal)
    assert must_take(journal, "s1", run="r2", resources=("node:a",)).fences == {"node:a": 2}


def test_short_lease_runs_out_by_itself(journal: Journal) -> None:
    """Nobody has to do anything: the database's clock moves on."""
    make_run(journal)
    must_take(journal, lease_s=0.05)
    deadline = time.monotonic() + 10
    while next_generation(journal) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert must_take(journal, generation=2).attempt == 2


def test_expired_claim_is_taken_over_by_a_newer_generation_only(journal: Journal) -> None:
    """The same generation tries once; the next takes over, counts the attempt, and says from whom."""
    make_run(journal)
    must_take(journal, resources=("node:a",))
    let_leases_run_out(journal)
    same = take(journal, resources=("node:a",), holder="worker-2")
    assert next_generation(journal) == 2
    second = must_take(journal, resources=("node:a",), holder="worker-2", generation=2)
    event = journal.events("r1")[-1]
    assert reason(same) == "claimed"
    assert (second.attempt, second.fences) == (2, {"node:a": 2})
    assert event.data["took_over"] == {"generation": 1, "attempt": 1, "holder": "worker-1"}


def test_old_holder_is_fenced_after_a_takeover(journal: Journal) -> None:
    """It can neither finish, nor journal a line, nor renew; nothing of it is written."""
    make_run(journal)
    old = must_take(journal, resources=("node:a",))
    let_leases_run_out(journal)
    next_generation(journal)
    new = must_take(journal, resources=("node:a",), holder="worker-2", generation=2)
    before = kinds(journal)
    note = NewEvent(run="r1", kind=Kind.NOTE)
    with pytest.raises(LeaseLost):
        end(journal, old, events=(note,))
    with pytest.raises(LeaseLost):
        journal.write(lambda tx: intent(tx, old, 1, "pki csr"))
    with pytest.raises(LeaseLost):
        journal.write(lambda tx: outcome(tx, old, 1, "ok"))
    assert not journal.write(lambda tx: renew(tx, old))
    assert kinds(journal) == before
    end(journal, new)
    assert journal.state("r1").lanes[LANE].steps["s1"].status == "done"


def test_lease_on_the_node_taken_by_another_run_fences_too(journal: Journal) -> None:
    """The claim is still ours, but the node belongs to somebody else: nothing more may be journalled."""
    make_run(journal)
    make_run(journal, "r2")
    old = must_take(journal, resources=("node:a",))
    let_leases_run_out(journal)
    must_take(journal, run="r2", resources=("node:a",), holder="worker-2")
    with pytest.raises(LeaseLost):
        end(journal, old)
    assert not journal.write(lambda tx: renew(tx, old))


def test_expired_lease_that_nobody_took_is_still_ours(journal: Journal) -> None:
    """The outcome of what was done may be journalled, the next line may not; renewed, it may."""
    make_run(journal)
    claimed = must_take(journal, resources=("node:a",))
    journal.write(lambda tx: intent(tx, claimed, 1, "pki csr"))
    let_leases_run_out(journal)
    journal.write(lambda tx: outcome(tx, claimed, 1, "ok"))
    with pytest.raises(LeaseLost, match="ran out"):
        journal.write(lambda tx: intent(tx, claimed, 2, "pki match"))
    assert journal.write(lambda tx: renew(tx, claimed))
    journal.write(lambda tx: intent(tx, claimed, 2, "pki match"))
    end(journal, claimed)
    assert journal.state("r1").lanes[LANE].steps["s1"].lines == ((1, "ok"), (2, "intent"))


def test_finished_step_cannot_be_finished_again(journal: Journal) -> None:
    """A second outcome of the same claim is refused."""
    make_run(journal)
    claimed = must_take(journal)
    end(journal, claimed)
    with pytest.raises(LeaseLost):
        end(journal, claimed, "failed")


def test_too_many_attempts_park_the_step_and_stop_the_lane(journal: Journal) -> None:
    """A step that kills its worker each time is not tried for ever."""
    make_run(journal)
    for generation in (1, 2, 3):
        must_take(journal, generation=generation)
        let_leases_run_out(journal)
        assert next_generation(journal) == generation + 1
    parked = take(journal, generation=4)
    lane = journal.state("r1").lanes[LANE]
    assert reason(parked) == "parked"
    assert (lane.status, lane.steps["s1"].status, flag(journal)) == ("stopped", "parked", "stopped")
    assert "tried 3 times" in lane.reason
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert next_generation(journal) == 5
    assert must_take(journal, generation=5).attempt == 1


def test_parked_step_tells_its_last_error(journal: Journal) -> None:
    """What the last line came to, or that nobody knows; what was before a person resumed does not count."""

    def three_times(last: str) -> str:
        """Let three processes die of the step, each after a line that ended with *last* ("" without an end)."""
        for _ in range(3):
            claimed = must_take(journal, generation=next_generation(journal))
            journal.write(lambda tx, claimed=claimed: intent(tx, claimed, 0, "webadmin enable"))
            if last:
                journal.write(lambda tx, claimed=claimed: outcome(tx, claimed, 0, last, f"it said {last}"))
            let_leases_run_out(journal)
        assert reason(take(journal, generation=next_generation(journal))) == "parked"
        told = journal.state("r1").lanes[LANE]
        error = told.steps["s1"].error
        assert error is not None
        assert error["text"] == told.reason
        journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
        return told.reason

    make_run(journal)
    tried = "s1 was tried 3 times without an end; "
    assert three_times("refused") == f"{tried}the last error: it said refused"
    assert three_times("") == f"{tried}last it sent `webadmin enable`, and nobody knows what came of it"
    assert three_times("unknown") == f"{tried}the last error: it said unknown"
    assert three_times("ok") == f"{tried}no try left an error, so each time its process ended or lost its lease"


def test_parked_step_that_was_let_go_of_tells_why(journal: Journal) -> None:
    """A try that ended as "again" left its reason in the journal."""
    make_run(journal)
    for _ in range(3):
        end(journal, must_take(journal, generation=next_generation(journal)), "retry", error=ERROR)
    assert reason(take(journal, generation=next_generation(journal))) == "parked"
    assert journal.state("r1").lanes[LANE].reason == "s1 was tried 3 times without an end; the last error: no such key"


def test_dead_steps_are_those_that_sent_nothing_and_whose_lease_is_over(journal: Journal) -> None:
    """One that sent a line goes on to its end, one that is alive is at work: neither is dead."""
    make_run(journal)
    must_take(journal, "s1")
    begun_step = must_take(journal, "s2")
    journal.write(lambda tx: intent(tx, begun_step, 0, "webadmin disable"))
    assert journal.read(partial(dead, run="r1")) == frozenset()
    let_leases_run_out(journal)
    assert journal.read(partial(dead, run="r1")) == {"s1"}


# ── how steps end ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_pause_and_cancel_act_at_step_borders(journal: Journal) -> None:
    """A step that has sent a line goes on to its end; one that has not sends nothing."""
    make_run(journal)
    going, fresh = must_take(journal, "s1"), must_take(journal, "s2")
    journal.write(lambda tx: intent(tx, going, 0, "callbridge certs"))
    journal.write(lambda tx: pause_lane(tx, "r1", LANE, "ann"))
    journal.write(lambda tx: intent(tx, going, 1, "callbridge restart"))
    with pytest.raises(Stopped, match="paused"):
        journal.write(lambda tx: intent(tx, fresh, 0, "callbridge certs"))
    journal.write(lambda tx: cancel_lane(tx, "r1", LANE, "ann"))
    with pytest.raises(Stopped, match="cancelled"):
        journal.write(lambda tx: intent(tx, fresh, 0, "callbridge certs"))
    end(journal, going)
    assert journal.state("r1").lanes[LANE].steps["s1"].status == "done"


@pytest.mark.parametrize("hold", [pause_lane, cancel_lane])
def test_step_that_was_cut_off_half_way_goes_on_in_a_lane_that_is_held(journal: Journal, hold: Any) -> None:
    """Its worker died behind the first line: the next worker sends the rest, and nothing else begins."""
    make_run(journal)
    must_take(journal, "s1")
    cut_off = must_take(journal, "s2")
    journal.write(lambda tx: intent(tx, cut_off, 0, "webadmin disable"))
    assert journal.write(lambda tx: hold(tx, "r1", LANE, "ann"))
    let_lanes_idle(journal, 31)
    let_leases_run_out(journal)
    assert journal.write(lambda tx: idle_lanes(tx, 30)) == [("r1", LANE, 1)]
    assert journal.read(lambda connection: begun(connection, "r1", LANE)) == ("s2",)
    assert next_generation(journal) == 2
    again = must_take(journal, "s2", generation=2)
    journal.write(lambda tx: intent(tx, again, 1, "webadmin enable"))
    held = journal.state("r1").lanes[LANE].status
    assert (reason(take(journal, "s1", generation=2)), reason(take(journal, "s3", generation=2))) == (held, held)
    end(journal, again)
    assert (next_generation(journal), journal.write(lambda tx: idle_lanes(tx, 0))) == (None, [])


def test_step_that_was_tried_anew_by_a_person_has_not_begun(journal: Journal) -> None:
    """It failed and was resumed: a pause stops it before its first line again."""
    make_run(journal)
    failed = must_take(journal)
    journal.write(lambda tx: intent(tx, failed, 0, "webadmin disable"))
    end(journal, failed, "failed", error=ERROR)
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    next_generation(journal)
    again = must_take(journal, generation=2)
    journal.write(lambda tx: pause_lane(tx, "r1", LANE, "ann"))
    with pytest.raises(Stopped, match="paused"):
        journal.write(lambda tx: intent(tx, again, 0, "webadmin disable"))


def test_waiting_step_is_looked_at_again_when_its_time_has_come(journal: Journal) -> None:
    """The outbox row is due later; the next generation may claim, and it is the same attempt."""
    make_run(journal)
    let_lanes_idle(journal, 0)
    claimed = must_take(journal)
    end(journal, claimed, "waiting", wait_s=3600, data={"cluster": "initialising"})
    row = journal.read(
        lambda connection: connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.id.desc())).first()
    )
    assert row is not None
    wait_s = row.not_before - journal.write(lambda tx: tx.clock)
    assert 3500 < wait_s <= 3600
    assert journal.read(pending) == []
    assert reason(take(journal)) == "claimed"
    assert journal.write(lambda tx: idle_lanes(tx, 0)) == []
    assert next_generation(journal) == 2
    assert must_take(journal, generation=2).attempt == 1
    events = [event for event in journal.events("r1") if event.kind is Kind.STEP_WAITING]
    assert datetime.fromisoformat(events[0].data["look_again_at"]) - events[0].at == timedelta(hours=1)


def test_retry_counts_as_a_new_attempt(journal: Journal) -> None:
    """What is safe to try again is tried by the next generation, and attempts are counted."""
    make_run(journal)
    end(journal, must_take(journal), "retry", error=ERROR, wait_s=0)
    assert next_generation(journal) == 2
    assert must_take(journal, generation=2).attempt == 2


def test_outcome_and_outbox_row_are_one_commit(journal: Journal) -> None:
    """A finish that fails after its events leaves neither events nor outbox row nor freed lease."""
    make_run(journal)
    let_lanes_idle(journal, 0)
    claimed = must_take(journal, resources=("node:a",))
    bad = NewEvent(run="no such run", kind=Kind.NOTE)
    good = NewEvent(run="r1", kind=Kind.NOTE)
    before = kinds(journal)
    with pytest.raises(JournalError):
        end(journal, claimed, advance=True, events=(good, bad))
    assert (kinds(journal), journal.read(pending)) == (before, [])
    assert reason(take(journal, "s2", resources=("node:a",))) == "held"
    end(journal, claimed, advance=True, events=(good,))
    assert [(row.kind, row.run, row.lane) for row in journal.read(pending)] == [("advance", "r1", LANE)]
    assert kinds(journal)[-2:] == ["note", "step_done"]


# ── barriers ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_barrier_waits_for_all_and_is_passed_once(journal: Journal) -> None:
    """Not yet while a step is open; then passed; then dropped as done."""
    make_run(journal)
    before = {"s1": "a", "s2": "b"}
    one, two = must_take(journal, "s1"), must_take(journal, "s2")
    end(journal, one)
    assert barrier(journal, before) == "not yet"
    end(journal, two)
    assert barrier(journal, before) == "passed"
    assert reason(barrier(journal, before)) == "done"
    assert "b1" in done_ids(journal.state("r1").lanes[LANE])


def test_barrier_stops_the_lane_beyond_the_fail_limit_with_reasons(journal: Journal) -> None:
    """Two steps of one node are one failed node; nodes that still work are waited for."""
    make_run(journal)
    before = {"s1": "a", "s2": "a", "s3": "b"}
    first, third = must_take(journal, "s1", node="a"), must_take(journal, "s3", node="b")
    end(journal, first, "failed", error=ERROR)
    assert barrier(journal, before) == "not yet"
    end(journal, third)
    assert barrier(journal, before) == "stopped"
    lane = journal.state("r1").lanes[LANE]
    assert lane.status == "stopped"
    assert "1 of 2 nodes failed (limit 0): s1: no such key" in lane.reason
    assert reason(barrier(journal, before)) == "stopped"


def test_failures_within_the_limit_are_excused(journal: Journal) -> None:
    """The barrier lists them, successors may begin, and they are not sent again."""
    make_run(journal)
    before = {"s1": "a", "s2": "a", "s3": "b"}
    end(journal, must_take(journal, "s1", node="a"), "failed", error=ERROR)
    end(journal, must_take(journal, "s3", node="b"))
    assert barrier(journal, before, fail_limit=1) == "passed"
    event = journal.events("r1")[-1]
    assert (event.data["excused"], event.data["nodes_out"]) == (["s1", "s2"], ["a"])
    assert done_ids(journal.state("r1").lanes[LANE]) == frozenset({"s1", "s2", "s3", "b1"})
    assert isinstance(take(journal, "s4", predecessors=frozenset({*before, "b1"})), Claim)
    assert reason(take(journal, "s2")) == "done"


def test_barrier_of_an_old_generation_does_nothing(journal: Journal) -> None:
    """The chord body of an old canvas is dropped."""
    make_run(journal)
    end(journal, must_take(journal))
    assert next_generation(journal) == 2
    assert reason(barrier(journal, {"s1": "a"}, generation=1)) == "old_generation"
    assert barrier(journal, {"s1": "a"}, generation=2) == "passed"


def test_resumed_lane_tries_failed_steps_again_and_then_passes(journal: Journal) -> None:
    """Failed becomes open, the lane is sent, the barrier passes after the second try."""
    make_run(journal)
    end(journal, must_take(journal), "failed", error=ERROR)
    assert barrier(journal, {"s1": "a"}) == "stopped"
    assert next_generation(journal) is None
    let_lanes_idle(journal, 0)
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert [row.kind for row in journal.read(pending)] == ["advance"]
    assert next_generation(journal) == 2
    assert barrier(journal, {"s1": "a"}, generation=2) == "not yet"
    end(journal, must_take(journal, generation=2))
    assert barrier(journal, {"s1": "a"}, generation=2) == "passed"
    assert not journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))


# ── lanes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_generation_is_not_raised_under_a_live_lease(journal: Journal) -> None:
    """As long as somebody is at work on the lane nobody else is sent to it."""
    make_run(journal)
    claimed = must_take(journal)
    assert next_generation(journal) is None
    assert journal.read(lambda connection: lane_row(connection, "r1", LANE)).live
    end(journal, claimed)
    assert next_generation(journal) == 2
    sent = [event.data for event in journal.events("r1") if event.kind is Kind.LANE_SENT]
    assert sent == [{"generation": 1, "why": "first"}, {"generation": 2, "why": "test"}]


def test_idle_lanes_are_those_that_should_move_but_do_not(journal: Journal) -> None:
    """Idle: nobody for long enough, nothing to send, no live lease, not stopped."""
    make_run(journal, lanes=("seoul", "busan", "jeju"))
    fresh = journal.write(lambda tx: idle_lanes(tx, 0))
    let_lanes_idle(journal, 31)
    journal.write(lambda tx: stop_lane(tx, "r1", "busan", "x"))
    must_take(journal, lane="jeju")
    journal.write(lambda tx: tx.connection.execute(sa.update(tables.lane).values(touched_at=tables.clock() - 31)))
    assert fresh == []  # the outbox rows of the new run are still to be sent
    assert journal.write(lambda tx: idle_lanes(tx, 30)) == [("r1", "seoul", 1)]
    assert journal.write(lambda tx: idle_lanes(tx, 60)) == []
    let_leases_run_out(journal)
    assert sorted(journal.write(lambda tx: idle_lanes(tx, 30))) == [("r1", "jeju", 1), ("r1", "seoul", 1)]


def test_lane_moves_are_made_once_and_cancel_is_final(journal: Journal) -> None:
    """Each move says whether it changed anything; a cancelled lane is never resumed."""
    make_run(journal, lanes=("seoul", "busan"))
    made = [
        journal.write(lambda tx: pause_lane(tx, "r1", LANE, "ann")),
        journal.write(lambda tx: pause_lane(tx, "r1", LANE, "ann")),
        journal.write(lambda tx: finish_lane(tx, "r1", LANE)),
        journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann")),
        journal.write(lambda tx: cancel_lane(tx, "r1", LANE, "ann")),
        journal.write(lambda tx: cancel_lane(tx, "r1", LANE, "ann")),
        journal.write(lambda tx: stop_lane(tx, "r1", LANE, "x")),
        journal.write(lambda tx: finish_lane(tx, "r1", "busan")),
        journal.write(lambda tx: finish_lane(tx, "r1", "busan")),
    ]
    assert made == [True, False, False, True, True, False, False, True, False]
    with pytest.raises(Stopped, match="cancelled"):
        journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert reason(take(journal, lane="busan")) == "done"
    assert {name: lane.status for name, lane in journal.state("r1").lanes.items()} == {
        "seoul": "cancelled",
        "busan": "done",
    }


def test_failure_of_the_same_commit_is_among_the_reasons(journal: Journal) -> None:
    """A worker that fails its step and tries the barrier in one function still tells why."""
    make_run(journal)
    claimed = must_take(journal)

    def fail_and_try(tx: Transaction) -> object:
        finish(tx, claimed, status="failed", error=ERROR)
        return pass_barrier(tx, run="r1", lane=LANE, barrier="b1", generation=1, before={"s1": "a"}, fail_limit=0)

    assert journal.write(fail_and_try) == "stopped"
    assert journal.state("r1").lanes[LANE].reason.endswith("s1: no such key")


def test_reopened_steps_are_done_no_more(journal: Journal) -> None:
    """Steps that were put back may be claimed by the next generation; their neighbours stay done."""
    make_run(journal)
    for step in ("s1", "s2"):
        end(journal, must_take(journal, step))
    journal.write(lambda tx: reopen_steps(tx, "r1", LANE, ["s1"]))
    assert next_generation(journal) == 2
    again, kept = take(journal, "s1", generation=2), take(journal, "s2", generation=2)
    assert isinstance(again, Claim)
    assert reason(kept) == "done"


def done_rows(journal: Journal) -> frozenset[str]:
    """Return the parts whose claim row says done: what `done_ids` of the fold must say too."""
    table = tables.claim
    query = sa.select(table.c.step).where(table.c.run == "r1", table.c.state == "done")
    return frozenset(journal.read(lambda connection: connection.execute(query).scalars().all()))


@pytest.mark.parametrize("status", ["done", "failed", "parked", "waiting"])
def test_reopened_parts_may_be_claimed_whatever_came_of_them(journal: Journal, status: str) -> None:
    """The next generation claims them as the first attempt; rows and fold tell the same; the event says why."""
    make_run(journal)
    end(journal, must_take(journal, "s1"), status)
    end(journal, must_take(journal, "s2"))
    assert barrier(journal, {"s2": "node-a"}) == "passed"
    journal.write(lambda tx: reopen_parts(tx, "r1", LANE, ["s1", "b1", "s9"], "too old"))
    event = journal.events("r1")[-1]
    assert (event.kind, event.data) == (Kind.STEPS_REOPENED, {"steps": ["s1", "b1", "s9"], "reason": "too old"})
    assert frozenset({"s2"}) == done_rows(journal) == done_ids(journal.state("r1").lanes[LANE])
    assert reason(take(journal, "s1")) == "claimed"  # a late message of the same canvas
    assert next_generation(journal) == 2
    assert must_take(journal, "s1", generation=2).attempt == 1
    assert reason(take(journal, "s3", generation=2, predecessors=frozenset({"s2", "b1"}))) == "predecessors"


def test_reopening_takes_nothing_from_whoever_is_at_work(journal: Journal) -> None:
    """A step that runs ends as it ends; nothing that was not begun appears."""
    make_run(journal)
    claimed = must_take(journal, "s1")
    journal.write(lambda tx: reopen_parts(tx, "r1", LANE, ["s1", "s2"], "too old"))
    assert next_generation(journal) is None
    end(journal, claimed)
    assert frozenset({"s1"}) == done_rows(journal)
    assert sorted(journal.state("r1").lanes[LANE].steps) == ["s1"]


def test_reopening_one_lane_leaves_the_other(journal: Journal) -> None:
    """Two clusters have steps of the same names in tests only, but lanes are apart all the same."""
    make_run(journal, lanes=("seoul", "busan"))
    for lane in ("seoul", "busan"):
        end(journal, must_take(journal, "s1", lane=lane))
    journal.write(lambda tx: reopen_parts(tx, "r1", "busan", ["s1"], "too old"))
    lanes = journal.state("r1").lanes
    assert {name: done_ids(lane) for name, lane in lanes.items()} == {"seoul": {"s1"}, "busan": frozenset()}


def test_parked_steps_are_known_until_somebody_resumes(journal: Journal) -> None:
    """The lane moves on without them; resumed, they are open like any other, and no longer listed."""
    make_run(journal)

    def parked_now() -> frozenset[str]:
        return journal.read(lambda connection: parked(connection, "r1", LANE))

    end(journal, must_take(journal, "s1"))
    end(journal, must_take(journal, "s2"), "parked", error=ERROR, advance=True)
    end(journal, must_take(journal, "s3"), "failed", error=ERROR)
    assert (parked_now(), flag(journal)) == (frozenset({"s2"}), "")
    assert next_generation(journal) == 2
    early = take(journal, "s4", generation=2, predecessors=frozenset({"s1", "s2"}))
    without = take(journal, "s4", generation=2, predecessors=frozenset({"s1"}))
    assert reason(early) == "predecessors"
    assert isinstance(without, Claim)
    assert reason(take(journal, "s2", generation=2)) == "parked"
    end(journal, without)
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert parked_now() == frozenset()
    assert next_generation(journal) == 3
    assert must_take(journal, "s2", generation=3).attempt == 1
