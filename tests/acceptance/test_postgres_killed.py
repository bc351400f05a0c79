"""PostgreSQL is killed with -9 under real workers, again and again, and put back to an older state (F10, F11).

Nothing is lost, nothing is sent twice, and the runs end by themselves; the processes of the engine live through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from acceptance_engine import Engine
from renewing import FAILED, WAITS, begin, must, planned, same_as_planned, seen

from tests.postgres import Server, own_server

__all__ = ["own_server"]


def test_postgresql_is_killed_during_a_renewal(own_server: Server, make_engine: Callable[..., Engine]) -> None:
    """At a request, at a delivery, and while a service is off: each line is sent as planned, and the chain is whole."""
    engine = make_engine(
        nodes=1,
        key_pool="30",
        latency="pki csr=1,webadmin certs=1",
        simulator=("--services=webadmin",),
        settings={"database_url": own_server.url(own_server.create_database())},
    )
    before = engine.alive()
    must(engine, "survey")

    def killed_at(line: str) -> None:
        engine.wait(lambda: bool(engine.log(kind="command", text=line, phase="begin")), 90, f"`{line}` was sent")
        own_server.kill()
        own_server.start_again()

    run = begin(engine)
    killed_at("pki csr")
    run.watch(WAITS)
    run.approve("--gate", "sign")
    killed_at("pki match")
    run.watch(WAITS)
    run.approve("--gate", "go")
    killed_at("webadmin certs")
    run.watch(0)
    same_as_planned(engine, run.plan(), "cmscore1", 0)
    assert "the chain is whole" in must(engine, "journal", "verify", run.run).out
    assert engine.alive() == before


@pytest.mark.chaos  # the usual suite has the same on the journal alone (test_postgres_lost)
def test_postgresql_is_put_back_to_before_the_changes(own_server: Server, make_engine: Callable[..., Engine]) -> None:
    """The journal forgets what was done behind the gate: the servers are read, and the run stops at the difference.

    Nothing is sent a second time (F11); a new survey finds that all is as wanted. The engine is stopped, the backup put
    back, and the engine started again, as an administrator would.
    """
    engine = make_engine(
        nodes=1,
        key_pool="30",
        simulator=("--services=webadmin",),
        settings={"database_url": own_server.url(own_server.create_database())},
    )
    must(engine, "survey")
    run = begin(engine)
    run.to_go()
    own_server.keep_copy()
    run.approve("--gate", "go")
    run.watch(0)
    sent = [one.said for one in seen(engine, "cmscore1")]

    for name in ("beat", "control", "fleet-1"):
        engine.stop(name)
    own_server.go_back_to_copy()
    for name in ("control", "fleet-1", "beat"):
        engine.restart(name)
    engine.wait_for_workers()

    run.watch(WAITS)  # the approval is lost as well, so somebody must give it again
    run.approve("--gate", "go")
    stopped = run.watch(FAILED)
    assert "The server is no longer as the plan expects: webadmin" in stopped.out
    assert [one.said for one in seen(engine, "cmscore1")] == sent
    assert Counter(sent) == Counter(one.said for one in planned(run.plan(), "cmscore1"))
    assert "the chain is whole" in must(engine, "journal", "verify", run.run).out
    must(engine, "runs", "cancel", run.run, "--yes")
    must(engine, "survey")
    assert "Nothing is due" in must(engine, "plan").out
