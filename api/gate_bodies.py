"""Gates over HTTP: rows of the inbox, a gate whole, and whether whoever looks may decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import BaseModel

from api import gate_view, plan_view
from api.gate_parts import RequestBody, StageBody
from api.here import Server
from api.plan_difference import LaneDifference
from api.routes.plans import differences
from workflows import gate as rules
from workflows.actions import OpenGate, barred_at
from workflows.errors import CertbridgeError, FourEyes
from workflows.gate import StageState, Voter
from workflows.journal import RunState, gates, votes
from workflows.people import Person
from workflows.plan import Gate, Plan, Step


class MayBody(BaseModel):
    """Whether whoever looks may decide here, and why not."""

    approve: bool
    why_not_approve: str
    reject: bool
    why_not_reject: str


class GateRow(BaseModel):
    """A line of the inbox. `expires_at`: until then to be decided (open), or to be used (approved)."""

    run: str
    lane: str
    gate: str
    id: str
    kind: str
    needs: str
    status: str
    digest: str
    voided: str
    opened_at: datetime | None
    expires_at: datetime | None
    decided_by: str
    decided_at: datetime | None
    reason: str
    not_before: datetime | None
    requested_by: str
    planned_by: str
    four_eyes: bool
    stages: list[StageBody]
    current_stage: int | None
    may: MayBody


class CertificateBody(BaseModel):
    """A certificate that came or was made for a request of this gate."""

    wish: str
    subject: str
    names: list[str]
    issuer: str
    not_valid_after: datetime
    fingerprint: str
    delivered_by: str


class OrderedStep(plan_view.PartBody):
    """A step, and which of all steps behind the gate it is."""

    order: int


class NodeLinesBody(BaseModel):
    """All that will be typed on one server behind the gate, in order; `order` of a step counts over all servers."""

    node: str
    steps: list[OrderedStep]


class WaitingBody(BaseModel):
    """What the gate waits for, in words."""

    on: str
    since: datetime | None
    who: str
    people: bool


class DatabaseCostsBody(BaseModel):
    """What a rebuild costs: how long what is away, Call Bridge restarts, the way back by node, and what is lost."""

    away: plan_view.ForecastBody
    restarts: dict[str, list[str]]
    way_back: dict[str, str]
    backups: list[str]
    lost: str


class GateBody(GateRow):
    """A gate as it is decided on: `digest` is what a decision is bound to, `plan` the digest of the frozen plan.

    `difference` is that of this lane from the last plan of its cluster that succeeded.
    """

    plan: str
    purpose: str
    waiting: WaitingBody | None
    nodes: list[NodeLinesBody]
    summary: plan_view.SummaryBody
    requests: list[RequestBody]
    missing: list[str]
    certificates: list[CertificateBody]
    database: DatabaseCostsBody | None
    notices: list[str]
    difference: LaneDifference


def row(who: Person, state: RunState, one: OpenGate, stages: tuple[StageState, ...]) -> GateRow:
    """Return *one*, of a run that is at *state*, as the inbox shows it to *who*."""
    at = one.state
    return GateRow(
        run=one.run,
        lane=one.lane,
        gate=one.gate.name,
        id=one.gate.id,
        kind=state.kind,
        needs=one.gate.needs,
        status=at.status,
        digest=at.digest,
        voided=str(at.summary.get("voided", "")),
        opened_at=at.opened_at,
        expires_at=at.expires_at,
        decided_by=at.decided_by,
        decided_at=at.decided_at,
        reason=at.reason,
        not_before=at.not_before,
        requested_by=one.requested_by,
        planned_by=state.planned_by,
        four_eyes=one.four_eyes,
        stages=[StageBody(**gate_view.stage_json(each)) for each in stages],
        current_stage=rules.current(stages),
        may=may(who, one, stages),
    )


def may(who: Person, one: OpenGate, stages: tuple[StageState, ...]) -> MayBody:
    """Return whether *who* may decide, by the rules that a decision is held to."""
    if one.state.status != "open":
        why = f"It is {one.state.status} already."
        return MayBody(approve=False, why_not_approve=why, reject=False, why_not_reject=why)
    why_not = {"approve": "", "reject": ""}
    for decision in why_not:
        try:
            check_may(who, one, stages, decision)
        except CertbridgeError as error:
            why_not[decision] = str(error)
    return MayBody(
        approve=not why_not["approve"],
        why_not_approve=why_not["approve"],
        reject=not why_not["reject"],
        why_not_reject=why_not["reject"],
    )


def to_approve(who: Person, here: Server, rows: Sequence[gates.GateRow]) -> list[gates.GateRow]:
    """Return those of *rows*, gates that are open, which *who* may approve now, as `may` says of each.

    Most are told by the rows; only of one's own work the plan has to say whether four eyes are needed.
    """
    voter = Voter.of(who)
    wanted = {(one.run, one.lane, one.gate): (one.digest, one.terms) for one in rows}
    stages = here.journal.read(partial(votes.stages_of_all, wanted=wanted))

    def mine(one: gates.GateRow) -> bool:
        try:
            rules.check_approval(voter, cluster=one.lane, stages=stages[one.run, one.lane, one.gate], barred_people={})
        except CertbridgeError:
            return False
        state = here.journal.state(one.run)
        try:
            rules.check_four_eyes(who.name, barred_at(state, state.lanes[one.lane], one.name))
        except FourEyes:
            plan = here.gates_alone(one.run)
            gate = plan.lane(one.lane).part(one.gate)
            return not (plan.fleet.get("four_eyes", True) or (isinstance(gate, Gate) and gate.two_people))
        return True

    return [one for one in rows if mine(one)]


def check_may(who: Person, one: OpenGate, stages: tuple[StageState, ...], decision: str) -> None:
    """Return when *who* may approve or reject here. Raises: NotAllowed, FourEyes, AlreadyVoted, GateError."""
    voter = Voter.of(who)
    if decision == "approve":
        barred = one.others if one.four_eyes else {}
        rules.check_approval(voter, cluster=one.lane, stages=stages, barred_people=barred)
    else:
        rules.check_rejection(voter, cluster=one.lane, stages=stages, requested_by=one.requested_by, reason="asked")


def whole(who: Person, here: Server, one: OpenGate, now: datetime) -> GateBody:
    """Return *one* with all that it shows to *who*."""
    plan, state = here.plan(one.run), here.journal.state(one.run)
    (said,) = gate_view.described(here.journal, one.run, [one], now, plan)
    lane = gate_view.behind(plan.lane(one.lane), one.gate.id)
    stages = gate_view.stages_of(here.journal, [one])[one.run, one.gate.id]
    made = [CertificateBody(**each) for each in said["made"]]
    have = {each.wish for each in made}
    return GateBody(
        **row(who, state, one, stages).model_dump(),
        plan=state.digest,
        purpose=plan.purpose,
        waiting=None if said["waiting"] is None else WaitingBody(**_only(WaitingBody, said["waiting"])),
        nodes=_nodes(plan, [step for step in lane.steps() if step.lines or step.interrupts]),
        summary=plan_view.summary_body(replace(plan, lanes=(lane,), wishes=_of_lane(plan, one.lane))),
        requests=[RequestBody(**_only(RequestBody, each)) for each in said["requests"]],
        missing=[each["wish"] for each in said["requests"] if each["wish"] not in have],
        certificates=made,
        database=DatabaseCostsBody(**said["database"]) if said["database"] else None,
        notices=list(one.state.summary.get("notices", ())),
        difference=differences(here, replace(plan, lanes=(plan.lane(one.lane),)), run=one.run)[0],
    )


def _nodes(plan: Plan, steps: list[Step]) -> list[NodeLinesBody]:
    found: dict[str, list[OrderedStep]] = {}
    for order, step in enumerate(steps, 1):
        part = plan_view.part_body(plan.kind, step)
        found.setdefault(step.node, []).append(OrderedStep(order=order, **part.model_dump()))
    return [NodeLinesBody(node=node, steps=mine) for node, mine in found.items()]


def _of_lane(plan: Plan, lane: str) -> dict[str, Any]:
    return {name: wish for name, wish in plan.wishes.items() if name.partition("/")[0] == lane}


def _only(model: type[BaseModel], said: dict[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in model.model_fields}
