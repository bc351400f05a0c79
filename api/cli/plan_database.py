"""`certbridge plan --database`: what the options mean, which facts may be believed, and why nothing is due.

A node that did not answer its last survey is *silent*: what its database holds is not known, so the procedure refuses
(DESIGN.md section 7; row S9). Whether that is so is read from the journal, from the survey of this command or from the
last one that looked at the node. A cluster is always taken whole, whatever part of it was selected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.output import note
from workflows.errors import InputError

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
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

SURVEYS_BACK = 200
"""How many runs are looked through for the last survey of a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseChoice:
    """What was said about databases; `purpose` is "" for a renewal of service certificates."""

    purpose: str = ""
    primary: str = ""
    upgrade_schema: bool = False

    def check(self, certificates: Collection[str] | None) -> None:
        """Return when the options fit together. Raises: InputError."""
        if not self.purpose:
            if self.primary or self.upgrade_schema:
                said = "--primary" if self.primary else "--upgrade-schema"
                raise InputError(f"`{said}` is for database clusters.", remedy="Say `--database renew|build|dissolve`.")
            return
        if self.primary and self.purpose == "dissolve":
            raise InputError(
                "A cluster that is dissolved keeps the data of every joined node, so nobody needs to be named.",
                remedy="Leave out `--primary`; say it with `--database build` later.",
            )
        if certificates:
            raise InputError(
                "`--certificate` does not go with `--database`: all certificates of a database change together.",
                remedy="Choose a cluster with `--cluster`.",
            )
        if self.upgrade_schema and self.purpose != "build":
            what = (
                "A cluster that is dissolved has no schema to upgrade."
                if self.purpose == "dissolve"
                else "A renewal leaves the schema as it is: it fits the release already."
            )
            raise InputError(
                what, remedy="Say `--upgrade-schema` with `--database build`, once the servers have their new release."
            )


def whole_clusters(fleet: ResolvedFleet, wanted: ResolvedFleet) -> ResolvedFleet:
    """Return the clusters that *wanted* touches, whole; those with a database alone, where there is any."""
    from workflows.inventory import DatabaseRole

    touched = {cluster.name for cluster in wanted.clusters}
    chosen = tuple(cluster for cluster in fleet.clusters if cluster.name in touched)
    with_database = tuple(
        cluster for cluster in chosen if any(node.database is DatabaseRole.JOINED for node in cluster.nodes)
    )
    return replace(fleet, clusters=with_database or chosen)


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
    """Return the database plan of the clusters in *wanted*, all of them whole (see `whole_clusters`).

    *silent* are the nodes that a survey just now could not read, with the error of each; None looks at the last
    survey of each.
    Raises: InputError: facts are too old. PlanError: see `plan_database`.
    """
    from api.cli.plan import fresh_facts
    from workflows.inventory import DatabaseRole
    from workflows.procedures.database_cluster import Purpose, plan_database

    chosen = [one for one in wanted.clusters if not choice.primary or choice.primary in {x.name for x in one.nodes}]
    nodes = [node for cluster in chosen for node in cluster.nodes]
    quiet = last_silent(journal, [node.name for node in nodes]) if silent is None else silent
    members = [node.name for node in nodes if node.database is not DatabaseRole.NONE and node.name not in quiet]
    needed = replace(
        wanted,
        clusters=tuple(replace(one, nodes=tuple(node for node in one.nodes if node.name in members)) for one in chosen),
    )
    facts = fresh_facts(journal, fleet, needed, facts_age=facts_age)
    # What a node outside the cluster said before it fell silent must not hold up those that are left.
    believed = {name: one for name, one in facts.items() if name not in quiet or _is_member(fleet, name)}
    made = plan_database(
        fleet,
        believed,
        purpose=Purpose(choice.purpose),
        now=at,
        within=within,
        wanted=wanted,
        primary=choice.primary,
        upgrade_schema=choice.upgrade_schema,
        silent=quiet,
    )
    if made.empty:
        for line in why_nothing(wanted, believed, within=within):
            note(line)
    return made


def last_silent(journal: Journal, nodes: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """Return {node: error} of those whose last survey failed; who was not looked at of late is not among them."""
    left: set[str] = set(nodes)
    found: dict[str, Mapping[str, str]] = {}
    for run in journal.runs(limit=SURVEYS_BACK):
        if not left:
            break
        if run.kind != "survey":
            continue
        for lane in journal.state(run.run).lanes.values():
            for step in lane.steps.values():
                if step.node in left and step.status in {"done", "failed"}:
                    left.discard(step.node)
                    if step.status == "failed":
                        found[step.node] = step.error or {"text": "it failed"}
    return found


def why_nothing(wanted: ResolvedFleet, facts: dict[str, NodeFacts], *, within: timedelta) -> Iterator[str]:
    """Yield, for each cluster, until when its database certificates are good."""
    from api.cli.survey_database import soonest

    for cluster in wanted.clusters:
        ends = [
            (end, name) for node in cluster.nodes if node.name in facts for name, end in [soonest(facts[node.name])]
        ]
        known = [(end, name) for end, name in ends if end is not None]
        if known:
            end, name = min(known)
            days = within.total_seconds() / 86_400
            yield (
                f"{cluster.name}: its database certificates are as wanted; {name} ends first, on {end:%Y-%m-%d}, "
                f"and only what ends within {days:g} days is due (`--within`)"
            )


def _is_member(fleet: ResolvedFleet, name: str) -> bool:
    from workflows.inventory import DatabaseRole

    return any(node.name == name and node.database is not DatabaseRole.NONE for node in fleet.nodes)
