"""What every command stands on: settings, the journal, the inventory file, who is asking, and asking back.

Identity is the account of the effective user id and nothing else: no flag and no variable changes it (DESIGN.md
section 8). Questions are only asked on a terminal; elsewhere `--yes` must have been said.
"""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.errors import InputError, Stopped

if TYPE_CHECKING:
    from workflows.inventory import Fleet, ResolvedFleet
    from workflows.journal import Journal
    from workflows.settings import Settings

FleetOption = Annotated[
    Path | None, typer.Option("--fleet", "-f", help="The inventory; else CERTBRIDGE_FLEET, else ./fleet.yaml.")
]
ClusterOption = Annotated[
    list[str] | None, typer.Option("--cluster", metavar="NAME", help="Only this cluster; may be repeated.")
]
NodeOption = Annotated[
    list[str] | None, typer.Option("--node", metavar="NAME", help="Only this node; may be repeated.")
]
CertificateOption = Annotated[
    list[str] | None,
    typer.Option("--certificate", metavar="NAME", help="Only the certificate of this name; may be repeated."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_SPAN = re.compile(r"(\d{1,5})\s*([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def load_settings() -> Settings:
    """Return the settings of this process; the folders of the state are there afterwards. Raises: SettingsError."""
    from workflows.settings import Settings, prepare_state

    settings = Settings.load()
    prepare_state(settings)
    return settings


@contextmanager
def open_journal(settings: Settings | None = None) -> Iterator[Journal]:
    """Give the journal that the settings name. Raises: SettingsError, JournalError."""
    from api.cli.elsewhere import need_here
    from workflows.journal import Journal

    need_here("This command")
    with Journal.open((settings or load_settings()).database_url) as journal:
        yield journal


def account() -> str:
    """Return the name of the account that this process acts for."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # an account of a container that has no name
        return f"uid-{uid}"


def now() -> datetime:
    """Return the time, aware UTC."""
    return datetime.now(UTC)


def read_fleet(path: Path | None) -> tuple[Fleet, ResolvedFleet]:
    """Return the inventory as it was written, and with every default filled in; its file paths are absolute.

    Raises: InventoryError with all that is wrong; InputError: there is no such file.
    """
    from workflows.inventory import Fleet
    from workflows.settings import Settings

    file = path or Settings.load().fleet
    text = read_bytes(file, "the inventory", "Name it with `--fleet FILE` or CERTBRIDGE_FLEET.")
    try:
        fleet = Fleet.from_yaml(text.decode("utf-8-sig"), _shown(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{_shown(file)} is no UTF-8 text", remedy="Save it as UTF-8.") from error
    return fleet, fleet.resolved(str(file.absolute().parent))


def read_bytes(file: Path, what: str, remedy: str) -> bytes:
    """Return the content of *file*. Raises: InputError that says *what* it was to be."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{_shown(file)}: {what} cannot be read ({error.strerror})", remedy=remedy) from error


def write_private(file: Path, data: bytes) -> None:
    """Write *data* to *file*, which only its owner may read. Raises: InputError: it cannot be written."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(data)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror})", remedy="Name another file.") from error


def read_span(text: str) -> timedelta:
    """Return "30d", "12h" or "2w" as a length of time. Raises: typer.BadParameter."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no length of time: write 30d, 12h or 2w")
    return int(found[1]) * _UNITS[found[2]]


def read_moment(text: str) -> datetime:
    """Return an ISO 8601 time, aware; one without a zone is UTC. Raises: typer.BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time: write 2026-11-23T22:00+09:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def on_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agrees(question: str) -> bool:
    """Return what the person at the terminal answers to *question*; no is the default."""
    return typer.confirm(question, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Return when *yes* was said or the person at the terminal agrees.

    Raises: InputError: there is nobody to ask. Stopped: the answer is no.
    """
    if yes:
        return
    if not on_terminal():
        raise InputError(f"{question} Nobody can be asked here.", remedy="Look at it first, then say `--yes`.")
    if not agrees(question):
        raise Stopped("You said no, so nothing was done.")


def need_worker(journal: Journal) -> None:
    """Return when a worker is alive. Raises: NoWorker."""
    from api import planning

    planning.need_worker(journal)


def run_id(journal: Journal, run: str) -> str:
    """Return the id that *run* means; `@latest` is the newest run that changes servers, not a survey.

    Where there is no such run yet, it is the newest of any kind. `fleet` is what belongs to no run.
    Raises: InputError: no such run. JournalError.
    """
    from workflows.actions import READING_KINDS
    from workflows.journal import FLEET, runs

    if run != "@latest":
        if run != FLEET and (
            not run.isprintable() or not journal.read(lambda connection: runs.exists(connection, run))
        ):
            raise InputError(f"There is no run {run} in the journal.", remedy="See `certbridge runs list`.")
        return run

    latest = journal.runs(limit=200)
    if not latest:
        raise InputError("There is no run yet.", remedy="Start one with `certbridge run`.")
    return next((one.run for one in latest if one.kind not in READING_KINDS), latest[0].run)


def _shown(file: Path) -> str:
    try:
        return str(file.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(file)
