"""The certificates of a database cluster: which are due, how the files are called, and the steps that make them.

Rows S1, S4 and S9: the built-in CA on the primary signs (or an outside CA, through the gate *sign*), every name is
fresh, and all of it happens beside what is in use, before anything is removed (DESIGN.md section 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workflows.facts import CertificateFact, NodeFacts
from workflows.inventory import BUILT_IN_CA, Cluster, DatabasePair, DatabaseWish, KeyOrigin
from workflows.inventory.checks import is_basename
from workflows.mmp.commands import PkiCsr, PkiSelfsigned, PkiSign
from workflows.plan import Line, Step
from workflows.procedures.database_places import FileSet, Place, Places
from workflows.procedures.lines import command, fetch, upload
from workflows.procedures.names import next_number

# A built-in CA is kept only while it outlives what it is to sign by a good while.
CA_KEPT_FOR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """The new files of a cluster's database: basenames of the two pairs and of the CA, and whether the CA is kept.

    `new_ca_because` says why the CA in use cannot sign again, "" where there is none.
    """

    cluster: str
    wish: DatabaseWish
    server: str
    client: str
    ca: str
    ca_kept: bool
    primary: str
    new_ca_because: str = ""

    @property
    def built_in(self) -> bool:
        """Whether the CA inside the servers signs."""
        return self.wish.issuer == BUILT_IN_CA

    @property
    def made_on_node(self) -> bool:
        """Whether the primary makes the keys, from where they are handed out."""
        return self.wish.key is KeyOrigin.NODE

    def wish_id(self, pair: DatabasePair) -> str:
        """Return the id of a pair in the plan: "seoul/dbserver"."""
        return f"{self.cluster}/{pair.basename}"

    def files(self, *, joined: bool) -> FileSet:
        """Return the new files of a joined node, or of one that only connects."""
        server = {"server_key": f"{self.server}.key", "server_certificate": f"{self.server}.crt"} if joined else {}
        return FileSet(
            client_key=f"{self.client}.key",
            client_certificate=f"{self.client}.crt",
            ca_certificate=f"{self.ca}.crt",
            **server,
        )

    @property
    def fresh(self) -> tuple[str, ...]:
        """Every file name that must be free on every node before anything is made."""
        stems = [self.server, self.client, *([] if self.ca_kept else [self.ca])]
        return tuple(f"{stem}.{ending}" for stem in stems for ending in ("key", "csr", "crt"))

    def wishes(self) -> dict[str, dict[str, Any]]:
        """Return the two pairs as the plan keeps them: what the request step and the papers of a gate need."""
        return {
            self.wish_id(pair): self._wish(pair, basename, usages)
            for pair, basename, usages in (
                (self.wish.server, self.server, ["server"]),
                (self.wish.client, self.client, ["client"]),
            )
        }

    def _wish(self, pair: DatabasePair, basename: str, usages: list[str]) -> dict[str, Any]:
        return {
            "id": self.wish_id(pair),
            "name": pair.basename,
            "nodes": [self.primary],
            "basename": basename,
            "key": self.wish.key.value,
            "key_kind": self.wish.key_kind.value,
            "key_file": "",
            "csr_file": "",
            "source": self.primary if self.made_on_node else "",
            "subject": [list(part) for part in pair.subject],
            "dns": list(pair.dns),
            "ip": list(pair.ip),
            "email": [],
            "services": [],
            "usages": usages,
            "issuer": self.wish.issuer,
            "trusted_by": [],
            "why": [],
        }


def papers_of(
    cluster: Cluster, found: Places, facts: Mapping[str, NodeFacts], *, now: datetime, within: timedelta
) -> Papers:
    """Return the names of the new files; the number is the next that is free on every node of the cluster."""
    wish = cluster.database
    everywhere = [facts[place.node] for place in found.every]
    numbered = {
        pair.basename: f"{pair.basename}-{next_number(pair.basename, everywhere)}"
        for pair in (wish.ca, wish.server, wish.client)
    }
    kept, because = _kept_ca(wish, found, facts, now=now, within=within)
    return Papers(
        cluster=cluster.name,
        wish=wish,
        server=numbered[wish.server.basename],
        client=numbered[wish.client.basename],
        ca=kept or numbered[wish.ca.basename],
        ca_kept=bool(kept),
        primary=found.primary.node,
        new_ca_because=because,
    )


def why_due(
    cluster: Cluster, found: Places, facts: Mapping[str, NodeFacts], *, now: datetime, within: timedelta
) -> tuple[str, ...]:
    """Return why the certificates of a standing cluster should be renewed; () when all is as wanted at *now*."""
    return tuple(
        dict.fromkeys(
            f"{place.node}: {reason}"
            for place in found.every
            for reason in _reasons(cluster.database, place, facts[place.node], now=now, within=within)
        )
    )


def _reasons(wish: DatabaseWish, place: Place, facts: NodeFacts, *, now: datetime, within: timedelta) -> Iterator[str]:
    fact = facts.database_cluster
    if not place.inside or fact is None:
        yield "is in no database cluster"
        return
    if place.old is None or (place.joined and not place.old.server_key):
        yield "its database is set to no certificates"
        return
    for name in fact.expired:
        leaf = _leaf(facts, name)
        if leaf is None or datetime.fromisoformat(leaf.not_valid_after) > now + within:
            yield f"{name} is expired, says the server"  # else its own date says so below
    if place.joined:  # a server pair that a connected node names besides is of no use there
        yield from _certificate(facts, place.old.server_certificate, wish.server, now + within)
    yield from _certificate(facts, place.old.client_certificate, wish.client, now + within)
    yield from _certificate(facts, place.old.ca_certificate, None, now + within)


def _certificate(facts: NodeFacts, name: str, wanted: DatabasePair | None, until: datetime) -> Iterator[str]:
    leaf = _leaf(facts, name)
    if leaf is None:
        yield f"{name} is in use, but holds no certificate"
    elif datetime.fromisoformat(leaf.not_valid_after) <= until:
        yield f"{name} ends {leaf.not_valid_after[:10]}"
    elif wanted is not None and (missing := names_missing(leaf, wanted)):
        yield f"{name} lacks {', '.join(missing)}"


def names_missing(leaf: CertificateFact, wanted: DatabasePair) -> tuple[str, ...]:
    """Return what the inventory asks of a pair and its certificate lacks: "CN db.example.com", "db2.example.com"."""
    held = {one.casefold() for one in leaf.names}
    missing = [one for one in (*wanted.dns, *wanted.ip) if one.casefold() not in held]
    common_name = dict(wanted.subject)["CN"]
    return (*([f"CN {common_name}"] if common_name != leaf.subject else []), *missing)


def _kept_ca(
    wish: DatabaseWish, found: Places, facts: Mapping[str, NodeFacts], *, now: datetime, within: timedelta
) -> tuple[str, str]:
    """Return the basename of the built-in CA in use, when it may sign again; else "", and why a new one is made."""
    old, primary = found.primary.old, found.primary.node
    if wish.issuer != BUILT_IN_CA or old is None:
        return "", ""
    name = old.ca_certificate
    if not wish.keep_ca:
        return "", "the inventory says `keep_ca: false`"
    stem = name.removesuffix(".crt")
    here = facts[primary]
    stored, key = here.file(name), here.file(f"{stem}.key")
    if name in {certificate for _, certificate in old.pairs}:
        return "", f"{name} is in use as a pair's own certificate too"  # such a one must not sign others
    if not name.endswith(".crt") or stored is None or len(stored.certificates) != 1 or not is_basename(stem):
        return "", f"{name} on {primary} is not one certificate that `pki sign` could use"
    if key is None:
        return "", f"the key of {name} is not on {primary}"
    ends = datetime.fromisoformat(stored.certificates[0].not_valid_after)
    if ends <= now + max(within, CA_KEPT_FOR):
        return "", f"{name} ends {ends:%Y-%m-%d}"
    # A file of that name with other content must never be written over: it may be in use there.
    others = [facts[place.node].file(name) for place in found.every]
    if not all(one is None or one.sha256 == stored.sha256 for one in others):
        return "", f"{name} is not the same on every node"
    return stem, ""


def _leaf(facts: NodeFacts, name: str) -> CertificateFact | None:
    stored = facts.file(name)
    return stored.certificates[0] if stored and stored.certificates else None


# ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────────────
def request_steps(papers: Papers) -> tuple[Step, ...]:
    """Return stage 300: key and CSR of both pairs, on the primary or off the servers (row S2)."""
    return tuple(_request(papers, pair, stem) for pair, stem in _pairs(papers))


def sign_steps(papers: Papers) -> tuple[Step, ...]:
    """Return the built-in CA's part of stage 400: `pki selfsigned` for a new CA, `pki sign` for each pair (row S4)."""
    if not papers.built_in:
        return ()
    steps = [] if papers.ca_kept else [_new_ca(papers)]
    return (*steps, *(_sign(papers, pair, stem) for pair, stem in _pairs(papers)))


def deliver_step(papers: Papers, place: Place, facts: NodeFacts) -> Step:
    """Return stage 500 of one node: the files that are not there yet, matched and verified (a hand-out, section 3)."""
    files = papers.files(joined=place.joined)
    here = place.node == papers.primary
    lines: list[Line] = []
    source = ""
    for name in files.names:
        kind, content = _content(papers, name)
        if kind == "key" and here and papers.made_on_node:
            continue
        if kind == "certificate" and here and papers.built_in:
            continue
        if kind == "ca" and ((here and papers.built_in) or (papers.ca_kept and facts.file(name) is not None)):
            continue
        if kind == "key" and papers.made_on_node:
            source = papers.primary
            lines.append(fetch(name, f"key-from:{source}"))
        lines.append(upload(name, content))
    return Step(
        id=f"{papers.cluster}/{place.node}/deliver/database",
        node=place.node,
        action="database_deliver",
        stage=500,
        title=f"{place.node}: the new database certificates are here, matched and verified",
        params={
            "pairs": [list(pair) for pair in files.pairs],
            "ca": files.ca_certificate,
            "contents": {name: _content(papers, name)[1] for name in files.certificates},
        },
        lines=tuple(lines),
        source=source,
    )


def _pairs(papers: Papers) -> tuple[tuple[DatabasePair, str], ...]:
    return (papers.wish.server, papers.server), (papers.wish.client, papers.client)


def _content(papers: Papers, name: str) -> tuple[str, str]:
    """Return what a file is ("key", "certificate", "ca") and the note of the transfer that carries it."""
    stem, _, ending = name.rpartition(".")
    if stem == papers.ca:
        return "ca", f"ca:{papers.cluster}"
    pair = papers.wish.server if stem == papers.server else papers.wish.client
    kind = "key" if ending == "key" else "certificate"
    return kind, f"{kind}:{papers.wish_id(pair)}"


def _request(papers: Papers, pair: DatabasePair, stem: str) -> Step:
    wish = papers.wish_id(pair)
    if not papers.made_on_node:
        return Step(
            id=f"{wish}/request",
            node="",
            action="request",
            stage=300,
            title=f"{papers.cluster}: key and CSR {stem}, made off the servers",
            params={"wish": wish},
        )
    line = PkiCsr(basename=stem, **dict(pair.subject), subjectAltName=(*pair.dns, *pair.ip)).line()
    return Step(
        id=f"{papers.cluster}/{papers.primary}/request/{pair.basename}",
        node=papers.primary,
        action="request",
        stage=300,
        title=f"{papers.primary}: key and CSR {stem}",
        params={"wish": wish},
        lines=(command(line, "csr"), fetch(f"{stem}.csr", f"csr:{wish}")),
    )


def _new_ca(papers: Papers) -> Step:
    line = PkiSelfsigned(basename=papers.ca, **dict(papers.wish.ca.subject), subjectAltName=()).line()
    return Step(
        id=f"{papers.cluster}/{papers.primary}/sign/{papers.wish.ca.basename}",
        node=papers.primary,
        action="database_ca",
        stage=400,
        title=f"{papers.primary}: the built-in CA {papers.ca}",
        params={"key": f"{papers.ca}.key", "certificate": f"{papers.ca}.crt"},
        lines=(command(line, "selfsigned"), fetch(f"{papers.ca}.crt", f"ca:{papers.cluster}")),
    )


def _sign(papers: Papers, pair: DatabasePair, stem: str) -> Step:
    wish = papers.wish_id(pair)
    lines = [command(PkiSign(stem, papers.ca).line(), "sign"), fetch(f"{stem}.crt", f"certificate:{wish}")]
    if not papers.made_on_node:
        lines.insert(0, upload(f"{stem}.csr", f"csr:{wish}"))
    return Step(
        id=f"{papers.cluster}/{papers.primary}/sign/{pair.basename}",
        node=papers.primary,
        action="database_sign",
        stage=400,
        title=f"{papers.primary}: {stem} signed by the built-in CA {papers.ca}",
        params={"wish": wish, "certificate": f"{stem}.crt", "ca": f"{papers.ca}.crt"},
        lines=tuple(lines),
    )
