"""From a lane of the plan to Celery signatures, purely: no broker is asked, nothing is sent.

    Par followed by a Barrier → chord (a group of one member is a plain chain: celery #8182)
    Step, Barrier, Gate       → links of the chain
    the next Par              → not here: chords are never nested (engine-notes 2.8), the journal's outbox goes on

`compile_lane(lane, done)` drops what is done and turns the rest, up to and including the next gate, into one canvas.
Payloads hold ids only: run, lane, step id, generation. Task ids are made from them: a message sent twice has one name.
"""

from __future__ import annotations

import uuid
from collections.abc import Set as AbstractSet
from typing import Any

from celery import chain, group
from celery.canvas import Signature

from workflows.plan import Barrier, Gate, Lane, Par, Part, Step, walk

BARRIER_TASK = "barrier"
GATE_TASK = "open_gate"
FLEET_QUEUE = "fleet"
CLUSTER_QUEUE = "cluster"

_NAMESPACE = uuid.UUID("8d1f4c0e-5c0b-4a55-9d0e-6f0a3f1d2b17")


def compile_lane(
    run: str, lane: Lane, done: AbstractSet[str], generation: int, queue: str = FLEET_QUEUE
) -> Signature | None:
    """Return the canvas of *lane* from where *done* ends up to the next gate or Par, None when nothing is left.

    Raises: ValueError when a Par is not followed by a Barrier (a plan that `procedures` never makes).
    """
    members, links = stretch(lane, done)

    def sign(leaf: Step | Barrier | Gate, *, header: bool = False) -> Signature:
        return _signature(run, lane.name, leaf, generation, queue, header=header)

    after = [sign(leaf) for leaf in links]
    if not members:
        return _chain(after)
    # A member of a Par always returns, also one that is alone: the barrier behind it must see that it failed.
    header = [[sign(leaf, header=True) for leaf in member] for member in members]
    if len(header) == 1:
        return _chain(header[0] + after)
    return chain(group(_chain(member) for member in header), *after)


def task_id(run: str, lane: str, part_id: str, generation: int) -> str:
    """Return the id of the task that carries out a part in this generation of its lane, as Flower shows it."""
    return str(uuid.uuid5(_NAMESPACE, f"{run}\n{lane}\n{part_id}\n{generation}"))


def stretch(
    lane: Lane, done: AbstractSet[str]
) -> tuple[tuple[tuple[Step, ...], ...], tuple[Step | Barrier | Gate, ...]]:
    """Return what one canvas holds: the members that go at once (each a tuple of steps), and the links after them."""
    members: tuple[tuple[Step, ...], ...] = ()
    links: list[Step | Barrier | Gate] = []
    parts = lane.tree.parts
    for position, part in enumerate(parts):
        if isinstance(part, Par):
            if position + 1 == len(parts) or not isinstance(parts[position + 1], Barrier):
                raise ValueError(f"{lane.name}: a Par is not followed by a Barrier")
            open_members = tuple(left for member in part.parts if (left := _left(member, done)))
            if open_members and (members or links):
                break
            members = members or open_members
            continue
        for leaf in walk(part):
            if leaf.id not in done:
                links.append(leaf)
                if isinstance(leaf, Gate):
                    return members, tuple(links)
    return members, tuple(links)


def ends_canvas(lane: Lane, part_id: str) -> bool:
    """Return whether the canvas ends after *part_id*, so that whoever finishes it must ask for the next one.

    True before a Par and at the end of the lane; false before a link, and for members of a Par (their barrier asks).
    """
    parts = lane.tree.parts
    for position, part in enumerate(parts):
        leaves = tuple(walk(part))
        if isinstance(part, Par) or not leaves or leaves[-1].id != part_id:
            continue
        return position + 1 == len(parts) or isinstance(parts[position + 1], Par)
    return False


def header_of(lane: Lane, part_id: str) -> tuple[tuple[Step, ...], Barrier] | None:
    """Return the steps of the Par that *part_id* stands in, and its Barrier; None when it stands in no Par."""
    parts = lane.tree.parts
    for position, part in enumerate(parts):
        if not isinstance(part, Par):
            continue
        steps = tuple(leaf for leaf in walk(part) if isinstance(leaf, Step))
        barrier = parts[position + 1]
        if isinstance(barrier, Barrier) and part_id in {barrier.id, *(step.id for step in steps)}:
            return steps, barrier
    return None


def _left(member: Part, done: AbstractSet[str]) -> tuple[Step, ...]:
    return tuple(leaf for leaf in walk(member) if isinstance(leaf, Step) and leaf.id not in done)


def _chain(links: list[Signature]) -> Signature | None:
    if not links:
        return None
    return links[0] if len(links) == 1 else chain(*links)


def _signature(
    run: str, lane: str, leaf: Step | Barrier | Gate, generation: int, queue: str, *, header: bool
) -> Signature:
    task = leaf.action if isinstance(leaf, Step) else BARRIER_TASK if isinstance(leaf, Barrier) else GATE_TASK
    payload: dict[str, Any] = {"run": run, "lane": lane, "step": leaf.id, "generation": generation, "header": header}
    options = {"queue": queue, "task_id": task_id(run, lane, leaf.id, generation)}
    return Signature(task, args=(), kwargs=payload, immutable=True, options=options, subtask_type=None)
