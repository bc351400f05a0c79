"""A fleet that may lose a server: the others are renewed, and still trust the one that was left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from steps_engine import Engine

Start = Callable[..., Engine]


def one_may_fail(document: dict[str, Any]) -> None:
    """Allow one node of a lane to fail."""
    document["fail_limit"] = 1


@pytest.mark.parametrize(
    ("kind", "match"),
    [("failure", "backup snapshot*"), ("failure", "pki csr*"), ("disk-full", "upload callbridge-1.crt")],
)
def test_a_server_within_the_fail_limit_is_left_out(start: Start, kind: str, match: str) -> None:
    """It keeps its certificates, nobody waits for it, and its peers keep its old leaf in their stores."""
    engine = start(nodes=3, services=("webadmin", "callbridge", "webbridge3"), change=one_may_fail)
    old = engine.served("cmscore2", "callbridge", "webbridge3.https")
    engine.fleet.fault(kind, node="cmscore2", match=match, times=99)
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    assert engine.served("cmscore2", "callbridge", "webbridge3.https") == old
    for node in ("cmscore1", "cmscore3"):
        assert engine.fleet.served_leaf(node, "callbridge") == engine.new_leaf(f"seoul/{node}/callbridge")
    links = [link for link in engine.fleet.broken_links() if "cmscore2" not in link]
    store = engine.fleet.state("cmscore1")["services"]["callbridge"]["trusts"]["callbridge.trust.c2w"]
    held = x509.load_pem_x509_certificates(engine.fleet.files("cmscore1")[store])
    assert (links, held) == (
        [],
        [
            old["webbridge3.https"],
            engine.new_leaf("seoul/cmscore1/webbridge"),
            engine.new_leaf("seoul/cmscore3/webbridge"),
        ],
    )


def test_the_limit_counts_for_the_whole_run(start: Start) -> None:
    """One server fell out at the first barrier; a second one at the next stops the lane."""
    engine = start("turn", nodes=3, services=("turn",), change=one_may_fail)
    engine.fleet.fault("failure", node="cmscore2", match="backup snapshot*")
    engine.fleet.fault("failure", node="cmscore3", match="pki csr*")
    engine.start(engine.plan())
    assert (engine.go_on(), engine.lane().status) == ("seoul/requested", "stopped")


def test_a_server_that_was_put_back_is_left_out_too(start: Start) -> None:
    """One server refuses in stage 700 and goes back; within the limit the others are renewed all the same."""
    engine = start(nodes=3, services=("webadmin", "callbridge", "webbridge3"), change=one_may_fail)
    old = engine.served("cmscore2", "callbridge", "webbridge3.https")
    engine.start(engine.plan())
    engine.fleet.fault("failure", node="cmscore2", match="webbridge3 enable", skip=1)
    assert (engine.to_apply(), engine.lane().status) == ("seoul/cmscore2/apply/webbridge3", "running")
    # The chain ended there; the outbox row has the rest of the lane sent anew.
    assert engine.go_on() == ""
    assert engine.served("cmscore2", "callbridge", "webbridge3.https") == old
    for node in ("cmscore1", "cmscore3"):
        assert engine.fleet.served_leaf(node, "callbridge") == engine.new_leaf(f"seoul/{node}/callbridge")
    assert engine.fleet.broken_links() == []
