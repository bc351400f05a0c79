"""The engine of `steps_engine` for a rebuild of the database cluster: a loop here sends what a broker would."""

from __future__ import annotations

import contextlib
import socket
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from database_order import check
from steps_engine import RUN, Engine

from simulator.server import SSH_PORT
from workers import control
from workers.attempt import Attempt, Outcome
from workflows import actions
from workflows.facts import NodeFacts
from workflows.journal import claims, lanes, stock
from workflows.journal.fold import LaneState
from workflows.plan import Barrier, Gate, Plan, Step, walk
from workflows.procedures.database_cluster import Purpose, plan_database
from workflows.procedures.database_places import NONE

GATE = "seoul/point-of-no-return"
Shape = dict[str, Any]


class DatabaseEngine(Engine):
    """One worker process on a simulated fleet with a database cluster."""

    def database_plan(self, purpose: str = "renew", *, facts: dict[str, NodeFacts] | None = None, **more: Any) -> Plan:
        """Return the database plan of the fleet as it stands."""
        return plan_database(
            self.inventory,
            facts or self.survey(),
            purpose=Purpose(purpose),
            now=datetime.now(UTC),
            within=timedelta(days=30),
            **more,
        )

    def run_lane(self, lane: str = "seoul", *, run: str = RUN, until: str = "", tries: int = 200) -> str:
        """Carry the lane on, canvas after canvas, until it waits at a gate, stops or is done; return where it ended.

        *until* stops before that part. Steps that wait are looked at again at once: no clock is waited for.
        """
        for _ in range(tries):
            ended = self._canvas(lane, run, until)
            if ended is not None:
                return ended
        raise AssertionError(f"lane {lane} goes on for ever: {self.work.journal.state(run).lanes[lane]}")

    def run_once(self, lane: str = "seoul", *, run: str = RUN) -> str | None:
        """Send one canvas; return where the lane ended, None when it is to go on."""
        return self._canvas(lane, run, "")

    def cancel(self, run: str = RUN) -> None:
        """End a run, as `certbridge runs cancel` does, and let it close."""
        actions.cancel(self.work.journal, run, by="ann")
        control.settle(self.work, run)

    def wait_until_it_answers(self, node: str, within_s: float = 30.0) -> None:
        """Wait until the SSH port of *node* is there again."""
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.fleet.address(node), SSH_PORT), 1):
                return
            assert time.monotonic() < deadline, f"{node} does not come back"
            time.sleep(0.05)

    def unsealed(self, row: str) -> bytes:
        """Return what is kept sealed under *row*."""
        sealed = self.work.journal.read(partial(stock.sealed, sealed_id=row))
        assert sealed is not None
        return self.work.vault.unseal(row, sealed)

    def _canvas(self, lane: str, run: str, until: str) -> str | None:
        plan, _ = self.work.plan(run)
        part = plan.lane(lane)
        state = self.state_of(lane, run)
        parked = self.work.journal.read(partial(claims.parked, run=run, lane=lane))
        done = control.done_with_excused(part, state) | control.left_for_later(part, parked)
        left = [leaf for leaf in walk(part.tree) if leaf.id not in done]
        if not left:
            control.finish_when_complete(self.work, run, lane)
            return ""
        if left[0].id == until:
            return until
        generation = self.work.journal.write(lambda tx: lanes.raise_generation(tx, run, lane, "test"))
        if generation is None:
            return self.state_of(lane, run).status
        for leaf in left:
            if leaf.id == until:
                return until
            if not self._went_on(plan, lane, run, leaf, generation):
                over = isinstance(leaf, Gate | Barrier) or self.state_of(lane, run).status == "stopped"
                return leaf.id if over else None
        return None

    def _went_on(self, plan: Plan, lane: str, run: str, leaf: Step | Barrier | Gate, generation: int) -> bool:
        """Carry out one part; return whether its chain goes on behind it."""
        if isinstance(leaf, Gate):
            self._open(plan, lane, leaf, generation, run=run)
            return False
        if isinstance(leaf, Barrier):
            passing = partial(
                control.pass_barrier, plan=plan, run=run, lane=lane, barrier=leaf.id, generation=generation
            )
            return self.work.journal.write(passing) == "passed"
        outcome = Attempt(self.work, run=run, lane=lane, step=leaf.id, generation=generation).carry_out()
        return outcome is Outcome.DONE or leaf.stage < 700  # before stage 700 steps stand in headers, which return

    def state_of(self, lane: str, run: str = RUN) -> LaneState:
        """Return the state of a lane of *run*."""
        return self.work.journal.state(run).lanes[lane]

    def to_the_gate(self, plan: Plan | None = None) -> Plan:
        """Start a run and carry it to the point of no return."""
        made = self.start(plan or self.database_plan())
        assert self.run_lane() == GATE
        return made

    def beyond(self, *, until: str = "", by: str = "bob", run: str = RUN) -> str:
        """Approve the point of no return, and carry the run on."""
        self.approve("point-of-no-return", by=by, run=run)
        self.through("point-of-no-return", run=run)
        return self.run_lane(until=until, run=run)

    # ── what the servers say ─────────────────────────────────────────────────────────────────────────────────────────
    def databases(self) -> dict[str, dict[str, Any]]:
        """Return the database part of the state of every node."""
        return {node: self.fleet.database(node) for node in self.fleet.nodes}

    def roles(self) -> dict[str, str]:
        """Return {node: its role in the database cluster} as the simulator has it."""
        return {node: str(state["role"] or NONE) for node, state in self.databases().items()}

    def violations(self, primary: str = "cmscore1", *, removes: bool = True, complete: bool = True) -> list[str]:
        """Return what the checker finds wrong in the simulator's command log."""
        return check(
            self.fleet.records(),
            clusters={"seoul": self.fleet.nodes},
            addresses={node: self.fleet.address(node) for node in self.fleet.nodes},
            primary={"seoul": primary},
            removes=removes,
            complete=complete,
        )
