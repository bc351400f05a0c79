"""Small fleets and their facts, made without a server: who wants what, and what a survey would have read.

cluster = a_cluster("seoul", ("a1", "a2"), wishes_on(("a1", "a2")))
fleet = a_fleet(cluster)
facts = facts_of(fleet)                       every service on, its pair "<stem>.key" ends in 12 days
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from workflows.facts import (
    CertificateFact,
    DatabaseState,
    FileFact,
    NodeFacts,
    PortFact,
    PortState,
    ServiceFact,
    TrustFact,
)
from workflows.inventory import (
    CertificateWish,
    Cluster,
    FilesPolicy,
    Issuer,
    IssuerKind,
    KeyOrigin,
    Node,
    Per,
    ResolvedFleet,
)
from workflows.inventory.values import DatabaseRole, KeyKind
from workflows.mmp.services import Probe, Takes, services_of, trust_stores_of
from workflows.plan import Plan
from workflows.procedures.renewal import plan_renewal

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
WITHIN = timedelta(days=30)
# Which pair serves which services, by release: several services may share one pair.
STEMS = {
    "3.9": {
        "webadmin": "callbridge",
        "callbridge": "callbridge",
        "webbridge3.https": "webbridge",
        "webbridge3.c2w": "webbridge",
        "turn": "turn",
        "recorder": "recorder",
        "streamer": "streamer",
        "scheduler.https": "scheduler",
        "scheduler.c2w": "scheduler",
    },
    "2.9": {
        "webadmin": "callbridge",
        "callbridge": "callbridge",
        "webbridge": "webbridge",
        "xmpp": "xmpp",
        "turn": "turn",
        "loadbalancer": "loadbalancer",
        "recorder": "recorder",
        "streamer": "streamer",
    },
}
# Which store pins the leaves of which pair, of all nodes of the cluster.
PINNED = {
    "3.9": {
        "callbridge.c2w": "webbridge",
        "callbridge.cluster": "callbridge",
        "webbridge3.c2w": "callbridge",
        "scheduler.c2w": "webbridge",
    },
    "2.9": {"webbridge.trust": "callbridge", "xmpp.cluster": "xmpp", "loadbalancer.auth": "callbridge"},
}


def a_wish(
    name: str = "callbridge",
    services: Iterable[str] = ("webadmin", "callbridge"),
    nodes: tuple[str, ...] = ("a1",),
    **changes: Any,
) -> CertificateWish:
    """Return a wish for *nodes*; its names are those of the first node."""
    host = f"{nodes[0]}.example.com"
    wish = CertificateWish(
        name=name,
        nodes=nodes,
        per=Per.NODE if len(nodes) == 1 else Per.CLUSTER,
        key=KeyOrigin.NODE,
        key_kind=KeyKind.RSA2048,
        key_file="",
        csr_file="",
        subject=(("CN", host), ("O", "Example")),
        dns=(host,),
        ip=(),
        email=(),
        services=tuple(services),
        issuer="manual",
        files=FilesPolicy.FRESH,
        trusted_by=(),
        allow_key_download=len(nodes) > 1,
    )
    return replace(wish, **changes)


def usual_wishes(nodes: Iterable[str], release: str = "3.9", **changes: Any) -> tuple[CertificateWish, ...]:
    """Return a wish for every pair of every node, as STEMS says."""
    stems = STEMS[release]
    return tuple(
        a_wish(stem, [service for service in stems if stems[service] == stem], (node,), **changes)
        for stem in dict.fromkeys(stems.values())
        for node in nodes
    )


def a_node(name: str, cluster: str = "seoul", **changes: Any) -> Node:
    """Return a node of the inventory."""
    node = Node(
        name=name,
        cluster=cluster,
        address=f"{name}.example.com",
        port=22,
        interface="a",
        release="",
        database=DatabaseRole.NONE,
        database_interface="a",
        credential="cms",
    )
    return replace(node, **changes)


def a_cluster(name: str, nodes: Iterable[str], wishes: Iterable[CertificateWish]) -> Cluster:
    """Return a cluster."""
    return Cluster(name=name, nodes=tuple(a_node(node, name) for node in nodes), certificates=tuple(wishes))


def a_fleet(*clusters: Cluster, **changes: Any) -> ResolvedFleet:
    """Return a fleet with both gates."""
    fleet = ResolvedFleet(
        name="demo",
        four_eyes=True,
        go_gate=True,
        fail_limit=0,
        retention_days=30,
        minimum_days=14,
        issuers=(Issuer(name="manual", kind=IssuerKind.MANUAL),),
        clusters=clusters,
    )
    return replace(fleet, **changes)


def lone(*wishes: CertificateWish, **changes: Any) -> ResolvedFleet:
    """Return a fleet of one node, a1, that wants *wishes* (default: the usual ones of 3.9)."""
    return a_fleet(a_cluster("seoul", ("a1",), wishes or usual_wishes(("a1",))), **changes)


def fingerprint_of(node: str, stem: str) -> str:
    """Return the fingerprint of the leaf that *stem*.crt holds on *node*."""
    return hashlib.sha256(f"{node}/{stem}".encode()).hexdigest()


def leaf_of(node: str, stem: str, *, days: float = 12) -> CertificateFact:
    """Return the leaf that *stem*.crt holds on *node*; it ends in *days*."""
    host = f"{node}.example.com"
    return CertificateFact(
        fingerprint=fingerprint_of(node, stem),
        spki_sha256=fingerprint_of(node, f"{stem}.key"),
        subject=host,
        issuer="Old CA",
        not_valid_after=(NOW + timedelta(days=days)).isoformat(),
        names=(host,),
    )


def root_fact(name: str = "Old CA") -> CertificateFact:
    """Return a CA certificate."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    ends = (NOW + timedelta(days=3000)).isoformat()
    return CertificateFact(fingerprint=digest, spki_sha256=digest, subject=name, issuer=name, not_valid_after=ends)


def file_of(name: str, *certificates: CertificateFact) -> FileFact:
    """Return a file that holds *certificates*."""
    return FileFact(name=name, size=1000, sha256=hashlib.sha256(name.encode()).hexdigest(), certificates=certificates)


def node_facts(
    node: str,
    release: str = "3.9",
    *,
    peers: Iterable[str] = (),
    days: float = 12,
    off: Iterable[str] = (),
    unseen: Iterable[str] = (),
    pin_leaves: bool = True,
    database: DatabaseState = DatabaseState.DISABLED,
    stems: Mapping[str, str] | None = None,
    **changes: Any,
) -> NodeFacts:
    """Return what a survey would read from a node whose pairs end in *days* days; *off* and *unseen* name services."""
    number = (int(release[0]), int(release[2]))
    stems = STEMS[release] if stems is None else stems
    services: list[ServiceFact] = []
    ports: list[PortFact] = []
    files: dict[str, FileFact] = {"ca.crt": file_of("ca.crt", root_fact())}
    for entry in services_of(number):
        stem = stems.get(entry.name)
        if stem is None:
            continue
        leaf = leaf_of(node, stem, days=days)
        chained = entry.takes is Takes.FULL_CHAIN
        certificate = f"{stem}-fullchain.crt" if chained else f"{stem}.crt"
        # TURN from 3.0 on takes a full chain, and may still name a bundle from before.
        bundle = f"{stem}-bundle.crt" if entry.takes is not Takes.TRUST and entry.bundle_rows else ""
        files[f"{stem}.key"] = FileFact(name=f"{stem}.key", size=1700)
        files[certificate] = file_of(certificate, leaf, *([root_fact()] if chained else []))
        if bundle:
            files[bundle] = file_of(bundle, root_fact())
        services.append(
            ServiceFact(
                service=entry.name,
                enabled=entry.name not in off,
                key=f"{stem}.key",
                certificate=certificate,
                bundle="loadbalancer-trust.crt" if entry.takes is Takes.TRUST else bundle,
                port=entry.default_port,
                tag="edge" if entry.process == "loadbalancer" else "",
            )
        )
        if entry.name not in off and entry.probe is not Probe.NONE and entry.default_port:
            seen = entry.name not in unseen
            ports.append(
                PortFact(
                    service=entry.name,
                    address=f"{node}.example.com",
                    port=entry.default_port,
                    state=PortState.SERVED if seen else PortState.NOT_PROBED,
                    chain=(leaf,) if seen else (),
                )
            )
    trust: list[TrustFact] = []
    for store in trust_stores_of(number):
        stem = PINNED[release].get(store.name)
        if stem is None or stem not in stems.values() or not any(one.startswith(store.process) for one in stems):
            continue
        file = f"{store.name.replace('.', '-')}.crt" if store.name != "loadbalancer.auth" else "loadbalancer-trust.crt"
        held = [leaf_of(peer, stem, days=days) for peer in (peers or (node,))] if pin_leaves else []
        files[file] = file_of(file, *held, *([] if pin_leaves else [root_fact()]))
        trust.append(TrustFact(store=store.name, file=file))
    facts = NodeFacts(
        node=node,
        at=NOW.isoformat(),
        release=f"{release}.1",
        hostname=node,
        clock_skew_s=0.0,
        database=database,
        database_primary="",
        services=tuple(services),
        trust=tuple(trust),
        files=tuple(sorted(files.values(), key=lambda one: one.name)),
        ports=tuple(ports),
    )
    return replace(facts, **changes)


def facts_of(fleet: ResolvedFleet, release: str = "3.9", **changes: Any) -> dict[str, NodeFacts]:
    """Return the facts of every node of *fleet*; in each cluster the stores pin the leaves of all its nodes."""
    return {
        node.name: node_facts(node.name, release, peers=[one.name for one in cluster.nodes], **changes)
        for cluster in fleet.clusters
        for node in cluster.nodes
    }


def plan_of(fleet: ResolvedFleet, facts: Mapping[str, NodeFacts] | None = None, **asked: Any) -> Plan:
    """Return the plan that renews what ends within thirty days of NOW."""
    return plan_renewal(fleet, facts or facts_of(fleet), **{"now": NOW, "within": WITHIN, **asked})
