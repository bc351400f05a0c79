"""The rules of a database cluster: how many nodes, and what may stand in its certificates (rows S1 and S4).

The names are judged otherwise than those of services: the database looks at the chain of a certificate, and of its
names at one only, the CN of the client (mmp-reference 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.inventory import checks
from workflows.inventory.document import Path
from workflows.inventory.model import WrittenCluster, WrittenDatabaseCluster, WrittenFleet
from workflows.inventory.report import Report
from workflows.inventory.resolving import DATABASE_CLIENT, PLACEHOLDER, PLACEHOLDERS, database_of
from workflows.inventory.values import BUILT_IN_CA, DatabasePair, DatabaseRole, DatabaseWish, KeyOrigin, Node

_MOST_JOINED = 5  # mmp-reference 3.2, S4
_MOST_JOINED_SURELY = 3  # the same, S1: sources differ
_PAIRS = ("ca", "server", "client")


@dataclass(slots=True)
class DatabaseRules:
    """The rules of the database cluster of *cluster*; *path* is where that cluster stands."""

    written: WrittenFleet
    cluster: WrittenCluster
    path: Path
    report: Report

    def check(self, nodes: tuple[Node, ...]) -> None:
        """Report all that is wrong; *nodes* are those of the cluster, resolved, in its order."""
        database = self.cluster.database_cluster
        joined = tuple(node for node in nodes if node.database is DatabaseRole.JOINED)
        self._check_shape(nodes, len(joined))
        self._check_addresses(nodes)
        if database is None and not joined:
            return
        wish = database_of(self.written, self.cluster, nodes)
        self._check_basenames(wish)
        if database is None:
            return
        self._check_issuer(database)
        self._warn(database)
        for name in _PAIRS:
            self._check_subject(name, wish)
        self._check_alt_names(database, wish)

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _check_shape(self, nodes: tuple[Node, ...], joined: int) -> None:
        """Report what the roles do not make up; not where a role could not be read, which is told by itself."""
        report, written = self.report, self.cluster.database_cluster is not None
        if joined == 0 and not report.document.is_cut((*self.path, "nodes")) and "database" not in self._removed:
            if written:
                remedy = "Write `database: joined` at the nodes that hold the database, or remove `database_cluster`."
                self._fault((), "a database cluster without a joined node", remedy)
            for place, node in enumerate(nodes):
                if node.database is DatabaseRole.CONNECTED:
                    report.fault(
                        (*self.path, "nodes", place, "database"),
                        f"{node.name} has nothing to connect to: no node of the cluster {self.cluster.name} is joined",
                        "Write `database: joined` at the nodes that hold the database, or another role here.",
                    )
        where: Path = (*self.path, "database_cluster" if written else "nodes")
        if joined > _MOST_JOINED:
            remedy = f"At most {_MOST_JOINED} may be; write `database: connected` at the others."
            report.fault(where, f"{joined} nodes of the cluster {self.cluster.name} are joined", remedy)
        elif joined > _MOST_JOINED_SURELY:
            what = f"{self.cluster.name}: {joined} joined nodes; some of the maker's documents allow three, others five"
            report.warn(where, what, "Write `database: connected` at the others, if three are enough.")
        if joined and joined % 2 == 0:
            what = f"{self.cluster.name}: an even number of nodes ({joined}) is joined"
            report.warn(where, what, "Cisco recommends an odd number of joined nodes.")

    def _check_addresses(self, nodes: tuple[Node, ...]) -> None:
        """Report a database address that two nodes have: a join or a connect would reach the wrong one."""
        owners: dict[str, str] = {}
        for place, node in enumerate(nodes):
            address, where = node.database_address.lower(), (*self.path, "nodes", place, "database_address")
            if address and node.database is not DatabaseRole.JOINED:
                what = f"{node.name}: `database_address` means nothing where no database is joined"
                self.report.warn(where, what, "Write `database: joined`, or remove `database_address`.")
            elif address and owners.setdefault(address, node.name) != node.name:
                what = f"{owners[address]} and {node.name} have the database address {address}"
                self.report.fault(where, what, "Correct one of them: each node has its own database.")

    # ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def _removed(self) -> set[str]:
        return self.report.document.removed

    def _fault(self, where: Path, what: str, remedy: str) -> None:
        self.report.fault((*self.path, "database_cluster", *where), what, remedy)

    def _check_basenames(self, wish: DatabaseWish) -> None:
        owners: dict[str, str] = {}
        for name in _PAIRS:
            basename = _pair(wish, name).basename
            if basename in owners:
                what = f"`{owners[basename]}` and `{name}` of the database cluster have the basename {basename!r}"
                self._fault((name, "name"), what, "Give each of the three its own name.")
            owners.setdefault(basename, name)
        for place, certificate in enumerate(self.cluster.certificates):
            if certificate.name in owners:
                self.report.fault(
                    (*self.path, "certificates", place, "name"),
                    f"{certificate.name!r} is the basename of `{owners[certificate.name]}` of the database cluster too",
                    f"Rename it, or write another `name` in `database_cluster: {{{owners[certificate.name]}: ...}}`.",
                )

    def _check_issuer(self, database: WrittenDatabaseCluster) -> None:
        known = (BUILT_IN_CA, "manual", *self.written.issuers)
        if database.issuer not in known and database.issuer not in self._removed:
            listing = f"Write {BUILT_IN_CA} or an issuer: {', '.join(dict.fromkeys(known[1:]))}."
            remedy = checks.did_you_mean(database.issuer, known) or listing
            self._fault(("issuer",), f"unknown issuer {database.issuer!r}", remedy)

    def _check_subject(self, name: str, wish: DatabaseWish) -> None:
        """Report what cannot stand in the subject; what the node makes must fit into a line of `pki csr`."""
        on_node = wish.key is KeyOrigin.NODE or name == "ca"
        holds = checks.is_line_value if on_node else checks.is_subject_value
        for attribute, text in _pair(wish, name).subject:
            where = (name, "subject", attribute)
            self._check_placeholders(where, text, ("cluster", "fleet"))
            if not holds(text):
                remedy = "Remove quotes, backslashes, control characters and blanks at either end."
                self._fault(where, f"`pki csr` cannot take {attribute} {text!r}", remedy)
            if len(text) > checks.SUBJECT_LENGTHS[attribute]:
                remedy = f"RFC 5280 allows {checks.SUBJECT_LENGTHS[attribute]} characters."
                self._fault(where, f"{attribute} {text!r} is too long", remedy)
            if attribute == "emailAddress" and not PLACEHOLDER.search(text) and not checks.is_email(text):
                self._fault(where, f"{text!r} is no e-mail address", "Write it as name@example.com.")
            wrong = name == "client" and attribute == "CN" and text != DATABASE_CLIENT
            if wrong and not PLACEHOLDER.search(text):
                remedy = f"Write `CN: {DATABASE_CLIENT}`, or leave it out: the database lets in no other client."
                self._fault(where, f"the CN of the client is {text!r}", remedy)

    def _check_placeholders(self, where: Path, text: str, known: tuple[str, ...]) -> None:
        for word in PLACEHOLDER.findall(text):
            if word == "node" and word not in known:
                remedy = (
                    "Use {cluster}; {node} may stand in subject_alt_names of the server, once for each joined node."
                )
                self._fault(where, "a certificate that nodes share belongs to no single {node}", remedy)
            elif word not in known and text not in self._removed:
                listing = f"There are {', '.join(f'{{{each}}}' for each in known)}."
                self._fault(where, f"unknown placeholder {{{word}}}", checks.did_you_mean(word, known) or listing)

    def _check_alt_names(self, database: WrittenDatabaseCluster, wish: DatabaseWish) -> None:
        written = database.server.subject_alt_names
        for kind, holds, remedy in (
            ("dns", checks.is_dns, "Write a DNS name or wildcard in ASCII (xn-- form); addresses belong under `ip`."),
            ("ip", checks.is_ip, "Write an IPv4 or IPv6 address; names belong under `dns`."),
        ):
            for at, text in enumerate(getattr(written, kind)):
                self._check_placeholders(("server", "subject_alt_names", kind, at), text, PLACEHOLDERS)
            for text in getattr(wish.server, kind):
                if not PLACEHOLDER.search(text) and not holds(text):
                    self._fault(("server", "subject_alt_names", kind), f"{text!r} is no name of kind {kind}", remedy)
        common_name = dict(wish.server.subject)["CN"]
        names = {text.lower() for text in wish.server.dns}
        if (names or wish.server.ip) and not PLACEHOLDER.search(common_name) and common_name.lower() not in names:
            self.report.warn(
                (*self.path, "database_cluster", "server", "subject_alt_names"),
                f"{self.cluster.name}: the names of the database server do not hold its CN {common_name!r}",
                "Use one of `dns` as the CN, if you like; nothing fails without, for only the chain is looked at.",
            )

    def _warn(self, database: WrittenDatabaseCluster) -> None:
        path: Path = (*self.path, "database_cluster")
        for key in ("ca", "keep_ca"):
            if database.issuer != BUILT_IN_CA and key in database.model_fields_set:
                what = f"{self.cluster.name}: `{key}` means nothing where the issuer {database.issuer} signs"
                self.report.warn((*path, key), what, f"Remove `{key}`, or write `issuer: {BUILT_IN_CA}`.")
        if database.key_kind is not None and database.key != "engine":
            what = f"{self.cluster.name}: `key_kind` is only for keys that the engine makes"
            self.report.warn((*path, "key_kind"), what, "Write `key: engine`, or remove `key_kind`.")


def _pair(wish: DatabaseWish, name: str) -> DatabasePair:
    pairs = {"ca": wish.ca, "server": wish.server, "client": wish.client}
    return pairs[name]
