"""The first schema: events that are never changed, and the rows that are compared and set."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=primary_key, nullable=False)


def _number(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=primary_key, autoincrement=False, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _counter() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def upgrade() -> None:
    """Make the tables, and the triggers that keep events as they are."""
    op.create_table(
        "event",
        _text("run", primary_key=True),
        _number("n", primary_key=True),
        *(_text(name) for name in ("kind", "lane", "step", "node", "actor", "at", "data", "prev", "hash")),
    )
    op.create_index("event_of_step", "event", ["run", "step"])
    op.create_index("event_of_kind", "event", ["run", "kind"])
    op.create_table("chain", _text("run", primary_key=True), _number("head_n"), _text("head_hash"))
    op.create_table(
        "run",
        _text("run", primary_key=True),
        *(_text(name) for name in ("kind", "digest", "fleet", "requested_by")),
        _time("created_at"),
        _text("plan"),
        _text("outcome"),
        _time("closed_at", nullable=True),
    )
    op.create_table(
        "lane",
        _text("run", primary_key=True),
        _text("lane", primary_key=True),
        _number("generation"),
        _time("touched_at"),
        _text("flag"),
    )
    op.create_table("reservation", _text("resource", primary_key=True), _text("run"), _time("since"))
    op.create_table(
        "claim",
        *(_text(name, primary_key=True) for name in ("run", "lane", "step")),
        _text("node"),
        _number("generation"),
        _number("attempt"),
        _text("holder"),
        _text("state"),
        _time("expires_at"),
        sa.Column("intended", sa.Boolean, nullable=False),
    )
    op.create_table(
        "lease",
        _text("resource", primary_key=True),
        _text("holder"),
        _number("token"),
        *(_text(name) for name in ("run", "lane", "step")),
        _time("expires_at"),
    )
    op.create_table(
        "gate",
        *(_text(name, primary_key=True) for name in ("run", "lane", "gate")),
        *(_text(name) for name in ("name", "status", "digest", "summary")),
        _time("opened_at"),
        _text("decided_by"),
        _time("decided_at", nullable=True),
        _text("reason"),
        _time("not_before", nullable=True),
    )
    op.create_table(
        "outbox",
        _counter(),
        *(_text(name) for name in ("kind", "run", "lane", "data")),
        _time("not_before"),
        _time("sent_at", nullable=True),
    )
    op.create_index("outbox_unsent", "outbox", ["sent_at", "not_before"])
    op.create_table(
        "blob",
        _text("sha256", primary_key=True),
        _text("kind"),
        sa.Column("content", sa.LargeBinary, nullable=False),
        _time("at"),
    )
    op.create_table("facts", _counter(), _text("node"), _text("digest"), _time("at"), _text("facts"))
    op.create_index("facts_of_node", "facts", ["node", "id"])
    op.create_table(
        "pin",
        _text("address", primary_key=True),
        sa.Column("port", sa.Integer, primary_key=True, autoincrement=False),
        _text("key"),
        _text("pinned_by"),
        _time("at"),
        sa.Column("verified", sa.Boolean, nullable=False),
    )
    op.create_table("resting", _text("credential", primary_key=True), _text("why"), _time("since"))
    op.create_table(
        "sealed",
        _text("id", primary_key=True),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        _time("at"),
    )
    op.create_table(
        "worker", _text("worker", primary_key=True), _text("queues"), _text("info"), _time("seen_at")
    )
    op.create_table("writer", _text("id", primary_key=True), _number("commits"), _time("at"))
    op.execute("INSERT INTO chain (run, head_n, head_hash) VALUES ('fleet', 0, '')")
    _keep_events(op.get_bind().dialect.name)


def _keep_events(dialect: str) -> None:
    if dialect == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER event_no_{verb.lower()} BEFORE {verb} ON event "
                "BEGIN SELECT RAISE(ABORT, 'events are never changed'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION event_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'events are never changed'; END $$"
    )
    op.execute(
        "CREATE TRIGGER event_no_change BEFORE UPDATE OR DELETE ON event "
        "FOR EACH ROW EXECUTE FUNCTION event_is_kept()"
    )
    op.execute(
        "CREATE TRIGGER event_no_truncate BEFORE TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION event_is_kept()"
    )


def downgrade() -> None:
    """Refuse: a journal is not thrown away by a migration."""
    raise NotImplementedError("The first schema has nothing before it; restore a backup instead.")
