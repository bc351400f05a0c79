"""How long a database is away while its cluster is rebuilt: predicted from the plan, measured from the journal.

A node is away from its `remove` until it is in the cluster again; the whole cluster from the first `remove` until all
nodes tell the same story (DESIGN.md section 7: "the plan predicts the outage, the run measures it"). All that lies
between is one chain, so a prediction is a sum. Pure: lane and events in, seconds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from workflows.journal.events import Event, Kind
from workflows.plan import Lane, Step

REMOVES = frozenset({"database_remove"})
"""The action that takes a node out of its cluster."""

ENTERS = frozenset({"database_initialize", "database_join", "database_connect"})
"""The actions that bring a node into its cluster, each its own way."""

ENDS = frozenset({"database_agree", "database_dissolved"})
"""The actions that prove the end: all nodes tell the same story, or none is in a cluster."""

Span = tuple[int, int]
"""From and to, in seconds."""


def predicted(lane: Lane) -> dict[str, Span]:
    """Return {node: (from, to)} of a database lane, {} of any other.

    The sum of `params["usual_s"]` over the steps from the node's `remove` to its own way in. Where a node is only
    removed (a dissolution) or only comes in (first building), it is that step alone.
    """
    moves = [step for step in lane.steps() if step.action in REMOVES | ENTERS]
    return {node: _sum(_between(moves, node)) for node in dict.fromkeys(step.node for step in moves)}


def predicted_cluster(lane: Lane) -> Span:
    """Return how long the cluster as a whole is away: every operation of the lane, one after the other."""
    return _sum([step for step in lane.steps() if "usual_s" in step.params])


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
    """Return {node: seconds} of those nodes that are in the cluster again: first INTENT of the way out to STEP_DONE.

    A node that was never removed counts from the first line of its way in. A node that is parked has no number, see
    `still_out`. *events* are those of the run.
    """
    began, ended = _times(lane, events)
    found: dict[str, float] = {}
    for node, steps in _of_node(lane).items():
        last = steps[-1]
        starts = [began[step.id] for step in steps if step.id in began]
        if last.id in ended and starts:
            found[node] = _seconds(min(starts), ended[last.id])
    return found


def measured_cluster(lane: Lane, events: Iterable[Event]) -> float | None:
    """Return the seconds from the first line that moved a node to the proof at the end; None while it is not over."""
    began, ended = _times(lane, events)
    starts = [began[step.id] for step in lane.steps() if step.action in REMOVES | ENTERS and step.id in began]
    ends = [ended[step.id] for step in lane.steps() if step.action in ENDS and step.id in ended]
    return _seconds(min(starts), max(ends)) if starts and ends else None


def still_out(lane: Lane, events: Iterable[Event]) -> dict[str, datetime]:
    """Return {node: since when} of the nodes that began to leave and are not in the cluster again."""
    began, ended = _times(lane, events)
    return {
        node: began[steps[0].id]
        for node, steps in _of_node(lane).items()
        if steps[0].id in began and steps[-1].action in ENTERS and steps[-1].id not in ended
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

    A step that is gone through anew (`steps_reopened`) is not done any more.
    """
    began: dict[str, datetime] = {}
    ended: dict[str, datetime] = {}
    for event in events:
        if event.lane != lane.name:
            continue
        if event.kind is Kind.INTENT:
            began.setdefault(event.step, event.at)
        elif event.kind is Kind.STEP_DONE:
            began.setdefault(event.step, event.at)
            ended[event.step] = event.at
        elif event.kind is Kind.STEPS_REOPENED:
            for step in _named(event):
                ended.pop(step, None)
    return began, ended


def _named(event: Event) -> Iterator[str]:
    yield from (str(step) for step in event.data.get("steps", ()))


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
