"""Who is who in a database cluster: the one primary that all name, the joined, the connected; or why nobody can tell.

`database cluster join` on the wrong node destroys data, so a plan is only made when inventory and every node's own
status tell one story (DESIGN.md section 7, last paragraph; row S9). `--primary` settles a quarrel, and then a second
person must approve.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workflows.errors import Finding, PlanError, PlanInput, Unreachable
from workflows.facts import DatabaseFact, NodeFacts
from workflows.inventory import Cluster, DatabaseRole, Node
from workflows.inventory.checks import is_ip
from workflows.mmp.commands import DatabaseClusterCerts, DatabaseClusterClientCerts

PRIMARY, REPLICA, CONNECTED, NONE = "primary", "replica", "connected", "none"
# A node whose facts are this much older than its neighbours' did not answer the last survey.
SILENT_AFTER = timedelta(hours=1)
MOST_JOINED = 5  # mmp-reference 3.2 (S4); S1 says 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """The files that `database cluster certs` names on a node; a node that only connects has no server pair."""

    client_key: str
    client_certificate: str
    ca_certificate: str
    server_key: str = ""
    server_certificate: str = ""

    @classmethod
    def of(cls, fact: DatabaseFact) -> FileSet | None:
        """Return the files that a status names, None when it does not name a whole set."""
        if not (fact.client_key and fact.client_certificate and fact.ca_certificate):
            return None
        if bool(fact.server_key) is not bool(fact.server_certificate):
            return None
        return cls(
            client_key=fact.client_key,
            client_certificate=fact.client_certificate,
            ca_certificate=fact.ca_certificate,
            server_key=fact.server_key,
            server_certificate=fact.server_certificate,
        )

    @classmethod
    def named(cls, names: Sequence[str]) -> FileSet:
        """Return the set that `names` of another one gave: five file names, or three."""
        *server, client_key, client_certificate, ca_certificate = names
        server_key, server_certificate = server or ("", "")
        return cls(
            client_key=client_key,
            client_certificate=client_certificate,
            ca_certificate=ca_certificate,
            server_key=server_key,
            server_certificate=server_certificate,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The file names in the order of the command: five, or three."""
        server = (self.server_key, self.server_certificate) if self.server_key else ()
        return (*server, self.client_key, self.client_certificate, self.ca_certificate)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Key and certificate of each pair."""
        client = ((self.client_key, self.client_certificate),)
        return ((self.server_key, self.server_certificate), *client) if self.server_key else client

    @property
    def certificates(self) -> tuple[str, ...]:
        """The certificate files, the CA's last."""
        return (*(certificate for _, certificate in self.pairs), self.ca_certificate)

    def line(self) -> str:
        """Return the `database cluster certs` line."""
        if self.server_key:
            return DatabaseClusterCerts(
                self.server_key,
                self.server_certificate,
                self.client_key,
                self.client_certificate,
                self.ca_certificate,
            ).line()
        return DatabaseClusterClientCerts(self.client_key, self.client_certificate, self.ca_certificate).line()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node's place in the cluster as it is to be. `inside`: it is in a cluster now, so it must be removed first.

    `address` is where its peers reach its database, `old` the files it uses now.
    """

    node: str
    role: str
    address: str
    interface: str
    inside: bool
    old: FileSet | None

    @property
    def joined(self) -> bool:
        """Whether it has a database of its own in the cluster."""
        return self.role != CONNECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """All places of a cluster, in the order of the inventory, and what people must know of them.

    `settled` is True when a person named the primary (`--primary`): then a second one must approve.
    """

    cluster: str
    every: tuple[Place, ...]
    settled: bool
    notices: tuple[str, ...]

    @property
    def primary(self) -> Place:
        """The node whose data everybody gets."""
        return next(place for place in self.every if place.role == PRIMARY)

    @property
    def replicas(self) -> tuple[Place, ...]:
        """The other joined nodes."""
        return tuple(place for place in self.every if place.role == REPLICA)

    @property
    def connected(self) -> tuple[Place, ...]:
        """The nodes that use the database of others."""
        return tuple(place for place in self.every if place.role == CONNECTED)


def places(
    cluster: Cluster,
    facts: Mapping[str, NodeFacts],
    *,
    primary: str = "",
    building: bool = False,
    dissolving: bool = False,
    silent: Collection[str] = frozenset(),
) -> Places:
    """Return who is who in *cluster*; *primary* is the node a person named, *building* when no cluster stands yet.

    *dissolving*: nobody comes in again, so no data is overwritten. *silent* are nodes that the last survey could not
    read, as a mapping with the error of each where it is known. Raises: PlanError with every finding.
    """
    members = tuple(node for node in cluster.nodes if node.database in {DatabaseRole.JOINED, DatabaseRole.CONNECTED})
    joined = tuple(node for node in members if node.database is DatabaseRole.JOINED)
    raise_if(_shape(cluster, joined))
    if primary and primary not in {node.name for node in joined}:
        remedy = f"Name one of: {', '.join(node.name for node in joined)}."
        raise PlanInput([Finding(primary, "cannot be the primary: it is not `database: joined`", remedy)])
    if missing := _silent(members, facts, silent):
        answered = [node for node in members if node.name not in {one.where for one in missing}]
        raise PlanError([*missing, *_quarrel(cluster, _named(answered, facts))])
    raise_if([*_roles(cluster, facts), *_states(members, facts, building=building)])
    named = _named(members, facts)
    # In a first building there is nobody to contradict; the gate shows whose data it is.
    settled = bool(primary) and not building and set(named) != {primary}
    inside = {node.name for node in members if not _known(facts, node.name).disabled}
    chosen = primary or _agreed(cluster, joined, named, inside, building=building)
    raise_if([*_reachable(next(node for node in joined if node.name == chosen), facts)])
    return Places(
        cluster=cluster.name,
        every=tuple(_place(node, facts[node.name], chosen) for node in members),
        settled=settled,
        notices=tuple(_notices(cluster.name, joined, facts, named, chosen, dissolving=dissolving)),
    )


def raise_if(findings: Sequence[Finding]) -> None:
    """Return when there are no *findings*. Raises: PlanError with all of them."""
    if findings:
        raise PlanError(findings)


def _shape(cluster: Cluster, joined: Sequence[Node]) -> list[Finding]:
    found: list[Finding] = []
    if not joined:
        found.append(
            Finding(cluster.name, "has no database cluster in the inventory", "Write `database: joined` for its nodes.")
        )
    if len(joined) > MOST_JOINED:
        what = f"{len(joined)} nodes are `database: joined`; a cluster takes {MOST_JOINED}"
        found.append(Finding(cluster.name, what, "Let the others be `database: connected`."))
    return found


def _silent(members: Sequence[Node], facts: Mapping[str, NodeFacts], silent: Collection[str]) -> list[Finding]:
    errors = silent if isinstance(silent, Mapping) else {}
    known = {node.name: facts[node.name] for node in members if node.name in facts and node.name not in silent}
    newest = max((datetime.fromisoformat(one.at) for one in known.values()), default=None)
    found: list[Finding] = []
    for node in members:
        one = known.get(node.name)
        if one is None or (newest and newest - datetime.fromisoformat(one.at) > SILENT_AFTER):
            found.append(_unread(node, errors.get(node.name)))
        elif one.database_cluster is None:
            what = "did not tell the status of its database cluster"
            found.append(Finding(node.name, what, "Read `database cluster status` on it by hand, then survey again."))
    return found


def _unread(node: Node, error: Mapping[str, str] | None) -> Finding:
    """Return what is said of a node that the last survey could not read; *error* is why, where it is known."""
    unknown = "what its database holds is not known"
    gone = "Bring it back and survey again; if it is gone for good, set `database: none` in the inventory."
    if error is None or error.get("code") == Unreachable.__name__:
        why = f" ({error['text']})" if error else ""
        what = f"is {node.database.value} and did not answer the last survey: {unknown}{why}"
        return Finding(node.name, what, gone)
    what = f"is {node.database.value} and could not be read by the last survey: {error['text']}; {unknown}"
    return Finding(node.name, what, f"{error.get('remedy') or 'Mend the cause.'} Then survey again.")


def _roles(cluster: Cluster, facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    """Yield where the status of a node contradicts its role in the inventory."""
    addresses = {
        address for node in cluster.nodes for address in (_address(node, facts.get(node.name)), node.address) if address
    }
    for node in cluster.nodes:
        fact = _fact(facts, node.name)
        if fact is None or fact.disabled:
            continue
        if node.database not in {DatabaseRole.JOINED, DatabaseRole.CONNECTED}:
            what = f"is in a database cluster, but the inventory says `database: {node.database.value}`"
            yield Finding(node.name, what, "Correct `database:` in the inventory: joined or connected.")
        elif (fact.me is None) is (node.database is DatabaseRole.JOINED) and fact.members:
            said = "connects only" if fact.me is None else "has joined"
            what = f"{said} by its own status, but the inventory says `database: {node.database.value}`"
            yield Finding(node.name, what, "Correct `database:` in the inventory.")
        if fact.interface and fact.interface != node.database_interface:
            # `localnode` with another interface changes the address that all others join and connect to.
            what = f"its database is on interface {fact.interface}, but the inventory says {node.database_interface}"
            yield Finding(node.name, what, f"Write `database_interface: {fact.interface}` at this node.")
        for member in fact.members:
            if member.address not in addresses:
                what = f"names a member {member.address} that is no node of this cluster in the inventory"
                remedy = "Add it, or write the address that the others use as `database_address:` of its node."
                yield Finding(node.name, what, remedy)


def _states(members: Sequence[Node], facts: Mapping[str, NodeFacts], *, building: bool) -> Iterator[Finding]:
    inside = [node.name for node in members if not _known(facts, node.name).disabled]
    for node in members:
        fact = _known(facts, node.name)
        if fact.busy:
            remedy = "Wait until `database cluster status` says (Success) or (Failed), then survey again."
            yield Finding(node.name, f"`{fact.last_command}` is still under way", remedy)
    if building and inside:
        what = f"{', '.join(inside)} {'are' if len(inside) > 1 else 'is'} in a database cluster already"
        yield Finding(members[0].cluster, what, "Use `certbridge plan --database renew` (or `dissolve` first).")
    if not building and not inside:
        remedy = "Use `certbridge plan --database build --primary NODE`; its data is what all get."
        yield Finding(members[0].cluster, "no node is in a database cluster", remedy)


def _named(members: Sequence[Node], facts: Mapping[str, NodeFacts]) -> dict[str, list[str]]:
    """Return {who is called the primary: the nodes in a cluster that say so}; "" for who names none.

    A primary that is none of *members* stands there by its address.
    """
    of_address = {address: node.name for node in members if (address := _address(node, facts[node.name]))}
    found: dict[str, list[str]] = {}
    for node in members:
        fact = _known(facts, node.name)
        if not fact.disabled:
            found.setdefault(of_address.get(fact.primary, fact.primary), []).append(node.name)
    return found


def _who_names_whom(named: Mapping[str, Sequence[str]]) -> str:
    """Return "a1, a2 name a1; b1 names none"."""
    return "; ".join(
        f"{', '.join(who)} {'name' if len(who) > 1 else 'names'} {primary or 'none'}" for primary, who in named.items()
    )


def _quarrel(cluster: Cluster, named: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Return the finding that nodes do not agree on one primary, [] where they do."""
    if len(named) <= 1:
        return []
    what = f"its nodes do not agree on one primary: {_who_names_whom(named)}"
    remedy = "Read `database cluster status` on each; if you know whose data is to live, say `--primary NODE`."
    return [Finding(cluster.name, what, remedy)]


def _agreed(
    cluster: Cluster, joined: Sequence[Node], named: Mapping[str, Sequence[str]], inside: set[str], *, building: bool
) -> str:
    if building:
        if len(joined) == 1:
            return joined[0].name
        remedy = "Say whose data all are to get: `--primary NODE`. The data of the other joined nodes is overwritten."
        raise PlanInput([Finding(cluster.name, "nothing tells which node holds the data to keep", remedy)])
    raise_if(_quarrel(cluster, named))
    primary = next(iter(named))
    if primary not in {node.name for node in joined}:
        what = f"{_who_names_whom(named)} as the primary, which is no joined node of the inventory"
        remedy = "Read `database cluster status` on each; if you know whose data is to live, say `--primary NODE`."
        if not primary:
            what = f"no node names a primary ({', '.join(named[primary])})"
        raise PlanError([Finding(cluster.name, what, remedy)])
    if primary not in inside:
        # Since it left, its data may be older than that of the others, or a standalone server's own.
        what = f"its nodes name {primary} as their primary, but {primary} says that it is in no cluster"
        remedy = "Look at whose data is to live, and say `--primary NODE`."
        raise PlanError([Finding(cluster.name, what, remedy)])
    return primary


def _reachable(primary: Node, facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    """Yield why nobody can tell the address to join, as the primary's status will show it after `initialize`."""
    if _known(facts, primary.name).me is not None or is_ip(primary.database_address):
        return
    if primary.database_address or not is_ip(primary.address) or primary.database_interface != primary.interface:
        what = f"the IP address of its database on interface {primary.database_interface} is not known"
        yield Finding(primary.name, what, "Write it as `database_address:` of this node; all others are to join it.")


def _place(node: Node, facts: NodeFacts, primary: str) -> Place:
    fact = facts.database_cluster or DatabaseFact(state="Disabled")
    role = CONNECTED if node.database is DatabaseRole.CONNECTED else PRIMARY if node.name == primary else REPLICA
    return Place(
        node=node.name,
        role=role,
        address=_address(node, facts) or node.address,
        interface=node.database_interface,
        inside=not fact.disabled,
        old=FileSet.of(fact),
    )


def behind(primary: str, facts: Mapping[str, NodeFacts], *, stands: bool) -> str:
    """Return what is lost when *primary* leads from now on, since another node is ahead of it; "" when nothing is.

    *stands*: some node is in a cluster, so there may be one that is ahead.
    """
    fact = _known(facts, primary)
    if not stands or (fact.me is not None and (fact.me.role == PRIMARY or fact.me.in_sync)):
        return ""
    where = "is in no cluster now" if fact.disabled else "is not in sync"
    return f"{primary} {where}: what the acting primary has and it does not is lost"


def _notices(
    cluster: str,
    joined: Sequence[Node],
    facts: Mapping[str, NodeFacts],
    named: Mapping[str, Sequence[str]],
    primary: str,
    *,
    dissolving: bool,
) -> Iterator[str]:
    if named and set(named) != {primary}:
        yield f"{cluster}: {primary} is the primary because a person said so; by status {_who_names_whom(named)}"
    if dissolving:
        return
    if lost := behind(primary, facts, stands=bool(named)):
        yield f"{cluster}: {lost}"
    if len(joined) > 1 and len(joined) % 2 == 0:
        yield f"{cluster}: {len(joined)} nodes are joined; Cisco recommends an odd number"
    for node in joined:
        fact = _known(facts, node.name)
        if node.name == primary:
            continue
        if fact.disabled:
            yield f"{node.name} is in no cluster now; it joins, and its own data is overwritten by that of {primary}"
        elif fact.me is not None and fact.me.role != PRIMARY and not fact.me.in_sync:
            yield f"{node.name} is not in sync now; what it alone holds is overwritten by the data of {primary}"


def _address(node: Node, facts: NodeFacts | None) -> str:
    """Return the address under which the cluster knows *node*."""
    fact = facts.database_cluster if facts else None
    me = fact.me if fact else None
    return me.address if me else node.database_address or node.address


def _fact(facts: Mapping[str, NodeFacts], node: str) -> DatabaseFact | None:
    one = facts.get(node)
    return one.database_cluster if one else None


def _known(facts: Mapping[str, NodeFacts], node: str) -> DatabaseFact:
    """Return the fact of a node whose facts were looked at before."""
    return _fact(facts, node) or DatabaseFact(state="Disabled")
