"""From what is written to what is meant: defaults filled in, placeholders replaced, paths joined to the file's folder.

A value is looked for at the thing itself, then in the defaults of node, cluster and fleet, then in the built-in ones.
A `per: node` certificate becomes one wish for each node. Pure text work: no file is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from workflows.inventory.approvals import GATES, Approval, ApprovalStage
from workflows.inventory.model import (
    SUBJECT_ORDER,
    WrittenApproval,
    WrittenCertificate,
    WrittenCluster,
    WrittenDatabaseCluster,
    WrittenDatabaseNames,
    WrittenDatabasePair,
    WrittenDatabaseServer,
    WrittenDefaults,
    WrittenFleet,
    WrittenIssuer,
    WrittenNode,
)
from workflows.inventory.values import (
    CertificateWish,
    Cluster,
    DatabasePair,
    DatabaseRole,
    DatabaseWish,
    FilesPolicy,
    Issuer,
    IssuerKind,
    KeyKind,
    KeyOrigin,
    Node,
    Per,
    Proof,
    ResolvedFleet,
)

BUILT_IN = WrittenDefaults(
    credential="cms",
    port=22,
    interface="a",
    database=DatabaseRole.NONE,
    per=Per.NODE,
    key=KeyOrigin.NODE,
    key_kind=KeyKind.RSA2048,
    files=FilesPolicy.FRESH,
    issuer="manual",
)
PLACEHOLDERS = ("node", "cluster", "fleet")
PLACEHOLDER = re.compile(r"\{([A-Za-z_]*)\}")
DATABASE_CLIENT = "postgres"  # the CN by which the database knows its clients (row S1)
_LONGEST_IN_CN = 48  # of a cluster's name, so that "-database-server" still fits into the 64 characters of a CN
LOCAL_DAYS = 200  # how long `local` certificates live: the longest that public CAs give since March 2026 (SC-081v3)


def resolve(written: WrittenFleet, base_dir: str) -> ResolvedFleet:
    """Return *written* with everything filled in; relative paths are joined to *base_dir*, the inventory's folder."""
    issuers = {"manual": WrittenIssuer(kind=IssuerKind.MANUAL), **written.issuers}
    return ResolvedFleet(
        name=written.fleet,
        four_eyes=written.four_eyes,
        go_gate=written.go_gate,
        fail_limit=written.fail_limit,
        retention_days=written.retention_days,
        minimum_days=written.minimum_days,
        issuers=tuple(_issuer(name, issuer, base_dir) for name, issuer in issuers.items()),
        clusters=tuple(_cluster(written, cluster, base_dir) for cluster in written.clusters),
        approvals=tuple(_approval(gate, written.approvals[gate]) for gate in GATES if gate in written.approvals),
    )


def _approval(gate: str, written: WrittenApproval) -> Approval:
    return Approval(
        gate=gate,
        stages=tuple(ApprovalStage(group=one.group or "", needs=one.needs) for one in written.stages),
        decide_within_days=int(written.decide_within.removesuffix("d")),
        valid_for_days=int(written.valid_for.removesuffix("d")),
        remind_after_hours=_hours(written.remind_after),
        escalate_after_hours=_hours(written.escalate_after),
        escalate_to=written.escalate_to or "",
    )


def _hours(span: str) -> int:
    return int(span[:-1]) * (24 if span.endswith("d") else 1)


def _cluster(fleet: WrittenFleet, cluster: WrittenCluster, base_dir: str) -> Cluster:
    nodes = tuple(node_of(fleet, cluster, node) for node in cluster.nodes)
    return Cluster(
        name=cluster.name,
        nodes=nodes,
        certificates=tuple(
            wish for certificate in cluster.certificates for wish in wishes_of(fleet, cluster, certificate, base_dir)
        ),
        database=database_of(fleet, cluster, nodes),
    )


def node_of(fleet: WrittenFleet, cluster: WrittenCluster, node: WrittenNode) -> Node:
    """Return *node* with everything filled in."""
    levels = (node, node.defaults, cluster.defaults, fleet.defaults, BUILT_IN)
    interface = _first("interface", levels)
    return Node(
        name=node.name,
        cluster=cluster.name,
        address=node.address,
        port=_first("port", levels),
        interface=interface,
        release=node.release or cluster.release or fleet.release or "",
        database=_first("database", levels),
        database_interface=_first("database_interface", levels) or interface,
        database_address=node.database_address or "",
        credential=_first("credential", levels),
        proof=tuple(
            Proof(
                service=service,
                address=proof.address or (service == "database" and node.database_address) or node.address,
                port=proof.port or 0,
                reachable=proof.reachable,
            )
            for service, proof in node.proof.items()
        ),
    )


def wishes_of(
    fleet: WrittenFleet, cluster: WrittenCluster, certificate: WrittenCertificate, base_dir: str
) -> tuple[CertificateWish, ...]:
    """Return the wishes that *certificate* means: one for each of its nodes, or one that they share.

    Nodes that the cluster does not have are left out, and unknown placeholders left as they stand: `rules` names them.
    """
    nodes = [node for node in cluster.nodes if certificate.nodes is None or node.name in certificate.nodes]
    if per_of(fleet, cluster, certificate) is Per.CLUSTER:
        return (_wish(fleet, cluster, certificate, nodes, None, base_dir),) if nodes else ()
    return tuple(_wish(fleet, cluster, certificate, [node], node, base_dir) for node in nodes)


def database_of(fleet: WrittenFleet, cluster: WrittenCluster, nodes: Iterable[Node]) -> DatabaseWish:
    """Return the database certificates of *cluster*, whose resolved *nodes* these are.

    Of the defaults only `subject` counts. What it says with {node} is left out: these pairs belong to no single node.
    """
    written = cluster.database_cluster or WrittenDatabaseCluster()
    words = {"cluster": cluster.name, "fleet": fleet.fleet}
    joined = [words | {"node": node.name} for node in nodes if node.database is DatabaseRole.JOINED]
    common: dict[str, str] = {}
    for defaults in (fleet.defaults, cluster.defaults):
        common |= defaults.subject.pairs() if defaults.subject else {}
    common = {attribute: text for attribute, text in common.items() if "{node}" not in text}

    def pair(name: str, common_name: str, said: WrittenDatabasePair) -> DatabasePair:
        subject = {"CN": common_name} | common | said.subject.pairs()
        names = said.subject_alt_names if isinstance(said, WrittenDatabaseServer) else WrittenDatabaseNames()
        return DatabasePair(
            basename=said.name or name,
            subject=tuple((each, fill_in(subject[each], words)) for each in SUBJECT_ORDER if each in subject),
            dns=_fill_in_all(names.dns, joined),
            ip=_fill_in_all(names.ip, joined),
        )

    short = cluster.name[:_LONGEST_IN_CN]
    return DatabaseWish(
        issuer=written.issuer,
        key=KeyOrigin(written.key),
        key_kind=written.key_kind or KeyKind.RSA2048,
        keep_ca=written.keep_ca,
        ca=pair("dbca", f"{short}-database-ca", written.ca),
        server=pair("dbserver", f"{short}-database-server", written.server),
        client=pair("dbclient", DATABASE_CLIENT, written.client),
    )


def per_of(fleet: WrittenFleet, cluster: WrittenCluster, certificate: WrittenCertificate) -> Per:
    """Return whether *certificate* is one pair for each node or one that they share."""
    per: Per = _first("per", (certificate, cluster.defaults, fleet.defaults, BUILT_IN))
    return per


def fill_in(text: str, words: Mapping[str, str]) -> str:
    """Return *text* with each {word} replaced that *words* knows; others stay."""
    return PLACEHOLDER.sub(lambda found: words.get(found[1], found[0]), text)


def _wish(
    fleet: WrittenFleet,
    cluster: WrittenCluster,
    certificate: WrittenCertificate,
    nodes: list[WrittenNode],
    only: WrittenNode | None,
    base_dir: str,
) -> CertificateWish:
    """Return one wish for *nodes*; *only* is the node whose own pair it is, None for a shared one."""
    own = (only.defaults,) if only else ()
    levels = (certificate, *own, cluster.defaults, fleet.defaults, BUILT_IN)
    words = {"cluster": cluster.name, "fleet": fleet.fleet} | ({"node": only.name} if only else {})
    subject: dict[str, str] = {}
    for defaults in (fleet.defaults, cluster.defaults, *own):
        subject |= defaults.subject.pairs() if defaults.subject else {}
    subject |= certificate.subject.pairs()
    names = certificate.subject_alt_names
    each = [words | {"node": node.name} for node in nodes]
    return CertificateWish(
        name=certificate.name,
        nodes=tuple(node.name for node in nodes),
        per=Per.NODE if only else Per.CLUSTER,
        key=_first("key", levels),
        key_kind=_first("key_kind", levels),
        key_file=_join(base_dir, fill_in(certificate.key_file or "", words)),
        csr_file=_join(base_dir, fill_in(certificate.csr_file or "", words)),
        subject=tuple(
            (attribute, fill_in(subject[attribute], words)) for attribute in SUBJECT_ORDER if attribute in subject
        ),
        dns=_fill_in_all(names.dns, each),
        ip=_fill_in_all(names.ip, each),
        email=_fill_in_all(names.email, each),
        services=certificate.services,
        issuer=_first("issuer", levels),
        files=_first("files", levels),
        trusted_by=certificate.trusted_by,
        allow_key_download=certificate.allow_key_download,
    )


def _fill_in_all(texts: tuple[str, ...], each: list[dict[str, str]]) -> tuple[str, ...]:
    """Return *texts* filled in for every node in turn, each result once: a shared certificate names all its nodes."""
    return tuple(dict.fromkeys(fill_in(text, words) for text in texts for words in each))


def _issuer(name: str, issuer: WrittenIssuer, base_dir: str) -> Issuer:
    local = issuer.kind is IssuerKind.LOCAL
    return Issuer(
        name=name,
        kind=issuer.kind,
        certificate=_join(base_dir, issuer.certificate or ""),
        key=_join(base_dir, issuer.key or ""),
        chain=tuple(_join(base_dir, path) for path in issuer.chain),
        days=(issuer.days or LOCAL_DAYS) if local else 0,
        passphrase_credential=issuer.passphrase_credential or "",
    )


def _join(base_dir: str, path: str) -> str:
    """Return *path* seen from *base_dir*; absolute ones stay, and "" stays "" (nothing was written)."""
    return str(PurePath(base_dir) / path) if path else ""


def _first(name: str, levels: tuple[Any, ...]) -> Any:
    """Return the first value of that name that is written; None when no level has it."""
    return next((value for level in levels if (value := getattr(level, name, None)) is not None), None)
