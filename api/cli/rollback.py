"""`certbridge runs rollback`: bring the servers of a run back to the files they used before, by a plan of its own.

What is to be done depends on where the servers stand now, so they are read first; then the plan is shown, the old run
is ended, and the new one starts, up to its gate.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import preview_text
from api.cli.output import Format, OutputOption, bare, emit, note, say
from api.cli.surroundings import YesOption, account, confirm, load_settings, now, open_journal, run_id
from workflows.errors import EngineError, InputError

if TYPE_CHECKING:
    from workflows.journal import Journal, RunState
    from workflows.plan import Plan

_CLOSED_WITHIN_S = 120.0
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or @latest.")]


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
    from api.cli import plan_text
    from api.cli.run import start
    from workflows import preview as previews

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        original, state = _original(journal, name)
        made = _plan(journal, original, state, lane)
        found = previews.rollback(original, state, made)
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
        _stands_still(journal, state)
        if open_still:
            _end(journal, name)
        fresh = start(journal, settings, made, by=account())
        if output is Format.TABLE:
            say(fresh)
        else:
            emit({"run": fresh, "digest": made.digest(), "plan": made.to_json(), "preview": found}, output)
        if watch:
            from api.cli.following import watch as follow

            raise typer.Exit(follow(journal, fresh))
    note(f"follow it with `certbridge runs watch {fresh}`")


def _waits(made: Plan) -> str:
    from workflows.plan import DATABASE

    if made.kind == DATABASE:
        return "What removes or joins anything waits for approval."
    if any(lane.gates() for lane in made.lanes):
        return "Whatever changes a service waits for approval."
    return "Nothing of it waits for approval (`go_gate: false`)."


def _original(journal: Journal, run: str) -> tuple[Plan, RunState]:
    """Return plan and state of the run to go back from. Raises: InputError: there is no way back, or it moves."""
    from workflows.journal.lanes import lane_rows
    from workflows.plan import DATABASE, RENEWAL, ROLLBACK, Plan

    made = Plan.from_json(journal.plan(run))
    if made.kind not in {DATABASE, RENEWAL}:
        raise InputError(
            f"Run {run} is a {made.kind}, which has no rollback of its own.",
            remedy="It changed no server; see docs/howto/go-back.md.",
        )
    if made.kind == RENEWAL and made.purpose == ROLLBACK:
        raise InputError(
            f"Run {run} is a rollback itself.",
            remedy="Go on with it (`certbridge runs resume`), or renew anew with `certbridge plan --survey`.",
        )
    state = journal.state(run)
    # A lane that was paused or stopped may have a step that is on its way to its border.
    live = {row.lane for row in journal.read(partial(lane_rows, run=run)) if row.live}
    moving = [lane.name for lane in state.lanes.values() if lane.status in {"ready", "running"} or lane.name in live]
    if state.outcome == "open" and moving:
        raise InputError(
            f"Run {run} is at work on {', '.join(moving)}.",
            remedy=f"Hold it first: `certbridge runs pause {run}`, and wait until its step has ended.",
        )
    return made, state


def _stands_still(journal: Journal, before: RunState) -> None:
    """Raise InputError when the run went on since *before* was read: the plan back is of what the servers used then."""
    if journal.state(before.run).n != before.n:
        raise InputError(
            f"Run {before.run} went on while its servers were read or the plan was looked at.",
            remedy=f"See `certbridge runs show {before.run}`, then `certbridge runs rollback {before.run}` again.",
        )


def _chosen(state: RunState, lane: str) -> list[str]:
    """Return the lanes to take back: *lane*, else those that are not done, else all. Raises: InputError."""
    if lane and lane not in state.lanes:
        raise InputError(f"Run {state.run} has no lane {lane}.", remedy=f"Its lanes are: {', '.join(state.lanes)}.")
    unfinished = [name for name, one in state.lanes.items() if one.status != "done"]
    return [lane] if lane else unfinished or list(state.lanes)


def _plan(journal: Journal, original: Plan, state: RunState, lane: str) -> Plan:
    """Read every node of the lanes to take back, and return the plan. Raises: PlanError, NoWorker, InputError."""
    from api.cli.survey import take
    from workflows.inventory import ResolvedFleet, select
    from workflows.plan import DATABASE
    from workflows.procedures.renewal_rollback import plan_renewal_rollback
    from workflows.procedures.rollback import plan_rollback

    fleet = ResolvedFleet.from_json(original.fleet)
    chosen = _chosen(state, lane)
    original = replace(original, lanes=tuple(one for one in original.lanes if one.name in chosen))
    wanted = select(fleet, chosen)
    found = take(journal, fleet, wanted, by=account())
    _stands_still(journal, state)
    silent = frozenset(found.failed)
    if original.kind == DATABASE:
        return plan_rollback(original, found.facts, now=now(), silent=silent)
    begun = {step.id for lane in state.lanes.values() for step in lane.steps.values()}
    touched = {step.node for lane in original.lanes for step in lane.steps() if step.stage >= 600 and step.id in begun}
    return plan_renewal_rollback(original, found.facts, now=now(), silent=silent, touched=touched)


def _end(journal: Journal, run: str) -> None:
    """Cancel the run, and wait until it has let go of its nodes. Raises: EngineError: it did not."""
    from workflows import actions

    actions.cancel(journal, run, by=account(), reason="rolled back")
    deadline = time.monotonic() + _CLOSED_WITHIN_S
    while journal.state(run).outcome == "open":
        if time.monotonic() > deadline:
            raise EngineError(
                f"Run {run} was cancelled, but it did not end within {_CLOSED_WITHIN_S:g} s.",
                remedy=f"See `certbridge runs show {run}`, then `certbridge runs rollback {run}` again.",
            )
        time.sleep(0.2)
