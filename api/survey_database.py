"""What a survey shows of the database clusters: a row for each server, and who is the primary by all of them.

Only what an operator wants to know at a glance; whether a plan can be made of it is for the procedure to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from workflows.facts import DatabaseFact, DatabaseState, PortState

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.inventory import DatabaseWish, ResolvedFleet

_ROLES = frozenset({"joined", "connected"})


def soonest(facts: NodeFacts) -> tuple[str, datetime | None]:
    """Return (file, end) of the certificate of the database that ends first; ("none", None) when none can be read."""
    database = facts.database_cluster
    named = database.files if database else ()
    ends = [
        (datetime.fromisoformat(stored.certificates[0].not_valid_after), name)
        for name in named
        if (stored := facts.file(name)) is not None and stored.certificates
    ]
    if ends:
        end, name = min(ends)
        return name, end
    return next((name for name in named if not name.endswith(".key")), "none"), None


def takes_part(facts: NodeFacts) -> bool:
    """Say whether the server is in a database cluster, on its way in or out, or in error about it."""
    return facts.database_cluster is not None and facts.database not in {DatabaseState.DISABLED, DatabaseState.UNKNOWN}


def complaints(facts: NodeFacts) -> str:
    """Return what is wrong with the database of this server, "" when all is well."""
    database = facts.database_cluster
    if database is None:
        return ""
    me = database.me
    found = [f"expired: {', '.join(database.expired)}"] if database.expired else []
    if database.error and not (found and "expired" in database.error.lower()):
        found.insert(0, database.error)
    if facts.database is DatabaseState.BUSY:
        found.append(f"`{database.last_command or database.state}` is under way")
    elif facts.database is DatabaseState.REPLICA and me is not None and not me.in_sync:
        found.append(f"not in sync: {me.text}")
    elif database.progress == "failed":
        found.append(f"`{database.last_command}` failed")
    return "; ".join((*found, *_served(facts, database)))


def differences(facts: NodeFacts, wish: DatabaseWish) -> tuple[str, ...]:
    """Return where the certificates in use lack what the inventory asks for; such a database is due."""
    from workflows.procedures.database_certificates import names_missing

    database = facts.database_cluster
    if database is None:
        return ()
    pairs = [(database.client_certificate, wish.client)]
    if database.me is not None:  # who only connects needs no server pair
        pairs.insert(0, (database.server_certificate, wish.server))
    return tuple(
        f"{name} lacks {', '.join(missing)}, which the inventory asks for"
        for name, wanted in pairs
        if (stored := facts.file(name)) is not None
        and stored.certificates
        and (missing := names_missing(stored.certificates[0], wanted))
    )


def _served(facts: NodeFacts, database: DatabaseFact) -> Iterator[str]:
    """Yield what the port shows other than the file."""
    port, stored = facts.port("database"), facts.file(database.server_certificate)
    if port is None or port.state is not PortState.SERVED or stored is None or not stored.certificates:
        return
    if port.chain and port.chain[0].fingerprint != stored.certificates[0].fingerprint:
        yield f"serves another certificate than {database.server_certificate}"


def sayings(fleet: ResolvedFleet, facts: Mapping[str, NodeFacts]) -> Iterator[tuple[str, bool]]:
    """Yield (sentence, all is well) for each cluster that has a database: who the primary is, and who says so."""
    owners = {
        me.address: name
        for name, one in facts.items()
        if one.database_cluster is not None and (me := one.database_cluster.me) is not None
    }
    for cluster in fleet.clusters:
        inside = [node.name for node in cluster.nodes if node.name in facts and takes_part(facts[node.name])]
        if not inside:
            continue
        named: dict[str, list[str]] = {}
        for name in inside:
            named.setdefault(facts[name].database_primary, []).append(name)
        parts = [_names(nodes, address, owners, len(inside)) for address, nodes in named.items()]
        expected = (node.name for node in cluster.nodes if node.database in _ROLES and node.name not in inside)
        missing = [f"{name} {'is in no cluster' if name in facts else 'did not answer'}" for name in expected]
        well = len(named) == 1 and "" not in named and not missing
        yield f"database of {cluster.name}: {'; '.join(parts + missing)}", well


def _names(nodes: list[str], address: str, owners: Mapping[str, str], of: int) -> str:
    """Return "cms1, cms2 name cms1 (10.0.0.1) as the primary"."""
    who = f"all {of} servers" if len(nodes) == of > 1 else ", ".join(nodes)
    primary = f"{owners[address]} ({address})" if address in owners else address
    return f"{who} {'name' if len(nodes) > 1 else 'names'} {f'{primary} as the primary' if primary else 'no primary'}"
