"""`certbridge plan`: what would be done, line by line. Nothing is changed, and the same facts give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.output import Format, OutputOption, emit, note, say, show_warnings
from api.cli.plan_database import DatabaseChoice, DatabaseOption, PrimaryOption, SchemaOption
from api.cli.surroundings import (
    CertificateOption,
    ClusterOption,
    FleetOption,
    NodeOption,
    account,
    load_settings,
    now,
    open_journal,
    read_bytes,
    read_fleet,
    read_moment,
    read_span,
    write_private,
)
from workflows.errors import InputError, PlanStale, Reserved

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal
    from workflows.plan import Plan

FORMAT = 1
"""Version of the plan file."""

_AGAIN = "Make it again: `certbridge plan --save FILE`, then `certbridge run FILE`."

WithinOption = Annotated[str, typer.Option("--within", help="What ends within this time is due: 30d, 12h, 2w.")]
SurveyOption = Annotated[bool, typer.Option("--survey", help="Read the servers first.")]
NowOption = Annotated[
    str | None, typer.Option("--now", metavar="ISO", help="Plan as if it were this time (ISO 8601; UTC if no zone).")
]


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("plan")(show_plan)


def show_plan(
    fleet: FleetOption = None,
    cluster: ClusterOption = None,
    node: NodeOption = None,
    certificate: CertificateOption = None,
    database: DatabaseOption = "",
    primary: PrimaryOption = "",
    upgrade_schema: SchemaOption = False,
    within: WithinOption = "30d",
    survey: SurveyOption = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the plan to FILE, for `certbridge run FILE`.")
    ] = None,
    at: NowOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what is due and every line that would be typed, with what it interrupts and the way back."""
    choice = DatabaseChoice(purpose=database, primary=primary, upgrade_schema=upgrade_schema)
    made = from_options(fleet, cluster, node, certificate, choice, within=within, survey=survey, at=at)
    if save is not None:
        write_private(save, (json.dumps(to_document(made), sort_keys=True, indent=1) + "\n").encode())
        note(f"the plan is in {save}; carry it out with `certbridge run {save}`")
    if output is not Format.TABLE:
        emit(to_document(made), output)
        return
    if made.empty:
        say(("Nothing is due: everything is as wanted.", "green"))
        return
    from api.cli import plan_text

    for line in (*plan_text.lines(made), *plan_text.notices(made), *plan_text.summary_lines(made)):
        say(*line)


def from_options(
    fleet: Path | None,
    cluster: list[str] | None,
    node: list[str] | None,
    certificate: list[str] | None,
    choice: DatabaseChoice,
    *,
    within: str,
    survey: bool,
    at: str | None,
    warn: bool = True,
) -> Plan:
    """Return the plan that the options of `plan` and `run` mean; servers are surveyed first when *survey* is said.

    *warn*: show what the inventory hardly means as it is written.
    """
    from api.cli import plan_database
    from workflows.inventory import select

    choice.check(certificate)
    span, moment = read_span(within), read_moment(at) if at else now()
    read, resolved = read_fleet(fleet)
    if warn:
        show_warnings(read.warnings)
    wanted = select(resolved, cluster or (), node or (), certificate or ())
    settings = load_settings()
    facts_age = timedelta(hours=settings.facts_hours)
    with open_journal(settings) as journal:
        silent = _survey(journal, resolved, wanted) if survey else None
        if choice.purpose and node:
            note("a database cluster changes as a whole, so the plan is for all its nodes, whatever `--node` says")
        if not choice.purpose:
            return make(journal, resolved, wanted, at=moment, within=span, facts_age=facts_age)
        whole = plan_database.whole_clusters(resolved, wanted)
        return plan_database.make(
            journal, resolved, whole, choice, at=moment, within=span, facts_age=facts_age, silent=silent
        )


def make(
    journal: Journal,
    fleet: ResolvedFleet,
    wanted: ResolvedFleet,
    *,
    at: datetime,
    within: timedelta,
    facts_age: timedelta,
) -> Plan:
    """Return the plan that renews what is due in *wanted*, a part of *fleet*.

    Raises: InputError: a node of *wanted* has no facts younger than *facts_age*. PlanError: see `plan_renewal`.
    """
    from workflows.procedures.renewal import plan_renewal

    facts = fresh_facts(journal, fleet, wanted, facts_age=facts_age)
    return plan_renewal(fleet, facts, now=at, within=within, wanted=wanted)


def fresh_facts(
    journal: Journal, fleet: ResolvedFleet, wanted: ResolvedFleet, *, facts_age: timedelta
) -> dict[str, NodeFacts]:
    """Return the latest facts of every node that has some; those of *wanted* must be fresh. Raises: InputError."""
    from workflows.facts import NodeFacts
    from workflows.journal import stock

    found = journal.read(partial(stock.latest_facts, nodes=[node.name for node in fleet.nodes]))
    # Judged by the real time: `--now` plans for another day, it does not make an old survey young.
    fresh = {name for name, (_, seen, _) in found.items() if now() - seen <= facts_age}
    names = [node.name for node in wanted.nodes]
    changed = journal.read(partial(stock.last_changes, nodes=names))
    past = [name for name in names if name in found and name in changed and found[name][1] < changed[name]]
    stale = [name for name in names if name not in fresh]
    if past:
        _refuse_held(journal, past)
    _refuse_unread(journal, [*past, *stale])
    if past:
        raise InputError(
            f"changed after their last survey: {', '.join(past[:5])}"
            + (f" and {len(past) - 5} more" if len(past) > 5 else ""),
            remedy="Run `certbridge survey`, or plan with `--survey`.",
        )
    if stale:
        shown = ", ".join(stale[:5]) + (f" and {len(stale) - 5} more" if len(stale) > 5 else "")
        hours = facts_age.total_seconds() / 3600
        raise InputError(
            f"no survey of the last {hours:.0f} hours: {shown}",
            remedy="Run `certbridge survey`, or plan with `--survey`.",
        )
    touched = {cluster.name for cluster in wanted.clusters}
    for node in fleet.nodes:
        if node.cluster in touched and node.name not in fresh:
            note(f"warning: {node.name} has no fresh survey, so its trust stores are not known", "yellow")
    return {name: NodeFacts.from_json(said) for name, (_, _, said) in found.items()}


def _refuse_unread(journal: Journal, names: Sequence[str]) -> None:
    """Raise InputError when the last survey of one of *names* failed: to survey again alone does not help."""
    from api.cli.plan_database import last_silent

    if failed := last_silent(journal, names):
        name, error = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise InputError(
            f"{name}: its last survey failed: {error['text']}{more}",
            remedy=f"{error.get('remedy') or 'Mend the cause.'} Then run `certbridge survey`.",
        )


def _refuse_held(journal: Journal, names: Sequence[str]) -> None:
    """Raise Reserved when a run that is not over holds one of *names*: it is the one that changes them."""
    from workflows.journal import runs

    held = journal.read(runs.reservations)
    for name in names:
        if run := held.get(f"node:{name}"):
            raise Reserved(
                f"{name} is held by run {run}, which changes it.",
                remedy=f"Wait for run {run} to end, or cancel it with `certbridge runs cancel {run}`.",
            )


def to_document(made: Plan) -> dict[str, Any]:
    """Return the plan file: {"format", "digest", "plan", "summary"}."""
    from api import plan_view

    return plan_view.to_document(made)


def read_document(file: Path) -> Plan:
    """Return the plan in *file*. Raises: InputError: it is no plan of this version, or it was changed."""
    from workflows.plan import Plan

    data = read_bytes(file, "the plan", "Make one with `certbridge plan --save FILE`.")
    remedy = "Make it again with `certbridge plan --save FILE`."
    try:
        document = json.loads(data)
        made = Plan.from_json(document["plan"])
        digest = document["digest"]
    except Exception as error:  # cattrs raises groups of anything for a file that is something else
        raise InputError(f"{file} is no plan of this version of certbridge", remedy=remedy) from error
    if document.get("format") != FORMAT or made.digest() != digest:
        raise InputError(f"{file} was changed after the plan was made", remedy=remedy)
    return made


def check_fresh(journal: Journal, made: Plan) -> None:
    """Return when the latest facts say what the plan was made from. Raises: PlanStale naming the nodes that differ."""
    from workflows.facts import NodeFacts
    from workflows.journal import stock

    latest = journal.read(partial(stock.latest_facts, nodes=list(made.facts)))
    now_there = {node: NodeFacts.from_json(said).digest() for node, (_, _, said) in latest.items()}
    newer = [node for node, digest in made.facts.items() if now_there.get(node) != digest]
    if newer:
        raise PlanStale(
            f"The last survey of {', '.join(newer)} found something else than the plan was made from.", remedy=_AGAIN
        )


def _survey(journal: Journal, fleet: ResolvedFleet, wanted: ResolvedFleet) -> dict[str, dict[str, str]]:
    """Survey the clusters of *wanted* and return the nodes that could not be read, with the error of each."""
    from api.cli.survey import take
    from workflows.inventory import select

    # Whole clusters: a server outside the selection may pin a certificate inside it.
    whole = select(fleet, [cluster.name for cluster in wanted.clusters])
    found = take(journal, fleet, whole, by=account())
    for name, error in found.failed.items():
        note(f"{name}: {error['text']}", "red")
    return found.failed
