"""Rules over the whole inventory: what no single value shows. Rows S1, S3 and S10 of the base document.

Each rule looks at one thing and reports (path, what, remedy); all are run, so that one reading tells every fault.
What concerns one certificate is in `certificate_rules`, what concerns a database cluster in `database_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable

from workflows.inventory import checks
from workflows.inventory.certificate_rules import CertificateRules
from workflows.inventory.database_rules import DatabaseRules
from workflows.inventory.document import Document, Path
from workflows.inventory.model import WrittenCluster, WrittenFleet
from workflows.inventory.report import Report
from workflows.inventory.resolving import node_of
from workflows.inventory.values import BUILT_IN_CA, IssuerKind


def check(written: WrittenFleet, document: Document) -> Report:
    """Return all that is wrong or odd in *written*, each with its line in *document*."""
    report = Report(document)
    _check_issuers(written, report)
    _check_nodes(written, report)
    _check_unique(
        report,
        ((("clusters", at, "name"), cluster.name) for at, cluster in enumerate(written.clusters)),
        "two clusters are named {0!r}",
        "Give each cluster of the fleet its own name.",
    )
    for at, cluster in enumerate(written.clusters):
        path: Path = ("clusters", at, "certificates")
        _check_unique(
            report,
            (((*path, place, "name"), each.name) for place, each in enumerate(cluster.certificates)),
            "two certificates of this cluster are named {0!r}",
            "Give each certificate of the cluster its own name.",
        )
        _check_claims(cluster, path, report)
        nodes = tuple(node_of(written, cluster, node) for node in cluster.nodes)
        by_name = {node.name: node for node in nodes}
        for place, certificate in enumerate(cluster.certificates):
            CertificateRules(written, cluster, certificate, (*path, place), report).check(by_name)
        DatabaseRules(written, cluster, ("clusters", at), report).check(nodes)
    return report


def _check_unique(report: Report, named: Iterable[tuple[Path, str]], what: str, remedy: str) -> None:
    first: dict[str, Path] = {}
    for path, name in named:
        if name in first:
            report.fault(path, f"{what.format(name)} (the other: {report.document.where(first[name])})", remedy)
        first.setdefault(name, path)


def _check_issuers(written: WrittenFleet, report: Report) -> None:
    for name, issuer in written.issuers.items():
        path: Path = ("issuers", name)
        if name == BUILT_IN_CA:
            report.fault(
                path, f"the issuer `{name}` is always the CA inside the servers", "Give the issuer another name."
            )
        local_only = ("certificate", "key", "chain", "days", "passphrase_credential")
        if issuer.kind is IssuerKind.LOCAL:
            if name == "manual":
                report.fault(path, "the issuer `manual` is always the manual one", "Give the private CA another name.")
            for key in ("certificate", "key"):
                if getattr(issuer, key) is None:
                    report.fault(path, f"the local issuer {name!r} has no `{key}`", f"Write `{key}: FILE`.")
        else:
            for key in local_only:
                if getattr(issuer, key):
                    report.fault((*path, key), f"`{key}` means nothing for kind: manual", f"Remove `{key}`.")


def _check_nodes(written: WrittenFleet, report: Report) -> None:
    places = [
        (("clusters", at, "nodes", place), node_of(written, cluster, node))
        for at, cluster in enumerate(written.clusters)
        for place, node in enumerate(cluster.nodes)
    ]
    named = (((*path, "name"), node.name) for path, node in places)
    _check_unique(report, named, "two nodes are named {0!r}", "Names of nodes are unique in the fleet; rename one.")
    addressed = (((*path, "address"), f"{node.address.lower()} port {node.port}") for path, node in places)
    _check_unique(report, addressed, "two nodes have the address {0}", "Correct the address or the port of one.")
    for path, node in places:
        for service in (proof.service for proof in node.proof):
            if service in checks.SERVICE_RELEASES and not checks.has_service(node.release, service):
                report.lacks_service((*path, "proof", service), service, node)


def _check_claims(cluster: WrittenCluster, path: Path, report: Report) -> None:
    """Report services that have more than one certificate on a node."""
    all_nodes = tuple(node.name for node in cluster.nodes)
    owners: dict[tuple[str, str], int] = {}
    for place, certificate in enumerate(cluster.certificates):
        for at, service in enumerate(certificate.services):
            for node in dict.fromkeys(certificate.nodes or all_nodes):
                owner = owners.setdefault((service, node), place)
                if owner != place or service in certificate.services[:at]:
                    places = " and ".join(report.document.where((*path, each)) for each in (owner, place))
                    report.fault(
                        (*path, place, "services", at),
                        f"{service} of node {node} is claimed twice ({places})",
                        "A service has one certificate: remove it from one of them, or part them by `nodes:`.",
                    )
