"""Redis is emptied at a random instant of each of many small runs, and every run ends all the same (show 3).

Only strict ones count: a step had begun when Redis was emptied, and work was left when it was empty. A run that was
quicker than we were is done over on a spare server, with another instant, until so many strict ones have ended.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from acceptance_engine import Engine, Shape
from renewing import begin, say

from workflows.journal.fold import RunState

# Between the first step and the last one a run of one server with one service writes about these events.
_FIRST, _LAST = 3, 40
_SPARE = 10


def servers(runs: int) -> int:
    """Return how many servers so many strict runs may need."""
    return runs + _SPARE


def shape(runs: int) -> Shape:
    """Return the engine for so many strict runs: a server with one service for each, and some to spare."""
    return Shape(
        clusters=servers(runs),
        nodes=1,
        fleet_workers=2,
        key_pool="300",
        simulator=("--services=webadmin",),
        settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5},
    )


@dataclass(slots=True, kw_only=True)
class Emptied:
    """What came of it: runs, those that ended, and of these the strict ones: at which of its events each was met.

    *late* counts the runs that had ended before Redis was empty.
    """

    started: int = 0
    finished: int = 0
    late: int = 0
    emptied_at: list[int] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Running:
    """A run; its instant has come when it has written so many events, counted from when a step has begun."""

    run: str
    at_event: int
    emptied_at: int = 0
    over: bool = False

    def meet(self, engine: Engine) -> None:
        """Empty Redis when the instant has come, and look behind it whether work was left."""
        before = engine.journal.state(self.run)
        if self.emptied_at or self.over or not (_begun(before) and before.n >= self.at_event):
            self.over = self.over or _over(before)
            return
        engine.flush_broker()
        if _over(engine.journal.state(self.run)):
            self.over = True
        else:
            self.emptied_at = before.n


def empty_during(
    engine: Engine,
    clusters: Sequence[str],
    chance: random.Random,
    *,
    strict: int,
    at_once: int = 4,
    within_s: float = 600.0,
) -> Emptied:
    """Renew *clusters*, each in a run of its own with Redis emptied once, until *strict* such runs have ended."""
    result = Emptied()
    left = list(clusters)
    running: list[_Running] = []
    deadline = time.monotonic() + within_s
    with _watched(engine, running):
        while len(result.emptied_at) < strict and time.monotonic() < deadline:
            while left and len(running) < min(at_once, strict - len(result.emptied_at)):
                run = begin(engine, "--cluster", left.pop(0)).run
                running.append(_Running(run, chance.randrange(_FIRST, _LAST)))
                result.started += 1
            if not running:
                break
            for one in tuple(running):
                state = engine.journal.state(one.run)
                if state.outcome == "done" and (one.emptied_at or one.over):
                    running.remove(one)
                    result.finished += 1
                    result.late += not one.emptied_at
                    result.emptied_at += [one.emptied_at] if one.emptied_at else []
                elif any(gate.status == "open" for lane in state.lanes.values() for gate in lane.gates.values()):
                    say(engine, "gates", "approve", one.run, "--yes")
            time.sleep(0.05)
    for one in running:
        lanes = engine.journal.state(one.run).lanes.values()
        result.outcomes.append(f"{one.run}: " + ", ".join(f"{lane.name} {lane.status} {lane.reason}" for lane in lanes))
    return result


@contextlib.contextmanager
def _watched(engine: Engine, running: list[_Running]) -> Iterator[None]:
    """Look at *running* all the time from a thread of its own: the person types for a second, and runs go on."""
    ended = threading.Event()
    faults: list[Exception] = []

    def watch() -> None:
        try:
            while not ended.wait(0.01):
                for one in tuple(running):
                    one.meet(engine)
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            faults.append(error)

    thread = threading.Thread(target=watch, name="emptied", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
    if faults:
        raise faults[0]


def _begun(state: RunState) -> bool:
    """Return whether a step has begun."""
    return any(lane.steps for lane in state.lanes.values())


def _over(state: RunState) -> bool:
    """Return whether no work is left."""
    return state.outcome != "open" or all(lane.status == "done" for lane in state.lanes.values())
