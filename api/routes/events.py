"""Live events by SSE: those of one run, and which runs moved at all.

The journal is looked at twice a second for each stream, in a thread that is given back at once; nobody holds one. Who
is asking is looked at again and again: a stream ends with its session, its token or its grant. An account has so many
streams open at once and no more. Events hold no secrets (`workflows.journal.events`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from api.auth.identity import asks, still_is
from api.here import Here, Server
from api.planning import WORKER_LOST_S
from api.routes.journal import event_body
from api.scope import lanes_seen, scope_of
from workflows.errors import NotThere, TooMany
from workflows.journal import lists, stock
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["events"])
Reader = Annotated[Person, asks(Permission.READ, by_itself=True)]
"""A browser opens a stream again by itself, so that is no use of the session."""
LastEventID = Annotated[str, Header(alias="Last-Event-ID", max_length=40, description="Only what came after this one.")]
LOOK_S = 0.5
"""How often the journal is looked at."""
CHECK_EVERY = 4
"""At every so many looks it is seen whether whoever asks still may."""
MARK_EVERY = 10
"""At every so many looks a stream with marks has one, although nothing happened."""
Marks = Annotated[bool, Query(description="Say `event: caught_up` whenever all that happened so far has been sent.")]
PING_S = 15
MOST = 20
"""How many streams an account may have open at once in this process: each looks at the journal for itself."""
AGAIN_S = 5
AT_ONCE = 500
T = TypeVar("T")
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "A stream of events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get("/runs/{run}/events", response_class=EventSourceResponse, responses=_STREAM)
def follow_run(
    who: Reader,
    here: Here,
    request: Request,
    run: str,
    last_event_id: LastEventID = "",
    after: int = 0,
    marks: Marks = False,
) -> EventSourceResponse:
    """Follow a run: `id` is the number of an event, `event` its kind, `data` the event as /api/journal shows it.

    It begins behind *Last-Event-ID* or *after*, and ends with `event: closed` when the run is over. With *marks*,
    `event: caught_up` tells the number of the last event, seen or not, and how many workers are alive.
    """
    lanes_seen(who, here, run)
    told = last_event_id if last_event_id.isascii() and last_event_id.isdigit() else ""
    begin = min(int(told[:19]) if told else max(after, 0), 2**63 - 1)
    return as_stream(who, here, _run_events(here, request, run, begin, marks=marks))


@router.get("/events", response_class=EventSourceResponse, responses=_STREAM)
def follow_all(who: Reader, here: Here, request: Request) -> EventSourceResponse:
    """Follow which runs move: `event: run` with its kinds of events, `event: gate` for each gate that moved.

    `event: ready` comes first, so that whoever asks again after a break reads anew what they show.
    """
    return as_stream(who, here, _moves(here, request))


class Streams:
    """How many streams each account has open; used by the event loop alone, so nothing is locked."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, account: str) -> Iterator[None]:
        """Count one more while it lasts. Raises: TooMany."""
        if self._open[account] >= MOST:
            raise TooMany(
                f"This account has {MOST} streams of events open already.",
                remedy="Close some of them, or wait.",
                retry_after_s=AGAIN_S,
            )
        self._open[account] += 1
        try:
            yield
        finally:
            self._open[account] -= 1
            self._open += Counter()  # accounts without a stream are forgotten


class _Counted(EventSourceResponse):
    """A stream that is counted from its beginning to its end, whichever way it ends."""

    def __init__(self, who: Person, here: Server, events: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(events, ping=PING_S, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._account = who.account
        self._streams = here.part("streams", Streams)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.one(self._account):
            await super().__call__(scope, receive, send)


def as_stream(who: Person, here: Server, events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    """Return *events* as an answer that no proxy keeps back. Sending it raises TooMany while *who* has too many."""
    return _Counted(who, here, events)


async def _run_events(
    here: Server, request: Request, run: str, after: int, *, marks: bool
) -> AsyncIterator[ServerSentEvent]:
    looks = 0
    async for who in while_seen(here, request, run):
        found, over = await _in_thread(partial(_look_at_run, here, who, run, after))
        for one in found:
            after = one["n"]
            if not one["hidden"]:
                yield _event(one["body"]["kind"], one["body"], str(after))
        if marks and len(found) < AT_ONCE and (found or looks % MARK_EVERY == 0):
            alive = await _in_thread(partial(_workers, here))
            yield _event("caught_up", {"run": run, "n": after, "workers": alive})
        looks += 1
        if over:
            yield _event("closed", {"run": run, "outcome": over})
            return


def _look_at_run(here: Server, who: Person, run: str, after: int) -> tuple[list[dict[str, Any]], str]:
    """Return the next events of *run*, and its outcome when there are no more."""
    scope = scope_of(who, here)
    every = here.journal.events_after(run, after, AT_ONCE)
    mine = {one.n for one in every if _is_seen(one, scope)}
    found = [
        {
            "n": one.n,
            "hidden": one.n not in mine,
            "body": event_body(who, one, scope.nodes).model_dump(mode="json") if one.n in mine else {},
        }
        for one in every
    ]
    if len(every) == AT_ONCE:
        return found, ""
    row = here.journal.read(partial(lists.outcomes, runs=[run])).get(run, "open")
    # What the run was closed by is read, since it was committed with the outcome; only then is it over.
    last = here.journal.events_after(run, every[-1].n if every else after, 1)
    return found, "" if row == "open" or last else row


def _workers(here: Server) -> int:
    return len(here.journal.read(partial(stock.workers, within_s=WORKER_LOST_S)))


async def _moves(here: Server, request: Request) -> AsyncIterator[ServerSentEvent]:
    heads: dict[str, int] | None = None
    async for who in while_seen(here, request):
        now = await _in_thread(lambda: here.journal.read(lists.heads))
        if heads is None:
            yield _event("ready", {})
        else:
            moved = {run: heads.get(run, 0) for run, n in now.items() if n > heads.get(run, 0)}
            for run, before in moved.items():
                for name, said in await _in_thread(partial(_look_at_move, here, who, run, before)):
                    yield _event(name, said)
        heads = {**(heads or {}), **now} if len(heads or {}) < 10_000 else now


def _look_at_move(here: Server, who: Person, run: str, before: int) -> list[tuple[str, dict[str, Any]]]:
    scope = scope_of(who, here)
    seen = [one for one in here.journal.events_after(run, before, AT_ONCE) if _is_seen(one, scope)]
    lanes = here.journal.read(partial(lists.lanes_of, run=run))
    if not seen or (scope.clusters is not None and not scope.clusters.intersection(lanes)):
        return []
    outcome = here.journal.read(partial(lists.outcomes, runs=[run])).get(run, "open")
    kinds = list(dict.fromkeys(one.kind.value for one in seen))
    found: list[tuple[str, dict[str, Any]]] = [
        ("run", {"run": run, "n": seen[-1].n, "kinds": kinds, "outcome": outcome})
    ]
    found += [
        ("gate", {"run": run, "lane": one.lane, "gate": one.step, "kind": one.kind.value})
        for one in seen
        if one.kind.value.startswith("gate_")
    ]
    return found


def _is_seen(event: Any, scope: lists.Scope) -> bool:
    if scope.clusters is None:
        return True
    if event.lane:
        return event.lane in scope.clusters
    return not event.node or event.node in scope.nodes


async def while_seen(here: Server, request: Request, run: str = "") -> AsyncIterator[Person]:
    """Yield who is asking at each look at the journal, until they may not read any more, or may not see *run*."""
    looks = 0
    who: Person | None = None
    while True:
        if looks % CHECK_EVERY == 0:
            who = await _in_thread(partial(_still_sees, here, request, run))
        if who is None:
            return
        yield who
        looks += 1
        await anyio.sleep(LOOK_S)


def _still_sees(here: Server, request: Request, run: str) -> Person | None:
    who = still_is(request)
    if who is None or not who.may(Permission.READ):
        return None
    try:
        return who if not run or lanes_seen(who, here, run) else None
    except NotThere:
        return None


async def _in_thread(function: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(function)


def _event(kind: str, data: dict[str, Any], number: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False, sort_keys=True), event=kind, id=number)
