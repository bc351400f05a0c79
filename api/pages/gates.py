"""The inbox, and a gate: all that an approver must see on one page, the decision, and the signed certificates in."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from api import gate_view, plan_view
from api.archives import LARGEST
from api.gate_bodies import GateBody
from api.here import Here, Server
from api.pages.drawing import draw
from api.pages.reading import Decider, Operator, Reader, Watcher
from api.pages.settings import body_of
from api.routes import gates, plans
from api.routes.gates import Files
from api.scope import plan_seen
from workflows.errors import GateError, InputError
from workflows.gate import SIGN
from workflows.people import Permission, Person

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=2000)]
_MOST = 500


@router.get("/gates")
def show_inbox(who: Reader, here: Here, request: Request) -> Response:
    """Show what waits for people: open gates, and those approved that still need certificates."""
    waiting = gates.list_gates(who, here, limit=_MOST, offset=0).items
    approved = gates.list_gates(who, here, status="approved", limit=_MOST, offset=0).items
    signing = [one for one in approved if one.gate == SIGN]
    found = [*waiting, *signing]
    purposes = {run: here.plan(run).purpose for run in {one.run for one in found}}
    return draw(request, "gates.html", gates=found, purposes=purposes)


@router.get("/gates/count")
def show_count(who: Watcher, request: Request) -> Response:
    """Return the number beside "Inbox", for a page that is open."""
    del who  # `draw` counts what they may see
    return draw(request, "parts/inbox_count.html")


@router.get("/runs/{run}/gates/{lane}/{name}")
def show_gate(who: Reader, here: Here, request: Request, run: str, lane: str, name: str) -> Response:
    """Show a gate as it is decided on."""
    return _gate(who, here, request, gates.show_gate(who, here, run, lane, name))


@router.get("/runs/{run}/gates/{lane}/{name}/now")
def show_now(who: Watcher, here: Here, request: Request, run: str, lane: str, name: str, seen: str = "") -> Response:
    """Say whether the gate is still as it was *seen*; a page that is open asks whenever its run has moved.

    What is shown stays as it is: somebody may be reading it, or writing down a reason.
    """
    gate = gates.show_gate(who, here, run, lane, name)
    return draw(request, "parts/gate_moved.html", gate=gate, changed=seen != _standing(gate), moved=True)


@router.post("/runs/{run}/gates/{lane}/{name}/approve")
def approve(
    who: Decider, here: Here, run: str, lane: str, name: str, digest: Text, reason: Text = "", not_before: Text = ""
) -> RedirectResponse:
    """Approve what was shown, named by its digest."""
    body = body_of(gates.ApprovalBody, digest=digest, reason=reason, not_before=_moment(not_before))
    gates.approve(who, here, run, lane, name, body)
    return RedirectResponse(f"/runs/{run}/gates/{lane}/{name}", 303)


@router.post("/runs/{run}/gates/{lane}/{name}/reject")
def reject(
    who: Reader, here: Here, run: str, lane: str, name: str, digest: Text, reason: Text = ""
) -> RedirectResponse:
    """Reject what was shown. Raises: GateError: without a reason."""
    if not reason.strip():
        raise GateError("A rejection needs a reason.", remedy="Say why: whoever asked for the run reads it.")
    gates.reject(who, here, run, lane, name, body_of(gates.RejectionBody, digest=digest, reason=reason))
    return RedirectResponse(f"/runs/{run}/gates/{lane}/{name}", 303)


@router.post("/runs/{run}/gates/{lane}/{name}/deliver")
def deliver(who: Operator, here: Here, request: Request, files: Files, run: str, lane: str, name: str) -> Response:
    """Take the files, if all of them are right, and show each: matched, or with its fault."""
    seen = gates.take(who, here, files, run, lane, check=True)
    if not seen.faults:
        seen = gates.take(who, here, files, run, lane, check=False)
    return _gate(who, here, request, gates.show_gate(who, here, run, lane, name), delivery=seen)


def _gate(
    who: Person, here: Server, request: Request, gate: GateBody, delivery: gates.DeliveryBody | None = None
) -> Response:
    plan = here.plan(gate.run)
    rest = gate_view.behind(plan.lane(gate.lane), gate.id)
    told = {each.where for one in delivery.files for each in one.faults} if delivery else set()
    return draw(
        request,
        "gate.html",
        gate=gate,
        parts=list(plan_view.part_bodies(plan.kind, rest)),
        notices=[*dict.fromkeys((*gate.notices, *plan_seen(who, plan).notices))],
        difference=[one for one in plans.differences(here, plan, run=gate.run) if one.lane == gate.lane],
        delivers=gate.gate == SIGN and gate.status == "approved" and who.may(Permission.OPERATE, (gate.lane,)),
        delivery=delivery,
        standing=_standing(gate),
        most=LARGEST,
        named=told,
    )


def _standing(gate: GateBody) -> str:
    """Return what stands for all that people do at a gate: it is another one after each decision and delivery."""
    about = gate.model_dump_json(include={"status", "digest", "voided", "stages", "decided_by", "missing"})
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def _moment(text: str) -> datetime | None:
    """Return what a field of date and time holds, UTC. Raises: InputError."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"{text!r} is no date and time.", remedy="Write it as 2026-11-26T14:00.") from None
