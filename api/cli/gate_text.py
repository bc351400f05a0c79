"""What a gate shows to the people who decide: as values for programs, and in lines of text.

At *sign* the requests, later the certificates that came of them, and always the exact lines that are left. At the point
of no return also what the rebuild of the database cluster costs (DESIGN.md section 7, last paragraph): how long each
node is away, every Call Bridge that restarts, the writes that are lost, and whether there is a way back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from api.cli import request_sheet
from api.cli.output import Span, moment
from api.cli.run_text import STYLES
from api.cli.surroundings import now

if TYPE_CHECKING:
    from workflows.actions import OpenGate
    from workflows.journal import Journal, LaneState
    from workflows.plan import Lane, Plan, Step

Spans = tuple[Span, ...]


def described(journal: Journal, run: str, opened: Sequence[OpenGate]) -> list[dict[str, Any]]:
    """Return everything that is known of the gates in *opened*, in plain values (times excepted)."""
    from api.run_view import waiting_on
    from workflows.plan import Plan

    plan = Plan.from_json(journal.plan(run))
    state = journal.state(run)
    found = []
    for one in opened:
        here = state.lanes[one.lane]
        requests = request_sheet.requests(journal, run, plan, one.lane)
        waiting = waiting_on(plan, here, one.state, one.requested_by, now())
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
                "waiting": None if waiting is None else asdict(waiting),
                "requests": [request_sheet.as_json(each) for each in requests],
                "certificates": [each["wish"] for each in made],
                "made": made,
                "database": _database(plan.lane(one.lane), one),
            }
        )
    return found


def lines(plan: Plan, found: Sequence[dict[str, Any]]) -> Iterator[Spans]:
    """Yield the lines of gates that `described` returned, and what people must know or do elsewhere."""
    from api.cli import plan_text

    for one in found:
        yield (f"{one['gate']} of lane {one['lane']}: ", (one["status"], STYLES.get(one["status"], "")))
        if one["voided"]:
            yield ("  ", (f"an earlier approval is void: {one['voided']}", "bold red"))
        if one["waiting"]:
            yield (f"  waiting on: {one['waiting']['on']}; who may decide: {one['waiting']['who']}",)
        if one["decided_by"]:
            why = f" ({one['reason']})" if one["reason"] else ""
            yield (f"  decided by {one['decided_by']} at {moment(one['decided_at'])}{why}",)
        yield (f"  digest {one['digest']}",)
        yield from _papers(one)
        if one["database"]:
            yield from _costs(plan.lane(one["lane"]), one["database"])
        if one["status"] in {"open", "approved"}:
            yield from _rest(plan, one)
    yield from plan_text.notices(plan)


def short_lines(plan: Plan, found: Sequence[dict[str, Any]]) -> Iterator[Spans]:
    """Yield gates that `described` returned in a few lines each: what is decided on, and what it costs."""
    from api.cli import plan_text
    from workflows.plan import Plan as AnyPlan

    for one in found:
        lane = plan.lane(one["lane"])
        yield (f"{one['gate']} of lane {one['lane']}: ", (one["status"], STYLES.get(one["status"], "")))
        if one["voided"]:
            yield ("  ", (f"an earlier approval is void: {one['voided']}", "bold red"))
        if one["waiting"]:
            yield (f"  waiting on: {one['waiting']['on']}",)
        yield (f"  digest {one['digest']}",)
        if one["database"]:
            yield list(plan_text.outage_lines(lane))[-1]
        rest = AnyPlan(kind=plan.kind, fleet={}, lanes=(_behind(lane, one["id"]),))
        yield ("  behind it: ", *plan_text.sums_line(rest))


def _papers(one: dict[str, Any]) -> Iterator[Spans]:
    made = {each["wish"]: each for each in one["made"]}
    for each in one["requests"]:
        yield (f"  {each['wish']}: {each['subject']}; {', '.join(each['names']) or 'no alternative names'}",)
        mark = "certificate is here" if each["wish"] in made else "certificate is missing"
        yield (f"    {each['key']}, public key SHA-256 {each['spki_sha256'][:16]}…, {mark}",)
        if certificate := made.get(each["wish"]):
            yield (f"    until {certificate['not_valid_after'][:10]}, signed by {certificate['issuer']}",)


def _costs(lane: Lane, told: dict[str, Any]) -> Iterator[Spans]:
    from api.cli import plan_text

    yield (("  what it costs:", "bold"),)
    for line in plan_text.outage_lines(lane):
        yield ("  ", *line)
    for node, operations in told["restarts"].items():
        yield (f"    {node}: the Call Bridge restarts at {', '.join(operations)}; each time its calls drop",)
    if told["lost"]:
        yield ("    ", (told["lost"], "yellow"))
    yield (("  the way back, node by node, once it is removed:", "bold"),)
    for node, said in told["way_back"].items():
        yield (f"    {node}: {said}",)
    if told["backups"]:
        yield (f"  backups of {', '.join(told['backups'])} are taken and fetched after the approval; else all stops",)


def _rest(plan: Plan, one: dict[str, Any]) -> Iterator[Spans]:
    from api.cli import plan_text
    from workflows.plan import Plan as AnyPlan

    rest = AnyPlan(kind=plan.kind, fleet={}, lanes=(_behind(plan.lane(one["lane"]), one["id"]),))
    yield ("  what comes behind it:",)
    for line in (*plan_text.lines(rest), plan_text.sums_line(rest)):
        yield ("  ", *line)


def _behind(lane: Lane, gate: str) -> Lane:
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
