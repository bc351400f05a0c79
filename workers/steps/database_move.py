"""Behind the point of no return: remove, initialize, join, connect, upgrade_schema, each followed to its end.

These commands come back at once and go on by themselves (mmp-reference 11), so success is what `database cluster
status` says afterwards. A step polls for a minute at most, then it writes down that it waits and gives its thread back.
None of them is ever sent twice by itself: when the status shows neither that one began nor that it is done, a person
decides (DESIGN.md section 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from workers.context import Redo, StepContext, Wait
from workers.session import NodeSession
from workers.steps.database_make import database_differences
from workers.steps.survey import read_database
from workflows.errors import CommandRejected, Drifted, NodeError, OutcomeUnknown, Unreachable
from workflows.facts import DatabaseFact
from workflows.journal import claims, tables
from workflows.journal.events import Kind
from workflows.journal.store import moment
from workflows.plan import Line
from workflows.procedures.database_places import NONE, PRIMARY, REPLICA
from workflows.procedures.database_steps import role_told

Done = Callable[[DatabaseFact], bool]
Begin = Callable[[StepContext, NodeSession, DatabaseFact], Awaitable[None]]


async def database_remove(context: StepContext) -> dict[str, Any]:
    """Take this node out of the cluster. Returns {"database": its status in words, "took_s"}."""

    async def begin(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
        if differences := database_differences(context.step.expects, fact):
            raise Drifted(f"No longer as the plan expects: {'; '.join(differences)}.", node=context.step.node)
        await asyncio.to_thread(_fresh_backups, context)
        await context.change(session, _move(context))

    # Somebody who finished the rebuild by hand, with the runbook, left the node in the cluster with its new files.
    new = _new_files(context)
    return await _carry_out(
        context, done=lambda fact: fact.disabled or (bool(new) and list(fact.files) == new), begin=begin
    )


async def database_initialize(context: StepContext) -> dict[str, Any]:
    """Make this node the primary again, with the data it has. Returns as `database_remove`."""
    return await _carry_out(context, done=lambda fact: is_primary(fact, context.step.params["primary"]), begin=_enter)


async def database_join(context: StepContext) -> dict[str, Any]:
    """Let this node join; its data is overwritten by the primary's, which is looked at first. Returns as `remove`."""
    return await _carry_out(
        context, done=lambda fact: in_sync(fact, context.step.params["primary"]), begin=_enter_behind_primary
    )


async def database_connect(context: StepContext) -> dict[str, Any]:
    """Let this node use the database of the primary, which is looked at first. Returns as `database_remove`."""
    return await _carry_out(
        context, done=lambda fact: is_connected(fact, context.step.params["primary"]), begin=_enter_behind_primary
    )


async def database_upgrade_schema(context: StepContext) -> dict[str, Any]:
    """Bring the schema to the release, once all joined nodes are in sync. Returns as `database_remove`."""

    async def begin(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
        behind = [one.address for one in fact.members if one.role == REPLICA and not one.in_sync]
        behind += await asyncio.to_thread(left_for_later, context)
        if behind:
            remedy = f"Bring them in first: `certbridge runs resume {context.run}` takes them up, and then the schema."
            raise NodeError(f"Not in sync yet: {', '.join(behind)}.", remedy=remedy, node=context.step.node)
        await context.change(session, _move(context))

    def done(fact: DatabaseFact) -> bool:
        return fact.last_command.endswith("upgrade_schema") and fact.progress == "success"

    return await _carry_out(context, done=done, begin=begin)


# ── what a status says ───────────────────────────────────────────────────────────────────────────────────────────────
def is_primary(fact: DatabaseFact, address: str) -> bool:
    """Return whether the node that was asked is the primary, connected, at rest and without an error."""
    me = fact.me
    return (
        me is not None
        and me.role == PRIMARY
        and me.connected
        and me.address == address
        and not fact.error
        and fact.progress != "failed"
        and not fact.busy
    )


def in_sync(fact: DatabaseFact, primary: str) -> bool:
    """Return whether the node that was asked is a replica of *primary*, in sync."""
    me = fact.me
    return me is not None and me.role == REPLICA and me.in_sync and fact.primary == primary and not fact.busy


def is_connected(fact: DatabaseFact, primary: str) -> bool:
    """Return whether the node that was asked uses the cluster of *primary* without being a member of it."""
    at = next((one for one in fact.members if one.role == PRIMARY), None)
    return (
        not fact.disabled
        and fact.me is None
        and at is not None
        and at.address == primary
        and at.connected
        and not fact.error
        and not fact.busy
    )


def left_for_later(context: StepContext) -> dict[str, str]:
    """Return {node: why} of the nodes whose way in is parked."""
    journal = context.work.journal
    parked = journal.read(lambda connection: claims.parked(connection, context.run, context.lane.name))
    state = journal.state(context.run).lanes[context.lane.name]
    return {
        step.node: str((state.steps[step.id].error or {}).get("text", "it failed"))
        for step in context.lane.steps()
        if step.id in parked
    }


def in_words(fact: DatabaseFact | None) -> str:
    """Return a status in one line: "Enabled, replica ( In Sync ), last: 'database cluster join …' (success)"."""
    if fact is None:
        return "the status is not understood"
    me = fact.me
    parts = [fact.state, me.text if me else role_told(fact), f"error: {fact.error}" if fact.error else ""]
    last = f"last: `{fact.last_command}` ({fact.progress})" if fact.last_command else ""
    return ", ".join(part for part in (*parts, last) if part and part != NONE)


# ── one operation ────────────────────────────────────────────────────────────────────────────────────────────────────
async def _carry_out(context: StepContext, *, done: Done, begin: Begin) -> dict[str, Any]:
    """Begin the operation unless it was begun, and follow it to its end; `Wait` when that takes longer than a poll.

    Raises: Wait. CommandRejected: it failed. NodeError: it was sent, and the node shows nothing of it, or fell silent.
    """
    following = await asyncio.to_thread(_Following.of, context)
    settings = context.work.settings
    until = following.now() + settings.longest_poll_s
    while True:
        try:
            async with context.session() as session:
                fact = await read_database(session)
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
            await _given_up(context, following)
        if following.now() >= until or context.work.ending.is_set():
            raise Wait(following.wait_s(), following.told())
        await asyncio.sleep(settings.poll_s)


async def _ended(context: StepContext, following: _Following, fact: DatabaseFact) -> dict[str, Any]:
    move = _move(context)
    await context.settle(move, context.number_of(move))
    return {"database": in_words(fact), "operation": following.verb, "took_s": round(following.elapsed_s, 1)}


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
        number = context.number_of(_move(context))
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
        move = _move(self.context)
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
        if fact is None or self.stands(fact) != "idle":
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = self.now()

    def fell_silent(self, why: str) -> None:
        """Note that the node did not answer: it may be rebooting, and what it was told is not known."""
        self.fact, self.said, self.idle_since = None, why, None
        self.since = self.since or self.context.now()
        self.silent_since = self.silent_since or self.context.now()

    def stands(self, fact: DatabaseFact) -> str:
        """Return "busy", "failed" or "idle": how the operation stands by this status, when it is not done."""
        if fact.busy:
            return "busy"
        if fact.progress == "failed" and fact.last_command == _move(self.context).text:
            return "failed" if self.sent else "idle"
        # A node that came in but is not in sync or not connected yet is still on its way.
        return "busy" if self.verb != "remove" and not fact.disabled and self.sent else "idle"

    def check(self) -> None:
        """Return while there is something to wait for. Raises: CommandRejected, NodeError."""
        node, line = self.context.step.node, _move(self.context).text
        if self.fact is not None and self.stands(self.fact) == "failed":
            why = self.fact.error or self.said
            raise CommandRejected(f"`{line}` failed: {why}", remedy=self.remedy(), node=node, command=line)
        settings = self.context.work.settings
        if self.sent and self.idle_since is not None and self.now() - self.idle_since >= settings.longest_poll_s / 2:
            raise NodeError(
                f"`{line}` was sent, but the node shows neither that it goes on nor that it is done ({self.said}).",
                remedy=self.remedy(),
                node=node,
            )
        if self.elapsed_s > self.context.step.params["longest_s"]:
            raise NodeError(
                f"`{line}` has not ended after {self.elapsed_s:.0f} s ({self.said}).",
                remedy=self.remedy(),
                node=node,
                stops=True,
            )

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
        }.get(self.verb, "The other nodes go on without this one.")
        return (
            f"{first} Read `database cluster status` on it and mend the cause; then `certbridge runs resume {run}` "
            "looks again, and sends the line once more if it is still needed. "
            f"`certbridge runs runbook {run}` has the lines to go on or back by hand."
        )


async def _given_up(context: StepContext, following: _Following) -> None:
    """Raise NodeError: the node fell silent and did not come back. Others go on only where the primary lost it too.

    A node that only we cannot reach may still be copying, and two joins at once must never be.
    """
    params, node = context.step.params, context.step.node
    there = f"The node fell silent after `{_move(context).text}` and did not come back in time ({following.said})."
    stops = True
    if params["operation"] in {"join", "connect"}:
        try:
            async with context.session(params["primary_node"]) as session:
                fact = await read_database(session)
        except (Unreachable, OutcomeUnknown):
            fact = None
        # A node that is still attaching has no row at the primary yet, so only a row that says "lost" counts.
        seen = [one for one in fact.members if one.address == params["address"]] if fact else []
        stops = not seen or any(one.connected for one in seen)
    raise NodeError(there, remedy=following.remedy(), node=node, stops=stops)


async def _enter(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
    """Name the files, set the interface where the status does not show it, and begin to come in."""
    if not fact.disabled:
        raise Drifted(f"It is in a cluster already: {in_words(fact)}.", node=context.step.node)
    certs, localnode, move = context.step.lines
    if list(fact.files) != context.step.params["files"]:
        await context.change(session, certs)
    if fact.interface != context.step.params["interface"]:
        await context.change(session, localnode)
    await context.change(session, move)


async def _enter_behind_primary(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
    """Look at the primary itself first: to come in behind any other node could overwrite the data to keep."""
    primary = context.step.params["primary_node"]
    async with context.session(primary) as there:
        seen = await read_database(there)
    if seen is None or not is_primary(seen, context.step.params["primary"]):
        raise NodeError(f"{primary} is not Connected Primary now: {in_words(seen)}.", node=context.step.node)
    await _enter(context, session, fact)


def _new_files(context: StepContext) -> list[str]:
    """Return the files with which this node is to come in again, [] when it is not."""
    entering = (step for step in context.lane.steps() if step.node == context.step.node and "files" in step.params)
    return next((list(step.params["files"]) for step in entering), [])


def _move(context: StepContext) -> Line:
    """Return the line that begins the operation: the last of the step."""
    return context.step.lines[-1]


def _fresh_backups(context: StepContext) -> None:
    """Return when every backup is young enough, or a node was removed before. Raises: Redo: make them anew."""
    journal = context.work.journal
    state = journal.state(context.run).lanes[context.lane.name]
    removing = [step.id for step in context.lane.steps() if step.action == "database_remove"]
    if any(state.steps[one].lines for one in removing if one in state.steps):
        return
    now = moment(journal.read(lambda connection: float(connection.execute(sa.select(tables.clock())).scalar_one())))
    youngest = now - timedelta(seconds=context.step.params["backup_age_s"])
    backups: list[str] = context.step.params["backups"]
    ended = {one: state.steps[one].ended_at if one in state.steps else None for one in backups}
    old = [one for one, at in ended.items() if at is None or at < youngest]
    if old:
        why = f"a backup may be {context.step.params['backup_age_s'] // 60} minutes old, and is older: {', '.join(old)}"
        raise Redo((*backups, f"{context.lane.name}/backed-up"), why)
