"""The bodies by which routes answer about runs: `api.run_view` as JSON, name by name, and what a step did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from api.run_view import LaneView, PartView, RunView
from api.stages import stage_name
from workflows.journal import Event, Kind, RunState, RunSummary, lists


class _FromValue(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class RunRow(BaseModel):
    """One line of the list of runs. `lanes` says why each lane does not move, "" while it does."""

    run: str
    kind: str
    purpose: str
    fleet: str
    digest: str
    requested_by: str
    created_at: datetime
    outcome: str
    status: str
    closed_at: datetime | None
    lanes: dict[str, str]


class ErrorBody(BaseModel):
    """Why a step failed, and what a person can do."""

    code: str = ""
    text: str = ""
    remedy: str = ""


class RunPartBody(_FromValue):
    """A step, barrier or gate of a run. `usual_s` is how long a step that is followed for long usually takes."""

    id: str
    kind: Literal["step", "barrier", "gate"]
    title: str
    status: str
    stage: int
    stage_name: str = ""
    node: str
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    error: ErrorBody | None
    data: dict[str, Any]
    usual_s: list[int]


class WaitingBody(_FromValue):
    """What a lane waits for, since when, and who may decide; `people` is false when it goes on by itself."""

    gate: str
    name: str
    on: str
    since: datetime | None
    who: str
    people: bool


class RunLaneBody(_FromValue):
    """A lane; `moves` while it goes on without anybody. `parts_done` of `parts_total` are over."""

    name: str
    status: str
    reason: str
    moves: bool
    waiting: WaitingBody | None
    parts_done: int = 0
    parts_total: int = 0
    parts: list[RunPartBody]


class AwayBody(_FromValue):
    """How long a node's database (the whole cluster's where `node` is "") is away: predicted, and measured after."""

    lane: str
    node: str
    predicted_s: tuple[int, int] | None
    measured_s: float | None
    out_since: datetime | None


class RunBody(BaseModel):
    """A run. status: done, failed, cancelled, or what its lanes are at: running, waiting, stopped, paused.

    `lanes` may be a part of all lanes, see `lanes_total`. `n` is the number of the last event that it tells of.
    """

    run: str
    kind: str
    purpose: str
    fleet: str
    digest: str
    requested_by: str
    planned_by: str
    created_at: datetime | None
    closed_at: datetime | None
    outcome: str
    status: str
    n: int
    lanes_total: int
    lanes: list[RunLaneBody]
    notices: list[str]
    away: list[AwayBody]


class StepRow(RunPartBody):
    """A part of a run with its lane."""

    lane: str


class AttemptBody(BaseModel):
    """One attempt at a step. outcome: done, failed, waiting, parked, "" while it runs or when it was lost.

    `task` is the id of the Celery task, as Flower shows it.
    """

    attempt: int
    generation: int
    holder: str
    task: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    error: ErrorBody | None


class SentBody(BaseModel):
    """A line of the plan, and what came of it: "", intent, ok, refused or unknown."""

    text: str
    state: str


class ExchangeBody(_FromValue):
    """One thing said to a server, or a transfer, and what came back; secrets are masked.

    `attempt` is the one that said it, 0 when it was another step.
    """

    attempt: int = 0
    at: str
    kind: str
    text: str
    reply: str


_OVER = frozenset({"done", "excused", "approved"})
ENDS = {
    Kind.STEP_DONE: "done",
    Kind.STEP_FAILED: "failed",
    Kind.STEP_WAITING: "waiting",
    Kind.STEP_PARKED: "parked",
}


def row_of(run: RunSummary, seen: Sequence[str] | None = None) -> RunRow:
    """Return a line of the list; *seen* names the lanes that may be told of (None: all)."""
    values = {name: getattr(run, name) for name in RunRow.model_fields if name not in {"lanes", "status"}}
    lanes = {name: flag for name, flag in run.lanes.items() if seen is None or name in seen}
    return RunRow(**values, lanes=lanes, status=lists.status_of(run))


def run_body(shown: RunView, state: RunState, total: int) -> RunBody:
    """Return a run; *total* is how many lanes there are to be seen."""
    return RunBody(
        run=shown.run,
        kind=shown.kind,
        purpose=shown.purpose,
        fleet=shown.fleet,
        digest=shown.digest,
        requested_by=shown.requested_by,
        planned_by=state.planned_by,
        created_at=shown.created_at,
        closed_at=shown.closed_at,
        outcome=shown.outcome,
        status=shown.status,
        n=state.n,
        lanes_total=total,
        lanes=[lane_body(shown.kind, lane) for lane in shown.lanes],
        notices=list(shown.notices),
        away=[AwayBody.model_validate(one) for one in shown.away],
    )


def lane_body(kind: str, lane: LaneView) -> RunLaneBody:
    """Return a lane of a run of *kind*."""
    parts = [RunPartBody(**part_values(kind, part)) for part in lane.parts]
    return RunLaneBody(
        name=lane.name,
        status=lane.status,
        reason=lane.reason,
        moves=lane.moves,
        waiting=WaitingBody.model_validate(lane.waiting) if lane.waiting else None,
        parts_done=sum(part.status in _OVER for part in parts),
        parts_total=len(parts),
        parts=parts,
    )


def part_values(kind: str, part: PartView) -> dict[str, Any]:
    """Return the values of a part's body."""
    return {
        "id": part.id,
        "kind": part.kind,
        "title": part.title,
        "status": part.status,
        "stage": part.stage,
        "stage_name": stage_name(kind, part.stage),
        "node": part.node,
        "attempts": part.attempts,
        "started_at": part.started_at,
        "ended_at": part.ended_at,
        "error": error_body(part.error),
        "data": dict(part.data),
        "usual_s": list(part.usual_s),
    }


def error_body(error: Mapping[str, str] | None) -> ErrorBody | None:
    """Return an error as it stands in the journal."""
    return None if error is None else ErrorBody(**{name: str(error.get(name, "")) for name in ErrorBody.model_fields})


def attempts_of(run: str, lane: str, step: str, events: Sequence[Event]) -> list[AttemptBody]:
    """Return the attempts at *step* from its events, in order; a step that waited is the same attempt later on."""
    from workflows.canvas import task_id

    found: list[AttemptBody] = []
    for event in events:
        if event.step != step:
            continue
        if event.kind is Kind.STEP_CLAIMED:
            generation = int(event.data.get("generation", 0))
            found.append(
                AttemptBody(
                    attempt=int(event.data.get("attempt", len(found) + 1)),
                    generation=generation,
                    holder=str(event.data.get("holder", "")),
                    task=task_id(run, lane, step, generation),
                    started_at=event.at,
                    ended_at=None,
                    outcome="",
                    error=None,
                )
            )
        elif event.kind in ENDS and found:
            said = {"ended_at": event.at, "outcome": ENDS[event.kind], "error": error_body(event.data.get("error"))}
            found[-1] = found[-1].model_copy(update=said)
    return found
