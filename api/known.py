"""What the last surveys say of each server, kept in memory: certificates in use, trust, drift, and who did not answer.

Facts of 2,000 servers are tens of megabytes of JSON, so each is read once; later only what was added since. Values here
are what lists and pages show of a server; all of its facts are read from the journal, one server at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import sqlalchemy as sa

from api.here import Server
from workflows.facts import CertificateFact, DatabaseState, Drift, NodeFacts, PortState, drift
from workflows.journal import Journal, Kind, tables
from workflows.journal.store import moment

Served = Literal["same", "other", "unreachable", "not probed"]
DATABASE_SERVICE = "database"
SURVEYS_BACK = 200
"""How many surveys are looked through for the last one of a server, and how many other runs for its last change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """A certificate that a service is set to use; `leaf` is None where the file is not there or holds none.

    `served` says whether the service's port shows the same; `shown` is what it shows.
    """

    service: str
    enabled: bool | None
    file: str
    key: str = ""
    bundle: str = ""
    leaf: CertificateFact | None = None
    ends_at: datetime | None = None
    served: Served = "not probed"
    shown: CertificateFact | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A trust store, its file, and the certificates in it."""

    name: str
    file: str
    certificates: tuple[CertificateFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKnown:
    """One server as its last survey found it."""

    node: str
    at: datetime
    release: str
    clock_skew_s: float | None
    database: DatabaseState
    database_primary: str
    in_use: tuple[InUse, ...]
    stores: tuple[Store, ...]
    drift: tuple[Drift, ...]

    def first(self) -> InUse | None:
        """Return what ends first, None when nothing has an end."""
        ends = [one for one in self.in_use if one.ends_at is not None]
        return min(ends, key=lambda one: one.ends_at or datetime.max.replace(tzinfo=UTC), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of looking at a server last; `error` is {"code", "text", "remedy"} when it did not answer."""

    run: str
    at: datetime
    error: Mapping[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Known:
    """All servers at one moment; `changes` says when a run last sent each a line that changes it."""

    nodes: Mapping[str, NodeKnown]
    answers: Mapping[str, Answer]
    changes: Mapping[str, datetime] = field(default_factory=dict)

    def changed_at(self, node: str) -> datetime | None:
        """Return when a run changed *node* after its last survey, so that this tells of the past; else None."""
        at, here = self.changes.get(node), self.nodes.get(node)
        return at if at is not None and here is not None and here.at < at else None

    @cached_property
    def users(self) -> Mapping[str, tuple[tuple[str, InUse], ...]]:
        """Who uses a certificate: {fingerprint: ((node, what), …)}."""
        found: dict[str, list[tuple[str, InUse]]] = {}
        for name, one in self.nodes.items():
            for used in one.in_use:
                if used.leaf is not None:
                    found.setdefault(used.leaf.fingerprint, []).append((name, used))
        return {fingerprint: tuple(users) for fingerprint, users in found.items()}


def known(here: Server) -> Known:
    """Return what is known now."""
    return here.part("known", _Memory).look(here.journal)


def in_use(facts: NodeFacts) -> Iterator[InUse]:
    """Yield the certificates that the services of a server use, those of its database last."""
    for fact in facts.services:
        if not fact.certificate and not fact.enabled:
            continue
        leaf = _leaf(facts, fact.certificate)
        port = facts.port(fact.service)
        shown = port.chain[0] if port is not None and port.state is PortState.SERVED and port.chain else None
        yield InUse(
            service=fact.service,
            enabled=fact.enabled,
            file=fact.certificate,
            key=fact.key,
            bundle=fact.bundle,
            leaf=leaf,
            ends_at=_ends(leaf),
            served=_served(leaf, shown, None if port is None else port.state),
            shown=shown,
            port=fact.port,
        )
    database = facts.database_cluster
    if database is None:
        return
    pairs = (
        (database.server_certificate, database.server_key, "database"),
        (database.client_certificate, database.client_key, None),
        (database.ca_certificate, "", None),
    )
    for name, key, place in pairs:
        if not name:
            continue
        leaf, port = _leaf(facts, name), facts.port(place) if place else None
        shown = port.chain[0] if port is not None and port.state is PortState.SERVED and port.chain else None
        yield InUse(
            service=DATABASE_SERVICE,
            enabled=True,
            file=name,
            key=key,
            leaf=leaf,
            ends_at=_ends(leaf),
            served=_served(leaf, shown, None if port is None else port.state),
            shown=shown,
        )


def node_known(facts: NodeFacts, at: datetime) -> NodeKnown:
    """Return what is kept of *facts*, which came in at *at*."""
    stores = [
        Store(name=one.store, file=one.file, certificates=held.certificates if (held := facts.file(one.file)) else ())
        for one in facts.trust
        if one.file
    ]
    return NodeKnown(
        node=facts.node,
        at=at,
        release=facts.release,
        clock_skew_s=facts.clock_skew_s,
        database=facts.database,
        database_primary=facts.database_primary,
        in_use=tuple(in_use(facts)),
        stores=tuple(stores),
        drift=drift(facts),
    )


class _Memory:
    """What was read before, and how far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: dict[str, NodeKnown] = {}
        self._last: tuple[int, str] = (0, "")
        self._answers: dict[str, tuple[float, int, Answer]] = {}
        self._heads: dict[str, int] = {}
        self._changes: dict[str, datetime] = {}
        self._change_heads: dict[str, int] = {}
        self._known = Known(nodes={}, answers={})

    def look(self, journal: Journal) -> Known:
        """Return what is known, with what was added since the last look."""
        with self._lock:
            changed = journal.read(self._read_facts)
            changed = journal.read(self._read_answers) or changed
            changed = journal.read(self._read_changes) or changed
            if changed:
                answers = {node: answer for node, (_, _, answer) in self._answers.items()}
                self._known = Known(nodes=dict(self._nodes), answers=answers, changes=dict(self._changes))
            return self._known

    def _read_facts(self, connection: sa.Connection) -> bool:
        table = tables.facts
        last, digest = self._last
        newest = connection.execute(sa.select(sa.func.max(table.c.id))).scalar_one() or 0
        if last:
            there = connection.execute(sa.select(table.c.digest).where(table.c.id == last)).scalar_one_or_none()
            if there != digest:  # the database was put back to an older state
                self._nodes.clear()
                last = 0
        if newest == last:
            return False
        query = sa.select(table).where(table.c.id > last).order_by(table.c.id)
        if not last:
            query = query.where(table.c.id.in_(sa.select(sa.func.max(table.c.id)).group_by(table.c.node)))
        for row in connection.execute(query):
            self._nodes[row.node] = node_known(NodeFacts.from_json(row.facts), moment(row.at))
            self._last = (row.id, row.digest)
        return True

    def _read_answers(self, connection: sa.Connection) -> bool:
        run, chain, event = tables.run, tables.chain, tables.event
        surveys = connection.execute(
            sa.select(run.c.run, run.c.created_at, chain.c.head_n)
            .join(chain, chain.c.run == run.c.run)
            .where(run.c.kind == "survey")
            .order_by(run.c.created_at.desc(), run.c.run)
            .limit(SURVEYS_BACK)
        ).all()
        changed = False
        for row in reversed(surveys):
            before = self._heads.get(row.run, 0)
            if before == row.head_n:
                continue
            after = before if before < row.head_n else 0
            kinds = (Kind.STEP_DONE.value, Kind.STEP_FAILED.value)
            query = sa.select(event.c.node, event.c.n, event.c.kind, event.c.at, event.c.data).where(
                event.c.run == row.run, event.c.kind.in_(kinds), event.c.n > after, event.c.n <= row.head_n
            )
            for one in connection.execute(query.order_by(event.c.n)):
                mine = (row.created_at, one.n)
                old = self._answers.get(one.node)
                if one.node and (old is None or old[:2] < mine):
                    self._answers[one.node] = (*mine, _answer(row.run, one))
                    changed = True
            self._heads[row.run] = row.head_n
        return changed

    def _read_changes(self, connection: sa.Connection) -> bool:
        run, chain, event = tables.run, tables.chain, tables.event
        changing = connection.execute(
            sa.select(run.c.run, chain.c.head_n)
            .join(chain, chain.c.run == run.c.run)
            .where(run.c.kind != "survey")
            .order_by(run.c.created_at.desc(), run.c.run)
            .limit(SURVEYS_BACK)
        ).all()
        if any(self._change_heads.get(row.run, 0) > row.head_n for row in changing):  # put back to an older state
            self._changes, self._change_heads = {}, {}
        changed = False
        for row in changing:
            before = self._change_heads.get(row.run, 0)
            if before == row.head_n:
                continue
            query = (
                sa.select(event.c.node, sa.func.max(event.c.at).label("at"))
                .where(event.c.run == row.run, event.c.kind == Kind.INTENT.value)
                .where(event.c.n > before, event.c.n <= row.head_n)
                .group_by(event.c.node)
            )
            for one in connection.execute(query):
                at, old = datetime.fromisoformat(one.at), self._changes.get(one.node)
                if old is None or old < at:
                    self._changes[one.node] = at
                    changed = True
            self._change_heads[row.run] = row.head_n
        return changed


def _answer(run: str, row: Any) -> Answer:
    error = row.data.get("error") or {"text": "it failed"} if row.kind == Kind.STEP_FAILED.value else None
    return Answer(run=run, at=datetime.fromisoformat(row.at), error=error)


def _leaf(facts: NodeFacts, name: str) -> CertificateFact | None:
    stored = facts.file(name) if name else None
    return stored.certificates[0] if stored is not None and stored.certificates else None


def _ends(leaf: CertificateFact | None) -> datetime | None:
    if leaf is None:
        return None
    found = datetime.fromisoformat(leaf.not_valid_after)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _served(leaf: CertificateFact | None, shown: CertificateFact | None, state: PortState | None) -> Served:
    if shown is not None:
        return "same" if leaf is not None and leaf.fingerprint == shown.fingerprint else "other"
    return "unreachable" if state is PortState.UNREACHABLE else "not probed"
