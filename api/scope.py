"""What somebody may see: the clusters of their grants, with nodes, lanes, runs and events of those.

What lies outside is not shown, and whoever asks for it by name hears that it is not there (404), so that names are not
told either. Acting asks for more: `api.auth.identity.check_clusters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from api.here import Server
from workflows.errors import InputError, NotAllowed, NotThere
from workflows.inventory import ResolvedFleet, select
from workflows.journal import Event, Kind, lists
from workflows.people import Permission, Person
from workflows.plan import Plan


def sees(who: Person, cluster: str) -> bool:
    """Return whether *who* may see *cluster*."""
    held = who.clusters(Permission.READ)
    return held is None or cluster in held


def visible(who: Person, fleet: ResolvedFleet) -> ResolvedFleet:
    """Return *fleet* with the clusters alone that *who* may see."""
    if who.clusters(Permission.READ) is None:
        return fleet
    return replace(fleet, clusters=tuple(one for one in fleet.clusters if sees(who, one.name)))


def scope_of(who: Person, here: Server) -> lists.Scope:
    """Return what *who* may see in lists of runs and events."""
    people = who.may(Permission.AUDIT)
    held = who.clusters(Permission.READ)
    if held is None:
        return lists.Scope(people=people)
    try:
        nodes = frozenset(node.name for node in visible(who, here.fleet()[1]).nodes)
    except InputError:  # the journal can be read while the inventory is being mended
        nodes = frozenset()
    return lists.Scope(clusters=held, nodes=nodes, people=people)


def lanes_seen(who: Person, here: Server, run: str) -> tuple[str, ...]:
    """Return the lanes of *run* that *who* may see. Raises: NotThere: there are none, or there is no such run."""
    here.check_run(run)
    found = here.journal.read(partial(lists.lanes_of, run=run))
    seen = tuple(lane for lane in found if sees(who, lane))
    if not seen and (found or who.clusters(Permission.READ) is not None):
        raise NotThere(f"There is no run {run} in the journal.", remedy="See the list of runs.")
    return seen


def lanes_asked(who: Person, here: Server, run: str, lane: str = "") -> tuple[str, ...]:
    """Return *lane* of *run* alone, or without one all lanes that *who* may see.

    Raises: NotThere: as `lanes_seen`, or *lane* is not among them; a hidden lane is answered as one that is not there.
    """
    seen = lanes_seen(who, here, run)
    if lane and lane not in seen:
        raise NotThere(f"Run {run} has no lane {lane}.", remedy=f"Its lanes are: {', '.join(seen[:20])}.")
    return (lane,) if lane else seen


def all_lanes(who: Person, here: Server, run: str, what: str) -> None:
    """Return when *who* may see all lanes of *run*, which *what* needs. Raises: NotThere, NotAllowed."""
    if lanes_seen(who, here, run) != here.journal.read(partial(lists.lanes_of, run=run)):
        raise NotAllowed(f"{what} is of all lanes of the run, and some are not of your clusters.")


def plan_seen(who: Person, plan: Plan) -> Plan:
    """Return *plan* cut down to the lanes that *who* may see; the digest is that of the whole plan, not of this."""
    lanes = tuple(lane for lane in plan.lanes if sees(who, lane.name))
    fleet = plan.fleet
    if who.clusters(Permission.READ) is not None:
        fleet = {**fleet, "clusters": [one for one in fleet.get("clusters", ()) if sees(who, one["name"])]}
    if len(lanes) == len(plan.lanes):
        return replace(plan, fleet=fleet)
    nodes = {step.node for lane in lanes for step in lane.steps()}
    hidden = {step.node for lane in plan.lanes for step in lane.steps()} - nodes
    hidden |= {lane.name for lane in plan.lanes if lane not in lanes}
    return replace(
        plan,
        fleet=fleet,
        lanes=lanes,
        wishes={name: wish for name, wish in plan.wishes.items() if sees(who, name.partition("/")[0])},
        notices=tuple(one for one in plan.notices if not any(name and name in one for name in hidden)),
        facts={node: digest for node, digest in plan.facts.items() if node in nodes},
    )


def data_seen(who: Person, event: Event, nodes: Iterable[str]) -> Mapping[str, Any]:
    """Return the data of *event* without the lanes and servers of a run that *who* may not see."""
    if who.clusters(Permission.READ) is None or event.kind not in {Kind.RUN_CREATED, Kind.RUN_CLOSED}:
        return event.data
    mine = frozenset(f"node:{node}" for node in nodes)

    def told(resource: str) -> bool:
        what, _, name = resource.partition(":")
        return resource in mine or (what == "cluster" and sees(who, name))

    found = dict(event.data)
    if "lanes" in found:
        found["lanes"] = [lane for lane in found["lanes"] if sees(who, lane)]
    for name in {"resources", "released"} & found.keys():
        found[name] = [one for one in found[name] if told(one)]
    return found


def chosen(
    who: Person, here: Server, clusters: Sequence[str] = (), nodes: Sequence[str] = (), certificates: Sequence[str] = ()
) -> tuple[ResolvedFleet, ResolvedFleet]:
    """Return the whole fleet, and the part of it that is named; nothing named means all that *who* may operate.

    Whether *who* may operate what is named is for the caller to check. Raises: InputError: a name is unknown to *who*.
    """
    whole = here.fleet()[1]
    held = who.clusters(Permission.OPERATE)
    if not clusters and not nodes and held is not None:
        clusters = [one.name for one in whole.clusters if one.name in held]
        if not clusters:
            raise NotAllowed(f"{who.name} may operate no cluster of this fleet.")
    return whole, select(visible(who, whole), clusters, nodes, certificates)
