"""Stage 100: read everything a plan needs from one server, change nothing.

Release, services and their files, trust stores, database role, clock, and what each port serves. Certificates are
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
    DatabaseState,
    FileFact,
    NodeFacts,
    PortFact,
    PortState,
    ServiceFact,
    TrustFact,
)
from workflows.inventory import Node
from workflows.mmp.commands import DatabaseClusterStatus, Date, PkiList, ServiceStatus, Version
from workflows.mmp.replies import DatabaseStatus, Role, Status
from workflows.mmp.services import Probe, Release, Service, ServiceSettings, services_of, trust_stores_of
from workflows.x509.pile import read_pile
from workflows.x509.renewal import view
from workflows.x509.request import subject_of

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
    return NodeFacts(
        node=node.name,
        at=now.isoformat(),
        release=".".join(str(part) for part in version),
        hostname=session.hostname,
        clock_skew_s=await _skew(session, now),
        **await _database(session),
        services=services,
        trust=trust,
        files=await read_files(session),
        ports=await read_ports(node, services_of(release), services),
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
        proof = next((one for one in node.proof if one.service == entry.name), None)
        address = proof.address if proof and proof.address else node.address
        port = (proof.port if proof else 0) or fact.port
        if (proof is not None and not proof.reachable) or not port:
            found.append(
                PortFact(
                    service=entry.name,
                    address=address,
                    port=port or 0,
                    state=PortState.NOT_PROBED,
                    note="the inventory says it cannot be reached from here" if port else "its port is not known",
                )
            )
            continue
        found.append(await look(entry.name, address, port, entry.probe))
    return tuple(found)


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


async def _database(session: NodeSession) -> dict[str, Any]:
    try:
        status = await session.ask(DatabaseClusterStatus())
    except (UnexpectedReply, CommandRejected):
        return {"database": DatabaseState.UNKNOWN, "database_primary": ""}
    return {"database": _database_state(status), "database_primary": status.primary or ""}


def _database_state(status: DatabaseStatus) -> DatabaseState:
    if status.error:
        return DatabaseState.ERROR
    if status.disabled:
        return DatabaseState.DISABLED
    if status.me is None:
        return DatabaseState.CONNECTED if status.nodes else DatabaseState.UNKNOWN
    return {Role.PRIMARY: DatabaseState.PRIMARY, Role.REPLICA: DatabaseState.REPLICA}.get(
        status.me.role, DatabaseState.UNKNOWN
    )
