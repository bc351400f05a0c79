"""What networks do to a renewal, one thing for each server: reset, silence, crawl (F14, F15, F16)."""

from __future__ import annotations

import pytest
from acceptance_engine import Shape
from chaos_engine import ChaosEngine
from proxy import Treatment
from renewing import WAITS, begin, must, nodes_of, planned, seen

SHAPE = Shape(
    clusters=3,
    nodes=1,
    key_pool="60",
    simulator=("--services=webadmin",),
    settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5},
)


@pytest.mark.timeout(240)
def test_f14_f15_f16_reset_silence_and_a_crawling_line_change_nothing_but_the_time():
    """The line dies in the middle of `pki csr`, loudly or silently, or crawls; each server gets each line once."""
    with ChaosEngine(SHAPE, on_postgres=False) as engine:
        must(engine, "survey")
        reset, silent, crawling = (nodes_of(engine, cluster)[0] for cluster in ("seoul", "busan", "incheon"))
        engine.fault("slow", reset, match="pki csr *", seconds=1)
        engine.fault("slow", silent, match="pki csr *", seconds=1)
        engine.proxy.treat(engine.addresses[crawling], Treatment(piece=1))
        run = begin(engine)
        for node in (reset, silent):
            engine.wait(
                lambda node=node: bool(engine.log(node=node, text="pki csr", phase="begin")), 60, f"{node} makes a key"
            )
            if node == reset:
                assert engine.proxy.cut(engine.addresses[node]) > 0
            else:
                engine.proxy.treat(engine.addresses[node], Treatment(swallow_after=0))
        engine.wait(lambda: engine.proxy.spoiled >= 2, 30, "the silence has begun")
        engine.proxy.heal(engine.addresses[silent])
        run.watch(WAITS)
        run.to_the_end()
        for node in (reset, silent, crawling):
            assert [one.said for one in seen(engine, node)] == [one.said for one in planned(run.plan(), node)]
