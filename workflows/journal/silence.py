"""Which servers did not answer lately, by what the journal says of steps: many at once are an outage.

A server that never answered anything is not away, it is dead, or not there yet: it says nothing of the network.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from workflows.journal import tables
from workflows.journal.events import Kind
from workflows.journal.store import Transaction

_CLAIM, _EVENT = tables.claim, tables.event
_SILENT = "Unreachable"
_ENDED_BADLY = ("failed", "parked", "waiting", "open", "excused")


def silent_nodes(tx: Transaction, *, within_s: float, run: str, lane: str) -> tuple[str, ...]:
    """Return the nodes that were unreachable for a step of any run within *within_s* seconds, and silent ever since.

    Only those count that had answered a step before. What was before a person last resumed *lane* of *run* does not
    count either: whoever resumes says that the network is back.
    """
    since = max(tx.clock - within_s, _resumed_at(tx, run, lane))
    rows = tx.connection.execute(
        sa.select(_CLAIM.c.run, _CLAIM.c.step, _CLAIM.c.node).where(
            _CLAIM.c.state.in_(_ENDED_BADLY), _CLAIM.c.node != "", _CLAIM.c.expires_at > since
        )
    )
    fell_silent: dict[str, float] = {}
    for row in rows:
        at = _unreachable_at(tx, row.run, row.step)
        if at > since:
            fell_silent[row.node] = max(at, fell_silent.get(row.node, 0.0))
    answered = _answered(tx, tuple(fell_silent))
    return tuple(sorted(node for node, at in fell_silent.items() if node in answered and answered[node] <= at))


def stopped_by_outage(connection: sa.Connection) -> dict[str, list[str]]:
    """Return {run: lanes} of what the outage circuit has stopped, and nobody has resumed or ended since."""
    lane, run = tables.lane, tables.run
    stopped = (
        sa.select(lane.c.run, lane.c.lane)
        .join(run, run.c.run == lane.c.run)
        .where(run.c.outcome == "open", lane.c.flag == "stopped")
        .order_by(run.c.created_at, lane.c.lane)
    )
    found: dict[str, list[str]] = {}
    for row in connection.execute(stopped):
        last = (
            sa.select(_EVENT.c.data)
            .where(_EVENT.c.run == row.run, _EVENT.c.lane == row.lane, _EVENT.c.kind == Kind.LANE_STOPPED.value)
            .order_by(_EVENT.c.n.desc())
            .limit(1)
        )
        said = connection.execute(last).scalar_one_or_none() or {}
        if said.get("circuit") == "outage":
            found.setdefault(row.run, []).append(row.lane)
    return found


def is_new(tx: Transaction, run: str, lane: str, step: str) -> bool:
    """Return whether nobody has begun *step* yet: one that was begun is better ended than left half-done.

    It was begun when a line of it was about to be sent, by whatever attempt, since it was last taken back or reopened.
    """
    here = (_CLAIM.c.run == run, _CLAIM.c.lane == lane, _CLAIM.c.step == step)
    found = tx.connection.execute(sa.select(_CLAIM.c.state).where(*here)).one_or_none()
    if found is None:
        return True
    return found.state != "waiting" and not _begun(tx, run, lane, step)


def _begun(tx: Transaction, run: str, lane: str, step: str) -> bool:
    back = (Kind.PUT_BACK.value, Kind.STEPS_REOPENED.value)
    query = (
        sa.select(_EVENT.c.kind, _EVENT.c.data)
        .where(_EVENT.c.run == run, _EVENT.c.lane == lane)
        .where(
            sa.or_(
                _EVENT.c.kind.in_(back),
                sa.and_(_EVENT.c.kind == Kind.INTENT.value, _EVENT.c.step == step),
            )
        )
        .order_by(_EVENT.c.n.desc())
    )
    for event in tx.connection.execute(query):
        if event.kind == Kind.INTENT.value:
            return True
        if step in event.data["steps"]:
            return False
    return False


def _resumed_at(tx: Transaction, run: str, lane: str) -> float:
    query = (
        sa.select(_EVENT.c.at)
        .where(_EVENT.c.run == run, _EVENT.c.kind == Kind.LANE_RESUMED.value, _EVENT.c.lane == lane)
        .order_by(_EVENT.c.n.desc())
        .limit(1)
    )
    return _seconds(tx.connection.execute(query).scalar_one_or_none())


def _unreachable_at(tx: Transaction, run: str, step: str) -> float:
    """Return when the last attempt at *step* ended because its node did not answer, 0 when it ended otherwise."""
    kinds = (Kind.STEP_FAILED.value, Kind.STEP_PARKED.value, Kind.STEP_WAITING.value, Kind.STEP_DONE.value)
    query = (
        sa.select(_EVENT.c.at, _EVENT.c.data)
        .where(_EVENT.c.run == run, _EVENT.c.step == step, _EVENT.c.kind.in_(kinds))
        .order_by(_EVENT.c.n.desc())
        .limit(1)
    )
    last = tx.connection.execute(query).one_or_none()
    if last is None:
        return 0.0
    code = (last.data.get("error") or {}).get("code")
    silent = code == _SILENT or (last.data.get("data") or {}).get("silent_since")
    return _seconds(last.at) if silent else 0.0


def _answered(tx: Transaction, nodes: tuple[str, ...]) -> dict[str, float]:
    """Return when each of *nodes* last answered, as a step of it ended well; those that never did are left out."""
    query = (
        sa.select(_CLAIM.c.node, sa.func.max(_CLAIM.c.expires_at).label("at"))
        .where(_CLAIM.c.node.in_(nodes), _CLAIM.c.state == "done")
        .group_by(_CLAIM.c.node)
    )
    return {row.node: float(row.at) for row in tx.connection.execute(query)} if nodes else {}


def _seconds(at: str | None) -> float:
    return datetime.fromisoformat(at).timestamp() if at else 0.0
