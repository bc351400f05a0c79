"""The web side: accounts, sessions, tokens, votes at gates, saved plans, webhooks, and what was asked for before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text(*names: str, primary_key: bool = False) -> tuple[sa.Column[str], ...]:
    return tuple(sa.Column(name, sa.Text, primary_key=primary_key, nullable=False) for name in names)


def _time(*names: str, nullable: bool = False) -> tuple[sa.Column[float], ...]:
    return tuple(sa.Column(name, sa.Double, nullable=nullable) for name in names)


def upgrade() -> None:
    """Make the tables, and the indexes by which pages find what lies before them."""
    op.create_index("event_by_time", "event", ["at"])
    op.create_index("event_of_node", "event", ["node", "at"])
    op.add_column("run", sa.Column("purpose", sa.Text, nullable=False, server_default=""))
    sqlite = op.get_bind().dialect.name == "sqlite"
    said = "json_extract(plan, '$.purpose')" if sqlite else "plan::json ->> 'purpose'"
    op.execute(f"UPDATE run SET purpose = coalesce({said}, '')")
    listed = ["created_at", "run", "kind", "outcome", "requested_by", "closed_at", "digest", "fleet", "purpose"]
    op.create_index("run_by_time", "run", listed)
    op.create_index("run_outcome", "run", ["run", "outcome", "closed_at"])
    op.create_table(
        "account",
        *_text("account", primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        *_text("display", "password", "created_by"),
        sa.Column("active", sa.Boolean, nullable=False),
        *_time("created_at"),
    )
    op.create_table("granted", *_text("account", "role", "cluster", "source", primary_key=True))
    op.create_table("membership", *_text("account", "group", "source", primary_key=True))
    op.create_table("identity", *_text("issuer", "subject", primary_key=True), *_text("account"))
    op.create_table(
        "session",
        *_text("session", primary_key=True),
        *_text("hash", "account", "how", "agent", "address"),
        *_time("created_at", "seen_at", "expires_at"),
    )
    op.create_index("session_by_hash", "session", ["hash"], unique=True)
    op.create_index("session_of_account", "session", ["account"])
    op.create_table(
        "token",
        *_text("token", primary_key=True),
        *_text("hash", "account", "name", "scopes"),
        *_time("created_at", "expires_at"),
        *_time("used_at", "revoked_at", nullable=True),
    )
    op.create_index("token_of_account", "token", ["account"])
    op.create_table("oidc_attempt", *_text("hash", primary_key=True), *_text("going"), *_time("expires_at"))
    op.create_table(
        "invitation",
        *_text("hash", primary_key=True),
        *_text("account", "made_by"),
        *_time("created_at", "expires_at"),
        *_time("used_at", nullable=True),
    )
    op.create_table(
        "idempotency",
        *_text("account", "key", primary_key=True),
        *_text("request"),
        sa.Column("status", sa.Integer, nullable=False),
        *_text("body"),
        *_time("at"),
    )
    op.create_table(
        "saved_plan",
        *_text("digest", primary_key=True),
        *_text("kind", "purpose", "made_by", "about", "plan"),
        *_time("at"),
    )
    op.create_table(
        "vote",
        *_text("run", "lane", "gate", "digest", "account", primary_key=True),
        sa.Column("stage", sa.Integer, nullable=False),
        *_text("name", "via", "reason"),
        *_time("at"),
        *_time("not_before", nullable=True),
    )
    op.add_column("gate", sa.Column("expires_at", sa.Double, nullable=True))
    op.add_column("gate", sa.Column("terms", sa.Text, nullable=False, server_default="{}"))
    op.create_table(
        "webhook",
        *_text("webhook", primary_key=True),
        *_text("url", "made_by", "kinds"),
        sa.Column("active", sa.Boolean, nullable=False),
        *_time("created_at"),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        *_text("webhook", "run", "kind"),
        sa.Column("n", sa.BigInteger, nullable=False),
        *_text("body"),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        *_text("said"),
        *_time("at", "due_at"),
        *_time("tried_at", "done_at", nullable=True),
    )
    op.create_index("webhook_delivery_due", "webhook_delivery", ["done_at", "due_at"])
    op.create_index("webhook_delivery_once", "webhook_delivery", ["webhook", "run", "n"], unique=True)
