"""The whole engine on PostgreSQL, as in production: two workers, a worker killed, the same end as on SQLite."""

from __future__ import annotations

from collections.abc import Callable

from acceptance_engine import Engine
from renewing import WAITS, begin, must, same_as_planned

from tests.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


def test_a_fleet_is_renewed_on_postgresql(postgres_url: str, make_engine: Callable[..., Engine]) -> None:
    """Two `fleet` workers share the work and one of them dies: each line is sent as planned, the chain is whole."""
    engine = make_engine(
        nodes=2,
        fleet_workers=2,
        key_pool="60",
        simulator=("--services=webadmin,callbridge",),
        settings={"database_url": postgres_url},
    )
    must(engine, "survey")
    run = begin(engine)
    run.watch(WAITS)
    engine.kill("fleet-2", restart=True)
    run.to_the_end()
    for node in ("cmscore1", "cmscore2"):
        same_as_planned(engine, run.plan(), node, 0)
    assert "the chain is whole" in must(engine, "journal", "verify", run.run).out
