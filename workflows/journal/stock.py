"""Stock: what the engine must keep beside the chain of events, each by a key of its own.

Blobs by their SHA-256 (CSRs, certificates, bundles, transcripts), facts by node, pinned host keys by address and port,
credentials that rest, sealed keys (encrypted elsewhere; only ciphertext comes here), and which workers are alive.
What people must be able to look up later also writes an event; the events never hold the content, only its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workflows.errors import HostKeyChanged, JournalError
from workflows.journal import tables
from workflows.journal.events import FLEET, Kind, NewEvent, canonical_text
from workflows.journal.store import Transaction, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The host key of one SSH server; `verified` is true when a person compared its fingerprint."""

    address: str
    port: int
    key: str
    pinned_by: str
    at: datetime
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker that was heard of lately."""

    worker: str
    queues: tuple[str, ...]
    info: Mapping[str, Any]
    seen_at: datetime


# ── blobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def put_blob(tx: Transaction, kind: str, content: bytes) -> str:
    """Keep *content* and return its SHA-256 (hex). The same bytes are kept once, under their first kind."""
    sha256 = hashlib.sha256(content).hexdigest()
    tx.insert_once(tables.blob, sha256=sha256, kind=kind, content=content, at=tx.clock)
    return sha256


def get_blob(connection: sa.Connection, sha256: str) -> bytes:
    """Return the bytes. Raises: JournalError: not there, or no longer what its name says."""
    query = sa.select(tables.blob.c.content).where(tables.blob.c.sha256 == sha256)
    content: bytes | None = connection.execute(query).scalar_one_or_none()
    if content is None:
        raise JournalError(f"The journal has no blob {sha256[:12]}…", sha256=sha256)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise JournalError(f"Blob {sha256[:12]}… was changed.", sha256=sha256)
    return bytes(content)


# ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def put_facts(tx: Transaction, node: str, facts: Mapping[str, Any], run: str = FLEET) -> str:
    """Keep what a survey read of *node*, note it in the chain of *run*, and return the digest (SHA-256, hex)."""
    digest = hashlib.sha256(canonical_text(facts).encode()).hexdigest()
    tx.connection.execute(sa.insert(tables.facts).values(node=node, digest=digest, at=tx.clock, facts=facts))
    tx.append(NewEvent(run=run, kind=Kind.FACTS_RECORDED, node=node, data={"digest": digest}))
    return digest


def latest_facts(connection: sa.Connection, nodes: Iterable[str]) -> dict[str, tuple[str, datetime, dict[str, Any]]]:
    """Return (digest, time, facts) for each of *nodes* that was ever surveyed."""
    table = tables.facts
    wanted = list(dict.fromkeys(nodes))
    newest = sa.select(sa.func.max(table.c.id)).where(table.c.node.in_(wanted)).group_by(table.c.node)
    rows = connection.execute(sa.select(table).where(table.c.id.in_(newest)).order_by(table.c.node))
    return {row.node: (row.digest, moment(row.at), row.facts) for row in rows}


# ── host keys ────────────────────────────────────────────────────────────────────────────────────────────────────────
def pin(tx: Transaction, address: str, port: int, key: str, by: str, verified: bool, replace: bool = False) -> bool:
    """Pin *key* for the server at *address*:*port*; False when it is pinned just so already.

    Raises: HostKeyChanged: another key is pinned there, and *replace* was not asked for.
    """
    table = tables.pin
    here = (table.c.address == address, table.c.port == port)
    old = tx.connection.execute(sa.select(table).where(*here)).one_or_none()
    if old is not None and old.key == key and (old.verified or not verified):
        return False
    if old is not None and old.key != key and not replace:
        raise HostKeyChanged(address=address, port=port)
    values = {"key": key, "pinned_by": by, "at": tx.clock, "verified": verified}
    tx.connection.execute(
        tx.insert(table)
        .values(address=address, port=port, **values)
        .on_conflict_do_update(index_elements=["address", "port"], set_=values)
    )
    said = {"address": address, "port": port, "key": key, "verified": verified, "replaced": old.key if old else ""}
    tx.append(NewEvent(run=FLEET, kind=Kind.HOST_KEY_PINNED, actor=by, data=said))
    return True


def pins(connection: sa.Connection) -> dict[tuple[str, int], Pin]:
    """Return all pinned host keys by (address, port)."""
    rows = connection.execute(sa.select(tables.pin).order_by(tables.pin.c.address, tables.pin.c.port))
    return {
        (row.address, row.port): Pin(
            address=row.address,
            port=row.port,
            key=row.key,
            pinned_by=row.pinned_by,
            at=moment(row.at),
            verified=row.verified,
        )
        for row in rows
    }


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────
def rest_credential(tx: Transaction, name: str, why: str) -> bool:
    """Let nobody log in with credential *name* any more until it is woken; False when it rests already."""
    if not tx.insert_once(tables.resting, credential=name, why=why, since=tx.clock):
        return False
    tx.append(NewEvent(run=FLEET, kind=Kind.CREDENTIAL_REFUSED, data={"credential": name, "why": why}))
    return True


def wake_credential(tx: Transaction, name: str, by: str = "engine") -> bool:
    """Let *name* be tried again; False when it was awake."""
    table = tables.resting
    if tx.connection.execute(sa.delete(table).where(table.c.credential == name)).rowcount != 1:
        return False
    tx.append(NewEvent(run=FLEET, kind=Kind.CREDENTIAL_WOKEN, actor=by, data={"credential": name}))
    return True


def resting(connection: sa.Connection) -> dict[str, str]:
    """Return why each resting credential rests, by name."""
    rows = connection.execute(sa.select(tables.resting).order_by(tables.resting.c.credential))
    return {row.credential: row.why for row in rows}


def take_turn(tx: Transaction, name: str, holder: str, for_s: float) -> bool:
    """Let *holder* alone try credential *name* for so many seconds; False while another one does."""
    table = tables.lease
    values = {"holder": holder, "run": FLEET, "lane": "", "step": "", "expires_at": tx.clock + for_s}
    statement = (
        tx.insert(table)
        .values(resource=f"credential:{name}", token=1, **values)
        .on_conflict_do_update(
            index_elements=["resource"],
            set_={**values, "token": table.c.token + 1},
            where=sa.or_(table.c.holder.in_(("", holder)), table.c.expires_at <= tx.clock),
        )
        .returning(table.c.token)
    )
    return tx.connection.execute(statement).scalar_one_or_none() is not None


def give_turn(tx: Transaction, name: str, holder: str) -> None:
    """Let others try credential *name*, when it is still the turn of *holder*."""
    table = tables.lease
    mine = (table.c.resource == f"credential:{name}", table.c.holder == holder)
    tx.connection.execute(sa.update(table).where(*mine).values(holder="", expires_at=tx.clock))


def last_changes(connection: sa.Connection, nodes: Iterable[str]) -> dict[str, datetime]:
    """Return when the last line was sent that changed each of *nodes*; a survey from before that tells of the past."""
    table = tables.event
    query = (
        sa.select(table.c.node, sa.func.max(table.c.at).label("at"))
        .where(table.c.kind == Kind.INTENT.value, table.c.node.in_(list(nodes)))
        .group_by(table.c.node)
    )
    return {row.node: datetime.fromisoformat(row.at) for row in connection.execute(query)}


# ── sealed keys ──────────────────────────────────────────────────────────────────────────────────────────────────────
def seal(tx: Transaction, sealed_id: str, ciphertext: bytes) -> None:
    """Keep *ciphertext* under *sealed_id*, in place of what was there. Encryption is not done here."""
    values = {"ciphertext": ciphertext, "at": tx.clock}
    tx.connection.execute(
        tx.insert(tables.sealed)
        .values(id=sealed_id, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values)
    )


def sealed(connection: sa.Connection, sealed_id: str) -> bytes | None:
    """Return the ciphertext under *sealed_id*, or None."""
    query = sa.select(tables.sealed.c.ciphertext).where(tables.sealed.c.id == sealed_id)
    ciphertext = connection.execute(query).scalar_one_or_none()
    return None if ciphertext is None else bytes(ciphertext)


def unseal_drop(tx: Transaction, sealed_id: str) -> bool:
    """Forget what is sealed under *sealed_id* (the key is on its server and proved); False when nothing was there."""
    return tx.connection.execute(sa.delete(tables.sealed).where(tables.sealed.c.id == sealed_id)).rowcount == 1


def drop_sealed_of(tx: Transaction, run: str) -> int:
    """Forget the private keys sealed for *run* ("RUN/….key", "RUN/….csr"); its backups stay. Returns how many."""
    table = tables.sealed
    ours = sa.and_(table.c.id.startswith(f"{run}/", autoescape=True), ~table.c.id.endswith(".bak"))
    return int(tx.connection.execute(sa.delete(table).where(ours)).rowcount)


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def beat(tx: Transaction, worker: str, queues: Sequence[str], info: Mapping[str, Any]) -> None:
    """Note that *worker* is alive now, and which queues it serves."""
    values = {"queues": list(queues), "info": dict(info), "seen_at": tx.clock}
    tx.connection.execute(
        tx.insert(tables.worker)
        .values(worker=worker, **values)
        .on_conflict_do_update(index_elements=["worker"], set_=values)
    )


def leave(tx: Transaction, worker: str) -> None:
    """Forget *worker*, which has ended in order; one that was killed is forgotten when its heartbeat is old."""
    tx.connection.execute(sa.delete(tables.worker).where(tables.worker.c.worker == worker))


def workers(connection: sa.Connection, within_s: float = 30) -> list[WorkerRow]:
    """Return the workers heard of within the last *within_s* seconds by the database's clock."""
    table = tables.worker
    query = sa.select(table).where(table.c.seen_at >= tables.clock() - within_s).order_by(table.c.worker)
    return [
        WorkerRow(worker=row.worker, queues=tuple(row.queues), info=row.info, seen_at=moment(row.seen_at))
        for row in connection.execute(query)
    ]
