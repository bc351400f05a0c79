"""The journal against a plain model: any moves of workers, people and messages in any order (faults.md, layer L0).

The model is a few dicts and says what each move must answer. One run with two lanes, whose steps want the same servers:

    make-a, make-b   →   barrier made   →   gate go   →   apply-a   →   apply-b

Workers die (their claims are never heard of again), wake up late, and hand in what is long overtaken; messages come
twice, late and in any order; the clock is a virtual one, so that leases run out without anybody waiting.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.integration.journal.virtual_clock import VirtualClock
from tests.postgres import postgres_server, postgres_url
from workflows.errors import DigestChanged, FourEyes, GateDecided, GateError, LeaseLost, Stopped
from workflows.journal import Journal, Kind, Transaction, gates, lanes, outbox, tables
from workflows.journal import claims as journal_claims
from workflows.journal.claims import Claim, Drop
from workflows.journal.runs import close_run, create_run

__all__ = ["postgres_server", "postgres_url"]

LONG = os.environ.get("CERTBRIDGE_CHAOS") == "1"
LANES = {"seoul": 0, "busan": 1}
"""Fail limits by lane."""
STEPS = {
    "make-a": ("a", ("node:a",), frozenset()),
    "make-b": ("b", ("node:b",), frozenset()),
    "apply-a": ("a", ("cluster:x", "node:a"), frozenset({"make-a", "make-b", "made", "go"})),
    "apply-b": ("b", ("cluster:x", "node:b"), frozenset({"make-a", "make-b", "made", "go", "apply-a"})),
}
"""Node, resources and predecessors by step."""
BARRIER, GATE = "made", "go"
BEFORE = {"make-a": "a", "make-b": "b"}
ORDER = ("make-a", "make-b", BARRIER, GATE, "apply-a", "apply-b")
OVER = {"done", "excused"}
HELD = {"paused", "cancelled"}
IDLE_S, LEASE_S = 30.0, 60.0

lane_names = st.sampled_from(sorted(LANES))
workers = st.sampled_from(["w1", "w2", "w3"])


class JournalMachine(RuleBasedStateMachine):
    """Moves of everybody on one run, each compared with what the model says."""

    given_out = Bundle("given_out")
    journal: Journal
    clock: VirtualClock

    # ── the model ────────────────────────────────────────────────────────────────────────────────────────────────────
    @initialize()
    def begin(self) -> None:
        """Make the run; each lane is at generation 0 and has its message in the outbox."""
        self.run = f"run-{uuid.uuid4().hex[:8]}"
        self.flag = dict.fromkeys(LANES, "")
        self.generation = dict.fromkeys(LANES, 0)
        self.touched = dict.fromkeys(LANES, self.clock.now)
        self.claim: dict[tuple[str, str], dict[str, Any]] = {}
        self.lease: dict[str, dict[str, Any]] = {}
        self.gate: dict[str, dict[str, Any]] = {}
        self.outbox: dict[str, list[float]] = {lane: [self.clock.now] for lane in LANES}
        self.cancelled = False
        self.journal.write(
            lambda tx: create_run(
                tx,
                run=self.run,
                kind="renewal",
                plan={},
                digest="d",
                fleet="f",
                requested_by="ann",
                lanes=list(LANES),
                resources=(),
            )
        )

    def resources(self, step: str) -> tuple[str, ...]:
        """Return what *step* leases; both lanes want the same, but each run has servers of its own."""
        return tuple(f"{self.run}:{one}" for one in STEPS[step][1])

    def state(self, lane: str, part: str) -> str:
        """Return the state of the claim of *part* by the model."""
        return str(self.claim.get((lane, part), {}).get("state", ""))

    def live(self, lane: str) -> bool:
        """Return whether somebody's lease on a step of *lane* runs."""
        return any(
            one["state"] == "running" and one["expires"] > self.clock.now
            for (of, _), one in self.claim.items()
            if of == lane
        )

    def begun(self) -> set[tuple[str, str]]:
        """Return the steps that have sent a line and are not at their end: those go on under a pause or a cancel."""
        return {key for key, one in self.claim.items() if one["intended"] and one["state"] in {"running", "waiting"}}

    def ours(self, claim: Claim) -> bool:
        """Return whether *claim* is still its holder's, expired or not."""
        one = self.claim[claim.lane, claim.step]
        same = (one["state"], one["generation"], one["attempt"], one["holder"]) == (
            "running",
            claim.generation,
            claim.attempt,
            claim.holder,
        )
        return same and all(self.lease[resource]["token"] == token for resource, token in claim.fences.items())

    def expected_drop(self, lane: str, step: str, generation: int) -> str:
        """Return why a claim must be dropped, "" when it must be given."""
        now, old = self.clock.now, self.claim.get((lane, step))
        if old and old["state"] in OVER:
            return "done"
        if generation != self.generation[lane]:
            return "old_generation"
        if self.flag[lane] and not (self.flag[lane] in HELD and (lane, step) in self.begun()):
            return "predecessors" if self.flag[lane] == "waiting" else self.flag[lane]
        if old and old["state"] in {"failed", "parked"}:
            return str(old["state"])
        if old and old["generation"] == generation:
            return "claimed"
        if old and old["state"] == "running" and old["expires"] > now:
            return "held"
        if any(self.state(lane, one) not in OVER for one in STEPS[step][2]):
            return "predecessors"
        if any(
            self.lease.get(one, {"holder": ""})["holder"] and self.lease[one]["expires"] > now
            for one in self.resources(step)
        ):
            return "held"
        return "parked" if self.next_attempt(lane, step) > 3 else ""

    def next_attempt(self, lane: str, step: str) -> int:
        """Return the number that the next attempt at *step* has."""
        old = self.claim.get((lane, step))
        return 1 if old is None else int(old["attempt"]) + (0 if old["state"] == "waiting" else 1)

    def over(self, lane: str, part: str, state: str, generation: int) -> None:
        """Note that the engine itself put *part* at *state*."""
        one = self.claim.setdefault((lane, part), {"attempt": 0, "intended": False})
        one.update(generation=generation, state=state, expires=self.clock.now, holder="engine")

    def opened_again(self, lane: str, parts: list[str]) -> None:
        """Note that *parts* are to be gone through anew."""
        for part in parts:
            if self.state(lane, part) not in {"", "running"}:
                self.claim[lane, part].update(state="open", attempt=0, intended=False)

    def touch(self, lane: str, flag: str | None = None) -> None:
        """Note that somebody was on *lane*."""
        self.touched[lane] = self.clock.now
        self.flag[lane] = self.flag[lane] if flag is None else flag

    def head(self) -> int:
        """Return how many events the run has."""
        query = sa.select(tables.chain.c.head_n).where(tables.chain.c.run == self.run)
        return int(self.journal.read(lambda connection: connection.execute(query).scalar_one()))

    def write_refused(self, function: Any, error: type[Exception]) -> None:
        """Have *function* refused with *error*, and nothing written by it."""
        before = self.head()
        with pytest.raises(error):
            self.journal.write(function)
        assert self.head() == before

    # ── messages and workers ─────────────────────────────────────────────────────────────────────────────────────────
    @rule(
        target=given_out,
        lane=lane_names,
        step=st.sampled_from(sorted(STEPS)),
        late=st.sampled_from([0, 0, 0, 1, 2]),
        holder=workers,
        lease_s=st.sampled_from([10.0, LEASE_S]),
    )
    def message(self, lane: str, step: str, late: int, holder: str, lease_s: float) -> Any:
        """Bring a message for a step: in time, late by some generations, once or again."""
        generation = self.generation[lane] - late
        why = self.expected_drop(lane, step, generation)
        answer = self.journal.write(
            partial(self._claim, lane=lane, step=step, generation=generation, holder=holder, lease_s=lease_s)
        )
        if why:
            assert isinstance(answer, Drop), answer
            assert answer.reason.value == why
            if why == "parked" and self.state(lane, step) != "parked":
                self.claim[lane, step].update(state="parked", expires=self.clock.now)
                self.touch(lane, "stopped")
            return multiple()
        assert isinstance(answer, Claim), answer
        assert answer.attempt == self.next_attempt(lane, step)
        for resource in self.resources(step):
            token = self.lease.get(resource, {"token": 0})["token"] + 1
            self.lease[resource] = {"holder": holder, "token": token, "expires": self.clock.now + lease_s}
            assert answer.fences[resource] == token
        self.claim[lane, step] = {
            "generation": generation,
            "attempt": answer.attempt,
            "holder": holder,
            "state": "running",
            "expires": self.clock.now + lease_s,
            "intended": self.claim.get((lane, step), {"intended": False})["intended"],
        }
        self.touch(lane)
        return answer

    def _claim(
        self, tx: Transaction, *, lane: str, step: str, generation: int, holder: str, lease_s: float
    ) -> Claim | Drop:
        node, _, before = STEPS[step]
        return journal_claims.claim(
            tx,
            run=self.run,
            lane=lane,
            step=step,
            node=node,
            generation=generation,
            holder=holder,
            predecessors=before,
            resources=self.resources(step),
            lease_s=lease_s,
        )

    @rule(claim=given_out)
    def heartbeat(self, claim: Claim) -> None:
        """Renew a lease, in time or not."""
        mine = self.ours(claim)
        assert self.journal.write(lambda tx: journal_claims.renew(tx, claim, LEASE_S)) is mine
        if mine:
            self.claim[claim.lane, claim.step]["expires"] = self.clock.now + LEASE_S
            for resource in claim.fences:
                self.lease[resource].update(holder=claim.holder, expires=self.clock.now + LEASE_S)

    @rule(claim=given_out, number=st.integers(0, 2), back=st.booleans())
    def before_a_line(self, claim: Claim, number: int, back: bool) -> None:
        """Ask, as a worker does, whether a line may be sent."""
        one = self.claim[claim.lane, claim.step]
        ask = partial(journal_claims.intent, claim=claim, line_no=number, text="pki csr x", back=back)
        if not self.ours(claim) or one["expires"] <= self.clock.now:
            self.write_refused(ask, LeaseLost)
        elif not one["intended"] and not back and self.flag[claim.lane] in {"paused", "cancelled"}:
            self.write_refused(ask, Stopped)
        else:
            self.journal.write(ask)
            one["intended"] = True

    @rule(claim=given_out, number=st.integers(0, 2), state=st.sampled_from(["ok", "refused", "unknown"]))
    def after_a_line(self, claim: Claim, number: int, state: Any) -> None:
        """Say, as a worker does, what came of a line."""
        tell = partial(journal_claims.outcome, claim=claim, line_no=number, state=state)
        if self.ours(claim):
            self.journal.write(tell)
        else:
            self.write_refused(tell, LeaseLost)

    @rule(
        claim=given_out,
        status=st.sampled_from(["done", "done", "failed", "waiting", "parked", "retry"]),
        advance=st.booleans(),
    )
    def step_ends(self, claim: Claim, status: Any, advance: bool) -> None:
        """End a step, for the first time or once more, by its holder or by one that lost it."""
        wait_s = 45.0 if status == "waiting" else None
        # Where a barrier follows at once, it decides on failures; elsewhere they stop the lane in the same commit.
        stops = status in {"failed", "parked"} and claim.step not in BEFORE

        def end(tx: Transaction) -> None:
            journal_claims.finish(tx, claim, status=status, advance=advance, wait_s=wait_s)
            if stops:
                lanes.stop_lane(tx, self.run, claim.lane, f"{claim.step} {status}")

        if not self.ours(claim):
            self.write_refused(end, LeaseLost)
            return
        self.journal.write(end)
        self.ended(claim, status)
        if stops and self.flag[claim.lane] not in {"stopped", "cancelled", "done"}:
            self.touch(claim.lane, "stopped")
        if advance or wait_s is not None:
            self.outbox[claim.lane].append(self.clock.now + (wait_s or 0))

    def ended(self, claim: Claim, status: str) -> None:
        """Note the end of a step."""
        state = "open" if status == "retry" else status
        self.claim[claim.lane, claim.step].update(state=state, expires=self.clock.now)
        if status == "retry":
            self.claim[claim.lane, claim.step]["intended"] = False
        for resource in claim.fences:
            self.lease[resource].update(holder="", expires=self.clock.now)
        self.touch(claim.lane)

    @rule(claim=given_out)
    def earlier_parts_again(self, claim: Claim) -> None:
        """Have a step behind the gate find that what was made before it must be made anew (backups too old)."""
        if not claim.step.startswith("apply"):
            return
        parts = ["make-a", "make-b", BARRIER]

        def write(tx: Transaction) -> None:
            lanes.reopen_parts(tx, self.run, claim.lane, parts, "too old")
            journal_claims.finish(tx, claim, status="retry", advance=True)

        if not self.ours(claim):
            self.write_refused(write, LeaseLost)
            return
        self.journal.write(write)
        self.opened_again(claim.lane, parts)
        self.ended(claim, "retry")
        self.outbox[claim.lane].append(self.clock.now)

    @rule(claim=consumes(given_out))
    def a_process_dies(self, claim: Claim) -> None:
        """Nobody ever hears of this claim again."""

    @rule(seconds=st.sampled_from([0.5, 9.0, 31.0, 61.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        """Let the database's clock go on, and tell nobody."""
        self.clock.passes(seconds)

    @rule(lane=lane_names, late=st.sampled_from([0, 0, 0, 1]))
    def at_the_barrier(self, lane: str, late: int) -> None:
        """Ring at the barrier, as the chord's body does, or the outbox."""
        generation = self.generation[lane] - late
        answer = self.journal.write(
            lambda tx: journal_claims.pass_barrier(
                tx,
                run=self.run,
                lane=lane,
                barrier=BARRIER,
                generation=generation,
                before=BEFORE,
                fail_limit=LANES[lane],
            )
        )
        mine = self.claim.get((lane, BARRIER))
        states = {step: self.state(lane, step) for step in BEFORE}
        out = {node for step, node in BEFORE.items() if states[step] in {"failed", "parked"}}
        left = {step for step in BEFORE if states[step] not in OVER}
        again = mine is not None and (mine["state"] in OVER or mine["generation"] == generation)
        if again or generation != self.generation[lane] or self.flag[lane]:
            assert isinstance(answer, Drop)
        elif any(BEFORE[step] not in out or states[step] == "running" for step in left):
            assert answer == "not yet"
        elif len(out) > LANES[lane]:
            assert answer == "stopped"
            self.touch(lane, "stopped")
        else:
            assert answer == "passed"
            for step in left:
                self.over(lane, step, "excused", generation)
            self.over(lane, BARRIER, "done", generation)
            self.touch(lane)

    # ── the control worker ───────────────────────────────────────────────────────────────────────────────────────────
    @rule(lane=lane_names)
    def next_canvas(self, lane: str) -> None:
        """Raise the generation, which goes only when nobody is at work and nothing holds the lane."""
        raised = self.journal.write(lambda tx: lanes.raise_generation(tx, self.run, lane, "test"))
        half_done = self.flag[lane] in HELD and any(of == lane for of, _ in self.begun())
        if self.live(lane) or (self.flag[lane] and not half_done):
            assert raised is None
        else:
            self.generation[lane] += 1
            assert raised == self.generation[lane]
            self.touch(lane)

    @rule(lane=lane_names)
    def the_outbox_is_emptied(self, lane: str) -> None:
        """Rows whose time has come are marked; sent twice or lost afterwards, as a broker may."""
        rows = self.journal.write(lambda tx: outbox.due(tx, 10_000))
        mine = [row.id for row in rows if (row.run, row.lane) == (self.run, lane)]
        due = [when for when in self.outbox[lane] if when <= self.clock.now]
        assert len(mine) == len(due)
        assert all(self.journal.write(partial(outbox.sent, outgoing_id=one)) for one in mine)
        assert not any(self.journal.write(partial(outbox.sent, outgoing_id=one)) for one in mine[:1])
        self.outbox[lane] = [when for when in self.outbox[lane] if when > self.clock.now]

    # ── gates ────────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(lane=lane_names, late=st.sampled_from([0, 0, 1]))
    def the_gate_is_reached(self, lane: str, late: int) -> None:
        """Open the gate, which goes once, by a message of the lane's own generation."""
        generation = self.generation[lane] - late
        opened = self.journal.write(
            lambda tx: gates.open_gate(
                tx, run=self.run, lane=lane, gate=GATE, name="go", generation=generation, digest="d1", summary={}
            )
        )
        can = self.flag[lane] in {"", "waiting"} and not late and lane not in self.gate
        assert opened is can
        if can:
            self.gate[lane] = {"status": "open", "by": "", "not_before": 0.0, "digest": "d1"}
            self.touch(lane, "waiting")

    @rule(
        lane=lane_names,
        decision=st.sampled_from(["approve", "approve", "reject"]),
        by=st.sampled_from(["ann", "bob", "bob", "eve"]),
        seen=st.sampled_from(["now", "now", "now", "before"]),
        after_s=st.sampled_from([0.0, 0.0, 300.0]),
    )
    def somebody_decides(self, lane: str, decision: Any, by: str, seen: str, after_s: float) -> None:
        """People decide on what they saw, each for himself."""
        from workflows.journal.store import moment

        not_before = moment(self.clock.now + after_s) if after_s and decision == "approve" else None
        decide = partial(
            gates.decide,
            run=self.run,
            lane=lane,
            gate=GATE,
            decision=decision,
            by=by,
            reason="seen",
            digest=self.gate.get(lane, {}).get("digest", "d1") if seen == "now" else "what it showed before",
            not_before=not_before,
            four_eyes=True,
            requested_by="ann",
        )
        gate = self.gate.get(lane)
        if gate is None:
            self.write_refused(decide, GateError)
        elif gate["status"] != "open":
            self.write_refused(decide, GateDecided)
        elif self.flag[lane] in {"cancelled", "done"}:
            self.write_refused(decide, GateError)
        elif seen == "before":
            self.write_refused(decide, DigestChanged)
        elif decision == "approve" and by == "ann":
            self.write_refused(decide, FourEyes)
        else:
            self.journal.write(decide)
            due = self.clock.now if not_before is None else not_before.timestamp()
            gate.update(status="approved" if decision == "approve" else "rejected", by=by, not_before=due)
            if decision == "approve":
                self.outbox[lane].append(self.clock.now + max(0.0, due - self.clock.now))
            elif self.flag[lane] != "stopped":
                self.touch(lane, "stopped")

    @rule(lane=lane_names)
    def the_gate_is_passed(self, lane: str) -> None:
        """Exactly once, when approved and its time has come."""
        passed = self.journal.write(lambda tx: gates.pass_gate(tx, run=self.run, lane=lane, gate=GATE))
        gate = self.gate.get(lane, {"status": ""})
        can = (
            self.flag[lane] in {"", "waiting"} and gate["status"] == "approved" and gate["not_before"] <= self.clock.now
        )
        assert passed is can
        if can:
            gate["status"] = "passed"
            self.over(lane, GATE, "done", self.generation[lane])
            self.touch(lane, "")
            self.outbox[lane].append(self.clock.now)

    @rule(lane=lane_names)
    def an_approval_is_voided(self, lane: str) -> None:
        """Void the approval: reading behind the gate found something else, and the lane stands at the gate again."""
        if self.gate.get(lane, {}).get("status") != "passed" or self.flag[lane] not in {"", "stopped"}:
            return
        if any(self.state(lane, step) in {"running", *OVER} for step in ("apply-a", "apply-b")):
            return  # only readings right behind the gate may void it

        def write(tx: Transaction) -> None:
            lanes.stop_lane(tx, self.run, lane, "another primary")
            gates.void(tx, run=self.run, lane=lane, gate=GATE, parts=[], why="another primary")

        self.journal.write(write)
        shown = self.journal.read(lambda connection: gates.gate_row(connection, self.run, lane, GATE)).digest
        assert shown != self.gate[lane]["digest"]  # a page opened before does not tell why the first one is void
        self.gate[lane].update(status="open", by="", not_before=0.0, digest=shown)
        self.opened_again(lane, [GATE])
        self.touch(lane, "waiting")

    @rule(lane=lane_names)
    def what_was_approved_changed(self, lane: str) -> None:
        """Bring a gate that was not passed yet back to open."""
        gate = self.gate.get(lane)
        again = partial(
            gates.reopen, run=self.run, lane=lane, gate=GATE, digest="d1", summary={}, why="the primary changed"
        )
        if gate is None or gate["status"] == "passed":
            self.write_refused(again, GateError)
            return
        if self.flag[lane] in {"cancelled", "done"}:
            return
        self.journal.write(again)
        gate.update(status="open", by="", not_before=0.0, digest="d1")
        if self.flag[lane] == "":
            self.touch(lane, "waiting")

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(lane=lane_names)
    def somebody_pauses(self, lane: str) -> None:
        """Only what moves or stands at a gate can be paused."""
        paused = self.journal.write(lambda tx: lanes.pause_lane(tx, self.run, lane, "ann"))
        assert paused is (self.flag[lane] in {"", "waiting"})
        if paused:
            self.touch(lane, "paused")

    @rule(lane=lane_names)
    def something_stops_the_lane(self, lane: str) -> None:
        """Stop the lane, as a failure does, once."""
        stopped = self.journal.write(lambda tx: lanes.stop_lane(tx, self.run, lane, "a reason"))
        assert stopped is (self.flag[lane] in {"", "waiting", "paused"})
        if stopped:
            self.touch(lane, "stopped")

    @precondition(lambda self: not self.cancelled and len(self.claim) > 5)
    @rule(lane=lane_names)
    def somebody_cancels(self, lane: str) -> None:
        """Cancel a lane, which then stays so."""
        assert self.journal.write(lambda tx: lanes.cancel_lane(tx, self.run, lane, "ann")) is (
            self.flag[lane] not in {"cancelled", "done"}
        )
        if self.flag[lane] != "done":
            self.cancelled = True
            self.touch(lane, "cancelled")

    @rule(lane=lane_names)
    def somebody_resumes(self, lane: str) -> None:
        """Resume: what failed may be tried anew, a rejected gate is open again; what was done is not done again."""
        resume = partial(lanes.resume_lane, run=self.run, lane=lane, by="ann")
        if self.flag[lane] == "cancelled":
            self.write_refused(resume, Stopped)
            return
        here = [one for (of, _), one in self.claim.items() if of == lane]
        held_up = [one for one in here if one["state"] in {"failed", "parked"}]
        at_work = not held_up or any(one["state"] in {"running", "waiting"} for one in here)
        resumed = self.journal.write(resume)
        assert resumed is not (self.flag[lane] in {"done", "waiting"} or (self.flag[lane] == "" and at_work))
        if not resumed:
            return
        for one in (*held_up, *(one for one in here if one["state"] == "open")):
            one.update(state="open", attempt=0, intended=False)
        gate = self.gate.get(lane)
        if gate and gate["status"] == "rejected":
            gate.update(status="open", by="")
        self.touch(lane, "waiting" if gate and gate["status"] != "passed" else "")
        self.outbox[lane].append(self.clock.now)

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────────
    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        """Claims, leases, lanes, gates and the outbox, row by row."""
        if not hasattr(self, "run"):
            return

        def read(connection: sa.Connection) -> tuple[Any, ...]:
            of = tables.claim
            found = connection.execute(sa.select(of).where(of.c.run == self.run)).all()
            leases = connection.execute(sa.select(tables.lease).where(tables.lease.c.run == self.run)).all()
            box = tables.outbox
            unsent = connection.execute(
                sa.select(box.c.lane, box.c.not_before).where(box.c.run == self.run, box.c.sent_at.is_(None))
            ).all()
            opened = connection.execute(sa.select(tables.gate).where(tables.gate.c.run == self.run)).all()
            return found, leases, lanes.lane_rows(connection, self.run), unsent, opened

        found, leases, rows, unsent, opened = self.journal.read(read)
        assert {
            (row.lane, row.step): (row.state, row.generation, row.attempt, row.holder, row.expires_at) for row in found
        } == {
            key: (one["state"], one["generation"], one["attempt"], one["holder"], one["expires"])
            for key, one in self.claim.items()
        }
        assert {row.resource: (row.holder, row.token, row.expires_at) for row in leases} == {
            resource: (one["holder"], one["token"], one["expires"]) for resource, one in self.lease.items()
        }
        assert {row.lane: (row.flag, row.generation, row.live) for row in rows} == {
            lane: (self.flag[lane], self.generation[lane], self.live(lane)) for lane in LANES
        }
        assert {row.lane: row.touched_at.timestamp() for row in rows} == pytest.approx(self.touched, abs=1e-5)
        assert Counter(row.lane for row in unsent) == Counter(
            {lane: len(due) for lane, due in self.outbox.items() if due}
        )
        assert {row.lane: (row.status, row.decided_by) for row in opened} == {
            lane: (gate["status"], gate["by"]) for lane, gate in self.gate.items()
        }

    @invariant()
    def nobody_holds_what_another_holds(self) -> None:
        """Of all live claims, no two lease the same node or cluster."""
        held: Counter[str] = Counter()
        for (_, step), one in getattr(self, "claim", {}).items():
            if one["state"] == "running" and one["expires"] > self.clock.now:
                held.update(self.resources(step))
        assert all(count == 1 for count in held.values())

    @invariant()
    def events_tell_the_same_as_the_rows(self) -> None:
        """Check that the chain is whole, the fold agrees with the rows, and no step was done twice per opening."""
        if not hasattr(self, "run"):
            return
        assert self.journal.verify(self.run) == ()
        folded = self.journal.state(self.run)
        for lane, state in folded.lanes.items():
            wanted = {"": {"ready", "running"}}.get(self.flag[lane], {self.flag[lane]})
            assert state.status in wanted, (lane, state.status, self.flag[lane])
            assert state.generation == self.generation[lane]
            assert (BARRIER in state.barriers) is (self.state(lane, BARRIER) == "done")
            assert {one.id: one.status for one in state.gates.values()} == (
                {GATE: self.gate[lane]["status"]} if lane in self.gate else {}
            )
            for step in STEPS:
                at = self.state(lane, step)
                told = state.steps[step].status if step in state.steps else ""
                assert (step in state.excused) is (at == "excused") or at != "excused"
                if at in {"running", "done", "failed", "waiting", "parked"}:
                    assert told == at, (lane, step, told, at)
                elif at == "open":
                    assert told in {"failed", "waiting", "parked", "undone"}, (lane, step, told)
        self._done_once(self.journal.events(self.run))

    def _done_once(self, events: list[Any]) -> None:
        done: set[tuple[str, str]] = set()
        for event in events:
            if event.kind is Kind.STEP_DONE:
                assert (event.lane, event.step) not in done
                done.add((event.lane, event.step))
            elif event.kind is Kind.STEPS_REOPENED:
                done -= {(event.lane, step) for step in event.data["steps"]}
            elif event.kind is Kind.STEP_CLAIMED:
                assert (event.lane, event.step) not in done

    @invariant()
    def nothing_is_stuck_in_silence(self) -> None:
        """Find each lane that should move live, in the outbox, or with the reconciler; else a reason to read."""
        if not hasattr(self, "run"):
            return
        later = self.clock.now + IDLE_S

        def read(tx: Transaction) -> list[tuple[str, str, int]]:
            tx._group.clock = later  # what the reconciler would find half a minute from now, should nobody do anything
            found = lanes.idle_lanes(tx, IDLE_S - 1)
            tx._group.clock = self.clock.now
            return found

        idle = {lane for run, lane, _ in self.journal.write(read) if run == self.run}
        folded = self.journal.state(self.run)
        for lane in LANES:
            flag, gate = self.flag[lane], self.gate.get(lane, {"status": ""})
            if flag == "" or (flag in HELD and any(of == lane for of, _ in self.begun())):
                still = any(
                    one["state"] == "running" and one["expires"] > later
                    for (of, _), one in self.claim.items()
                    if of == lane
                )
                assert still or self.outbox[lane] or lane in idle, lane
            elif flag == "waiting":
                assert gate["status"] in {"open", "approved"}
            elif flag == "stopped":
                assert folded.lanes[lane].reason

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def teardown(self) -> None:
        """When nothing more goes wrong and people do their part, every lane that was not cancelled is done soon."""
        if not hasattr(self, "run"):
            return
        for _ in range(12):
            self.clock.passes(700)
            for lane in LANES:
                self._help(lane)
            for lane in self._to_move():
                self._carry_on(lane)
            flags = {row.lane: row.flag for row in self._rows()}
            if set(flags.values()) <= {"done", "cancelled"}:
                break
        assert set(flags.values()) <= {"done", "cancelled"}, flags
        assert self.journal.verify(self.run) == ()
        self._done_once(self.journal.events(self.run))
        self.journal.write(lambda tx: close_run(tx, self.run, "done"))
        self._forget_the_outbox()

    def _rows(self) -> list[lanes.LaneRow]:
        return self.journal.read(lambda connection: lanes.lane_rows(connection, self.run))

    def _help(self, lane: str) -> None:
        """Do what a person does: resume what stands, approve what is open."""
        flag = next(row.flag for row in self._rows() if row.lane == lane)
        if flag in {"stopped", "paused"}:
            self.journal.write(lambda tx: lanes.resume_lane(tx, self.run, lane, "ann"))
        try:
            gate = self.journal.read(lambda connection: gates.gate_row(connection, self.run, lane, GATE))
        except GateError:
            return
        if gate.status == "open" and flag not in {"done", "cancelled"}:
            self.journal.write(
                lambda tx: gates.decide(
                    tx,
                    run=self.run,
                    lane=lane,
                    gate=GATE,
                    decision="approve",
                    by="bob",
                    digest=gate.digest,
                    four_eyes=True,
                    requested_by="ann",
                )
            )

    def _to_move(self) -> list[str]:
        """Return the lanes that the outbox and the reconciler name: nothing else moves a lane."""

        def look(tx: Transaction) -> set[str]:
            due = [row for row in outbox.due(tx, 10_000) if row.run == self.run]
            for row in due:
                outbox.sent(tx, row.id)
            found = {row.lane for row in due}
            found |= {lane for run, lane, _ in lanes.idle_lanes(tx, IDLE_S) if run == self.run}
            return found | {lane for run, lane in gates_idle(tx) if run == self.run}

        gates_idle = partial(lanes.idle_gates, idle_s=IDLE_S)
        return sorted(self.journal.write(look))

    def _carry_on(self, lane: str) -> None:
        """Do what control worker and workers do with a lane that is to move: `control.advance`, and one canvas."""
        flag = next(row.flag for row in self._rows() if row.lane == lane)
        if flag == "waiting":
            self.journal.write(lambda tx: gates.pass_gate(tx, run=self.run, lane=lane, gate=GATE))
            return
        done = {part for part in ORDER if self._state_in_the_journal(lane, part) in OVER}
        if done == set(ORDER):
            self.journal.write(lambda tx: lanes.finish_lane(tx, self.run, lane))
            return
        generation = self.journal.write(lambda tx: lanes.raise_generation(tx, self.run, lane, "test"))
        for part in ORDER if generation is not None else ():
            if part not in done and not self._sent(lane, part, generation or 0):
                return

    def _sent(self, lane: str, part: str, generation: int) -> bool:
        """Carry out one part of a canvas; return whether the chain goes on."""
        if part == GATE:
            self.journal.write(
                lambda tx: gates.open_gate(
                    tx, run=self.run, lane=lane, gate=GATE, name="go", generation=generation, digest="d1", summary={}
                )
            )
            return False
        if part == BARRIER:
            passing = partial(
                journal_claims.pass_barrier,
                run=self.run,
                lane=lane,
                barrier=BARRIER,
                generation=generation,
                before=BEFORE,
                fail_limit=LANES[lane],
            )
            return self.journal.write(passing) == "passed"
        claimed = self.journal.write(
            partial(self._claim, lane=lane, step=part, generation=generation, holder="w9", lease_s=LEASE_S)
        )
        if isinstance(claimed, Claim):
            self.journal.write(lambda tx: journal_claims.finish(tx, claimed, status="done", advance=part == ORDER[-1]))
        return isinstance(claimed, Claim) or part in BEFORE  # a chord's header always goes on to its body

    def _state_in_the_journal(self, lane: str, part: str) -> str:
        of = tables.claim
        query = sa.select(of.c.state).where(of.c.run == self.run, of.c.lane == lane, of.c.step == part)
        return self.journal.read(lambda connection: connection.execute(query).scalar_one_or_none()) or ""

    def _forget_the_outbox(self) -> None:
        box = tables.outbox
        self.journal.write(
            lambda tx: (
                tx.connection.execute(sa.delete(box).where(box.c.run == self.run)).rowcount
            )  # later ones look at it
        )


@pytest.fixture
def memory() -> Iterator[Path]:
    """Give a folder in memory where there is one: the machine makes thousands of commits, and none is to survive."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        yield Path(folder)


def play(url: str, *, examples: int, moves: int) -> None:
    """Let hypothesis play against the journal at *url*."""
    with Journal.open(url) as journal:
        clock = VirtualClock(journal, url)
        machine = type("Machine", (JournalMachine,), {"journal": journal, "clock": clock})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=moves,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
                # Making a failure smaller takes minutes; in the long run (CERTBRIDGE_CHAOS=1) there are some.
                phases=[Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if LONG else [])],
            ),
        )


@pytest.mark.longer
@pytest.mark.timeout(3600 if LONG else 180)
def test_the_journal_does_what_its_model_says_on_sqlite(memory: Path) -> None:
    """Any moves in any order: the rows, the answers and the events are those of the model; at the end all is done."""
    play(f"sqlite:///{memory / 'journal.db'}", examples=500 if LONG else 15, moves=80 if LONG else 50)


@pytest.mark.longer
@pytest.mark.timeout(3600 if LONG else 180)
def test_the_journal_does_what_its_model_says_on_postgresql(postgres_url: str) -> None:
    """The same moves where each statement goes to a server."""
    play(postgres_url, examples=100 if LONG else 2, moves=80 if LONG else 50)
