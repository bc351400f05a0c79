"""What people do to runs: start one, resume, pause, cancel, go back; each with what would come of it; the report.

Whoever acts must be allowed to for all the lanes concerned. Everything here writes SQL; the workers see it and move.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from api import going_back, plan_view, planning
from api.auth.identity import asks, check_clusters
from api.going_facts import facts_to_go_back
from api.here import Here, Server
from api.idempotency import Once
from api.report import render
from api.routes.plans import plan_of
from api.routes.surveys import Started
from api.runbooks import runbook_of
from api.schemas import Body, Words
from api.scope import all_lanes, lanes_asked, plan_seen
from workflows import actions
from workflows import preview as previews
from workflows.errors import DigestChanged, InputError
from workflows.inventory import KeyOrigin
from workflows.journal import Kind, NewEvent, RunState, lanes, lists
from workflows.people import Permission, Person
from workflows.plan import Plan

router = APIRouter(prefix="/api", tags=["runs"])
Reader = Annotated[Person, asks(Permission.READ)]
Operator = Annotated[Person, asks(Permission.OPERATE)]
END_WITHIN_S = 30.0
"""How long a request waits until a run that is gone back from has let go of its servers."""


class StartBody(Body):
    """Which plan is to be carried out, by its digest."""

    plan: str = Field(min_length=1, examples=["3f5c0e2b…"])


class Acting(Body):
    """What is asked for: for *lane* alone (all without one), and why, for the journal."""

    lane: str = Field("", examples=[""])
    reason: Annotated[Words, Field(examples=["the network is down"])] = ""


class Ending(Body):
    """Why a run is ended, for the journal."""

    reason: Annotated[Words, Field(examples=["another plan was made"])] = ""


class GoingBack(Acting):
    """As `Acting`; `digest` is that of the plan back which was looked at, "" takes the one of this moment."""

    digest: str = Field("", examples=[""])


class ApprovalBody(BaseModel):
    """A gate that people have met, whether what they decided holds, and why (not)."""

    model_config = ConfigDict(from_attributes=True)

    gate: str
    valid: bool
    why: str


class PreviewBody(BaseModel):
    """What would come of it: ids of steps that run (`would_run`), stay done, or are left undone.

    `stops_at` are the gates where people decide next, `untouched` the servers that a rollback leaves alone. `digest`,
    `shown` and `plan` (as in the file of `certbridge plan --save`) are of the plan back, for a rollback.
    """

    model_config = ConfigDict(from_attributes=True)

    action: str
    run: str
    lanes: list[str]
    would_run: list[str]
    kept: list[str]
    left: list[str]
    stops_at: list[str]
    approvals: list[ApprovalBody]
    effect: str
    untouched: list[str]
    digest: str = ""
    shown: list[plan_view.LanePlanBody] = []
    plan: dict[str, Any] | None = None


class Acted(BaseModel):
    """What was done: `lanes` are those that moved (none: there was nothing to do)."""

    run: str
    lanes: list[str]
    preview: PreviewBody


# ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.post("/runs", status_code=202)
def start_run(who: Operator, here: Here, body: StartBody, once: Once) -> Started:
    """Start the run of a plan that was kept: it prepares and requests at once, then waits for approval."""

    def start() -> Started:
        saved, _ = plan_of(who, here, body.plan)
        check_clusters(who, Permission.OPERATE, saved.about["lanes"])
        made = Plan.from_json(here.journal.read(partial(_plan_json, digest=saved.digest)))
        _refuse_files(made)
        planning.check_fresh(here.journal, made)
        planning.need_worker(here.journal)
        started = Started(run=actions.new_run_id(datetime.now(UTC)), digest=saved.digest)
        actions.start_run(
            here.journal,
            made,
            by=who.name,
            run=started.run,
            planned_by=saved.made_by,
            also=lambda tx: once.keep(tx, started, 202),
        )
        return started

    return once(Started, 202, start)


# ── resume, pause, cancel ────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/runs/{run}/resume/preview")
def preview_resume(who: Reader, here: Here, run: str, lane: str = "") -> PreviewBody:
    """Show what resuming would do."""
    plan, state = _seen(who, here, run, lane)
    return PreviewBody.model_validate(previews.resume(plan, state, lane=lane))


@router.post("/runs/{run}/resume")
def resume_run(who: Operator, here: Here, run: str, body: Acting, once: Once) -> Acted:
    """Let stopped or paused lanes go on: failed steps are tried again, what is done stays done."""

    def resume() -> Acted:
        plan, state = _mine(who, here, run, body.lane)
        found = previews.resume(plan, state, lane=body.lane)
        moved = actions.resume(here.journal, run, by=who.name, lane=body.lane)
        if moved and body.reason:
            _note(here, run, who, "resume", body.reason)
        return _acted(run, moved, found)

    return once(Acted, 200, resume)


@router.get("/runs/{run}/pause/preview")
def preview_pause(who: Reader, here: Here, run: str, lane: str = "") -> PreviewBody:
    """Show what pausing would do."""
    plan, state = _seen(who, here, run, lane)
    return PreviewBody.model_validate(previews.pause(plan, state, lane=lane, dead=_dead(here, run)))


@router.post("/runs/{run}/pause")
def pause_run(who: Operator, here: Here, run: str, body: Acting, once: Once) -> Acted:
    """Hold a run at the next step border."""

    def pause() -> Acted:
        plan, state = _mine(who, here, run, body.lane)
        found = previews.pause(plan, state, lane=body.lane, dead=_dead(here, run))
        return _acted(run, actions.pause(here.journal, run, by=who.name, lane=body.lane, reason=body.reason), found)

    return once(Acted, 200, pause)


@router.get("/runs/{run}/cancel/preview")
def preview_cancel(who: Reader, here: Here, run: str, lane: str = "") -> PreviewBody:
    """Show what cancelling would do, which is always to all lanes, whichever *lane* is named."""
    plan, state = _seen(who, here, run, lane)
    return PreviewBody.model_validate(previews.cancel(plan, state, dead=_dead(here, run)))


@router.post("/runs/{run}/cancel")
def cancel_run(who: Operator, here: Here, run: str, body: Ending, once: Once) -> Acted:
    """End a run for good at the next step border, and free its servers; nothing is put back."""

    def cancel() -> Acted:
        plan, state = _mine(who, here, run, "")
        found = previews.cancel(plan, state, dead=_dead(here, run))
        moved = actions.cancel(here.journal, run, by=who.name, reason=body.reason) if found.lanes else ()
        return _acted(run, moved, found)

    return once(Acted, 200, cancel)


def _dead(here: Here, run: str) -> frozenset[str]:
    """Return the steps whose worker died before it had sent a line."""
    return here.journal.read(partial(lanes.dead, run=run))


# ── going back ───────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/runs/{run}/rollback/preview")
def preview_rollback(who: Reader, here: Here, run: str, lane: str = "") -> PreviewBody:
    """Show the plan back, made from a survey that is newer than what the run changed.

    Going back ends the whole run, so it is shown to those alone who see all its lanes.
    """
    all_lanes(who, here, run, "The plan back")
    lanes_asked(who, here, run, lane)
    before, state = going_back.original(here.journal, run)
    back = _plan_back(here, before, state, lane)
    return _back_preview(plan_seen(who, before), state, plan_seen(who, back), back.digest())


@router.post("/runs/{run}/rollback", status_code=202)
def roll_back(who: Operator, here: Here, run: str, body: GoingBack, once: Once) -> Started:
    """End the run and start another that brings its servers back to the files they used before, up to its gate."""

    def go() -> Started:
        _mine(who, here, run, "")
        lanes_asked(who, here, run, body.lane)
        before, state = going_back.original(here.journal, run)
        back = _plan_back(here, before, state, body.lane)
        if body.digest and body.digest != back.digest():
            raise DigestChanged(
                "The plan back is not the one you looked at.", remedy="Look at its preview again.", run=run
            )
        planning.need_worker(here.journal)
        going_back.check_still(here.journal, state)
        if body.reason:
            _note(here, run, who, "rollback", body.reason)
        if state.outcome == "open":
            going_back.end(here.journal, run, by=who.name, within_s=END_WITHIN_S)
        started = Started(run=actions.new_run_id(datetime.now(UTC)), digest=back.digest())
        actions.start_run(here.journal, back, by=who.name, run=started.run, also=lambda tx: once.keep(tx, started, 202))
        return started

    return once(Started, 202, go)


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/runs/{run}/report", response_class=HTMLResponse)
def report_run(who: Reader, here: Here, run: str) -> HTMLResponse:
    """Give the report of a run as one HTML page: what was asked, who approved what, every command with its reply."""
    all_lanes(who, here, run, "The report")
    page = render(here.journal, run, transcripts=here.settings.transcripts_dir, now=datetime.now(UTC))
    # To be kept, not shown here: it stands alone, so its style is inside, which our own pages never allow.
    return HTMLResponse(page, headers={"Content-Disposition": f'attachment; filename="{run}.html"'})


@router.get(
    "/runs/{run}/runbook",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}},
)
def show_runbook(who: Reader, here: Here, run: str) -> Response:
    """Give the runbook of a database run as Markdown: what is done, in doubt and next, and the lines back by hand."""
    plan, state = _seen(who, here, run, "")
    text = runbook_of(plan, state, datetime.now(UTC))
    return Response(text, media_type="text/markdown; charset=utf-8")


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _plan_json(connection: object, digest: str) -> dict[str, object]:
    from workflows.journal import asked

    return asked.saved_plan(connection, digest)[1]  # type: ignore[arg-type]


def _refuse_files(made: Plan) -> None:
    """Raise InputError when keys were to be brought in: they lie on somebody's machine, not on this one."""
    names = [wish["name"] for wish in made.wishes.values() if wish["key"] == KeyOrigin.FILE.value]
    if names:
        raise InputError(
            f"Certificate {', '.join(dict.fromkeys(names))} brings its own key (`key: file`), which only the machine "
            "that holds the file can read.",
            remedy="Start it there with `certbridge run`, or use `key: node` or `key: engine` in the inventory.",
        )


def _seen(who: Person, here: Server, run: str, lane: str) -> tuple[Plan, RunState]:
    lanes_asked(who, here, run, lane)
    return plan_seen(who, here.plan(run)), here.journal.state(run)


def _mine(who: Person, here: Server, run: str, lane: str) -> tuple[Plan, RunState]:
    """Return plan and state of a run that *who* may act on. Raises: NotThere, NotAllowed."""
    named = lanes_asked(who, here, run, lane)
    every = here.journal.read(partial(lists.lanes_of, run=run))  # those too that *who* may not see
    check_clusters(who, Permission.OPERATE, named if lane else every)
    return here.plan(run), here.journal.state(run)


def _plan_back(here: Server, before: Plan, state: RunState, lane: str) -> Plan:
    facts, silent = facts_to_go_back(here, before, going_back.chosen(state, lane))
    return going_back.plan_back(before, state, facts, lane=lane, silent=silent, now=datetime.now(UTC))


def _back_preview(before: Plan, state: RunState, back: Plan, digest: str) -> PreviewBody:
    found = PreviewBody.model_validate(previews.rollback(before, state, back))
    return found.model_copy(update={"digest": digest, "shown": plan_view.lane_bodies(back), "plan": back.to_json()})


def _acted(run: str, moved: Iterable[str], found: previews.Preview) -> Acted:
    return Acted(run=run, lanes=list(moved), preview=PreviewBody.model_validate(found))


def _note(here: Server, run: str, who: Person, what: str, reason: str) -> None:
    here.journal.append(NewEvent(run=run, kind=Kind.NOTE, actor=who.name, data={"about": what, "reason": reason}))
