"""Whole runs, step by step: what is in service afterwards, and that nothing is due any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from steps_engine import RUN, Engine

from workflows.journal.events import Kind

Start = Callable[..., Engine]


def lines_sent(engine: Engine, node: str) -> list[str]:
    """Return the changing lines that *node* was sent, in order."""
    reading = ("version", "date", "pki list", "pki match", "pki verify", "database cluster status", "loadbalancer list")
    return [line for line in engine.fleet.commands(node) if " " in line and not line.startswith(reading)]


def lines_planned(engine: Engine, node: str) -> list[str]:
    """Return the lines of the plan for *node*, in order."""
    plan, _ = engine.work.plan(RUN)
    return [
        line.text
        for lane in plan.lanes
        for step in lane.steps()
        if step.node == node
        for line in step.lines
        if line.kind.value == "command"
    ]


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_a_run_renews_every_service_by_the_lines_of_its_plan(start: Start, release: str) -> None:
    """Each port serves its new leaf, each link still holds, and the next plan is empty."""
    services = {
        "2.9": ("webadmin", "callbridge", "webbridge", "xmpp", "turn", "recorder", "streamer"),
        "3.9": ("webadmin", "callbridge", "webbridge3", "turn", "recorder", "streamer", "scheduler"),
    }[release]
    engine = start(nodes=2, release=release, services=services)
    plan = engine.start(engine.plan())
    assert engine.to_apply() == ""
    assert {name: state.status for name, state in engine.lane().steps.items() if state.status != "done"} == {}
    for wish in plan.wishes.values():
        node = wish["nodes"][0]
        for service in wish["services"]:
            if (served := engine.served(node, service)[service]) is not None:
                assert served == engine.new_leaf(wish["id"]), (node, service)
    assert engine.fleet.broken_links() == []
    assert {node: lines_sent(engine, node) for node in plan.nodes()} == {
        node: lines_planned(engine, node) for node in plan.nodes()
    }
    assert engine.plan().empty
    assert {event.data["state"] for event in engine.events(Kind.OUTCOME)} <= {"ok", "unknown"}
