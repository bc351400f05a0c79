"""What people may do to a run: start, approve, reject, deliver, resume, pause, cancel. CLI and API call these.

Everything here writes SQL only (DESIGN.md section 4); the control worker sees the outbox and moves. No Celery message
is sent from here and no server is touched.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from workflows import gate as rules
from workflows.errors import InputError, PlanError
from workflows.inventory import Approval, IssuerKind, ResolvedFleet, approval_of
from workflows.journal import gates, lanes, outbox, runs
from workflows.journal.fold import GateState, LaneState, RunState, StepState
from workflows.journal.store import Journal, Transaction
from workflows.people import Person
from workflows.plan import DATABASE, Gate, Lane, Plan, Step

READING_KINDS = frozenset({"survey", "trust"})


def new_run_id(now: datetime) -> str:
    """Return a fresh run id that sorts by time and is easy to say: "20261123-1405-k7f2"."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return f"{now:%Y%m%d-%H%M}-{''.join(secrets.choice(alphabet) for _ in range(4))}"


def start_run(
    journal: Journal,
    plan: Plan,
    *,
    by: str,
    run: str,
    planned_by: str = "",
    also: Callable[[Transaction], None] | None = None,
) -> None:
    """Write run, plan and lanes in one commit; the control worker begins within a second.

    *planned_by* made the plan, "" when it was *by*. *also* joins the commit (sealed keys that were brought in).
    Raises: PlanError (an empty plan), Reserved (another run holds one of the nodes; nothing is written).
    """
    if plan.empty:
        raise PlanError((), "There is nothing to do: everything is as wanted.")
    resources = resources_of(plan)

    def write(tx: Transaction) -> None:
        runs.create_run(
            tx,
            run=run,
            kind=plan.kind,
            plan=plan.to_json(),
            digest=plan.digest(),
            fleet=str(plan.fleet.get("name", "")),
            requested_by=by,
            lanes=[lane.name for lane in plan.lanes],
            resources=resources,
            planned_by=planned_by,
        )
        if also is not None:
            also(tx)

    journal.write(write)


def resources_of(plan: Plan) -> tuple[str, ...]:
    """Return what a run of *plan* reserves: its nodes, and the clusters whose database it takes apart."""
    nodes = () if plan.kind in READING_KINDS else tuple(f"node:{node}" for node in plan.nodes() if node)
    return (*nodes, *(f"cluster:{lane.name}" for lane in plan.lanes if plan.kind == DATABASE))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGate:
    """A gate that waits for people: what it is, what it is bound to, who may decide."""

    run: str
    lane: str
    gate: Gate
    state: GateState
    requested_by: str
    four_eyes: bool
    terms: Approval
    others: Mapping[str, str]
    """{name: why} of those who may not approve beside the requester (`workflows.gate.barred`)."""


def open_gates(
    journal: Journal, run: str, *, lane: str = "", name: str = "", plan: Plan | None = None
) -> tuple[OpenGate, ...]:
    """Return the gates of *run* that were opened, decided or not, in the order of lanes and plan.

    *plan* is that of the run, where it is at hand.
    """
    plan = plan or Plan.from_json(journal.plan(run))
    state = journal.state(run)
    four_eyes = bool(plan.fleet.get("four_eyes", True))
    return tuple(
        OpenGate(
            run=run,
            lane=one.name,
            gate=gate,
            state=state.lanes[one.name].gates[gate.id],
            requested_by=state.requested_by,
            four_eyes=four_eyes or gate.two_people,
            terms=approval_of(plan.fleet, gate.name),
            others=barred_at(state, state.lanes[one.name], gate.name),
        )
        for one in plan.lanes
        if not lane or one.name == lane
        for gate in one.gates()
        if gate.id in state.lanes[one.name].gates and (not name or gate.name == name)
    )


def barred_at(state: RunState, lane: LaneState, gate: str) -> dict[str, str]:
    """Return {name: why} of those who may not approve: who asked, who planned, who brought what the gate shows."""
    return rules.barred(
        requested_by=state.requested_by,
        planned_by=state.planned_by,
        delivered_by=set(lane.delivered_by.values()) if gate != rules.SIGN else (),
    )


def decide(
    journal: Journal,
    opened: OpenGate,
    *,
    decision: str,
    by: str,
    digest: str = "",
    reason: str = "",
    not_before: datetime | None = None,
    person: Person | None = None,
) -> gates.GateRow:
    """Approve or reject one gate, and return it as it stands then; exactly one decision wins.

    *person* is who asks over the API, *by* the same one's name; without *person* it is the account of this machine.
    An approval is a vote: the gate is open still while more people are needed. *digest* is what the approver looked at
    ("" takes what stands there now). An approved *go* gate lets the lane through; an approved *sign* gate waits for the
    certificates, from people or from the issuer.
    Raises: GateDecided, AlreadyVoted, DigestChanged, FourEyes, NotAllowed, GateError; InputError: *not_before* is later
    than the approval is good for.
    """
    return journal.write(
        lambda tx: gates.decide(
            tx,
            run=opened.run,
            lane=opened.lane,
            gate=opened.gate.id,
            decision="approve" if decision == "approve" else "reject",
            by=by,
            reason=reason,
            digest=digest or opened.state.digest,
            not_before=not_before,
            four_eyes=opened.four_eyes,
            two_people=opened.gate.two_people,
            requested_by=opened.requested_by,
            others=opened.others,
            person=person,
        )
    )


def check_decision(opened: OpenGate, *, decision: str, by: str, digest: str = "", reason: str = "") -> None:
    """Return when *by* may decide so, as far as it can be told beforehand: nobody reads a hundred lines to be refused.

    For those who are about to be asked; `decide` checks all of it by itself, in the commit of the decision.
    Raises: GateError, DigestChanged, FourEyes.
    """
    rules.check_decision(
        decision=decision,
        by=by,
        requested_by=opened.requested_by,
        four_eyes=opened.four_eyes,
        two_people=opened.gate.two_people,
        digest=digest,
        current_digest=opened.state.digest,
        reason=reason,
        others=opened.others,
    )


def resume(journal: Journal, run: str, *, by: str, lane: str = "") -> tuple[str, ...]:
    """Let stopped or paused lanes go on: failed steps are open again, what is done stays done. Returns the lanes."""
    names = lanes_of(journal, run, lane)
    _open_run(journal, run)
    plan, state = Plan.from_json(journal.plan(run)), journal.state(run)
    keep = {name: _still_parked(plan.lane(name), state.lanes[name]) for name in names}
    return journal.write(lambda tx: tuple(name for name in names if lanes.resume_lane(tx, run, name, by, keep[name])))


def _still_parked(lane: Lane, state: LaneState) -> frozenset[str]:
    """Return the parked steps that stay so, because another operation of their database may still be under way."""
    operations = [step for step in lane.steps() if "operation" in step.params and step.id in state.steps]
    if not any(_may_be_under_way(step, state.steps[step.id]) for step in operations):
        return frozenset()
    return frozenset(step.id for step in operations if state.steps[step.id].status == "parked")


def _may_be_under_way(step: Step, state: StepState) -> bool:
    """Return whether an operation goes on by what is known; one that failed before its line went out does not."""
    sent = dict(state.lines).get(len(step.lines) - 1) in {"intent", "ok", "unknown"}
    return state.status in {"waiting", "running"} or (state.status == "failed" and sent)


def pause(journal: Journal, run: str, *, by: str, lane: str = "", reason: str = "") -> tuple[str, ...]:
    """Hold lanes at the next step border. Returns the lanes that were moving."""
    names = lanes_of(journal, run, lane)
    return journal.write(lambda tx: tuple(name for name in names if lanes.pause_lane(tx, run, name, by, reason)))


def cancel(journal: Journal, run: str, *, by: str, reason: str = "") -> tuple[str, ...]:
    """End all lanes at their next step border, and free the nodes. Returns the lanes that were cancelled."""
    names = lanes_of(journal, run, "")

    def write(tx: Transaction) -> tuple[str, ...]:
        ended = tuple(name for name in names if lanes.cancel_lane(tx, run, name, by, reason))
        outbox.add(tx, "settle", run, "")
        return ended

    return journal.write(write)


def _open_run(journal: Journal, run: str) -> None:
    state = journal.state(run)
    if state.outcome == "done":
        raise InputError(f"Run {run} is done; there is nothing to resume.", remedy="Make a new plan.")
    if state.outcome == "cancelled":
        raise InputError(f"Run {run} was cancelled.", remedy="Make a new plan and a new run.")


def lanes_of(journal: Journal, run: str, lane: str) -> tuple[str, ...]:
    """Return *lane*, or all lanes of *run* without one. Raises: InputError: there is no such lane."""
    names = tuple(journal.state(run).lanes)
    if lane and lane not in names:
        raise InputError(f"Run {run} has no lane {lane}.", remedy=f"Its lanes are: {', '.join(names)}.")
    return (lane,) if lane else names


def automatic(fleet: ResolvedFleet, issuer: str) -> bool:
    """Return whether *issuer* signs by itself after the approval, so that nobody has to bring files."""
    return fleet.issuer(issuer).kind is not IssuerKind.MANUAL
