"""The runbook of a run, for the command line and the API alike; its text is made by `workflows.runbook`."""

from __future__ import annotations

from datetime import datetime

from workflows.errors import InputError
from workflows.journal import RunState
from workflows.plan import DATABASE, Plan


def runbook_of(plan: Plan, state: RunState, now: datetime) -> str:
    """Return the runbook of the run at *state* as Markdown. Raises: InputError: runs of its kind have none."""
    from workflows.runbook import render

    if state.kind != DATABASE:
        raise InputError(
            f"Run {state.run} is a {state.kind} run; only database runs have a runbook.",
            remedy=f"`certbridge runs show {state.run}` tells how it stands, `runs report` every line.",
        )
    return render(plan, state, now=now)
