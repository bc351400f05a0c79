"""Surveys: reading servers, which changes nothing; what they find is shown by the fleet and its servers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api import planning
from api.auth.identity import asks, check_clusters
from api.here import Here
from api.idempotency import Once
from api.reading_plans import survey_plan
from api.routes.runs import list_runs
from api.run_bodies import RunRow
from api.schemas import Body, Limit, Offset, Page, page_of
from api.scope import chosen, lanes_seen
from api.survey_results import surveyed
from workflows import actions
from workflows.errors import NotThere
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


class SurveyedNode(BaseModel):
    """What a survey read from a server, as `certbridge survey -o json` shows it, or why it did not answer."""

    node: str
    cluster: str
    facts: dict[str, Any] | None
    error: dict[str, str] | None


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


@router.get("/surveys/{run}/nodes")
def list_surveyed(who: Reader, here: Here, run: str, limit: Limit = 50, offset: Offset = 0) -> Page[SurveyedNode]:
    """List what a survey read, server by server, in the order of the inventory."""
    seen, plan = lanes_seen(who, here, run), here.plan(run)
    if plan.kind != "survey":
        raise NotThere(f"Run {run} is no survey.", remedy="See /api/surveys.")
    every = [(step.node, lane.name) for lane in plan.lanes if lane.name in seen for step in lane.steps()]
    part = every[offset : offset + limit]
    found = surveyed(here.journal, here.journal.state(run), [node for node, _ in part])
    items = [
        SurveyedNode(
            node=node,
            cluster=cluster,
            facts=found.facts[node].to_json() if node in found.facts else None,
            error=dict(found.failed[node]) if node in found.failed else None,
        )
        for node, cluster in part
    ]
    return page_of(items, len(every), limit, offset)
