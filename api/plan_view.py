"""A plan as values that everybody draws: sums, reasons, predicted outages, and every line as it will be typed.

`api.cli.plan_text` writes it to a terminal, the API answers with it, the pages draw it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from api.stages import stage_name
from workflows import outage
from workflows.plan import DATABASE, Barrier, Gate, Interruption, Lane, LineKind, Plan, Step, walk

FORMAT = 1
"""Version of the plan file."""

REASONS = 3
"""How many reasons a plan names for each lane."""

PURPOSES = {
    "renew": "the database cluster is taken apart and built again with new certificates",
    "build": "a database cluster is built",
    "dissolve": "the database cluster is taken apart; every node keeps the data it has",
    "rollback": "the database cluster is built again with its old certificates",
}
"""What each purpose of a database plan comes to."""


def reasons(plan: Plan, lane: str) -> str:
    """Return why the certificates of a lane are due, the first few reasons; "" when the plan says nothing of it."""
    own = [said for wish, said in plan.wishes.items() if wish.partition("/")[0] == lane]
    # Certificates that change together have the same reasons, and so have most nodes.
    nodes: dict[str, list[str]] = {}
    for why in dict.fromkeys(str(why) for said in own for why in said["why"]):
        node, _, reason = why.partition(": ")
        nodes.setdefault(reason, []).append(node)
    every = [f"{', '.join(names)}: {_of_several(reason, len(names))}" for reason, names in nodes.items()]
    shown, more = every[:REASONS], len(every) - REASONS
    return "; ".join((*shown, *([f"and {more} more"] if more > 0 else [])))


def _of_several(reason: str, nodes: int) -> str:
    return f"are {reason.removeprefix('is ')}" if nodes > 1 and reason.startswith("is ") else reason


def summary(plan: Plan) -> dict[str, Any]:
    """Return {"commands", "transfers", "restarts", "certificates", "gates", "nodes", "outage": [{…}]}."""
    steps = [step for lane in plan.lanes for step in lane.steps()]
    every = [line for step in steps for line in step.lines]
    away: dict[tuple[str, str], list[Interruption]] = {}
    for step in steps:
        # One restart may interrupt several things at once: the longest of them counts, not their sum.
        for service in dict.fromkeys(one.service for one in step.interrupts):
            longest = max((one for one in step.interrupts if one.service == service), key=lambda one: one.to_s)
            away.setdefault((step.node, service), []).append(longest)
    return {
        "commands": sum(line.kind is LineKind.COMMAND for line in every),
        "transfers": sum(line.kind is not LineKind.COMMAND for line in every),
        "restarts": sum(bool(step.interrupts) for step in steps),
        "certificates": sorted(plan.wishes),
        "gates": [gate.id for lane in plan.lanes for gate in lane.gates()],
        "nodes": list(dict.fromkeys(step.node for step in steps if step.node)),
        "outage": [
            {
                "node": node,
                "service": service,
                "from_s": sum(x.from_s for x in found),
                "to_s": sum(x.to_s for x in found),
            }
            for (node, service), found in away.items()
        ],
    } | _database_sums(plan)


def _database_sums(plan: Plan) -> dict[str, Any]:
    """Return {"purpose", "away": {lane: {"cluster", "nodes"}}} of a database plan, see `outage.forecast`; else {}."""
    if plan.kind != DATABASE:
        return {}
    return {"purpose": plan.purpose, "away": {lane.name: outage.forecast(lane) for lane in plan.lanes}}


def to_document(made: Plan) -> dict[str, Any]:
    """Return the plan file: {"format", "digest", "plan", "summary"}."""
    return {"format": FORMAT, "digest": made.digest(), "plan": made.to_json(), "summary": summary(made)}


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class OutageBody(BaseModel):
    """How long a service of a server is predicted to be out, in seconds."""

    node: str
    service: str
    from_s: int
    to_s: int


class ForecastBody(BaseModel):
    """How long a database is predicted to be away, [from, to] in seconds; null: until a cluster is built."""

    cluster: list[int] | None
    nodes: dict[str, list[int] | None]


class SummaryBody(BaseModel):
    """The sums of a plan; `purpose` and `away` are of database plans."""

    commands: int
    transfers: int
    restarts: int
    certificates: list[str]
    gates: list[str]
    nodes: list[str]
    outage: list[OutageBody]
    purpose: str | None = None
    away: dict[str, ForecastBody] | None = None


class InterruptionBody(BaseModel):
    """What a step interrupts, and for how long it is predicted to, in seconds."""

    service: str
    what: str
    from_s: int
    to_s: int


class LineBody(BaseModel):
    """One line: `text` as it will be typed or transferred; `question` and `answer` when the server asks back."""

    kind: str
    text: str
    shown: str
    question: str
    answer: str


class PartBody(BaseModel):
    """A step, barrier or gate. `title` says it in words; of a gate: what people decide, of a barrier: what holds."""

    part: Literal["step", "barrier", "gate"]
    id: str
    title: str
    node: str = ""
    stage: int = 0
    stage_name: str = ""
    action: str = ""
    lines: list[LineBody] = []
    undo: list[LineBody] = []
    interrupts: list[InterruptionBody] = []
    way_back: str = ""
    source: str = ""
    parks: bool = False
    two_people: bool = False


class LanePlanBody(BaseModel):
    """A cluster's share of a plan, in the order in which it is carried out; `why` says what is due."""

    name: str
    fail_limit: int
    why: str
    parts: list[PartBody]


def summary_body(plan: Plan) -> SummaryBody:
    """Return the sums of *plan*."""
    return SummaryBody(**summary(plan))


def lane_bodies(plan: Plan, lane: str = "") -> list[LanePlanBody]:
    """Return the lanes of *plan*, or *lane* alone, with every line."""
    return [
        LanePlanBody(
            name=one.name,
            fail_limit=one.fail_limit,
            why=reasons(plan, one.name),
            parts=list(part_bodies(plan.kind, one)),
        )
        for one in plan.lanes
        if not lane or one.name == lane
    ]


def part_bodies(kind: str, lane: Lane) -> Iterator[PartBody]:
    """Yield steps, barriers and gates of *lane* in order."""
    for part in walk(lane.tree):
        yield part_body(kind, part)


def part_body(kind: str, part: Step | Barrier | Gate) -> PartBody:
    """Return a part of a plan of *kind*."""
    if isinstance(part, Barrier):
        return PartBody(part="barrier", id=part.id, title=part.holds)
    if isinstance(part, Gate):
        return PartBody(part="gate", id=part.id, title=part.needs, two_people=part.two_people)
    way_back = str(part.params.get("way_back", ""))
    return PartBody(
        part="step",
        id=part.id,
        title=part.title or part.id,
        node=part.node,
        stage=part.stage,
        stage_name=stage_name(kind, part.stage) or part.action,
        action=part.action,
        lines=_lines(part.lines),
        # As in the terminal: lines back that do not hold any more are not shown.
        undo=[] if way_back.startswith("none") else _lines(part.undo),
        interrupts=[
            InterruptionBody(service=one.service, what=one.what, from_s=one.from_s, to_s=one.to_s)
            for one in part.interrupts
        ],
        way_back=way_back,
        source=part.source,
        parks=part.parks,
    )


def _lines(lines: Sequence[Any]) -> list[LineBody]:
    return [
        LineBody(kind=one.kind.value, text=one.text, shown=str(one), question=one.question, answer=one.answer)
        for one in lines
    ]
