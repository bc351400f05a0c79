"""Going back after a rebuild of the database cluster was begun: a plan of its own, with the pairs that were in use.

What is to be done depends on where the nodes stand now, so it is planned from a fresh survey (issue of the rebuild,
DESIGN.md section 7): while the primary is still in its cluster, the nodes that were removed join or connect again; once
it is out, the whole cluster is built anew with the old files. Refused with the reason where these are expired or gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from workflows.errors import Finding, PlanError
from workflows.facts import NodeFacts
from workflows.inventory import ResolvedFleet
from workflows.plan import Barrier, Lane, Par, Part, Plan, Seq, Step
from workflows.procedures import database_steps as steps
from workflows.procedures.database_cluster import Purpose, assembling, make_plan, point_of_no_return
from workflows.procedures.database_places import PRIMARY, FileSet, Place, Places


def plan_rollback(
    original: Plan, facts: Mapping[str, NodeFacts], *, now: datetime, silent: frozenset[str] = frozenset()
) -> Plan:
    """Return the plan that brings the clusters of *original*, a database plan, back to the files they used before it.

    *facts* are of a survey that was made after its last step; *silent* are nodes that it could not read.
    Raises: PlanError with every finding: nothing was removed yet, an old file is expired or gone, a node is silent.
    """
    fleet = ResolvedFleet.from_json(original.fleet)
    findings: list[Finding] = []
    lanes: list[Lane] = []
    notices: list[str] = []
    for lane in original.lanes:
        removed = {step.node: step for step in lane.steps() if step.action == "database_remove"}
        if not any(step.params["role"] == PRIMARY for step in removed.values()):
            what = "was in no cluster before this run, so there is nothing to go back to"
            findings.append(Finding(lane.name, what, "Use `certbridge plan --database dissolve`."))
            continue
        problems = [*_silent(removed, facts, silent)] or [*_old_files(removed, facts, now)]
        if problems:
            findings += problems
            continue
        found = _places(fleet, lane.name, removed, facts)
        old = {node: FileSet.named(step.params["old"]) for node, step in removed.items()}
        outside = [place for place in found.every if _uses(facts, place) != old[place.node].names]
        if not outside:
            continue
        lanes.append(_lane(found, facts, old, outside))
        notices += _told(found, outside)
    if findings:
        raise PlanError(findings)
    if not lanes:
        what = "every node is in its cluster with the files it used before: there is nothing to undo"
        raise PlanError(
            [Finding(fleet.name, what, "New files that the run left behind do no harm; keep or delete them.")]
        )
    return make_plan(fleet, facts, lanes, {}, notices, Purpose.ROLLBACK)


def _silent(removed: Mapping[str, Step], facts: Mapping[str, NodeFacts], silent: frozenset[str]) -> Iterator[Finding]:
    for node in removed:
        fact = facts[node].database_cluster if node in facts and node not in silent else None
        if fact is None:
            yield Finding(node, "did not answer the survey", "Bring it back, then try again.")
        elif fact.busy:
            yield Finding(node, f"`{fact.last_command}` is still under way", "Wait until it has ended, then try again.")


def _old_files(removed: Mapping[str, Step], facts: Mapping[str, NodeFacts], now: datetime) -> Iterator[Finding]:
    for node, step in removed.items():
        names: list[str] = step.params["old"]
        if not names:
            yield Finding(node, "named no files before this run", "Go forward: finish the run, or use the backup.")
        for name in names:
            stored = facts[node].file(name)
            leaf = stored.certificates[0] if stored and stored.certificates else None
            remedy = "Go forward: `certbridge runs resume`, or a new plan; else there is the backup."
            if stored is None:
                yield Finding(node, f"{name}, in use before, is no longer there", remedy)
            elif leaf is not None and datetime.fromisoformat(leaf.not_valid_after) <= now:
                yield Finding(node, f"{name}, in use before, ended {leaf.not_valid_after[:10]}", remedy)


def _places(fleet: ResolvedFleet, cluster: str, removed: Mapping[str, Step], facts: Mapping[str, NodeFacts]) -> Places:
    order = {node.name: node for node in fleet.cluster(cluster).nodes}
    every = []
    for node in (name for name in order if name in removed):
        fact = facts[node].database_cluster
        every.append(
            Place(
                node=node,
                role=str(removed[node].params["role"]),
                address=str(removed[node].params["address"]),
                interface=order[node].database_interface,
                inside=fact is not None and not fact.disabled,
                old=FileSet.of(fact) if fact else None,
            )
        )
    return Places(cluster=cluster, every=tuple(every), settled=False, notices=())


def _uses(facts: Mapping[str, NodeFacts], place: Place) -> tuple[str, ...]:
    """Return the files that a node uses in a cluster now, () when it is in none."""
    fact = facts[place.node].database_cluster
    return fact.files if fact and not fact.disabled else ()


def _lane(found: Places, facts: Mapping[str, NodeFacts], old: Mapping[str, FileSet], outside: list[Place]) -> Lane:
    """Return the lane: all of it anew when the primary is out or has new files, else the nodes that are out."""
    name = found.cluster
    whole = found.primary in outside
    leaving = [place for place in (found.every if whole else outside) if place.inside]
    entering = found.every if whole else tuple(outside)
    # What is in use now is what a node that leaves could come back with; what it enters with is checked to match.
    prepared = [
        steps.prepare(name, None, replace(place, old=old[place.node]), facts[place.node], "") for place in found.every
    ]
    parts: list[Part] = [
        Par(tuple(prepared)),
        Barrier(id=f"{name}/prepared", name="prepared", holds="the old files are on every node, and match"),
        *point_of_no_return(found, facts, {place.node: "" for place in found.every}, leaving),
        *assembling(found, facts, old, "", entering),
    ]
    return Lane(name=name, tree=Seq(tuple(parts)))


def _told(found: Places, outside: list[Place]) -> list[str]:
    primary = found.primary.node
    if found.primary in outside:
        how = f"the whole cluster is built again with the old files, on the data of {primary}"
    else:
        how = f"{primary} is in its cluster still; {', '.join(one.node for one in outside)} come back to it"
    return [f"{found.cluster}: {how}; what was written elsewhere meanwhile is lost"]
