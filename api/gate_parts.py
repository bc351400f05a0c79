"""The parts of a gate as JSON, and a gate as the command line shows it on the machine and from elsewhere alike.

Only shapes: `api.gate_view` makes the values, `api.gate_bodies` what the pages show of a gate.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from api.run_bodies import WaitingBody


class VoteBody(BaseModel):
    """An approval. `counts` is false when its voter may not approve any more.

    `invited_by` is told when an invitation of that one set the voter's password in the 30 days before the vote.
    """

    name: str
    stage: int
    via: str
    at: datetime
    reason: str
    not_before: datetime | None
    counts: bool
    invited_by: str
    invited_at: datetime | None


class StageBody(BaseModel):
    """A stage: so many different people of `group` ("": anybody who may approve); `missing` says how many more."""

    group: str
    needs: int
    missing: int
    votes: list[VoteBody]


class RequestBody(BaseModel):
    """A CSR, decoded. `spki_sha256` is the digest of its public key."""

    wish: str
    subject: str
    names: list[str]
    key: str
    signature: str
    usages: list[str]
    spki_sha256: str
    issuer: str
    file: str


class MadeBody(BaseModel):
    """A certificate that came or was made for a request of this gate. `not_valid_after` is ISO 8601."""

    wish: str
    delivered_by: str
    subject: str
    names: list[str]
    issuer: str
    not_valid_after: str
    fingerprint: str


class DescribedGate(BaseModel):
    """A gate as `certbridge gates show` shows it (`api.gate_view.described`).

    `summary` is what its digest stands for, `certificates` the wishes of `made`; `database` is what a rebuild costs at
    the point of no return, and empty elsewhere.
    """

    run: str
    id: str
    lane: str
    gate: str
    status: str
    digest: str
    summary: dict[str, Any]
    voided: str
    opened_at: datetime | None
    decided_by: str
    decided_at: datetime | None
    reason: str
    not_before: datetime | None
    requested_by: str
    four_eyes: bool
    expires_at: datetime | None
    stages: list[StageBody]
    waiting: WaitingBody | None
    requests: list[RequestBody]
    certificates: list[str]
    made: list[MadeBody]
    database: dict[str, Any]
