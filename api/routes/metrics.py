"""Numbers for a monitor, in the text format of Prometheus: how many gates wait for people, and since when.

It is asked for with a token as everything else is, and counts what the owner of the token may see.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from api.here import Here
from api.routes.gates import Reader
from api.scope import sees
from workflows.inventory.approvals import GATES
from workflows.journal import lists

router = APIRouter(prefix="/api", tags=["metrics"])
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PENDING = "certbridge_gates_pending"
_OLDEST = "certbridge_gate_pending_age_seconds"


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "Gauges, each by the name of the gate: how many wait, and the age of the oldest (0: none).",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
def show_metrics(who: Reader, here: Here) -> Response:
    """Give the numbers for a monitor."""
    counts, ages = dict.fromkeys(GATES, 0), dict.fromkeys(GATES, 0.0)
    for one in here.journal.read(lists.pending_gates):
        if sees(who, one.lane):
            counts[one.name] = counts.get(one.name, 0) + one.count
            ages[one.name] = max(ages.get(one.name, 0.0), one.age_s)
    lines = [
        f"# HELP {_PENDING} Gates that wait for people.",
        f"# TYPE {_PENDING} gauge",
        *(f'{_PENDING}{{gate="{name}"}} {count}' for name, count in counts.items()),
        f"# HELP {_OLDEST} How long the oldest of them has waited.",
        f"# TYPE {_OLDEST} gauge",
        *(f'{_OLDEST}{{gate="{name}"}} {age:.3f}' for name, age in ages.items()),
    ]
    return Response("\n".join(lines) + "\n", media_type=MEDIA_TYPE)
