"""Surveys: reading servers, which changes nothing; what they find is shown by the fleet and its servers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api import planning
from api.auth.identity import asks, check_clusters
from api.here import Here
from api.idempotency import Once
from api.reading_plans import survey_plan
from api.routes.runs import list_runs
from api.run_bodies import RunRow
from api.schemas import Body, Limit, Offset, Page
from api.scope import chosen
from workflows import actions
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["surveys"])
Reader = Annotated[Person, asks(Permission.READ)]
Operator = Annotated[Person, asks(Permission.OPERATE)]


class SurveyBody(Body):
    """What is to be read; nothing named: all that one may survey."""

    clusters: list[str] = Field([], examples=[["seoul"]])
    nodes: list[str] = Field([], examples=[[]])


class Started(BaseModel):
    """The run that was started; follow it at /api/runs/{run}."""

    run: str
    digest: str


@router.post("/surveys", status_code=202)
def start_survey(who: Operator, here: Here, body: SurveyBody, once: Once) -> Started:
    """Start reading servers and return the run that does it."""

    def start() -> Started:
        whole, wanted = chosen(who, here, body.clusters, body.nodes)
        check_clusters(who, Permission.OPERATE, [one.name for one in wanted.clusters])
        planning.need_worker(here.journal)
        made = survey_plan(whole, wanted)
        started = Started(run=actions.new_run_id(datetime.now(UTC)), digest=made.digest())
        actions.start_run(here.journal, made, by=who.name, run=started.run, also=lambda tx: once.keep(tx, started, 202))
        return started

    return once(Started, 202, start)


@router.get("/surveys")
def list_surveys(who: Reader, here: Here, limit: Limit = 50, offset: Offset = 0) -> Page[RunRow]:
    """List surveys, newest first."""
    return list_runs(who, here, kind="survey", limit=limit, offset=offset)
