"""`certbridge runs rollback`: bring a database cluster back to the files it used before a run, by a plan of its own.

What is to be done depends on where the nodes stand now, so they are read first; then the plan is shown, the old run is
ended, and the new one starts. A renewal of services has no such plan: a server that fails there is put back by itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import note, say
from api.cli.surroundings import YesOption, account, confirm, load_settings, now, open_journal, run_id
from workflows.errors import EngineError, InputError

if TYPE_CHECKING:
    from workflows.journal import Journal
    from workflows.plan import Plan

_CLOSED_WITHIN_S = 120.0
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or @latest.")]


def rollback(
    run: RunArgument,
    yes: YesOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it; ends with exit code 3 where people must decide.")
    ] = False,
) -> None:
    """Bring the database cluster of a run back to the files it used before, by a run of its own."""
    from api.cli import plan_text
    from api.cli.run import start

    settings = load_settings()
    with open_journal(settings) as journal:
        name = run_id(journal, run)
        original = _original(journal, name)
        made = _plan(journal, original)
        for line in (*plan_text.lines(made), *plan_text.notices(made), *plan_text.summary_lines(made)):
            note("".join(span if isinstance(span, str) else span[0] for span in line))
        open_still = journal.state(name).outcome == "open"
        ends = f"End run {name} for good, and begin" if open_still else "Begin"
        confirm(f"{ends} with these lines? What removes or joins anything waits for approval.", yes=yes)
        if open_still:
            _end(journal, name)
        fresh = start(journal, settings, made, by=account())
        say(fresh)
        if watch:
            from api.cli.following import watch as follow

            raise typer.Exit(follow(journal, fresh))
    note(f"follow it with `certbridge runs watch {fresh}`")


def _original(journal: Journal, run: str) -> Plan:
    """Return the plan to go back from. Raises: InputError: it is no database run, or it moves."""
    from workflows.plan import DATABASE, Plan

    made = Plan.from_json(journal.plan(run))
    if made.kind != DATABASE:
        raise InputError(
            f"Run {run} is a {made.kind}, which has no rollback of its own.",
            remedy="A server that fails there is put back by itself; else see docs/howto/go-back.md.",
        )
    state = journal.state(run)
    moving = [lane.name for lane in state.lanes.values() if lane.status in {"ready", "running"}]
    if state.outcome == "open" and moving:
        raise InputError(
            f"Run {run} is at work on {', '.join(moving)}.",
            remedy=f"Hold it first: `certbridge runs pause {run}`, and wait until its step has ended.",
        )
    return made


def _plan(journal: Journal, original: Plan) -> Plan:
    """Read every node of *original*, and return the plan back. Raises: PlanError, NoWorker."""
    from api.cli.survey import take
    from workflows.inventory import ResolvedFleet, select
    from workflows.procedures.rollback import plan_rollback

    fleet = ResolvedFleet.from_json(original.fleet)
    wanted = select(fleet, [lane.name for lane in original.lanes])
    found = take(journal, fleet, wanted, by=account())
    return plan_rollback(original, found.facts, now=now(), silent=frozenset(found.failed))


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
