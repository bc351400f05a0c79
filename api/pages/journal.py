"""The journal as a page: filters, a page at a time, and whether the chains are whole."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.auth.identity import check_clusters
from api.here import Here
from api.pages.drawing import draw, narrowed
from api.pages.reading import Reader
from api.routes import journal
from api.schemas import Offset
from workflows.journal import Kind
from workflows.people import Permission

router = APIRouter(include_in_schema=False)
LIMIT = 50


@router.get("/journal")
def show_journal(
    who: Reader,
    here: Here,
    request: Request,
    run: str = "",
    kind: str = "",
    node: str = "",
    actor: str = "",
    verify: str = "",
    offset: Offset = 0,
) -> Response:
    """Show a page of events, newest first."""
    kinds = [one for one in Kind if one.value == kind] or None
    page = journal.list_events(who, here, run=run, kind=kinds, node=node, actor=actor, limit=LIMIT, offset=offset)
    if verify:
        check_clusters(who, Permission.AUDIT, [""])
    asked = {"run": run, "kind": kind, "node": node, "actor": actor}
    return draw(
        request,
        "journal.html",
        page=page,
        asked=asked,
        kinds=[one.value for one in Kind],
        verified=journal.verify_journal(who, here, run=run) if verify else None,
        offset=offset,
        limit=LIMIT,
        address=narrowed("/journal", asked),
    )
