"""A plan in lines of text: every line exactly as it will be typed, what it interrupts, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from api.cli.output import Span, counted
from api.cli.run_text import STAGES
from workflows.plan import Barrier, Gate, Interruption, LineKind, Plan, Step, walk

Spans = tuple[Span, ...]


def lines(plan: Plan, *, stages: Collection[int] = ()) -> Iterator[Spans]:
    """Yield the plan lane by lane, steps in their order; *stages* keeps these stages alone, without gates."""
    for lane in plan.lanes:
        yield ((f"lane {lane.name}", "bold"), f"  up to {lane.fail_limit} nodes may fail" if lane.fail_limit else "")
        stage = 0
        for part in walk(lane.tree):
            if isinstance(part, Step):
                if stages and part.stage not in stages:
                    continue
                if part.stage != stage:
                    stage = part.stage
                    yield ((f"  {stage} {STAGES.get(stage, part.action)}", "bold cyan"),)
                yield from _step(part)
            elif not stages:
                yield _border(part)


def notices(plan: Plan) -> Iterator[Spans]:
    """Yield what people must know or do elsewhere."""
    for notice in plan.notices:
        yield (("notice: ", "yellow"), notice)


def summary_lines(plan: Plan) -> Iterator[Spans]:
    """Yield the sums: how many lines and restarts, which outage is predicted, and the digest of it all."""
    sums = summary(plan)
    yield (f"{_sums(sums)}, {counted(len(plan.wishes), 'certificate')}",)
    for outage in sums["outage"]:
        yield (f"  {outage['node']} {outage['service']}: {_seconds(outage)} predicted",)
    yield ("digest ", (plan.digest(), "bold"))


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
    outage: dict[tuple[str, str], list[Interruption]] = {}
    for step in steps:
        # One restart may interrupt several things at once: the longest of them counts, not their sum.
        for service in dict.fromkeys(one.service for one in step.interrupts):
            longest = max((one for one in step.interrupts if one.service == service), key=lambda one: one.to_s)
            outage.setdefault((step.node, service), []).append(longest)
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
            for (node, service), found in outage.items()
        ],
    }


def _step(step: Step) -> Iterator[Spans]:
    yield ("    ", step.title or step.id)
    for line in step.lines:
        yield ("        ", (str(line), "green"))
    for one in step.interrupts:
        yield ("      ", (f"interrupts: {one.what} ({one.from_s} to {one.to_s} s)", "yellow"))
    for line in step.undo:
        yield ("      ", (f"way back: {line}", "dim"))


def _border(part: Barrier | Gate) -> Spans:
    if isinstance(part, Gate):
        return ("  ", (f"── gate {part.name}: {part.needs}", "bold yellow"))
    return ("  ", (f"── barrier: {part.holds}", "dim"))


def _seconds(outage: Mapping[str, Any]) -> str:
    return f"{outage['from_s']} to {outage['to_s']} s out of service"
