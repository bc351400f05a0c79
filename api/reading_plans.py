"""Plans that only read: the survey of stage 100, and the look at host keys before anything is trusted.

They go the way of every plan (journal, canvas, worker), but reserve nothing and have no gates. One dead server must not
hide the others, so a lane may lose all its nodes and still end; who failed is told by the steps.
"""

from __future__ import annotations

from workflows.inventory import ResolvedFleet
from workflows.plan import Barrier, Lane, Par, Plan, Seq, Step


def survey_plan(fleet: ResolvedFleet, wanted: ResolvedFleet) -> Plan:
    """Return the plan that reads every node of *wanted*, a part of *fleet*."""
    return _plan("survey", fleet, wanted, action="survey", stage=100, barrier="surveyed", title="survey")


def trust_plan(fleet: ResolvedFleet, wanted: ResolvedFleet) -> Plan:
    """Return the plan that reads the host key of every node of *wanted*; nobody logs in."""
    return _plan("trust", fleet, wanted, action="scan_host_key", stage=50, barrier="scanned", title="host key")


def _plan(
    kind: str, fleet: ResolvedFleet, wanted: ResolvedFleet, *, action: str, stage: int, barrier: str, title: str
) -> Plan:
    lanes = []
    for cluster in wanted.clusters:
        steps = tuple(
            Step(
                id=f"{cluster.name}/{node.name}/{action}",
                node=node.name,
                action=action,
                stage=stage,
                title=f"{node.name}: {title}",
            )
            for node in cluster.nodes
        )
        over = Barrier(id=f"{cluster.name}/{barrier}", name=barrier, holds="every server was looked at")
        lanes.append(Lane(name=cluster.name, tree=Seq((Par(steps), over)), fail_limit=len(steps)))
    return Plan(kind=kind, fleet=fleet.to_json(), lanes=tuple(lanes))
