"""What a gate shows to the people who decide, in lines of text; the values are made by `api.gate_view`.

At *sign* the requests, later the certificates that came of them, and always the exact lines that are left. At the point
of no return also what the rebuild of the database cluster costs (DESIGN.md section 7, last paragraph): how long each
node is away, every Call Bridge that restarts, the writes that are lost, and whether there is a way back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from api import gate_view
from api.cli.output import Span, counted, moment
from api.cli.run_text import STYLES

if TYPE_CHECKING:
    from workflows.plan import Lane, Plan

Spans = tuple[Span, ...]


def lines(plan: Plan, found: Sequence[dict[str, Any]]) -> Iterator[Spans]:
    """Yield the lines of gates that `gate_view.described` returned, and what people must know or do elsewhere."""
    from api.cli import plan_text

    for one in found:
        yield (f"{one['gate']} of lane {one['lane']}: ", (one["status"], STYLES.get(one["status"], "")))
        if one["voided"]:
            yield ("  ", (f"an earlier approval is void: {one['voided']}", "bold red"))
        if one["waiting"]:
            yield (f"  waiting on: {one['waiting']['on']}; who may decide: {one['waiting']['who']}",)
        yield from _people(one)
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
    """Yield gates that `gate_view.described` returned in a few lines each: what is decided on, and what it costs."""
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
        rest = AnyPlan(kind=plan.kind, fleet={}, lanes=(gate_view.behind(lane, one["id"]),))
        yield ("  behind it: ", *plan_text.sums_line(rest))


def _people(one: dict[str, Any]) -> Iterator[Spans]:
    """Yield stages and votes where there is more than one approver to tell of, and the clock that runs."""
    stages = one["stages"]
    told = one["status"] in {"open", "approved"} and (len(stages) > 1 or any(each["needs"] > 1 for each in stages))
    for number, each in enumerate(stages if told or stages[0]["group"] else (), 1):
        group = each["group"] or "any group"
        missing = (
            f", {counted(each['missing'], 'person').replace('persons', 'people')} missing" if each["missing"] else ""
        )
        yield (f"  stage {number}: {each['needs']} of {group}{missing}",)
        for vote in each["votes"]:
            why = f" ({vote['reason']})" if vote["reason"] else ""
            lost = "" if vote["counts"] else "; may not approve any more, so it does not count"
            yield (f"    {vote['name']} approved at {moment(vote['at'])}{why}{lost}",)
    for vote in (vote for each in stages for vote in each["votes"] if vote["invited_by"]):
        yield (f"  {invitation_of(vote)}",)
    if one["expires_at"] and one["status"] == "open":
        yield (f"  to be decided until {moment(one['expires_at'])}",)
    elif one["expires_at"] and one["status"] == "approved":
        yield (f"  the approval is good until {moment(one['expires_at'])}",)


def invitation_of(vote: dict[str, Any]) -> str:
    """Return whose invitation set the password that this vote came by."""
    at = moment(vote["invited_at"])
    return f"the password of {vote['name']} was set at {at} by an invitation of {vote['invited_by']}"


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

    rest = AnyPlan(kind=plan.kind, fleet={}, lanes=(gate_view.behind(plan.lane(one["lane"]), one["id"]),))
    yield ("  what comes behind it:",)
    for line in (*plan_text.lines(rest), plan_text.sums_line(rest)):
        yield ("  ", *line)
