"""Until when a webhook rests, and after how many failures in a row."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and end what waits for webhooks that are switched off: switched on, they begin with nothing."""
    op.add_column("webhook", sa.Column("failures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("webhook", sa.Column("rests_until", sa.Double, nullable=True))
    op.execute(
        "UPDATE webhook_delivery SET done_at = due_at WHERE done_at IS NULL"
        " AND webhook IN (SELECT webhook FROM webhook WHERE NOT active)"
    )
