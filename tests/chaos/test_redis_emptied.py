"""Redis is emptied at a random instant in each of a few runs; fifty of them are in `make chaos`."""

from __future__ import annotations

import random

from acceptance_engine import Engine
from emptied import Emptied, empty_during, shape
from renewing import must

from simulator.machines import cluster_name

RUNS = 5


def test_runs_end_though_redis_is_emptied_in_the_middle_of_each():
    """Every run ends by itself, and the chain of its journal is whole."""
    with Engine(shape(RUNS)) as engine:
        must(engine, "survey")
        clusters = [cluster_name(number) for number in range(RUNS)]
        result = empty_during(engine, clusters, random.Random(4), at_once=3, within_s=120)
        assert result == Emptied(started=RUNS, finished=RUNS, emptied_at=result.emptied_at)
        assert len(result.emptied_at) == RUNS
