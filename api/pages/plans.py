"""Plans: choosing what for, looking at every line, starting; surveys; and what people do to runs, previewed first."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from api.here import Here, Server
from api.idempotency import Keyed, standing
from api.pages import errors
from api.pages.drawing import draw
from api.pages.reading import Operator, Reader
from api.pages.settings import body_of
from api.problems import problem_of
from api.routes import acting, plans, surveys
from api.routes import runs as run_routes
from api.scope import visible
from workflows.errors import PlanStale
from workflows.people import Permission, Person

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=2000)]
Names = Annotated[list[str] | None, Form()]
Action = Literal["resume", "pause", "cancel", "rollback"]
_LATELY = 8


# ── surveys ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.post("/surveys")
def start_survey(who: Operator, here: Here, clusters: Names = None, key: Text = "") -> RedirectResponse:
    """Start a survey and go to its run."""
    body = body_of(surveys.SurveyBody, clusters=clusters or [])
    started = surveys.start_survey(who, here, body, _once(who, here, key, body))
    return RedirectResponse(f"/runs/{started.run}", 303)


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/plans/new")
def new_plan(who: Operator, here: Here, request: Request, clusters: str = "") -> Response:
    """Show what can be chosen."""
    fleet = visible(who, here.fleet()[1])
    held = who.clusters(Permission.OPERATE)
    mine = [one for one in fleet.clusters if held is None or one.name in held]
    return draw(
        request,
        "plan_new.html",
        clusters=[one.name for one in mine],
        nodes=[node for one in mine for node in one.nodes],
        certificates=sorted({wish.name for one in mine for wish in one.certificates}),
        chosen=[clusters],
        plans=plans.list_plans(who, here, limit=_LATELY, offset=0).items,
    )


@router.post("/plans")
def make_plan(
    who: Operator,
    here: Here,
    request: Request,
    clusters: Names = None,
    nodes: Names = None,
    certificates: Names = None,
    within: Text = "30d",
    database: Text = "",
    primary: Text = "",
    upgrade_schema: Text = "",
) -> Response:
    """Make a plan and show it."""
    wish = body_of(
        plans.PlanWish,
        clusters=clusters or [],
        nodes=nodes or [],
        certificates=certificates or [],
        within=within,
        database=database,
        primary=primary,
        upgrade_schema=bool(upgrade_schema),
    )
    made = plans.make_plan(who, here, wish, _once(who, here, "", wish), Response())
    if made.warnings or made.why_nothing or made.empty:
        return _plan(who, here, request, made, warnings=made.warnings, why_nothing=made.why_nothing)
    return RedirectResponse(f"/plans/{made.digest}", 303)


@router.get("/plans/{digest}")
def show_plan(who: Reader, here: Here, request: Request, digest: str) -> Response:
    """Show a plan that was kept."""
    return _plan(who, here, request, plans.show_plan(who, here, digest))


@router.post("/runs")
def start_run(who: Operator, here: Here, plan: Text, key: Text = "") -> RedirectResponse:
    """Start the run of a plan, once, however often the button is pressed."""
    body = body_of(acting.StartBody, plan=plan)
    started = acting.start_run(who, here, body, _once(who, here, key, body))
    return RedirectResponse(f"/runs/{started.run}", 303)


@router.get("/runs/{run}/plan")
def show_run_plan(who: Reader, here: Here, request: Request, run: str) -> Response:
    """Show the plan of a run as it was frozen."""
    found = run_routes.show_run_plan(who, here, run)
    differences = plans.differences(here, here.plan(run), run=run)
    seen = {lane.name for lane in found.lanes}
    return draw(
        request,
        "plan.html",
        plan=found,
        lanes=found.lanes,
        run=run,
        start="",
        stale=(),
        warnings=(),
        why_nothing=(),
        difference=[one for one in differences if one.lane in seen],
    )


def _plan(who: Person, here: Server, request: Request, found: plans.PlanBody, **more: Any) -> Response:
    may = not found.empty and not found.stale and who.may(Permission.OPERATE, found.lanes)
    values: dict[str, Any] = {
        "plan": found,
        "lanes": [] if found.empty else found.shown,
        "run": "",
        "start": secrets.token_urlsafe(16) if may else "",
        "stale": found.stale,
        "warnings": (),
        "why_nothing": (),
        "difference": [] if found.empty else plans.show_difference(who, here, found.digest).lanes,
    }
    return draw(request, "plan.html", **(values | more))


# ── what people do to runs ───────────────────────────────────────────────────────────────────────────────────────────
_PREVIEWS: dict[str, Callable[..., acting.PreviewBody]] = {
    "resume": acting.preview_resume,
    "pause": acting.preview_pause,
    "cancel": acting.preview_cancel,
    "rollback": acting.preview_rollback,
}


@router.get("/runs/{run}/{action}")
def preview_action(who: Operator, here: Here, request: Request, run: str, action: Action) -> Response:
    """Show what would come of it; nothing happens yet."""
    try:
        found = _PREVIEWS[action](who, here, run)
    except PlanStale as error:  # what must be surveyed first can be, right there
        problem = problem_of(error).model_copy(update={"run": run})
        return errors.drawn(request, problem, survey=error.data.get("survey", ()))
    key = secrets.token_urlsafe(16)
    return draw(request, "run_action.html", run=run, action=action, preview=found, lanes=found.lanes, key=key)


@router.post("/runs/{run}/{action}")
def carry_out(
    who: Operator,
    here: Here,
    run: str,
    action: Action,
    lane: Text = "",
    reason: Text = "",
    digest: Text = "",
    key: Text = "",
) -> RedirectResponse:
    """Do it, and go to the run, or to the one that goes back."""
    if action == "rollback":
        back = body_of(acting.GoingBack, lane=lane, reason=reason, digest=digest)
        started = acting.roll_back(who, here, run, back, _once(who, here, key, back, run))
        return RedirectResponse(f"/runs/{started.run}", 303)
    if action == "cancel":
        ending = body_of(acting.Ending, reason=reason)
        acting.cancel_run(who, here, run, ending, _once(who, here, key, ending, run))
    else:
        body = body_of(acting.Acting, lane=lane, reason=reason)
        act = acting.resume_run if action == "resume" else acting.pause_run
        act(who, here, run, body, _once(who, here, key, body, run))
    return RedirectResponse(f"/runs/{run}", 303)


def _once(who: Person, here: Server, key: str, body: Any, about: str = "") -> Keyed:
    """Return the key that a form carries: pressed twice, it is carried out once."""
    asked = f"page {type(body).__name__} {about} {standing(who)} {body.model_dump_json()}"
    digest = hashlib.sha256(asked.encode()).hexdigest()
    return Keyed(journal=here.journal, account=who.account, key=key and f"page-{key[:64]}", request=digest)
