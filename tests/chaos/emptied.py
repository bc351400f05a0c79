"""Redis is emptied at a random instant of each of many small runs, and every run ends all the same (show 3)."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from acceptance_engine import Engine, Shape
from renewing import begin, say

# A run of one server with one service writes about this many events.
_EVENTS = 42


def shape(runs: int) -> Shape:
    """Return the engine for so many runs: a server with one service for each."""
    return Shape(
        clusters=runs,
        nodes=1,
        fleet_workers=2,
        key_pool="300",
        simulator=("--services=webadmin",),
        settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5},
    )


@dataclass(slots=True, kw_only=True)
class Emptied:
    """What came of it: runs, and at which of its events each one's broker was emptied."""

    started: int = 0
    finished: int = 0
    emptied_at: list[int] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Running:
    run: str
    at_event: int
    emptied: bool = False


def empty_during(
    engine: Engine, clusters: Sequence[str], chance: random.Random, *, at_once: int = 4, within_s: float = 600.0
) -> Emptied:
    """Renew each of *clusters* in a run of its own, and empty Redis once in each, when it has so many events."""
    result = Emptied()
    left = list(clusters)
    running: list[_Running] = []
    deadline = time.monotonic() + within_s
    while (left or running) and time.monotonic() < deadline:
        while left and len(running) < at_once:
            run = begin(engine, "--cluster", left.pop(0)).run
            running.append(_Running(run, chance.randrange(1, _EVENTS)))
            result.started += 1
        for one in tuple(running):
            state = engine.journal.state(one.run)
            if not one.emptied and (state.n >= one.at_event or state.outcome != "open"):
                engine.flush_broker()
                one.emptied = True
                result.emptied_at.append(state.n)
            if state.outcome == "done":
                result.finished += 1
                running.remove(one)
            elif any(gate.status == "open" for lane in state.lanes.values() for gate in lane.gates.values()):
                say(engine, "gates", "approve", one.run, "--yes")
        time.sleep(0.02)
    for one in running:
        lanes = engine.journal.state(one.run).lanes.values()
        result.outcomes.append(f"{one.run}: " + ", ".join(f"{lane.name} {lane.status} {lane.reason}" for lane in lanes))
    return result
