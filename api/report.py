"""The report of a run: one HTML page that stands alone, for people who were not there.

What was asked, who approved what and when, before and after per port, every command with its reply, what is left to do
elsewhere, and whether the journal's chain is whole. It is made from journal and transcripts alone, so it can be made
again at any time. Everything that servers or people wrote is escaped; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2

from api.run_view import PartView, RunView, view
from workflows.facts import NodeFacts
from workflows.journal import Event, Journal, Kind, stock
from workflows.plan import DATABASE, ROLLBACK, Plan

_PROMPT = re.compile(r"\S+> ?")
_DECISIONS = frozenset(
    {
        Kind.RUN_CREATED,
        Kind.GATE_OPENED,
        Kind.GATE_APPROVED,
        Kind.GATE_REJECTED,
        Kind.GATE_PASSED,
        Kind.CERTIFICATES_DELIVERED,
        Kind.LANE_PAUSED,
        Kind.LANE_RESUMED,
        Kind.LANE_STOPPED,
        Kind.LANE_CANCELLED,
        Kind.STEPS_REOPENED,
        Kind.PUT_BACK,
        Kind.ROLLBACK_FAILED,
        Kind.RUN_CLOSED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRow:
    """One port before and after: expiry dates, the fingerprint served now, and whether it was seen."""

    node: str
    service: str
    where: str
    before: str
    after: str
    fingerprint: str
    seen: bool
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One thing said to a server, or a transfer, and what came back."""

    at: str
    kind: str
    text: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Something a person decided, or that the engine did where people look; *digest* is that of what they saw."""

    at: datetime
    who: str
    what: str
    where: str
    digest: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseEnd:
    """The database status of a node, in words, when the run proved the end (or found that it was not as it should)."""

    lane: str
    node: str
    status: str


CLOSE = 900
_TITLES = {"renewal": "Renewal run", DATABASE: "Database run"}
"""The kinds of plans that change servers, as the report calls them."""


def render(journal: Journal, run: str, *, transcripts: Path, now: datetime) -> str:
    """Return the page of *run*. Raises: JournalError: no such run."""
    plan = Plan.from_json(journal.plan(run))
    events = journal.events(run)
    shown = view(plan, journal.state(run), now=now, events=events)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("api"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["moment"] = lambda when: f"{when:%Y-%m-%d %H:%M:%S} UTC" if when else ""
    environment.filters["seconds"] = _seconds
    return environment.get_template("report.html").render(
        run=shown,
        plan=plan,
        title=_title(plan),
        ports=ports(journal, plan, shown),
        ends=list(database_ends(shown)),
        decisions=list(decisions(events)),
        nodes={node: exchanges(lines) for node, lines in _files(transcripts / run, plan)},
        problems=journal.verify(run),
        head=events[-1].hash if events else "",
        count=len(events),
        later=list(left_for_later(plan, shown)),
        now=now,
    )


def _title(plan: Plan) -> str:
    return "Rollback run" if plan.purpose == ROLLBACK else _TITLES.get(plan.kind, f"Run of kind {plan.kind}")


def left_for_later(plan: Plan, shown: RunView) -> Iterator[str]:
    """Yield what is not over yet when the run is: old files that stay, trust stores that wait for a restart."""
    if shown.outcome != "done" or shown.closed_at is None or plan.kind not in _TITLES:
        return
    until = shown.closed_at + timedelta(days=int(plan.fleet.get("retention_days", 0)))
    if plan.purpose == ROLLBACK:
        yield (
            "The old files are in use again: leave them where they are. The new files that are out of use now stay on "
            "the servers; certbridge deletes nothing."
        )
    else:
        yield (
            f"The old files stay on the servers, as the way back. After {until:%Y-%m-%d} (`retention`) a person may "
            "delete them, unless a rollback has put them in use again; certbridge deletes nothing."
        )
    for lane in shown.lanes:
        for part in lane.parts:
            if part.stage == CLOSE and part.status == "done":
                yield part.title
            elif part.status == "done" and (name := (part.data.get("backup") or {}).get("name")):
                yield f"The backup {name} lies on {part.node} and, encrypted, in the vault here; it holds private keys."


def database_ends(shown: RunView) -> Iterator[DatabaseEnd]:
    """Yield what every node of a database run said of itself at the end, in the order of the plan."""
    for lane in shown.lanes:
        for part in lane.parts:
            for node, status in part.data.get("nodes", {}).items():
                yield DatabaseEnd(lane=lane.name, node=node, status=str(status))


def ports(journal: Journal, plan: Plan, shown: RunView) -> list[PortRow]:
    """Return every port that the run proved or tried to prove, in the order of the plan."""
    before = _ends_before(journal, plan)
    rows: list[PortRow] = []
    for part in (part for lane in shown.lanes for part in lane.parts):
        rows.extend(_rows(part, before))
    return rows


def _rows(part: PartView, before: Mapping[str, str]) -> Iterator[PortRow]:
    for port in part.data.get("ports", ()):
        yield PortRow(
            node=str(port.get("node") or part.node),  # of a database, one step looks at the ports of all nodes
            service=str(port["service"]),
            where=f"{port['address']}:{port['port']}",
            before=_before(port, before),
            after=str(port["not_valid_after"])[:10],
            fingerprint=str(port["fingerprint"]),
            seen=bool(port["seen"]),
            fault=str(port["fault"]),
        )


def _before(port: Mapping[str, Any], before: Mapping[str, str]) -> str:
    if port.get("before"):
        return before.get(str(port["before"]), "not known")
    return "none" if port["seen"] else "not seen"


def decisions(events: Iterable[Event]) -> Iterator[Decision]:
    """Yield who decided what, and when."""
    for event in events:
        if event.kind in _DECISIONS:
            data = event.data
            why = data.get("reason") or data.get("outcome") or data.get("again") or ""
            if event.kind is Kind.CERTIFICATES_DELIVERED:
                why = ", ".join(data.get("certificates", {}))
            yield Decision(
                at=event.at,
                who=event.actor,
                what=event.kind.value.replace("_", " "),
                where=event.step or event.lane or event.run,
                digest=str(data.get("digest") or "")[:12],
                why=str(why),
            )


def exchanges(lines: Iterable[str]) -> list[Exchange]:
    """Return the exchanges in a transcript (see `workers.transcript`): what was sent, and the replies up to the next.

    A line that is no JSON (a process was killed while it wrote) is shown as it is.
    """
    found: list[Exchange] = []
    replies: dict[str, list[str]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            at, session, kind, text = entry["at"], entry["session"], entry["is"], str(entry["text"])
        except (ValueError, KeyError, TypeError):
            found.append(Exchange(at="", kind="note", text="a line that was cut off", reply=line.strip()))
            continue
        if kind == "received":
            # Several sessions may share a file; a reply belongs to what its own session sent last.
            replies.setdefault(session, []).append(text)
            _answer(found, session, replies)
            continue
        replies[session] = []
        if kind == "transfer":
            details = [f"{entry[key]}" for key in ("name", "target") if key in entry]
            size = f" ({entry['size']} bytes)" if "size" in entry else ""
            text = f"sftp {text} {' -> '.join(details)}{size}"
        if text.strip():
            found.append(
                _Sent(at=at, kind=kind, text=text.strip(), reply=str(entry.get("sha256", "")), session=session)
            )
    return [Exchange(at=one.at, kind=one.kind, text=one.text, reply=one.reply) for one in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent(Exchange):
    session: str


def _answer(found: list[Exchange], session: str, replies: Mapping[str, list[str]]) -> None:
    for place in range(len(found) - 1, -1, -1):
        one = found[place]
        if isinstance(one, _Sent) and one.session == session:
            if one.kind == "sent":
                reply = _reply("".join(replies[session]), one.text)
                found[place] = _Sent(at=one.at, kind=one.kind, text=one.text, reply=reply, session=session)
            return


def _reply(received: str, sent: str) -> str:
    """Return what the server said: neither the echo of what was typed, nor the prompt behind it."""
    lines = received.replace("\r\n", "\n").strip("\n").split("\n")
    if lines[0].strip() == sent:
        lines = lines[1:]
    if lines and _PROMPT.fullmatch(lines[-1]):
        lines = lines[:-1]
    return "\n".join(lines).strip("\n")


def _seconds(length: float | None) -> str:
    """Return a length of time for the page: "8.7 s", "25 min"."""
    if length is None:
        return ""
    return f"{length / 60:.0f} min" if length >= 120 else f"{length:.1f} s" if length < 10 else f"{length:.0f} s"


def _ends_before(journal: Journal, plan: Plan) -> dict[str, str]:
    """Return {fingerprint: expiry date} of what the ports of the plan's nodes served when it was made."""
    found: dict[str, str] = {}
    for _, _, said in journal.read(lambda connection: stock.latest_facts(connection, plan.nodes())).values():
        facts = NodeFacts.from_json(said)
        held = [one for port in facts.ports for one in port.chain[:1]] + [
            one for file in facts.files for one in file.certificates
        ]
        found.update({one.fingerprint: one.not_valid_after[:10] for one in held})
    return found


def _files(folder: Path, plan: Plan) -> Iterator[tuple[str, list[str]]]:
    for node in plan.nodes():
        file = folder / f"{node}.jsonl"  # names of nodes are file names already, see `inventory.checks.is_name`
        if node and file.is_file():
            yield node, file.read_text(encoding="utf-8", errors="backslashreplace").splitlines()
