"""What several pages read: a run as this person may see it, cut to the lanes of their clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from api.auth.identity import asks
from api.here import Server
from api.routes.runs import look
from api.run_view import RunView
from api.scope import lanes_seen, plan_seen
from workflows.journal import RunState
from workflows.people import Permission, Person
from workflows.plan import Plan

Reader = Annotated[Person, asks(Permission.READ)]
Operator = Annotated[Person, asks(Permission.OPERATE)]
Decider = Annotated[Person, asks(Permission.DECIDE)]
Watcher = Annotated[Person, asks(Permission.READ, by_itself=True)]
"""Who has a page open: what it loads by itself does not lengthen their session."""
Auditor = Annotated[Person, asks(Permission.AUDIT)]
Manager = Annotated[Person, asks(Permission.MANAGE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A run as somebody may see it: plan and view of their lanes, and the state; *whole*: these are all lanes."""

    plan: Plan
    state: RunState
    view: RunView
    whole: bool


def seen_run(who: Person, here: Server, run: str) -> Seen:
    """Return the run. Raises: NotThere: there is none, or none of its lanes is theirs."""
    lanes = lanes_seen(who, here, run)
    whole = here.plan(run)
    view, state = look(who, here, run, list(lanes))
    return Seen(plan=plan_seen(who, whole), state=state, view=view, whole=len(lanes) == len(whole.lanes))


def operates(who: Person, seen: Seen) -> bool:
    """Return whether *who* may act on all lanes of the run."""
    return seen.whole and who.may(Permission.OPERATE, [lane.name for lane in seen.plan.lanes])
