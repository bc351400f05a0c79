"""What a gate shows to the people who decide, as plain values; command line, API and pages draw them.

At *sign* the requests, later the certificates that came of them, and always the exact lines that are left. At the point
of no return also what the rebuild of the database cluster costs (DESIGN.md section 7, last paragraph): how long each
node is away, every Call Bridge that restarts, the writes that are lost, and whether there is a way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from api import request_sheet

if TYPE_CHECKING:
    from workflows.actions import OpenGate
    from workflows.gate import StageState
    from workflows.journal import Journal, LaneState
    from workflows.plan import Lane, Plan, Step


def described(
    journal: Journal, run: str, opened: Sequence[OpenGate], now: datetime, plan: Plan | None = None
) -> list[dict[str, Any]]:
    """Return everything that is known of the gates in *opened*, in plain values (times excepted)."""
    from api.run_view import waiting_on
    from workflows.plan import Plan

    plan = plan or Plan.from_json(journal.plan(run))
    state = journal.state(run)
    stages = stages_of(journal, opened)
    found = []
    for one in opened:
        here = state.lanes[one.lane]
        requests = request_sheet.requests(journal, run, plan, one.lane)
        waiting = waiting_on(plan, state, here, one.state, now)
        made = _certificates(journal, plan, one, here)
        found.append(
            {
                "run": run,
                "id": one.gate.id,
                "lane": one.lane,
                "gate": one.gate.name,
                "status": one.state.status,
                "digest": one.state.digest,
                "summary": one.state.summary,
                "voided": str(one.state.summary.get("voided", "")),
                "opened_at": one.state.opened_at,
                "decided_by": one.state.decided_by,
                "decided_at": one.state.decided_at,
                "reason": one.state.reason,
                "not_before": one.state.not_before,
                "requested_by": one.requested_by,
                "four_eyes": one.four_eyes,
                "expires_at": one.state.expires_at,
                "stages": [stage_json(each) for each in stages[run, one.gate.id]],
                "waiting": None if waiting is None else asdict(waiting),
                "requests": [request_sheet.as_json(each) for each in requests],
                "certificates": [each["wish"] for each in made],
                "made": made,
                "database": _database(plan.lane(one.lane), one),
            }
        )
    return found


def stages_of(journal: Journal, opened: Sequence[OpenGate]) -> dict[tuple[str, str], tuple[StageState, ...]]:
    """Return {(run, gate id): stages with their votes}, each vote judged by its voter's account as it is now."""
    from workflows.journal import votes

    wanted = {(one.run, one.lane, one.gate.id): (one.state.digest, one.terms) for one in opened}
    found = journal.read(partial(votes.stages_of_all, wanted=wanted))
    return {(run, gate): stages for (run, _, gate), stages in found.items()}


def stage_json(stage: StageState) -> dict[str, Any]:
    """Return {"group", "needs", "missing", "votes": [{…}]}."""
    names = ("stage", "name", "via", "at", "reason", "not_before", "counts", "invited_by", "invited_at")
    votes = [{name: getattr(vote, name) for name in names} for vote in stage.votes]
    return {"group": stage.group, "needs": stage.needs, "missing": stage.missing, "votes": votes}


def behind(lane: Lane, gate: str) -> Lane:
    """Return what is left of *lane* behind *gate*."""
    from workflows.plan import Lane as AnyLane
    from workflows.plan import Seq, walk

    leaves = list(walk(lane.tree))
    place = next(number for number, leaf in enumerate(leaves) if leaf.id == gate)
    return AnyLane(name=lane.name, tree=Seq(tuple(leaves[place + 1 :])))


def _certificates(journal: Journal, plan: Plan, one: OpenGate, state: LaneState) -> list[dict[str, Any]]:
    """Return the certificates of the lane that are made: [{"wish", "subject", "names", "issuer", …}]."""
    from workflows import papers
    from workflows.gate import POINT_OF_NO_RETURN
    from workflows.journal import stock
    from workflows.x509.bundle import split
    from workflows.x509.renewal import view

    found = []
    for wish, blob in papers.papers_of(plan, one.lane, POINT_OF_NO_RETURN, state).items():
        seen = view(split(journal.read(partial(stock.get_blob, sha256=blob)))[0])
        found.append(
            {
                "wish": wish,
                "delivered_by": state.delivered_by.get(wish, ""),
                "subject": str(seen.subject),
                "names": [*seen.sans.dns, *seen.sans.ip, *seen.sans.email],
                "issuer": seen.issuer,
                "not_valid_after": seen.not_after.isoformat(),
                "fingerprint": seen.fingerprint,
            }
        )
    return found


def _database(lane: Lane, one: OpenGate) -> dict[str, Any]:
    """Return {"away", "restarts", "way_back", "backups", "lost"} at the point of no return, {} at other gates."""
    from workflows import outage
    from workflows.gate import POINT_OF_NO_RETURN

    if one.gate.name != POINT_OF_NO_RETURN:
        return {}
    steps = list(lane.steps())
    return {
        "away": outage.forecast(lane),
        "restarts": {node: list(operations) for node, operations in outage.restarts(lane).items()},
        "way_back": {step.node: str(step.params["way_back"]) for step in steps if "way_back" in step.params},
        "backups": [step.node for step in steps if step.action == "database_backup"],
        "lost": _lost(steps),
    }


def _lost(steps: Sequence[Step]) -> str:
    """Return what is said of writes: lost wherever a node gets the data of another, "" when none does."""
    primary = next((str(step.params["primary_node"]) for step in steps if "primary_node" in step.params), "")
    if not primary or not any(step.action == "database_remove" for step in steps):
        return ""
    return f"writes to any node but {primary} are lost, from the first `remove` to the last barrier"
