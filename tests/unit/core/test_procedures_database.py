"""Plans of a database cluster: who is who, which files, why, in which order, and what people are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.core.database_fleets import (
    FIVE,
    SERVER_CN,
    a_database_cluster,
    a_database_fleet,
    changed,
    database_facts,
    database_plan,
    facts_after,
    with_files,
)
from tests.unit.core.fleets import NOW, STEMS, a_fleet, a_node, file_of
from workflows.canonical import canonical
from workflows.errors import PlanError
from workflows.facts import CertificateFact, DatabaseMember, FileFact, NodeFacts, PortFact, PortState
from workflows.inventory import Cluster, DatabaseRole, KeyOrigin, ResolvedFleet
from workflows.plan import Gate, Line, LineKind, Plan, Step, walk
from workflows.procedures.database_places import FileSet, places

FLEET = a_database_fleet()
GONE = ("a1", "a2", "a3", "b1")


def findings_of(
    facts: Mapping[str, NodeFacts] | None = None, purpose: str = "renew", *, fleet: ResolvedFleet = FLEET, **asked: Any
) -> list[str]:
    """Return "where: what" of each finding of a plan that is refused; every finding has a remedy."""
    with pytest.raises(PlanError) as refused:
        database_plan(fleet, facts, purpose, **asked)
    assert all(finding.remedy for finding in refused.value.findings)
    return [f"{finding.where}: {finding.what}" for finding in refused.value.findings]


def steps_of(plan: Plan, action: str) -> list[Step]:
    """Return the steps of one action, in order."""
    return [step for lane in plan.lanes for step in lane.steps() if step.action == action]


def ids_of(plan: Plan) -> list[str]:
    """Return what stands behind the point of no return, but the barriers: "a1/initialize"."""
    steps = (step for lane in plan.lanes for step in lane.steps() if step.stage >= 700)
    return [step.id.removeprefix("seoul/") for step in steps]


def gates_of(plan: Plan) -> dict[str, Gate]:
    """Return the gates by name."""
    return {gate.name: gate for gate in plan.lanes[0].gates()}


def texts(lines: tuple[Line, ...]) -> list[str]:
    """Return lines as they are shown, without the questions."""
    return [line.text if line.kind is LineKind.COMMAND else f"{line.kind.value} {line.text}" for line in lines]


def without(facts: Mapping[str, NodeFacts], *nodes: str) -> dict[str, NodeFacts]:
    """Return *facts* without those of some nodes."""
    return {name: one for name, one in facts.items() if name not in nodes}


def rows(*roles: str, me: int = 1) -> tuple[DatabaseMember, ...]:
    """Return the rows of a status: the roles of a1, a2, …; *me* is the number of the node that was asked."""
    return tuple(
        DatabaseMember(address=f"10.97.0.{at}", role=role, me=at == me, connected=True)
        for at, role in enumerate(roles, 1)
    )


# ── who is who ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_primary_is_the_one_that_all_name() -> None:
    """No word of the inventory is needed, and one person's approval is enough."""
    plan = database_plan(FLEET, database_facts(FLEET, primary="a3"))
    assert [step.node for step in steps_of(plan, "database_initialize")] == ["a3"]
    assert not gates_of(plan)["point-of-no-return"].two_people


@pytest.mark.parametrize("node", ["a2", "b1"])
def test_nodes_that_name_another_primary_make_no_plan(node: str) -> None:
    """Joined or connected: whoever tells another story is heard."""
    me = {"a2": 2, "b1": 0}[node]
    facts = changed(database_facts(FLEET), node, members=rows("replica", "primary", "replica", me=me))
    (told,) = findings_of(facts)
    assert told.startswith("seoul: its nodes do not agree on one primary: a1, ")
    assert told.endswith(f"; {node} names a2")


@pytest.mark.parametrize("roles", [("replica", "replica", "unknown"), ("primary", "primary", "replica")])
def test_a_node_that_names_none_or_two_makes_no_plan(roles: tuple[str, ...]) -> None:
    """Only one primary is one."""
    facts = changed(database_facts(FLEET), "a2", members=rows(*roles, me=2))
    expected = "seoul: its nodes do not agree on one primary: a1, a3, b1 name a1; a2 names none"
    assert findings_of(facts) == [expected]


def test_a_primary_that_left_is_not_taken_at_its_peers_word() -> None:
    """Since it is out, its data may be older than theirs."""
    facts = database_facts(FLEET, outside=["a1"], still_named=True)
    expected = "seoul: its nodes name a1 as their primary, but a1 says that it is in no cluster"
    assert findings_of(facts) == [expected]
    assert database_plan(FLEET, facts, primary="a2").lanes


def test_a_connected_node_is_never_the_primary() -> None:
    """It has no database of its own in the cluster."""
    facts = database_facts(FLEET)
    for node in GONE:
        at = int(node[1]) if node[0] == "a" else 0
        others = [replace(one, role="replica") for one in rows("replica", "replica", "replica", me=at)]
        odd = DatabaseMember(address="10.97.0.4", role="primary")
        facts = changed(facts, node, members=(*others, odd))
    fleet = a_fleet(replace(FLEET.clusters[0], nodes=tuple(_moved(node) for node in FLEET.clusters[0].nodes)))
    expected = "seoul: a1, a2, a3, b1 name b1 as the primary, which is no joined node of the inventory"
    assert findings_of(facts, fleet=fleet) == [expected]


def _moved(node: Any) -> Any:
    return replace(node, address="10.97.0.4") if node.name == "b1" else node


def test_a_person_settles_a_quarrel_and_a_second_one_approves() -> None:
    """`--primary` decides; gate and notices say who named whom; the node that is it now leaves last of the others."""
    plan = database_plan(FLEET, database_facts(FLEET), primary="a2")
    gate = gates_of(plan)["point-of-no-return"]
    removes = [step.node for step in steps_of(plan, "database_remove")]
    assert removes == ["b1", "a3", "a1", "a2"]
    assert gate.two_people
    assert "by a second person, since the primary was named by hand" in gate.needs
    assert "seoul: a2 is the primary because a person said so; by status a1, a2, a3, b1 name a1" in plan.notices
    assert not any("is not in sync" in text for text in (*plan.notices, gate.needs))


def test_a_person_who_names_a_replica_that_is_behind_is_warned() -> None:
    """What it has not copied yet is gone for good, so notices and gate say so."""
    facts = changed(database_facts(FLEET), "a2", members=rows("primary", "replica", "replica", me=2))
    plan = database_plan(FLEET, facts, primary="a2")
    lost = "a2 is not in sync: what the acting primary has and it does not is lost"
    assert f"seoul: {lost}" in plan.notices
    assert lost in gates_of(plan)["point-of-no-return"].needs
    out = database_plan(FLEET, database_facts(FLEET, outside=["a2"]), primary="a2")
    assert "a2 is in no cluster now: what the acting primary has" in gates_of(out)["point-of-no-return"].needs


def test_a_person_who_names_what_all_name_settles_nothing() -> None:
    """One person is enough, and the gate says no more; when nothing is due yet, a person asked for it all the same."""
    plan = database_plan(FLEET, database_facts(FLEET, days=400), primary="a1")
    gate = gates_of(plan)["point-of-no-return"]
    assert not gate.two_people
    assert "by a second person" not in gate.needs
    assert plan.wishes["seoul/dbserver"]["why"] == []


@pytest.mark.parametrize("silenced", ["a2", "b1"])
def test_a_person_is_contradicted_by_a_node_that_names_nobody(silenced: str) -> None:
    """A member that calls no node the primary tells another story, so a second person looks at it."""
    facts = database_facts(FLEET)
    fact = facts[silenced].database_cluster
    assert fact is not None
    members = tuple(replace(one, role="replica") for one in fact.members)
    plan = database_plan(FLEET, changed(facts, silenced, members=members, node_in_use=""), primary="a1")
    assert gates_of(plan)["point-of-no-return"].two_people


def test_a_lone_node_needs_nobody_to_settle_anything() -> None:
    """There is one joined node, it is the primary, and it hands out nothing: no key is tried to be read."""
    fleet = a_database_fleet(1, 0)
    plan = database_plan(fleet, primary="a1")
    assert not gates_of(plan)["point-of-no-return"].two_people
    assert steps_of(plan, "database_prepare")[0].lines == ()
    assert ids_of(plan) == ["a1/remove", "a1/initialize", "a1/agree"]
    built = database_plan(fleet, database_facts(fleet, outside=["a1"]), "build")
    assert ids_of(built) == ["a1/initialize", "a1/agree"]


@pytest.mark.parametrize("node", ["a3", "b1"])
@pytest.mark.parametrize("how", ["absent", "silent", "stale"])
def test_a_node_that_did_not_answer_makes_no_plan(node: str, how: str) -> None:
    """Joined and connected nodes alike: what a silent one holds is not known, and it could come back later."""
    facts = database_facts(FLEET)
    silent = frozenset({node} if how == "silent" else ())
    if how == "absent":
        facts = without(facts, node)
    if how == "stale":
        facts[node] = replace(facts[node], at=(NOW - timedelta(hours=2)).isoformat())
    role = "joined" if node == "a3" else "connected"
    expected = f"{node}: is {role} and did not answer the last survey: what its database holds is not known"
    assert [expected] == findings_of(facts, silent=silent)
    assert [expected] == findings_of(facts, silent=silent, primary="a1")


def test_a_node_that_could_not_be_read_says_why() -> None:
    """A refused password is no reason to give a node up: the finding tells the reason and its own remedy."""
    error = {"code": "LoginRefused", "text": "the server refused user 'admin'", "remedy": "Correct it."}
    with pytest.raises(PlanError) as refused:
        database_plan(FLEET, database_facts(FLEET), silent={"a3": error})
    (finding,) = refused.value.findings
    assert finding.what.startswith(
        "is joined and could not be read by the last survey: the server refused user 'admin'"
    )
    assert finding.remedy == "Correct it. Then survey again."
    away = {"code": "Unreachable", "text": "no route to host", "remedy": ""}
    (told,) = findings_of(silent={"a3": away})
    assert told.endswith("what its database holds is not known (no route to host)")


def test_a_quarrel_is_told_beside_a_node_that_did_not_answer() -> None:
    """Who names whom and who is missing come at once."""
    facts = changed(database_facts(FLEET), "a2", members=rows("replica", "primary", "replica", me=2))
    silent, quarrel = findings_of(facts, silent=frozenset({"a3"}))
    assert silent.startswith("a3: is joined and did not answer")
    assert quarrel == "seoul: its nodes do not agree on one primary: a1, b1 name a1; a2 names a2"


def test_no_facts_at_all_name_every_node() -> None:
    """All findings come at once."""
    assert [text.partition(":")[0] for text in findings_of({})] == list(GONE)


def test_a_node_without_a_readable_status_makes_no_plan() -> None:
    """It answered, but not to `database cluster status`."""
    facts = database_facts(FLEET)
    facts["a2"] = replace(facts["a2"], database_cluster=None)
    assert findings_of(facts) == ["a2: did not tell the status of its database cluster"]


def test_a_command_under_way_makes_no_plan() -> None:
    """Nothing is planned from a moment in between."""
    command = "database cluster join 10.97.0.1"
    facts = changed(database_facts(FLEET), "a3", progress="in progress", last_command=command)
    assert findings_of(facts) == [f"a3: `{command}` is still under way"]


def test_roles_that_differ_from_the_inventory_make_no_plan() -> None:
    """A joined node that only connects, and a connected one that has joined."""
    facts = changed(database_facts(FLEET), "a3", members=rows("primary", "replica", "replica", me=0))
    assert findings_of(facts) == ["a3: connects only by its own status, but the inventory says `database: joined`"]
    joined = (
        *rows("primary", "replica", "replica", me=0),
        DatabaseMember(address="10.98.0.1", role="replica", me=True),
    )
    facts = changed(database_facts(FLEET), "b1", members=joined)
    assert findings_of(facts) == ["b1: has joined by its own status, but the inventory says `database: connected`"]


def test_a_member_that_the_inventory_does_not_know_makes_no_plan() -> None:
    """It would be left in a cluster that is taken apart."""
    stranger = DatabaseMember(address="10.9.9.9", role="replica")
    facts = changed(database_facts(FLEET), "a2", members=(*rows("primary", "replica", "replica", me=2), stranger))
    expected = "a2: names a member 10.9.9.9 that is no node of this cluster in the inventory"
    assert [expected] == findings_of(facts)


@pytest.mark.parametrize("role", [DatabaseRole.NONE, DatabaseRole.STANDALONE])
def test_a_node_in_a_cluster_that_should_have_none_makes_no_plan(role: DatabaseRole) -> None:
    """The inventory says that its database is its own affair; its status says otherwise."""
    fleet = a_database_fleet(others=[a_node("c1", address="10.99.0.1", database=role)])
    facts = database_facts(fleet)
    assert database_plan(fleet, facts).lanes
    facts = changed(facts, "c1", state="Enabled", members=rows("primary", "replica", "replica", me=0))
    expected = f"c1: is in a database cluster, but the inventory says `database: {role.value}`"
    assert [expected] == findings_of(facts, fleet=fleet)


def test_more_than_five_joined_nodes_make_no_plan() -> None:
    """mmp-reference 3.2."""
    fleet = a_database_fleet(6, 0)
    assert findings_of(fleet=fleet) == ["seoul: 6 nodes are `database: joined`; a cluster takes 5"]


def test_the_primary_that_a_person_names_must_be_joined() -> None:
    """A connected node, and one of nowhere, are refused."""
    assert findings_of(primary="b1") == ["b1: cannot be the primary: it is not `database: joined`"]
    assert findings_of(primary="z9") == ["z9: is in no database cluster of the selection"]


def test_another_interface_than_the_inventory_says_makes_no_plan() -> None:
    """`localnode` would move the address which all others join, and nobody would reach the primary."""
    facts = changed(database_facts(FLEET), "a1", interface="b")
    assert findings_of(facts) == ["a1: its database is on interface b, but the inventory says a"]


def test_what_is_to_be_built_must_not_stand_and_what_is_renewed_must() -> None:
    """Each purpose fits one state of the nodes."""
    assert findings_of(None, "build", primary="a1") == ["seoul: a1, a2, a3, b1 are in a database cluster already"]
    gone = database_facts(FLEET, outside=GONE)
    for purpose in ("renew", "dissolve"):
        assert findings_of(gone, purpose) == ["seoul: no node is in a database cluster"]


def test_building_needs_a_person_who_says_whose_data_is_kept() -> None:
    """Nothing else tells, and nobody contradicts: one person is enough, and the gate shows whose data it is."""
    gone = database_facts(FLEET, outside=GONE)
    assert findings_of(gone, "build") == ["seoul: nothing tells which node holds the data to keep"]
    gate = gates_of(database_plan(FLEET, gone, "build", primary="a2"))["point-of-no-return"]
    assert not gate.two_people
    assert "a2" in gate.needs


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"address": "cms1.example.com"}, True),
        ({"database_interface": "b"}, True),
        ({"address": "cms1.example.com", "database_address": "10.97.0.1"}, False),
        ({"database_interface": "b", "database_address": "10.1.0.1"}, False),
    ],
)
def test_building_needs_the_address_that_the_others_are_to_join(changes: dict[str, str], *, refused: bool) -> None:
    """No status shows it yet, and `initialize` would wait for ever for another one than it was promised."""
    nodes = tuple(replace(node, **changes) if node.name == "a1" else node for node in FLEET.clusters[0].nodes)
    fleet = a_fleet(replace(FLEET.clusters[0], nodes=nodes))
    gone = database_facts(fleet, outside=GONE)
    if refused:
        interface = changes.get("database_interface", "a")
        expected = [f"a1: the IP address of its database on interface {interface} is not known"]
        assert expected == findings_of(gone, "build", fleet=fleet, primary="a1")
    else:
        joins = steps_of(database_plan(fleet, gone, "build", primary="a1"), "database_join")
        assert {step.lines[-1].text for step in joins} == {f"database cluster join {changes['database_address']}"}


def test_no_database_in_the_selection_is_said() -> None:
    """A fleet without one, or a selection without one."""
    bare = a_fleet(Cluster(name="seoul", nodes=(a_node("a1"),), certificates=()))
    assert findings_of({}, fleet=bare) == ["demo: no cluster in the selection has a database cluster"]


def test_a_cluster_without_joined_nodes_has_no_places() -> None:
    """Asked directly: plans leave such a cluster out."""
    with pytest.raises(PlanError, match="has no database cluster in the inventory"):
        places(a_database_cluster(0, 1), {})


def test_a_primary_that_is_gone_for_good_is_given_up_by_the_inventory() -> None:
    """`database: none` for it, as the finding says, and `--primary` for whose data lives on."""
    facts = without(database_facts(FLEET, primary="a1"), "a1")
    nodes = tuple(
        replace(node, database=DatabaseRole.NONE) if node.name == "a1" else node for node in FLEET.clusters[0].nodes
    )
    fleet = a_fleet(replace(FLEET.clusters[0], nodes=nodes))
    expected = "seoul: a2, a3, b1 name 10.97.0.1 as the primary, which is no joined node of the inventory"
    assert findings_of(facts, fleet=fleet) == [expected]
    plan = database_plan(fleet, facts, primary="a3")
    assert ids_of(plan)[:4] == ["b1/remove", "a2/remove", "a3/remove", "a3/initialize"]
    assert "a1" not in plan.nodes()


def test_findings_of_all_clusters_come_at_once() -> None:
    """Two clusters, each with its own."""
    fleet = a_fleet(FLEET.clusters[0], a_database_cluster(1, 1, name="busan", letters="cd"))
    facts = without({**database_facts(FLEET), **database_facts(a_fleet(fleet.clusters[1]), primary="c1")}, "a2", "d1")
    assert [text.partition(":")[0] for text in findings_of(facts, fleet=fleet)] == ["a2", "d1"]


def test_a_selection_of_nodes_still_rebuilds_the_whole_cluster() -> None:
    """A part of a cluster cannot be rebuilt."""
    part = replace(FLEET.clusters[0], nodes=FLEET.clusters[0].nodes[2:3])
    assert ids_of(database_plan(FLEET, wanted=a_fleet(part))) == ids_of(database_plan(FLEET))


def test_nodes_are_addressed_as_the_cluster_knows_them() -> None:
    """Its own status counts more than the address of the inventory, which may be another interface."""
    facts = database_facts(FLEET, addresses={"a1": "172.16.0.1", "a2": "172.16.0.2"})
    plan = database_plan(FLEET, facts)
    joins = steps_of(plan, "database_join") + steps_of(plan, "database_connect")
    assert {step.lines[-1].text.rpartition(" ")[2] for step in joins} == {"172.16.0.1"}
    assert steps_of(plan, "database_agree")[0].params["primary"] == "172.16.0.1"


# ── which files ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_order_is_that_of_the_design() -> None:
    """Connected, replicas, primary last; then the primary, the replicas, the connected; then all must agree."""
    assert ids_of(database_plan(a_database_fleet(3, 2))) == [
        *("b1/remove", "b2/remove", "a2/remove", "a3/remove", "a1/remove"),
        *("a1/initialize", "a2/join", "a3/join", "b1/connect", "b2/connect", "a1/agree"),
    ]


def test_names_are_fresh_on_every_node() -> None:
    """One file anywhere in the cluster is enough to take the next number, on all nodes."""
    facts = with_files(database_facts(FLEET), "b1", file_of("dbserver-4.crt"), FileFact(name="DBCLIENT-7.key", size=1))
    plan = database_plan(FLEET, facts)
    expected = "database cluster certs dbserver-5.key dbserver-5.crt dbclient-8.key dbclient-8.crt dbca.crt"
    assert steps_of(plan, "database_initialize")[0].lines[0].text == expected
    absent = [{one.subject for one in step.expects} for step in steps_of(plan, "database_prepare")]
    fresh = {f"{stem}.{end}" for stem in ("dbserver-5", "dbclient-8") for end in ("key", "csr", "crt")}
    assert [fresh] * 4 == absent


def test_a_good_built_in_ca_is_kept() -> None:
    """It signs again, the primary hands it to nobody who has it, and a notice says so."""
    plan = database_plan(FLEET)
    assert steps_of(plan, "database_ca") == []
    assert [texts(step.lines) for step in steps_of(plan, "database_sign")] == [
        ["pki sign dbserver-1 dbca", "fetch dbserver-1.crt"],
        ["pki sign dbclient-1 dbca", "fetch dbclient-1.crt"],
    ]
    assert not any("dbca" in line.text for step in steps_of(plan, "database_deliver") for line in step.lines)
    assert "seoul: the database CA dbca.crt is good for long, so it is kept" in plan.notices
    assert steps_of(plan, "database_prepare")[0].params["ca"] == "dbca.crt"


def new_ca(facts: Mapping[str, NodeFacts], **wish: Any) -> bool:
    """Return whether the plan makes a new CA, and hands it out to all but the primary."""
    plan = database_plan(a_database_fleet(**wish), facts)
    made = steps_of(plan, "database_ca")
    handed = [step.node for step in steps_of(plan, "database_deliver") if "upload dbca-1.crt" in texts(step.lines)]
    assert handed == (["a2", "a3", "b1"] if made else [])
    return bool(made)


def test_a_ca_is_not_kept_when_it_cannot_serve() -> None:
    """It ends soon, lacks its key, is another elsewhere, is several, is a pair in use; or it is not wished."""
    good = database_facts(FLEET)
    stored = good["a1"].file("dbca.crt")
    assert stored is not None
    keyless = tuple(file for file in good["a1"].files if file.name != "dbca.key")
    several = replace(stored, certificates=(*stored.certificates, *stored.certificates))
    its_own = with_files(good, "a1", FileFact(name="dbserver.key", size=1), file_of("dbserver.crt", *_good_for(900)))
    cases = {
        "good": (good, {}),
        "soon": (database_facts(FLEET, ca_days=364), {}),
        "no key": ({**good, "a1": replace(good["a1"], files=keyless)}, {}),
        "other content": (with_files(good, "b1", replace(stored, sha256="other")), {}),
        "several": (with_files(good, "a1", several), {}),
        "its own": (_all_use_as_ca(its_own, "dbserver.crt"), {}),
        "unwished": (good, {"keep_ca": False}),
        "another ending": (
            _all_use_as_ca(with_files(good, "a1", file_of("dbca.cer", *_good_for(900))), "dbca.cer"),
            {},
        ),
    }
    assert {name: name != "good" for name in cases} == {
        name: new_ca(facts, **wish) for name, (facts, wish) in cases.items()
    }


def _good_for(days: float) -> tuple[CertificateFact, ...]:
    stored = database_facts(FLEET, days=days)["a1"].file("dbserver.crt")
    assert stored is not None
    return stored.certificates


def _all_use_as_ca(facts: dict[str, NodeFacts], name: str) -> dict[str, NodeFacts]:
    for node in GONE:
        facts = changed(facts, node, ca_certificate=name)
    return facts


def test_a_ca_that_is_missing_elsewhere_is_kept_and_handed_out() -> None:
    """Only other content forbids it."""
    facts = database_facts(FLEET)
    facts["b1"] = replace(facts["b1"], files=tuple(file for file in facts["b1"].files if file.name != "dbca.crt"))
    plan = database_plan(FLEET, facts)
    handed = [step.node for step in steps_of(plan, "database_deliver") if "upload dbca.crt" in texts(step.lines)]
    assert handed == ["b1"]


def test_keys_made_on_the_primary_are_handed_out_from_there() -> None:
    """A scratch key proves first that keys can be read; joined nodes get both pairs, connected ones the client's."""
    plan = database_plan(FLEET, database_facts(FLEET, ca_days=20))
    scratch = "certbridge-scratch-1.key"
    prepared = {step.node: texts(step.lines) for step in steps_of(plan, "database_prepare")}
    assert prepared == {
        "a1": [f"upload {scratch}", f"fetch {scratch}", f"delete {scratch}"],
        "a2": [],
        "a3": [],
        "b1": [],
    }
    delivered = {step.node: (step.source, texts(step.lines)) for step in steps_of(plan, "database_deliver")}
    client = ["fetch dbclient-1.key", "upload dbclient-1.key", "upload dbclient-1.crt", "upload dbca-1.crt"]
    assert delivered["a1"] == ("", [])
    assert delivered["b1"] == ("a1", client)
    assert delivered["a2"][1] == ["fetch dbserver-1.key", "upload dbserver-1.key", "upload dbserver-1.crt", *client]


def test_keys_of_the_engine_are_read_from_no_server() -> None:
    """Made off the servers, the CSR goes to the primary for its CA to sign, and the keys to all."""
    plan = database_plan(a_database_fleet(key=KeyOrigin.ENGINE))
    assert all(step.lines == () for step in steps_of(plan, "database_prepare"))
    assert [(step.id, step.node, step.lines) for step in steps_of(plan, "request")] == [
        ("seoul/dbserver/request", "", ()),
        ("seoul/dbclient/request", "", ()),
    ]
    assert texts(steps_of(plan, "database_sign")[0].lines)[0] == "upload dbserver-1.csr"
    lines = [line for step in steps_of(plan, "database_deliver") for line in step.lines]
    assert [line.text for line in lines if line.kind is LineKind.FETCH] == []
    assert [line.text for line in lines if line.text == "dbclient-1.key"] == ["dbclient-1.key"] * 4


def test_an_outside_ca_signs_through_the_gate() -> None:
    """Gate sign in place of the built-in CA's steps; certificate and CA go to every node, the primary too."""
    plan = database_plan(a_database_fleet(issuer="manual"))
    assert (steps_of(plan, "database_ca"), steps_of(plan, "database_sign")) == ([], [])
    assert list(gates_of(plan)) == ["sign", "point-of-no-return"]
    assert texts(steps_of(plan, "database_deliver")[0].lines) == [
        "upload dbserver-1.crt",
        "upload dbclient-1.crt",
        "upload dbca-1.crt",
    ]
    assert not any("pki sign" in line.text for step in plan.lanes[0].steps() for line in step.lines)
    wish = plan.wishes["seoul/dbclient"]
    assert (wish["issuer"], wish["usages"], wish["subject"]) == ("manual", ["client"], [["CN", "postgres"]])


def test_the_port_is_proved_where_it_was_seen_before() -> None:
    """`agree` looks at the database ports that answered the survey, and only at joined nodes."""
    facts = database_facts(FLEET)
    leaf = _good_for(12)[0]
    port = PortFact(service="database", address="10.97.0.2", port=5432, state=PortState.SERVED, chain=(leaf,))
    facts["a2"] = replace(facts["a2"], ports=(port,))
    facts["a3"] = replace(facts["a3"], ports=(replace(port, state=PortState.UNREACHABLE, chain=()),))
    facts["b1"] = replace(facts["b1"], ports=(port,))
    nodes = steps_of(database_plan(FLEET, facts), "database_agree")[0].params["nodes"]
    seen = {"address": "10.97.0.2", "port": 5432, "before": leaf.fingerprint}
    assert {one["node"]: one["port"] for one in nodes} == {"a1": None, "a2": seen, "a3": None, "b1": None}


# ── why, and when nothing ────────────────────────────────────────────────────────────────────────────────────────────
def why_of(facts: Mapping[str, NodeFacts], **asked: Any) -> list[str]:
    """Return why the cluster is renewed; [] when it is not."""
    plan = database_plan(FLEET, facts, **asked)
    return list(plan.wishes["seoul/dbserver"]["why"]) if plan.lanes else []


def test_nothing_is_due_when_all_is_good_for_long() -> None:
    """No lane, no wish, no notice."""
    plan = database_plan(FLEET, database_facts(FLEET, days=400))
    assert (plan.empty, plan.lanes, plan.wishes, plan.notices) == (True, (), {}, ())


def test_reasons_name_node_file_and_date() -> None:
    """Once each."""
    assert why_of(database_facts(FLEET))[:2] == ["a1: dbserver.crt ends 2026-11-13", "a1: dbclient.crt ends 2026-11-13"]
    assert why_of(database_facts(FLEET))[-1] == "b1: dbclient.crt ends 2026-11-13"
    assert why_of(database_facts(FLEET, days=400, ca_days=9)) == [f"{one}: dbca.crt ends 2026-11-10" for one in GONE]


def test_each_reason_is_found() -> None:
    """What one node lacks renews the cluster."""
    good = database_facts(FLEET, days=400)
    gone = replace(good["a2"], files=tuple(file for file in good["a2"].files if file.name != "dbclient.crt"))
    other = replace(_good_for(400)[0], subject="another")
    cases = {
        "a3: is in no database cluster": database_facts(FLEET, days=400, outside=["a3"]),
        "a2: its database is set to no certificates": changed(good, "a2", client_key=""),
        "a3: its database is set to no certificates": changed(good, "a3", server_key="", server_certificate=""),
        "b1: dbclient.crt is expired, says the server": changed(good, "b1", expired=("dbclient.crt",)),
        "a2: dbclient.crt is in use, but holds no certificate": {**good, "a2": gone},
        f"a1: dbserver.crt lacks CN {SERVER_CN}": with_files(good, "a1", file_of("dbserver.crt", other)),
    }
    assert [[reason] for reason in cases] == [why_of(facts) for facts in cases.values()]


def test_names_that_are_wished_and_missing_are_a_reason() -> None:
    """Whatever the case of their letters."""
    wish = FLEET.clusters[0].database
    fleet = a_database_fleet(server=replace(wish.server, dns=("DB.example.com", "a.example.com"), ip=("10.0.0.1",)))
    facts = database_facts(fleet, days=400)
    for node in ("a1", "a2", "a3"):
        held = replace(_good_for(400)[0], names=("db.EXAMPLE.com",))
        facts = with_files(facts, node, file_of("dbserver.crt", held))
    why = database_plan(fleet, facts).wishes["seoul/dbclient"]["why"]
    assert why == [f"{node}: dbserver.crt lacks a.example.com, 10.0.0.1" for node in ("a1", "a2", "a3")]


def test_a_server_that_tells_half_a_pair_is_no_way_back_but_no_fault() -> None:
    """A line with an empty word cannot be typed, so nothing is made of it."""
    facts = changed(database_facts(FLEET), "a2", server_certificate="")
    fact = facts["a2"].database_cluster
    assert fact is not None
    assert FileSet.of(fact) is None
    remove = next(step for step in steps_of(database_plan(FLEET, facts), "database_remove") if step.node == "a2")
    assert (remove.undo, remove.params["old"], remove.params["way_back"]) == ((), [], "none but forward, or the backup")


def test_a_connected_node_may_name_a_server_pair_too() -> None:
    """It joined once; only its client pair counts, and the way back names what it named."""
    names = {"server_key": "dbserver.key", "server_certificate": "dbserver.crt"}
    stored = file_of("dbserver.crt", *_good_for(-5))
    facts = with_files(changed(database_facts(FLEET, days=400), "b1", **names), "b1", stored)
    assert why_of(facts) == []
    plan = database_plan(FLEET, facts, within=timedelta(days=500))
    remove = steps_of(plan, "database_remove")[0]
    assert (remove.node, remove.undo[0].text) == ("b1", f"database cluster certs {' '.join(FIVE)}")


@pytest.mark.parametrize("issuer", ["built-in", "manual"])
@pytest.mark.parametrize("key", [KeyOrigin.NODE, KeyOrigin.ENGINE])
@pytest.mark.parametrize("purpose", ["renew", "build"])
def test_a_finished_run_leaves_nothing_to_do(issuer: str, key: KeyOrigin, purpose: str) -> None:
    """Every line of the plan holds on the model, and the next plan is empty."""
    fleet = a_database_fleet(3, 2, issuer=issuer, key=key, keep_ca=False)
    facts = database_facts(fleet, days=-3, outside=(*GONE, "b2") if purpose == "build" else ())
    asked = {"primary": "a2"} if purpose == "build" else {}
    after = facts_after(database_plan(fleet, facts, purpose, **asked), fleet, facts)
    assert database_plan(fleet, after).empty


def test_the_same_facts_give_the_same_bytes_and_the_plan_comes_back_from_json() -> None:
    """Whatever the order in which nodes were surveyed."""
    fleet = a_database_fleet(5, 3)
    facts = database_facts(fleet, days=-3)
    plan, again = database_plan(fleet, facts), database_plan(fleet, dict(reversed(facts.items())))
    assert canonical(plan.to_json()) == canonical(again.to_json())
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert (back, back.digest()) == (plan, again.digest())
    assert (plan.kind, plan.purpose, sorted(plan.facts)) == ("database", "renew", sorted(facts))


# ── other purposes ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_building_removes_nobody() -> None:
    """A first building has no way back but the backups, and the gate says what is overwritten."""
    plan = database_plan(FLEET, database_facts(FLEET, outside=GONE), "build", primary="a2")
    assert ids_of(plan) == ["a2/initialize", "a1/join", "a3/join", "b1/connect", "a2/agree"]
    assert [step.node for step in steps_of(plan, "database_backup")] == ["a1", "a2", "a3"]
    needs = gates_of(plan)["point-of-no-return"].needs
    assert "the data of every other joined node is overwritten; only the backups have it then" in needs
    assert "seoul: each of initialize, join and connect restarts the local Call Bridge" in plan.notices
    assert "a1 is in no cluster now; it joins, and its own data is overwritten by that of a2" in plan.notices


def test_dissolving_makes_no_files_and_overwrites_nothing() -> None:
    """Removals alone, and no word of data that is copied or of a rebuild."""
    plan = database_plan(FLEET, database_facts(FLEET, days=400, outside=["a3"]), "dissolve", upgrade_schema=True)
    assert ids_of(plan) == ["b1/remove", "a2/remove", "a1/remove", "a1/dissolved"]
    assert (plan.wishes, steps_of(plan, "request"), steps_of(plan, "database_deliver")) == ({}, [], [])
    apart = "what is written to one node from then on does not reach the others"
    assert plan.notices == (
        "seoul: every joined node keeps the data it has",
        f"seoul: each remove restarts the local Call Bridge; {apart}",
    )
    assert gates_of(plan)["point-of-no-return"].needs.startswith("approval that seoul is dissolved; ")


def test_the_schema_is_upgraded_on_the_primary_last() -> None:
    """Behind the last way in, before all must agree."""
    facts = database_facts(FLEET, outside=GONE)
    plan = database_plan(FLEET, facts, "build", primary="a1", upgrade_schema=True)
    assert ids_of(plan)[-3:] == ["b1/connect", "a1/upgrade_schema", "a1/agree"]


def test_a_node_that_fell_out_of_the_cluster_is_not_removed_but_comes_in() -> None:
    """Its own data is overwritten, which a notice says."""
    plan = database_plan(FLEET, database_facts(FLEET, days=400, outside=["a3", "b1"]))
    assert ids_of(plan) == ["a2/remove", "a1/remove", "a1/initialize", "a2/join", "a3/join", "b1/connect", "a1/agree"]
    assert "a3 is in no cluster now; it joins, and its own data is overwritten by that of a1" in plan.notices


# ── what people are told ─────────────────────────────────────────────────────────────────────────────────────────────
FORWARD = "none but forward, or the backup"
OWN = "its own lines back, while the primary is in the cluster"
WHOLE = "`certbridge runs rollback`: the whole cluster with the old files"


@pytest.mark.parametrize(
    ("expired", "expected"),
    [
        ((), {"b1": OWN, "a2": OWN, "a3": OWN, "a1": WHOLE}),
        (("a2",), {"b1": OWN, "a2": FORWARD, "a3": OWN, "a1": FORWARD}),
        (("b1",), {"b1": FORWARD, "a2": OWN, "a3": OWN, "a1": FORWARD}),
        (("a1",), {"b1": FORWARD, "a2": FORWARD, "a3": FORWARD, "a1": FORWARD}),
    ],
)
def test_the_way_back_holds_only_where_all_that_it_needs_is_good(expired: tuple[str, ...], expected: object) -> None:
    """By itself a node needs its own files and the primary's; the whole cluster needs everybody's."""
    plan = database_plan(FLEET, database_facts(FLEET, expired=expired))
    assert expected == {step.node: step.params["way_back"] for step in steps_of(plan, "database_remove")}
    needs = gates_of(plan)["point-of-no-return"].needs
    assert ("there is no way back except the backups" in needs) is bool(expired)
    assert ("the old files are a way back" in needs) is not bool(expired)


def test_a_node_does_not_come_back_by_itself_to_a_primary_that_is_none_yet() -> None:
    """Where a person named another primary, the cluster that stood is gone with the one that was it."""
    plan = database_plan(FLEET, primary="a2")
    assert {WHOLE} == {step.params["way_back"] for step in steps_of(plan, "database_remove")}


def test_no_way_back_is_told_with_every_reason() -> None:
    """Expired, not there, never named."""
    facts = database_facts(FLEET, expired=["a1"])
    kept = tuple(file for file in facts["a2"].files if file.name != "dbclient.crt")
    facts["a2"] = replace(facts["a2"], files=kept)
    facts = changed(facts, "b1", client_key="")
    expected = (
        "seoul: no way back except the backups, once the first node is removed: b1 names no files of its database; "
        "dbclient.crt of a2 holds no certificate; dbserver.crt of a1 ended 2026-10-31"
    )
    assert expected in database_plan(FLEET, facts).notices


def test_even_numbers_and_replicas_out_of_sync_are_told() -> None:
    """Advice, no findings."""
    fleet = a_database_fleet(4, 0)
    behind = [*rows("primary", "replica", "replica", "replica", me=3)]
    plan = database_plan(fleet, changed(database_facts(fleet), "a3", members=tuple(behind)))
    assert plan.notices[:2] == (
        "seoul: 4 nodes are joined; Cisco recommends an odd number",
        "a3 is not in sync now; what it alone holds is overwritten by the data of a1",
    )


def test_each_move_tells_which_services_it_interrupts() -> None:
    """A Call Bridge that is off is not restarted."""
    on = database_facts(FLEET, stems={"callbridge": STEMS["3.9"]["callbridge"]})
    off = database_facts(FLEET, stems={"callbridge": STEMS["3.9"]["callbridge"]}, off=["callbridge"])
    for facts, expected in ((on, ["database", "callbridge"]), (off, ["database"])):
        moves = [step for step in database_plan(FLEET, facts).lanes[0].steps() if 700 <= step.stage < 800]
        assert all([one.service for one in step.interrupts] == expected for step in moves)


def test_questions_are_answered_with_a_capital_y_only_where_one_comes() -> None:
    """mmp-reference 1.3; every other line stands without an answer."""
    plan = database_plan(FLEET, database_facts(FLEET, outside=["a3"]), upgrade_schema=True)
    lines = [line for step in plan.lanes[0].steps() for line in (*step.lines, *step.undo)]
    asked = {line.text.split()[2] for line in lines if line.question}
    assert asked == {"remove", "initialize", "join", "connect"}
    assert {(line.question, line.answer) for line in lines} == {("(Y/n)", "Y"), ("", "")}


def test_only_ways_in_of_replicas_and_connected_nodes_park() -> None:
    """What fails before or on the primary stops everything."""
    parks = [step.id.removeprefix("seoul/") for step in database_plan(FLEET).lanes[0].steps() if step.parks]
    assert parks == ["a2/join", "a3/join", "b1/connect"]


def test_every_step_behind_the_gate_has_its_barrier() -> None:
    """Each operation is followed by the barrier that says what it came to."""
    parts = [type(part).__name__ for part in walk(database_plan(FLEET).lanes[0].tree)]
    behind = parts[parts.index("Gate") + 1 :]
    assert behind == [*["Step"] * 4, "Barrier", *["Step"] * 3, "Barrier", *["Step", "Barrier"] * 8, "Step"]
