"""The SQL tables, for SQLite and PostgreSQL alike. `migrations` makes them; nothing else does.

Times are seconds since 1970 by the database's clock, except in `event`, where the text is what was hashed.
JSON is kept as canonical text, so that what was hashed is what is stored.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import expression

from workflows.journal.events import canonical_text

HEAD = "0005"
"""The revision of `migrations` that these tables belong to."""

metadata = sa.MetaData()


class JSONText(sa.types.TypeDecorator[Any]):
    """Plain JSON values, stored as canonical text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:  # noqa: ARG002 (SQLAlchemy's signature)
        """Return the text to store."""
        return canonical_text(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:  # noqa: ARG002 (as above)
        """Return the values that *value* holds."""
        return None if value is None else json.loads(value)


class clock(expression.FunctionElement[float]):  # noqa: N801 (reads as the SQL function it is)
    """The database's clock, in seconds since 1970 UTC: the only clock by which leases are judged."""

    type = sa.Double()
    inherit_cache = True


@compiles(clock, "postgresql")
def _clock_postgresql(_element: clock, _compiler: Any, **_options: Any) -> str:
    # Not now(): that is when the transaction began, which may be a lock wait ago.
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(clock, "sqlite")
def _clock_sqlite(_element: clock, _compiler: Any, **_options: Any) -> str:
    # Not unixepoch('subsec'): SQLite has it from 3.42 only.
    return "((julianday('now') - 2440587.5) * 86400.0)"


def _name(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=primary_key, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


event = sa.Table(
    "event",
    metadata,
    _name("run", primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
    *(_name(name) for name in ("kind", "lane", "step", "node", "actor", "at")),
    sa.Column("data", JSONText, nullable=False),
    _name("prev"),
    _name("hash"),
    sa.Index("event_of_step", "run", "step"),
    sa.Index("event_of_kind", "run", "kind"),
    sa.Index("event_by_time", "at"),
    sa.Index("event_of_node", "node", "at"),
)

chain = sa.Table(
    "chain",
    metadata,
    _name("run", primary_key=True),
    sa.Column("head_n", sa.BigInteger, nullable=False),
    _name("head_hash"),
)

run = sa.Table(
    "run",
    metadata,
    _name("run", primary_key=True),
    *(_name(name) for name in ("kind", "digest", "fleet", "requested_by")),
    _time("created_at"),
    sa.Column("plan", JSONText, nullable=False),
    _name("outcome"),
    _time("closed_at", nullable=True),
    sa.Column("purpose", sa.Text, nullable=False, server_default=""),  # as in the plan, which lists need not read
    # They hold all that lists show: `plan` may be megabytes, and SQLite walks through it to what stands behind.
    sa.Index(
        "run_by_time", "created_at", "run", "kind", "outcome", "requested_by", "closed_at", "digest", "fleet", "purpose"
    ),
    sa.Index("run_outcome", "run", "outcome", "closed_at"),
)

lane = sa.Table(
    "lane",
    metadata,
    _name("run", primary_key=True),
    _name("lane", primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    _time("touched_at"),
    _name("flag"),
)

reservation = sa.Table("reservation", metadata, _name("resource", primary_key=True), _name("run"), _time("since"))

claim = sa.Table(
    "claim",
    metadata,
    _name("run", primary_key=True),
    _name("lane", primary_key=True),
    _name("step", primary_key=True),
    _name("node"),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    _name("holder"),
    _name("state"),
    _time("expires_at"),
    sa.Column("intended", sa.Boolean, nullable=False),
)

lease = sa.Table(
    "lease",
    metadata,
    _name("resource", primary_key=True),
    _name("holder"),
    sa.Column("token", sa.BigInteger, nullable=False),
    *(_name(name) for name in ("run", "lane", "step")),
    _time("expires_at"),
)

gate = sa.Table(
    "gate",
    metadata,
    _name("run", primary_key=True),
    _name("lane", primary_key=True),
    _name("gate", primary_key=True),
    _name("name"),
    _name("status"),
    _name("digest"),
    sa.Column("summary", JSONText, nullable=False),
    _time("opened_at"),
    _name("decided_by"),
    _time("decided_at", nullable=True),
    _name("reason"),
    _time("not_before", nullable=True),
    # When the people's time is up while it is open, and the approval's while it is approved; None: never.
    _time("expires_at", nullable=True),
    sa.Column("terms", JSONText, nullable=False, server_default="{}"),
    _time("remind_at", nullable=True),  # when people are next reminded of it while it is open; None: not any more
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    *(_name(name) for name in ("kind", "run", "lane")),
    sa.Column("data", JSONText, nullable=False),
    _time("not_before"),
    _time("sent_at", nullable=True),
    sa.Index("outbox_unsent", "sent_at", "not_before"),
)

blob = sa.Table(
    "blob",
    metadata,
    _name("sha256", primary_key=True),
    _name("kind"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    _time("at"),
)

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    _name("node"),
    _name("digest"),
    _time("at"),
    sa.Column("facts", JSONText, nullable=False),
    sa.Index("facts_of_node", "node", "id"),
)

pin = sa.Table(
    "pin",
    metadata,
    _name("address", primary_key=True),
    sa.Column("port", sa.Integer, primary_key=True, autoincrement=False),
    _name("key"),
    _name("pinned_by"),
    _time("at"),
    sa.Column("verified", sa.Boolean, nullable=False),
)

resting = sa.Table("resting", metadata, _name("credential", primary_key=True), _name("why"), _time("since"))

sealed = sa.Table(
    "sealed",
    metadata,
    _name("id", primary_key=True),
    sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    _time("at"),
)

worker = sa.Table(
    "worker",
    metadata,
    _name("worker", primary_key=True),
    sa.Column("queues", JSONText, nullable=False),
    sa.Column("info", JSONText, nullable=False),
    _time("seen_at"),
)

writer = sa.Table(
    "writer",
    metadata,
    _name("id", primary_key=True),
    sa.Column("commits", sa.BigInteger, nullable=False),
    _time("at"),
)

# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────────
# Nothing here that opens anything: passwords as argon2id, sessions, tokens and invitations as SHA-256.
account = sa.Table(
    "account",
    metadata,
    _name("account", primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    *(_name(name) for name in ("display", "password", "created_by")),
    sa.Column("active", sa.Boolean, nullable=False),
    _time("created_at"),
)

granted = sa.Table(
    "granted",
    metadata,
    *(_name(name, primary_key=True) for name in ("account", "role", "cluster", "source")),
)

membership = sa.Table(
    "membership",
    metadata,
    *(_name(name, primary_key=True) for name in ("account", "group", "source")),
)

identity = sa.Table(
    "identity",
    metadata,
    *(_name(name, primary_key=True) for name in ("issuer", "subject")),
    _name("account"),
    # When the provider last said who this is and what it may.
    sa.Column("seen_at", sa.Double, nullable=False, server_default="0"),
    sa.Index("identity_of_account", "account"),
)

session = sa.Table(
    "session",
    metadata,
    _name("session", primary_key=True),
    *(_name(name) for name in ("hash", "account", "how", "agent", "address")),
    *(_time(name) for name in ("created_at", "seen_at", "expires_at")),
    sa.Index("session_by_hash", "hash", unique=True),
    sa.Index("session_of_account", "account"),
)

token = sa.Table(
    "token",
    metadata,
    _name("token", primary_key=True),
    *(_name(name) for name in ("hash", "account", "name")),
    sa.Column("scopes", JSONText, nullable=False),
    *(_time(name) for name in ("created_at", "expires_at")),
    *(_time(name, nullable=True) for name in ("used_at", "revoked_at")),
    sa.Index("token_of_account", "account"),
)

# A browser that was sent to an OIDC provider, by the hash of what it keeps.
oidc_attempt = sa.Table("oidc_attempt", metadata, _name("hash", primary_key=True), _name("going"), _time("expires_at"))

invitation = sa.Table(
    "invitation",
    metadata,
    _name("hash", primary_key=True),
    *(_name(name) for name in ("account", "made_by")),
    *(_time(name) for name in ("created_at", "expires_at")),
    _time("used_at", nullable=True),
)

# ── what people ask for over the API ─────────────────────────────────────────────────────────────────────────────────
idempotency = sa.Table(
    "idempotency",
    metadata,
    *(_name(name, primary_key=True) for name in ("account", "key")),
    _name("request"),
    sa.Column("status", sa.Integer, nullable=False),
    _name("body"),
    _time("at"),
)

saved_plan = sa.Table(
    "saved_plan",
    metadata,
    _name("digest", primary_key=True),
    *(_name(name) for name in ("kind", "purpose", "made_by")),
    # Beside the plan, so that a list need not read it: its lanes, and how many steps and servers it has.
    sa.Column("about", JSONText, nullable=False),
    sa.Column("plan", JSONText, nullable=False),
    _time("at"),
)

vote = sa.Table(
    "vote",
    metadata,
    *(_name(name, primary_key=True) for name in ("run", "lane", "gate", "digest", "account")),
    sa.Column("stage", sa.Integer, nullable=False),
    *(_name(name) for name in ("name", "via", "reason")),
    _time("at"),
    _time("not_before", nullable=True),
)

webhook = sa.Table(
    "webhook",
    metadata,
    _name("webhook", primary_key=True),
    *(_name(name) for name in ("url", "made_by")),
    sa.Column("kinds", JSONText, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    _time("created_at"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    _time("rests_until", nullable=True),
)

webhook_delivery = sa.Table(
    "webhook_delivery",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    *(_name(name) for name in ("webhook", "run", "kind")),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    _name("said"),
    *(_time(name) for name in ("at", "due_at")),
    *(_time(name, nullable=True) for name in ("tried_at", "done_at")),
    sa.Index("webhook_delivery_due", "done_at", "due_at"),
    sa.Index("webhook_delivery_once", "webhook", "run", "n", unique=True),
)
