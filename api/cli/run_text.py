"""A run in lines of text: the tree with states and times, errors with remedies, and what it waits for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from api.cli.output import Span, lasted, moment, say
from api.stages import stage_name
from workflows.plan import DATABASE

if TYPE_CHECKING:
    from api.run_view import LaneView, PartView, RunView

Spans = tuple[Span, ...]

UNTIL_BUILT = "until one is built"
UNTIL_CONNECTED = "until a cluster is built and it connects to it"
"""How long a cluster that is dissolved is away, and a node that only used the database of others."""


STYLES = {
    "done": "green",
    "passed": "green",
    "approved": "green",
    "running": "cyan",
    "waiting": "yellow",
    "paused": "yellow",
    "excused": "yellow",
    "failed": "bold red",
    "parked": "bold red",
    "stopped": "bold red",
    "rejected": "bold red",
    "cancelled": "magenta",
    "open": "dim",
}
_MARKS = {"done": "✓", "running": "▶", "failed": "✗", "parked": "✗", "rejected": "✗", "waiting": "⏸", "approved": "⏸"}


def named(kind: str, purpose: str) -> str:
    """Return what a run is called, e.g. "renewal", "renewal rollback", "database build"."""
    return f"{kind} {purpose}".rstrip()


def lines(shown: RunView, *, short: bool = False) -> Iterator[Spans]:
    """Yield the lines of *shown*; *short* leaves out what is done and what nobody has begun."""
    what = f"{named(shown.kind, shown.purpose)} of {shown.fleet}"
    yield (
        (f"run {shown.run}", "bold"),
        f"  {what}, asked for by {shown.requested_by} at {moment(shown.created_at)}: ",
        (shown.status, STYLES.get(shown.status, "")),
    )
    for lane in shown.lanes:
        yield from _lane(lane, shown, short=short)
    if not short:
        yield from outage_lines(shown)


def waiting_lines(lane: LaneView) -> Iterator[Spans]:
    """Yield what *lane* waits for, since when, and who may decide."""
    if lane.waiting is None:
        return
    since = f", since {moment(lane.waiting.since)}" if lane.waiting.since else ""
    yield ("  waiting on: ", (lane.waiting.on, "yellow"), f"{since}; who may decide: {lane.waiting.who}")


def show_end(shown: RunView) -> None:
    """Say on standard output how the run stands, lane by lane."""
    style = STYLES.get(shown.status, "")
    say((f"run {shown.run}: ", "bold"), (shown.status, style))
    for lane in shown.lanes:
        say(f"lane {lane.name}: ", (lane.status, STYLES.get(lane.status, "")))
        for reason in _reasons(lane):
            say("  ", (reason, "red"))
        for part in lane.parts:
            for line in _error(part, "  ", shown, lane):
                say(*line)
        for line in waiting_lines(lane):
            say(*line)
    for line in outage_lines(shown):
        say(*line)
    for text in _next(shown):
        say(text)


def outage_lines(shown: RunView) -> Iterator[Spans]:
    """Yield how long databases were predicted to be away, how long they were, and who is still out."""
    for one in shown.away:
        what = f"the database of {one.node}" if one.node else f"the database cluster of {one.lane}"
        endless = UNTIL_CONNECTED if one.node else UNTIL_BUILT
        predicted = f"{span_of(one.predicted_s)} predicted" if one.predicted_s else endless
        if one.measured_s is not None:
            yield (f"outage of {what}: {lasted(one.measured_s)} measured, {predicted}",)
        elif one.out_since:
            out = "still out, since" if one.predicted_s else "out since"
            yield (f"outage of {what}: ", (f"{out} {moment(one.out_since)}", "yellow"), f"; {predicted}")
        else:
            yield (f"outage of {what}: {predicted}",)


def span_of(span: tuple[int, int]) -> str:
    """Return a predicted length of time: "40 s to 18 min"."""
    return f"{lasted(span[0])} to {lasted(span[1])}" if span[0] >= 10 else f"{span[0]} s to {lasted(span[1])}"


def operation_text(node: str, data: Mapping[str, Any], elapsed_s: float | None = None) -> str:
    """Return how an operation stands that is followed: "join on cmscore2: 37 s so far (usually 30 to 900 s); …".

    *data* is what a step that waits leaves in the journal; *elapsed_s* is more recent than what it says.
    """
    elapsed = float(data.get("elapsed_s", 0)) if elapsed_s is None else elapsed_s
    said = f"{data['operation']} on {node}: {elapsed:.0f} s so far{usually(data.get('usual_s', ()))}"
    if data.get("silent_since"):
        since = datetime.fromisoformat(str(data["silent_since"]))
        return f"{said}; the node does not answer since {moment(since)} ({data.get('status', '')})"
    return f"{said}; the node says: {data['status']}" if data.get("status") else said


def usually(span: Sequence[int]) -> str:
    """Return " (usually 30 to 900 s)", "" when that is not known."""
    return f" (usually {span[0]} to {span[1]} s)" if len(span) == 2 else ""


def _next(shown: RunView) -> Iterator[str]:
    if shown.outcome != "open":
        return
    states = {lane.status for lane in shown.lanes}
    rejected = any(part.status == "rejected" for lane in shown.lanes for part in lane.parts)
    if any(lane.waiting and lane.waiting.people for lane in shown.lanes) and not rejected:
        again = any(_is_voided(lane) for lane in shown.lanes)
        yield f"next: {'look at it again and approve or reject: ' if again else ''}`certbridge gates show {shown.run}`"
    elif rejected or "stopped" in states:
        yield f"next: mend the cause, then `certbridge runs resume {shown.run}`"
    elif "paused" in states:
        yield f"next: `certbridge runs resume {shown.run}`"


def _reasons(lane: LaneView) -> Iterator[str]:
    """Yield why the lane stopped, a line each; what its steps say themselves is not said twice."""
    told = [str(part.error.get("text", "")) for part in lane.parts if part.error]
    for reason in dict.fromkeys(lane.reason.splitlines()):
        if not any(text and text in reason for text in told):
            yield reason


def _is_voided(lane: LaneView) -> bool:
    """Return whether the lane waits at a gate again, since what a reading behind it found made the approval void."""
    return lane.waiting is not None and any(part.status == "undone" and part.error for part in lane.parts)


def _remedy(text: str, shown: RunView, lane: LaneView) -> str:
    """Return a remedy as it fits this run now: its id is known, and what is over is not resumed."""
    if "runs resume" in text and (shown.outcome != "open" or lane.status == "cancelled"):
        book = f"; `certbridge runs runbook {shown.run}` has the lines by hand" if shown.kind == DATABASE else ""
        return f"This run is over; `certbridge runs report {shown.run}` has every reply{book}."
    if _is_voided(lane):
        return f"Look at it again and approve or reject: `certbridge gates show {shown.run}`."
    return re.sub(r"\bRUN\b", shown.run, text)


def _lane(lane: LaneView, shown: RunView, *, short: bool) -> Iterator[Spans]:
    done = sum(part.status == "done" for part in lane.parts)
    yield (
        (f"lane {lane.name}", "bold"),
        ": ",
        (lane.status, STYLES.get(lane.status, "")),
        f"  {done} of {len(lane.parts)}",
    )
    for reason in _reasons(lane):
        yield ("  ", (reason, "red"))
    stage = 0
    for part in lane.parts:
        if short and part.status in {"done", "open"}:
            continue
        if part.stage and part.stage != stage:
            stage = part.stage
            yield (("  " + f"{stage} {stage_name(shown.kind, stage)}".rstrip(), "bold dim"),)
        yield _part(part)
        if part.status in {"running", "waiting"} and part.data.get("operation"):
            yield ("        ", (operation_text(part.node, part.data, _since(part)), "cyan"))
        yield from _error(part, "        ", shown, lane)
    yield from waiting_lines(lane)


def _part(part: PartView) -> Spans:
    style = STYLES.get(part.status, "")
    name = part.title if part.kind == "step" else f"{part.kind} {part.id.rpartition('/')[2]}: {part.title}"
    decided = part.data.get("decided_by") if part.kind == "gate" else None
    return (
        "    ",
        (f"{_MARKS.get(part.status, '·')} {part.status:<8}", style),
        f" {name}",
        (_took(part) if part.kind == "step" else f"  decided by {decided}" if decided else "", "dim"),
    )


def _since(part: PartView) -> float | None:
    """Return the seconds since the operation of *part* was sent; None when that is not known."""
    since = str(part.data.get("since") or "")
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()) if since else None


def _took(part: PartView) -> str:
    if part.started_at is None:
        return ""
    end = part.ended_at or datetime.now(UTC)
    if part.status == "done" and part.data.get("took_s"):  # followed through several claims, the last one is not all
        took = float(part.data["took_s"])
        return f"  {end - timedelta(seconds=took):%H:%M:%S} {lasted(took)}"
    again = f", attempt {part.attempts}" if part.attempts > 1 else ""
    if part.status == "running" and not part.data.get("operation"):
        again += usually(part.usual_s)
    return f"  {part.started_at:%H:%M:%S} {lasted(max(0.0, (end - part.started_at).total_seconds()))}{again}"


def _error(part: PartView, indent: str, shown: RunView, lane: LaneView) -> Iterator[Spans]:
    if part.error is None:
        return
    yield (indent, (f"{part.id}: {part.error.get('text', 'failed')}", "red"))
    for remedy in filter(None, part.error.get("remedy", "").splitlines()):
        yield (f"{indent}→ {_remedy(remedy, shown, lane)}",)
    if part.data.get("put_back"):
        yield (f"{indent}{part.node} was put back: its ports serve their old certificates again",)
    if part.data.get("rollback_failed"):
        yield (indent, (f"ROLLBACK FAILED on {part.node}: {part.data['rollback_failed']}", "bold red"))
        yield (f"{indent}→ Look at the server, then type what is still needed of these lines:",)
        for line in part.data.get("lines", ()):
            yield (f"{indent}    {line}",)
