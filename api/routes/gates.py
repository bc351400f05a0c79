"""Gates: the inbox, one gate whole, approve and reject; CSRs out and certificates in."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api import gate_bodies, gate_view, request_sheet
from api.archives import LARGEST, MOST_FILES, collected, labelled
from api.auth.identity import asks, check_clusters
from api.gate_bodies import GateBody, GateRow
from api.gate_parts import DescribedGate
from api.here import Here, Server
from api.problems import FindingBody
from api.schemas import Body, Limit, Offset, Page, Words, page_of
from api.scope import lanes_asked, lanes_seen, sees
from workflows import actions, papers
from workflows.actions import OpenGate
from workflows.errors import Finding, GateError, InputError, NotThere
from workflows.gate import SIGN
from workflows.journal import gates, lists
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["gates"])
Reader = Annotated[Person, asks(Permission.READ)]
Approver = Annotated[Person, asks(Permission.DECIDE)]
Operator = Annotated[Person, asks(Permission.OPERATE)]
Status = Literal["open", "approved", "rejected", "waiting"]
Lane = Annotated[str, Query(description="Only this lane.")]
OnlyCheck = Annotated[bool, Query(description="Only say whether it may be decided so; nothing is decided.")]
_WAITING = ("open", "approved", "rejected")
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="What was shown: `digest` of the gate.")]


class ApprovalBody(Body):
    """An approval of what *digest* names; nothing moves before *not_before*."""

    digest: Digest
    reason: Words = ""
    not_before: AwareDatetime | None = None


class RejectionBody(Body):
    """A rejection of what *digest* names; whoever asked for the run reads the reason."""

    digest: Digest
    reason: Annotated[Words, Field(min_length=1)]


class FileBody(BaseModel):
    """A file of a delivery: the wishes whose certificate it holds, or what is wrong with it."""

    name: str
    wishes: list[str]
    faults: list[FindingBody]


class DeliveryBody(BaseModel):
    """What came of a delivery. With `faults` nothing was taken; `complete` are the lanes that have all they need."""

    files: list[FileBody]
    faults: list[FindingBody]
    warnings: list[FindingBody]
    taken: list[str]
    missing: list[str]
    complete: list[str]


class DeliveredBody(BaseModel):
    """Who brought which certificates (wish → SHA-256 of the certificate) when; "issuer" is one that signs by itself."""

    at: datetime
    by: str
    lane: str
    certificates: dict[str, str]


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/gates")
def list_gates(
    who: Reader, here: Here, mine: bool = False, status: Status = "open", limit: Limit = 50, offset: Offset = 0
) -> Page[GateRow]:
    """List gates of runs that are open, oldest first; *mine*: those that whoever asks may approve now.

    `waiting` is open, approved or rejected: all that was not passed yet.
    """
    wanted = ("open",) if mine else _WAITING if status == "waiting" else (status,)
    rows = here.journal.read(partial(gates.open_gates, statuses=wanted))
    rows = [one for one in rows if sees(who, one.lane)]
    rows = gate_bodies.to_approve(who, here, rows) if mine else rows
    part = _opened(here, [(one.run, one.gate) for one in rows[offset : offset + limit]])
    return page_of(_rows(who, here, part), len(rows), limit, offset)


@router.get("/gates/described")
def list_described(
    who: Reader,
    here: Here,
    run: str = "",
    lane: Lane = "",
    gate: Annotated[str, Query(description="Only gates of this name.")] = "",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Page[DescribedGate]:
    """List gates as the command line shows them: those of *run* that were opened, or of all runs those that wait."""
    if run:
        seen, plan = lanes_asked(who, here, run, lane), here.gates_alone(run)
        every = actions.open_gates(here.journal, run, lane=lane, name=gate, plan=plan)
        found = [one for one in every if one.lane in seen]
        part, total = found[offset : offset + limit], len(found)
    else:
        part, total = _waiting(who, here, lane, gate, limit, offset)
    now = datetime.now(UTC)
    items = [
        DescribedGate.model_validate(said)
        for name, mine in groupby(part, key=lambda one: one.run)
        for said in gate_view.described(here.journal, name, list(mine), now, here.plan(name))
    ]
    return page_of(items, total, limit, offset)


@router.get("/runs/{run}/gates")
def list_gates_of_run(who: Reader, here: Here, run: str, limit: Limit = 50, offset: Offset = 0) -> Page[GateRow]:
    """List the gates of a run that were opened, decided or not, in the order of its plan."""
    seen = lanes_seen(who, here, run)
    every = [one for one in actions.open_gates(here.journal, run, plan=here.gates_alone(run)) if one.lane in seen]
    return page_of(_rows(who, here, every[offset : offset + limit]), len(every), limit, offset)


@router.get("/runs/{run}/gates/{lane}/{name}")
def show_gate(who: Reader, here: Here, run: str, lane: str, name: str) -> GateBody:
    """Show a gate as it is decided on: lines, interruptions, requests, certificates, votes, and who may decide."""
    return gate_bodies.whole(who, here, find_gate(who, here, run, lane, name), datetime.now(UTC))


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.post("/runs/{run}/gates/{lane}/{name}/approve")
def approve(
    who: Approver, here: Here, run: str, lane: str, name: str, body: ApprovalBody, check: OnlyCheck = False
) -> GateRow:
    """Approve what was shown. The gate is `open` still while more people are needed."""
    if check:
        return _check(who, here, (run, lane, name), "approve", body.digest, body.reason)
    return _decide(who, here, (run, lane, name), "approve", body.digest, body.reason, body.not_before)


@router.post("/runs/{run}/gates/{lane}/{name}/reject")
def reject(
    who: Reader, here: Here, run: str, lane: str, name: str, body: RejectionBody, check: OnlyCheck = False
) -> GateRow:
    """Reject what was shown; the lane stops. Approvers of this and later stages may, and whoever asked for the run."""
    if check:
        return _check(who, here, (run, lane, name), "reject", body.digest, body.reason)
    return _decide(who, here, (run, lane, name), "reject", body.digest, body.reason, None)


def _decide(
    who: Person,
    here: Server,
    place: tuple[str, str, str],
    decision: Literal["approve", "reject"],
    digest: str,
    reason: str,
    not_before: datetime | None,
) -> GateRow:
    one = find_gate(who, here, *place)
    actions.decide(
        here.journal,
        one,
        decision=decision,
        by=who.name,
        digest=digest,
        reason=reason,
        not_before=not_before,
        person=who,
    )
    (after,) = _rows(who, here, [find_gate(who, here, *place)])
    return after


def _check(
    who: Person,
    here: Server,
    place: tuple[str, str, str],
    decision: Literal["approve", "reject"],
    digest: str,
    reason: str,
) -> GateRow:
    """Return the gate as it stands. Raises: what a decision would."""
    one = find_gate(who, here, *place)
    actions.check_decision(one, decision=decision, by=who.name, digest=digest, reason=reason)
    stages = gate_view.stages_of(here.journal, [one])[one.run, one.gate.id]
    gate_bodies.check_may(who, one, stages, decision)
    return gate_bodies.row(who, here.journal.state(one.run), one, stages)


# ── CSRs out ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@router.get(
    "/runs/{run}/csr",
    response_class=Response,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def requests_zip(
    who: Reader,
    here: Here,
    run: str,
    lane: Lane = "",
    sheet: Annotated[bool, Query(description="The sheet of all lanes, also while no CSR is given out yet.")] = False,
) -> Response:
    """Give the CSR files and the request sheet of the lanes whose gate `sign` is approved, as a .zip archive."""
    seen, plan = lanes_asked(who, here, run, lane), here.plan(run)
    opened = [one for one in actions.open_gates(here.journal, run, name=SIGN, plan=plan) if one.lane in seen]
    released = {one.lane for one in opened if one.state.status in {"approved", "passed"}}
    if not released and not (sheet and opened):
        raise GateError(
            f"The CSRs of run {run} come once `sign` is approved.", remedy="See the gate for who may approve it."
        )
    told = [one.lane for one in opened if sheet or one.lane in released]
    every = {one: request_sheet.requests(here.journal, run, plan, one) for one in told}
    found = [one for requests in every.values() for one in requests]
    files: dict[str, str | bytes] = {
        "request-sheet.txt": request_sheet.as_text(run, found),
        "request-sheet.csv": request_sheet.as_csv(found),
    }
    files |= {one.file: one.pem for name in every if name in released for one in every[name]}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    headers = {"Content-Disposition": f'attachment; filename="csr-{run}.zip"'}
    return Response(packed.getvalue(), media_type="application/zip", headers=headers)


# ── certificates in ──────────────────────────────────────────────────────────────────────────────────────────────────
async def uploaded(request: Request) -> dict[str, bytes]:
    """Return the files that *request* brings, archives unpacked. Raises: InputError: none, too many, too large."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InputError("A delivery is a form with files.", remedy="Send multipart/form-data, each file as `files`.")

    async def counted() -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST + 1_000_000:  # borders and headers of the parts
                raise InputError(f"more than {LARGEST // 1_000_000} MB", remedy="Send certificates only.")
            yield chunk

    parser = MultiPartParser(request.headers, counted(), max_files=MOST_FILES, max_fields=10)
    parser.spool_max_size = 2 * LARGEST  # in memory: what is counted fits, and nothing is left on the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        said = getattr(error, "message", "") or "it is damaged"
        raise InputError(f"The form cannot be read: {said}", remedy="Send it again.") from None
    try:
        sent = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
        read = [(one.filename or "file", await one.read()) for one in sent]
    finally:
        await form.close()
    found = collected(labelled(read))
    if not found:
        raise InputError("There are no files.", remedy="Send each file as `files`.")
    return found


Files = Annotated[dict[str, bytes], Depends(uploaded)]
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["files"],
    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}},
}


@router.post(
    "/runs/{run}/deliveries",
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
def deliver(who: Operator, here: Here, files: Files, run: str, lane: str = "", check: bool = False) -> DeliveryBody:
    """Take signed certificates of any format, in any order; all that came must be right, or nothing is taken.

    *check*: only look. Then faults are part of the answer, file by file; otherwise they are a problem.
    """
    return take(who, here, files, run, lane, check=check)


def take(who: Person, here: Server, files: dict[str, bytes], run: str, lane: str, *, check: bool) -> DeliveryBody:
    """Look at *files*, and take them if all is right and it is not only a *check*."""
    lanes_asked(who, here, run, lane)
    every = here.journal.read(partial(lists.lanes_of, run=run))
    check_clusters(who, Permission.OPERATE, [lane] if lane else every)
    found = papers.examine(here.journal, run, files, now=datetime.now(UTC), lane=lane)
    took = None if check else papers.take(here.journal, run, found, by=who.name)
    return DeliveryBody(
        files=[FileBody(name=one.name, wishes=list(one.wishes), faults=_findings(one.faults)) for one in found.files],
        faults=_findings(found.faults),
        warnings=_findings(found.warnings),
        taken=list(took.taken) if took else [],
        missing=list(took.missing) if took else [],
        complete=list(took.complete) if took else [],
    )


@router.get("/runs/{run}/deliveries")
def list_deliveries(who: Reader, here: Here, run: str, limit: Limit = 50, offset: Offset = 0) -> Page[DeliveredBody]:
    """List who delivered which certificates when, oldest first."""
    seen = lanes_seen(who, here, run)
    events = [one for one in here.journal.read(partial(gates.deliveries, run=run)) if one.lane in seen]
    items = [
        DeliveredBody(
            at=one.at,
            by=one.actor,
            lane=one.lane,
            certificates={wish: str(said["leaf"]) for wish, said in one.data["certificates"].items()},
        )
        for one in events[offset : offset + limit]
    ]
    return page_of(items, len(events), limit, offset)


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def find_gate(who: Person, here: Server, run: str, lane: str, name: str) -> OpenGate:
    """Return the gate, for somebody who may see it. Raises: NotThere."""
    if lane in lanes_seen(who, here, run):
        found = actions.open_gates(here.journal, run, lane=lane, name=name, plan=here.gates_alone(run))
        if found:
            # A lane has one gate of a name; should it once have more, the one that is open is meant.
            return next((one for one in found if one.state.status == "open"), found[-1])
    raise NotThere(f"Run {run} stands at no gate {name} of lane {lane}.", remedy="See the list of gates.")


def _waiting(who: Person, here: Server, lane: str, name: str, limit: int, offset: int) -> tuple[list[OpenGate], int]:
    """Return a page of all gates that wait, run by run, and how many there are; only runs of the page are looked at."""
    by_run: dict[str, set[str]] = {}
    for one in here.journal.read(partial(gates.open_gates, statuses=_WAITING)):
        if sees(who, one.lane):
            here_too = by_run.setdefault(one.run, set())  # a run stands where its oldest gate does, asked for or not
            here_too |= {one.gate} if lane in {"", one.lane} and name in {"", one.name} else set()
    found: list[OpenGate] = []
    first = 0
    for run, wanted in by_run.items():
        begin, end = max(0, offset - first), max(0, offset + limit - first)
        if wanted and begin < min(end, len(wanted)):
            every = actions.open_gates(here.journal, run, plan=here.gates_alone(run))
            found += [one for one in every if one.gate.id in wanted][begin:end]
        first += len(wanted)
    return found, first


def _opened(here: Server, wanted: Sequence[tuple[str, str]]) -> list[OpenGate]:
    """Return the gates (run, id) of *wanted* in that order."""
    runs = dict.fromkeys(run for run, _ in wanted)
    every = {
        (run, one.gate.id): one
        for run in runs
        for one in actions.open_gates(here.journal, run, plan=here.gates_alone(run))
    }
    return [every[one] for one in wanted if one in every]


def _rows(who: Person, here: Server, opened: Sequence[OpenGate]) -> list[GateRow]:
    stages = gate_view.stages_of(here.journal, opened) if opened else {}
    states = {run: here.journal.state(run) for run in {one.run for one in opened}}
    return [gate_bodies.row(who, states[one.run], one, stages[one.run, one.gate.id]) for one in opened]


def _findings(found: Sequence[Finding]) -> list[FindingBody]:
    return [FindingBody(**asdict(one)) for one in found]
