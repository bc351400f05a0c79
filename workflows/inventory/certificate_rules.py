"""The rules of one certificate: names, key, issuer, services and the nodes it stands on (rows S1 to S3, S10).

Names are judged after the placeholders are filled in, because a node's name may make a good pattern a bad name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workflows.inventory import checks
from workflows.inventory.document import Path
from workflows.inventory.model import WrittenCertificate, WrittenCluster, WrittenFleet
from workflows.inventory.report import Report
from workflows.inventory.resolving import PLACEHOLDER, PLACEHOLDERS, fill_in, per_of, wishes_of
from workflows.inventory.values import CertificateWish, KeyOrigin, Node, Per


@dataclass(slots=True)
class CertificateRules:
    """The rules of one certificate; *path* is where it stands."""

    written: WrittenFleet
    cluster: WrittenCluster
    certificate: WrittenCertificate
    path: Path
    report: Report

    def check(self, nodes: dict[str, Node]) -> None:
        """Report all that is wrong with it; *nodes* are those of its cluster, resolved, by name."""
        self._check_references(nodes)
        self._check_placeholders()
        if not self.certificate.services and not self.report.document.is_cut((*self.path, "services")):
            self._fault(("services",), "no service uses this certificate", "Write at least one service, or remove it.")
        # When all its nodes are wrong, it is judged as if it stood on every node of the cluster.
        wishes = wishes_of(self.written, self.cluster, self.certificate, "") or wishes_of(
            self.written, self.cluster, self.certificate.model_copy(update={"nodes": None}), ""
        )
        for wish in wishes:
            self._check_key(wish, len(wishes))
            self._check_issuer(wish)
            self._check_subject(wish)
            self._check_alt_names(wish)
            for at, service in enumerate(wish.services):
                for node in (nodes[name] for name in wish.nodes):
                    if not checks.has_service(node.release, service):
                        self.report.lacks_service((*self.path, "services", at), service, node)
        self._warn(wishes)

    def _fault(self, where: Path, what: str, remedy: str) -> None:
        self.report.fault((*self.path, *where), what, remedy)

    def _check_references(self, nodes: dict[str, Node]) -> None:
        for at, name in enumerate(self.certificate.nodes or ()):
            if name not in nodes and name not in self.report.document.removed:
                remedy = checks.did_you_mean(name, nodes) or f"Its nodes are {', '.join(nodes)}."
                self._fault(("nodes", at), f"the cluster {self.cluster.name} has no node {name!r}", remedy)

    def _check_issuer(self, wish: CertificateWish) -> None:
        known = ("manual", *self.written.issuers)
        if wish.issuer not in known and wish.issuer not in self.report.document.removed:
            remedy = checks.did_you_mean(wish.issuer, known) or f"Known issuers: {', '.join(dict.fromkeys(known))}."
            self._fault(("issuer",), f"unknown issuer {wish.issuer!r}", remedy)

    def _check_placeholders(self) -> None:
        shared = per_of(self.written, self.cluster, self.certificate) is Per.CLUSTER
        names = self.certificate.subject_alt_names
        texts: list[tuple[Path, str]] = [
            (("subject", attribute), text) for attribute, text in self.certificate.subject.pairs().items()
        ]
        texts += [((key,), text) for key in ("key_file", "csr_file") if (text := getattr(self.certificate, key))]
        alt_names = [
            (("subject_alt_names", kind, at), text)
            for kind in ("dns", "ip", "email")
            for at, text in enumerate(getattr(names, kind))
        ]
        for where, text in texts + alt_names:
            for word in PLACEHOLDER.findall(text):
                if word not in PLACEHOLDERS and text not in self.report.document.removed:
                    remedy = checks.did_you_mean(word, PLACEHOLDERS) or "There are {node}, {cluster} and {fleet}."
                    self._fault(where, f"unknown placeholder {{{word}}}", remedy)
        for where, text in texts:
            if shared and "{node}" in text:
                remedy = (
                    "Use {cluster}, or write `per: node`; {node} may stand in subject_alt_names, once for each node."
                )
                self._fault(where, "a certificate that nodes share belongs to no single {node}", remedy)

    def _check_key(self, wish: CertificateWish, pairs: int) -> None:
        for key in ("key_file", "csr_file"):
            text = getattr(self.certificate, key)
            if wish.key is KeyOrigin.FILE and not text:
                self._fault(("key",), f"`key: file` without `{key}`", f"Write `{key}: FILE`, made with another tool.")
            elif wish.key is KeyOrigin.FILE and pairs > 1 and "{node}" not in text:
                remedy = f"Write {{node}} into `{key}`, or `per: cluster` for one shared pair."
                self._fault((key,), f"the pair of each node needs its own `{key}`", remedy)
            elif wish.key is not KeyOrigin.FILE and text:
                self._fault((key,), f"`{key}` means nothing for `key: {wish.key}`", "Write `key: file` or remove it.")
        if wish.key is KeyOrigin.NODE and len(wish.nodes) > 1 and not wish.allow_key_download:
            self._fault(
                ("per",),
                "a shared pair made on one node must be read from it to reach the others",
                "Write `allow_key_download: true`, or `key: engine`, or `key: file`.",
            )

    def _check_subject(self, wish: CertificateWish) -> None:
        for attribute, text in wish.subject:
            where = ("subject", attribute)
            if not checks.is_subject_value(text):
                self._fault(where, f"`pki csr` cannot take {attribute} {text!r}", 'Remove " and control characters.')
            if len(text) > checks.SUBJECT_LENGTHS[attribute]:
                limit = checks.SUBJECT_LENGTHS[attribute]
                self._fault(where, f"{attribute} {text!r} is too long", f"RFC 5280 allows {limit} characters.")
            if attribute == "emailAddress" and not _has_unknown(text) and not checks.is_email(text):
                self._fault(where, f"{text!r} is no e-mail address", "Write it as name@example.com.")
        name = wish.common_name
        if not (_has_unknown(name) or checks.is_fqdn(name) or checks.is_wildcard(name)):
            remedy = "Services need a full domain name (cms1.example.com) or a wildcard (*.example.com)."
            self._fault(("subject", "CN"), f"CN {name!r} is neither an FQDN nor a wildcard", remedy)

    def _check_alt_names(self, wish: CertificateWish) -> None:
        written = self.certificate.subject_alt_names
        for kind, holds, remedy in (
            ("dns", checks.is_dns, "Write a DNS name or wildcard in ASCII (xn-- form); addresses belong under `ip`."),
            ("ip", checks.is_ip, "Write an IPv4 or IPv6 address; names belong under `dns`."),
            ("email", checks.is_email, "Write it as name@example.com."),
        ):
            # Only a pattern that holds for every node stands for its filled in forms; so look at those.
            for text in getattr(wish, kind):
                if not _has_unknown(text) and not holds(text):
                    at = _index_of(text, getattr(written, kind), self._words(wish))
                    self._fault(("subject_alt_names", kind, at), f"{text!r} is no name of kind {kind}", remedy)
        if not written.all():
            if "xmpp" in wish.services:
                remedy = "Write `subject_alt_names: {dns: [...]}` with the CN and the XMPP domain."
                self._fault(("services",), "xmpp needs subject alternative names", remedy)
            return
        name = wish.common_name
        if not _has_unknown(name) and name.lower() not in {text.lower() for text in wish.dns}:
            remedy = "Add the CN to `dns`: clients look at the CN no more when there are alternative names."
            self._fault(("subject_alt_names",), f"the names do not hold the CN {name!r}", remedy)

    def _words(self, wish: CertificateWish) -> Iterator[dict[str, str]]:
        for node in wish.nodes:
            yield {"node": node, "cluster": self.cluster.name, "fleet": self.written.fleet}

    def _warn(self, wishes: tuple[CertificateWish, ...]) -> None:
        certificate = self.certificate
        names = (certificate.subject.common_name, *certificate.subject_alt_names.dns)
        if "callbridge" in certificate.services and any(name.startswith("*.") for name in names):
            self.report.warn(
                (*self.path, "subject", "CN"),
                f"{certificate.name}: CUCM does not accept wildcards for the Call Bridge",
                "Name the Call Bridge in full where it talks to CUCM.",
            )
        if certificate.key_kind is not None and any(wish.key is not KeyOrigin.ENGINE for wish in wishes):
            self.report.warn(
                (*self.path, "key_kind"),
                f"{certificate.name}: `key_kind` is only for keys that the engine makes",
                "Write `key: engine`, or remove `key_kind`.",
            )


def _has_unknown(text: str) -> bool:
    """Say whether a placeholder is left, which was reported by itself."""
    return bool(PLACEHOLDER.search(text))


def _index_of(text: str, patterns: tuple[str, ...], words: Iterator[dict[str, str]]) -> int:
    every = list(words)
    return next(at for at, pattern in enumerate(patterns) if any(fill_in(pattern, each) == text for each in every))
