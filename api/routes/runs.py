"""Runs: the list, one with every lane, step, barrier and gate, its plan, and what each step did and heard."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api import plan_view, run_bodies
from api.auth.identity import asks
from api.here import Here, Server
from api.run_bodies import AttemptBody, ExchangeBody, RunBody, RunRow, SentBody, StepRow
from api.run_view import KeptParts, RunView, view
from api.said import said
from api.schemas import Limit, Offset, Page, page_of
from api.scope import lanes_asked, lanes_seen, plan_seen, scope_of, sees
from workflows.errors import NotThere
from workflows.journal import RunState, lists
from workflows.people import Permission, Person
from workflows.plan import DATABASE, Plan, Step

router = APIRouter(prefix="/api", tags=["runs"])
Reader = Annotated[Person, asks(Permission.READ)]
Status = Literal["", "running", "waiting", "stopped", "paused", "cancelled", "done", "failed"]
Outcome = Literal["", "open", "done", "failed", "cancelled"]
_KEPT, _KEPT_RUNS = "parts of runs", 8


class RunPlanBody(BaseModel):
    """The plan of a run: `plan` as in the file of `certbridge plan --save`, `lanes` the same to be read by people.

    For a person of some clusters, `plan` holds those alone.
    """

    run: str
    digest: str
    kind: str
    purpose: str
    requested_by: str
    planned_by: str
    summary: plan_view.SummaryBody
    notices: list[str]
    plan: dict[str, Any]
    lanes: list[plan_view.LanePlanBody]


class StepBody(StepRow):
    """A part of a run, whole: every line and what came of it, attempts, and what was said to the server."""

    run: str
    plan: plan_view.PartBody
    sent: list[SentBody]
    attempts_made: list[AttemptBody]
    transcript: list[ExchangeBody]


@router.get("/runs")
def list_runs(
    who: Reader,
    here: Here,
    kind: str = "",
    status: Status = "",
    outcome: Outcome = "",
    cluster: str = "",
    requested_by: str = "",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Page[RunRow]:
    """List runs, newest first."""
    find = partial(
        lists.find_runs,
        scope=scope_of(who, here),
        kind=kind,
        status=status,
        outcome=outcome,
        cluster=cluster,
        requested_by=requested_by,
        limit=limit,
        offset=offset,
    )
    found, total = here.journal.read(find)
    items = [run_bodies.row_of(one, [lane for lane in one.lanes if sees(who, lane)]) for one in found]
    return page_of(items, total, limit, offset)


@router.get("/runs/{run}")
def show_run(who: Reader, here: Here, run: str, lane: str = "", limit: Limit = 20, offset: Offset = 0) -> RunBody:
    """Show a run: its lanes with every part, what they wait for, and how long a database is away.

    *limit* and *offset* count lanes; *lane* shows one alone.
    """
    names = lanes_asked(who, here, run, lane)
    shown, state = look(who, here, run, names[offset : offset + limit])
    return run_bodies.run_body(shown, state, len(names))


@router.get("/runs/{run}/plan")
def show_run_plan(who: Reader, here: Here, run: str, lane: str = "") -> RunPlanBody:
    """Show the plan of a run as it was frozen: every line in order."""
    lanes_asked(who, here, run, lane)
    made, state = plan_seen(who, here.plan(run)), here.journal.state(run)
    return RunPlanBody(
        run=run,
        digest=state.digest,
        kind=made.kind,
        purpose=made.purpose,
        requested_by=state.requested_by,
        planned_by=state.planned_by,
        summary=plan_view.summary_body(made),
        notices=list(made.notices),
        plan=made.to_json(),
        lanes=plan_view.lane_bodies(made, lane),
    )


@router.get("/runs/{run}/steps")
def list_steps(
    who: Reader,
    here: Here,
    run: str,
    lane: str = "",
    node: str = "",
    status: str = "",
    kind: Literal["", "step", "barrier", "gate"] = "",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Page[StepRow]:
    """List the steps, barriers and gates of a run in the order of its plan."""
    names = lanes_asked(who, here, run, lane)
    shown, _ = look(who, here, run, names)
    found = [
        (one.name, part)
        for one in shown.lanes
        for part in one.parts
        if (not node or part.node == node) and (not status or part.status == status) and (not kind or part.kind == kind)
    ]
    items = [
        StepRow(lane=name, **run_bodies.part_values(shown.kind, part)) for name, part in found[offset : offset + limit]
    ]
    return page_of(items, len(found), limit, offset)


@router.get("/runs/{run}/steps/{step:path}")
def show_step(who: Reader, here: Here, run: str, step: str, whole: bool = False) -> StepBody:
    """Show one part of a run: its lines and what came of them, its attempts, and the masked transcript of these.

    *whole*: the transcript of all that was said to its server in this run.
    """
    names = lanes_seen(who, here, run)
    plan = here.plan(run)
    lane = next((one for one in names if step.partition("/")[0] == one), "")
    part = _part(plan, lane, step)
    shown, state = look(who, here, run, [lane])
    seen = next(one for one in shown.lanes[0].parts if one.id == part.id)
    made = state.lanes[lane].steps.get(step)
    states = dict(made.lines) if made else {}
    events = here.journal.step_events(run, step, part.node if isinstance(part, Step) else "")
    attempts = run_bodies.attempts_of(run, lane, step, events)
    lines = part.lines if isinstance(part, Step) else ()
    return StepBody(
        run=run,
        lane=lane,
        **run_bodies.part_values(shown.kind, seen),
        plan=plan_view.part_body(plan.kind, part),
        sent=[SentBody(text=str(line), state=states.get(number, "")) for number, line in enumerate(lines)],
        attempts_made=attempts,
        transcript=[
            ExchangeBody.model_validate(one).model_copy(update={"attempt": number})
            for number, one in said(here, run, step, seen.node, attempts, whole=whole)
        ],
    )


def look(who: Person, here: Server, run: str, lanes: Sequence[str]) -> tuple[RunView, RunState]:
    """Return how *run* stands, with *lanes* whole. Who may see them is for the caller to know."""
    plan, state = plan_seen(who, here.plan(run)), here.journal.state(run)
    events = here.journal.events(run) if plan.kind == DATABASE else ()  # an outage is measured from them
    kept = here.part(_KEPT, _Kept).of(run)
    return view(plan, state, now=datetime.now(UTC), events=events, only=frozenset(lanes), kept=kept), state


class _Kept:
    """The parts of the runs that were looked at last, see `run_view.view`."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, dict[str, KeptParts]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: str) -> dict[str, KeptParts]:
        """Return what is kept of *run*."""
        with self._lock:
            found = self._runs.pop(run, {})
            self._runs[run] = found
            while len(self._runs) > _KEPT_RUNS:
                self._runs.popitem(last=False)
            return found


def _part(plan: Plan, lane: str, step: str) -> Step:
    try:
        return plan.lane(lane).part(step)  # type: ignore[return-value]
    except KeyError:
        raise NotThere(f"There is no step {step} in this run.", remedy="See the list of its steps.") from None
