"""Runs: the list, and one with every lane, step, barrier and gate (`api.run_view`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel

from api.auth.identity import asks
from api.here import Here
from api.schemas import Limit, Offset, Page, page_of
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["runs"])
Reader = Annotated[Person, asks(Permission.READ)]


class RunRow(BaseModel):
    """One line of the list of runs."""

    run: str
    kind: str
    fleet: str
    digest: str
    requested_by: str
    created_at: datetime
    outcome: str
    closed_at: datetime | None
    lanes: dict[str, str]


@router.get("/runs")
def list_runs(who: Reader, here: Here, limit: Limit = 50, offset: Offset = 0) -> Page[RunRow]:
    """List runs, newest first."""
    del who
    found = here.journal.runs(limit=limit, offset=offset)
    items = [RunRow(**{name: getattr(one, name) for name in RunRow.model_fields}) for one in found]
    return page_of(items, len(items) + offset, limit, offset)
