"""`certbridge runs rollback`: bring the servers of a run back to the files they used before, by a plan of its own.

What is to be done depends on where the servers stand now, so they are read first; then the plan is shown, the old run
is ended, and the new one starts, up to its gate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import preview_text
from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, bare, emit, note, say
from api.cli.surroundings import YesOption, account, confirm, load_settings, now, open_journal, run_id
from workflows.errors import NothingToUndo

if TYPE_CHECKING:
    from workflows.journal import Journal, RunState
    from workflows.plan import Plan

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or @latest.")]


@over_api("rollback")
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
    from api.cli import plan_text
    from api.cli.run import start
    from workflows import preview as previews

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        before, state = going_back.original(journal, name)
        try:
            made = _plan(journal, before, state, lane)
        except NothingToUndo as nothing:
            _tell_nothing(nothing, state, output)
            return
        found = previews.rollback(before, state, made)
        shown = (*plan_text.lines(made), *plan_text.notices(made), *plan_text.summary_lines(made))
        for line in (*(shown if output is Format.TABLE else ()), *preview_text.lines(found)):
            if preview and output is Format.TABLE:
                say(*line)
            elif output is Format.TABLE:
                note("".join(bare(span) for span in line))
        if preview:
            if output is not Format.TABLE:
                emit({"run": "", "digest": made.digest(), "plan": made.to_json(), "preview": found}, output)
            return
        open_still = state.outcome == "open"
        ends = f"End run {name} for good, and begin" if open_still else "Begin"
        confirm(f"{ends} with these lines? {_waits(made)}", yes=yes)
        going_back.check_still(journal, state)
        if open_still:
            going_back.end(journal, name, by=account())
        fresh = start(journal, settings, made, by=account())
        if output is Format.TABLE:
            say(fresh)
        else:
            emit({"run": fresh, "digest": made.digest(), "plan": made.to_json(), "preview": found}, output)
        if watch:
            from api.cli.following import watch as follow

            raise typer.Exit(follow(journal, fresh))
    note(f"follow it with `certbridge runs watch {fresh}`")


def _tell_nothing(nothing: NothingToUndo, state: RunState, output: Format) -> None:
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
