"""A renewal is taken back by a plan of its own: every port serves its old leaf again, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from database_engine import DatabaseEngine
from steps_engine import BOTH

from workflows import actions
from workflows.errors import PlanError
from workflows.facts import NodeFacts
from workflows.journal.events import Kind
from workflows.plan import Lane, Plan, Seq
from workflows.procedures.renewal_rollback import plan_renewal_rollback

Start = Callable[..., DatabaseEngine]
BACK = "20261123-1300-back"
Served = dict[tuple[str, str], x509.Certificate | None]


def served(engine: DatabaseEngine, plan: Plan) -> Served:
    """Return what each service of the plan's certificates serves."""
    pairs = [(node, name) for wish in plan.wishes.values() for node in wish["nodes"] for name in wish["services"]]
    return {(node, name): engine.served(node, name)[name] for node, name in pairs}


def renewed(engine: DatabaseEngine, *, until: str = "") -> tuple[Plan, Served]:
    """Renew everything, or as far as *until*; return the plan and what was served before."""
    plan = engine.plan()
    before = served(engine, plan)
    engine.start(plan)
    assert engine.to_apply(until=until) == until
    return plan, before


def plan_back(engine: DatabaseEngine, plan: Plan, facts: dict[str, NodeFacts] | None = None, **more: Any) -> Plan:
    """Return the plan back from what stands on the servers now."""
    return plan_renewal_rollback(plan, facts or engine.survey(), **{"now": datetime.now(UTC), **more})


def rolled_back(engine: DatabaseEngine, plan: Plan) -> Plan:
    """Cancel the run and begin the one that goes back, up to its gate."""
    back = plan_back(engine, plan)
    engine.cancel()
    engine.start(back, run=BACK)
    assert engine.run_lane(run=BACK) == "seoul/go"
    return back


def beyond_go(engine: DatabaseEngine) -> str:
    """Approve the lines back and carry them out."""
    engine.approve("go", run=BACK)
    engine.through("go", run=BACK)
    return engine.run_lane(run=BACK)


def same_files(document: dict[str, Any]) -> None:
    """Let every certificate keep the names of its files."""
    for cluster in document["clusters"]:
        for one in cluster["certificates"]:
            one["files"] = "same"


@pytest.mark.parametrize(
    ("release", "nodes", "services", "change"),
    [
        ("3.9", 2, ("webadmin", "callbridge", "webbridge3"), None),
        ("2.9", 1, ("webadmin", "callbridge", "webbridge", "xmpp", "loadbalancer"), None),
        ("3.9", 1, ("webadmin", "callbridge"), same_files),
    ],
    ids=["3.9", "2.9", "files-same"],
)
def test_every_port_serves_its_old_leaf_again(
    start_database: Start, release: str, nodes: int, services: tuple[str, ...], change: Any
) -> None:
    """Canary first; the links between the servers hold; what was closed in stage 900 trusts the old leaf again."""
    engine = start_database(change, nodes=nodes, release=release, services=services)
    plan, before = renewed(engine)
    assert served(engine, plan) != before
    back = rolled_back(engine, plan)
    order = [step.node for step in plan.lane("seoul").steps() if step.stage == 800]
    assert [step.node for step in back.lane("seoul").steps() if step.stage == 800] == order
    sent = {node: len(engine.fleet.commands(node)) for node in back.nodes()}
    assert beyond_go(engine) == ""
    assert served(engine, plan) == before
    assert engine.fleet.broken_links() == []
    assert engine.work.journal.state(BACK).outcome == "done"
    assert engine.work.journal.verify(BACK) == ()
    for node, number in sent.items():
        lines = [str(line) for step in back.lane("seoul").steps() if step.node == node for line in step.lines]
        typed = [line for line in engine.fleet.commands(node)[number:] if line in lines]
        assert typed == [line for line in lines if line in typed]  # each once, in the order of the plan
    with pytest.raises(PlanError, match="nothing to undo"):
        plan_back(engine, plan)


@BOTH
def test_only_servers_that_were_changed_go_back(start_database: Start) -> None:
    """The run stopped between the two servers: the second one is left alone, though it does not even answer."""
    engine = start_database(nodes=2, services=("webadmin", "callbridge"))
    plan = engine.plan()
    second = [step.node for step in plan.lane("seoul").steps() if step.stage == 800][-1]
    first = next(step for step in plan.lane("seoul").steps() if step.stage == 700 and step.node == second)
    _, before = renewed(engine, until=first.id)
    facts = engine.survey()
    del facts[second]
    touched = frozenset(engine.fleet.nodes) - {second}
    back = plan_back(engine, plan, facts, silent=frozenset({second}), touched=touched)
    assert second not in back.nodes()
    without_gate = plan_back(engine, replace(plan, fleet={**plan.fleet, "go_gate": False}), touched=touched)
    assert ([one.name for one in back.lane("seoul").gates()], without_gate.lane("seoul").gates()) == (["go"], ())
    with pytest.raises(PlanError, match="did not answer the survey"):
        plan_back(engine, plan, facts, silent=frozenset({second}))
    rolled_back(engine, plan)
    assert (beyond_go(engine), served(engine, plan)) == ("", before)


def test_refused_where_the_old_pair_is_gone_expired_or_another(start_database: Start) -> None:
    """Each with the server, the service and the file."""
    engine = start_database(nodes=1, services=("webadmin", "callbridge"))
    plan, _ = renewed(engine)
    facts = engine.survey()
    old = plan.lane("seoul").part("seoul/cmscore1/apply/webadmin").expects[0].value["certificate"]  # type: ignore[union-attr]
    with pytest.raises(PlanError, match=f"{old}, in use before, ended"):
        plan_back(engine, plan, facts, now=datetime.now(UTC) + timedelta(days=200))
    one = facts["cmscore1"]
    without = {"cmscore1": replace(one, files=tuple(file for file in one.files if file.name != old))}
    with pytest.raises(PlanError, match=f"webadmin: {old}, in use before, is no longer there"):
        plan_back(engine, plan, without)
    other = next(file for file in one.files if file.certificates and file.name != old)
    swapped = tuple(replace(file, certificates=other.certificates) if file.name == old else file for file in one.files)
    with pytest.raises(PlanError, match=f"{old} holds another certificate"):
        plan_back(engine, plan, {"cmscore1": replace(one, files=swapped)})


@pytest.mark.parametrize("sent", [1, 2], ids=["old-files", "new-files"])
@pytest.mark.parametrize("change", [None, same_files], ids=["new-names", "files-same"])
def test_what_the_run_left_off_is_on_again(start_database: Start, change: Any, sent: int) -> None:
    """Its worker died behind `disable`, or one line later: the way back starts the process, whatever files it uses."""
    engine = start_database(change, nodes=1, services=("webadmin",))
    step = "seoul/cmscore1/apply/webadmin"
    plan, before = renewed(engine, until=step)
    lines = [str(line) for line in plan.lane("seoul").part(step).lines]  # type: ignore[union-attr]
    for line in [one for one in lines if not one.startswith("webadmin enable")][:sent]:
        engine.fleet.execute("cmscore1", line)
    back = rolled_back(engine, plan)
    restore = back.lane("seoul").part("seoul/cmscore1/restore/webadmin")
    assert ("was left off" in restore.title, str(restore.lines[-1])) == (True, "webadmin enable")  # type: ignore[union-attr]
    fault = engine.fleet.fault("failure", node="cmscore1", match="webadmin enable", times=1)
    assert beyond_go(engine) == restore.id
    (failed,) = [one for one in engine.work.journal.events(BACK) if one.kind is Kind.ROLLBACK_FAILED]
    assert failed.data["lines"][-1] == "webadmin enable"
    engine.fleet.mend(fault)
    actions.resume(engine.work.journal, BACK, by="ann")
    assert (engine.run_lane(run=BACK), served(engine, plan)) == ("", before)
    assert engine.survey()["cmscore1"].service("webadmin").enabled is True  # type: ignore[union-attr]


def test_what_a_trust_step_left_off_is_on_again(start_database: Start) -> None:
    """No file of it has changed yet, and there is no restart of its own to come: it is started."""
    engine = start_database(nodes=1, services=("callbridge", "webbridge3"))
    step = "seoul/cmscore1/trust/webbridge3"
    plan, before = renewed(engine, until=step)
    engine.fleet.execute("cmscore1", "webbridge3 disable")
    only_trust = replace(plan, lanes=tuple(_without(lane, "seoul/cmscore1/apply/webbridge3") for lane in plan.lanes))
    for original in (plan, only_trust):
        lane = plan_back(engine, original).lane("seoul")
        assert str(lane.part("seoul/cmscore1/restore/webbridge3").lines[-1]) == "webbridge3 enable"  # type: ignore[union-attr]
    rolled_back(engine, only_trust)
    assert (beyond_go(engine), served(engine, plan)) == ("", before)


def _without(lane: Lane, step: str) -> Lane:
    """Return the lane without one of its steps."""
    tree = lane.tree
    assert isinstance(tree, Seq)
    return replace(lane, tree=Seq(tuple(part for part in tree.parts if getattr(part, "id", "") != step)))


def test_refused_where_a_later_run_wrote_a_store_that_does_not_trust_the_old_leaf(start_database: Start) -> None:
    """The store in use is not the one that this run closed, and nobody could open it again."""
    engine = start_database(nodes=2, services=("webadmin", "callbridge", "webbridge3"))
    plan, _ = renewed(engine)
    facts = engine.survey()
    close = next(step for step in plan.lane("seoul").steps() if step.action == "close")
    one, store = facts[close.node], close.params["stores"][0]
    held = next(file for file in one.files if file.name == store["file"])
    trust = tuple(replace(each, file="later.crt") if each.store == store["store"] else each for each in one.trust)
    files = (*one.files, replace(held, name="later.crt"))
    with pytest.raises(PlanError, match=f"{close.node}/{store['store']}: later.crt, in use now, does not trust"):
        plan_back(engine, plan, {**facts, close.node: replace(one, files=files, trust=trust)})
    both = next(file for file in one.files if file.name == store["base"])
    files = (*one.files, replace(both, name="later.crt"))
    assert plan_back(engine, plan, {**facts, close.node: replace(one, files=files, trust=trust)}).lanes


def test_refused_before_anything_is_changed_where_the_old_key_does_not_match(start_database: Start) -> None:
    """`pki match` says no in stage 200: the lane stops before its gate."""
    engine = start_database(nodes=1, services=("webadmin",))
    plan, before = renewed(engine)
    back = plan_back(engine, plan)
    step = back.lane("seoul").part("seoul/cmscore1/prepare")
    key, _ = step.params["pairs"][0]  # type: ignore[union-attr]
    (other,) = [name for name in engine.fleet.files("cmscore1") if name.endswith(".key") and name != key][:1]
    engine.fleet.put_file("cmscore1", key, engine.fleet.files("cmscore1")[other])
    engine.cancel()
    engine.start(back, run=BACK)
    assert engine.run_lane(run=BACK) == "seoul/prepared"
    state = engine.state_of("seoul", BACK).steps["seoul/cmscore1/prepare"]
    assert "in use before, do not belong together: there is no way back" in (state.error or {})["text"]
    assert served(engine, plan) != before


def test_rollback_failed_is_a_state_of_its_own_and_resume_ends_it(start_database: Start) -> None:
    """The line back is refused: nothing goes forward again by itself; the lines left are told, and a resume goes on."""
    engine = start_database(nodes=1, services=("webadmin", "callbridge"))
    plan, before = renewed(engine)
    rolled_back(engine, plan)
    fault = engine.fleet.fault("failure", node="cmscore1", match="callbridge certs *", times=1)
    failed = "seoul/cmscore1/restore/callbridge"
    assert beyond_go(engine) == failed
    (event,) = [one for one in engine.work.journal.events(BACK) if one.kind is Kind.ROLLBACK_FAILED]
    assert event.data["lines"] == [str(line) for line in engine.work.plan(BACK)[0].lane("seoul").part(failed).lines]  # type: ignore[union-attr]
    state = engine.state_of("seoul", BACK)
    assert (state.status, state.steps[failed].data["rollback_failed"] != "") == ("stopped", True)
    assert [one.kind for one in engine.work.journal.events(BACK)].count(Kind.PUT_BACK) == 0
    engine.fleet.mend(fault)
    actions.resume(engine.work.journal, BACK, by="ann")
    assert (engine.run_lane(run=BACK), served(engine, plan)) == ("", before)


def test_a_cut_in_the_middle_sends_nothing_twice(start_database: Start) -> None:
    """The answers to a setting and to the restart behind it are lost: status and port show that both were done."""
    engine = start_database(nodes=1, services=("callbridge", "webadmin"))
    plan, before = renewed(engine)
    back = rolled_back(engine, plan)
    restarts, sets = engine.done("callbridge restart"), engine.done("callbridge certs")
    first = sum("callbridge restart" in map(str, one.lines) for one in back.lane("seoul").steps() if one.stage == 600)
    engine.fleet.fault("cut-after", node="cmscore1", match="callbridge restart", times=1, skip=first)
    engine.fleet.fault("cut-after", node="cmscore1", match="callbridge certs *", times=1)
    assert (beyond_go(engine), served(engine, plan)) == ("", before)
    assert (engine.done("callbridge restart") - restarts, engine.done("callbridge certs") - sets) == (first + 1, 1)
