"""Webhooks: who is told, and what came of each delivery. The deliveries themselves are written by `telling`.

The secret by which messages are signed is sealed in the vault's rows under `secret_row`; who calls this seals it. Whole
addresses are in no event, since some receivers put what opens them into the path.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from workflows.destinations import literal
from workflows.errors import InputError, NotThere
from workflows.journal import stock, tables, telling
from workflows.journal.events import FLEET, Kind, NewEvent
from workflows.journal.store import Transaction, moment

GIVEN_UP_S = 24 * 3600.0
"""After this long a message is tried no more; by hand it can be sent again."""
AT_ONCE = 20
"""So many messages of one webhook are sent in a row, however many wait: the others have their turn."""
LONGEST_REST_S = 60.0
"""No longer than this all messages of a webhook wait because one of them failed."""
KEPT_S = 30 * 86_400.0
"""For so long after its end a delivery can be read and sent again."""
SAID = 200
GONE = 410
"""A receiver that says so wants no more (RFC 9110): its webhook is switched off."""
_HOOK, _DELIVERY = tables.webhook, tables.webhook_delivery
_RESTED: Mapping[str, Any] = {"failures": 0, "rests_until": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook; *kinds* empty means all."""

    webhook: str
    url: str
    kinds: tuple[str, ...]
    active: bool
    made_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message: `state` is waiting, delivered or given up; `status` the last HTTP status, 0 for none."""

    id: int
    message: str
    webhook: str
    run: str
    kind: str
    body: str
    state: str
    tries: int
    status: int
    said: str
    at: datetime
    due_at: datetime
    tried_at: datetime | None
    done_at: datetime | None


def secret_row(webhook: str) -> str:
    """Return the vault's row in which the secret of *webhook* is sealed."""
    return f"webhook/{webhook}"


def check_url(url: str) -> str:
    """Return *url* when messages may go there: https, or plain http to this machine. Raises: InputError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    fine = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    if not (host and fine and url.isascii() and url.isprintable() and len(url) <= 2000) or " " in url:
        raise InputError(
            "This is no address for a webhook.", remedy="Write https://HOST/PATH; plain http only to this machine."
        )
    if parts.username is not None or parts.fragment:
        raise InputError(
            "The address of a webhook holds no user, no password and no #.",
            remedy="Leave them out; the receiver knows the messages by their signature.",
        )
    return url


def place_of(url: str) -> str:
    """Return scheme and host of *url*, for those who may not see what opens the receiver: "https://chat.example.com"."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_kinds(kinds: Collection[str]) -> tuple[str, ...]:
    """Return *kinds* sorted. Raises: InputError: nobody is told of such a thing."""
    wrong = sorted(set(kinds) - set(telling.TYPES))
    if wrong:
        raise InputError(
            f"No webhook is told of {', '.join(wrong)}.", remedy=f"Choose from: {', '.join(telling.TYPES)}."
        )
    return tuple(sorted(set(kinds)))


def new_id() -> str:
    """Return the id of a new webhook, by which its secret is sealed before its row is written."""
    return secrets.token_hex(6)


def add(tx: Transaction, *, webhook: str, url: str, kinds: Collection[str], ciphertext: bytes, by: str) -> None:
    """Make a webhook whose sealed secret is *ciphertext*. Raises: InputError."""
    values = {"url": check_url(url), "kinds": list(check_kinds(kinds)), "active": True, "made_by": by}
    tx.connection.execute(sa.insert(_HOOK).values(webhook=webhook, created_at=tx.clock, **values))
    stock.seal(tx, secret_row(webhook), ciphertext)
    _tell(tx, webhook, "made", by, host=urlsplit(url).hostname or "", kinds=values["kinds"])


def change(
    tx: Transaction,
    webhook: str,
    *,
    by: str,
    url: str | None = None,
    kinds: Collection[str] | None = None,
    active: bool | None = None,
    ciphertext: bytes | None = None,
) -> None:
    """Change what is given; *ciphertext* is a new sealed secret. Raises: NotThere, InputError."""
    before = get(tx.connection, webhook)
    values: dict[str, Any] = {}
    if url is not None:
        values["url"] = check_url(url)
    if kinds is not None:
        values["kinds"] = list(check_kinds(kinds))
    if active is not None:
        values["active"] = active
    if values:
        # Whoever changes it wants to see at once whether it works now.
        tx.connection.execute(sa.update(_HOOK).where(_HOOK.c.webhook == webhook).values(**values, **_RESTED))
    if active is not None and active is not before.active:
        # Both ways: what was sent by hand while it was off waits no longer than the rest.
        _end_waiting(tx, webhook)
    if ciphertext is not None:
        stock.seal(tx, secret_row(webhook), ciphertext)
    said = {name: value for name, value in values.items() if name != "url"}
    if url is not None:
        said["host"] = urlsplit(url).hostname or ""
    _tell(tx, webhook, "changed", by, **said, **({"secret": "new"} if ciphertext else {}))


def remove(tx: Transaction, webhook: str, *, by: str) -> None:
    """Forget the webhook, its secret and its deliveries. Raises: NotThere."""
    get(tx.connection, webhook)
    tx.connection.execute(sa.delete(_DELIVERY).where(_DELIVERY.c.webhook == webhook))
    tx.connection.execute(sa.delete(_HOOK).where(_HOOK.c.webhook == webhook))
    stock.unseal_drop(tx, secret_row(webhook))
    _tell(tx, webhook, "removed", by)


def test(tx: Transaction, webhook: str, *, by: str) -> int:
    """Send a message that says nothing, and return the id of its delivery. Raises: NotThere."""
    get(tx.connection, webhook)
    event = _tell(tx, webhook, "tested", by)
    values = telling.row(webhook, event, telling.TEST, tx.clock)
    statement = sa.insert(_DELIVERY).values(**values).returning(_DELIVERY.c.id)
    _wake(tx, webhook)
    return int(tx.connection.execute(statement).scalar_one())


def again(tx: Transaction, webhook: str, delivery: int, *, by: str) -> None:
    """Send the message once more, at once, under the id that it had. Raises: NotThere."""
    mine = (_DELIVERY.c.webhook == webhook, _DELIVERY.c.id == delivery)
    # Its day begins anew: it is tried for as long as a new one.
    values = {"done_at": None, "due_at": tx.clock, "at": tx.clock, "tries": 0, "status": 0}
    if tx.connection.execute(sa.update(_DELIVERY).where(*mine).values(**values)).rowcount != 1:
        raise NotThere("There is no such delivery.", remedy="See the list of deliveries.")
    _wake(tx, webhook)
    _tell(tx, webhook, "sent again", by, delivery=delivery)


# ── what the sender asks and writes ──────────────────────────────────────────────────────────────────────────────────
def due(connection: sa.Connection, each: int = AT_ONCE) -> list[tuple[Webhook, Delivery]]:
    """Return deliveries whose time has come, with their webhooks, oldest first: at most *each* of a webhook.

    Of webhooks that are active and do not rest, and nothing that has waited for longer than a day: `give_up` ends that.
    A limit over all would let one dead receiver with many messages keep those of the others from being seen.
    """
    # What failed before comes after what is new, so that messages that are always refused hold up no other.
    order = (_DELIVERY.c.tries, _DELIVERY.c.due_at, _DELIVERY.c.id)
    place = sa.func.row_number().over(partition_by=_DELIVERY.c.webhook, order_by=order).label("place")
    waiting = sa.select(_DELIVERY.c.id, place).join(_HOOK, _HOOK.c.webhook == _DELIVERY.c.webhook)
    rested = sa.or_(_HOOK.c.rests_until.is_(None), _HOOK.c.rests_until <= tables.clock())
    fresh = _DELIVERY.c.at > tables.clock() - GIVEN_UP_S
    come = waiting.where(
        _DELIVERY.c.done_at.is_(None), _DELIVERY.c.due_at <= tables.clock(), fresh, _HOOK.c.active, rested
    ).subquery()
    query = (
        sa.select(_DELIVERY, *[column.label(f"hook_{column.name}") for column in _HOOK.c])
        .join(_HOOK, _HOOK.c.webhook == _DELIVERY.c.webhook)
        .join(come, come.c.id == _DELIVERY.c.id)
        .where(come.c.place <= each)
        .order_by(*order)
    )
    return [(_webhook(row, "hook_"), _delivery(row)) for row in connection.execute(query)]


def tried(tx: Transaction, delivery: Delivery, *, status: int, said: str) -> None:
    """Write down what came of a try: done, tried again later, or given up; GONE switches the webhook off.

    After a failure the webhook rests as a whole, those messages too that are still to come: they would most likely fail
    as well. The more failures in a row, the longer.
    """
    tries = delivery.tries + 1
    again_at = tx.clock + delay_s(tries)
    fine = 200 <= status < 300
    over = fine or status == GONE or again_at > delivery.at.timestamp() + GIVEN_UP_S
    values = {"tries": tries, "status": status, "said": said[:SAID], "tried_at": tx.clock}
    values |= {"done_at": tx.clock} if over else {"due_at": again_at}
    tx.connection.execute(sa.update(_DELIVERY).where(_DELIVERY.c.id == delivery.id).values(**values))
    mine = _HOOK.c.webhook == delivery.webhook
    if fine:
        tx.connection.execute(sa.update(_HOOK).where(mine, _HOOK.c.failures > 0).values(**_RESTED))
    elif status == GONE:
        off = sa.update(_HOOK).where(mine, _HOOK.c.active).values(active=False)
        if tx.connection.execute(off).rowcount:
            _end_waiting(tx, delivery.webhook)
            _tell(tx, delivery.webhook, "switched off", "engine", status=status)
    else:
        failures = tx.connection.execute(sa.select(_HOOK.c.failures).where(mine)).scalar_one_or_none() or 0
        rest = {"failures": failures + 1, "rests_until": tx.clock + min(delay_s(failures + 1), LONGEST_REST_S)}
        tx.connection.execute(sa.update(_HOOK).where(mine).values(**rest))


def give_up(tx: Transaction) -> int:
    """End what has waited for longer than a day, and return how many it were."""
    # One try in a minute is for all messages of a webhook: without this a long queue would outlive its day.
    old = (_DELIVERY.c.done_at.is_(None), _DELIVERY.c.at <= tx.clock - GIVEN_UP_S)
    return tx.connection.execute(sa.update(_DELIVERY).where(*old).values(done_at=tx.clock)).rowcount


def _end_waiting(tx: Transaction, webhook: str) -> None:
    waiting = (_DELIVERY.c.webhook == webhook, _DELIVERY.c.done_at.is_(None))
    tx.connection.execute(sa.update(_DELIVERY).where(*waiting).values(done_at=tx.clock))


def _wake(tx: Transaction, webhook: str) -> None:
    """Let *webhook* rest no longer: a person wants something sent at once."""
    tx.connection.execute(sa.update(_HOOK).where(_HOOK.c.webhook == webhook).values(**_RESTED))


def prune(tx: Transaction, limit: int = 1000) -> int:
    """Forget up to *limit* deliveries that ended more than `KEPT_S` ago, and return how many it were.

    The journal keeps the events themselves. Few at a time: others wait for the writer.
    """
    ended = sa.select(_DELIVERY.c.id).where(_DELIVERY.c.done_at < tx.clock - KEPT_S).limit(limit)
    return tx.connection.execute(sa.delete(_DELIVERY).where(_DELIVERY.c.id.in_(ended))).rowcount


def delay_s(tries: int) -> float:
    """Return how long to wait after so many tries: 5 s, 20 s, 80 s, … and at most six hours."""
    return float(min(5 * 4 ** (min(tries, 10) - 1), 6 * 3600))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def get(connection: sa.Connection, webhook: str) -> Webhook:
    """Return one webhook. Raises: NotThere."""
    row = connection.execute(sa.select(_HOOK).where(_HOOK.c.webhook == webhook)).one_or_none()
    if row is None:
        raise NotThere("There is no such webhook.", remedy="See the list of webhooks.")
    return _webhook(row)


def every(connection: sa.Connection) -> list[Webhook]:
    """Return all webhooks, oldest first."""
    return [_webhook(row) for row in connection.execute(sa.select(_HOOK).order_by(_HOOK.c.created_at, _HOOK.c.webhook))]


def deliveries(connection: sa.Connection, webhook: str, *, limit: int, offset: int) -> tuple[list[Delivery], int]:
    """Return deliveries of *webhook*, newest first, and how many there are in all. Raises: NotThere."""
    get(connection, webhook)
    mine = _DELIVERY.c.webhook == webhook
    total = int(connection.execute(sa.select(sa.func.count()).select_from(_DELIVERY).where(mine)).scalar_one())
    query = sa.select(_DELIVERY).where(mine).order_by(_DELIVERY.c.id.desc()).limit(limit).offset(offset)
    return [_delivery(row) for row in connection.execute(query)], total


def _webhook(row: Any, prefix: str = "") -> Webhook:
    values = {name: getattr(row, prefix + name) for name in ("webhook", "url", "active", "made_by")}
    created = moment(getattr(row, f"{prefix}created_at"))
    return Webhook(kinds=tuple(getattr(row, f"{prefix}kinds")), created_at=created, **values)


def _delivery(row: Any) -> Delivery:
    state = "waiting" if row.done_at is None else "delivered" if 200 <= row.status < 300 else "given up"
    names = ("id", "webhook", "run", "kind", "body", "tries", "status", "said")
    return Delivery(
        message=telling.message_id(row.webhook, row.run, row.n),
        state=state,
        at=moment(row.at),
        due_at=moment(row.due_at),
        tried_at=None if row.tried_at is None else moment(row.tried_at),
        done_at=None if row.done_at is None else moment(row.done_at),
        **{name: getattr(row, name) for name in names},
    )


def _is_loopback(host: str) -> bool:
    address = literal(host)
    return address is not None and address.is_loopback


def _tell(tx: Transaction, webhook: str, done: str, by: str, **more: Any) -> Any:
    said = {"webhook": webhook, "change": done, **more}
    return tx.append(NewEvent(run=FLEET, kind=Kind.WEBHOOK_CHANGED, actor=by, data=said))
