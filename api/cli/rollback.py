"""`certbridge runs rollback`: bring the servers of a run back to the files they used before, by a plan of its own.

What is to be done depends on where the servers stand now, so they are read first; then the plan is shown, the old run
is ended, and the new one starts, up to its gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import preview_text
from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Span, bare, emit, note, say
from api.cli.surroundings import YesOption, account, confirm, load_settings, now, open_journal, run_id
from workflows.errors import NothingToUndo

if TYPE_CHECKING:
    from api.run_view import RunView
    from workflows.journal import Journal, RunState
    from workflows.plan import Plan
    from workflows.preview import Preview

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or @latest.")]


@over_api("rollback", module="remote_rollback")
def rollback(
    run: RunArgument,
    lane: Annotated[
        str, typer.Option("--lane", help="Only this lane; else all that did not end well, or all when all did.")
    ] = "",
    yes: YesOption = False,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what would come of it.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it; ends with exit code 3 where people must decide.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Bring the servers of a run back to the files they used before, by a run of its own with its own gate."""
    from api import going_back
    from api.cli.run import start
    from workflows import preview as previews

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        before, state = going_back.original(journal, name)
        try:
            made = _plan(journal, before, state, lane)
        except NothingToUndo as nothing:
            tell_nothing(nothing, state, output)
            return
        found = previews.rollback(before, state, made)
        if preview:
            show_way(made, made.digest(), found, output)
            return
        note_way(made, found, output)
        open_still = state.outcome == "open"
        ask(name, made, open_still=open_still, yes=yes)
        going_back.check_still(journal, state)
        if open_still:
            going_back.end(journal, name, by=account())
        fresh = start(journal, settings, made, by=account())
        tell_started(fresh, made, made.digest(), found, output)
        if watch:
            from api.cli.following import watch as follow

            raise typer.Exit(follow(journal, fresh))
    note(f"follow it with `certbridge runs watch {fresh}`")


def show_way(made: Plan, digest: str, found: Preview, output: Format) -> None:
    """Show the plan back and what would come of it as the result: nothing else happens."""
    if output is not Format.TABLE:
        emit({"run": "", "digest": digest, "plan": made.to_json(), "preview": found}, output)
        return
    for line in _lines(made, found):
        say(*line)


def note_way(made: Plan, found: Preview, output: Format) -> None:
    """Show the plan back and what will come of it before it happens; in JSON it comes with the result."""
    if output is Format.TABLE:
        for line in _lines(made, found):
            note("".join(bare(span) for span in line))


def ask(run: str, made: Plan, *, open_still: bool, yes: bool) -> None:
    """Ask whether to begin. Raises: Stopped; InputError: nobody can be asked."""
    ends = f"End run {run} for good, and begin" if open_still else "Begin"
    confirm(f"{ends} with these lines? {_waits(made)}", yes=yes)


def tell_started(fresh: str, made: Plan, digest: str, found: Preview, output: Format) -> None:
    """Say which run goes back."""
    if output is Format.TABLE:
        say(fresh)
    else:
        emit({"run": fresh, "digest": digest, "plan": made.to_json(), "preview": found}, output)


def _lines(made: Plan, found: Preview) -> Iterator[Sequence[Span]]:
    from api.cli import plan_text

    yield from plan_text.lines(made)
    yield from plan_text.notices(made)
    yield from plan_text.summary_lines(made)
    yield from preview_text.lines(found)


def tell_nothing(nothing: NothingToUndo, state: RunState | RunView, output: Format) -> None:
    """Say that the servers use what they used before; the run itself is left as it is."""
    if output is not Format.TABLE:
        emit({"run": "", "digest": "", "plan": None, "preview": None}, output)
    for finding in nothing.findings:
        note(f"{finding.where}: {finding.what}")
        note(f"→ {finding.remedy}")
    if state.outcome == "open":
        note(f"→ Run {state.run} is still open: end it with `certbridge runs cancel {state.run}`, or resume it.")


def _waits(made: Plan) -> str:
    from workflows.plan import DATABASE

    if made.kind == DATABASE:
        return "What removes or joins anything waits for approval."
    if any(lane.gates() for lane in made.lanes):
        return "Whatever changes a service waits for approval."
    return "Nothing of it waits for approval (`go_gate: false`)."


def _plan(journal: Journal, before: Plan, state: RunState, lane: str) -> Plan:
    """Read every node of the lanes to take back, and return the plan. Raises: PlanError, NoWorker, InputError."""
    from api import going_back
    from api.cli.survey import take
    from workflows.inventory import ResolvedFleet, select

    fleet = ResolvedFleet.from_json(before.fleet)
    wanted = select(fleet, going_back.chosen(state, lane))
    found = take(journal, fleet, wanted, by=account())
    going_back.check_still(journal, state)
    return going_back.plan_back(before, state, found.facts, lane=lane, silent=frozenset(found.failed), now=now())
