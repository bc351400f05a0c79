"""Worker processes that die, fail and stall at failpoints, all in one process; `Struck` carries a run to its end.

Each process is a `Work` of its own (journal, loop, connections, holder). One that dies is left where it stands, and its
connections are cut; its lease runs out because the journal's clock goes on. One that stalls stands still while another
takes over and carries the whole run on; then it wakes.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa
from database_engine import DatabaseEngine
from steps_engine import RUN

from workers import failpoints
from workers.context import Work
from workflows.errors import CertbridgeError
from workflows.journal import gates
from workflows.journal.events import Kind
from workflows.plan import Line, LineKind, Step

ACTIONS = ("kill", "raise", "stall", "effect-then-raise")
LEASE_S = 6.0
READING = ("version", "date", "pki list", "pki inspect", "pki match", "pki verify", "database cluster status")
_LOGGED = {
    LineKind.COMMAND: "command",
    LineKind.UPLOAD: "upload",
    LineKind.RENAME: "rename",
    LineKind.DELETE: "remove",
}
_UNIX_IN_JULIAN, _DAY_S = 2440587.5, 86400.0


class Died(BaseException):
    """The process died: no handler of ours may see this, and nothing is written of it."""


class Clock:
    """The database's clock and the machines' own: real time, and what was skipped."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def monotonic(self) -> float:
        """Return this machine's own time."""
        return time.monotonic() + self.skipped_s

    def skip(self, seconds: float) -> None:
        """Let *seconds* pass at once."""
        self.skipped_s += seconds

    def bring(self, connection: Any, _record: object) -> None:
        """Give a new connection to SQLite this clock instead of its own."""
        connection.create_function("julianday", 1, lambda _: (time.time() + self.skipped_s) / _DAY_S + _UNIX_IN_JULIAN)


@contextmanager
def virtual_clock() -> Iterator[Clock]:
    """Give the clock of every journal that is opened within."""
    clock = Clock()
    sa.event.listen(sa.Engine, "connect", clock.bring)
    try:
        yield clock
    finally:
        sa.event.remove(sa.Engine, "connect", clock.bring)


@dataclass(slots=True)
class Struck:
    """A run that is struck at one *point*, once at each line of each step, by one *action*.

    *nth*: only at one line of each step, the nth; what fails is tried again by itself three times at most.
    """

    engine: DatabaseEngine
    clock: Clock
    point: str = ""
    action: str = ""
    nth: int = -1
    hits: list[tuple[str, str, str]] = field(default_factory=list)
    passed: list[tuple[str, str, str]] = field(default_factory=list)
    resumes: int = 0
    processes: list[Work] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._now_in(self.engine.work)

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _now_in(self, work: Work) -> None:
        work.settings = work.settings.model_copy(update={"lease_s": LEASE_S, "renew_s": LEASE_S / 3})
        work.monotonic = self.clock.monotonic
        self.processes.append(work)
        self.engine.work = work

    def another(self) -> None:
        """Start a process; the one before is left as it is."""
        self._now_in(self.engine.open_work(f"worker-{len(self.processes) + 1}"))

    def close(self) -> None:
        """Close what all but the last process had open; the engine closes that one."""
        for work in self.processes[:-1]:
            work.loop.call(work.connections.close())
            work.loop.stop()
            work.journal.close()

    # ── being struck ─────────────────────────────────────────────────────────────────────────────────────────────────
    def __call__(self, name: str, text: str, where: str) -> None:
        """Be the failpoint."""
        self.passed.append((name, text, where))
        if name != self.point or (where, text) in self._seen or not self._chosen(text, where):
            return
        self._seen.add((where, text))
        self.hits.append((name, text, where))
        if self.action == "kill":
            raise Died
        if self.action == "stall":
            self.clock.skip(LEASE_S * 1.2)
            self.another()
            self.to_the_end()
            return
        failpoints.act(self.action, f"{name}: {text}")

    def _chosen(self, text: str, where: str) -> bool:
        """Return whether *text* is the one line of its step that is struck; always when all are."""
        if self.nth < 0 or not where:
            return True
        lines = [str(line) for line in self.engine.work.plan(RUN)[0].lane("seoul").part(where).lines if _changes(line)]
        return text == lines[self.nth % len(lines)]

    # ── carrying on ──────────────────────────────────────────────────────────────────────────────────────────────────
    def to_the_end(self, tries: int = 300) -> None:
        """Do what supervisor, reconciler, issuer and people do until the run's lane is done."""
        for _ in range(tries):
            state = self.engine.lane()
            if state.status == "done":
                return
            if state.status == "stopped":
                self.resumes += 1
                self.engine.resume()
            elif (gate := self._gate()) is not None:
                self._decide(gate)
            else:
                self._go_on()
        raise AssertionError(f"the run goes on for ever: {self.engine.lane()}; {self.hits}")

    def _go_on(self) -> None:
        try:
            if self.engine.run_once() not in {None, ""}:
                self.clock.skip(LEASE_S * 1.2)  # whoever held the lane is dead or stalled, or it waits for people
        except (Died, failpoints.FailpointRaised, CertbridgeError):
            dead = self.engine.work
            self.another()
            dead.loop.call(dead.connections.close())
            self.clock.skip(LEASE_S * 1.2)

    def _gate(self) -> str | None:
        found = [name for name, gate in self.engine.lane().gates.items() if gate.status in {"open", "approved"}]
        return found[0] if found else None

    def _decide(self, gate: str) -> None:
        name = gate.rsplit("/", maxsplit=1)[-1]
        if self.engine.lane().gates[gate].status == "open":
            self.engine.approve(name)
        elif name == "sign":
            self.engine.sign()
        else:
            self.engine.work.journal.write(partial(gates.pass_gate, run=RUN, lane="seoul", gate=gate))

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────
    def counts(self) -> Counter[tuple[str, str, str]]:
        """Return how often each server carried each change out: {(node, kind, text): times}."""
        return Counter(
            (one.node, one.kind, one.text)
            for one in self.engine.fleet.records()
            if one.phase == "begin" and one.kind in _LOGGED.values()
            if one.kind != "command" or (" " in one.text and not one.text.startswith(READING))
        )

    def put_back(self) -> Counter[str]:
        """Return how often each node was put back, or was tried to be."""
        kinds = {Kind.PUT_BACK, Kind.ROLLBACK_FAILED}
        return Counter(one.node for one in self.engine.work.journal.events(RUN) if one.kind in kinds)

    def planned(self) -> dict[tuple[str, str, str], list[Step]]:
        """Return the steps of each changing line of the plan, by (node, kind, text) as the simulator logs it."""
        plan, _ = self.engine.work.plan(RUN)
        found: dict[tuple[str, str, str], list[Step]] = defaultdict(list)
        for step in (step for lane in plan.lanes for step in lane.steps()):
            for line in filter(_changes, step.lines):
                found[step.node, _LOGGED[line.kind], line.text.replace(" -> ", " ")].append(step)
        return found

    def reasons(self) -> list[str]:
        """Return why steps failed or were parked."""
        kinds = {Kind.STEP_FAILED, Kind.STEP_PARKED}
        return [one.data["error"]["text"] for one in self.engine.work.journal.events(RUN) if one.kind in kinds]


def _changes(line: Line) -> bool:
    return line.kind in _LOGGED
