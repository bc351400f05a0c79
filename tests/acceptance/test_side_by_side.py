"""Clusters are renewed side by side, the servers of a cluster one after the other (show 5, in small).

The big one, 200 servers in 20 clusters, is `bench/fleet200.py`.
"""

from __future__ import annotations

import pytest
from acceptance_engine import Shape
from overlaps import applying, most_at_once, spans_of
from renewing import Renewal, begin, must, nodes_of

CLUSTERS, NODES = 4, 3
ENGINE = Shape(
    clusters=CLUSTERS,
    nodes=NODES,
    latency="pki csr=3,webadmin enable=0.2",
    key_pool="300",
    threads=32,
    simulator=("--services=webadmin,callbridge",),
)


@pytest.fixture(scope="module")
def renewed(engine) -> Renewal:
    """Give a run over the whole fleet that has ended."""
    must(engine, "survey")
    run = begin(engine)
    run.to_the_end()
    return run


def test_all_servers_make_their_keys_at_the_same_time(engine, renewed):
    """Every `pki csr` of the fleet is under way at once, though each takes three seconds."""
    csr = spans_of(engine.log(kind="command", text="pki csr "))
    assert (len(csr), most_at_once(csr)) == (CLUSTERS * NODES, CLUSTERS * NODES)


def test_a_cluster_never_has_two_servers_in_apply(engine, renewed):
    """From the first line of stage 700 to the last a server has its cluster for itself."""
    lanes = [lane["name"] for lane in renewed.shown()["lanes"]]
    within = {
        name: most_at_once([applying(engine, renewed.plan(), node) for node in nodes_of(engine, name)])
        for name in lanes
    }
    assert within == dict.fromkeys(lanes, 1)
    assert len(lanes) == CLUSTERS


def test_clusters_are_applied_side_by_side(engine, renewed):
    """Servers of different clusters are in stage 700 at the same time."""
    lanes = [lane["name"] for lane in renewed.shown()["lanes"]]
    spans = [applying(engine, renewed.plan(), node) for name in lanes for node in nodes_of(engine, name)]
    assert 2 <= most_at_once(spans) <= CLUSTERS
