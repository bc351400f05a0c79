"""The journal over all runs: a page of it, whether its chains are whole, and all of it as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.auth.identity import asks
from api.here import Here, Server
from api.schemas import Limit, Offset, Page, page_of
from api.scope import data_seen, lanes_seen, plan_seen, scope_of, sees
from workflows.journal import FLEET, Event, Kind, lists
from workflows.people import Permission, Person
from workflows.plan import Plan

router = APIRouter(prefix="/api", tags=["journal"])
Reader = Annotated[Person, asks(Permission.READ)]
Auditor = Annotated[Person, asks(Permission.AUDIT)]
Kinds = Annotated[list[Kind] | None, Query(description="Only events of these kinds; may be repeated.")]
_WITH_PLAN = "Begin each run whose plan you may read with it: {run, plan}, the plan null for `fleet`."
WithPlan = Annotated[bool, Query(description=_WITH_PLAN)]
_AT_ONCE = 1000


class EventBody(BaseModel):
    """An event: what happened, numbered from 1 in its run. `hash` covers the event and `prev`, the one before it."""

    run: str
    n: int
    at: datetime
    kind: str
    lane: str
    step: str
    node: str
    actor: str
    data: dict[str, Any]
    prev: str
    hash: str


class ChainBody(BaseModel):
    """The chain of a run and what is wrong with it; nothing: it is whole."""

    run: str
    problems: list[str]


class VerifyBody(BaseModel):
    """Whether all chains are whole; `chains` lists those that are not, or the one that was asked for."""

    whole: bool
    checked: int
    chains: list[ChainBody]


@router.get("/journal")
def list_events(
    who: Reader,
    here: Here,
    run: str = "",
    kind: Kinds = None,
    node: str = "",
    actor: str = "",
    lane: str = "",
    after: datetime | None = None,
    order: Literal["newest", "oldest"] = "newest",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Page[EventBody]:
    """List events, newest first. Events about people are shown to those who may audit."""
    if run and run != FLEET:
        lanes_seen(who, here, run)
    scope = scope_of(who, here)
    find = partial(
        lists.find_events,
        scope=scope,
        run=run,
        kinds=[one.value for one in kind or ()],
        node=node,
        actor=actor,
        lane=lane,
        after=after if after is None or after.tzinfo else after.replace(tzinfo=UTC),
        oldest_first=order == "oldest",
        limit=limit,
        offset=offset,
    )
    found, total = here.journal.read(find)
    return page_of([event_body(who, one, scope.nodes) for one in found], total, limit, offset)


@router.get("/journal/verify")
def verify_journal(who: Auditor, here: Here, run: str = "") -> VerifyBody:
    """Check the chain of *run*, or of all runs and of the fleet."""
    del who
    if run and run != FLEET:
        here.check_run(run)
    names = [run] if run else [FLEET, *_all_runs(here)]
    chains = [ChainBody(run=name, problems=list(here.journal.verify(name))) for name in names]
    broken = [one for one in chains if one.problems]
    return VerifyBody(whole=not broken, checked=len(chains), chains=chains if run else broken)


@router.get(
    "/journal/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One event a line, as JSON, in the order of their chains.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        }
    },
)
def export_journal(who: Auditor, here: Here, run: str = "", plan: WithPlan = False) -> StreamingResponse:
    """Give all events, of *run* or of all runs, one a line; with *plan* each run begins with a line of its own."""
    if run and run != FLEET:
        here.check_run(run)
    names = [run] if run else [FLEET, *_all_runs(here)]
    headers = {"Content-Disposition": f'attachment; filename="{run or "journal"}.ndjson"'}
    return StreamingResponse(_lines(who, here, names, plans=plan), media_type="application/x-ndjson", headers=headers)


def event_body(who: Person, event: Event, nodes: frozenset[str] = frozenset()) -> EventBody:
    """Return an event as *who* may see it; *nodes* are those of their clusters."""
    return EventBody(
        run=event.run,
        n=event.n,
        at=event.at,
        kind=event.kind.value,
        lane=event.lane,
        step=event.step,
        node=event.node,
        actor=event.actor,
        data=dict(data_seen(who, event, nodes)),
        prev=event.prev,
        hash=event.hash,
    )


def _lines(who: Person, here: Server, names: list[str], *, plans: bool) -> Iterator[bytes]:
    scope = scope_of(who, here)
    for name in names:
        plan = _plan(who, here, name) if plans and name != FLEET else None
        if plan is not None or (plans and name == FLEET):
            yield json.dumps({"run": name, "plan": plan}, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        offset, total = 0, 1
        while offset < total:
            find = partial(lists.find_events, scope=scope, run=name, oldest_first=True, limit=_AT_ONCE, offset=offset)
            found, total = here.journal.read(find)
            offset += _AT_ONCE
            for event in found:
                values = event_body(who, event).model_dump(mode="json")
                yield json.dumps(values, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _plan(who: Person, here: Server, run: str) -> Mapping[str, Any] | None:
    """Return the plan of *run* as *who* may read it; None: no part of it. To audit is not to read."""
    if who.clusters(Permission.READ) is None:
        return here.journal.plan(run)
    if not any(sees(who, lane) for lane in here.journal.read(partial(lists.lanes_of, run=run))):
        return None
    return plan_seen(who, Plan.from_json(here.journal.plan(run))).to_json()


def _all_runs(here: Server) -> list[str]:
    found, _ = here.journal.read(partial(lists.find_runs, limit=10**6))
    return [one.run for one in reversed(found)]
