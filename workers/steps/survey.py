"""Stage 100: read everything a plan needs from one server, change nothing.

Release, services and their files, trust stores, database cluster, clock, and what each port serves. Certificates are
fetched and read here; keys never are. Ports are looked at from where the worker stands, or where `proof` says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from workers import served
from workers.context import StepContext
from workers.session import NodeSession
from workflows.errors import CertificateError, CommandRejected, NodeError, UnexpectedReply, Unreachable
from workflows.facts import (
    CertificateFact,
    DatabaseFact,
    DatabaseMember,
    DatabaseState,
    FileFact,
    NodeFacts,
    PortFact,
    PortState,
    ServiceFact,
    TrustFact,
)
from workflows.inventory import DatabaseRole, Node
from workflows.mmp.commands import DatabaseClusterStatus, Date, PkiList, ServiceStatus, Version
from workflows.mmp.replies import DatabaseStatus, Status
from workflows.mmp.services import Probe, Release, Service, ServiceSettings, services_of, trust_stores_of
from workflows.x509.pile import read_pile
from workflows.x509.renewal import view
from workflows.x509.request import subject_of

DATABASE_SERVICE = "database"  # its name in `proof` and in port facts; it is no service of a certificate
DATABASE_PORT = 5432  # mmp-reference 3.2, S1
_ROLES = {"primary": DatabaseState.PRIMARY, "replica": DatabaseState.REPLICA}
_CERTIFICATE_ENDINGS = (".crt", ".cer", ".pem", ".der")


async def survey(context: StepContext) -> dict[str, Any]:
    """Read the server, keep the facts in the journal, and return their digest."""
    node = context.node
    async with context.session() as session:
        facts = await read_facts(session, node, now=context.now())
    digest = await context.put_facts(facts)
    return {"facts": digest, "release": facts.release, "at": facts.at}


async def read_facts(session: NodeSession, node: Node, *, now: datetime) -> NodeFacts:
    """Return all facts of *node* as they are *now* (UTC). Raises: NodeError and its kin; nothing is changed."""
    version = await session.ask(Version())
    release: Release = (version[0], version[1])
    statuses = await read_statuses(session, services_of(release))
    services = service_facts(services_of(release), statuses)
    trust = tuple(
        TrustFact(store=store.name, file=file or "")
        for store in trust_stores_of(release)
        if (status := statuses.get(store.process)) is not None and (file := store.current(status)) is not None
    )
    skew = await _skew(session, now)
    database = await read_database(session)
    return NodeFacts(
        node=node.name,
        at=now.isoformat(),
        release=".".join(str(part) for part in version),
        hostname=session.hostname,
        clock_skew_s=skew,
        database=database_state(database),
        database_primary=database.primary if database else "",
        database_cluster=database,
        services=services,
        trust=trust,
        files=await read_files(session),
        ports=(
            *await read_ports(node, services_of(release), services),
            *await read_database_port(node, database),
        ),
    )


async def read_statuses(session: NodeSession, entries: Iterable[Service]) -> dict[str, Status]:
    """Return {process: its status} for the processes of *entries*; one that does not know the command is left out."""
    found: dict[str, Status] = {}
    for process in dict.fromkeys([entry.status_line for entry in entries] + ["uploader"]):
        try:
            found[process.split()[0]] = await session.ask(ServiceStatus(process))
        except (UnexpectedReply, CommandRejected):
            continue  # not licensed, or not set up, on this server: it has no such rows
    return found


def service_facts(entries: Iterable[Service], statuses: dict[str, Status]) -> tuple[ServiceFact, ...]:
    """Return what the statuses say of each service, in the order of the services table."""
    return tuple(
        _service_fact(entry, entry.current(statuses[entry.process])) for entry in entries if entry.process in statuses
    )


def _service_fact(entry: Service, now: ServiceSettings) -> ServiceFact:
    return ServiceFact(
        service=entry.name,
        enabled=now.enabled,
        key=now.key or "",
        certificate=now.certificate or "",
        bundle=now.bundle or "",
        port=now.listening[0].port if now.listening else entry.default_port,
        tag=now.tag,
    )


async def read_files(session: NodeSession) -> tuple[FileFact, ...]:
    """Return every file on the server by name; certificates and requests are fetched and read, nothing else is."""
    names: tuple[str, ...] = await session.ask(PkiList())
    listed = set(names)
    found: list[FileFact] = []
    for entry in sorted(await session.listing(), key=lambda one: one.name):
        if entry.name.endswith(_CERTIFICATE_ENDINGS) and (entry.name in listed or entry.name.startswith("certbridge")):
            found.append(await _certificate_file(session, entry.name, entry.size))
        else:
            found.append(FileFact(name=entry.name, size=entry.size))
    return tuple(found)


async def _certificate_file(session: NodeSession, name: str, size: int) -> FileFact:
    try:
        data = await session.fetch(name)
        pile = read_pile({name: data})
    except (NodeError, CertificateError):
        # A private key under a certificate's name, or bytes that are neither: the file is there, and that is all.
        return FileFact(name=name, size=size)
    return FileFact(
        name=name,
        size=size,
        sha256=hashlib.sha256(data).hexdigest(),
        certificates=tuple(certificate_fact(one.certificate) for one in pile.certificates),
    )


def certificate_fact(certificate: Any) -> CertificateFact:
    """Return the fact of a `cryptography` certificate."""
    seen = view(certificate)
    return CertificateFact(
        fingerprint=seen.fingerprint,
        spki_sha256=seen.spki_sha256,
        subject=seen.CN,
        issuer=subject_of(certificate.issuer).CN,
        not_valid_after=seen.not_after.astimezone(UTC).isoformat(),
        names=tuple(seen.sans),
    )


async def read_ports(node: Node, entries: Iterable[Service], services: tuple[ServiceFact, ...]) -> tuple[PortFact, ...]:
    """Return what each listening service serves, seen from here; `proof` of the inventory says where to look."""
    facts = {fact.service: fact for fact in services}
    found: list[PortFact] = []
    for entry in entries:
        fact = facts.get(entry.name)
        if fact is None or not fact.certificate or not fact.enabled or entry.probe is Probe.NONE:
            continue
        found.append(await _port(node, entry.name, node.address, fact.port or 0, entry.probe))
    return tuple(found)


async def read_database_port(node: Node, database: DatabaseFact | None) -> tuple[PortFact, ...]:
    """Return what the database of a joined node serves; () where none is to listen (mmp-reference 3.2: TCP 5432)."""
    if database is None or database.disabled or not (node.database is DatabaseRole.JOINED or database.me):
        return ()
    address = node.database_address or (database.me.address if database.me else "") or node.address
    return (await _port(node, DATABASE_SERVICE, address, DATABASE_PORT, Probe.STARTTLS_POSTGRES),)


async def _port(node: Node, service: str, address: str, port: int, probe: Probe) -> PortFact:
    proof = next((one for one in node.proof if one.service == service), None)
    address = proof.address if proof and proof.address else address
    port = (proof.port if proof else 0) or port
    if (proof is None or proof.reachable) and port:
        return await look(service, address, port, probe)
    note = "the inventory says it cannot be reached from here" if port else "its port is not known"
    return PortFact(service=service, address=address, port=port, state=PortState.NOT_PROBED, note=note)


async def look(service: str, address: str, port: int, probe: Probe) -> PortFact:
    """Return what *port* serves now; a port that does not answer is a fact, not an error."""
    try:
        seen = await served.look(address, port, probe=probe.value)
    except Unreachable as error:
        return PortFact(service=service, address=address, port=port, state=PortState.UNREACHABLE, note=error.message)
    pile = read_pile({f"{address}:{port}#{number}": der for number, der in enumerate(seen.chain)})
    return PortFact(
        service=service,
        address=address,
        port=port,
        state=PortState.SERVED if pile.certificates else PortState.UNREACHABLE,
        chain=tuple(certificate_fact(one.certificate) for one in pile.certificates),
        note=seen.note,
    )


async def _skew(session: NodeSession, now: datetime) -> float | None:
    try:
        return float(round((await session.ask(Date()) - now).total_seconds()))
    except (UnexpectedReply, CommandRejected):
        return None  # the clock is advice for the reader of a survey; nothing is decided by it


# ── the database cluster ─────────────────────────────────────────────────────────────────────────────────────────────
async def read_database(session: NodeSession) -> DatabaseFact | None:
    """Return what `database cluster status` says now, None when the server does not know the command."""
    try:
        return database_fact(await session.ask(DatabaseClusterStatus()))
    except (UnexpectedReply, CommandRejected):
        return None


def database_fact(status: DatabaseStatus) -> DatabaseFact:
    """Return the fact of a status: the same, with "" in place of None."""
    return DatabaseFact(
        state=status.state,
        error=status.error or "",
        members=tuple(
            DatabaseMember(
                address=node.address,
                role=node.role.value,
                me=node.me,
                connected=node.connected,
                in_sync=node.in_sync,
                text=node.text,
            )
            for node in status.nodes
        ),
        node_in_use=status.node_in_use or "",
        interface=status.interface or "",
        server_key=status.server_key or "",
        server_certificate=status.server_certificate or "",
        client_key=status.client_key or "",
        client_certificate=status.client_certificate or "",
        ca_certificate=status.ca_certificate or "",
        expired=status.expired,
        last_command=status.last_command or "",
        progress=status.progress.value,
    )


def database_state(fact: DatabaseFact | None) -> DatabaseState:
    """Return what the node says of its own place.

    Its own row counts more than an ERROR row: a cluster whose certificates have expired still knows who its primary is.
    """
    if fact is None:
        return DatabaseState.UNKNOWN
    if fact.busy:
        return DatabaseState.BUSY
    if fact.me is not None and fact.me.role in _ROLES:
        return _ROLES[fact.me.role]
    if _connects(fact):
        return DatabaseState.CONNECTED
    if fact.error:
        return DatabaseState.ERROR
    return DatabaseState.DISABLED if fact.disabled else DatabaseState.UNKNOWN


def _connects(fact: DatabaseFact) -> bool:
    """Say whether the node only connects: no row is its own, and it has no server pair (mmp-reference 3.3)."""
    if fact.disabled or fact.me is not None or fact.progress == "failed":
        return False
    connected = fact.last_command.startswith("database cluster connect ")
    return connected or (bool(fact.members) and not fact.server_certificate)
