"""A fleet-wide outage: while many servers are silent, no new change begins; a person says when the network is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from database_engine import DatabaseEngine
from steps_engine import RUN, Engine

from api.cli.reading_plans import survey_plan
from workers import attempt
from workflows import actions
from workflows.journal.events import Kind

Start = Callable[..., Engine]
OTHER = "20261123-1300-else"


@pytest.fixture(autouse=True)
def _one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between tries: these servers stay away."""
    monkeypatch.setattr(attempt, "TRIES", 1)


def two_are_an_outage(engine: Engine) -> None:
    """Let more than one silent server count as an outage."""
    engine.work.settings = engine.settings.model_copy(update={"outage_nodes": 1})


def silence(engine: Engine, *nodes: str) -> None:
    """Let nothing listen on the SSH port of *nodes*, nor answer on connections that are open."""
    for node in nodes:
        engine.fleet.fault("unreachable", node=node, match="ssh")


def test_no_change_begins_while_many_servers_are_silent(start: Start) -> None:
    """Two lanes lose their servers in stage 200; the third, approved and ready, stops before its first change."""
    engine = start("webadmin", clusters=3, nodes=1, services=("webadmin",))
    two_are_an_outage(engine)
    engine.start(engine.plan())
    (ready,) = [node.name for node in engine.work.plan(RUN)[1].cluster("seoul").nodes]
    step = f"seoul/{ready}/apply/webadmin"
    assert engine.to_apply(until=step) == step
    others = [name for name in engine.work.journal.state(RUN).lanes if name != "seoul"]
    gone = sorted(node for node in engine.fleet.nodes if node != ready)
    silence(engine, *gone)
    for lane in others:
        engine.go_on(lane)
    changed = len(engine.fleet.records("command", ready))
    assert engine.go_on() == step
    lane = engine.lane()
    assert lane.status == "stopped"
    assert all(name in lane.reason for name in (*gone, "2 servers did not answer", f"certbridge runs resume {RUN}"))
    (stopped,) = [one for one in engine.events(Kind.LANE_STOPPED) if one.lane == "seoul"]
    assert (stopped.data["circuit"], stopped.data["nodes"]) == ("outage", gone)
    assert (step in lane.steps, len(engine.fleet.records("command", ready))) == (False, changed)
    # The network is back, says a person; the others are still down, and that is known now.
    actions.resume(engine.work.journal, RUN, by="ann", lane="seoul")
    assert (engine.go_on(), engine.done("webadmin enable", ready)) == ("", 1)


def test_servers_that_answered_since_do_not_count(start: Start) -> None:
    """They were away for a moment, and a step of theirs has ended well since."""
    engine = start("webadmin", nodes=3, services=("webadmin",))
    two_are_an_outage(engine)
    engine.start(engine.plan())
    faults = [engine.fleet.fault("unreachable", node=node, match="ssh") for node in ("cmscore2", "cmscore3")]
    assert engine.go_on() == "seoul/prepared"
    for fault in faults:
        engine.fleet.mend(fault)
    engine.resume()
    assert engine.to_apply() == ""


def test_no_operation_of_a_database_begins_either(start_database: Callable[..., DatabaseEngine]) -> None:
    """Nothing is removed: the cluster stays whole until a person resumes."""
    engine = start_database(joined=2, connected=1)
    two_are_an_outage(engine)
    engine.to_the_gate()
    before = engine.roles()
    (first, *_) = [step for step in engine.work.plan(RUN)[0].lane("seoul").steps() if step.action == "database_remove"]
    assert engine.beyond(until=first.id) == first.id
    faults = [engine.fleet.fault("unreachable", node=node, match="ssh") for node in ("cmscore2", "cmscore3")]
    reading = survey_plan(engine.inventory, engine.inventory)
    engine.start(reading, run=OTHER)
    for lane in reading.lanes:
        engine.run_once(lane.name, run=OTHER)
    for fault in faults:
        engine.fleet.mend(fault)
    assert engine.run_lane() == first.id
    lane = engine.state_of("seoul")
    assert (lane.status, "2 servers did not answer" in lane.reason, engine.roles()) == ("stopped", True, before)
    engine.resume()
    assert engine.run_lane() == ""
