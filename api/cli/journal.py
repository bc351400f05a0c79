"""`certbridge journal`: what happened, whether the chain of it is whole, and all of it in one file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Table, emit, note, plain, say, show
from api.cli.surroundings import open_journal, run_id, write_private
from workflows.errors import JournalError

if TYPE_CHECKING:
    from workflows.journal import Event, Journal

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, @latest, or `fleet` for what belongs to no run.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("show")(show_events)
    group.command("verify")(verify)
    group.command("export")(export)
    app.add_typer(group, name="journal", help="Read, verify and export the journal.")


@over_api("show_events")
def show_events(run: RunArgument, output: OutputOption = Format.TABLE) -> None:
    """Show every event of a run in order."""
    with open_journal() as journal:
        found = _events(journal, run_id(journal, run))
    show_found(found, output)


def show_found(found: Sequence[Event], output: Format) -> None:
    """Show events."""
    if output is not Format.TABLE:
        emit(found, output)
        return
    rows = [
        (
            str(one.n),
            f"{one.at:%H:%M:%S.%f}"[:-3],
            one.kind.value,
            one.step or one.lane or one.node,
            one.actor,
            _told(one),
        )
        for one in found
    ]
    show(Table(columns=("n", "at", "event", "where", "who", "what"), rows=rows))


@over_api("verify")
def verify(run: RunArgument, output: OutputOption = Format.TABLE) -> None:
    """Say whether the chain of a run is whole: nothing changed, missing, moved or cut off (else exit 1)."""
    with open_journal() as journal:
        name = run_id(journal, run)
        count = len(_events(journal, name))
        problems = journal.verify(name)
    tell_verified(name, count, problems, output)


def tell_verified(name: str, count: int, problems: Sequence[str], output: Format) -> None:
    """Say whether the chain of a run is whole. Raises: typer.Exit: it is not."""
    if output is not Format.TABLE:
        emit({"run": name, "events": count, "whole": not problems, "problems": problems}, output)
    elif not problems:
        say((f"{name}: the chain is whole", "green"), f" ({count} events)")
    for problem in problems:
        note(f"{name}: {problem}", "bold red")
    if problems:
        note("→ Compare with an earlier `certbridge journal export` or a backup.")
        raise typer.Exit(1)


@over_api("export")
def export(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to; else standard output.")] = None,
) -> None:
    """Write plan and events of a run as JSON lines, each with its hash, so that others can verify them."""
    with open_journal() as journal:
        name = run_id(journal, run)
        events = _events(journal, name)
        head = {"run": name, "plan": None if name == "fleet" else journal.plan(name)}
    write_export(export_lines(head, events), out)


def export_lines(head: Mapping[str, Any], events: Sequence[Event]) -> str:
    """Return *head*, which holds the plan, and *events* as lines of JSON."""
    return "".join(json.dumps(plain(one), sort_keys=True, ensure_ascii=False) + "\n" for one in (head, *events))


def write_export(text: str, out: Path | None) -> None:
    """Write an export to the file *out*, which is said then, else to standard output."""
    if out is None:
        sys.stdout.write(text)
    else:
        write_private(out, text.encode())
        say(str(out))


def _events(journal: Journal, run: str) -> list[Event]:
    found = journal.events(run)
    if not found and run != "fleet":
        raise JournalError(f"There is no run {run} in the journal.", remedy="See `certbridge runs list`.")
    return found


def _told(event: Event) -> str:
    from workflows.journal import Kind

    data = event.data
    error = data.get("error") or {}
    if event.kind is Kind.NOTE:  # all of it: a note has nothing else to say
        return " ".join("; ".join(str(data[key]) for key in ("text", "found", "done") if data.get(key)).split())
    found = (
        error.get("text") or data.get("text") or data.get("reason") or data.get("outcome") or data.get("digest") or ""
    )
    return " ".join(str(found).split())[:120]
