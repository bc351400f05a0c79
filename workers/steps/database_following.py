"""One operation of the database, from its first look to its end: done, failed, under way, or nobody knows.

These commands come back at once and go on by themselves (mmp-reference 11), so success is what the status says
afterwards. A step polls for a minute at most, then it writes down that it waits and gives its thread back. What may
still be under way stops the lane when it cannot be followed to its end: the next operation must never begin beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workers.context import StepContext, Wait
from workers.session import NodeSession
from workers.steps.database_status import in_words
from workers.steps.survey import read_database
from workflows.errors import CommandRejected, NodeError, OutcomeUnknown, UnexpectedReply, Unreachable
from workflows.facts import DatabaseFact
from workflows.journal.events import Kind
from workflows.plan import Line
from workflows.procedures.database_places import REPLICA

Done = Callable[[DatabaseFact], bool]
Begin = Callable[[StepContext, NodeSession, DatabaseFact], Awaitable[None]]


async def carry_out(context: StepContext, *, done: Done, begin: Begin) -> dict[str, Any]:
    """Begin the operation unless it was begun, and follow it to its end; `Wait` when that takes longer than a poll.

    Returns {"database": the status in words, "operation", "took_s"}.
    Raises: Wait. CommandRejected: it failed. NodeError: it was sent, and the node shows nothing of it, or fell silent;
    `data["ended"]` is True where nothing of it can be under way any more.
    """
    following = await asyncio.to_thread(_Following.of, context)
    settings = context.work.settings
    until = following.now() + settings.longest_poll_s
    while True:
        try:
            async with context.session() as session:
                fact = await read_database(session)
                if fact is None and not following.sent:
                    raise UnexpectedReply(
                        "`database cluster status` is not understood, so nothing was sent.", node=context.step.node
                    )
                following.saw(fact)
                if fact is not None and done(fact) and not fact.busy:
                    return await _ended(context, following, fact)
                if fact is not None and following.stands(fact) == "idle" and not following.sent:
                    await begin(context, session, fact)
                    following.began()
        except (Unreachable, OutcomeUnknown) as error:
            if not following.sent:
                raise  # nothing of this operation went out yet: the whole step may be tried again
            following.fell_silent(error.message)
        following.check()
        if following.silent_too_long():
            raise await _given_up(context, following)
        if following.now() >= until or context.work.ending.is_set():
            raise Wait(following.wait_s(), following.told())
        await asyncio.sleep(settings.poll_s)


def move_of(context: StepContext) -> Line:
    """Return the line that begins the operation: the last of the step."""
    return context.step.lines[-1]


async def _ended(context: StepContext, following: _Following, fact: DatabaseFact) -> dict[str, Any]:
    move = move_of(context)
    await context.settle(move, context.number_of(move))
    return {"database": in_words(fact), "operation": following.verb, "took_s": round(following.elapsed_s, 1)}


async def _given_up(context: StepContext, following: _Following) -> NodeError:
    """Return the error of a node that fell silent and did not come back.

    A node that only we cannot reach may still be copying, so it counts as lost only where the primary shows it lost;
    one that is still attaching has no row at the primary yet.
    """
    params = context.step.params
    ended = False
    if params["operation"] == "join":
        try:
            async with context.session(params["primary_node"]) as session:
                fact = await read_database(session)
        except NodeError:
            fact = None
        seen = [one for one in fact.members if one.address == params["address"]] if fact else []
        ended = bool(seen) and not any(one.connected for one in seen)
    text = f"The node fell silent after `{move_of(context).text}` and did not come back in time ({following.said})."
    return NodeError(text, remedy=following.remedy(), node=context.step.node, ended=ended)


@dataclass(slots=True, kw_only=True)
class _Following:
    """What is known of an operation while it goes on: when it was sent, what the node said last, and since when."""

    context: StepContext
    since: datetime | None
    silent_since: datetime | None
    fact: DatabaseFact | None = None
    idle_since: float | None = None
    said: str = ""

    @classmethod
    def of(cls, context: StepContext) -> _Following:
        """Return what the journal tells of this step's operation."""
        number = context.number_of(move_of(context))
        events = context.work.journal.step_events(context.run, context.step.id, context.step.node)
        sent = [one.at for one in events if one.kind is Kind.INTENT and one.data["line"] == number]
        waited = [one.data["data"] for one in events if one.kind is Kind.STEP_WAITING and one.data.get("data")]
        silent = waited[-1].get("silent_since") if waited else None
        looked_at = number in context.looked_at  # a person resumed since, so all clocks begin anew
        return cls(
            context=context,
            since=sent[-1] if sent and not looked_at else None,
            silent_since=datetime.fromisoformat(silent) if silent and not looked_at else None,
        )

    @property
    def verb(self) -> str:
        """The operation: remove, initialize, join, connect or upgrade_schema."""
        return str(self.context.step.params["operation"])

    @property
    def sent(self) -> bool:
        """Whether the line went out, and no person has looked since."""
        move = move_of(self.context)
        return self.context.was_sent(move) and self.context.number_of(move) not in self.context.looked_at

    @property
    def elapsed_s(self) -> float:
        """Seconds since the line went out, 0 when it did not."""
        return max(0.0, (self.context.now() - self.since).total_seconds()) if self.since else 0.0

    def now(self) -> float:
        """Return the loop's time, in seconds."""
        return asyncio.get_running_loop().time()

    def began(self) -> None:
        """Note that the line was sent just now: what the node said before tells nothing of it."""
        self.since = self.context.now()
        self.fact = None
        self.idle_since = None

    def saw(self, fact: DatabaseFact | None) -> None:
        """Note what the node said."""
        self.fact, self.said = fact, in_words(fact)
        self.silent_since = None if fact is not None else self.silent_since or self.context.now()
        if fact is None or self.stands(fact) not in {"idle", "other"}:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = self.now()

    def fell_silent(self, why: str) -> None:
        """Note that the node did not answer: it may be rebooting, and what it was told is not known."""
        self.fact, self.said, self.idle_since = None, why, None
        self.since = self.since or self.context.now()
        self.silent_since = self.silent_since or self.context.now()

    def stands(self, fact: DatabaseFact) -> str:
        """Return how the operation stands by this status, when it is not done.

        "busy": under way; "failed"; "idle": nothing of it; "other": it has ended, but not as it was wanted.
        """
        if fact.busy:
            return "busy"
        ours = fact.last_command == move_of(self.context).text
        if ours and fact.progress == "failed":
            return "failed" if self.sent else "idle"
        if not self.sent or self.verb in {"remove", "upgrade_schema"}:
            return "idle"
        # A replica that copies the data is on its way; it may do so for hours.
        if self.verb == "join" and fact.me is not None and fact.me.role == REPLICA and not fact.me.in_sync:
            return "busy"
        return "idle" if fact.disabled else "other"

    def check(self) -> None:
        """Return while there is something to wait for. Raises: CommandRejected, NodeError."""
        node, line = self.context.step.node, move_of(self.context).text
        said = {"remedy": self.remedy(), "node": node}
        stands = self.stands(self.fact) if self.fact is not None else ""
        if self.fact is not None and stands == "failed":
            raise CommandRejected(f"`{line}` failed: {self.fact.error or self.said}", command=line, ended=True, **said)
        longest = self.context.work.settings.longest_poll_s
        quiet_s = self.now() - self.idle_since if self.sent and self.idle_since is not None else 0.0
        if stands == "idle" and quiet_s >= longest / 2:
            what = f"`{line}` was sent, but the node shows neither that it goes on nor that it is done ({self.said})."
            raise NodeError(what, ended=True, **said)
        if stands == "other" and quiet_s >= longest:
            raise NodeError(f"`{line}` has ended, but not as it was wanted: {self.said}.", ended=True, **said)
        if self.elapsed_s > self.context.step.params["longest_s"]:
            raise NodeError(f"`{line}` has not ended after {self.elapsed_s:.0f} s ({self.said}).", **said)

    def silent_too_long(self) -> bool:
        """Return whether the node has not answered for longer than a reboot may take."""
        limit = timedelta(seconds=self.context.work.settings.silent_s)
        return self.silent_since is not None and self.context.now() - self.silent_since > limit

    def wait_s(self) -> float:
        """Return in how many seconds to look again: the longer it takes, the less often, every half minute at least."""
        return min(30.0, max(self.context.work.settings.poll_s, self.elapsed_s / 20))

    def told(self) -> dict[str, Any]:
        """Return what those who watch are told."""
        told = {
            "operation": self.verb,
            "since": self.since.isoformat() if self.since else "",
            "elapsed_s": round(self.elapsed_s, 1),
            "usual_s": list(self.context.step.params["usual_s"]),
            "status": self.said,
        }
        return told | ({"silent_since": self.silent_since.isoformat()} if self.silent_since else {})

    def remedy(self) -> str:
        """Return what a person can do when the operation did not end well."""
        run = self.context.run
        first = {
            "initialize": "No other node was touched, and the data of this one is the data to keep.",
            "remove": "No further node is removed.",
        }.get(self.verb, "The data to keep is on the primary.")
        stuck = " (a node that hangs half-way in comes out with `database cluster remove`)"
        return (
            f"{first} Read `database cluster status` on it and mend the cause{stuck if self.verb == 'join' else ''}; "
            f"then `certbridge runs resume {run}` looks again, and sends the line once more if it is still needed. "
            f"`certbridge runs runbook {run}` has the lines to go on or back by hand."
        )
