"""A part of a resolved fleet, chosen by names: what `--cluster`, `--node` and `--certificate` mean."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from workflows.errors import InputError
from workflows.inventory.checks import did_you_mean
from workflows.inventory.values import CertificateWish, Cluster, ResolvedFleet


def select(
    fleet: ResolvedFleet,
    clusters: Collection[str] = (),
    nodes: Collection[str] = (),
    certificates: Collection[str] = (),
) -> ResolvedFleet:
    """Return *fleet* cut down to what is named; an empty selector names everything, several must all hold.

    *nodes* keeps these nodes alone, and a pair that nodes share is then wanted on those of them that are left: whoever
    must know their neighbours (trust stores that pin a leaf) looks them up in the whole fleet. *certificates* keeps
    all nodes of a cluster that has one of them. Clusters of which nothing is left are dropped.
    Raises: InputError: a name is unknown (all of them are told, with what may be meant), or nothing is left.
    """
    _check_known("cluster", clusters, [cluster.name for cluster in fleet.clusters])
    _check_known("node", nodes, [node.name for node in fleet.nodes])
    _check_known("certificate", certificates, [wish.name for each in fleet.clusters for wish in each.certificates])
    kept = tuple(
        part
        for cluster in fleet.clusters
        if not clusters or cluster.name in clusters
        if (part := _part(cluster, frozenset(nodes), frozenset(certificates))) is not None
    )
    left = {node.name for cluster in kept for node in cluster.nodes}
    missing = [name for name in nodes if name not in left]
    if missing or not kept:
        what = f"{', '.join(missing)}: not in the selection" if missing else "nothing is selected"
        raise InputError(what, remedy="The selectors must all hold at once; leave one out.")
    return replace(fleet, clusters=kept)


def _part(cluster: Cluster, nodes: frozenset[str], certificates: frozenset[str]) -> Cluster | None:
    kept = tuple(node for node in cluster.nodes if not nodes or node.name in nodes)
    names = {node.name for node in kept}
    wishes = tuple(
        wish
        for each in cluster.certificates
        if not certificates or each.name in certificates
        if (wish := _narrowed(each, names)).nodes
    )
    if not kept or (certificates and not wishes):
        return None
    return replace(cluster, nodes=kept, certificates=wishes)


def _narrowed(wish: CertificateWish, names: set[str]) -> CertificateWish:
    return replace(wish, nodes=tuple(node for node in wish.nodes if node in names))


def _check_known(kind: str, wanted: Collection[str], known: Collection[str]) -> None:
    there = frozenset(known)
    unknown = [name for name in wanted if name not in there]
    if not unknown:
        return
    near = [hint for name in unknown if (hint := did_you_mean(name, known))]
    listing = f"Known: {', '.join(dict.fromkeys(known))}." if len(there) <= 20 else "See `certbridge fleet show`."
    raise InputError(f"unknown {kind} {', '.join(map(repr, unknown))}", remedy=" ".join(near) or listing)
