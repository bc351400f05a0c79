"""The list of runs, and one run: what it waits for, servers by stages, timeline; live by server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from sse_starlette import ServerSentEvent

from api.here import Here, Server
from api.pages import gantt, texts
from api.pages.drawing import draw, narrowed, now
from api.pages.grid import grid
from api.pages.reading import Reader, Seen, Watcher, operates, seen_run
from api.pages.waits import waits
from api.routes import runs as routes
from api.routes.events import as_stream, while_seen
from api.routes.runs import Status
from api.schemas import Offset
from api.scope import lanes_seen, visible
from workflows.errors import InputError
from workflows.journal import tables
from workflows.people import Permission, Person

router = APIRouter(include_in_schema=False)
LIMIT = 25
_CHARTS, _STEPS = 12, 60
_MAY_PAUSE = frozenset({"ready", "running", "waiting"})
_NOTABLE = frozenset({"running", "waiting", "failed", "parked", "undone"})


@router.get("/runs")
def list_runs(
    who: Reader,
    here: Here,
    request: Request,
    kind: str = "",
    status: Status = "",
    cluster: str = "",
    requested_by: str = "",
    offset: Offset = 0,
) -> Response:
    """List runs, newest first."""
    asked: dict[str, Any] = {"kind": kind, "status": status, "cluster": cluster, "requested_by": requested_by}
    page = routes.list_runs(who, here, **asked, limit=LIMIT, offset=offset)
    return draw(
        request,
        "runs.html",
        page=page,
        asked=asked,
        clusters=_clusters(who, here),
        offset=offset,
        limit=LIMIT,
        address=narrowed("/runs", asked),
    )


def _clusters(who: Person, here: Server) -> list[str]:
    try:
        return [one.name for one in visible(who, here.fleet()[1]).clusters]
    except InputError:  # the journal can be read while the inventory is being mended
        return []


@router.get("/runs/{run}/steps/{step:path}")
def show_step(who: Reader, here: Here, request: Request, run: str, step: str, whole: bool = False) -> Response:
    """Show a step: its lines with what came of each, its attempts, and what was said to the server in each.

    *whole*: all that was said to the server in this run.
    """
    shown = routes.show_step(who, here, run, step, whole)
    return draw(request, "step.html", step=shown, whole=whole, kind=here.plan(run).kind, flower=flower_for(who, here))


def flower_for(who: Person, here: Server) -> bool:
    """Return whether *who* can look at tasks in Flower: it runs, and they may see all clusters (`routes.flower`)."""
    return who.clusters(Permission.READ) is None and here.settings.flower_password_file.is_file()


@router.get("/runs/{run}")
def show_run(who: Reader, here: Here, request: Request, run: str, lane: str = "", node: str = "") -> Response:
    """Show one run."""
    return draw(request, "run.html", **_values(who, here, request, run, lane, node))


@router.get("/runs/{run}/live")
def show_live(who: Watcher, here: Here, request: Request, run: str, lane: str = "", node: str = "") -> Response:
    """Return what changes of a run's page."""
    return draw(request, "parts/run_moved.html", **_values(who, here, request, run, lane, node))


@router.get("/runs/{run}/stream")
def stream(who: Watcher, here: Here, request: Request, run: str) -> Response:
    """Say "moved" whenever the run has moved, and "over" once it is.

    /api/runs/{run}/events tells every event; a page that is drawn anew needs to hear only that there was one.
    """
    lanes_seen(who, here, run)
    return as_stream(who, here, _moves(request, here, run))


async def _moves(request: Request, here: Server, run: str) -> AsyncIterator[ServerSentEvent]:
    last = -1
    async for _ in while_seen(here, request, run):
        head, over = await run_sync(here.journal.read, partial(_head, run=run))
        if head != last:
            # The first one too: something may have happened between the page and its stream.
            yield ServerSentEvent(event="moved", data=str(head), id=str(head))
            last = head
            if over:
                yield ServerSentEvent(event="over", data=str(head))
                return


def _head(connection: sa.Connection, run: str) -> tuple[int, bool]:
    chain, of = tables.chain, tables.run
    query = sa.select(chain.c.head_n, of.c.outcome).join(of, of.c.run == chain.c.run).where(of.c.run == run)
    row = connection.execute(query).one()
    return row.head_n, row.outcome != "open"


def _values(who: Person, here: Server, request: Request, run: str, lane: str, node: str) -> dict[str, Any]:
    texts.speak(texts.language_of(request))  # what a run waits for is put into words before the page is drawn
    seen = seen_run(who, here, run)
    shown = seen.view
    table = grid(shown, lane=lane)
    parts = [part for one in shown.lanes if lane in {"", one.name} for part in one.parts if part.kind == "step"]
    chosen = [part for part in parts if (part.node == node if node else part.status in _NOTABLE)]
    every = [part for one in shown.lanes for part in one.parts if part.kind == "step"]
    return {
        "run": shown,
        "plan": seen.plan,
        "waits": waits(shown),
        "grid": table,
        "counts": (sum(part.status == "done" for part in every), len(every)),
        "steps": chosen[:_STEPS],
        "node": node,
        "charts": () if table.folded else tuple(_charts(seen, lane))[:_CHARTS],
        "operates": operates(who, seen),
        "can_pause": any(one.status in _MAY_PAUSE for one in shown.lanes),
        "can_resume": any(one.status in {"stopped", "paused"} for one in shown.lanes)
        or any(part.status in {"failed", "parked"} for part in every),
        "query": urlencode({"lane": lane, "node": node}),
    }


def _charts(seen: Seen, lane: str) -> list[gantt.Chart]:
    return [
        gantt.chart(seen.plan.lane(one.name), one, created_at=seen.view.created_at, now=now())
        for one in seen.view.lanes
        if lane in {"", one.name} and any(part.kind == "step" for part in one.parts)
    ]
