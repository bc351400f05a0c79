"""What people ask for over the API: plans that wait for somebody to start them, and requests that were made before.

A saved plan is found by its digest, and stays as its first maker left it: the same wish against the same facts is the
same plan, whoever asks. A request with a key is carried out once, see `claim_request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workflows.errors import Clash, InputError, NotThere
from workflows.journal import tables
from workflows.journal.store import Transaction, moment

PLANS_KEPT_S = 90 * 86_400.0
REQUESTS_KEPT_S = 86_400.0
"""How long an answer may be asked for again."""
LOST_AFTER_S = 180.0
"""After how long a request that nobody answered was lost: its process ended, and it may be made again."""
_PLAN, _REQUEST = tables.saved_plan, tables.idempotency


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan that was kept; `about` is {"lanes": [...], "nodes": 3, "steps": 40, "empty": False}."""

    digest: str
    kind: str
    purpose: str
    made_by: str
    about: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a request was answered with before."""

    status: int
    body: str


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def keep_plan(
    tx: Transaction, *, digest: str, kind: str, purpose: str, by: str, about: Mapping[str, Any], plan: Mapping[str, Any]
) -> bool:
    """Keep the plan; False when it is kept already, with its maker. Plans of old are forgotten."""
    tx.connection.execute(sa.delete(_PLAN).where(_PLAN.c.at < tx.clock - PLANS_KEPT_S, _PLAN.c.digest != digest))
    values = {"kind": kind, "purpose": purpose, "made_by": by, "about": dict(about), "plan": dict(plan)}
    return tx.insert_once(_PLAN, digest=digest, at=tx.clock, **values)


def saved_plans(connection: sa.Connection) -> list[SavedPlan]:
    """Return all plans that are kept, newest first."""
    columns = [column for column in _PLAN.c if column.name != "plan"]
    query = sa.select(*columns).order_by(_PLAN.c.at.desc(), _PLAN.c.digest)
    return [_saved(row) for row in connection.execute(query)]


def saved_plan(connection: sa.Connection, digest: str) -> tuple[SavedPlan, dict[str, Any]]:
    """Return the plan with this digest, and itself as JSON values. Raises: NotThere."""
    row = connection.execute(sa.select(_PLAN).where(_PLAN.c.digest == digest)).one_or_none()
    if row is None:
        raise NotThere(f"There is no plan {digest[:12]}.", remedy="Make it again: it may have been forgotten.")
    return _saved(row), row.plan


def maker_of(connection: sa.Connection, digest: str) -> str:
    """Return who made the plan with this digest first, "" when it is not kept."""
    return connection.execute(sa.select(_PLAN.c.made_by).where(_PLAN.c.digest == digest)).scalar_one_or_none() or ""


def _saved(row: Any) -> SavedPlan:
    values = {name: getattr(row, name) for name in ("digest", "kind", "purpose", "made_by", "about")}
    return SavedPlan(**values, at=moment(row.at))


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def claim_request(tx: Transaction, *, account: str, key: str, request: str) -> Answered | None:
    """Return how this request was answered before; None: it is yours to carry out, then `answer_request` it.

    *request* is a digest of all that was asked. Raises: InputError: the key belongs to another request. Clash: the same
    request is being carried out at this moment.
    """
    mine = (_REQUEST.c.account == account, _REQUEST.c.key == key)
    tx.connection.execute(sa.delete(_REQUEST).where(_REQUEST.c.at < tx.clock - REQUESTS_KEPT_S))
    lost = (_REQUEST.c.status == 0, _REQUEST.c.at < tx.clock - LOST_AFTER_S)
    tx.connection.execute(sa.delete(_REQUEST).where(*mine, *lost))
    if tx.insert_once(_REQUEST, account=account, key=key, request=request, status=0, body="", at=tx.clock):
        return None
    before = tx.connection.execute(sa.select(_REQUEST).where(*mine)).one()
    if before.request != request:
        raise InputError(
            "This Idempotency-Key was used for another request, or before a change of roles.",
            remedy="Take a fresh key for each request.",
        )
    if not before.status:
        raise Clash(
            "The request with this Idempotency-Key is being carried out.", remedy="Ask again in a moment, as it was."
        )
    return Answered(status=before.status, body=before.body)


def answer_request(tx: Transaction, *, account: str, key: str, status: int, body: str) -> None:
    """Keep the answer, in the same commit as what was done wherever that is one."""
    mine = (_REQUEST.c.account == account, _REQUEST.c.key == key)
    tx.connection.execute(sa.update(_REQUEST).where(*mine).values(status=status, body=body))


def drop_request(tx: Transaction, *, account: str, key: str) -> None:
    """Forget a request that failed: nothing was done, so it may be made again."""
    mine = (_REQUEST.c.account == account, _REQUEST.c.key == key)
    tx.connection.execute(sa.delete(_REQUEST).where(*mine, _REQUEST.c.status == 0))
