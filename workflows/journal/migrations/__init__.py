"""Brings the journal's schema up to date, by Alembic, under the lock on writing.

A revision is never edited once it is out; `tables.HEAD` names the newest. Opening a journal that is up to date costs
one SELECT and does not even import Alembic.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from workflows.errors import JournalError
from workflows.journal import engines, tables

FOLDER = Path(__file__).parent


def upgrade(url: str) -> None:
    """Bring the schema at *url* up to date. Raises: JournalError: the journal is newer than this program."""
    engine = engines.writing(engines.parse(url))
    try:
        ensure(engine)
    finally:
        engine.dispose()


def ensure(engine: sa.Engine) -> None:
    """Bring the schema behind the writing *engine* up to date; only one process does it, the others wait."""
    with engine.begin() as connection:
        found = revision(connection)
        if found == tables.HEAD:
            return
        if found and found > tables.HEAD:
            raise JournalError(
                f"The journal has schema {found}, this program knows {tables.HEAD}.",
                remedy="Use the newer certbridge that wrote it, or restore a backup with `certbridge db restore`.",
            )
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")


def revision(connection: sa.Connection) -> str:
    """Return the revision of the schema; "" when there is none yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or "")
