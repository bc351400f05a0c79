"""Lists over all runs: which runs, which events, each a page at a time, and only what one may see. Reading only.

A person whose grants are for some clusters is given *clusters* (None: all of them) and *nodes*, which are those of
the clusters: an event of another lane is not counted either. `Journal.runs` and `Journal.events` are for the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from workflows.journal import tables
from workflows.journal.events import Event, Kind
from workflows.journal.store import SUMMARY, RunSummary, event_of, summary_of

PEOPLE = (
    Kind.ACCOUNT_CHANGED,
    Kind.SIGNED_IN,
    Kind.SIGN_IN_REFUSED,
    Kind.ACCESS_REFUSED,
    Kind.SESSION_ENDED,
    Kind.TOKEN_MADE,
    Kind.TOKEN_REVOKED,
    Kind.WEBHOOK_CHANGED,
)
"""Events about people, which not everybody who may see runs may see."""
_OF_RUNS = (Kind.RUN_CREATED.value, Kind.RUN_CLOSED.value)
_FLAGS = {"running": "", "waiting": "waiting", "stopped": "stopped", "paused": "paused", "cancelled": "cancelled"}
STATUSES = ("done", "failed", *_FLAGS)
"""What a run may be at, see `status_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What somebody may see: everything, or these clusters with their nodes; *people*: events about people too."""

    clusters: frozenset[str] | None = None
    nodes: frozenset[str] = frozenset()
    people: bool = True


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingGates:
    """Gates called *name* of lanes called *lane* that wait for people: how many, and for how long the oldest has."""

    lane: str
    name: str
    count: int
    age_s: float


def status_of(run: RunSummary) -> str:
    """Return the outcome of a run that is over, else what its lanes are at; one that moves counts most."""
    if run.outcome != "open":
        return run.outcome
    flags = set(run.lanes.values())
    return next((name for name, flag in _FLAGS.items() if flag in flags), "running")


def find_runs(
    connection: sa.Connection,
    *,
    scope: Scope = EVERYTHING,
    kind: str = "",
    status: str = "",
    outcome: str = "",
    cluster: str = "",
    requested_by: str = "",
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[RunSummary], int]:
    """Return a page of the runs, newest first, and how many there are in all."""
    run = tables.run
    wanted: list[sa.ColumnElement[bool]] = []
    wanted += [run.c.kind == kind] if kind else []
    wanted += [run.c.outcome == outcome] if outcome else []
    wanted += [run.c.requested_by == requested_by] if requested_by else []
    # A cluster that one may not see is touched by no run, else the list would tell which runs are of it too.
    hidden = bool(cluster) and scope.clusters is not None and cluster not in scope.clusters
    wanted += [_touches(() if hidden else (cluster,))] if cluster else []
    wanted += [_touches(scope.clusters)] if scope.clusters is not None else []
    wanted += [_is_at(status)] if status else []
    total = connection.execute(sa.select(sa.func.count()).select_from(run).where(*wanted)).scalar_one()
    query = sa.select(*SUMMARY).where(*wanted).order_by(run.c.created_at.desc(), run.c.run)
    rows = connection.execute(query.limit(limit).offset(offset)).all()
    lane = tables.lane
    flags: dict[str, dict[str, str]] = {row.run: {} for row in rows}
    for one in connection.execute(sa.select(lane).where(lane.c.run.in_(flags)).order_by(lane.c.lane)):
        flags[one.run][one.lane] = one.flag
    return [summary_of(row, flags[row.run]) for row in rows], total


def lanes_of(connection: sa.Connection, run: str) -> tuple[str, ...]:
    """Return the names of the lanes of *run*, () when there is no such run."""
    lane = tables.lane
    return tuple(connection.execute(sa.select(lane.c.lane).where(lane.c.run == run).order_by(lane.c.lane)).scalars())


def last_success(connection: sa.Connection, *, kind: str, lane: str, but: str = "") -> RunSummary | None:
    """Return the newest run of *kind*, other than *but*, that is done and whose *lane* is done; None: there is none."""
    run, its = tables.run, tables.lane
    query = (
        sa.select(*SUMMARY)
        .join(its, its.c.run == run.c.run)
        .where(run.c.kind == kind, run.c.outcome == "done", run.c.run != but, its.c.lane == lane, its.c.flag == "done")
        .order_by(run.c.closed_at.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else summary_of(row, {lane: "done"})


def find_events(
    connection: sa.Connection,
    *,
    scope: Scope = EVERYTHING,
    run: str = "",
    kinds: Collection[str] = (),
    node: str = "",
    actor: str = "",
    lane: str = "",
    after: datetime | None = None,
    oldest_first: bool = False,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Event], int]:
    """Return a page of the events of all runs (or of *run*), newest first, and how many there are in all."""
    event = tables.event
    wanted = [*_seen(scope)]
    wanted += [event.c.run == run] if run else []
    wanted += [event.c.kind.in_(list(kinds))] if kinds else []
    wanted += [event.c.node == node] if node else []
    wanted += [event.c.actor == actor] if actor else []
    wanted += [event.c.lane == lane] if lane else []
    wanted += [event.c.at > _text(after)] if after else []
    total = connection.execute(sa.select(sa.func.count()).select_from(event).where(*wanted)).scalar_one()
    order: Sequence[Any] = (event.c.n,) if run else (event.c.at, event.c.run, event.c.n)
    ordered = order if oldest_first else [one.desc() for one in order]
    rows = connection.execute(sa.select(event).where(*wanted).order_by(*ordered).limit(limit).offset(offset))
    return [event_of(row) for row in rows], total


def heads(connection: sa.Connection, *, closed_within_s: float = 60.0) -> dict[str, int]:
    """Return {run: number of its last event} of the runs that are open, or were until a moment ago."""
    chain, run = tables.chain, tables.run
    lately = sa.or_(run.c.outcome == "open", run.c.closed_at > tables.clock() - closed_within_s)
    query = sa.select(chain.c.run, chain.c.head_n).join(run, run.c.run == chain.c.run).where(lately)
    return {row.run: row.head_n for row in connection.execute(query)}


def outcomes(connection: sa.Connection, runs: Collection[str]) -> dict[str, str]:
    """Return the outcome of each of *runs*."""
    run = tables.run
    rows = connection.execute(sa.select(run.c.run, run.c.outcome).where(run.c.run.in_(list(runs))))
    return {row.run: row.outcome for row in rows}


def _touches(clusters: Collection[str]) -> sa.ColumnElement[bool]:
    lane = tables.lane
    return sa.exists().where(lane.c.run == tables.run.c.run, lane.c.lane.in_(list(clusters)))


def _is_at(status: str) -> sa.ColumnElement[bool]:
    run, lane = tables.run, tables.lane
    if status not in _FLAGS:
        return run.c.outcome == status
    # As `status_of`: the first of these flags that a lane has, and running when none has any of them.
    has = {name: sa.exists().where(lane.c.run == run.c.run, lane.c.flag == flag) for name, flag in _FLAGS.items()}
    open_now = run.c.outcome == "open"
    if status == "running":
        return sa.and_(open_now, sa.or_(has["running"], ~sa.or_(*has.values())))
    names = list(_FLAGS)
    earlier = [has[name] for name in names[: names.index(status)]]
    at = sa.and_(open_now, has[status], ~sa.or_(*earlier))
    return sa.or_(at, run.c.outcome == "cancelled") if status == "cancelled" else at


def _seen(scope: Scope) -> list[sa.ColumnElement[bool]]:
    event = tables.event
    found: list[sa.ColumnElement[bool]] = []
    if not scope.people:
        found.append(event.c.kind.not_in([kind.value for kind in PEOPLE]))
    if scope.clusters is None:
        return found
    lane, clusters = tables.lane, list(scope.clusters)
    whole = sa.and_(event.c.kind.in_(_OF_RUNS), sa.exists().where(lane.c.run == event.c.run, lane.c.lane.in_(clusters)))
    mine = sa.and_(event.c.lane == "", event.c.node.in_(list(scope.nodes)))
    return [*found, sa.or_(event.c.lane.in_(clusters), whole, mine)]


def _text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def pending_gates(connection: sa.Connection) -> list[PendingGates]:
    """Return the gates that wait for people now, by lane and name."""
    gate, lane, run = tables.gate, tables.lane, tables.run
    query = (
        sa.select(
            gate.c.lane, gate.c.name, sa.func.count().label("many"), (tables.clock() - sa.func.min(gate.c.opened_at))
        )
        .join(run, run.c.run == gate.c.run)
        .join(lane, sa.and_(lane.c.run == gate.c.run, lane.c.lane == gate.c.lane))
        .where(gate.c.status == "open", run.c.outcome == "open", lane.c.flag.not_in(("cancelled", "done")))
        .group_by(gate.c.lane, gate.c.name)
        .order_by(gate.c.lane, gate.c.name)
    )
    return [
        PendingGates(lane=lane, name=name, count=count, age_s=max(0.0, float(age)))
        for lane, name, count, age in connection.execute(query)
    ]
