"""The rebuild of a database cluster: facts and wish in, plan out (DESIGN.md section 7, last paragraph; S4, S5, S9).

All that can be done while the cluster stands comes first: pairs made, handed out, matched, verified. Behind the gate
*point of no return* everything is one chain: connected nodes leave, then replicas, the primary last; the old primary is
initialized; each replica joins alone; each connected node connects. The same procedure renews, builds, dissolves and
goes back. Always a run of its own; one lane for each cluster.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from workflows.canonical import canonical
from workflows.errors import Finding, PlanError, PlanInput
from workflows.facts import NodeFacts
from workflows.gate import POINT_OF_NO_RETURN, SIGN
from workflows.inventory import Cluster, DatabaseRole, ResolvedFleet
from workflows.plan import DATABASE, Barrier, Gate, Lane, Par, Part, Plan, Seq
from workflows.procedures import database_certificates as certificates
from workflows.procedures import database_steps as steps
from workflows.procedures.database_certificates import Papers
from workflows.procedures.database_places import PRIMARY, FileSet, Place, Places, behind, places


class Purpose(StrEnum):
    """What a database plan is for."""

    RENEW = "renew"
    BUILD = "build"
    DISSOLVE = "dissolve"
    ROLLBACK = "rollback"


def plan_database(
    fleet: ResolvedFleet,
    facts: Mapping[str, NodeFacts],
    *,
    purpose: Purpose,
    now: datetime,
    within: timedelta,
    wanted: ResolvedFleet | None = None,
    primary: str = "",
    upgrade_schema: bool = False,
    silent: Collection[str] = frozenset(),
) -> Plan:
    """Return the plan that renews, builds or dissolves the database clusters in *wanted* (a selection of *fleet*).

    *primary* names the node whose data is to live, for one cluster; *silent* are nodes that the last survey could not
    read, as a mapping with the error of each ({"code", "text", "remedy"}) where it is known. Clusters without a
    database are left out, those whose certificates are good for longer than *within* too.
    Raises: PlanError with every finding: no agreement on the primary, silent nodes, roles that differ. PlanInput when
    all of it is about *primary*.
    """
    chosen = [one for one in (wanted or fleet).clusters if _has_database(one)]
    if primary:
        chosen = [one for one in chosen if primary in {node.name for node in one.nodes}]
        if not chosen:
            raise PlanInput([Finding(primary, "is in no database cluster of the selection", "Correct `--primary`.")])
    if not chosen:
        remedy = "Write `database: joined` and `database: connected` for the nodes of a cluster."
        raise PlanError([Finding(fleet.name, "no cluster in the selection has a database cluster", remedy)])
    lanes: list[Lane] = []
    wishes: dict[str, Mapping[str, Any]] = {}
    notices: list[str] = []
    refused: list[PlanError] = []
    for cluster in chosen:
        whole = fleet.cluster(cluster.name)  # never a part of a cluster
        try:
            found = places(
                whole,
                facts,
                primary=primary,
                building=purpose is Purpose.BUILD,
                dissolving=purpose is Purpose.DISSOLVE,
                silent=silent,
            )
        except PlanError as error:
            refused.append(error)
            continue
        why = certificates.why_due(whole, found, facts, now=now, within=within)
        if purpose is Purpose.RENEW and not why and not primary:
            continue
        papers = None
        if purpose is not Purpose.DISSOLVE:
            papers = certificates.papers_of(whole, found, facts, now=now, within=within)
            wishes |= {name: {**wish, "why": list(why)} for name, wish in papers.wishes().items()}
        old = {place.node: _no_way_back(place, facts, now=now) for place in found.every}
        lanes.append(_lane(found, facts, papers, old, upgrade_schema=upgrade_schema and papers is not None))
        notices += [*found.notices, *_told(found, papers, old)]
    if refused:
        findings = [finding for error in refused for finding in error.findings]
        raise (PlanInput if all(isinstance(error, PlanInput) for error in refused) else PlanError)(findings)
    return make_plan(fleet, facts, lanes, wishes, notices, purpose)


def make_plan(
    fleet: ResolvedFleet,
    facts: Mapping[str, NodeFacts],
    lanes: Sequence[Lane],
    wishes: Mapping[str, Mapping[str, Any]],
    notices: Sequence[str],
    purpose: Purpose,
) -> Plan:
    """Return the plan of these lanes."""
    touched = sorted({step.node for lane in lanes for step in lane.steps() if step.node})
    return Plan(
        kind=DATABASE,
        purpose=purpose.value,
        fleet=json.loads(canonical(fleet.to_json())),  # lists only, so that a plan read back is equal
        lanes=tuple(lanes),
        wishes=dict(wishes),
        notices=tuple(dict.fromkeys(notices)),
        facts={node: facts[node].digest() for node in touched},
    )


def _has_database(cluster: Cluster) -> bool:
    return any(node.database is DatabaseRole.JOINED for node in cluster.nodes)


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _lane(
    found: Places,
    facts: Mapping[str, NodeFacts],
    papers: Papers | None,
    old: Mapping[str, str],
    *,
    upgrade_schema: bool,
) -> Lane:
    name = found.cluster
    alone = len(found.every) == 1
    prepared = [
        steps.prepare(name, papers, place, facts[place.node], old[place.node], alone=alone) for place in found.every
    ]
    parts: list[Part] = [
        Par(tuple(prepared)),
        Barrier(id=f"{name}/prepared", name="prepared", holds="every node is ready"),
    ]
    files: dict[str, FileSet] = {}
    if papers is not None:
        files = {place.node: papers.files(joined=place.joined) for place in found.every}
        parts += _making(papers, found, facts)
    leaving = [place for place in found.every if place.inside]
    parts += point_of_no_return(found, facts, old, leaving, rebuilt=papers is not None)
    if papers is None:
        parts.append(steps.dissolved(found))
    else:
        wish = papers.wish_id(papers.wish.server)
        parts += assembling(found, facts, files, wish, found.every, upgrade_schema=upgrade_schema)
    return Lane(name=name, tree=Seq(tuple(parts)))


def _making(papers: Papers, found: Places, facts: Mapping[str, NodeFacts]) -> list[Part]:
    """Return stages 300 to 500: the pairs are made, signed and handed out while the cluster stands."""
    name = papers.cluster
    requests = certificates.request_steps(papers)
    # One node makes one key after the other; keys made off the servers have no node and go side by side.
    made: tuple[Part, ...] = (Seq(requests),) if papers.made_on_node else requests
    parts: list[Part] = [
        Par(made),
        Barrier(id=f"{name}/requested", name="requested", holds="both CSRs are here and say what was wished"),
    ]
    if papers.built_in:
        parts += certificates.sign_steps(papers)
    else:
        parts.append(
            Gate(id=f"{name}/{SIGN}", name=SIGN, needs="approval of plan and CSRs, then the signed certificates")
        )
    return [
        *parts,
        Par(tuple(certificates.deliver_step(papers, place, facts[place.node]) for place in found.every)),
        Barrier(id=f"{name}/delivered", name="delivered", holds="the new files are on every node, matched, verified"),
    ]


def point_of_no_return(
    found: Places,
    facts: Mapping[str, NodeFacts],
    old: Mapping[str, str],
    leaving: Sequence[Place],
    *,
    rebuilt: bool = True,
    needs: str = "",
    coming: Mapping[str, FileSet] | None = None,
) -> list[Part]:
    """Return the gate, the survey after it, the backups, and the way out of *leaving*: the primary last.

    Where a person named another one, the node that is the primary now stays as long as it can: its peers go by it.
    *rebuilt* is False when the cluster is dissolved; *needs* replaces what the gate says. *coming* are files that were
    on the nodes before the plan and are to be used again, so the survey behind the gate looks at them too.
    """
    name, primary = found.cluster, found.primary
    replicas = sorted(found.replicas, key=lambda one: steps.told_primary(facts[one.node]))
    inside = [place for place in (*found.connected, *replicas, primary) if place in leaving]
    acting = steps.told_primary(facts[primary.node])
    lost = behind(primary.node, facts, stands=any(place.inside for place in found.every))
    backups = [steps.backup(name, place, facts[place.node]) for place in found.every if place.joined]
    parts: list[Part] = [
        Gate(
            id=f"{name}/{POINT_OF_NO_RETURN}",
            name=POINT_OF_NO_RETURN,
            needs=needs or _needs(found, old, leaving, rebuilt=rebuilt, lost=lost),
            two_people=found.settled,
        ),
        Par(
            tuple(
                steps.recheck(name, place, facts[place.node], (coming or {}).get(place.node)) for place in found.every
            )
        ),
        Barrier(id=f"{name}/as-approved", name="as approved", holds="every node is still as it was approved"),
        Par(tuple(backups)),
        Barrier(id=f"{name}/backed-up", name="backed up", holds="a fresh backup of every joined node is here"),
    ]
    ids = [step.id for step in backups]
    for place in inside:
        parts += [
            steps.remove(name, place, facts[place.node], primary, ids, _way_back(place, old, inside, acting=acting)),
            Barrier(
                id=f"{name}/{place.node}/removed",
                name=f"{place.node} removed",
                holds=f"{place.node} is in no cluster any more",
            ),
        ]
    return parts


def assembling(
    found: Places,
    facts: Mapping[str, NodeFacts],
    files: Mapping[str, FileSet],
    wish: str,
    entering: Sequence[Place],
    *,
    upgrade_schema: bool = False,
) -> list[Part]:
    """Return the way in of *entering*: the primary first, then each replica and each connected node alone."""
    name, primary = found.cluster, found.primary
    parts: list[Part] = []
    for place in sorted(entering, key=lambda one: _ORDER[one.role]):
        others = [one.node for one in found.every if one.joined and one is not place] if place is primary else []
        parts += [
            steps.enter(name, place, facts[place.node], files[place.node], primary, others),
            Barrier(
                id=f"{name}/{place.node}/in-place",
                name=_HOLDS[place.role][0].format(place.node),
                holds=_HOLDS[place.role][1].format(place.node),
            ),
        ]
    if upgrade_schema:
        parts.append(steps.upgrade(name, primary))
    return [*parts, steps.agree(found, facts, files, wish)]


_ORDER: Mapping[str, int] = {PRIMARY: 0, "replica": 1, "connected": 2}
_HOLDS: Mapping[str, tuple[str, str]] = {
    PRIMARY: ("{} is primary", "{} says Connected Primary"),
    "replica": ("{} in sync", "{} says In Sync"),
    "connected": ("{} connected", "{} uses the database of the primary"),
}


# ── what people are told ─────────────────────────────────────────────────────────────────────────────────────────────
def _no_way_back(place: Place, facts: Mapping[str, NodeFacts], *, now: datetime) -> str:
    """Return why the files that a node uses now are no way back, "" when they are one."""
    if not place.inside:
        return f"{place.node} is in no cluster now"
    if place.old is None:
        return f"{place.node} names no files of its database"
    for name in place.old.certificates:
        stored = facts[place.node].file(name)
        if stored is None or not stored.certificates:
            return f"{name} of {place.node} holds no certificate"
        if datetime.fromisoformat(stored.certificates[0].not_valid_after) <= now:
            return f"{name} of {place.node} ended {stored.certificates[0].not_valid_after[:10]}"
    return ""


def _way_back(place: Place, old: Mapping[str, str], inside: Sequence[Place], *, acting: bool) -> str:
    """Return the way back that holds when *place* was removed; *acting*: the primary of the plan is it now, too."""
    alone = place.role != PRIMARY and acting
    # By itself a node comes back to the primary, whose files must then be good as well.
    needed = [one for one in inside if one is place or one.role == PRIMARY or not alone]
    if any(old[one.node] for one in needed):
        return "none but forward, or the backup"
    if alone:
        return "its own lines back, while the primary is in the cluster"
    return "`certbridge runs rollback`: the whole cluster with the old files"


def _lost(old: Mapping[str, str], leaving: Sequence[Place]) -> str:
    """Return why the old files of nodes that leave are no way back, "" when all are one."""
    nodes: dict[str, list[str]] = {}
    for place in leaving:
        if text := old[place.node]:
            # Nodes often share a reason: "dbserver.crt of a1, a2 ended 2026-10-31".
            nodes.setdefault(text.replace(f" of {place.node} ", " of {} ", 1), []).append(place.node)
    return "; ".join(sorted(text.replace("{}", ", ".join(names)) for text, names in nodes.items()))


def _needs(found: Places, old: Mapping[str, str], leaving: Sequence[Place], *, rebuilt: bool, lost: str) -> str:
    who = " by a second person, since the primary was named by hand," if found.settled else ""
    if not rebuilt:
        what = f"that {found.cluster} is dissolved"
        writes = "from the first `remove` on what is written to one node does not reach the others"
    else:
        what = f"of the rebuild of {found.cluster} on the data of {found.primary.node}"
        writes = "writes to any node but the primary are lost from the first `remove` to the last barrier"
    if not leaving:
        return (
            f"approval{who} {what}; the data of every other joined node is overwritten; only the backups have it then"
        )
    gone = [place.node for place in leaving if old[place.node]]
    nodes = f"{len(gone)} node{'s' if len(gone) > 1 else ''}"
    back = "the old files are a way back"
    if gone:
        back = f"there is no way back except the backups (the old files of {nodes} are none, see the notices)"
    warning = f"{lost}; " if lost and rebuilt else ""
    return f"approval{who} {what}; {warning}{writes}; {back}"


def _told(found: Places, papers: Papers | None, old: Mapping[str, str]) -> list[str]:
    primary = found.primary.node
    leaving = [place for place in found.every if place.inside]
    moves = [*(["remove"] if leaving else []), *(["initialize", "join", "connect"] if papers else [])]
    each = f"each of {', '.join(moves[:-1])} and {moves[-1]}" if len(moves) > 1 else f"each {moves[0]}"
    restarts = f"{found.cluster}: {each} restarts the local Call Bridge"
    if papers is None:
        kept = "every joined node keeps the data it has"
        lost = "what is written to one node from then on does not reach the others"
    else:
        kept = f"the data of {primary} is kept; every other joined node gets a copy of it"
        lost = f"what is written to any node but {primary} between the first `remove` and the last barrier is lost"
    told = [f"{found.cluster}: {kept}", f"{restarts}; {lost}" if leaving else restarts]
    if reasons := _lost(old, leaving):
        told.append(f"{found.cluster}: no way back except the backups, once the first node is removed: {reasons}")
    if papers is not None and papers.ca_kept:
        told.append(f"{found.cluster}: the database CA {papers.ca}.crt is good for long, so it is kept")
    elif papers is not None and papers.new_ca_because:
        told.append(f"{found.cluster}: a new database CA {papers.ca}.crt is made, since {papers.new_ca_because}")
    return told
