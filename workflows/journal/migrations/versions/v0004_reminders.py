"""When people are next reminded of an open gate."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; gates that are open already are reminded of a day after they were opened."""
    op.add_column("gate", sa.Column("remind_at", sa.Double, nullable=True))
    op.execute("UPDATE gate SET remind_at = opened_at + 86400 WHERE status = 'open'")
