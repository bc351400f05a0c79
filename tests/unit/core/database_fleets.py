"""Database clusters of any shape, and what a plan makes of them: inventory, facts, and a model that carries lines out.

fleet = a_database_fleet(joined=3, connected=1)            nodes a1, a2, a3 are joined, b1 only connects
facts = database_facts(fleet, primary="a1", days=12)       the cluster stands, its pairs end in 12 days
facts_after(plan, fleet, facts)                            what a survey would read when the plan was carried out

The model reads MMP lines by itself and knows nothing of `procedures`; what breaks a real server is an error here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from tests.unit.core.fleets import NOW, WITHIN, a_fleet, a_node, node_facts
from workflows.facts import CertificateFact, DatabaseFact, DatabaseMember, FileFact, NodeFacts
from workflows.inventory import Cluster, DatabasePair, DatabaseRole, DatabaseWish, Node, ResolvedFleet
from workflows.plan import Line, LineKind, Plan
from workflows.procedures.database_cluster import Purpose, plan_database

SERVER, CLIENT, CA = ("dbserver.key", "dbserver.crt"), ("dbclient.key", "dbclient.crt"), "dbca.crt"
FIVE, THREE = (*SERVER, *CLIENT, CA), (*CLIENT, CA)
SERVER_CN = "seoul-database-server"
WISH = DatabaseWish(
    ca=DatabasePair(basename="dbca", subject=(("CN", "seoul-database-ca"),)),
    server=DatabasePair(basename="dbserver", subject=(("CN", SERVER_CN),)),
)
_PREFIX = "database cluster "


def a_database_cluster(
    joined: int = 3,
    connected: int = 1,
    *,
    name: str = "seoul",
    letters: str = "ab",
    order: Iterable[str] | None = None,
    others: Iterable[Node] = (),
    **wish: Any,
) -> Cluster:
    """Return a cluster whose joined nodes are a1, a2, …, and whose connected ones are b1, …; *order* is theirs."""
    numbered = [
        (f"{letter}{number}", role)
        for letter, role, count in (
            (letters[0], DatabaseRole.JOINED, joined),
            (letters[1], DatabaseRole.CONNECTED, connected),
        )
        for number in range(1, count + 1)
    ]
    nodes = {
        node: a_node(node, name, address=f"10.{ord(letters[0])}.0.{at}", database=role)
        for at, (node, role) in enumerate(numbered, 1)
    }
    ordered = [nodes[one] for one in (order or nodes)]
    return Cluster(name=name, nodes=(*ordered, *others), certificates=(), database=replace(WISH, **wish))


def a_database_fleet(joined: int = 3, connected: int = 1, **changes: Any) -> ResolvedFleet:
    """Return a fleet of one database cluster; *changes* as in `a_database_cluster`."""
    return a_fleet(a_database_cluster(joined, connected, **changes))


def members_of(cluster: Cluster) -> tuple[Node, ...]:
    """Return the nodes that have to do with the database."""
    return tuple(node for node in cluster.nodes if node.database in {DatabaseRole.JOINED, DatabaseRole.CONNECTED})


def ca_fact(*, days: float = 3000) -> CertificateFact:
    """Return the CA certificate in use."""
    return _certificate("seoul-database-ca", days)


def database_facts(
    fleet: ResolvedFleet,
    *,
    primary: str = "a1",
    days: float = 12,
    ca_days: float = 3000,
    addresses: Mapping[str, str] | None = None,
    outside: Iterable[str] = (),
    expired: Iterable[str] = (),
    still_named: bool = False,
    **changes: Any,
) -> dict[str, NodeFacts]:
    """Return the facts of every node: one cluster around *primary*, its pairs end in *days*, the CA in *ca_days*.

    *addresses* are those under which the cluster knows its nodes, where they are not those of the inventory; nodes in
    *outside* are in no cluster (*still_named*: but its peers still list them); the certificates of those in *expired*
    have ended, and their peers do not reach them.
    """
    gone, late = set(outside), set(expired)
    changes = {"stems": {}, **changes}
    found: dict[str, NodeFacts] = {}
    for cluster in fleet.clusters:
        at = addresses_of(cluster, addresses or {})
        members = [node for node in members_of(cluster) if node.name not in gone]
        joined = [node.name for node in members if node.database is DatabaseRole.JOINED]
        every = [node.name for node in cluster.nodes if node.database is DatabaseRole.JOINED]
        for node in cluster.nodes:
            facts = node_facts(node.name, **changes)
            ends = -1.0 if node.name in late else days
            fact = DatabaseFact(state="Disabled")
            files: tuple[str, ...] = ()
            if node in members:
                files = FIVE if node.name in joined else THREE
                fact = status_of(node.name, every if still_named else joined, primary, at, files)
                if late:
                    fact = _cut_off(fact, node.name, late, at)
            stored = [*facts.files, *(_stored(name, ends, ca_days) for name in files)]
            if node.name == primary and files:
                stored.append(FileFact(name="dbca.key", size=1700))
            found[node.name] = replace(facts, database_cluster=fact, files=_sorted(stored))
    return found


def addresses_of(cluster: Cluster, changed: Mapping[str, str]) -> dict[str, str]:
    """Return {node: the address of its database}."""
    return {node.name: changed.get(node.name) or node.database_address or node.address for node in cluster.nodes}


def status_of(
    node: str, joined: Iterable[str], primary: str, at: Mapping[str, str], files: tuple[str, ...], interface: str = "a"
) -> DatabaseFact:
    """Return what `database cluster status` says on *node* of a cluster where all is well."""
    five = ("", "", *files) if len(files) == len(THREE) else files
    return DatabaseFact(
        state="Enabled",
        members=tuple(
            DatabaseMember(
                address=at[one],
                role="primary" if one == primary else "replica",
                me=one == node,
                connected=True,
                in_sync=one != primary,
            )
            for one in joined
        ),
        node_in_use=at[primary],
        interface=interface,
        server_key=five[0],
        server_certificate=five[1],
        client_key=five[2],
        client_certificate=five[3],
        ca_certificate=five[4],
        last_command="database cluster initialize",
        progress="success",
    )


def changed(facts: Mapping[str, NodeFacts], node: str, **changes: Any) -> dict[str, NodeFacts]:
    """Return *facts* with another database status of *node*."""
    fact = facts[node].database_cluster
    assert fact is not None
    return {**facts, node: replace(facts[node], database_cluster=replace(fact, **changes))}


def with_files(facts: Mapping[str, NodeFacts], node: str, *files: FileFact) -> dict[str, NodeFacts]:
    """Return *facts* with more (or other) files on *node*."""
    new = {file.name for file in files}
    kept = [file for file in facts[node].files if file.name not in new]
    return {**facts, node: replace(facts[node], files=_sorted([*kept, *files]))}


def database_plan(
    fleet: ResolvedFleet, facts: Mapping[str, NodeFacts] | None = None, purpose: str = "renew", **asked: Any
) -> Plan:
    """Return the database plan of *fleet*, as of NOW."""
    asked = {"now": NOW, "within": WITHIN, **asked}
    facts = database_facts(fleet) if facts is None else facts
    return plan_database(fleet, facts, purpose=Purpose(purpose), **asked)


# ── a model of the servers ───────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class _Server:
    """One server: its files, what its database is set to, and its place: "" when it is in no cluster."""

    node: str
    files: dict[str, FileFact]
    named: tuple[str, ...]
    interface: str
    role: str


def facts_after(plan: Plan, fleet: ResolvedFleet, facts: Mapping[str, NodeFacts]) -> dict[str, NodeFacts]:
    """Return what a survey would read after every line of *plan*, in its order, was carried out."""
    after = dict(facts)
    for lane in plan.lanes:
        cluster = fleet.cluster(lane.name)
        servers = {node.name: _server(node.name, facts[node.name]) for node in members_of(cluster)}
        at = {node.name: _address(node, facts[node.name]) for node in members_of(cluster)}
        names = _cluster_names(plan)
        for step in lane.steps():
            for line in step.lines if step.node else ():
                _carry_out(servers, servers[step.node], line, at, names)
        joined = [node.name for node in cluster.nodes if node.name in servers and servers[node.name].role]
        joined = [node for node in joined if servers[node].role != "connected"]
        primary = next((node for node in joined if servers[node].role == "primary"), "")
        for node, server in servers.items():
            fact = DatabaseFact(state="Disabled")
            if server.role:
                fact = status_of(node, joined, primary, at, server.named, server.interface)
            after[node] = replace(facts[node], files=_sorted(server.files.values()), database_cluster=fact)
    return after


def _server(node: str, facts: NodeFacts) -> _Server:
    fact = facts.database_cluster
    assert fact is not None
    role = "" if fact.disabled else fact.me.role if fact.me else "connected"
    return _Server(node, {file.name: file for file in facts.files}, fact.files, fact.interface, role)


def _address(node: Node, facts: NodeFacts) -> str:
    me = facts.database_cluster.me if facts.database_cluster else None
    return me.address if me else node.database_address or node.address


def _cluster_names(plan: Plan) -> dict[str, CertificateFact]:
    """Return {basename: the new certificate}."""
    return {
        wish["basename"]: replace(
            _certificate(dict(wish["subject"])["CN"], 900, wish["basename"]), names=(*wish["dns"], *wish["ip"])
        )
        for wish in plan.wishes.values()
    }


def _carry_out(
    servers: Mapping[str, _Server],
    server: _Server,
    line: Line,
    at: Mapping[str, str],
    new: Mapping[str, CertificateFact],
) -> None:
    stem = line.text.rpartition(".")[0]
    if line.kind is LineKind.UPLOAD:
        assert line.text not in server.files, f"{line.text} is written over on {server.node}"
        made = new.get(stem) if line.text.endswith(".crt") else None
        if line.content.startswith("ca:"):
            made = _certificate("new ca", 3000)
        server.files[line.text] = _file(line.text, made)
    elif line.kind is LineKind.DELETE:
        server.files.pop(line.text, None)
    elif line.kind is LineKind.COMMAND and line.text.startswith(_PREFIX):
        _database(servers, server, line.text.removeprefix(_PREFIX).split(), at)
    elif line.kind is LineKind.COMMAND:
        _make(server, line.text.split(), new)


def _make(server: _Server, words: list[str], new: Mapping[str, CertificateFact]) -> None:
    verb, stem = words[1], words[2]
    made: dict[str, CertificateFact | None] = {}
    if words[0] == "backup":
        made = {f"{stem}.bak": None}
    elif verb == "csr":
        made = {f"{stem}.key": None, f"{stem}.csr": None}
    elif verb == "selfsigned":
        made = {f"{stem}.key": None, f"{stem}.crt": _certificate("new ca", 3000)}
    else:
        assert {f"{stem}.csr", f"{words[3]}.key", f"{words[3]}.crt"} <= set(server.files), words
        made = {f"{stem}.crt": new[stem]}
    for name, certificate in made.items():
        assert name not in server.files, f"{name} is written over on {server.node}"
        server.files[name] = _file(name, certificate)


def _database(servers: Mapping[str, _Server], server: _Server, words: list[str], at: Mapping[str, str]) -> None:
    verb, *arguments = words
    primary = next((one for one in servers.values() if one.role == "primary"), None)
    if verb == "remove":
        assert server.role, f"{server.node} is in no cluster"
        server.role = ""
        return
    if verb == "upgrade_schema":
        assert server.role == "primary", server.node
        return
    assert not server.role, f"{verb} on {server.node} while it is {server.role}"
    if verb == "certs":
        assert set(arguments) <= set(server.files), f"{server.node} lacks {set(arguments) - set(server.files)}"
        server.named = tuple(arguments)
    elif verb == "localnode":
        server.interface = arguments[0]
    elif verb == "initialize":
        assert primary is None
        server.role = "primary"
    else:
        assert primary is not None
        assert arguments == [at[primary.node]]
        assert server.named[-1] == primary.named[-1]  # one CA for all
        server.role = "replica" if verb == "join" else "connected"


# ── files and certificates ───────────────────────────────────────────────────────────────────────────────────────────
def _certificate(common_name: str, days: float, key: str = "") -> CertificateFact:
    digest = hashlib.sha256(f"{common_name}/{days}/{key}".encode()).hexdigest()
    return CertificateFact(
        fingerprint=digest,
        spki_sha256=digest,
        subject=common_name,
        issuer="seoul-database-ca",
        not_valid_after=(NOW + timedelta(days=days)).isoformat(),
    )


def _stored(name: str, days: float, ca_days: float) -> FileFact:
    if name.endswith(".key"):
        return _file(name, None)
    ends = ca_days if name == CA else days
    common_name = {CA: "seoul-database-ca", SERVER[1]: SERVER_CN, CLIENT[1]: "postgres"}[name]
    return _file(name, _certificate(common_name, ends))


def _file(name: str, certificate: CertificateFact | None) -> FileFact:
    if certificate is None:
        return FileFact(name=name, size=1700)
    return FileFact(name=name, size=1200, sha256=certificate.fingerprint, certificates=(certificate,))


def _sorted(files: Iterable[FileFact]) -> tuple[FileFact, ...]:
    return tuple(sorted(files, key=lambda one: one.name))


def _cut_off(fact: DatabaseFact, node: str, late: set[str], at: Mapping[str, str]) -> DatabaseFact:
    """Return the status where certificates have expired: nodes of another story do not reach each other."""
    unheard = {at[one] for one in late} if node not in late else set(at.values())
    members = tuple(
        one if one.me or one.address not in unheard else replace(one, connected=False, in_sync=False)
        for one in fact.members
    )
    marked = tuple(name for name in (fact.server_certificate, fact.client_certificate) if name) if node in late else ()
    return replace(fact, state="Error", error="expired", members=members, expired=marked)
