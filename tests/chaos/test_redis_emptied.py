"""Redis is emptied at a random instant in each of a few runs; fifty of them are in `make chaos`."""

from __future__ import annotations

import random

import pytest
from acceptance_engine import Engine
from emptied import _Running, empty_during, servers, shape
from renewing import must

from simulator.machines import cluster_name
from workflows.journal.fold import LaneState, RunState, StepState

RUNS = 5


def test_runs_end_though_redis_is_emptied_in_the_middle_of_each():
    """Every run ends by itself, and in so many of them work was left when Redis had been emptied."""
    with Engine(shape(RUNS)) as engine:
        must(engine, "survey")
        clusters = [cluster_name(number) for number in range(servers(RUNS))]
        result = empty_during(engine, clusters, random.Random(4), strict=RUNS, at_once=3, within_s=120)
        assert result.outcomes == []
        assert (len(result.emptied_at), result.finished) == (RUNS, result.started)
        assert result.started == RUNS + result.late


class _Journal:
    """A journal whose run is where *states* say, one after another."""

    def __init__(self, *states: RunState) -> None:
        self._states = list(states)

    def state(self, _run: str) -> RunState:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


class _Engine:
    """An engine of which only the journal and the broker are asked."""

    def __init__(self, *states: RunState) -> None:
        self.journal = _Journal(*states)
        self.flushed = 0

    def flush_broker(self) -> None:
        self.flushed += 1


def _state(n: int, *, begun: bool = True, lane: str = "running", outcome: str = "open") -> RunState:
    steps = {"s1": StepState(id="s1")} if begun else {}
    return RunState(run="r1", n=n, outcome=outcome, lanes={"seoul": LaneState(name="seoul", status=lane, steps=steps)})


@pytest.mark.parametrize(
    ("states", "flushed", "met"),
    [
        ([_state(9, begun=False)], 0, 0),
        ([_state(4)], 0, 0),
        ([_state(6)], 1, 6),
        ([_state(6), _state(42, lane="done")], 1, 0),
        ([_state(6), _state(43, outcome="done")], 1, 0),
    ],
    ids=["no step has begun", "too early", "in the middle", "its last step ended meanwhile", "it ended meanwhile"],
)
def test_only_a_run_with_work_left_behind_the_flush_is_strict(states, flushed, met):
    """One that was quicker is not counted, and Redis is emptied once at most."""
    engine = _Engine(*states)
    one = _Running("r1", 5)
    one.meet(engine)
    one.meet(engine)
    assert (engine.flushed, one.emptied_at) == (flushed, met)
