"""The schema: made by migrations alone, equal to the tables, once among many openers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from workflows.errors import JournalError
from workflows.journal import FLEET, Journal, Kind, NewEvent, engines, tables
from workflows.journal.migrations import FOLDER, upgrade


def test_migrated_schema_is_what_the_tables_say(url: str) -> None:
    """Alembic finds no difference between the migrated database and `tables`."""
    upgrade(url)
    engine = engines.writing(engines.parse(url))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, tables.metadata)
    engine.dispose()
    assert differences == []


def test_head_is_the_newest_revision() -> None:
    """`tables.HEAD`, which spares us Alembic when opening, names the newest revision."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == tables.HEAD


def test_upgrading_twice_changes_nothing(url: str) -> None:
    """The second upgrade keeps what was written after the first."""
    upgrade(url)
    with Journal.open(url) as journal:
        journal.append(NewEvent(run=FLEET, kind=Kind.NOTE))
    upgrade(url)
    with Journal.open(url) as journal:
        assert [event.kind for event in journal.events(FLEET)] == [Kind.NOTE]


def test_whoever_signed_in_at_a_provider_before_0003_counts_as_seen_now(url: str) -> None:
    """Nobody's token ends by the upgrade itself."""
    engine = engines.writing(engines.parse(url))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(FOLDER))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0002")
        connection.execute(sa.text("INSERT INTO identity (issuer, subject, account) VALUES ('i', 's', 'a')"))
    engine.dispose()
    with Journal.open(url) as journal:
        seen, now = journal.read(lambda c: c.execute(sa.select(tables.identity.c.seen_at, tables.clock())).one())
    assert 0 <= now - seen < 60


def test_many_opening_at_once_make_one_schema(url: str) -> None:
    """Eight open an empty database at the same time; all can write."""

    def open_and_write(_number: int) -> int:
        with Journal.open(url) as journal:
            return journal.append(NewEvent(run=FLEET, kind=Kind.NOTE))[0].n

    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(pool.map(open_and_write, range(8)))
    assert numbers == list(range(1, 9))


def test_journal_of_a_newer_program_is_refused(url: str) -> None:
    """An older program does not touch what it does not know."""
    with Journal.open(url) as journal:
        journal.write(lambda tx: tx.connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(JournalError, match="schema 9999"):
        Journal.open(url)


def test_what_waited_for_a_webhook_that_was_off_before_0005_has_ended(url: str) -> None:
    """Switched on again, it tells of nothing old; what waits for others goes on waiting."""
    engine = engines.writing(engines.parse(url))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(FOLDER))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0004")
        for name, active in (("off", "false"), ("on", "true")):
            connection.execute(
                sa.text(
                    "INSERT INTO webhook (webhook, url, made_by, kinds, active, created_at)"
                    f" VALUES ('{name}', 'u', 'a', '[]', {active}, 1)"
                )
            )
            connection.execute(
                sa.text(
                    "INSERT INTO webhook_delivery (webhook, run, kind, n, body, tries, status, said, at, due_at)"
                    f" VALUES ('{name}', 'r', 'k', 1, '', 0, 0, '', 1, 2)"
                )
            )
    engine.dispose()
    table = tables.webhook_delivery
    with Journal.open(url) as journal:
        rows = journal.read(lambda c: c.execute(sa.select(table.c.webhook, table.c.done_at)).all())
    assert {row.webhook: row.done_at for row in rows} == {"off": 2.0, "on": None}
