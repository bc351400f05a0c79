"""Plans back from the rebuild of a database cluster: who leaves, who enters, who approves, and when there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.core.database_fleets import a_database_fleet, changed, database_facts, database_plan, facts_after
from tests.unit.core.fleets import NOW
from workflows.errors import PlanError
from workflows.facts import DatabaseFact, NodeFacts
from workflows.plan import Gate, Plan
from workflows.procedures.rollback import plan_rollback

FLEET = a_database_fleet()
BEFORE = database_facts(FLEET)
REBUILD = database_plan(FLEET, BEFORE)
FILE_ROWS = ("server_key", "server_certificate", "client_key", "client_certificate", "ca_certificate")
EVERYBODY = ("a1", "a2", "a3", "b1")
OUT = ("b1/remove", "a2/remove", "a3/remove", "a1/remove")
IN = ("a1/initialize", "a2/join", "a3/join", "b1/connect", "a1/agree")


def back(original: Plan = REBUILD, facts: Mapping[str, NodeFacts] = BEFORE, *, days: int = 0) -> Plan:
    """Return the way back of *original* as *facts* stand, *days* later."""
    return plan_rollback(original, facts, now=NOW + timedelta(days=days))


def refused(original: Plan, facts: Mapping[str, NodeFacts]) -> list[str]:
    """Return "where: what" of each finding of a way back that is refused; every finding has a remedy."""
    with pytest.raises(PlanError) as error:
        back(original, facts)
    assert all(finding.remedy for finding in error.value.findings)
    return [f"{finding.where}: {finding.what}" for finding in error.value.findings]


def ids_of(plan: Plan) -> list[str]:
    """Return what stands behind the point of no return, but the barriers: "a1/initialize"."""
    return [step.id.removeprefix("seoul/") for step in plan.lanes[0].steps() if step.stage >= 700]


def gate_of(plan: Plan) -> Gate:
    """Return the point of no return."""
    return next(gate for gate in plan.lanes[0].gates() if gate.name == "point-of-no-return")


def out(facts: Mapping[str, NodeFacts], nodes: Iterable[str], *, primary: str = "a1") -> dict[str, NodeFacts]:
    """Return *facts* when *nodes* have left, and the others are a cluster around *primary*."""
    standing = database_facts(FLEET, outside=nodes, primary=primary)
    return {name: replace(facts[name], database_cluster=standing[name].database_cluster) for name in facts}


def test_the_nodes_that_are_out_come_back_to_a_primary_that_still_stands() -> None:
    """Nobody else leaves, the primary is not touched, and one person is enough."""
    now = out(BEFORE, ["a3", "b1"])
    plan = back(facts=now)
    assert ids_of(plan) == ["a3/join", "b1/connect", "a1/agree"]
    assert not gate_of(plan).two_people
    end = facts_after(plan, FLEET, now)
    assert {one: database_of(BEFORE, one) for one in EVERYBODY} == {one: database_of(end, one) for one in EVERYBODY}


@pytest.mark.parametrize("brought_in", [("a1",), ("a1", "a2"), EVERYBODY])
def test_every_node_that_is_in_leaves_first_and_none_stays_behind_with_new_files(brought_in: tuple[str, ...]) -> None:
    """What counts is the cluster of now: also nodes that another run or a person brought in with the new files."""
    after = facts_after(REBUILD, FLEET, BEFORE)
    now = out(after, set(EVERYBODY) - set(brought_in))
    for node in brought_in:
        new = database_of(after, node)
        now = changed(now, node, **{name: getattr(new, name) for name in FILE_ROWS})

    plan = back(facts=now)

    assert [*(step for step in OUT if step[:2] in brought_in), *IN] == ids_of(plan)
    end = facts_after(plan, FLEET, now)
    assert [files_in_use(BEFORE, node) for node in EVERYBODY] == [files_in_use(end, node) for node in EVERYBODY]
    assert [node for node in EVERYBODY if database_of(end, node).disabled] == []


def test_a_node_that_was_in_no_cluster_before_leaves_with_the_others_and_stays_out() -> None:
    """It uses the new files alone and has no old ones: left in, it would name a primary that is gone."""
    before = database_facts(FLEET, outside=["a3", "b1"])
    rebuild = database_plan(FLEET, before)
    now = facts_after(rebuild, FLEET, before)

    plan = back(rebuild, now)

    assert [*OUT, "a1/initialize", "a2/join", "a1/agree"] == ids_of(plan)
    assert any("in no cluster before that run" in text and text.endswith("a3, b1") for text in plan.notices)
    end = facts_after(plan, FLEET, now)
    assert [node for node in EVERYBODY if database_of(end, node).disabled] == ["a3", "b1"]
    assert files_in_use(before, "a1") == files_in_use(end, "a1")


def test_another_node_that_leads_by_now_has_the_data_of_now() -> None:
    """Going back would overwrite it with what the primary of then holds, so there is no plan but the reason."""
    expected = [
        f"{node}: names a2 as its primary, and not a1, whose data that run keeps" for node in ("a2", "a3", "b1")
    ]
    assert expected == refused(REBUILD, out(BEFORE, ["a1"], primary="a2"))


def test_a_primary_that_shows_an_error_takes_nobody_back() -> None:
    """Its `remove` failed: to come back to it would fail, and what it holds is for a person to look at."""
    facts = changed(out(BEFORE, ["a2", "a3", "b1"]), "a1", state="Error", error="Couldn't stop the database")
    assert refused(REBUILD, facts) == ['a1: says "Couldn\'t stop the database": nobody can come back to it like that']


def test_a_primary_that_was_named_by_hand_needs_two_people_on_the_way_back_too() -> None:
    """The same data is chosen a second time; and no way back while the node that acts as primary is another one."""
    rebuild = database_plan(FLEET, BEFORE, primary="a2")
    assert gate_of(rebuild).two_people
    assert "a1: names a1 as its primary, and not a2, whose data that run keeps" in refused(rebuild, out(BEFORE, ["b1"]))

    plan = back(rebuild, out(BEFORE, EVERYBODY))

    assert ids_of(plan) == ["a2/initialize", "a1/join", "a3/join", "b1/connect", "a2/agree"]
    assert gate_of(plan).two_people
    assert "by a second person, since the primary was named by hand" in gate_of(plan).needs


def test_nothing_is_undone_where_all_is_as_before() -> None:
    """Every node is in its cluster with the old files."""
    assert [f"{FLEET.name}: every node is in its cluster with the files it used before: there is nothing to undo"] == (
        refused(REBUILD, BEFORE)
    )


def test_old_files_that_ended_are_no_way_back() -> None:
    """A cluster does not come up with them; each of them is told."""
    with pytest.raises(PlanError, match=r"dbserver\.crt, in use before, ended"):
        back(facts=out(BEFORE, EVERYBODY), days=60)


def test_a_node_that_did_not_answer_makes_no_way_back() -> None:
    """It may be in the cluster with the new files, and would stay behind."""
    with pytest.raises(PlanError, match="b1: did not answer the survey"):
        plan_rollback(REBUILD, out(BEFORE, EVERYBODY), now=NOW, silent=frozenset({"b1"}))


def database_of(facts: Mapping[str, NodeFacts], node: str) -> DatabaseFact:
    """Return the database status of *node*."""
    fact = facts[node].database_cluster
    assert fact is not None
    return fact


def files_in_use(facts: Mapping[str, NodeFacts], node: str) -> tuple[str, ...]:
    """Return the files that the database of *node* names."""
    return database_of(facts, node).files
