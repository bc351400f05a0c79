"""Facts of a survey: JSON both ways, and where file, setting and port disagree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.core.fleets import leaf_of, node_facts
from workflows.facts import NodeFacts, PortState, drift


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_facts_go_through_json_and_come_back_equal(release: str) -> None:
    """The journal keeps them as JSON."""
    facts = node_facts("a1", release)
    assert NodeFacts.from_json(facts.to_json()) == facts


def test_what_is_not_there_is_none() -> None:
    """Asking for what the server did not tell of is no error."""
    facts = node_facts("a1")
    assert (facts.service("xmpp"), facts.file("x"), facts.port("scheduler.c2w")) == (None, None, None)
    assert [facts.service("turn").certificate, facts.file("turn.key").size, facts.port("turn").port] == [
        "turn-fullchain.crt",
        1700,
        443,
    ]


def test_a_server_in_order_has_no_drift() -> None:
    """File, setting and port tell the same story."""
    assert drift(node_facts("a1")) == ()


@pytest.mark.parametrize("gone", ["turn.key", "turn-fullchain.crt"])
def test_a_missing_file_is_drift(gone: str) -> None:
    """The service runs with what it has in memory, and will not start again."""
    facts = node_facts("a1")
    facts = replace(facts, files=tuple(file for file in facts.files if file.name != gone))
    assert [(one.service, one.what) for one in drift(facts)] == [
        ("turn", f"is set to {gone}, but that file is not there")
    ]


def test_a_service_that_was_not_restarted_is_drift() -> None:
    """The port serves another leaf than the file holds."""
    facts = node_facts("a1")
    ports = tuple(
        replace(port, chain=(leaf_of("a1", "older", days=3),)) if port.service == "turn" else port
        for port in facts.ports
    )
    (one,) = drift(replace(facts, ports=ports))
    assert (one.service, "the service was not restarted" in one.what) == ("turn", True)


def test_a_port_nobody_saw_is_no_drift() -> None:
    """Not seen is not wrong."""
    facts = node_facts("a1")
    ports = tuple(replace(port, state=PortState.NOT_PROBED, chain=()) for port in facts.ports)
    assert drift(replace(facts, ports=ports)) == ()
