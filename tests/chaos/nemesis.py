"""The nemesis: a renewal and a rebuild by real processes, while everything is killed, frozen, emptied, cut, doubled.

One *round* is one fleet: its service certificates are renewed, then its database clusters are rebuilt; a second person
approves the gates, the first one resumes lanes that stopped for a reason that a person would mend. Afterwards `checker`
reads what the servers saw. The seed gives the same draws, not the same instants: processes run as they run.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import checker
from acceptance_engine import QUEUES, Shape
from chaos_engine import ChaosEngine
from renewing import rewrite, say
from strikes import Strikes
from tap import Tap

from workflows import actions
from workflows.broker import KEY_PREFIX, socket_path
from workflows.errors import CertbridgeError
from workflows.journal.fold import RunState
from workflows.journal.store import RunSummary

GAP_S = (0.3, 2.7)
APPROVER = "bob"
SLOW_S = (3.0, 6.0)
SLOW_LINES = ("webadmin disable*", "webadmin certs*", "webadmin enable*", "callbridge certs*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a round is: clusters of *joined* and *connected* nodes, and which services they have."""

    clusters: int = 2
    joined: int = 3
    connected: int = 2
    services: str = "webadmin,callbridge,webbridge3"
    strike_s: float = 100.0
    """For how long each of the two runs is struck."""
    limit_s: float = 480.0

    @property
    def nodes(self) -> int:
        """How many nodes there are in all."""
        return self.clusters * (self.joined + self.connected)

    def shape(self) -> Shape:
        """Return the engine of a round. Leases are short, so that repairs take seconds and not a minute."""
        return Shape(
            clusters=self.clusters,
            threads=24,
            simulator=(
                f"--joined={self.joined}",
                f"--connected={self.connected}",
                "--database-days-left=-3",
                f"--services={self.services}",
                "--speed=40",
                "--latency=pki csr=0.5,webadmin*=0.1,callbridge restart=0.4,webbridge3*=0.1,pki match*=0.1",
            ),
            settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5, "longest_poll_s": 3.0, "idle_s": 20.0},
        )


@dataclass(slots=True, kw_only=True)
class Round:
    """What came of a round."""

    seed: int
    took_s: float = 0.0
    strikes: Counter[str] = field(default_factory=Counter)
    spoiled: int = 0
    resumes: int = 0
    stopped: list[str] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    findings: checker.Findings = field(default_factory=checker.Findings)
    logs: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.findings.wrong


def play(seed: int, scale: Scale, *, keys: Path, tell: Callable[[str], None] = lambda _: None) -> Round:
    """Play one round and check it."""
    began = time.monotonic()
    with (
        ChaosEngine(scale.shape(), keys=keys) as engine,
        Tap(socket_path(engine.state), tuple(f"{KEY_PREFIX}{name}" for name in QUEUES)) as tap,
    ):
        rewrite(engine, lambda written: written.update(four_eyes=True))
        slow_down(engine, random.Random(seed + 2))
        strikes = Strikes(engine, tap, random.Random(seed))
        one = _Play(engine, strikes, scale, seed, tell)
        try:
            runs = one.play()
        finally:
            strikes.mend_due(all_of_it=True)
            one.round.took_s = time.monotonic() - began
        one.round.strikes = strikes.count
        one.round.spoiled = engine.proxy.spoiled
        one.round.ended = engine.ended
        one.round.findings = checker.check(engine, runs, command_lines=one.command_lines)
        if not one.round.good:
            one.round.logs = _keep(engine, seed)
        one.round.took_s = time.monotonic() - began
        return one.round


def slow_down(engine: ChaosEngine, chance: random.Random) -> None:
    """Let one line of each server take 3 to 6 s, once: a process that tries again meets a server still at work."""
    for node in sorted(engine.addresses):
        engine.fault("slow", node, match=chance.choice(SLOW_LINES), seconds=round(chance.uniform(*SLOW_S), 1))


class _Play:
    """One round under way: strikes and the person take turns, until the runs have ended or the time is over."""

    def __init__(
        self, engine: ChaosEngine, strikes: Strikes, scale: Scale, seed: int, tell: Callable[[str], None]
    ) -> None:
        self.engine = engine
        self.strikes = strikes
        self.scale = scale
        self.tell = tell
        self.round = Round(seed=seed)
        self.command_lines: set[bytes] = set()
        self._chance = random.Random(seed + 1)
        self._began = time.monotonic()
        self._phase_began = float("-inf")
        self._next_strike = 0.0
        self._stopped_at: dict[tuple[str, str], float] = {}

    def play(self) -> list[str]:
        """Renew, then rebuild; return the runs."""
        runs = []
        for words in (("run", "--yes"), ("run", "--yes", "--database", "renew")):
            # The survey is left in peace: on a slow machine it would take up all strikes that are meant for the run.
            self._phase_began = float("-inf")
            self._repeat("survey")
            before = {run.run for run in self._runs()}
            self._phase_began = time.monotonic()
            self._repeat(*words, until=lambda before=before: len(self._changing(before)) > 0)
            (run,) = self._changing(before)
            self.tell(f"{' '.join(words)}: {run}")
            runs.append(run)
            if not self._follow(run):
                break
        return runs

    # ── the person ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _repeat(self, *words: str, until: Callable[[], bool] = lambda: False) -> None:
        """Type `certbridge words…` until it ends well, as somebody does who reads "the database is away"."""
        while not self._out_of_time:
            with self.engine.begin(*words) as process:
                while process.poll() is None:
                    self._tick()
                text, _ = process.communicate()
            if process.returncode == 0 or self._asked(until):
                return
            self.tell(f"{words[0]} ended with {process.returncode}: {text.strip().splitlines()[-1:]}")
            self._doctor(text)

    def _follow(self, run: str) -> bool:
        """Approve and resume until *run* has ended; False when it did not in time."""
        while not self._out_of_time:
            self._tick()
            try:
                state = self.engine.journal.state(run)
            except CertbridgeError:
                continue
            if state.outcome == "done":
                return True
            self._act_on(state)
        return False

    def _act_on(self, state: RunState) -> None:
        if any(gate.status == "open" for lane in state.lanes.values() for gate in lane.gates.values()):
            self._approve(state.run)
        for lane in state.lanes.values():
            key = (state.run, lane.name)
            parked = lane.status == "done" and any(step.status == "parked" for step in lane.steps.values())
            if lane.status != "stopped" and not parked:
                self._stopped_at.pop(key, None)
                continue
            # A person needs a moment to read the reason, and what is broken may have mended itself meanwhile.
            if time.monotonic() - self._stopped_at.setdefault(key, time.monotonic()) > 2.0:
                self.round.stopped.append(f"{lane.name}: {lane.reason}")
                self.tell(f"{lane.name} stopped: {lane.reason}")
                self._doctor(lane.reason)
                if say(self.engine, "runs", "resume", state.run).code == 0:
                    self.round.resumes += 1
                del self._stopped_at[key]

    def _approve(self, run: str) -> None:
        """Approve what is open as another account than the one that asked: the inventory wants four eyes."""
        try:
            for gate in actions.open_gates(self.engine.journal, run):
                if gate.state.status == "open":
                    actions.decide(self.engine.journal, gate, decision="approve", by=APPROVER)
        except CertbridgeError as error:
            self.tell(f"approve: {error}")

    def _doctor(self, text: str) -> None:
        if " rests" in text:
            say(self.engine, "doctor", "--credential", "cms")

    def _runs(self) -> list[RunSummary]:
        while True:
            try:
                return list(self.engine.journal.runs(limit=100))
            except CertbridgeError:
                self._tick()

    def _changing(self, before: set[str]) -> list[str]:
        return [one.run for one in self._runs() if one.run not in before and one.kind in {"renewal", "database"}]

    def _asked(self, until: Callable[[], bool]) -> bool:
        try:
            return until()
        except CertbridgeError:
            return False

    # ── bad luck and time ────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def _out_of_time(self) -> bool:
        return time.monotonic() - self._began > self.scale.limit_s

    def _tick(self) -> None:
        """Let a little time pass: mend what is due, start again what ended, strike when it is time."""
        now = time.monotonic()
        calm = now - self._phase_began > self.scale.strike_s
        self.strikes.mend_due(all_of_it=calm)
        if now >= self._next_strike and not calm:
            kind = self.strikes.strike()
            self._next_strike = time.monotonic() + self._chance.uniform(*GAP_S)
            if kind:
                self.tell(f"{now - self._began:6.1f} s  {kind}")
        self.engine.supervise(but=tuple(self.strikes.busy))
        self.command_lines |= checker.command_lines()
        time.sleep(0.1)


def _keep(engine: ChaosEngine, seed: int) -> str:
    """Keep logs and command log of a round in which something was found, and return where."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    subprocess.run(["cp", "-r", engine.settings.logs_dir, engine.out / "commands.jsonl", folder], check=False)
    (folder / "journal.sql").write_bytes(engine.dump())
    return str(folder)
