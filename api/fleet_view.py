"""The fleet as people see it: inventory and last survey side by side, as the bodies that routes answer with.

Nothing here reads anything: `api.known` gives what the surveys said, `api.here` the inventory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from api.known import DATABASE_SERVICE, InUse, Known, NodeKnown, Served
from workflows.facts import CertificateFact
from workflows.inventory import CertificateWish, Cluster, Node, ResolvedFleet


class First(BaseModel):
    """What ends first on a server."""

    service: str
    file: str
    ends_at: datetime


class NodeRow(BaseModel):
    """A server in a list. `reachable` is null when nobody looked yet; `days_left` when no end is known.

    `database` is what the inventory plans, `database_state` what the server says. `changed_at` is when a run changed
    it after its last survey, so that what stands here is from before; else null.
    """

    node: str
    cluster: str
    address: str
    port: int
    release: str
    database: str
    database_state: str
    days_left: int | None
    first: First | None
    surveyed_at: datetime | None
    changed_at: datetime | None
    reachable: bool | None
    said: str
    remedy: str
    drift: int
    held_by: str | None


class CertificateRow(BaseModel):
    """A certificate in use by a service. `served` says whether the service's port shows the same one."""

    cluster: str
    node: str
    service: str
    enabled: bool | None
    file: str
    key: str
    bundle: str
    subject: str
    issuer: str
    names: list[str]
    fingerprint: str
    ends_at: datetime | None
    days_left: int | None
    served: Served
    served_fingerprint: str
    served_ends_at: datetime | None
    served_days_left: int | None


class DriftBody(BaseModel):
    """One place where file, setting and served certificate disagree."""

    service: str
    what: str


class ClusterRow(BaseModel):
    """A cluster in the fleet, with its servers."""

    cluster: str
    days_left: int | None
    reachable: int
    nodes: list[NodeRow]


class WishBody(BaseModel):
    """A certificate that the inventory asks for; `trusted_by` are those elsewhere who must be told."""

    name: str
    nodes: list[str]
    subject: str
    names: list[str]
    services: list[str]
    issuer: str
    key: str
    trusted_by: list[str]


class Trusted(BaseModel):
    """Whom a trust store trusts.

    `by` "leaf": it holds the very certificate of that service, so a new one breaks it; "issuer": it holds the CA that
    signed it.
    """

    node: str
    store: str
    file: str
    by: Literal["leaf", "issuer"]
    trusts: str
    trusts_node: str
    trusts_service: str


def node_row(node: Node, known: Known, held: Mapping[str, str], now: datetime) -> NodeRow:
    """Return the row of one server."""
    here, answer = known.nodes.get(node.name), known.answers.get(node.name)
    first = here.first() if here else None
    error = answer.error if answer else None
    ends = first.ends_at if first else None
    return NodeRow(
        node=node.name,
        cluster=node.cluster,
        address=node.address,
        port=node.port,
        release=here.release if here else node.release,
        database=node.database.value,
        database_state=here.database.value if here else "",
        days_left=days(ends, now),
        first=First(service=first.service, file=first.file, ends_at=ends) if first and ends else None,
        surveyed_at=here.at if here else None,
        changed_at=known.changed_at(node.name),
        reachable=error is None if answer else (True if here else None),
        said=str((error or {}).get("text", "")),
        remedy=str((error or {}).get("remedy", "")),
        drift=len(here.drift) if here else 0,
        held_by=held.get(f"node:{node.name}"),
    )


def certificate_rows(fleet: ResolvedFleet, known: Known, now: datetime) -> Iterator[CertificateRow]:
    """Yield what every service of every surveyed server uses."""
    for node in fleet.nodes:
        if (here := known.nodes.get(node.name)) is not None:
            yield from (certificate_row(node.cluster, here, used, now) for used in here.in_use)


def certificate_row(cluster: str, here: NodeKnown, used: InUse, now: datetime) -> CertificateRow:
    """Return the row of one certificate."""
    leaf, shown = used.leaf, used.shown
    shown_ends = datetime.fromisoformat(shown.not_valid_after) if shown else None
    return CertificateRow(
        cluster=cluster,
        node=here.node,
        service=used.service,
        enabled=used.enabled,
        file=used.file,
        key=used.key,
        bundle=used.bundle,
        subject=leaf.subject if leaf else "",
        issuer=leaf.issuer if leaf else "",
        names=list(leaf.names) if leaf else [],
        fingerprint=leaf.fingerprint if leaf else "",
        ends_at=used.ends_at,
        days_left=days(used.ends_at, now),
        served=used.served,
        served_fingerprint=shown.fingerprint if shown else "",
        served_ends_at=shown_ends,
        served_days_left=days(shown_ends, now),
    )


def cluster_row(cluster: Cluster, known: Known, held: Mapping[str, str], now: datetime) -> ClusterRow:
    """Return a cluster with the rows of its servers."""
    rows = [node_row(node, known, held, now) for node in cluster.nodes]
    return ClusterRow(
        cluster=cluster.name,
        days_left=min((row.days_left for row in rows if row.days_left is not None), default=None),
        reachable=sum(row.reachable is True for row in rows),
        nodes=rows,
    )


def wish_body(wish: CertificateWish) -> WishBody:
    """Return a certificate that is wanted."""
    return WishBody(
        name=wish.name,
        nodes=list(wish.nodes),
        subject=", ".join(f"{name}={value}" for name, value in wish.subject),
        names=[*wish.dns, *wish.ip, *wish.email],
        services=list(wish.services),
        issuer=wish.issuer,
        key=wish.key.value,
        trusted_by=list(wish.trusted_by),
    )


def trusted(here: NodeKnown, known: Known, seen: Mapping[str, Any]) -> Iterator[Trusted]:
    """Yield whom the trust stores of a server trust, among the servers in *seen* (others are not named)."""
    by_issuer = _by_issuer(known, seen) if here.stores else {}
    for store in here.stores:
        said = {"node": here.node, "store": store.name, "file": store.file}
        for held in store.certificates:
            for node, used in known.users.get(held.fingerprint, ()):
                if node in seen:
                    yield Trusted(**said, by="leaf", trusts=held.subject, trusts_node=node, trusts_service=used.service)
            for node, used in by_issuer.get(held.subject, ()):
                yield Trusted(**said, by="issuer", trusts=held.subject, trusts_node=node, trusts_service=used.service)


def _by_issuer(known: Known, seen: Mapping[str, Any]) -> dict[str, list[tuple[str, InUse]]]:
    found: dict[str, list[tuple[str, InUse]]] = {}
    for node in seen:
        for used in known.nodes[node].in_use if node in known.nodes else ():
            if used.leaf is not None and used.leaf.issuer and used.service != DATABASE_SERVICE:
                found.setdefault(used.leaf.issuer, []).append((node, used))
    return found


def days(ends: datetime | None, now: datetime) -> int | None:
    """Return the whole days left, negative when it is over, None when no end is known."""
    return (ends - now).days if ends else None


def certificate_fact(fact: CertificateFact, now: datetime) -> dict[str, Any]:
    """Return a certificate that was read from a server, for bodies that show it whole."""
    ends = datetime.fromisoformat(fact.not_valid_after)
    return {
        "fingerprint": fact.fingerprint,
        "subject": fact.subject,
        "issuer": fact.issuer,
        "names": list(fact.names),
        "ends_at": ends,
        "days_left": days(ends, now),
    }
