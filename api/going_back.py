"""Going back from a run, for the command line and the API alike: which runs can, which lanes, and the plan for it.

What is to be done depends on where the servers stand now, so whoever asks brings facts that are newer than the run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from workflows.errors import EngineError, InputError

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.journal import Journal, RunState
    from workflows.plan import Plan

CLOSED_WITHIN_S = 120.0


def original(journal: Journal, run: str) -> tuple[Plan, RunState]:
    """Return plan and state of the run to go back from. Raises: InputError: there is no way back, or it moves."""
    from workflows.journal.lanes import lane_rows
    from workflows.plan import DATABASE, RENEWAL, ROLLBACK, Plan

    made = Plan.from_json(journal.plan(run))
    if made.kind not in {DATABASE, RENEWAL}:
        raise InputError(
            f"Run {run} is a {made.kind}, which has no rollback of its own.",
            remedy="It changed no server; see docs/howto/go-back.md.",
        )
    if made.kind == RENEWAL and made.purpose == ROLLBACK:
        raise InputError(
            f"Run {run} is a rollback itself.",
            remedy="Go on with it (`certbridge runs resume`), or renew anew with `certbridge plan --survey`.",
        )
    state = journal.state(run)
    # A lane that was paused or stopped may have a step that is on its way to its border.
    live = {row.lane for row in journal.read(partial(lane_rows, run=run)) if row.live}
    moving = [lane.name for lane in state.lanes.values() if lane.status in {"ready", "running"} or lane.name in live]
    if state.outcome == "open" and moving:
        raise InputError(
            f"Run {run} is at work on {', '.join(moving)}.",
            remedy=f"Hold it first: `certbridge runs pause {run}`, and wait until its step has ended.",
        )
    return made, state


def check_still(journal: Journal, before: RunState) -> None:
    """Raise InputError when the run went on since *before* was read: the plan back is of what the servers used then."""
    if journal.state(before.run).n != before.n:
        raise InputError(
            f"Run {before.run} went on while its servers were read or the plan was looked at.",
            remedy=f"See `certbridge runs show {before.run}`, then `certbridge runs rollback {before.run}` again.",
        )


def chosen(state: RunState, lane: str) -> list[str]:
    """Return the lanes to take back: *lane*, else those that are not done, else all. Raises: InputError."""
    if lane and lane not in state.lanes:
        raise InputError(f"Run {state.run} has no lane {lane}.", remedy=f"Its lanes are: {', '.join(state.lanes)}.")
    unfinished = [name for name, one in state.lanes.items() if one.status != "done"]
    return [lane] if lane else unfinished or list(state.lanes)


def plan_back(
    before: Plan,
    state: RunState,
    facts: Mapping[str, NodeFacts],
    *,
    lane: str,
    silent: frozenset[str],
    now: datetime,
) -> Plan:
    """Return the plan that takes *lane* of the run of plan *before* back (see `chosen`). Raises: PlanError."""
    from workflows.plan import DATABASE
    from workflows.procedures.renewal_rollback import plan_renewal_rollback
    from workflows.procedures.rollback import plan_rollback

    names = chosen(state, lane)
    cut = replace(before, lanes=tuple(one for one in before.lanes if one.name in names))
    if cut.kind == DATABASE:
        return plan_rollback(cut, facts, now=now, silent=silent)
    begun = {step.id for one in state.lanes.values() for step in one.steps.values()}
    touched = {step.node for one in cut.lanes for step in one.steps() if step.stage >= 600 and step.id in begun}
    return plan_renewal_rollback(cut, facts, now=now, silent=silent, touched=touched)


def end(journal: Journal, run: str, *, by: str, within_s: float = CLOSED_WITHIN_S) -> None:
    """Cancel the run, and wait until it has let go of its nodes. Raises: EngineError: it did not."""
    from workflows import actions

    actions.cancel(journal, run, by=by, reason="rolled back")
    deadline = time.monotonic() + within_s
    while journal.state(run).outcome == "open":
        if time.monotonic() > deadline:
            raise EngineError(
                f"Run {run} was cancelled, but it did not end within {within_s:g} s.",
                remedy=f"See `certbridge runs show {run}`, then `certbridge runs rollback {run}` again.",
            )
        time.sleep(0.2)
