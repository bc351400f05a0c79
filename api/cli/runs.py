"""`certbridge runs`: which runs there are, how one stands, following it, and what people may do to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import preview_text, rollback, run_text
from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Table, bare, emit, moment, note, plain, say, show
from api.cli.surroundings import (
    YesOption,
    account,
    confirm,
    load_settings,
    now,
    open_journal,
    run_id,
    write_private,
)

if TYPE_CHECKING:
    from api.run_view import RunView
    from workflows.journal import Journal, RunSummary
    from workflows.plan import Plan
    from workflows.preview import Preview
    from workflows.settings import Settings

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or @latest.")]
LaneOption = Annotated[str, typer.Option("--lane", help="Only this lane.")]
PreviewOption = Annotated[bool, typer.Option("--preview", help="Only show what would come of it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_runs)
    group.command("show")(show_run)
    group.command("watch")(watch)
    group.command("resume")(resume)
    group.command("pause")(pause)
    group.command("cancel")(cancel)
    group.command("rollback")(rollback.rollback)
    group.command("report")(report)
    group.command("runbook")(runbook)
    app.add_typer(group, name="runs", help="List, show, follow, resume, pause, cancel, roll back and report runs.")


@over_api("list_runs")
def list_runs(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at the most.")] = 20,
    output: OutputOption = Format.TABLE,
) -> None:
    """List runs, newest first."""
    with open_journal() as journal:
        found = journal.runs(limit=limit)
    show_list(found, output)


def show_list(found: Sequence[RunSummary], output: Format) -> None:
    """Show a list of runs."""
    if output is not Format.TABLE:
        emit([plain(one) | {"status": _status(one)} for one in found], output)
        return
    rows = [
        (
            one.run,
            run_text.named(one.kind, one.purpose),
            one.fleet,
            one.requested_by,
            moment(one.created_at),
            (_status(one), run_text.STYLES.get(_status(one), "")),
            ", ".join(one.lanes),
        )
        for one in found
    ]
    show(Table(columns=("run", "kind", "fleet", "asked for by", "at", "status", "lanes"), rows=rows))


@over_api("show_run")
def show_run(run: RunArgument, output: OutputOption = Format.TABLE) -> None:
    """Show the tree of lanes and steps with states and times, errors with remedies, and what it waits for."""
    with open_journal() as journal:
        shown = look(journal, run_id(journal, run))
    show_one(shown, output)


def show_one(shown: RunView, output: Format) -> None:
    """Show a run."""
    if output is not Format.TABLE:
        emit(shown, output)
        return
    for line in run_text.lines(shown):
        say(*line)
    for notice in shown.notices:
        say(("notice: ", "yellow"), notice)


@over_api("watch", module="remote_following")
def watch(run: RunArgument) -> None:
    """Follow a run until it ends (exit 0 or 1), waits for people (3), or was stopped (4)."""
    from api.cli.following import watch as follow

    with open_journal() as journal:
        code = follow(journal, run_id(journal, run))
    raise typer.Exit(code)


@over_api("resume")
def resume(
    run: RunArgument,
    lane: LaneOption = "",
    preview: PreviewOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Let stopped or paused lanes go on: failed steps are tried again, what is done stays done."""
    from workflows import actions
    from workflows import preview as previews

    with open_journal() as journal:
        name = run_id(journal, run)
        actions.lanes_of(journal, name, lane)
        found = previews.resume(_plan(journal, name), journal.state(name), lane=lane)
        if preview:
            show_preview(found, output)
            return
        note_preview(found, output)
        moved = actions.resume(journal, name, by=account(), lane=lane)
    tell(name, moved, ("goes on", "go on"), "moves already", found, output)


@over_api("pause")
def pause(
    run: RunArgument,
    lane: LaneOption = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "",
    preview: PreviewOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Hold a run at the next step border."""
    from workflows import actions
    from workflows import preview as previews

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        actions.lanes_of(journal, name, lane)
        found = previews.pause(_plan(journal, name), journal.state(name), lane=lane, dead=_dead(journal, name))
        if preview:
            show_preview(found, output)
            return
        note_preview(found, output)
        moved = actions.pause(journal, name, by=account(), lane=lane, reason=reason)
        stands = _stands(journal, name)
    held = ("is held at its next step border", "are held at their next step borders")
    tell(name, moved, held, "does not move anyway", found, output)
    if stands:
        _tell_standing(stands)
        note(f"The lines to go on or back by hand are in {_runbook_file(settings, name)}")


@over_api("cancel")
def cancel(
    run: RunArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "",
    yes: YesOption = False,
    preview: PreviewOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """End a run for good at the next step border, and free its servers."""
    from workflows import actions
    from workflows import preview as previews

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        found = previews.cancel(_plan(journal, name), journal.state(name), dead=_dead(journal, name))
        if preview:
            show_preview(found, output)
            return
        if not found.lanes:
            tell(name, (), ("", ""), _over(journal, name), found, output)
            return
        note_preview(found, output)
        if found.standing:
            note(f"The lines to finish or to go back by hand are in {_runbook_file(settings, name)}")
        confirm(f"End run {name} for good?", yes=yes)
        moved = actions.cancel(journal, name, by=account(), reason=reason)
        working = _at_work(journal, name)
    tell(name, moved, ("is cancelled", "are cancelled"), "was over already", found, output)
    if working:
        note(f"It ends when the step that runs has ended: {', '.join(working)}")
    if found.standing:
        (say if output is Format.TABLE else note)(str(_runbook_file(settings, name)))
        note(f"`certbridge runs runbook {name}` shows it as the journal has it now, also without an engine.")


@over_api("report")
def report(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to; else RUN.html.")] = None,
) -> None:
    """Write one HTML page: what was asked, who approved what, every command with its reply, before and after."""
    from api.report import render

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        page = render(journal, name, transcripts=settings.transcripts_dir, now=now())
    file = out or Path(f"{name}.html")
    write_private(file, page.encode())
    say(str(file))


@over_api("runbook")
def runbook(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to; else it is shown.")] = None,
) -> None:
    """Show what is done, in doubt and next in a database run, and the lines back; needs no engine."""
    from api.runbooks import runbook_of

    with open_journal() as journal:
        name = run_id(journal, run)
        text = runbook_of(_plan(journal, name), journal.state(name), now())
    show_runbook(text, out)


def show_runbook(text: str, out: Path | None) -> None:
    """Show a runbook, or write it to the file *out*."""
    if out is None:
        sys.stdout.write(text)  # as it is: no colours, and no line broken to the width of the terminal
        return
    write_private(out, text.encode())
    say(str(out))


def look(journal: Journal, run: str) -> RunView:
    """Return how *run* stands now. Raises: JournalError: no such run."""
    from api.run_view import view
    from workflows.plan import DATABASE, Plan

    plan = Plan.from_json(journal.plan(run))
    events = journal.events(run) if plan.kind == DATABASE else ()  # an outage is measured from them
    return view(plan, journal.state(run), now=now(), events=events)


def _status(one: RunSummary) -> str:
    if one.outcome != "open":
        return one.outcome
    flags: set[str] = set(one.lanes.values())
    return next((flag for flag in ("", "waiting", "stopped", "paused", "cancelled") if flag in flags), "") or "running"


def _stands(journal: Journal, run: str) -> tuple[str, ...]:
    """Return where the lanes of a database run stand, () of any other run."""
    from workflows.plan import DATABASE, Plan
    from workflows.runbook import standing_lines

    state = journal.state(run)
    return standing_lines(Plan.from_json(journal.plan(run)), state) if state.kind == DATABASE else ()


def _tell_standing(stands: tuple[str, ...]) -> None:
    for line in stands:
        note(line)


def _runbook_file(settings: Settings, run: str) -> Path:
    """Return where the workers keep the runbook of *run*."""
    return settings.runbooks_dir / f"{run}.md"


def _plan(journal: Journal, run: str) -> Plan:
    from workflows.plan import Plan

    return Plan.from_json(journal.plan(run))


def show_preview(found: Preview, output: Format) -> None:
    """Show what would come of it as the result: nothing else happens."""
    if output is not Format.TABLE:
        emit(found, output)
        return
    for line in preview_text.lines(found):
        say(*line)


def note_preview(found: Preview, output: Format) -> None:
    """Show what will come of it before it happens; in JSON it comes with the result."""
    if output is Format.TABLE:
        for line in preview_text.lines(found):
            note("".join(bare(span) for span in line))


def _over(journal: Journal, run: str) -> str:
    """Return what is said of a run that cannot be cancelled (any more)."""
    if journal.state(run).outcome != "open":
        return "was over already"
    working = _at_work(journal, run)
    ends = f"; it ends when the step that runs has ended: {', '.join(working)}" if working else ""
    return f"is cancelled already{ends}"


def _at_work(journal: Journal, run: str) -> list[str]:
    """Return the steps that are at work just now."""
    state = journal.state(run)
    return [step.id for lane in state.lanes.values() for step in lane.steps.values() if step.status == "running"]


def _dead(journal: Journal, run: str) -> frozenset[str]:
    """Return the steps whose worker is gone and had sent nothing."""
    from workflows.journal import lanes

    return journal.read(partial(lanes.dead, run=run))


def tell(run: str, moved: tuple[str, ...], done: tuple[str, str], nothing: str, found: Preview, output: Format) -> None:
    """Say what came of it: *done* in the words for one lane and for several, *nothing* where no lane moved."""
    if output is not Format.TABLE:
        emit({"run": run, "lanes": moved, "preview": found}, output)
    elif moved:
        several = len(moved) > 1
        say(f"run {run}: lane{'s' if several else ''} {', '.join(moved)} {done[several]}")
    else:
        note(f"run {run} {nothing}")


__all__: list[Any] = ["look", "register"]
