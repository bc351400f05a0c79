"""The fleet: clusters, servers with what their last survey found, and certificates with the days they have left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api import fleet_view
from api.auth.identity import asks
from api.fleet_view import CertificateRow, ClusterRow, DriftBody, NodeRow, Trusted, WishBody
from api.here import Here, Server
from api.known import known
from api.planning import SPAN, WORKER_WITHIN_S, span
from api.problems import FindingBody
from api.schemas import Limit, Offset, Page, page_of
from api.scope import visible
from workflows.errors import NotThere
from workflows.facts import NodeFacts
from workflows.inventory import ResolvedFleet
from workflows.journal import runs, stock
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["fleet"])
Reader = Annotated[Person, asks(Permission.READ)]
Sort = Literal["days_left", "-days_left", "node", "cluster", "service"]
Within = Annotated[str, Query(pattern=rf"^({SPAN})?$", description="Only what ends within this time: 30d, 12h, 2w.")]


class FleetBody(BaseModel):
    """The whole fleet. `workers` says how many are alive; without one nothing can be surveyed or run.

    `changed` servers were changed by a run after their last survey: their days are from before.
    """

    fleet: str
    nodes: int
    days_left: int | None
    reachable: int
    surveyed: int
    changed: int
    workers: int
    clusters: list[ClusterRow]
    warnings: list[FindingBody]


class InventoryBody(BaseModel):
    """The inventory with every default filled in, as `certbridge fleet show -o json` shows it; no secrets are in it.

    For a person of some clusters it holds those alone.
    """

    source: str
    inventory: dict[str, Any]
    warnings: list[FindingBody]


class CertificateBody(BaseModel):
    """A certificate in a file of a server, or shown by a port."""

    fingerprint: str
    subject: str
    issuer: str
    names: list[str]
    ends_at: datetime
    days_left: int


class FileBody(BaseModel):
    """A file on a server. Keys have a size, and nothing else that is known of them."""

    name: str
    size: int
    sha256: str
    certificates: list[CertificateBody]


class PortBody(BaseModel):
    """What a port shows, leaf first."""

    service: str
    address: str
    port: int
    state: str
    note: str
    chain: list[CertificateBody]


class MemberBody(BaseModel):
    """A row of the database cluster's status."""

    address: str
    role: str
    me: bool
    connected: bool
    in_sync: bool
    text: str


class DatabaseBody(BaseModel):
    """What the server says of its place in the database cluster."""

    state: str
    primary: str
    error: str
    last_command: str
    progress: str
    expired: list[str]
    members: list[MemberBody]


class NodeBody(NodeRow):
    """A server with all that is known of it. `trusts` is whom it trusts, `trusted_by` who trusts it."""

    hostname: str
    clock_skew_s: float | None
    services: list[CertificateRow]
    files: list[FileBody]
    ports: list[PortBody]
    database_cluster: DatabaseBody | None
    differs: list[DriftBody]
    trusts: list[Trusted]
    trusted_by: list[Trusted]
    wishes: list[WishBody]


class ClusterBody(ClusterRow):
    """A cluster: servers, the certificates that are wanted, and who trusts whom by the stores that were found."""

    wishes: list[WishBody]
    trusts: list[Trusted]
    certificates: list[CertificateRow]


@router.get("/fleet")
def show_fleet(who: Reader, here: Here) -> FleetBody:
    """Show all clusters with their servers, days left and whether they answered last."""
    fleet, held, now = seen_fleet(who, here), holders(here), datetime.now(UTC)
    seen = known(here)
    clusters = [fleet_view.cluster_row(one, seen, held, now) for one in fleet.clusters]
    rows = [row for one in clusters for row in one.nodes]
    return FleetBody(
        fleet=fleet.name,
        nodes=len(rows),
        days_left=min((one.days_left for one in clusters if one.days_left is not None), default=None),
        reachable=sum(one.reachable for one in clusters),
        surveyed=sum(row.surveyed_at is not None for row in rows),
        changed=sum(row.changed_at is not None for row in rows),
        workers=len(here.journal.read(partial(stock.workers, within_s=WORKER_WITHIN_S))),
        clusters=clusters,
        warnings=_warnings(who, here),
    )


@router.get("/fleet/inventory")
def show_inventory(who: Reader, here: Here) -> InventoryBody:
    """Show the inventory that is in force here, resolved; faults in it are a problem with all of them."""
    resolved = visible(who, here.fleet()[1]).to_json()
    return InventoryBody(source=here.fleet()[0].source, inventory=resolved, warnings=_warnings(who, here))


@router.get("/nodes")
def list_nodes(who: Reader, here: Here, cluster: str = "", limit: Limit = 50, offset: Offset = 0) -> Page[NodeRow]:
    """List servers in the order of the inventory."""
    fleet, held, now = seen_fleet(who, here, cluster), holders(here), datetime.now(UTC)
    nodes, seen = fleet.nodes, known(here)
    items = [fleet_view.node_row(node, seen, held, now) for node in nodes[offset : offset + limit]]
    return page_of(items, len(nodes), limit, offset)


@router.get("/nodes/{node}")
def show_node(who: Reader, here: Here, node: str) -> NodeBody:
    """Show one server: services, files, what its ports show, its database, and who trusts whom."""
    fleet, now = seen_fleet(who, here), datetime.now(UTC)
    at = _named(fleet, node)
    all_known, peers = known(here), {one.name: one for one in fleet.nodes}
    row = fleet_view.node_row(at, all_known, holders(here), now)
    mine = all_known.nodes.get(node)
    latest = here.journal.read(partial(stock.latest_facts, nodes=[node])).get(node)
    facts = NodeFacts.from_json(latest[2]) if latest else None
    cluster = fleet.cluster(at.cluster)
    trusts = [
        link
        for name in peers
        if (one := all_known.nodes.get(name)) is not None
        for link in fleet_view.trusted(one, all_known, peers if name == node else {node: at})
    ]
    return NodeBody(
        **row.model_dump(),
        hostname=facts.hostname if facts else "",
        clock_skew_s=facts.clock_skew_s if facts else None,
        services=[fleet_view.certificate_row(at.cluster, mine, used, now) for used in mine.in_use] if mine else [],
        files=_files(facts, now),
        ports=_ports(facts, now),
        database_cluster=_database(facts),
        differs=[DriftBody(service=one.service, what=one.what) for one in mine.drift] if mine else [],
        trusts=[link for link in trusts if link.node == node],
        trusted_by=[link for link in trusts if link.trusts_node == node and link.node != node],
        wishes=[fleet_view.wish_body(wish) for wish in cluster.wishes_on(node)],
    )


@router.get("/clusters/{cluster}")
def show_cluster(who: Reader, here: Here, cluster: str) -> ClusterBody:
    """Show one cluster: its servers, what is wanted, what is in use, and who trusts whom."""
    fleet, now = seen_fleet(who, here), datetime.now(UTC)
    mine = seen_fleet(who, here, cluster)
    all_known, at = known(here), mine.clusters[0]
    peers = {one.name: one for one in fleet.nodes}
    inside = {one.name for one in at.nodes}
    links = [
        link
        for name in peers
        if (one := all_known.nodes.get(name)) is not None
        for link in fleet_view.trusted(one, all_known, peers if name in inside else {n: peers[n] for n in inside})
    ]
    row = fleet_view.cluster_row(at, all_known, holders(here), now)
    return ClusterBody(
        **dict(row),
        wishes=[fleet_view.wish_body(wish) for wish in at.certificates],
        trusts=links,
        certificates=list(fleet_view.certificate_rows(mine, all_known, now)),
    )


@router.get("/certificates")
def list_certificates(
    who: Reader,
    here: Here,
    cluster: str = "",
    node: str = "",
    within: Within = "",
    sort: Sort = "days_left",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Page[CertificateRow]:
    """List the certificates that services use, those that end first before the others."""
    fleet, now = seen_fleet(who, here, cluster), datetime.now(UTC)
    until = now + span(within) if within else None
    if node:
        _named(fleet, node)
    nodes = known(here).nodes
    found = [
        (one.cluster, seen, used)
        for one in fleet.nodes
        if (not node or one.name == node) and (seen := nodes.get(one.name)) is not None
        for used in seen.in_use
        if until is None or (used.ends_at is not None and used.ends_at <= until)
    ]
    # Sorted before the bodies are made: of thousands only a page is shown. What has no end goes last.
    keys: dict[str, Any] = {
        "node": lambda one: (one[1].node, one[2].service),
        "cluster": lambda one: (one[0], one[1].node, one[2].service),
        "service": lambda one: (one[2].service, one[1].node),
    }
    way = -1 if sort.startswith("-") else 1
    found.sort(key=keys.get(sort, lambda one: (one[2].ends_at is None, way * _seconds(one[2].ends_at), one[1].node)))
    items = [fleet_view.certificate_row(*one, now) for one in found[offset : offset + limit]]
    return page_of(items, len(found), limit, offset)


def seen_fleet(who: Person, here: Server, cluster: str = "") -> ResolvedFleet:
    """Return the part of the fleet that *who* may see, *cluster* alone when it is named. Raises: NotThere."""
    fleet = visible(who, here.fleet()[1])
    if not cluster:
        return fleet
    found = tuple(one for one in fleet.clusters if one.name == cluster)
    if not found:
        raise NotThere(f"There is no cluster {cluster} in the inventory.", remedy="See /api/fleet.")
    return replace(fleet, clusters=found)


def holders(here: Server) -> dict[str, str]:
    """Return which run holds which server or cluster."""
    return dict(here.journal.read(runs.reservations))


def _warnings(who: Person, here: Server) -> list[FindingBody]:
    """Return what works in the inventory, but hardly as meant, to whoever may see all of it: lines are told."""
    whole = who.clusters(Permission.READ) is None
    found = here.fleet()[0].warnings if whole else ()
    return [FindingBody(where=one.where, what=one.what, remedy=one.remedy) for one in found]


def _named(fleet: ResolvedFleet, node: str) -> Any:
    found = next((one for one in fleet.nodes if one.name == node), None)
    if found is None:
        raise NotThere(f"There is no server {node} in the inventory.", remedy="See /api/nodes.")
    return found


def _seconds(ends: datetime | None) -> float:
    return ends.timestamp() if ends else 0.0


def _certificates(found: Iterable[Any], now: datetime) -> list[CertificateBody]:
    return [CertificateBody(**fleet_view.certificate_fact(one, now)) for one in found]


def _files(facts: NodeFacts | None, now: datetime) -> list[FileBody]:
    return [
        FileBody(name=one.name, size=one.size, sha256=one.sha256, certificates=_certificates(one.certificates, now))
        for one in (facts.files if facts else ())
    ]


def _ports(facts: NodeFacts | None, now: datetime) -> list[PortBody]:
    return [
        PortBody(
            service=one.service,
            address=one.address,
            port=one.port,
            state=one.state.value,
            note=one.note,
            chain=_certificates(one.chain, now),
        )
        for one in (facts.ports if facts else ())
    ]


def _database(facts: NodeFacts | None) -> DatabaseBody | None:
    found = facts.database_cluster if facts else None
    if found is None:
        return None
    return DatabaseBody(
        state=found.state,
        primary=found.primary,
        error=found.error,
        last_command=found.last_command,
        progress=found.progress,
        expired=list(found.expired),
        members=[
            MemberBody(
                address=one.address,
                role=one.role,
                me=one.me,
                connected=one.connected,
                in_sync=one.in_sync,
                text=one.text,
            )
            for one in found.members
        ],
    )
