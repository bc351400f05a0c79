"""What a run waits for at this moment, in words: a sentence for each lane, since when, how long usually.

Pure: a `RunView` in, frozen values out. There is always an answer while a run is open, also in the middle of a long
rebuild of a database cluster, where one operation may take a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from api.pages.sentences import said as in_words
from api.pages.texts import gettext as _
from api.pages.texts import moment, ngettext, span
from api.pages.words import stage, word
from api.run_view import LaneView, PartView, RunView
from workflows.gate import SIGN
from workflows.people import SYSTEM

USUAL_S: Mapping[int, tuple[int, int]] = {
    50: (1, 10),
    100: (2, 30),
    200: (3, 60),
    300: (3, 60),
    500: (3, 30),
    550: (1, 15),
    600: (3, 60),
    700: (10, 120),
    800: (2, 30),
    900: (2, 30),
}
"""How long a step of a stage usually takes, where its plan does not say."""
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a lane waits for. look: "people", "engine", "trouble", "over"; *gate* is the one to go to."""

    lane: str
    look: str
    status: str
    text: str
    since: datetime | None = None
    usual: str = ""
    more: tuple[str, ...] = ()
    gate: str = ""


def waits(shown: RunView) -> tuple[Wait, ...]:
    """Return what every lane of *shown* waits for; one that is done says so."""
    return tuple(_lane(shown, lane) for lane in shown.lanes)


def usual_of(part: PartView) -> tuple[int, int]:
    """Return from and to how many seconds *part* usually takes."""
    if len(part.usual_s) == 2:
        return (part.usual_s[0], part.usual_s[1])
    return USUAL_S.get(part.stage, (2, 60))


def _lane(shown: RunView, lane: LaneView) -> Wait:
    said: dict[str, Any] = {"lane": lane.name, "status": lane.status}
    if lane.status == "done":
        return Wait(look="over", text=_("Everything is done."), since=_last(lane), **said)
    if lane.status == "cancelled" or shown.outcome != "open":
        text = _("The run is over; nothing moves any more.")
        return Wait(look="over" if shown.outcome == "done" else "trouble", text=text, more=tuple(_errors(lane)), **said)
    busy = [part for part in lane.parts if part.kind == "step" and part.status in {"running", "waiting"}]
    if busy:
        return _at_work(shown.kind, lane, busy)
    if lane.status == "stopped":
        text = _("It stopped. Mend the cause, then resume the run.")
        since = max((part.ended_at for part in lane.parts if part.error and part.ended_at), default=None)
        gate = next((part.id for part in lane.parts if part.status == "rejected"), "")
        return Wait(look="trouble", text=text, since=since, more=tuple(_errors(lane)), gate=gate, **said)
    if lane.status == "paused":
        return Wait(look="people", text=_("It was paused; it goes on when somebody resumes it."), **said)
    if lane.waiting is not None:
        return _at_gate(lane)
    return _next(lane)


def _at_work(kind: str, lane: LaneView, busy: Sequence[PartView]) -> Wait:
    operation = next((part for part in busy if part.data.get("operation")), None)
    if operation is not None:
        return _operation(kind, lane, operation)
    first = min(busy, key=lambda part: (part.started_at is None, part.started_at))
    names = list(dict.fromkeys(part.node for part in busy if part.node))
    where = ", ".join(names[:SHOWN])
    if len(names) > SHOWN:
        more = len(names) - SHOWN
        where += " " + ngettext("and %(n)s more", "and %(n)s more", more) % {"n": more}
    text = _("Waits for “%(stage)s” on %(where)s.") % {"stage": stage(first.stage, kind), "where": where or lane.name}
    low, high = usual_of(first)
    return Wait(
        lane=lane.name,
        look="engine",
        status="running",
        text=text,
        since=first.started_at,
        usual=span(low, high),
        more=tuple(_errors(lane)),
    )


def _operation(kind: str, lane: LaneView, part: PartView) -> Wait:
    data = part.data
    usual = data.get("usual_s") or part.usual_s
    since = str(data.get("since") or "")
    more: list[str] = []
    if data.get("silent_since"):
        at = moment(datetime.fromisoformat(str(data["silent_since"])))
        more.append(_("The server does not answer since %(at)s; that may be its restart.") % {"at": at})
    if data.get("status"):
        more.append(escape(_("The server says: %(said)s")) % {"said": in_words(str(data["status"]))})
    return Wait(
        lane=lane.name,
        look="engine",
        status="running",
        text=_("Waits for “%(stage)s” on %(where)s.") % {"stage": stage(part.stage, kind), "where": part.node},
        since=datetime.fromisoformat(since) if since else part.started_at,
        usual=span(usual[0], usual[1]) if len(usual) == 2 else span(*usual_of(part)),
        more=tuple(more),
    )


def _at_gate(lane: LaneView) -> Wait:
    waiting = lane.waiting
    assert waiting is not None  # noqa: S101 - the caller looked
    gate = next(part for part in lane.parts if part.id == waiting.gate)
    name = word(waiting.name)
    texts = {
        "waiting": _("Waits for a decision at the gate “%(gate)s”.") % {"gate": name},
        "rejected": escape(_("%(who)s rejected it: %(reason)s"))
        % {"who": gate.data.get("decided_by", ""), "reason": _reason(gate)},
    }
    text = texts.get(gate.status)
    if text is None:
        if not waiting.people:
            text = _("“%(gate)s” is approved; it goes on in a moment.") % {"gate": name}
            if waiting.name == SIGN and waiting.on != "the engine":
                text = escape(_("Waits for the issuer: %(what)s")) % {"what": in_words(waiting.on)}
        elif waiting.name == SIGN and waiting.who != "nobody":
            text = _("Approved. Waits for signed certificates: %(what)s") % {"what": waiting.on.partition(": ")[2]}
        else:
            text = _("Approved, but not before %(at)s.") % {"at": waiting.on.partition(", as")[0]}
    return Wait(
        lane=lane.name,
        look="trouble" if gate.status == "rejected" else "people" if waiting.people else "engine",
        status="waiting" if waiting.people else "running",
        text=text,
        since=waiting.since,
        gate=waiting.gate,
        more=tuple(_errors(lane)),
    )


def _reason(gate: PartView) -> str:
    """Return why a gate was rejected: a person's words as they are, the system's in the reader's language."""
    reason = str(gate.data.get("reason", ""))
    return in_words(reason) if gate.data.get("decided_by") == SYSTEM else reason


def _next(lane: LaneView) -> Wait:
    following = next((part for part in lane.parts if part.status == "open"), None)
    if following is None:
        text = _("Waits for the engine to close the lane.")
    elif following.kind == "barrier":
        text = escape(_("Waits at the barrier: %(holds)s.")) % {"holds": in_words(following.title.rstrip("."))}
    else:
        what = following.title or following.id
        text = escape(_("Waits for a worker to take up: %(what)s.")) % {"what": in_words(what.rstrip("."))}
    return Wait(
        lane=lane.name,
        look="engine",
        status="running",
        text=text,
        since=_last(lane),
        usual=span(0, 2),
        more=tuple(_errors(lane)),
    )


def _last(lane: LaneView) -> datetime | None:
    return max((part.ended_at for part in lane.parts if part.ended_at), default=None)


def _errors(lane: LaneView) -> Iterator[str]:
    """Yield what went wrong, each thing once; a few of them say enough."""
    told = dict.fromkeys(
        Markup("{}: {}").format(part.node or lane.name, in_words(part.error.get("text")))
        + (Markup("<br>{}").format(in_words(part.error["remedy"])) if part.error.get("remedy") else "")
        for part in lane.parts
        if part.error and part.status in {"failed", "parked", "undone"}
    )
    found = list(told) or ([in_words(lane.reason)] if lane.reason and lane.status in {"stopped", "cancelled"} else [])
    yield from found[:SHOWN]
    if len(found) > SHOWN:
        more = len(found) - SHOWN
        yield ngettext("and %(n)s more", "and %(n)s more", more) % {"n": more}
