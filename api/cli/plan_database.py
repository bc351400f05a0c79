"""`certbridge plan --database`: its options, and what is said along with the plan; `api.planning` makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from api.planning import DatabaseChoice
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal
    from workflows.plan import Plan

DatabaseOption = Annotated[
    Literal["", "renew", "build", "dissolve"],
    typer.Option(
        "--database", metavar="PURPOSE", help="Plan for the database clusters instead: renew, build or dissolve."
    ),
]
PrimaryOption = Annotated[
    str,
    typer.Option(
        "--primary",
        metavar="NODE",
        help="With --database build or renew: the node whose data is to live. Where the nodes themselves say "
        "otherwise, a second person must approve.",
    ),
]
SchemaOption = Annotated[
    bool, typer.Option("--upgrade-schema", help="With --database build: bring the schema to a new release at the end.")
]


def make(
    journal: Journal,
    fleet: ResolvedFleet,
    wanted: ResolvedFleet,
    choice: DatabaseChoice,
    *,
    at: datetime,
    within: timedelta,
    facts_age: timedelta,
    silent: Mapping[str, Mapping[str, str]] | None = None,
) -> Plan:
    """Return the database plan of the clusters in *wanted*, all of them whole, and say what must be said with it.

    *silent* are the nodes that a survey just now could not read, with the error of each; None looks at the last
    survey of each.
    Raises: InputError: facts are too old. PlanError: see `plan_database`.
    """
    from api import planning

    believed = planning.database_facts(journal, fleet, wanted, choice, facts_age=facts_age, silent=silent)
    show_planning_warnings(believed.warnings)
    made = planning.database_plan(fleet, believed, wanted, choice, at=at, within=within)
    for line in made.why_nothing:
        note(line)
    return made.plan


def show_planning_warnings(warnings: Iterable[str]) -> None:
    """Write what a plan could not know to standard error."""
    for warning in warnings:
        note(f"warning: {warning}", "yellow")
