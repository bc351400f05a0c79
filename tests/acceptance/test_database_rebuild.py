"""Database clusters are rebuilt by real workers: side by side, over a long time, and through everything being killed.

The simulator's command log is read by a checker that knows only the rules of the rebuild (`tests/database_order.py`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from acceptance_engine import Engine, Shape
from database_order import check
from overlaps import most_at_once, spans_of
from renewing import WAITS, Renewal, begin, must, nodes_of

from workflows.journal.events import Kind

SPEED = 24.0
JOIN_S = 600
CLUSTERS = ("seoul", "busan", "incheon", "daegu")
ENGINE = Shape(
    clusters=len(CLUSTERS),
    key_pool="120",
    threads=24,
    settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5, "longest_poll_s": 3.0},
    simulator=(
        "--joined=2",
        "--connected=1",
        "--database-days-left=-3",
        "--services=callbridge,webadmin",
        f"--speed={SPEED:g}",
        f"--database-s=remove=12,initialize=72,join={JOIN_S},connect=12",
    ),
)


@pytest.fixture(scope="module", autouse=True)
def _surveyed(engine: Engine) -> None:
    """Read the whole fleet once; every test changes its own clusters only."""
    must(engine, "survey")


def rebuild(engine: Engine, *clusters: str) -> Renewal:
    """Start the rebuild of *clusters*, and let it through the point of no return."""
    words = [word for cluster in clusters for word in ("--cluster", cluster)]
    run = begin(engine, "--database", "renew", *words)
    run.watch(WAITS)
    run.approve("--gate", "point-of-no-return")
    return run


def violations(engine: Engine, *clusters: str) -> list[str]:
    """Return what is out of order in the simulator's log of *clusters*."""
    inventory = yaml.safe_load((engine.out / "fleet.yaml").read_text())
    addresses = {node["name"]: node["address"] for one in inventory["clusters"] for node in one["nodes"]}
    nodes = {cluster: nodes_of(engine, cluster) for cluster in clusters}
    primary = {cluster: names[0] for cluster, names in nodes.items()}
    return check(engine.log(), clusters=nodes, addresses=addresses, primary=primary)


def databases(engine: Engine, cluster: str) -> dict[str, Mapping[str, Any]]:
    """Return the database part of the state of each node."""
    return {node: engine.state_of(node)["database"] for node in nodes_of(engine, cluster)}


def is_rebuilt(engine: Engine, cluster: str, data: str) -> None:
    """See that all nodes are in place, on the data that the primary had before."""
    found = databases(engine, cluster)
    assert [one["role"] for one in found.values()] == ["primary", "replica", "connected"]
    assert [one["data"] for one in found.values()][:2] == [data, data]
    assert violations(engine, cluster) == []


def operations(engine: Engine, cluster: str, verb: str = "", phase: str = "") -> list[dict[str, Any]]:
    """Return the records of the database operations of *cluster*."""
    names = nodes_of(engine, cluster)
    return [one for one in engine.log(kind="database", text=verb, phase=phase) if one["node"] in names]


def test_two_clusters_are_rebuilt_side_by_side_each_one_step_at_a_time(engine):
    """Lanes meet only in the journal: both clusters work at the same time, neither does two things at once."""
    data = {cluster: databases(engine, cluster)[nodes_of(engine, cluster)[0]]["data"] for cluster in CLUSTERS[:2]}
    rebuild(engine, *CLUSTERS[:2]).watch(0)
    for cluster in CLUSTERS[:2]:
        is_rebuilt(engine, cluster, data[cluster])
        assert most_at_once(spans_of(operations(engine, cluster))) == 1
    both = [record for cluster in CLUSTERS[:2] for record in operations(engine, cluster)]
    assert most_at_once(spans_of(sorted(both, key=lambda record: record["monotonic"]))) == 2


def test_an_operation_of_ten_minutes_ends_well_though_workers_are_restarted_twice(engine):
    """The join goes on at the server; a worker that dies or is stopped meanwhile is not missed."""
    cluster = CLUSTERS[2]
    _, replica, _ = nodes_of(engine, cluster)
    data = databases(engine, cluster)[nodes_of(engine, cluster)[0]]["data"]
    run = rebuild(engine, cluster)
    engine.wait(lambda: bool(operations(engine, cluster, "join", "begin")), 90, "the join began")
    engine.kill("fleet-1")
    step = f"{cluster}/{replica}/join"
    waits = engine.journal.step_events
    engine.wait(
        lambda: any(event.kind is Kind.STEP_WAITING for event in waits(run.run, step, replica)), 60, "the step waits"
    )
    engine.stop("fleet-1")
    engine.restart("fleet-1")
    run.watch(0)
    is_rebuilt(engine, cluster, data)
    (begun, ended) = operations(engine, cluster, "join")
    assert (ended["monotonic"] - begun["monotonic"]) * SPEED >= JOIN_S * 0.95
    told = [event.data["data"] for event in waits(run.run, step, replica) if event.kind is Kind.STEP_WAITING]
    assert {"join"} == {one["operation"] for one in told}
    assert sorted(one["elapsed_s"] for one in told) == [one["elapsed_s"] for one in told]
    assert all("Sync in progress" in one["status"] or "Attaching" in one["status"] for one in told)


def test_everything_killed_while_the_primary_is_initialized(engine):
    """Workers, control worker, beat and broker die at once; started again they finish by themselves, nothing twice."""
    cluster = CLUSTERS[3]
    data = databases(engine, cluster)[nodes_of(engine, cluster)[0]]["data"]
    run = rebuild(engine, cluster)
    engine.wait(lambda: bool(operations(engine, cluster, "initialize", "begin")), 90, "initialize began")
    for name in ("fleet-1", "control", "beat"):
        os.killpg(engine.alive()[name], signal.SIGKILL)
    engine.kill_broker()
    engine.flush_broker()
    for name in ("fleet-1", "control", "beat"):
        engine.kill(name)
    run.watch(0)
    is_rebuilt(engine, cluster, data)
    assert len(operations(engine, cluster, "initialize", "begin")) == 1
