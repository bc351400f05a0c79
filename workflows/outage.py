"""How long a database is away while its cluster is rebuilt: predicted from the plan, measured from the journal.

A node is away from its `remove` until it is in the cluster again; the whole cluster from the first `remove` until the
last node is in (DESIGN.md section 7: "the plan predicts the outage, the run measures it"). All that lies between is one
chain, so a prediction is a sum. What only leaves has no such end, see `until_built`. Pure: lane and events in, seconds
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from workflows.errors import CommandRejected
from workflows.journal.events import Event, Kind
from workflows.plan import Lane, Step
from workflows.procedures.database_places import CONNECTED

REMOVES = frozenset({"database_remove"})
"""The action that takes a node out of its cluster."""

ENTERS = frozenset({"database_initialize", "database_join", "database_connect"})
"""The actions that bring a node into its cluster, each its own way."""

Span = tuple[int, int]
"""From and to, in seconds."""


def predicted(lane: Lane) -> dict[str, Span]:
    """Return {node: (from, to)} of a database lane, {} of any other; nodes of `until_built` are left out.

    The sum of `params["usual_s"]` over the steps from the node's `remove` to its own way in. Where a joined node is
    only removed (a dissolution) or only comes in (first building), it is that step alone.
    """
    moves = [step for step in lane.steps() if step.action in REMOVES | ENTERS]
    endless = until_built(lane)
    nodes = dict.fromkeys(step.node for step in moves if step.node not in endless)
    return {node: _sum(_between(moves, node)) for node in nodes}


def until_built(lane: Lane) -> frozenset[str]:
    """Return the connected nodes that only leave: they have no database until they connect to a cluster again.

    A joined node keeps the data that it has, so it goes on by itself after its `remove` (mmp-reference 3.1).
    """
    entering = {step.node for step in lane.steps() if step.action in ENTERS}
    leaving = [step for step in lane.steps() if step.action in REMOVES and step.params.get("role") == CONNECTED]
    return frozenset(step.node for step in leaving) - entering


def dissolves(lane: Lane) -> bool:
    """Return whether no cluster stands when the lane is done, so that it has no end of its outage."""
    actions = {step.action for step in lane.steps()}
    return bool(actions & REMOVES) and not actions & ENTERS


def predicted_cluster(lane: Lane) -> Span:
    """Return how long the cluster as a whole is away: every operation of the lane, one after the other.

    Of a lane that dissolves it, it is how long taking it apart lasts.
    """
    return _sum([step for step in lane.steps() if "usual_s" in step.params])


def forecast(lane: Lane) -> dict[str, Any]:
    """Return {"cluster": [from, to], "nodes": {node: [from, to]}} as JSON; null where it lasts until one is built."""
    nodes = {node: list(span) for node, span in predicted(lane).items()} | dict.fromkeys(sorted(until_built(lane)))
    return {"cluster": None if dissolves(lane) else list(predicted_cluster(lane)), "nodes": nodes}


def restarts(lane: Lane) -> dict[str, tuple[str, ...]]:
    """Return {node: (operation, …)}: the operations of a database lane that restart the Call Bridge of that node.

    `remove`, `initialize`, `join` and `connect` each do so where it is on (mmp-reference 3.1).
    """
    found: dict[str, tuple[str, ...]] = {}
    for step in lane.steps():
        if step.action in REMOVES | ENTERS and any(one.service == "callbridge" for one in step.interrupts):
            found[step.node] = (*found.get(step.node, ()), str(step.params["operation"]))
    return found


def measured(lane: Lane, events: Iterable[Event]) -> dict[str, float]:
    """Return {node: seconds} of those nodes that are in the cluster again: from the `remove` that took to STEP_DONE.

    A node that was never removed counts from the first line of its way in. A node that is parked has no number, see
    `still_out`. *events* are those of the run.
    """
    began, ended = _times(lane, events)
    found: dict[str, float] = {}
    for node, steps in _of_node(lane).items():
        last = steps[-1]
        starts = [began[step.id] for step in steps if step.id in began]
        if last.id in ended and starts and node not in until_built(lane):
            found[node] = _seconds(min(starts), ended[last.id])
    return found


def measured_cluster(lane: Lane, events: Iterable[Event]) -> float | None:
    """Return the seconds from the first `remove` that took to the last node's way in; None while one is still out.

    In a first building from the first line of a way in. A lane that dissolves the cluster has no such number.
    """
    began, ended = _times(lane, events)
    moves = [step for step in lane.steps() if step.action in REMOVES | ENTERS]
    starts = [began[step.id] for step in moves if step.id in began]
    ways_in = [step.id for step in moves if step.action in ENTERS]
    if not starts or not ways_in or any(one not in ended for one in ways_in):
        return None
    return _seconds(min(starts), max(ended[one] for one in ways_in))


def still_out(lane: Lane, events: Iterable[Event]) -> dict[str, datetime]:
    """Return {node: since when} of the nodes that began to leave and are not in the cluster again.

    One whose `remove` failed is still in. A joined node that leaves a cluster which is dissolved is not out of service.
    """
    began, ended = _times(lane, events)
    endless = until_built(lane)
    return {
        node: began[steps[0].id]
        for node, steps in _of_node(lane).items()
        if steps[0].id in began
        and (node in endless or steps[-1].action in ENTERS)
        and not (steps[-1].action in ENTERS and steps[-1].id in ended)
    }


def _of_node(lane: Lane) -> dict[str, list[Step]]:
    """Return {node: its way out and its way in}, whichever it has, in order."""
    found: dict[str, list[Step]] = {}
    for step in lane.steps():
        if step.action in REMOVES | ENTERS:
            found.setdefault(step.node, []).append(step)
    return found


def _between(moves: list[Step], node: str) -> list[Step]:
    own = [number for number, step in enumerate(moves) if step.node == node]
    return moves[own[0] : own[-1] + 1]


def _sum(steps: Iterable[Step]) -> Span:
    spans = [step.params["usual_s"] for step in steps]
    return sum(int(span[0]) for span in spans), sum(int(span[1]) for span in spans)


def _times(lane: Lane, events: Iterable[Event]) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """Return when each step of *lane* sent its first line (or, where it found all done, ended), and when it was done.

    A `remove` that the node refused, or that failed, took nothing away. A step that is gone through anew
    (`steps_reopened`) is not done any more.
    """
    removes = {step.id for step in lane.steps() if step.action in REMOVES}
    began: dict[str, datetime] = {}
    ended: dict[str, datetime] = {}
    for event in events:
        if event.lane != lane.name:
            continue
        if event.kind is Kind.INTENT:
            began.setdefault(event.step, event.at)
        elif event.step in removes and _came_to_nothing(event):
            began.pop(event.step, None)
        elif event.kind is Kind.STEP_DONE:
            began.setdefault(event.step, event.at)
            ended[event.step] = event.at
        elif event.kind is Kind.STEPS_REOPENED:
            for step in _named(event):
                ended.pop(step, None)
    return began, ended


def _came_to_nothing(event: Event) -> bool:
    """Return whether *event* says that the line of a `remove` was refused, or that the operation failed."""
    if event.kind is Kind.OUTCOME:
        return bool(event.data.get("state") == "refused")
    error = event.data.get("error") or {}
    return event.kind is Kind.STEP_FAILED and error.get("code") == CommandRejected.__name__


def _named(event: Event) -> Iterator[str]:
    yield from (str(step) for step in event.data.get("steps", ()))


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
