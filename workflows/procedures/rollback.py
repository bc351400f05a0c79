"""Going back after a rebuild of the database cluster was begun: a plan of its own, with the pairs that were in use.

What is to be done depends on where the nodes stand now, so it is planned from a fresh survey (issue of the rebuild,
DESIGN.md section 7): while the primary is still in its cluster, the nodes that were removed join or connect again; once
it is out, the whole cluster is built anew with the old files. Refused with the reason where these are expired or gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from workflows.errors import Finding, NothingToUndo, PlanError
from workflows.facts import DatabaseFact, NodeFacts
from workflows.inventory import Cluster, DatabaseRole, Node, ResolvedFleet
from workflows.plan import Barrier, Lane, Par, Part, Plan, Seq, Step
from workflows.procedures import database_steps as steps
from workflows.procedures.database_cluster import Purpose, assembling, make_plan, point_of_no_return
from workflows.procedures.database_places import CONNECTED, PRIMARY, REPLICA, FileSet, Place, Places, raise_if
from workflows.procedures.database_steps import role_told


def plan_rollback(
    original: Plan,
    facts: Mapping[str, NodeFacts],
    *,
    now: datetime,
    silent: frozenset[str] = frozenset(),
) -> Plan:
    """Return the plan that brings the clusters of *original*, a database plan, back to the files they used before it.

    *facts* are of a survey that was made after its last step; *silent* are nodes that it could not read.
    Raises: NothingToUndo: every node is in its cluster with its old files. PlanError with every finding: the run built
    a first cluster, an old file is expired or gone, a node is silent, or another node leads the cluster by now.
    """
    fleet = ResolvedFleet.from_json(original.fleet)
    findings: list[Finding] = []
    made: list[Lane] = []
    notices: list[str] = []
    for lane in original.lanes:
        try:
            back = _Back.of(lane, fleet.cluster(lane.name), facts, silent=silent, now=now)
        except PlanError as error:
            findings += error.findings
            continue
        if back is not None:
            made.append(back.lane(facts))
            notices += back.told()
    if findings:
        raise PlanError(findings)
    if not made:
        what = "every node is in its cluster with the files it used before: there is nothing to undo"
        remedy = "New files that the run left behind do no harm; keep or delete them."
        raise NothingToUndo([Finding(fleet.name, what, remedy)])
    return make_plan(fleet, facts, made, {}, notices, Purpose.ROLLBACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Back:
    """The way back of one cluster: who was in it before, with which files, and who is to leave and to enter now.

    `guests` are in the cluster now, but were in none before the run: they leave with the others and stay out.
    """

    cluster: str
    core: tuple[Place, ...]
    guests: tuple[Place, ...]
    old: Mapping[str, FileSet]
    outside: tuple[Place, ...]
    settled: bool

    @classmethod
    def of(
        cls, lane: Lane, cluster: Cluster, facts: Mapping[str, NodeFacts], *, silent: frozenset[str], now: datetime
    ) -> _Back | None:
        """Return the way back of *lane*, None when there is nothing to undo. Raises: PlanError."""
        removed = {step.node: step for step in lane.steps() if step.action == "database_remove"}
        primary = next((node for node, step in removed.items() if step.params["role"] == PRIMARY), "")
        if not primary:
            what = "was in no cluster before this run, so there is nothing to go back to"
            raise PlanError([Finding(lane.name, what, "Use `certbridge plan --database dissolve`.")])
        members = [node for node in cluster.nodes if node.database in {DatabaseRole.JOINED, DatabaseRole.CONNECTED}]
        raise_if([*_silent([node.name for node in members], facts, silent)])
        places = {node.name: _place(node, removed.get(node.name), facts[node.name]) for node in members}
        core = tuple(place for name, place in places.items() if name in removed)
        guests = tuple(place for name, place in places.items() if name not in removed and place.inside)
        old = {name: FileSet.named(step.params["old"]) for name, step in removed.items() if step.params["old"]}
        outside = tuple(place for place in core if place.node not in old or not _uses(place, old[place.node]))
        if not outside:
            return None
        raise_if([*_old_files(removed, facts, now), *_led_by_others(places, facts, primary)])
        settled = any(gate.two_people for gate in lane.gates())
        return cls(cluster=lane.name, core=core, guests=guests, old=old, outside=outside, settled=settled)

    @property
    def whole(self) -> bool:
        """Whether all of the cluster is built anew: its primary is out, or uses the new files."""
        return any(place.role == PRIMARY for place in self.outside)

    def lane(self, facts: Mapping[str, NodeFacts]) -> Lane:
        """Return the lane: all of it anew, or the nodes that are out come back to their primary."""
        name = self.cluster
        everybody = self._places((*self.core, *self.guests) if self.whole else self.core)
        leaving = [place for place in (everybody.every if self.whole else self.outside) if place.inside]
        entering = self.core if self.whole else self.outside
        # What is in use now is what a node that leaves could come back with; what it enters with is checked to match.
        prepared = [
            steps.prepare(name, None, replace(place, old=self.old.get(place.node, place.old)), facts[place.node], "")
            for place in everybody.every
        ]
        no_way_back = {place.node: "" for place in everybody.every}
        parts: list[Part] = [
            Par(tuple(prepared)),
            Barrier(id=f"{name}/prepared", name="prepared", holds="the old files are on every node, and match"),
            *point_of_no_return(everybody, facts, no_way_back, leaving, needs=self._needs(), coming=self.old),
            *assembling(self._places(self.core), facts, self.old, "", entering),
        ]
        return Lane(name=name, tree=Seq(tuple(parts)))

    def told(self) -> list[str]:
        """Return what people must know."""
        primary = next(place.node for place in self.core if place.role == PRIMARY)
        told = [f"{self.cluster}: {self._how(primary)}"]
        if self.whole and self.guests:
            out = ", ".join(place.node for place in self.guests)
            told.append(
                f"{self.cluster}: in no cluster before that run, so leaving with the others and for good: {out}"
            )
        return told

    def _how(self, primary: str) -> str:
        if self.whole:
            return (
                f"the whole cluster is built again with the old files, on the data that {primary} holds now; "
                "what other nodes hold alone is overwritten"
            )
        out = ", ".join(place.node for place in self.outside)
        return f"{primary} is in its cluster still; {out} come back to it, and get its data"

    def _needs(self) -> str:
        primary = next(place.node for place in self.core if place.role == PRIMARY)
        who = " by a second person, since the primary was named by hand" if self.settled else ""
        return f"approval{who} of the way back of {self.cluster}: {self._how(primary)}"

    def _places(self, every: tuple[Place, ...]) -> Places:
        return Places(cluster=self.cluster, every=every, settled=self.settled, notices=())


def _silent(members: list[str], facts: Mapping[str, NodeFacts], silent: frozenset[str]) -> Iterator[Finding]:
    for node in members:
        fact = facts[node].database_cluster if node in facts and node not in silent else None
        if fact is None:
            yield Finding(node, "did not answer the survey", "Bring it back, then try again.")
        elif fact.busy:
            yield Finding(node, f"`{fact.last_command}` is still under way", "Wait until it has ended, then try again.")


def _led_by_others(places: Mapping[str, Place], facts: Mapping[str, NodeFacts], primary: str) -> Iterator[Finding]:
    """Yield where the cluster of now is not that of before: its data is the live one, and must not be overwritten."""
    of_address = {place.address: name for name, place in places.items()}
    for name, place in places.items():
        fact = facts[name].database_cluster
        if not place.inside or fact is None:
            continue
        named = of_address.get(fact.primary, fact.primary)
        if named != primary:
            what = f"names {named or 'nobody'} as its primary, and not {primary}, whose data that run keeps"
            remedy = (
                "The data of now is with another node, and going back would overwrite it. "
                "Make a new plan: `certbridge plan --database renew`."
            )
            yield Finding(name, what, remedy)
        elif name == primary and fact.error:
            remedy = "Mend the cause (`database cluster clear_error` takes the row away), or resume the run."
            yield Finding(name, f"says {fact.error!r}: nobody can come back to it like that", remedy)


def _old_files(removed: Mapping[str, Step], facts: Mapping[str, NodeFacts], now: datetime) -> Iterator[Finding]:
    remedy = "Go forward: `certbridge runs resume`, or a new plan; else there is the backup."
    for node, step in removed.items():
        names: list[str] = step.params["old"]
        if not names:
            yield Finding(node, "named no files before that run", "Go forward: finish the run, or use the backup.")
        for name in names:
            stored = facts[node].file(name)
            leaf = stored.certificates[0] if stored and stored.certificates else None
            if stored is None:
                yield Finding(node, f"{name}, in use before, is no longer there", remedy)
            elif leaf is not None and datetime.fromisoformat(leaf.not_valid_after) <= now:
                yield Finding(node, f"{name}, in use before, ended {leaf.not_valid_after[:10]}", remedy)


def _place(node: Node, removed: Step | None, facts: NodeFacts) -> Place:
    fact = facts.database_cluster or DatabaseFact(state="Disabled")
    role = str(removed.params["role"]) if removed else role_told(fact)
    if role not in {PRIMARY, CONNECTED}:
        role = REPLICA if node.database is DatabaseRole.JOINED else CONNECTED
    return Place(
        node=node.name,
        role=role,
        address=str(removed.params["address"]) if removed else (fact.me.address if fact.me else node.address),
        interface=node.database_interface,
        inside=not fact.disabled,
        old=FileSet.of(fact),
    )


def _uses(place: Place, files: FileSet) -> bool:
    """Return whether a node is in a cluster now, with just these files."""
    return place.inside and place.old is not None and place.old.names == files.names
