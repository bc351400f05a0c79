"""What happens when a server cannot be proved: it is put back, or a person is told which lines are left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from steps_engine import RUN, Engine

from workers.attempt import _lines_sent
from workflows import actions
from workflows.journal.events import Kind
from workflows.plan import Line, LineKind, Par, Plan, Seq, Step

Start = Callable[..., Engine]
PORTS = ("webadmin", "callbridge", "webbridge3.https", "webbridge3.c2w", "turn")
SERVICES = ("webadmin", "callbridge", "webbridge3", "turn")


def same_files(document: dict[str, Any]) -> None:
    """Ask for the names of the old files."""
    document["defaults"]["files"] = "same"


def with_time(plan: Plan, step: str, allow_s: int) -> Plan:
    """Return *plan* with so many seconds for *step*."""

    def changed(part: Any) -> Any:
        if isinstance(part, Step):
            return replace(part, allow_s=allow_s) if part.id == step else part
        if isinstance(part, Seq | Par):
            return replace(part, parts=tuple(changed(one) for one in part.parts))
        return part

    return replace(plan, lanes=tuple(replace(lane, tree=changed(lane.tree)) for lane in plan.lanes))


@pytest.mark.parametrize("change", [None, same_files])
def test_a_port_that_goes_on_with_the_old_certificate_has_its_node_put_back(start: Start, change: Any) -> None:
    """Every port serves its old leaf again, the lane stops; after the cause is mended the run goes to its end."""
    engine = start(services=SERVICES, change=change)
    before = engine.served("cmscore1", *PORTS)
    settings = {name: one["endpoints"] for name, one in engine.fleet.state("cmscore1")["services"].items()}
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("stale-listener", match="turn")
    assert engine.go_on() == "seoul/cmscore1/prove"
    assert engine.served("cmscore1", *PORTS) == before
    (event,) = engine.events(Kind.PUT_BACK)
    assert (engine.lane().status, event.node, len(event.data["ports"])) == ("stopped", "cmscore1", len(PORTS))
    assert {name: one["endpoints"] for name, one in engine.fleet.state("cmscore1")["services"].items()} == settings
    engine.fleet.mend()
    engine.resume()
    assert engine.go_on() == ""
    after = engine.served("cmscore1", *PORTS)
    assert all(after[port] != before[port] for port in PORTS)
    assert engine.plan().empty


@pytest.mark.parametrize("line", ["webadmin certs callbridge-1.key*", "callbridge restart"])
def test_a_refused_line_has_its_node_put_back(start: Start, line: str) -> None:
    """What was done before the refusal is undone; what was not begun is left alone."""
    engine = start("webadmin", "callbridge", services=("webadmin", "callbridge"), pin_leaves=False)
    before = engine.served("cmscore1", "webadmin", "callbridge")
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("failure", match=line, text="no")
    assert engine.go_on().startswith("seoul/cmscore1/apply/")
    assert engine.served("cmscore1", "webadmin", "callbridge") == before
    assert len(engine.events(Kind.PUT_BACK)) == 1


def test_a_line_whose_step_ran_out_of_time_has_an_outcome(start: Start) -> None:
    """The server hangs until the step's time is over: nobody knows what came of the line, and the journal says so."""
    engine = start("webadmin", services=("webadmin",))
    plan = engine.plan()
    step = "seoul/cmscore1/apply/webadmin"
    engine.start(with_time(plan, step, 2))
    engine.to_apply(until=step)
    engine.fleet.fault("hang", match="webadmin disable", seconds=3)
    assert engine.go_on() == step
    assert "took more than 2 s" in engine.lane().reason
    ends = {event.data["line"]: event.data["state"] for event in engine.events(Kind.OUTCOME) if event.step == step}
    meant = {event.data["line"] for event in engine.events(Kind.INTENT) if event.step == step}
    assert (ends[0], set(ends)) == ("unknown", meant)
    assert len(engine.events(Kind.PUT_BACK)) == 1
    engine.resume()
    assert (engine.go_on(), engine.plan().empty) == ("", True)


def test_a_store_that_is_refused_leaves_no_process_off(start: Start) -> None:
    """Stage 600 stops a process to change its store: when that fails, it runs with its old store again."""
    engine = start("callbridge", services=("callbridge", "webbridge3"))
    engine.start(engine.plan())
    step = "seoul/cmscore1/trust/webbridge3"
    assert engine.to_apply(until=step) == step
    before = engine.fleet.state("cmscore1")["services"]["webbridge3"]
    engine.fleet.fault("failure", match="webbridge3 c2w trust trust-*", text="no")
    assert engine.go_on() == step
    assert engine.fleet.state("cmscore1")["services"]["webbridge3"] == before
    assert len(engine.events(Kind.PUT_BACK)) == 1
    engine.resume()
    assert (engine.go_on(), engine.fleet.broken_links(), engine.plan().empty) == ("", [], True)


def test_a_cut_while_putting_back_is_no_failure(start: Start) -> None:
    """The lines back are sent again from the first whose end is not known."""
    engine = start("webadmin", services=("webadmin",))
    before = engine.served("cmscore1", "webadmin")
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("stale-listener", match="webadmin")
    engine.fleet.fault("cut-after", match="webadmin certs callbridge.key*")
    assert engine.go_on() == "seoul/cmscore1/prove"
    assert (len(engine.events(Kind.PUT_BACK)), engine.events(Kind.ROLLBACK_FAILED)) == (1, [])
    assert engine.served("cmscore1", "webadmin") == before


def test_a_node_that_cannot_be_put_back_is_a_state_of_its_own(start: Start) -> None:
    """The journal holds the lines back; `resume` goes on by what the status says, wherever the node stands."""
    engine = start("webadmin", services=("webadmin",))
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("stale-listener", match="webadmin")
    engine.fleet.fault("failure", match="webadmin certs callbridge.key*", text="disk error", times=9)
    assert engine.go_on() == "seoul/cmscore1/prove"
    (event,) = engine.events(Kind.ROLLBACK_FAILED)
    assert "disk error" in event.data["why"]
    assert event.data["lines"] == [
        "webadmin disable",
        "webadmin certs callbridge.key callbridge.crt callbridge-bundle.crt",
        "webadmin enable",
    ]
    assert "rollback_failed" in engine.step("seoul/cmscore1/prove").data
    engine.fleet.mend()
    engine.resume()
    assert (engine.go_on(), engine.events(Kind.PUT_BACK)) == ("", [])
    assert engine.fleet.served_leaf("cmscore1", "webadmin") == engine.new_leaf("seoul/cmscore1/callbridge")


def test_lines_back_have_numbers_of_their_own(start: Start) -> None:
    """Two steps of one node are undone: the journal tells their lines apart."""
    engine = start("webadmin", "callbridge", services=("webadmin", "callbridge"), pin_leaves=False)
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("stale-listener", match="callbridge")
    assert engine.go_on() == "seoul/cmscore1/prove"
    undone = [event.data for event in engine.events(Kind.INTENT) if event.data["line"] >= 1000]
    assert [(one["line"], one["text"].split()[0]) for one in undone] == [
        (1000, "webadmin"),
        (1001, "webadmin"),
        (1002, "webadmin"),
        (1100, "callbridge"),
        (1101, "callbridge"),
    ]


def test_a_slow_port_is_waited_for_before_putting_back_counts_as_failed(start: Start) -> None:
    """A service takes its time to come up again; only a port that stays silent is a failure."""
    engine = start("webadmin", services=("webadmin",))
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    stale = engine.fleet.fault("stale-listener", match="webadmin")
    silent: list[str] = []
    change = engine.work.connections.session

    def watch(*args: Any, **asked: Any) -> Any:
        # From the first line back on, nobody answers at the port; it answers again when somebody has looked.
        if any("webadmin certs callbridge.key" in line.text for line in asked.get("allowed", ())) and not silent:
            silent.append(engine.fleet.fault("unreachable", match="webadmin"))
            engine.work.loop.run(_mend_soon(engine, silent[0]))
        return change(*args, **asked)

    assert engine.go_on(until="seoul/cmscore1/prove") == "seoul/cmscore1/prove"
    engine.work.connections.session = watch  # type: ignore[method-assign]
    assert engine.go_on() == "seoul/cmscore1/prove"
    assert (len(engine.events(Kind.PUT_BACK)), engine.events(Kind.ROLLBACK_FAILED), stale != "") == (1, [], True)


async def _mend_soon(engine: Engine, fault: str) -> None:
    await asyncio.sleep(0.15)
    await asyncio.to_thread(engine.fleet.mend, fault)


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_a_pause_does_not_stop_a_way_back(start: Start, word: str) -> None:
    """The prove step sends no line of its own, so the first line back must not count as the step's border."""
    engine = start("webadmin", services=("webadmin",))
    before = engine.served("cmscore1", "webadmin")
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("stale-listener", match="webadmin")
    assert engine.go_on(until="seoul/cmscore1/prove") == "seoul/cmscore1/prove"
    asked: list[str] = []
    session = engine.work.connections.session

    def stop(*args: Any, **more: Any) -> Any:
        if not asked:  # the prove step is claimed, and looks at its ports now
            asked.append(word)
            {"pause": actions.pause, "cancel": actions.cancel}[word](engine.work.journal, RUN, by="ann")
        return session(*args, **more)

    engine.work.connections.session = stop  # type: ignore[method-assign]
    assert engine.go_on() == "seoul/cmscore1/prove"
    assert (len(engine.events(Kind.PUT_BACK)), engine.events(Kind.ROLLBACK_FAILED)) == (1, [])
    assert (engine.served("cmscore1", "webadmin"), asked) == (before, [word])


def test_a_failed_rollback_forgets_which_lines_took(start: Start) -> None:
    """Nothing is known of the server then: `resume` does not take a restart before the rollback for one after it."""
    engine = start("webadmin", "callbridge", services=("webadmin", "callbridge"), pin_leaves=False)
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("stale-listener", match="webadmin")
    engine.fleet.fault("failure", match="webadmin certs callbridge.key*", text="disk error", times=9)
    assert engine.go_on() == "seoul/cmscore1/prove"
    plan, _ = engine.work.plan(RUN)
    step = plan.lane("seoul").part("seoul/cmscore1/apply/callbridge")
    assert isinstance(step, Step)
    assert (len(engine.events(Kind.ROLLBACK_FAILED)), _lines_sent(engine.work, RUN, step)[:2]) == (1, ({}, {}))


def test_a_port_is_not_proved_while_the_status_names_other_files(start: Start) -> None:
    """The new leaf is still served, but the next restart would bring the old one: that is no success."""
    engine = start("callbridge", services=("callbridge",), pin_leaves=False)
    engine.start(engine.plan())
    assert engine.to_apply(until="seoul/cmscore1/prove") == "seoul/cmscore1/prove"
    old = Line(kind=LineKind.COMMAND, text="callbridge certs callbridge.key callbridge.crt callbridge-bundle.crt")
    node = engine.inventory.node("cmscore1")
    with engine.work.loop.entered(engine.work.connections.session(node, run="by hand", allowed=[old])) as session:
        engine.work.loop.call(session.change(old))
    assert engine.go_on() == "seoul/cmscore1/prove"
    assert (
        "callbridge is set to bundle callbridge-bundle.crt" in (engine.step("seoul/cmscore1/prove").error or {})["text"]
    )


def test_a_way_back_that_is_refused_leaves_no_process_off(start: Start) -> None:
    """Neither the process whose old files are refused, nor another one of that node that was stopped."""
    engine = start("webadmin", "turn", services=("webadmin", "turn"))
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/webadmin")
    engine.fleet.fault("failure", match="webadmin certs callbridge.key*", text="disk error", times=9)
    engine.fleet.fault("failure", match="turn certs turn-1.key*", text="disk error", times=9)
    assert engine.go_on() == "seoul/cmscore1/apply/turn"
    (event,) = engine.events(Kind.ROLLBACK_FAILED)
    services = engine.fleet.state("cmscore1")["services"]
    assert ("webadmin certs" in event.data["why"], services["webadmin"]["enabled"], services["turn"]["enabled"]) == (
        True,
        True,
        True,
    )
