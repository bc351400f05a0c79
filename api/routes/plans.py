"""Plans: making one and keeping it, reading it line by line, and what is different from the last that succeeded.

A plan is named by its digest. Whoever makes it first is its author, and may not approve it later (four eyes); to start
it, send its digest to /api/runs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api import plan_view, planning
from api.auth.identity import asks, check_clusters
from api.here import Here, Server
from api.idempotency import Once
from api.plan_difference import LaneDifference, difference
from api.schemas import Body, Limit, Offset, Page, page_of
from api.scope import chosen, plan_seen, sees
from workflows.errors import NotThere
from workflows.journal import asked, lists
from workflows.people import Permission, Person
from workflows.plan import Plan

router = APIRouter(prefix="/api", tags=["plans"])
Reader = Annotated[Person, asks(Permission.READ)]
Operator = Annotated[Person, asks(Permission.OPERATE)]


class PlanWish(Body):
    """What a plan is wanted for. Nothing named: all that one may operate. `within`: what ends so soon is due.

    *database*, *primary* and *upgrade_schema* are for database clusters, which change as a whole.
    """

    clusters: list[str] = Field([], examples=[["seoul"]])
    nodes: list[str] = Field([], examples=[[]])
    certificates: list[str] = Field([], examples=[[]])
    within: str = Field("30d", pattern=rf"^{planning.SPAN}$", examples=["30d"])
    database: Literal["", "renew", "build", "dissolve"] = ""
    primary: str = Field("", examples=[""])
    upgrade_schema: bool = False


class PlanRow(BaseModel):
    """One line of the list of plans."""

    digest: str
    kind: str
    purpose: str
    made_by: str
    made_at: datetime
    lanes: list[str]
    nodes: int
    steps: int
    empty: bool


class PlanBody(PlanRow):
    """A plan: `plan` and `summary` as in the file of `certbridge plan --save`, `shown` to be read by people.

    `stale` are the servers whose last survey found something else than the plan was made from; it cannot be started
    while there are any. For a person of some clusters, `plan` holds those alone.
    """

    format: int
    plan: dict[str, Any]
    summary: plan_view.SummaryBody
    notices: list[str]
    shown: list[plan_view.LanePlanBody]
    stale: list[str]


class PlanMade(PlanBody):
    """A plan that was just made. `new` is false when it was kept already; `warnings` are what it could not know.

    `why_nothing` says why there is nothing to do, where that needs words.
    """

    new: bool
    warnings: list[str]
    why_nothing: list[str]


class DifferenceBody(BaseModel):
    """What is different in each lane from the last plan for that cluster whose run succeeded."""

    digest: str
    lanes: list[LaneDifference]


@router.post(
    "/plans",
    status_code=201,
    responses={200: {"model": PlanMade, "description": "The same plan was made before and is kept."}},
)
def make_plan(who: Operator, here: Here, body: PlanWish, once: Once, response: Response) -> PlanMade:
    """Make a plan from the last survey and keep it; nothing is changed on any server."""

    def make() -> PlanMade:
        choice = planning.DatabaseChoice(
            purpose=body.database, primary=body.primary, upgrade_schema=body.upgrade_schema
        )
        choice.check(body.certificates)
        whole, wanted = chosen(who, here, body.clusters, body.nodes, body.certificates)
        check_clusters(who, Permission.OPERATE, [one.name for one in wanted.clusters])
        made = planning.make(
            here.journal,
            whole,
            wanted,
            choice,
            at=datetime.now(UTC),
            within=planning.span(body.within),
            facts_age=timedelta(hours=here.settings.facts_hours),
        )
        # Cut before it is kept, so that who sees some clusters has the digest, and the authorship, of what they see.
        plan = plan_seen(who, made.plan)
        new = planning.keep(here.journal, plan, by=who.name)
        response.status_code = 201 if new else 200
        said = show_plan(who, here, plan.digest())
        return PlanMade(**dict(said), new=new, warnings=list(made.warnings), why_nothing=list(made.why_nothing))

    return once(PlanMade, 201, make)


@router.get("/plans")
def list_plans(who: Reader, here: Here, limit: Limit = 50, offset: Offset = 0) -> Page[PlanRow]:
    """List the plans that are kept, newest first."""
    found = [one for one in here.journal.read(asked.saved_plans) if _may_see(who, one)]
    return page_of([_row(who, here, one) for one in found[offset : offset + limit]], len(found), limit, offset)


@router.get("/plans/{digest}")
def show_plan(who: Reader, here: Here, digest: str) -> PlanBody:
    """Show a plan: every line, what it interrupts and for how long, and the way back."""
    saved, made = plan_of(who, here, digest)
    document = plan_view.to_document(made)
    return PlanBody(
        **dict(_row(who, here, saved)),
        format=plan_view.FORMAT,
        plan=document["plan"],
        summary=plan_view.SummaryBody(**document["summary"]),
        notices=list(made.notices),
        shown=plan_view.lane_bodies(made),
        stale=list(planning.stale_nodes(here.journal, made)),
    )


@router.get("/plans/{digest}/difference")
def show_difference(who: Reader, here: Here, digest: str) -> DifferenceBody:
    """Show what is different from the last plan of each cluster that succeeded."""
    _, made = plan_of(who, here, digest)
    return DifferenceBody(digest=digest, lanes=differences(here, made))


def differences(here: Server, made: Plan, *, run: str = "") -> list[LaneDifference]:
    """Return what is different in each lane of *made* (the plan of *run*) from the last plan that succeeded."""
    found = []
    for lane in made.lanes:
        last = here.journal.read(partial(lists.last_success, kind=made.kind, lane=lane.name, but=run))
        before = here.plan(last.run) if last else None
        about = {"run": last.run, "at": last.closed_at} if last else {"run": "", "at": None}
        found.append(difference(made, before, lane.name, **about))
    return found


def plan_of(who: Person, here: Server, digest: str) -> tuple[asked.SavedPlan, Plan]:
    """Return a plan as *who* may see it. Raises: NotThere."""
    saved, plan = here.journal.read(partial(asked.saved_plan, digest=digest))
    # A plan without lanes tells nothing of any cluster, and who has its digest has planned the same.
    if saved.about["lanes"] and not _may_see(who, saved):
        raise NotThere(f"There is no plan {digest[:12]}.", remedy="Make it again: it may have been forgotten.")
    return saved, plan_seen(who, Plan.from_json(plan))


def _may_see(who: Person, saved: asked.SavedPlan) -> bool:
    lanes = saved.about["lanes"]
    if who.clusters(Permission.READ) is None or any(sees(who, lane) for lane in lanes):
        return True
    return not lanes and saved.made_by == who.name


def _row(who: Person, here: Server, saved: asked.SavedPlan) -> PlanRow:
    about = saved.about
    if not all(sees(who, lane) for lane in about["lanes"]):
        about = planning.about(plan_of(who, here, saved.digest)[1])
    return PlanRow(
        digest=saved.digest,
        kind=saved.kind,
        purpose=saved.purpose,
        made_by=saved.made_by,
        made_at=saved.at,
        lanes=about["lanes"],
        nodes=about["nodes"],
        steps=about["steps"],
        empty=about["empty"],
    )
