"""A plan in lines of text: every line exactly as it will be typed, what it interrupts, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.cli.output import Span, counted
from api.cli.run_text import UNTIL_BUILT, UNTIL_CONNECTED, span_of
from api.plan_view import PURPOSES, reasons, summary
from api.stages import stage_name
from workflows import outage
from workflows.plan import DATABASE, Barrier, Gate, Lane, Plan, Step, walk

Spans = tuple[Span, ...]


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
