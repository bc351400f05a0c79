"""Making plans, for the command line and the API alike: which facts may be believed, and what is asked of them.

No terminal is known here: warnings are values, faults are errors. What a plan is made of is in `workflows.procedures`.
A node that did not answer its last survey is *silent*: what its database holds is not known, so the procedure refuses
(DESIGN.md section 7; row S9). Whether that is so is read from the journal, from the survey of this command or from the
last one that looked at the node. A cluster is always taken whole, whatever part of it was selected.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from workflows.errors import InputError, NoWorker, PlanStale, Reserved

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal
    from workflows.plan import Plan

SURVEYS_BACK = 200
"""How many runs are looked through for the last survey of a node."""
WORKER_WITHIN_S = 15.0
"""How lately a worker must have been heard of to count as alive."""
WORKER_LOST_S = 30.0
"""How long nothing must have been heard of any before those who follow a run are told."""
SPAN = r"(\d{1,5})\s*([hdw])"
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_AGAIN = "Make it again: `certbridge plan --save FILE`, then `certbridge run FILE`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """Facts that a plan may be made of, by node, and what must be said along with it.

    `silent` are the nodes of a database plan that cannot be read, with the error of each.
    """

    facts: Mapping[str, NodeFacts]
    warnings: tuple[str, ...] = ()
    silent: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A plan, what people must know that is not in it (`warnings`), and why it is empty where that needs words."""

    plan: Plan
    warnings: tuple[str, ...] = ()
    why_nothing: tuple[str, ...] = ()


def _now() -> datetime:
    return datetime.now(UTC)


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
) -> Made:
    """Return the plan for *wanted*, a part of *fleet*: of the services' certificates, or of the databases.

    Raises: InputError: a node of *wanted* has no facts younger than *facts_age*. PlanError: see the procedures.
    """
    from workflows.procedures.renewal import plan_renewal

    if not choice.purpose:
        believed = fresh_facts(journal, fleet, wanted, facts_age=facts_age)
        plan = plan_renewal(fleet, believed.facts, now=at, within=within, wanted=wanted)
        return Made(plan=plan, warnings=believed.warnings)
    whole = whole_clusters(fleet, wanted)
    believed = database_facts(journal, fleet, whole, choice, facts_age=facts_age)
    made = database_plan(fleet, believed, whole, choice, at=at, within=within)
    return replace(made, warnings=believed.warnings)


def keep(journal: Journal, plan: Plan, *, by: str) -> bool:
    """Keep *plan* as made by *by*; False when it is kept already, with its maker. Its maker may not approve it."""
    from workflows.journal import asked

    return journal.write(
        lambda tx: asked.keep_plan(
            tx,
            digest=plan.digest(),
            kind=plan.kind,
            purpose=plan.purpose,
            by=by,
            about=about(plan),
            plan=plan.to_json(),
        )
    )


def about(plan: Plan) -> dict[str, Any]:
    """Return what a list of plans says of *plan*: {"lanes": [...], "nodes": 3, "steps": 40, "empty": False}."""
    return {
        "lanes": [lane.name for lane in plan.lanes],
        "nodes": sum(bool(node) for node in plan.nodes()),
        "steps": sum(1 for lane in plan.lanes for _ in lane.steps()),
        "empty": plan.empty,
    }


def database_facts(
    journal: Journal,
    fleet: ResolvedFleet,
    wanted: ResolvedFleet,
    choice: DatabaseChoice,
    *,
    facts_age: timedelta,
    silent: Mapping[str, Mapping[str, str]] | None = None,
) -> Believed:
    """Return what may be believed of the database clusters in *wanted*, all of them whole (see `whole_clusters`).

    *silent* are the nodes that a survey just now could not read, with the error of each; None looks at the last
    survey of each. Raises: InputError: facts are too old.
    """
    from workflows.inventory import DatabaseRole

    chosen = [one for one in wanted.clusters if not choice.primary or choice.primary in {x.name for x in one.nodes}]
    nodes = [node for cluster in chosen for node in cluster.nodes]
    quiet = last_silent(journal, [node.name for node in nodes]) if silent is None else silent
    members = [node.name for node in nodes if node.database is not DatabaseRole.NONE and node.name not in quiet]
    needed = replace(
        wanted,
        clusters=tuple(replace(one, nodes=tuple(node for node in one.nodes if node.name in members)) for one in chosen),
    )
    found = fresh_facts(journal, fleet, needed, facts_age=facts_age)
    # What a node outside the cluster said before it fell silent must not hold up those that are left.
    facts = {name: one for name, one in found.facts.items() if name not in quiet or _is_member(fleet, name)}
    return Believed(facts=facts, warnings=found.warnings, silent=quiet)


def database_plan(
    fleet: ResolvedFleet,
    believed: Believed,
    wanted: ResolvedFleet,
    choice: DatabaseChoice,
    *,
    at: datetime,
    within: timedelta,
) -> Made:
    """Return the database plan of the clusters in *wanted*. Raises: PlanError: see `plan_database`."""
    from workflows.procedures.database_cluster import Purpose, plan_database

    plan = plan_database(
        fleet,
        believed.facts,
        purpose=Purpose(choice.purpose),
        now=at,
        within=within,
        wanted=wanted,
        primary=choice.primary,
        upgrade_schema=choice.upgrade_schema,
        silent=believed.silent or {},
    )
    nothing = why_nothing(wanted, believed.facts, within=within) if plan.empty else ()
    return Made(plan=plan, why_nothing=tuple(nothing))


def fresh_facts(journal: Journal, fleet: ResolvedFleet, wanted: ResolvedFleet, *, facts_age: timedelta) -> Believed:
    """Return the latest facts of every node that has some; those of *wanted* must be fresh. Raises: InputError."""
    from workflows.facts import NodeFacts
    from workflows.journal import stock

    found = journal.read(partial(stock.latest_facts, nodes=[node.name for node in fleet.nodes]))
    # Judged by the real time: `--now` plans for another day, it does not make an old survey young.
    fresh = {name for name, (_, seen, _) in found.items() if _now() - seen <= facts_age}
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
    return Believed(
        facts={name: NodeFacts.from_json(said) for name, (_, _, said) in found.items()},
        warnings=tuple(
            f"{node.name} has no fresh survey, so its trust stores are not known"
            for node in fleet.nodes
            if node.cluster in touched and node.name not in fresh
        ),
    )


def _refuse_unread(journal: Journal, names: Sequence[str]) -> None:
    """Raise InputError when the last survey of one of *names* failed: to survey again alone does not help."""
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


def why_nothing(wanted: ResolvedFleet, facts: Mapping[str, NodeFacts], *, within: timedelta) -> Iterator[str]:
    """Yield, for each cluster, until when its database certificates are good."""
    from api.survey_database import soonest

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


def stale_nodes(journal: Journal, made: Plan) -> tuple[str, ...]:
    """Return the nodes whose latest facts say something else than the plan was made from."""
    from workflows.facts import NodeFacts
    from workflows.journal import stock

    latest = journal.read(partial(stock.latest_facts, nodes=list(made.facts)))
    now_there = {node: NodeFacts.from_json(said).digest() for node, (_, _, said) in latest.items()}
    return tuple(node for node, digest in made.facts.items() if now_there.get(node) != digest)


def check_fresh(journal: Journal, made: Plan) -> None:
    """Return when the latest facts say what the plan was made from. Raises: PlanStale naming the nodes that differ."""
    if newer := stale_nodes(journal, made):
        raise PlanStale(
            f"The last survey of {', '.join(newer)} found something else than the plan was made from.", remedy=_AGAIN
        )


def need_worker(journal: Journal) -> None:
    """Return when a worker is alive. Raises: NoWorker."""
    from workflows.journal import stock

    if not journal.read(partial(stock.workers, within_s=WORKER_WITHIN_S)):
        raise NoWorker(f"No worker was heard of in the last {WORKER_WITHIN_S:.0f} s, so no server can be reached.")


def span(text: str) -> timedelta:
    """Return "30d", "12h" or "2w" as a length of time. Raises: InputError."""
    found = re.fullmatch(SPAN, text.strip())
    if found is None:
        raise InputError(f"{text!r} is no length of time.", remedy="Write 30d, 12h or 2w.")
    return int(found[1]) * _UNITS[found[2]]


def _is_member(fleet: ResolvedFleet, name: str) -> bool:
    from workflows.inventory import DatabaseRole

    return any(node.name == name and node.database is not DatabaseRole.NONE for node in fleet.nodes)
