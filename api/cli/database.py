"""`certbridge db`: bring the journal's schema up to date, back it up, and take a backup in again.

SQLite is copied by its own backup interface, which takes a whole and consistent copy while workers write. PostgreSQL
has `pg_dump` and `pg_restore`; we do not imitate them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.elsewhere import need_here
from api.cli.output import note, say
from api.cli.surroundings import YesOption, confirm, load_settings
from api.planning import WORKER_WITHIN_S
from workflows.errors import EngineError, InputError

if TYPE_CHECKING:
    from workflows.settings import Settings

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(lambda: need_here("`db`"))
    group.command("migrate")(migrate)
    group.command("backup")(backup)
    group.command("restore")(restore)
    app.add_typer(group, name="db", help="Migrate, back up and restore the journal's database.")


def migrate() -> None:
    """Bring the schema up to date (every command does so by itself; this does nothing else)."""
    from workflows.journal import tables
    from workflows.journal.migrations import upgrade

    upgrade(load_settings().database_url)
    say(f"the journal has schema {tables.HEAD}")


def backup(file: FileArgument) -> None:
    """Write a whole copy of the journal to FILE (mode 0600); keys in it are encrypted, their key is not in it."""
    settings = load_settings()
    source = _sqlite_file(settings, "Use `pg_dump`.")
    if file.exists():
        raise InputError(f"{file} is there already", remedy="Name a new file; backups are never written over.")
    if not source.exists():
        raise InputError(f"there is no journal at {source} yet", remedy="Nothing needs to be backed up.")
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _copy(source, file)
    except (OSError, sqlite3.Error) as error:
        file.unlink(missing_ok=True)
        raise InputError(f"{file} cannot be written ({error})", remedy="Name another file.") from error
    say(str(file))
    note(f"sealed keys in it open only with {settings.vault_dir / 'key'}: keep that file too, elsewhere")


def restore(file: FileArgument, yes: YesOption = False) -> None:
    """Take the journal in FILE in place of the present one; no worker may be alive."""
    from workflows.journal import Journal, stock

    settings = load_settings()
    target = _sqlite_file(settings, "Use `pg_restore`.")
    _check_backup(file)
    if target.exists():
        with Journal.open(settings.database_url) as journal:
            alive = journal.read(lambda connection: stock.workers(connection, within_s=WORKER_WITHIN_S))
        if alive:
            raise EngineError(
                f"{len(alive)} workers are at work with the present journal.", remedy="Stop them: `certbridge down`."
            )
        confirm(f"Replace the journal {target} by {file}?", yes=yes)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(file, target)
    except (OSError, sqlite3.Error) as error:
        raise EngineError(
            f"{target} cannot be written ({error})", remedy="Look at the disk, then try again."
        ) from error
    with Journal.open(settings.database_url):
        say(f"the journal is that of {file} now")


def _sqlite_file(settings: Settings, remedy: str) -> Path:
    from sqlalchemy.engine import make_url

    if not settings.is_sqlite:
        raise InputError("The journal is in PostgreSQL, which has tools of its own for this.", remedy=remedy)
    return Path(make_url(settings.database_url).database or "")


def _check_backup(file: Path) -> None:
    remedy = "Name a file that `certbridge db backup` wrote."
    if not file.is_file():
        raise InputError(f"{file} is not there", remedy=remedy)
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            sound = database.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            database.execute("SELECT head_hash FROM chain LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"{file} is no journal ({error})", remedy=remedy) from error
    if not sound:
        raise InputError(f"{file} is damaged", remedy=remedy)


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
