"""Laws of the renewal plan, on any small fleet."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.fleets import STEMS, a_cluster, a_fleet, a_wish, node_facts, plan_of
from tests.unit.core.model import facts_after
from workflows.canonical import canonical
from workflows.facts import DatabaseState, NodeFacts
from workflows.inventory import FilesPolicy, KeyOrigin, ResolvedFleet
from workflows.plan import Barrier, Gate, Lane, LineKind, Par, Step, walk

Case = tuple[ResolvedFleet, dict[str, NodeFacts]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Give a fleet of one or two clusters of up to three nodes, with some of its services due, off, or out of sight."""
    clusters = []
    facts: dict[str, NodeFacts] = {}
    for name in draw(st.sampled_from([("seoul",), ("seoul", "busan")])):
        release = draw(st.sampled_from(["2.9", "3.9"]))
        stems = STEMS[release]
        nodes = tuple(f"{name}{number}" for number in range(1, draw(st.integers(1, 3)) + 1))
        wishes = []
        for stem in draw(st.sets(st.sampled_from(sorted(set(stems.values()))), min_size=1)):
            services = [service for service in stems if stems[service] == stem]
            key = draw(st.sampled_from(KeyOrigin))
            files = draw(st.sampled_from(FilesPolicy))
            shared = draw(st.booleans())
            groups = [nodes] if shared else [(node,) for node in nodes]
            wishes += [a_wish(stem, services, group, key=key, files=files) for group in groups]
        primary = draw(st.sampled_from(nodes))
        for node in nodes:
            facts[node] = node_facts(
                node,
                release,
                peers=nodes,
                days=draw(st.sampled_from([-3, 12, 300])),
                off=draw(st.sets(st.sampled_from(sorted(stems)), max_size=2)),
                unseen=draw(st.sets(st.sampled_from(sorted(stems)), max_size=2)),
                pin_leaves=draw(st.booleans()),
                database=DatabaseState.PRIMARY if node == primary else DatabaseState.REPLICA,
            )
        clusters.append(a_cluster(name, nodes, wishes))
    return a_fleet(*clusters, go_gate=draw(st.booleans())), facts


def stretches(lane: Lane) -> list[list[Step]]:
    """Return the steps between one barrier or gate and the next, those that may run at once left out."""
    found: list[list[Step]] = [[]]
    for part in lane.tree.parts:
        if isinstance(part, Barrier | Gate | Par):
            found.append([])
        else:
            found[-1].extend(leaf for leaf in walk(part) if isinstance(leaf, Step))
    return found


@settings(max_examples=40, deadline=None)
@given(cases())
def test_no_two_nodes_are_applied_between_two_barriers(case: Case) -> None:
    """One node at a time: the next is touched when the one before is proved."""
    fleet, facts = case
    for lane in plan_of(fleet, facts).lanes:
        for stretch in stretches(lane):
            nodes = {step.node for step in stretch if step.stage in {700, 800}}
            assert len(nodes) <= 1


@settings(max_examples=40, deadline=None)
@given(cases())
def test_no_par_changes_what_is_in_use(case: Case) -> None:
    """What happens on all servers at once only makes new files."""
    fleet, facts = case
    for lane in plan_of(fleet, facts).lanes:
        wide = [leaf for part in lane.tree.parts if isinstance(part, Par) for leaf in walk(part)]
        words = {line.text.split()[0] for leaf in wide for line in leaf.lines if line.kind is LineKind.COMMAND}
        assert words <= {"pki", "backup"}


@settings(max_examples=40, deadline=None)
@given(cases())
def test_every_upload_has_a_fresh_name(case: Case) -> None:
    """No file that is there, and none that the run made before, is written over."""
    fleet, facts = case
    plan = plan_of(fleet, facts)
    there = {(name, file.name.casefold()) for name, one in facts.items() for file in one.files}
    made: list[tuple[str, str]] = []
    for lane in plan.lanes:
        for step in lane.steps():
            for line in step.lines:
                if line.kind is LineKind.UPLOAD:
                    made.append((step.node, line.text.casefold()))
                elif line.content == "csr":
                    basename = line.text.split()[2].casefold()
                    made += [(step.node, f"{basename}.key"), (step.node, f"{basename}.csr")]
    assert (len(set(made)), set(made) & there) == (len(made), set())


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_finished_run_plans_nothing_and_planning_is_repeatable(case: Case) -> None:
    """Carried out line by line on model servers that refuse what would break real ones."""
    fleet, facts = case
    plan, again = plan_of(fleet, facts), plan_of(fleet, facts)
    assert canonical(plan.to_json()) == canonical(again.to_json())
    assert plan_of(fleet, facts_after(plan, facts)).empty
