"""The Celery tasks: one for each action of a plan, one for barriers, one for gates; a few lines round one shape.

    claim → lease kept alive → the step (`workers.steps`) → journal

A message whose claim is refused does nothing: Celery proposes, the journal disposes (DESIGN.md section 4). Inside a
chord header a task always returns, because a dropped member would hang the chord (engine-notes 2.5); elsewhere it ends
its chain with `Ignore`. Domain failures are values in the journal, never exceptions thrown at Celery.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery
from celery.exceptions import Ignore

from workers import control, steps
from workers.attempt import Attempt, Outcome
from workers.failpoints import failpoint
from workflows import outage, papers
from workflows.canvas import BARRIER_TASK, GATE_TASK, ends_canvas
from workflows.errors import RecordsAway, words_of
from workflows.gate import POINT_OF_NO_RETURN
from workflows.inventory import approval_of
from workflows.journal import gates
from workflows.plan import Gate, Lane, Plan, Step, walk

log = structlog.get_logger()


def register(app: Celery) -> None:
    """Register every task with *app*, each under the name of what it does, so that Flower reads well."""
    for action in steps.HANDLERS:
        app.task(_named(action), name=action, shared=False)
    app.task(barrier, name=BARRIER_TASK, shared=False)
    app.task(open_gate, name=GATE_TASK, shared=False)
    app.task(control.reconcile_task, name=control.RECONCILE, shared=False, ignore_result=True)
    app.task(control.sign_task, name=control.SIGN_TASK, shared=False, ignore_result=True)


def _named(action: str) -> Callable[..., dict[str, Any]]:
    """Return `carry_out` as a function of its own; Celery makes a class of each function and wants its name."""

    def task(**message: Any) -> dict[str, Any]:
        return carry_out(**message)

    task.__name__ = action
    task.__doc__ = f"Carry out a step whose action is {action}."
    return task


def carry_out(*, run: str, lane: str, step: str, generation: int, header: bool) -> dict[str, Any]:
    """Carry out one step of a plan; the journal keeps what came of it."""
    from workers.app import work

    try:
        outcome = Attempt(work(), run=run, lane=lane, step=step, generation=generation).carry_out()
    except RecordsAway as error:
        # Nothing was begun. The reconciler sends the lane again; a chord must hear of its header all the same.
        log.warning("records_away", run=run, step=step, error=words_of(error))
        outcome = Outcome.LOST
    if outcome is not Outcome.DONE and not header:
        raise Ignore
    return {"step": step, "outcome": outcome.value}


def barrier(*, run: str, lane: str, step: str, generation: int, header: bool) -> dict[str, Any]:
    """Go on when all before the barrier is over and no more nodes failed than the lane allows; else end the chain."""
    del header
    from workers.app import work

    open_now = work()
    plan, _ = open_now.plan(run)
    failpoint("before_barrier", step)
    passed = open_now.journal.write(
        functools.partial(control.pass_barrier, plan=plan, run=run, lane=lane, barrier=step, generation=generation)
    )
    failpoint("after_barrier", step)
    if passed != "passed":
        log.info("barrier_held", run=run, lane=lane, barrier=step, why=str(passed))
        raise Ignore
    if ends_canvas(plan.lane(lane), step):
        control.finish_when_complete(open_now, run, lane)
    return {"step": step, "outcome": "passed"}


def open_gate(*, run: str, lane: str, step: str, generation: int, header: bool) -> None:
    """Open the gate with the digest of what lies before the people, and end the chain: nobody waits in a worker."""
    del header
    from workers.app import work

    open_now = work()
    plan, _ = open_now.plan(run)
    gate = plan.lane(lane).part(step)
    if not isinstance(gate, Gate):
        raise Ignore
    whole = open_now.journal.state(run)
    state = whole.lanes[lane]
    before = papers.papers_of(plan, lane, gate.name, state)
    digest = papers.digest_of_gate(plan, whole.digest, lane, gate.name, state)
    failpoint("before_gate", step)
    open_now.journal.write(
        lambda tx: gates.open_gate(
            tx,
            run=run,
            lane=lane,
            gate=step,
            name=gate.name,
            generation=generation,
            digest=digest,
            summary=_summary(plan, plan.lane(lane), gate, before),
            terms=approval_of(plan.fleet, gate.name),
        )
    )
    failpoint("after_gate", step)
    raise Ignore


def _summary(plan: Plan, lane: Lane, gate: Gate, before: dict[str, str]) -> dict[str, Any]:
    left = list(walk(lane.tree))
    left = left[left.index(gate) + 1 :]
    lines = [line for leaf in left for line in getattr(leaf, "lines", ())]
    steps = [leaf for leaf in left if isinstance(leaf, Step) and leaf.interrupts]
    away = outage.predicted_cluster(lane) if gate.name == POINT_OF_NO_RETURN else None
    return {
        "papers": before,
        "needs": gate.needs,
        "lines_left": len(lines),
        "interruptions": len(steps),
        # Services of one process go down together: the longest of a step counts, not their sum.
        "outage_to_s": away[1] if away else sum(max(one.to_s for one in step.interrupts) for step in steps),
        "notices": list(plan.notices),
        **({} if away is None else _database_summary(lane)),
    }


def _database_summary(lane: Lane) -> dict[str, Any]:
    """Return what a rebuild costs: how long the cluster and each node are away, and which Call Bridges restart when."""
    return {
        "away": outage.forecast(lane),
        "restarts": {node: list(operations) for node, operations in outage.restarts(lane).items()},
    }
