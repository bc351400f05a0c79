"""A fleet-wide outage: while many servers are silent, no new change begins; a person says when the network is back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from database_engine import DatabaseEngine
from steps_engine import BOTH, RUN, Engine

from api.cli.doctor import Verdict, check_outage
from api.reading_plans import survey_plan
from workers import attempt
from workers.attempt import Attempt
from workers.outage_circuit import refusal
from workflows import actions
from workflows.journal import claims, lanes
from workflows.journal.claims import Claim
from workflows.journal.events import Kind
from workflows.plan import Step

Start = Callable[..., Engine]
OTHER = "20261123-1300-else"
LOOK = "20261123-1100-look"


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


def look(engine: Engine) -> None:
    """Read every server in a run of its own, as `certbridge survey` does."""
    reading = survey_plan(engine.inventory, engine.inventory)
    engine.start(reading, run=LOOK)
    for lane in reading.lanes:
        generation = engine.work.journal.write(partial(lanes.raise_generation, run=LOOK, lane=lane.name, why="test"))
        assert generation is not None
        for step in lane.steps():
            Attempt(engine.work, run=LOOK, lane=lane.name, step=step.id, generation=generation).carry_out()


def two_fell_silent(start: Start, *, looked: bool = True) -> tuple[Engine, str, list[str]]:
    """Let two lanes lose their servers in stage 200; the third is approved and ready. Return what follows in it."""
    engine = start("webadmin", clusters=3, nodes=1, services=("webadmin",))
    two_are_an_outage(engine)
    if looked:
        look(engine)
    engine.start(engine.plan())
    (ready,) = [node.name for node in engine.work.plan(RUN)[1].cluster("seoul").nodes]
    step = f"seoul/{ready}/apply/webadmin"
    assert engine.to_apply(until=step) == step
    others = [name for name in engine.work.journal.state(RUN).lanes if name != "seoul"]
    gone = sorted(node for node in engine.fleet.nodes if node != ready)
    silence(engine, *gone)
    for lane in others:
        engine.go_on(lane)
    return engine, step, gone


def claimed_by_another(engine: Engine, step: str, *, run: str = RUN, lane: str = "seoul", lease_s: float) -> Claim:
    """Let another worker claim *step*."""
    generation = engine.work.journal.write(partial(lanes.raise_generation, run=run, lane=lane, why="test"))
    assert generation is not None
    node = engine.inventory.cluster("seoul").nodes[0].name
    claim = engine.work.journal.write(
        partial(
            claims.claim,
            run=run,
            lane=lane,
            step=step,
            node=node,
            generation=generation,
            holder="another",
            predecessors=frozenset(),
            resources=(f"node:{node}",),
            lease_s=lease_s,
        )
    )
    assert isinstance(claim, Claim)
    return claim


@BOTH
def test_no_change_begins_while_many_servers_are_silent(start: Start, records: str) -> None:
    """Two lanes lose their servers in stage 200; the third, approved and ready, stops before its first change."""
    engine, step, gone = two_fell_silent(start)
    assert engine.settings.is_sqlite is not bool(records)
    ready = step.split("/")[1]
    changed = len(engine.fleet.records("command", ready))
    assert engine.go_on() == step
    lane = engine.lane()
    assert lane.status == "stopped"
    assert all(name in lane.reason for name in (*gone, "2 servers did not answer", f"certbridge runs resume {RUN}"))
    (stopped,) = [one for one in engine.events(Kind.LANE_STOPPED) if one.lane == "seoul"]
    assert (stopped.data["circuit"], stopped.data["nodes"]) == ("outage", gone)
    told = [(one.verdict, one.text) for one in check_outage(engine.work.journal, engine.work.settings)]
    assert [verdict for verdict, _ in told] == [Verdict.FAILED] * 2
    assert all(name in told[0][1] for name in gone)
    assert f"run {RUN} stopped before a change" in told[1][1]
    assert (step in lane.steps, len(engine.fleet.records("command", ready))) == (False, changed)
    # The network is back, says a person; the others are still down, and that is known now.
    actions.resume(engine.work.journal, RUN, by="ann", lane="seoul")
    assert len(list(check_outage(engine.work.journal, engine.work.settings))) == 1
    assert (engine.go_on(), engine.done("webadmin enable", ready)) == ("", 1)


def test_servers_that_never_answered_do_not_count(start: Start) -> None:
    """A fleet with dead servers in its inventory can be renewed."""
    engine, step, _ = two_fell_silent(start, looked=False)
    assert (engine.go_on(), engine.done("webadmin enable", step.split("/")[1])) == ("", 1)


@BOTH
def test_a_step_that_was_begun_goes_on_after_a_takeover(start: Start) -> None:
    """Its worker died behind the first line, twice: the service is off, so the step is ended, outage or not."""
    engine, step, _ = two_fell_silent(start)
    ready = step.split("/")[1]
    claim = claimed_by_another(engine, step, lease_s=5)
    engine.work.journal.write(partial(claims.intent, claim=claim, line_no=0, text="webadmin disable"))
    engine.fleet.execute(ready, "webadmin disable")
    engine.work.journal.write(partial(claims.outcome, claim=claim, line_no=0, state="ok"))
    engine.work.journal.write(partial(claims.renew, claim=claim, lease_s=0))
    claim = claimed_by_another(engine, step, lease_s=0)
    assert (engine.go_on(), engine.done("webadmin enable", ready)) == ("", 1)


def test_what_interrupts_nothing_or_cannot_be_claimed_stops_no_lane(start: Start) -> None:
    """Proofs and closed stores are no changes; where another run holds the server, nothing would begin."""
    engine, step, _ = two_fell_silent(start)
    part = engine.work.plan(RUN)[0].lane("seoul").part(step)
    assert isinstance(part, Step)
    generation = engine.lane().generation

    def refused(one: Step) -> bool:
        held = partial(refusal, settings=engine.work.settings, run=RUN, lane="seoul", step=one, generation=generation)
        ask = partial(held, predecessors=frozenset(), resources=(f"node:{one.node}",))
        return engine.work.journal.write(ask) is not None

    assert refused(replace(part, id="seoul/prove", action="prove", stage=800)) is False
    assert refused(replace(part, id="seoul/close", action="close", stage=900)) is False
    assert refused(replace(part, id="seoul/look", lines=())) is False
    reading = survey_plan(engine.inventory, engine.inventory)
    engine.start(reading, run=OTHER)
    held = claimed_by_another(engine, "seoul/other", run=OTHER, lane=reading.lanes[0].name, lease_s=60)
    assert (engine.go_on(), engine.lane().status) == (step, "running")
    engine.work.journal.write(partial(claims.finish, claim=held, status="done"))
    assert (engine.go_on(), engine.lane().status) == (step, "stopped")


def test_a_message_that_came_too_early_stops_no_lane(start: Start) -> None:
    """What must be done before it is not done, so nothing would begin: the lane goes on as if it had never come."""
    engine, step, _ = two_fell_silent(start)
    later = step.replace("/apply/webadmin", "/prove")
    part = engine.work.plan(RUN)[0].lane("seoul").part(later)
    assert isinstance(part, Step)
    first = engine.work.plan(RUN)[0].lane("seoul").part(step)
    assert isinstance(first, Step)
    generation = engine.work.journal.write(partial(lanes.raise_generation, run=RUN, lane="seoul", why="test"))
    early = replace(first, id=later)
    ask = partial(refusal, settings=engine.work.settings, run=RUN, lane="seoul", step=early, generation=generation)
    early_ask = partial(ask, predecessors=frozenset({step}), resources=(f"node:{first.node}",))
    assert engine.work.journal.write(early_ask) is None
    assert engine.lane().status == "running"
    ready_ask = partial(ask, predecessors=frozenset(), resources=(f"node:{first.node}",))
    assert engine.work.journal.write(ready_ask) is not None


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
