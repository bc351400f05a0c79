"""When the sign-in provider last spoke for somebody: tokens of a person who never comes back end by it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; who signed in before counts as seen today, since nobody knows when it was."""
    op.add_column("identity", sa.Column("seen_at", sa.Double, nullable=False, server_default="0"))
    sqlite = op.get_bind().dialect.name == "sqlite"
    now = "CAST(strftime('%s', 'now') AS REAL)" if sqlite else "extract(epoch from clock_timestamp())"
    op.execute(f"UPDATE identity SET seen_at = {now}")
    op.create_index("identity_of_account", "identity", ["account"])
