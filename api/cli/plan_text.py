"""A plan in lines of text: every line exactly as it will be typed, what it interrupts, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.cli.output import Span, counted
from api.cli.run_text import UNTIL_BUILT, UNTIL_CONNECTED, span_of, stage_name
from workflows import outage
from workflows.plan import DATABASE, Barrier, Gate, Interruption, Lane, LineKind, Plan, Step, walk

Spans = tuple[Span, ...]


REASONS = 3
"""How many reasons a plan names for each lane."""

PURPOSES = {
    "renew": "the database cluster is taken apart and built again with new certificates",
    "build": "a database cluster is built",
    "dissolve": "the database cluster is taken apart; every node keeps the data it has",
    "rollback": "the database cluster is built again with its old certificates",
}
"""What each purpose of a database plan comes to."""


def lines(plan: Plan, *, first: bool = False) -> Iterator[Spans]:
    """Yield the plan lane by lane, steps in their order; *first* keeps the steps before the first gate alone."""
    if plan.kind == DATABASE and plan.purpose:
        yield ((f"database {plan.purpose}: ", "bold"), PURPOSES.get(plan.purpose, ""))
    elif plan.purpose:
        yield ((f"{plan.purpose}: ", "bold"), "services get the certificates back that they had before")
    for lane in plan.lanes:
        yield ((f"lane {lane.name}", "bold"), f"  up to {lane.fail_limit} nodes may fail" if lane.fail_limit else "")
        if why := reasons(plan, lane.name):
            yield (f"  due because: {why}",)
        stage = 0
        for part in walk(lane.tree):
            if isinstance(part, Step):
                if part.stage != stage:
                    stage = part.stage
                    yield ((f"  {stage} {stage_name(plan.kind, stage) or part.action}", "bold cyan"),)
                yield from _step(part)
            elif first and isinstance(part, Gate):
                break
            elif not first:
                yield _border(part)


def reasons(plan: Plan, lane: str) -> str:
    """Return why the certificates of a lane are due, the first few reasons; "" when the plan says nothing of it."""
    own = [said for wish, said in plan.wishes.items() if wish.partition("/")[0] == lane]
    # Certificates that change together have the same reasons, and so have most nodes.
    nodes: dict[str, list[str]] = {}
    for why in dict.fromkeys(str(why) for said in own for why in said["why"]):
        node, _, reason = why.partition(": ")
        nodes.setdefault(reason, []).append(node)
    every = [f"{', '.join(names)}: {_of_several(reason, len(names))}" for reason, names in nodes.items()]
    shown, more = every[:REASONS], len(every) - REASONS
    return "; ".join((*shown, *([f"and {more} more"] if more > 0 else [])))


def _of_several(reason: str, nodes: int) -> str:
    return f"are {reason.removeprefix('is ')}" if nodes > 1 and reason.startswith("is ") else reason


def short_lines(plan: Plan) -> Iterator[Spans]:
    """Yield the plan in a few lines: what it is for, which lanes, why each is due, and the sums."""
    if plan.purpose:
        yield ((f"{plan.kind} {plan.purpose}", "bold"),)
    for lane in plan.lanes:
        why = reasons(plan, lane.name)
        yield ((f"lane {lane.name}", "bold"), f": {counted(len(list(lane.steps())), 'step')}")
        if why:
            yield (f"  due because: {why}",)
    yield sums_line(plan)


def notices(plan: Plan) -> Iterator[Spans]:
    """Yield what people must know or do elsewhere."""
    for notice in plan.notices:
        yield (("notice: ", "yellow"), notice)


def summary_lines(plan: Plan) -> Iterator[Spans]:
    """Yield the sums: how many lines and restarts, which outage is predicted, and the digest of it all."""
    sums = summary(plan)
    yield (f"{_sums(sums)}, {counted(len(plan.wishes), 'certificate')}",)
    if plan.kind == DATABASE:
        for lane in plan.lanes:
            yield from outage_lines(lane)
    else:
        for one in sums["outage"]:
            yield (f"  {one['node']} {one['service']}: {one['from_s']} to {one['to_s']} s out of service predicted",)
    yield ("digest ", (plan.digest(), "bold"))


def outage_lines(lane: Lane) -> Iterator[Spans]:
    """Yield how long each node and the whole database cluster are predicted to be away."""
    for node, span in outage.predicted(lane).items():
        yield (f"  {node}: its database is away for {span_of(span)} (predicted)",)
    for node in sorted(outage.until_built(lane)):
        yield (f"  {node}: it has no database {UNTIL_CONNECTED}",)
    span = outage.predicted_cluster(lane)
    if outage.dissolves(lane):
        yield (f"  {lane.name}: there is no database cluster {UNTIL_BUILT}; taking it apart lasts {span_of(span)}",)
    else:
        yield (f"  {lane.name}: the database cluster is away for {span_of(span)} (predicted)",)


def sums_line(plan: Plan) -> Spans:
    """Return how many lines and restarts the lanes of *plan* hold, on how many nodes."""
    return (f"in all: {_sums(summary(plan))}",)


def _sums(sums: dict[str, Any]) -> str:
    lines_ = f"{counted(sums['commands'], 'command')} and {counted(sums['transfers'], 'transfer')}"
    return f"{lines_} on {counted(len(sums['nodes']), 'node')}, {counted(sums['restarts'], 'restart')}"


def summary(plan: Plan) -> dict[str, Any]:
    """Return {"commands", "transfers", "restarts", "certificates", "gates", "nodes", "outage": [{…}]}."""
    steps = [step for lane in plan.lanes for step in lane.steps()]
    every = [line for step in steps for line in step.lines]
    away: dict[tuple[str, str], list[Interruption]] = {}
    for step in steps:
        # One restart may interrupt several things at once: the longest of them counts, not their sum.
        for service in dict.fromkeys(one.service for one in step.interrupts):
            longest = max((one for one in step.interrupts if one.service == service), key=lambda one: one.to_s)
            away.setdefault((step.node, service), []).append(longest)
    return {
        "commands": sum(line.kind is LineKind.COMMAND for line in every),
        "transfers": sum(line.kind is not LineKind.COMMAND for line in every),
        "restarts": sum(bool(step.interrupts) for step in steps),
        "certificates": sorted(plan.wishes),
        "gates": [gate.id for lane in plan.lanes for gate in lane.gates()],
        "nodes": list(dict.fromkeys(step.node for step in steps if step.node)),
        "outage": [
            {
                "node": node,
                "service": service,
                "from_s": sum(x.from_s for x in found),
                "to_s": sum(x.to_s for x in found),
            }
            for (node, service), found in away.items()
        ],
    } | _database_sums(plan)


def _database_sums(plan: Plan) -> dict[str, Any]:
    """Return {"purpose", "away": {lane: {"cluster", "nodes"}}} of a database plan, see `outage.forecast`; else {}."""
    if plan.kind != DATABASE:
        return {}
    return {"purpose": plan.purpose, "away": {lane.name: outage.forecast(lane) for lane in plan.lanes}}


def _step(step: Step) -> Iterator[Spans]:
    yield ("    ", step.title or step.id)
    for line in step.lines:
        yield ("        ", (str(line), "green"))
    for one in step.interrupts:
        yield ("      ", (f"interrupts: {one.what} ({one.from_s} to {one.to_s} s)", "yellow"))
    said = str(step.params.get("way_back", ""))
    if said:
        yield ("      ", (f"way back after it: {said}", "dim"))
    if not said.startswith("none"):
        for line in step.undo:
            yield ("      ", (f"way back: {line}", "dim"))
    if step.parks:
        yield ("      ", ("if this fails, the others go on", "dim"))


def _border(part: Barrier | Gate) -> Spans:
    if isinstance(part, Gate):
        return ("  ", (f"── gate {part.name}: {part.needs}", "bold yellow"))
    return ("  ", (f"── barrier: {part.holds}", "dim"))
