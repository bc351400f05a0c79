"""The renewal of service certificates, stages 200 to 900 of DESIGN.md section 7: facts and wish in, plan out.

Pure and repeatable: the same wish against the same facts gives the same plan, byte for byte; the only clock is *now*.
What is due is in `wishes`, trust stores in `trust`, the shape of single lines in `lines`, the steps of one node in
`node_steps`. The database cluster is never touched here; that is a procedure of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from workflows.canonical import canonical
from workflows.errors import Finding, PlanError
from workflows.facts import DatabaseState, NodeFacts
from workflows.gate import GO, SIGN
from workflows.inventory import Cluster, ResolvedFleet
from workflows.plan import Barrier, Gate, Lane, Par, Part, Plan, Seq, Step
from workflows.procedures import node_steps, trust
from workflows.procedures.names import next_number
from workflows.procedures.node_steps import Paper
from workflows.procedures.wishes import Due, due, faults


def plan_renewal(
    fleet: ResolvedFleet,
    facts: Mapping[str, NodeFacts],
    *,
    now: datetime,
    within: timedelta,
    wanted: ResolvedFleet | None = None,
) -> Plan:
    """Return the plan that renews what is due in *wanted* (a selection of *fleet*; all of it when None).

    *fleet* is whole, because servers outside the selection may pin a certificate inside it. The plan is empty when
    nothing is due. Raises: PlanError with every finding: servers never surveyed, releases that differ, services that a
    release does not have, `files: same` where it cannot work.
    """
    wanted = wanted or fleet
    findings: list[Finding] = []
    lanes: list[Lane] = []
    wishes: dict[str, Mapping[str, Any]] = {}
    notices: list[str] = []
    touched: set[str] = set()
    for cluster in wanted.clusters:
        problems = faults(cluster, facts, tuple(node.name for node in cluster.nodes))
        dues = () if problems else due(cluster, facts, now=now, within=within)
        papers = {one.id: _paper(one, facts) for one in dues}
        problems += node_steps.faults(tuple(papers.values()), facts)
        findings += problems
        if findings or not dues:
            continue
        lane = _lane(fleet, fleet.cluster(cluster.name), papers, facts, notices, now=now)
        lanes.append(lane)
        touched.update(step.node for step in lane.steps() if step.node)
        wishes.update({paper.due.id: paper.to_json() for paper in papers.values()})
        notices.extend(_pinned_elsewhere(fleet, cluster.name, dues, facts))
        notices.extend(_never_surveyed(fleet.cluster(cluster.name), facts))
    if findings:
        raise PlanError(findings)
    return Plan(
        kind="renewal",
        fleet=json.loads(canonical(fleet.to_json())),  # lists only, so that a plan read back is equal
        lanes=tuple(lanes),
        wishes=wishes,
        notices=tuple(dict.fromkeys(notices)),
        facts={node: facts[node].digest() for node in sorted(touched)},
    )


def order_of(cluster: Cluster, facts: Mapping[str, NodeFacts]) -> tuple[str, ...]:
    """Return the order in which nodes are applied: as in the inventory, the database primary last (stage 700)."""
    names = [node.name for node in cluster.nodes if node.name in facts]
    primary = [name for name in names if facts[name].database is DatabaseState.PRIMARY]
    return tuple([name for name in names if name not in primary] + primary)


def _paper(one: Due, facts: Mapping[str, NodeFacts]) -> Paper:
    number = next_number(one.wish.name, [facts[node] for node in one.wish.nodes])
    return Paper(due=one, basename=f"{one.wish.name}-{number}")


def _lane(
    fleet: ResolvedFleet,
    cluster: Cluster,
    papers: Mapping[str, Paper],
    facts: Mapping[str, NodeFacts],
    notices: list[str],
    *,
    now: datetime,
) -> Lane:
    name = cluster.name
    order = order_of(cluster, facts)
    dues = [paper.due for paper in papers.values()]
    found = trust.pins(dues, facts, order)
    on_node = {node: [paper for paper in papers.values() if node in paper.due.wish.nodes] for node in order}
    applied = [node for node in order if on_node[node]]
    touched = [node for node in order if on_node[node] or any(pin.node == node for pin in found)]
    ways_back = {node: node_steps.ways_back(on_node[node], facts[node], now=now) for node in touched}
    notices.extend(line for node in touched for line in ways_back[node].values())
    notices.extend(line for node in touched for line in node_steps.shared_bundles(on_node[node], facts[node]))
    notices.extend(_trusted_by(papers.values()))
    notices.extend(trust.stores_of_the_ca(dues, facts, order))

    prepare = [node_steps.prepare(name, facts[node], on_node[node], ways_back[node]) for node in touched]
    request = [_member(steps) for node in order if (steps := node_steps.request(name, node, on_node[node]))]
    off_node = node_steps.request_off_node(papers.values())
    deliver = [_member(node_steps.deliver(name, facts[node], on_node[node])) for node in applied]
    trusting = trust.trust_steps(name, found, facts)
    recheck = [node_steps.recheck(name, node, _later(name, facts, node, on_node, found)) for node in touched]
    applying = [part for node in applied for part in node_steps.apply(name, facts[node], on_node[node], found, cluster)]
    after = {
        (node, fact.service): fact
        for node in applied
        for fact in node_steps.settings_after(facts[node], on_node[node], found)
    }
    closing = trust.close_steps(name, found, facts, after)

    parts: list[Part] = [
        Par(tuple(prepare)),
        Barrier(id=f"{name}/prepared", name="prepared", holds="every server is ready and has a way back"),
        Par((*request, *off_node)),
        Barrier(id=f"{name}/requested", name="requested", holds="every CSR is here and says what was wished"),
        Gate(id=f"{name}/{SIGN}", name=SIGN, needs="approval of plan and CSRs, then the signed certificates"),
        Par(tuple(deliver)),
        Barrier(
            id=f"{name}/delivered", name="delivered", holds="every certificate is on its server, matched, verified"
        ),
    ]
    if fleet.go_gate:
        parts.append(Gate(id=f"{name}/{GO}", name=GO, needs="approval of the lines left, and of what they interrupt"))
    parts += [
        Par(tuple(recheck)),
        Barrier(id=f"{name}/as-approved", name="as approved", holds="every server is still as the plan expects"),
        *trusting,
        *applying,
        *closing,
    ]
    return Lane(name=name, tree=Seq(tuple(parts)), fail_limit=fleet.fail_limit)


def _later(
    cluster: str,
    facts: Mapping[str, NodeFacts],
    node: str,
    on_node: Mapping[str, Sequence[Paper]],
    found: Sequence[trust.Pin],
) -> tuple[Any, ...]:
    mine = [pin for pin in found if pin.node == node]
    steps: list[Step] = list(trust.trust_steps(cluster, mine, facts))
    return tuple(expect for step in steps for expect in step.expects) + node_steps.expects(facts[node], on_node[node])


def _member(steps: Sequence[Step]) -> Step | Seq:
    return steps[0] if len(steps) == 1 else Seq(tuple(steps))


def _trusted_by(papers: Any) -> list[str]:
    return [
        f"{who} must be told of the new certificate {paper.due.wish.name} of {', '.join(paper.due.wish.nodes)} by hand"
        for paper in papers
        for who in paper.due.wish.trusted_by
    ]


def _pinned_elsewhere(
    fleet: ResolvedFleet, cluster: str, dues: Sequence[Due], facts: Mapping[str, NodeFacts]
) -> list[str]:
    others = [node.name for other in fleet.clusters if other.name != cluster for node in other.nodes]
    return [
        f"{pin.node}: trust store {pin.store.name} ({pin.file}) pins a certificate of cluster {cluster} that will "
        "change; it is in another cluster, so set it by hand after the run"
        for pin in trust.pins(dues, facts, others)
    ]


def _never_surveyed(cluster: Cluster, facts: Mapping[str, NodeFacts]) -> list[str]:
    return [
        f"{node.name} was never surveyed: whether its trust stores pin a certificate that will change is not known"
        for node in cluster.nodes
        if node.name not in facts
    ]
