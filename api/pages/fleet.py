"""The fleet as a heat map of days left, and one cluster: servers, certificates, database, who trusts whom, its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from api.fleet_view import NodeRow, Trusted
from api.here import Here
from api.pages import trust_map
from api.pages.drawing import draw
from api.pages.reading import Reader
from api.routes import fleet, runs

router = APIRouter(include_in_schema=False)
DENSE_FROM = 150
"""A fleet of more servers shows their days alone; the name is told by a title and to screen readers."""
_NEXT, _RUNS = 8, 8


@dataclass(frozen=True, slots=True)
class Counts:
    """How many servers are how near their end."""

    over: int
    week: int
    month: int
    unknown: int
    silent: int
    drift: int


@router.get("/")
def show_fleet(who: Reader, here: Here, request: Request) -> Response:
    """Show all clusters with their servers."""
    shown = fleet.show_fleet(who, here)
    rows = [row for one in shown.clusters for row in one.nodes]
    following = fleet.list_certificates(who, here, sort="days_left", limit=_NEXT, offset=0)
    last = runs.list_runs(who, here, kind="survey", limit=1, offset=0)
    return draw(
        request,
        "fleet.html",
        fleet=shown,
        counts=counts(rows),
        dense=len(rows) > DENSE_FROM,
        following=following.items,
        surveyed_at=max((row.surveyed_at for row in rows if row.surveyed_at), default=None),
        survey=last.items[0] if last.items else None,
    )


@router.get("/clusters/{cluster}")
def show_cluster(who: Reader, here: Here, request: Request, cluster: str) -> Response:
    """Show one cluster."""
    shown = fleet.show_cluster(who, here, cluster)
    databases = [
        (row.node, body) for row in shown.nodes if (body := fleet.show_node(who, here, row.node).database_cluster)
    ]
    return draw(
        request,
        "cluster.html",
        cluster=shown,
        databases=databases,
        trusts=_unique(shown.trusts),
        trust=trust_map.drawn([row.node for row in shown.nodes], shown.trusts),
        runs=runs.list_runs(who, here, cluster=cluster, limit=_RUNS, offset=0).items,
    )


def counts(rows: Iterable[NodeRow]) -> Counts:
    """Return how many servers of *rows* end when, and how many are not known."""
    found = list(rows)
    ends = [row.days_left for row in found if row.days_left is not None]
    return Counts(
        over=sum(days < 0 for days in ends),
        week=sum(0 <= days < 7 for days in ends),
        month=sum(7 <= days < 30 for days in ends),
        unknown=len(found) - len(ends),
        silent=sum(row.reachable is False for row in found),
        drift=sum(row.drift > 0 for row in found),
    )


def _unique(links: Sequence[Trusted]) -> list[Trusted]:
    return list({(one.node, one.store, one.by, one.trusts_node, one.trusts_service): one for one in links}.values())
