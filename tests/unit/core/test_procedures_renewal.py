"""The renewal plan: what it does on each server, in which order, and that it can be trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.core.fleets import (
    NOW,
    a_cluster,
    a_fleet,
    a_wish,
    facts_of,
    file_of,
    fingerprint_of,
    leaf_of,
    lone,
    node_facts,
    plan_of,
    root_fact,
    usual_wishes,
)
from tests.unit.core.model import box_of, carry_out, contents_of, facts_after
from workflows.canonical import canonical
from workflows.errors import PlanError
from workflows.facts import DatabaseState, FileFact, NodeFacts, ServiceFact
from workflows.inventory import FilesPolicy, KeyOrigin, Proof
from workflows.inventory.selecting import select
from workflows.mmp.commands import command_of, is_reading_line
from workflows.plan import Barrier, Gate, LineKind, Par, Plan, Step, predecessors

SAME = {"files": FilesPolicy.SAME}


def steps_of(plan: Plan, action: str = "", node: str = "") -> list[Step]:
    """Return the steps of *plan* in order."""
    return [
        step for lane in plan.lanes for step in lane.steps() if action in {"", step.action} and node in {"", step.node}
    ]


def two_nodes(release: str = "3.9", **changes: object):
    """Return a cluster of two with the usual wishes, and its facts."""
    fleet = a_fleet(a_cluster("seoul", ("a1", "a2"), usual_wishes(("a1", "a2"), release, **changes)))
    return fleet, facts_of(fleet, release)


def test_an_interruption_is_told_once() -> None:
    """Both sub-services of the Web Bridge lose the web app users; the fuller sentence alone says so."""
    (step,) = [one for one in steps_of(plan_of(*two_nodes()), "apply", "a1") if one.id.endswith("/webbridge3")]
    assert [one.what for one in step.interrupts] == [
        "web app users of this server are disconnected, and its link to the call bridges is down"
    ]


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_the_same_wish_and_facts_give_the_same_bytes(release: str) -> None:
    """A plan has no clock and no chance in it."""
    first, second = (plan_of(*two_nodes(release)) for _ in range(2))
    assert canonical(first.to_json()) == canonical(second.to_json())


@pytest.mark.parametrize("release", ["2.9", "3.9"])
@pytest.mark.parametrize("changes", [{}, SAME, {"key": KeyOrigin.ENGINE}])
def test_a_finished_run_plans_nothing(release: str, changes: dict[str, object]) -> None:
    """Every service of the release serves its new certificate afterwards, so nothing is due any more."""
    fleet, facts = two_nodes(release, **changes)
    plan = plan_of(fleet, facts)
    after = facts_after(plan, facts)
    due = {name for wish in plan.wishes.values() for name in wish["services"]}
    assert (due, plan_of(fleet, after).empty) == ({fact.service for fact in facts["a1"].services}, True)


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_the_undo_of_a_step_puts_its_process_back(release: str) -> None:
    """The lines back of each step lead from what it did to what was there before it."""
    fleet, facts = two_nodes(release)
    plan = plan_of(fleet, facts)
    boxes = {name: box_of(one) for name, one in facts.items()}
    tried = 0
    for step in steps_of(plan):
        box = boxes[step.node]
        before = box.in_use()
        contents = contents_of(plan, step, box)
        box.run(step.lines, contents)
        if step.undo:
            box.run(step.undo, contents)
            assert box.in_use() == before, step.id
            box.run([line for line in step.lines if line.kind is LineKind.COMMAND], contents)
            tried += 1
    assert tried == len([step for step in steps_of(plan) if step.action in {"trust", "apply"}])


@pytest.mark.parametrize("release", ["2.9", "3.9"])
@pytest.mark.parametrize("changes", [{}, SAME])
def test_a_node_can_be_put_back_after_stage_700(release: str, changes: dict[str, object]) -> None:
    """Renames first, then each process: the node is what it was before the first step of stage 700."""
    fleet, facts = two_nodes(release, **changes)
    plan = plan_of(fleet, facts)
    boxes = {name: box_of(one) for name, one in facts.items()}
    before = {}
    for step in steps_of(plan):
        box = boxes[step.node]
        if step.stage == 700:
            before.setdefault(step.node, box.in_use())
        if step.stage < 900:
            box.run(step.lines, contents_of(plan, step, box))
    for node, box in boxes.items():
        touched = [one for one in steps_of(plan, node=node) if one.stage == 700]
        for step in sorted(touched, key=lambda one: one.action != "swap"):
            box.run(step.undo, {})
    assert {node: box.in_use() for node, box in boxes.items()} == before


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_renames_can_be_taken_back(release: str) -> None:
    """After the lines back of a swap every file has its old name and content again."""
    fleet, facts = two_nodes(release, **SAME)
    plan = plan_of(fleet, facts)
    boxes = {name: box_of(one) for name, one in facts.items()}
    swaps = 0
    for step in steps_of(plan):
        box = boxes[step.node]
        before = dict(box.files)
        box.run(step.lines, contents_of(plan, step, box))
        if step.action == "swap":
            box.run(step.undo, {})
            assert box.files == before, step.id
            box.run(step.lines, {})
            swaps += 1
    assert swaps == len(plan.wishes)


@pytest.mark.parametrize("release", ["2.9", "3.9"])
@pytest.mark.parametrize("changes", [{}, SAME])
def test_every_changing_line_is_known_and_none_is_a_reading_line(release: str, changes: dict[str, object]) -> None:
    """The session sends only lines that the driver knows; a reading line in a plan would hide a change."""
    plan = plan_of(*two_nodes(release, **changes))
    lines = [line for step in steps_of(plan) for line in (*step.lines, *step.undo) if line.kind is LineKind.COMMAND]
    assert [line.text for line in lines if is_reading_line(line.text)] == []
    assert {command_of(line.text).line() for line in lines} == {line.text for line in lines}


def test_names_are_the_next_free_number_of_the_wish() -> None:
    """A file of any kind with a number takes that number; the pair of one wish has one number on all its nodes."""
    shared = a_wish("web", ("webbridge3.https",), ("a1", "a2"))
    fleet = a_fleet(a_cluster("seoul", ("a1", "a2"), (shared,)))
    facts = facts_of(fleet)
    facts["a2"] = replace(facts["a2"], files=(*facts["a2"].files, FileFact(name="WEB-7-old.crt", size=1)))
    plan = plan_of(fleet, facts)
    assert [wish["basename"] for wish in plan.wishes.values()] == ["web-8"]


def test_nothing_is_due_long_before_the_end() -> None:
    """A certificate that ends after the wanted span is left alone."""
    fleet = lone()
    assert plan_of(fleet, facts_of(fleet, days=31)).empty


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dns": ("a1.example.com", "join.example.com")}, "lacks join.example.com"),
        ({"subject": (("CN", "other.example.com"),)}, "lacks CN other.example.com"),
        ({"dns": ("A1.EXAMPLE.COM",)}, ""),
    ],
)
def test_a_missing_name_makes_a_certificate_due(change: dict[str, object], why: str) -> None:
    """Names are compared as DNS does, whatever their case."""
    fleet = lone(a_wish("turn", ("turn",), **change))
    plan = plan_of(fleet, facts_of(fleet, days=300))
    reasons = [text for wish in plan.wishes.values() for text in wish["why"]]
    assert (bool(reasons), all(why in text for text in reasons)) == (bool(why), True)


def test_a_service_without_certificate_is_due() -> None:
    """A wish for a service that was never set up is carried out, and the plan says that nothing can be put back."""
    fleet = lone(a_wish("turn", ("turn",)))
    facts = facts_of(fleet, stems={})
    facts["a1"] = replace(facts["a1"], services=(ServiceFact(service="turn", enabled=False),))
    plan = plan_of(fleet, facts)
    (apply,) = steps_of(plan, "apply")
    assert [line.text for line in apply.lines] == ["turn certs turn-1.key turn-1-fullchain.crt"]
    assert (apply.undo, plan.notices) == (
        (),
        ("a1: turn has no certificate yet: there is nothing to put back",),
    )


def test_a_port_that_serves_something_else_makes_its_certificate_due() -> None:
    """A service that was never restarted serves the old certificate, so the work is not done."""
    fleet = lone(a_wish("turn", ("turn",)))
    facts = facts_of(fleet, days=300)
    ports = tuple(
        replace(port, chain=(leaf_of("a1", "elsewhere"),)) if port.service == "turn" else port
        for port in facts["a1"].ports
    )
    facts["a1"] = replace(facts["a1"], ports=ports)
    (wish,) = plan_of(fleet, facts).wishes.values()
    assert wish["why"] == ["a1: turn serves another certificate than turn-fullchain.crt"]


def test_the_database_primary_is_applied_last() -> None:
    """Inventory order but for the primary, which closes the row (stage 700)."""
    nodes = ("a1", "a2", "a3")
    fleet = a_fleet(a_cluster("seoul", nodes, usual_wishes(nodes)))
    facts = facts_of(fleet)
    facts["a1"] = replace(facts["a1"], database=DatabaseState.PRIMARY)
    order = dict.fromkeys(step.node for step in steps_of(plan_of(fleet, facts), "apply"))
    assert list(order) == ["a2", "a3", "a1"]


def test_a_node_is_proved_before_the_next_is_touched() -> None:
    """Between two nodes of stage 700 stands the barrier of the first."""
    fleet, facts = two_nodes()
    (lane,) = plan_of(fleet, facts).lanes
    second = next(step for step in lane.steps() if step.action == "apply" and step.node == "a2")
    assert {"seoul/a1/prove", "seoul/a1/proved"} <= predecessors(lane, second.id)


def test_stores_hold_old_and_new_before_anything_is_applied() -> None:
    """Stage 600 comes before stage 700 on every node, and adds every leaf of the cluster that will change."""
    fleet, facts = two_nodes()
    plan = plan_of(fleet, facts)
    actions = [step.action for step in steps_of(plan)]
    assert max(i for i, one in enumerate(actions) if one == "trust") < actions.index("apply")
    (step,) = [one for one in steps_of(plan, "trust", "a1") if one.params["process"] == "webbridge3"]
    (store,) = step.params["stores"]
    assert (store["adds"], store["removes"]) == (["seoul/a1/callbridge", "seoul/a2/callbridge"], {})


def test_at_the_end_stores_hold_the_new_leaves_only() -> None:
    """Stage 900 takes the old ones out, by fingerprint, and keeps what is none of its business."""
    fleet, facts = two_nodes()
    stranger = leaf_of("elsewhere", "recorder")
    held = facts["a1"].file("callbridge-c2w.crt")
    assert held is not None
    files = tuple(
        replace(one, certificates=(*one.certificates, stranger)) if one is held else one for one in facts["a1"].files
    )
    facts["a1"] = replace(facts["a1"], files=files)
    box = carry_out(plan_of(fleet, facts), facts)["a1"]
    assert [one.fingerprint for one in box.files[box.stores["callbridge.c2w"]]] == [
        stranger.fingerprint,
        "new seoul/a1/webbridge webbridge-1",
        "new seoul/a2/webbridge webbridge-1",
    ]


def test_no_link_between_two_services_is_ever_refused() -> None:
    """Whoever pins a leaf trusts what its owner serves, after every single step of the run."""
    fleet, facts = two_nodes()
    plan = plan_of(fleet, facts)
    boxes = {name: box_of(one) for name, one in facts.items()}
    pinned = {"callbridge.c2w": "webbridge3.c2w", "callbridge.cluster": "callbridge", "webbridge3.c2w": "callbridge"}
    for step in steps_of(plan):
        box = boxes[step.node]
        box.run(step.lines, contents_of(plan, step, box))
        for name, one in boxes.items():
            for store, owner in pinned.items():
                trusting = one.running["callbridge" if store.startswith("callbridge") else "webbridge3.c2w"]
                served = [(peer, other.running[owner]) for peer, other in boxes.items() if other.running[owner]]
                for peer, running in served:
                    leaf = running[0][0]
                    assert any(leaf in held for held in trusting or ()), f"{step.id}: {name} refuses {owner} of {peer}"


def test_stores_that_hold_the_ca_are_left_alone() -> None:
    """The issuing CA's certificate vouches for the new leaves too."""
    fleet = a_fleet(a_cluster("seoul", ("a1", "a2"), usual_wishes(("a1", "a2"))))
    plan = plan_of(fleet, facts_of(fleet, pin_leaves=False))
    assert [step.id for step in steps_of(plan) if step.action in {"trust", "close"}] == []
    told = [notice for notice in plan.notices if "as long as the same CA signs" in notice]
    assert {notice.partition(":")[0] for notice in told} == {"a1", "a2"}


def test_a_restart_for_trust_is_counted_and_closing_costs_none() -> None:
    """A store of a running process takes a restart, which the plan says; the last change waits for the next one."""
    fleet, facts = two_nodes()
    plan = plan_of(fleet, facts)
    trust, close = (
        next(step for step in steps_of(plan, action, "a1") if step.params["process"] == "callbridge")
        for action in ("trust", "close")
    )
    assert [line.text for line in trust.lines if line.kind is LineKind.COMMAND][-1] == "callbridge restart"
    assert [one.what for one in trust.interrupts] == ["all calls on this server drop"]
    assert ([line.text for line in close.lines if "restart" in line.text], close.interrupts) == ([], ())


def test_one_restart_of_two_sub_services_counts_once() -> None:
    """`webbridge3` carries https and c2w; both are down together, not one after the other."""
    fleet = lone(a_wish("webbridge", ("webbridge3.https", "webbridge3.c2w")))
    (apply,) = steps_of(plan_of(fleet), "apply")
    (one,) = apply.interrupts
    assert (one.service, one.from_s, one.to_s) == ("webbridge3", 5, 30)


def test_peers_outside_the_selection_learn_to_trust_but_are_not_renewed() -> None:
    """`--node a1` renews a1 alone, and a2 still gets the new leaf of a1 into its stores."""
    fleet, facts = two_nodes()
    plan = plan_of(fleet, facts, wanted=select(fleet, nodes=["a1"]))
    actions = {step.action for step in steps_of(plan, node="a2")}
    assert actions == {"prepare", "recheck", "trust", "close"}
    assert all("/a1/" in wish for wish in plan.wishes)


def test_pins_in_other_clusters_are_told() -> None:
    """A run never changes a cluster that it was not asked for; it says what people must do there."""
    fleet = a_fleet(
        a_cluster("seoul", ("a1",), usual_wishes(("a1",))),
        a_cluster("busan", ("b1",), ()),
    )
    facts = facts_of(fleet)
    facts["b1"] = node_facts("b1", peers=("a1", "b1"))
    plan = plan_of(fleet, facts)
    told = [line for line in plan.notices if line.startswith("b1: ")]
    assert len(told) == 4
    assert "trust store callbridge.c2w (callbridge-c2w.crt) pins a certificate of cluster seoul" in told[0]
    assert "b1" not in plan.nodes()


def test_a_peer_that_was_never_surveyed_is_told() -> None:
    """Whether its stores pin a leaf that will change is not known, so somebody must look."""
    fleet, facts = two_nodes()
    del facts["a2"]
    plan = plan_of(fleet, facts, wanted=select(fleet, nodes=["a1"]))
    assert [line for line in plan.notices if "never surveyed" in line] == [
        "a2 was never surveyed: whether its trust stores pin a certificate that will change is not known"
    ]


def test_who_trusts_it_elsewhere_is_told() -> None:
    """`trusted_by` names what no server of the fleet can do."""
    fleet = lone(a_wish("turn", ("turn",), trusted_by=("Expressway-E",)))
    assert plan_of(fleet).notices == ("Expressway-E must be told of the new certificate turn of a1 by hand",)


def test_same_files_are_swapped_and_restarted_under_their_old_names() -> None:
    """Row S9: the new pair takes the names of the old one, which is kept aside; no setting changes."""
    fleet = lone(a_wish("turn", ("turn",), **SAME))
    plan = plan_of(fleet)
    (swap,), (apply,) = steps_of(plan, "swap"), steps_of(plan, "apply")
    assert [line.text for line in swap.lines] == [
        "turn.key -> turn-old1.key",
        "turn-1.key -> turn.key",
        "turn-fullchain.crt -> turn-fullchain-old1.crt",
        "turn-1-fullchain.crt -> turn-fullchain.crt",
    ]
    assert [line.text for line in apply.lines] == ["turn disable", "turn enable"]
    assert "certbridge-scratch-1.crt -> certbridge-scratch-1-renamed.crt" in [
        line.text for line in steps_of(plan, "prepare")[0].lines
    ]


def test_names_set_aside_are_never_given_twice() -> None:
    """An older `-old1` stays where it is."""
    fleet = lone(a_wish("turn", ("turn",), **SAME))
    facts = facts_of(fleet)
    facts["a1"] = replace(facts["a1"], files=(*facts["a1"].files, FileFact(name="turn-old1.key", size=1)))
    (swap,) = steps_of(plan_of(fleet, facts), "swap")
    assert swap.lines[0].text == "turn.key -> turn-old2.key"


def _with_service(facts: NodeFacts, name: str, **changes: str) -> NodeFacts:
    services = tuple(replace(one, **changes) if one.service == name else one for one in facts.services)
    return replace(facts, services=services)


@pytest.mark.parametrize(
    ("wishes", "service", "changes", "what"),
    [
        (
            (a_wish("pair", ("webadmin", "callbridge"), **SAME),),
            "webadmin",
            {"key": "other.key"},
            "its services use several key files (callbridge.key, other.key)",
        ),
        (
            (a_wish("pair", ("webadmin", "callbridge"), **SAME),),
            "webadmin",
            {"bundle": "other.crt"},
            "its services use several bundle files (callbridge-bundle.crt, other.crt)",
        ),
        (
            (a_wish("pair", ("webbridge3.https", "webbridge3.c2w"), **SAME),),
            "webbridge3.c2w",
            {"certificate": "other.crt"},
            "its services use several full chain files (other.crt, webbridge-fullchain.crt)",
        ),
        ((a_wish("pair", ("turn",), **SAME),), "turn", {"certificate": ""}, "it has no full chain file"),
        (
            (a_wish("pair", ("webadmin",), **SAME),),
            "turn",
            {},
            "callbridge.key is also used by callbridge",
        ),
        (
            (a_wish("pair", ("webadmin", "callbridge"), **SAME),),
            "callbridge",
            {"bundle": "callbridge.crt"},
            "callbridge.crt is used in two places, as pair-1-bundle.crt and pair-1.crt will be",
        ),
        (
            (a_wish("one", ("recorder",), **SAME), a_wish("two", ("streamer",), **SAME)),
            "streamer",
            {"bundle": "recorder-bundle.crt"},
            "recorder-bundle.crt is also renamed for certificate 'one'",
        ),
    ],
)
def test_same_files_are_refused_where_they_cannot_work(
    wishes, service: str, changes: dict[str, str], what: str
) -> None:
    """A file with two parts to play, or of use to others, cannot change places: the plan says so beforehand."""
    fleet = lone(*wishes)
    facts = {"a1": _with_service(node_facts("a1"), service, **changes)}
    with pytest.raises(PlanError) as refused:
        plan_of(fleet, facts)
    assert any(what in one.what for one in refused.value.findings), refused.value.findings


def test_a_bundle_that_others_read_too_is_told() -> None:
    """`files: same` gives them the new CA certificates, at their next restart."""
    fleet = lone(a_wish("pair", ("webadmin", "callbridge"), **SAME))
    facts = {"a1": _with_service(node_facts("a1"), "recorder", bundle="callbridge-bundle.crt")}
    what = "a1: callbridge-bundle.crt gets the CA certificates of pair; recorder will read them at the next restart"
    assert plan_of(fleet, facts).notices == (f"{what} as well",)


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_a_service_that_is_off_gets_its_files_and_stays_off(release: str) -> None:
    """Only the `certs` lines are sent; nothing is interrupted and nothing is probed."""
    wishes = usual_wishes(("a1",), release)
    fleet = a_fleet(a_cluster("seoul", ("a1",), wishes))
    facts = facts_of(fleet, release, off=[name for wish in wishes for name in wish.services])
    plan = plan_of(fleet, facts)
    lines = [line.text for step in steps_of(plan) for line in step.lines if line.kind is LineKind.COMMAND]
    assert [text for text in lines if text.split()[1] in {"enable", "disable", "restart"}] == []
    assert [step.interrupts for step in steps_of(plan, "apply") if step.interrupts] == []
    (prove,) = steps_of(plan, "prove")
    assert {port["probe"] for port in prove.params["ports"]} == {"none"}
    box = carry_out(plan, facts)["a1"]
    assert [name for name, fact in box.services.items() if fact.enabled] == []


def test_a_shared_pair_is_made_once_and_handed_out() -> None:
    """The first node makes the key; the others fetch it from there, by a line of the plan."""
    shared = a_wish("web", ("webbridge3.https",), ("a1", "a2", "a3"))
    fleet = a_fleet(a_cluster("seoul", ("a1", "a2", "a3"), (shared,)))
    plan = plan_of(fleet)
    assert [(step.id, step.node) for step in steps_of(plan, "request")] == [("seoul/a1/request/web", "a1")]
    delivered = {step.node: (step.source, [line.content for line in step.lines]) for step in steps_of(plan, "deliver")}
    own = ["certificate:seoul/web", "fullchain:seoul/web"]
    assert delivered == {
        "a1": ("", own),
        "a2": ("a1", ["key-from:a1", "key:seoul/web", *own]),
        "a3": ("a1", ["key-from:a1", "key:seoul/web", *own]),
    }


@pytest.mark.parametrize("key", [KeyOrigin.ENGINE, KeyOrigin.FILE])
def test_keys_made_off_the_node_touch_no_server_before_delivery(key: KeyOrigin) -> None:
    """Row S2: the request step has no node and no line; the key goes up with the certificate."""
    fleet = lone(a_wish("turn", ("turn",), key=key))
    plan = plan_of(fleet)
    (request,), (deliver,) = steps_of(plan, "request"), steps_of(plan, "deliver")
    assert (request.node, request.lines, request.id) == ("", (), "seoul/a1/turn/request")
    assert [line.content for line in deliver.lines] == [
        "key:seoul/a1/turn",
        "certificate:seoul/a1/turn",
        "fullchain:seoul/a1/turn",
    ]


def test_ports_that_cannot_be_reached_are_not_probed() -> None:
    """Nobody can see them from here before or after, so status and files have to do."""
    fleet = lone(a_wish("pair", ("webadmin", "turn")))
    facts = facts_of(fleet, unseen=("webadmin",))
    (prove,) = steps_of(plan_of(fleet, facts), "prove")
    assert [(port["service"], port["probe"]) for port in prove.params["ports"]] == [
        ("webadmin", "none"),
        ("turn", "tls"),
    ]


def test_a_port_that_the_inventory_calls_unreachable_is_not_probed() -> None:
    """`proof: none` is said on purpose."""
    fleet = lone(a_wish("turn", ("turn",)))
    (cluster,) = fleet.clusters
    node = replace(cluster.nodes[0], proof=(Proof(service="turn", address="", port=0, reachable=False),))
    fleet = replace(fleet, clusters=(replace(cluster, nodes=(node,)),))
    (prove,) = steps_of(plan_of(fleet), "prove")
    assert prove.params["ports"][0]["probe"] == "none"


def test_without_a_go_gate_one_gate_is_left() -> None:
    """`go_gate: false` leaves the gate *sign*; the reading before the first change stays."""
    plan = plan_of(lone(go_gate=False))
    (lane,) = plan.lanes
    assert [gate.name for gate in lane.gates()] == ["sign"]
    assert [step.id for step in steps_of(plan, "recheck")] == ["seoul/a1/recheck"]


def test_the_shape_of_a_lane() -> None:
    """Wide work stands in a Par with its Barrier; gates and nodes come one after the other."""
    (lane,) = plan_of(lone()).lanes
    shape = [type(part) for part in lane.tree.parts[:9]]
    assert shape == [Par, Barrier, Par, Barrier, Gate, Par, Barrier, Gate, Par]


@pytest.mark.parametrize(
    ("days", "files", "words"),
    [
        (-1, None, "has expired: no way back except the backup"),
        (12, "unreadable", "cannot be read: no way back except the backup"),
        (12, "no key", "its key turn.key is not there: no way back except the backup"),
    ],
)
def test_without_a_good_old_pair_the_plan_says_so(days: float, files: str | None, words: str) -> None:
    """The gate shows that sentence, and stage 200 does not stop over a pair that is known to be no good."""
    fleet = lone(a_wish("turn", ("turn",)))
    one = node_facts("a1", days=days)
    kept = tuple(file for file in one.files if not (files == "no key" and file.name == "turn.key"))
    if files == "unreadable":
        kept = tuple(replace(file, certificates=()) if file.name == "turn-fullchain.crt" else file for file in kept)
    plan = plan_of(fleet, {"a1": replace(one, files=kept)})
    (prepare,) = steps_of(plan, "prepare")
    assert (len(plan.notices), words in plan.notices[0]) == (1, True)
    assert (prepare.params["no_way_back"], prepare.params["pairs"]) == (list(plan.notices), [])


def test_all_findings_come_at_once() -> None:
    """Four things are wrong on four nodes: one look is enough to mend them."""
    fleet = a_fleet(
        a_cluster(
            "seoul",
            ("a1", "a2"),
            (a_wish("xmpp", ("xmpp",), ("a1",)), a_wish("turn", ("turn",), ("a2",))),
        ),
        a_cluster("busan", ("b1",), (a_wish("pair", ("webadmin",), ("b1",), **SAME),)),
        a_cluster("jeju", ("c1",), (a_wish("turn", ("turn",), ("c1",)),)),
    )
    (jeju,) = (one for one in fleet.clusters if one.name == "jeju")
    wrong = replace(jeju, nodes=(replace(jeju.nodes[0], release="3.5"),))
    fleet = replace(fleet, clusters=(*fleet.clusters[:2], wrong))
    facts = facts_of(fleet)
    del facts["a2"]
    with pytest.raises(PlanError) as refused:
        plan_of(fleet, facts)
    assert [(one.where, one.what.split(",")[0]) for one in refused.value.findings] == [
        ("a1", "certificate 'xmpp' is for xmpp"),
        ("a2", "was never surveyed"),
        ("b1", "certificate 'pair' has `files: same`"),
        ("b1", "certificate 'pair' has `files: same`"),
        ("c1", "the inventory says release 3.5"),
    ]


def test_a_load_balancer_that_was_never_set_up_is_a_finding() -> None:
    """Its line needs a tag and a trust bundle, which only its owner knows."""
    fleet = lone(a_wish("edge", ("loadbalancer",)))
    with pytest.raises(PlanError) as refused:
        plan_of(fleet, {"a1": node_facts("a1", "2.9", stems={})})
    assert "no load balancer" in refused.value.findings[0].what


def test_a_load_balancer_is_applied_on_top_of_its_new_trust_bundle() -> None:
    """Its line names pair and trust together: stage 700 expects what stage 600 left, and its way back keeps it."""
    fleet = a_fleet(a_cluster("seoul", ("a1",), usual_wishes(("a1",), "2.9")))
    facts = facts_of(fleet, "2.9")
    plan = plan_of(fleet, facts)
    apply = next(step for step in steps_of(plan, "apply") if step.params["process"] == "loadbalancer")
    assert apply.expects[0].value["bundle"] == "trust-loadbalancer-auth-1.crt"
    assert "loadbalancer auth edge loadbalancer.key loadbalancer.crt trust-loadbalancer-auth-1.crt" in [
        line.text for line in apply.undo
    ]
    box = carry_out(plan, facts)["a1"]
    assert [one.fingerprint for one in box.files[box.stores["loadbalancer.auth"]]] == [
        "new seoul/a1/callbridge callbridge-1"
    ]


def test_facts_of_the_node_decide_what_is_expected() -> None:
    """Every step of stage 700 says what must still be true, and so does the reading after *go*."""
    fleet = lone(a_wish("turn", ("turn",)))
    plan = plan_of(fleet)
    (apply,), (recheck,) = steps_of(plan, "apply"), steps_of(plan, "recheck")
    value = {"key": "turn.key", "certificate": "turn-fullchain.crt", "bundle": "turn-bundle.crt", "enabled": True}
    assert [(one.kind, one.subject, one.value) for one in apply.expects] == [("setting", "turn", value)]
    assert recheck.expects == apply.expects


def test_a_wish_that_is_not_due_leaves_its_node_alone() -> None:
    """One cluster is due, the other is not: one lane."""
    fleet = a_fleet(
        a_cluster("seoul", ("a1",), usual_wishes(("a1",))),
        a_cluster("busan", ("b1",), usual_wishes(("b1",))),
    )
    facts = facts_of(fleet) | {"b1": node_facts("b1", days=200)}
    plan = plan_of(fleet, facts)
    assert ([lane.name for lane in plan.lanes], plan.nodes()) == (["seoul"], ("a1",))


def test_the_plan_knows_which_facts_it_was_made_from() -> None:
    """A later survey that found the same leaves the plan as it is; one that found something else does not."""
    fleet = lone()
    facts = facts_of(fleet)
    later = {"a1": replace(facts["a1"], at=(NOW + timedelta(hours=1)).isoformat(), clock_skew_s=7.0)}
    moved = {"a1": replace(facts["a1"], hostname="elsewhere")}
    first = plan_of(fleet, facts)
    assert (list(first.facts), plan_of(fleet, later).facts == first.facts) == (["a1"], True)
    assert plan_of(fleet, moved).facts != first.facts


def test_fingerprints_of_shared_leaves_name_every_wish_that_replaces_them() -> None:
    """One old pair for two services becomes two pairs: stores get both new leaves and lose the one old."""
    fleet = lone(a_wish("admin", ("webadmin",)), a_wish("bridge", ("callbridge",)))
    facts = facts_of(fleet)
    step = next(one for one in steps_of(plan_of(fleet, facts), "close") if one.params["process"] == "webbridge3")
    (store,) = step.params["stores"]
    assert store["adds"] == ["seoul/a1/admin", "seoul/a1/bridge"]
    assert list(store["removes"]) == [fingerprint_of("a1", "callbridge")]


def test_a_store_whose_file_cannot_be_read_is_left_alone() -> None:
    """Without a look into it nobody knows whom it trusts."""
    fleet = lone()
    facts = facts_of(fleet)
    files = tuple(
        file_of("callbridge-c2w.crt", root_fact()) if one.name == "callbridge-c2w.crt" else one
        for one in facts["a1"].files
    )
    facts["a1"] = replace(facts["a1"], files=files)
    trust = next(one for one in steps_of(plan_of(fleet, facts), "trust") if one.params["process"] == "callbridge")
    assert [one["store"] for one in trust.params["stores"]] == ["callbridge.cluster"]
