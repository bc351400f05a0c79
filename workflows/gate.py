"""The pure rules of a gate: what a decision is bound to, and who may decide.

A gate ends a lane's canvas (DESIGN.md section 7, stages 400 and 550). The decision is bound to a digest: *sign* to the
plan and the CSRs, *go* and *point of no return* to the plan and the certificates. One decision per gate wins; that is
`journal.gates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from workflows.canonical import digest_of_json
from workflows.errors import DigestChanged, FourEyes, GateError

SIGN = "sign"
GO = "go"
POINT_OF_NO_RETURN = "point-of-no-return"


def digest_of(gate: str, plan_digest: str, lane: str, papers: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) that a decision on *gate* is bound to.

    *papers* maps wish ids to the SHA-256 of what lies before the approver: the CSR at *sign*, else the certificate.
    """
    return digest_of_json({"gate": gate, "plan": plan_digest, "lane": lane, "papers": dict(papers)})


def check_decision(
    *,
    decision: str,
    by: str,
    requested_by: str,
    four_eyes: bool,
    digest: str,
    current_digest: str,
    reason: str,
    two_people: bool = False,
) -> None:
    """Return when this decision may be taken; *two_people*: whatever the inventory says of four eyes.

    Raises: FourEyes (approving one's own run), DigestChanged (something else stands there now), GateError (a rejection
    without a reason). Rejecting one's own run is allowed: it stops, it does not let through.
    """
    if decision == "reject" and not reason.strip():
        raise GateError("A rejection needs a reason.", remedy='Say why: `gates reject RUN --reason "…"`.')
    if digest and digest != current_digest:
        raise DigestChanged(f"You looked at {digest[:12]}, but {current_digest[:12]} stands there now.")
    if decision == "approve" and (four_eyes or two_people) and by == requested_by:
        remedy = "The primary was named by hand, so another account must approve, whatever `four_eyes` says."
        raise FourEyes(f"{by} asked for this run and may not approve it.", remedy=remedy if two_people else "")


def opens_at(not_before: datetime | None, now: datetime) -> bool:
    """Return whether an approved gate lets the lane through at *now*."""
    return not_before is None or now >= not_before
