"""`certbridge plan`: what would be done, line by line. Nothing is changed, and the same facts give the same bytes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, emit, note, say, show_warnings
from api.cli.plan_database import DatabaseOption, PrimaryOption, SchemaOption, show_planning_warnings
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
from api.planning import DatabaseChoice
from workflows.errors import InputError, NotThere

if TYPE_CHECKING:
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal
    from workflows.plan import Plan

WithinOption = Annotated[str, typer.Option("--within", help="What ends within this time is due: 30d, 12h, 2w.")]
SurveyOption = Annotated[bool, typer.Option("--survey", help="Read the servers first.")]
NowOption = Annotated[
    str | None, typer.Option("--now", metavar="ISO", help="Plan as if it were this time (ISO 8601; UTC if no zone).")
]


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("plan")(show_plan)


@over_api("plan")
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
    if (save is not None or output is not Format.TABLE) and not made.empty:
        from api import planning

        # Every document that leaves here may be started later: its author is known by its digest, and may not approve.
        with open_journal() as journal:
            planning.keep(journal, made, by=account())
    show_made(made, save, output)


def show_made(made: Plan, save: Path | None, output: Format) -> None:
    """Show a plan, and write it to *save*."""
    from api.plan_view import to_document

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
    from api import planning
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
        whole = planning.whole_clusters(resolved, wanted)
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
    """Return the plan that renews what is due in *wanted*, a part of *fleet*; warnings are shown first.

    Raises: InputError: a node of *wanted* has no facts younger than *facts_age*. PlanError: see `plan_renewal`.
    """
    from api import planning
    from workflows.procedures.renewal import plan_renewal

    believed = planning.fresh_facts(journal, fleet, wanted, facts_age=facts_age)
    show_planning_warnings(believed.warnings)
    return plan_renewal(fleet, believed.facts, now=at, within=within, wanted=wanted)


def read_document(file: Path) -> Plan:
    """Return the plan in *file*. Raises: InputError: it is no plan of this version, or it was changed."""
    from api.plan_view import FORMAT
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


def kept(journal: Journal, file: Path, read: Plan) -> Plan:
    """Return the plan that was kept under the digest of *read*, which stood in *file*: it is what a run carries out.

    A plan that was never kept has no author, so nobody could be barred from approving it.
    Raises: InputError: it is not kept in this journal.
    """
    from workflows.journal import asked
    from workflows.plan import Plan

    try:
        return Plan.from_json(journal.read(partial(asked.saved_plan, digest=read.digest()))[1])
    except NotThere as error:
        raise not_kept(file) from error


def not_kept(file: Path) -> InputError:
    """Return the error for a plan in *file* that the journal does not keep: made elsewhere, edited, or forgotten."""
    return InputError(
        f"The plan in {file} is not kept in the journal, so nobody can tell who made it.",
        remedy="Make it here with `certbridge plan --save FILE`, or leave the file out: `certbridge run`.",
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
