"""One attempt at one step: claim, lease kept alive, the step itself with safe retries, what came of it journaled.

Only what is known to be safe is retried by itself (house-style, errors): a step observes before it acts, so after a cut
it simply runs again, three times at most. What then still fails is written as failed, with the remedy. When a step of
stage 700 or 800 fails, the node is put back first (`rollback`).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, TypedDict

import sqlalchemy as sa
import stamina
import structlog

from workers import control, outage_circuit, rollback, runbooks, steps
from workers.context import UNDO_OFFSET, Held, Redo, StepContext, Wait, Work
from workers.failpoints import failpoint
from workflows.actions import READING_KINDS
from workflows.canvas import ends_canvas, header_of
from workflows.errors import CertbridgeError, JournalError, LeaseLost, NodeError, RecordsAway, Stopped, words_of
from workflows.journal import claims, outbox, tables
from workflows.journal.claims import Claim, Drop
from workflows.journal.events import Kind
from workflows.journal.lanes import reopen_parts, stop_lane
from workflows.journal.store import Transaction
from workflows.plan import DATABASE, ROLLBACK, Lane, Plan, Step, predecessors

log = structlog.get_logger()

TRIES = 3
# The chord's body is the fast way past a barrier; the outbox row is the sure one, and leaves it this much time.
BARRIER_GRACE_S = 2.0
# How long a step waits before it is tried again when a disk was full, or the database away.
AWAY_S = 5.0
_CLOCK = sa.select(tables.clock())


class Outcome(Enum):
    """What an attempt came to; anything but DONE ends the chain."""

    DONE = "done"
    FAILED = "failed"
    WAITING = "waiting"
    DROPPED = "dropped"
    LOST = "lost"


class _Asked(TypedDict):
    run: str
    lane: str
    generation: int
    predecessors: frozenset[str]
    resources: tuple[str, ...]


class Attempt:
    """One message's try at one step."""

    def __init__(self, work: Work, *, run: str, lane: str, step: str, generation: int) -> None:
        self._work = work
        self._run = run
        self._generation = generation
        self._plan, self._fleet = work.plan(run)
        self._lane: Lane = self._plan.lane(lane)
        part = self._lane.part(step)
        if not isinstance(part, Step):
            raise JournalError(f"{step} is not a step")
        self._step: Step = part

    def carry_out(self) -> Outcome:
        """Do the step, if it is ours to do, and journal what came of it."""
        journal = self._work.journal
        if self._work.ending.is_set():
            journal.write(self._passed_on)
            return Outcome.DROPPED
        # Without a fail limit nothing is ever excused, so nobody need ask.
        excused = functools.partial(claims.excused, run=self._run, lane=self._lane.name)
        out = control.nodes_out(self._lane, journal.read(excused) if self._lane.fail_limit else ())
        if self._step.node in out:
            return Outcome.DONE  # left out: its node failed within the fail limit, and the others go on
        left_out = frozenset(step.id for step in self._lane.steps() if step.node in out)
        if self._plan.kind == DATABASE:
            parked = functools.partial(claims.parked, run=self._run, lane=self._lane.name)
            left_out |= control.left_for_later(self._lane, journal.read(parked))
        failpoint("before_claim", self._step.id)
        held = Held(self._work.monotonic() + self._work.settings.lease_s)
        claimed = journal.write(functools.partial(self._claim, left_out=left_out))
        if isinstance(claimed, Drop):
            log.info("step_dropped", run=self._run, step=self._step.id, reason=claimed.reason.value)
            return Outcome.DROPPED
        failpoint("after_claim", self._step.id)
        runbooks.keep(self._work.settings, journal, self._plan, self._run)
        try:
            outcome = self._work.loop.call(self._carry_out(claimed, held))
            failpoint("after_finish", self._step.id)
            return outcome
        except LeaseLost:
            log.warning("lease_lost", run=self._run, step=self._step.id)
            return Outcome.LOST
        except RecordsAway as error:
            # Not even the end can be written: the lease runs out, and whoever comes next observes.
            log.warning("records_away", run=self._run, step=self._step.id, error=words_of(error))
            return Outcome.LOST
        finally:
            runbooks.keep(self._work.settings, journal, self._plan, self._run)

    def _passed_on(self, tx: Transaction) -> None:
        """Have the lane sent again: this process took the message and was then told to stop."""
        if not outbox.waits(tx, self._run, self._lane.name):
            outbox.add(tx, outbox.ADVANCE, self._run, self._lane.name, {"why": "its worker was told to stop"})

    def _claim(self, tx: Transaction, *, left_out: frozenset[str]) -> Claim | Drop:
        here: _Asked = {
            "run": self._run,
            "lane": self._lane.name,
            "generation": self._generation,
            "predecessors": predecessors(self._lane, self._step.id) - left_out,
            "resources": resources(self._plan, self._run, self._step),
        }
        held = outage_circuit.refusal(tx, self._work.settings, step=self._step, **here)
        if held is not None:
            return held
        return claims.claim(
            tx,
            step=self._step.id,
            node=self._step.node,
            holder=self._work.holder,
            lease_s=self._work.settings.lease_s,
            **here,
        )

    async def _carry_out(self, claim: Claim, held: Held) -> Outcome:
        context = await self._context(claim, held)
        renewing = asyncio.create_task(self._renew(claim, held))
        working = asyncio.create_task(self._work_on(context))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                # The lease is gone: another worker may be on the node, so nothing more is sent from here.
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                raise LeaseLost(node=self._step.node, step=self._step.id)
            return await working
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, claim: Claim, held: Held) -> None:
        """Keep the lease alive; returns when it is lost."""
        lived_s = 0.0
        while lived_s < self._work.settings.lease_s:
            await asyncio.sleep(self._work.settings.renew_s)
            lived_s += self._work.settings.renew_s
            asked_at = self._work.monotonic()
            try:
                renewed = asyncio.wrap_future(
                    self._work.journal.submit(
                        functools.partial(claims.renew, claim=claim, lease_s=self._work.settings.lease_s)
                    )
                )
                if not await renewed:
                    return
                lived_s = 0.0
                held.until = asked_at + self._work.settings.lease_s
            except JournalError as error:
                log.warning("renewal_failed", step=self._step.id, error=words_of(error))

    async def _work_on(self, context: StepContext) -> Outcome:
        try:
            data = await _with_retries(context)
        except (LeaseLost, asyncio.CancelledError):
            raise
        except Wait as wait:
            failpoint("before_finish", self._step.id)
            await context.write(
                functools.partial(
                    claims.finish, claim=context.claim, status="waiting", data=wait.data, wait_s=wait.wait_s
                )
            )
            return Outcome.WAITING
        except Redo as redo:
            await context.write(functools.partial(self._redo, claim=context.claim, redo=redo))
            return Outcome.WAITING
        except Stopped as error:
            await context.write(
                functools.partial(claims.finish, claim=context.claim, status="retry", error=_error(error))
            )
            return Outcome.FAILED
        except RecordsAway as error:
            return await self._left_as_it_is(context, error)
        except CertbridgeError as error:
            return await self._failed(context, error)
        except Exception as error:
            log.exception("step_crashed", run=self._run, step=self._step.id)
            return await self._failed(
                context,
                CertbridgeError(
                    f"An error of our own: {type(error).__name__}.", remedy="See the worker's log; please report it."
                ),
            )
        failpoint("before_finish", self._step.id)
        await context.write(functools.partial(self._finish, claim=context.claim, status="done", data=data, error=None))
        return Outcome.DONE

    async def _left_as_it_is(self, context: StepContext, error: RecordsAway) -> Outcome:
        """Do nothing more, not even take back what was done: what cannot be written down must not be done (F12, F29).

        The node is not at fault, so it counts as no try; the next one observes, and goes on from where this one stood.
        """
        log.warning("records_away", run=self._run, step=self._step.id, error=words_of(error))
        retry = functools.partial(
            claims.finish, claim=context.claim, status="waiting", error=_error(error), wait_s=AWAY_S
        )
        await context.write(retry)
        return Outcome.WAITING

    async def _failed(self, context: StepContext, error: CertbridgeError) -> Outcome:
        log.warning("step_failed", run=self._run, step=self._step.id, code=error.code, error=words_of(error))
        after: Mapping[str, Any] = {}
        # A database is never put back by itself: going back is a plan of its own, which people approve.
        if self._step.stage in rollback.STAGES and self._plan.kind != DATABASE:
            back = self._plan.purpose == ROLLBACK
            after = await (rollback.give_up(context, str(error)) if back else rollback.put_back_node(context))
        failpoint("before_finish", self._step.id)
        data = {**error.data.get("result", {}), **after}
        # Only what is known to have ended may be left behind: the next operation must never begin beside a running one.
        parks = self._step.parks and (bool(error.data.get("ended")) or not context.may_be_under_way())
        status: Literal["failed", "parked"] = "parked" if parks else "failed"
        await context.write(
            functools.partial(self._finish, claim=context.claim, status=status, data=data, error=_error(error))
        )
        return Outcome.FAILED

    def _redo(self, tx: Transaction, *, claim: Claim, redo: Redo) -> None:
        """Let earlier parts be gone through anew, and then this step, in a canvas of its own."""
        reopen_parts(tx, self._run, self._lane.name, redo.parts, redo.why)
        claims.finish(tx, claim, status="retry", data={"why": redo.why}, advance=True)

    def _finish(
        self,
        tx: Transaction,
        *,
        claim: Claim,
        status: Literal["done", "failed", "parked"],
        data: Mapping[str, Any],
        error: Mapping[str, str] | None,
    ) -> None:
        """Journal how it ended; in the same commit, whatever must follow is written down."""
        claims.finish(
            tx,
            claim,
            status=status,
            data=data,
            error=error,
            advance=status == "parked" or (status == "done" and ends_canvas(self._lane, self._step.id)),
        )
        header = header_of(self._lane, self._step.id)
        if header is not None:
            members, barrier = header
            if control.all_over(tx, self._run, self._lane.name, [step.id for step in members]):
                outbox.add(
                    tx, outbox.ADVANCE, self._run, self._lane.name, {"barrier": barrier.id}, after_s=BARRIER_GRACE_S
                )
        elif status == "failed":
            why = f"{self._step.title or self._step.id}: {(error or {}).get('text', '')}"
            if not (
                data.get("put_back") and control.leave_out(tx, self._run, self._lane, self._step, claim.generation)
            ):
                stop_lane(tx, self._run, self._lane.name, why, data={"step": self._step.id})

    async def _context(self, claim: Claim, held: Held) -> StepContext:
        sent, outcomes, began, looked_at, sent_at = await asyncio.to_thread(
            _lines_sent, self._work, self._run, self._step
        )
        return StepContext(
            work=self._work,
            run=self._run,
            plan=self._plan,
            fleet=self._fleet,
            lane=self._lane,
            step=self._step,
            claim=claim,
            held=held,
            sent=sent,
            outcomes=outcomes,
            began=began,
            looked_at=looked_at,
            sent_at=sent_at,
        )


def resources(plan: Plan, run: str, step: Step) -> tuple[str, ...]:
    """Return what a step leases: its node, or only itself when it reads or touches no server.

    Behind the point of no return a step of a database leases its whole cluster: never two at once, whoever sends them.
    """
    if plan.kind in READING_KINDS or not step.node:
        return (f"step:{run}:{step.id}",)
    if plan.kind == DATABASE and step.stage >= rollback.APPLY:
        return (f"cluster:{step.id.partition('/')[0]}", f"node:{step.node}")
    return (f"node:{step.node}",)


async def _with_retries(context: StepContext) -> dict[str, Any]:
    handler = steps.HANDLERS[context.step.action]

    def again(error: Exception) -> bool:
        return isinstance(error, CertbridgeError) and error.retryable

    @stamina.retry(on=again, attempts=TRIES, timeout=None, wait_initial=1.0, wait_max=10.0)
    async def once() -> dict[str, Any]:
        try:
            async with asyncio.timeout(context.step.allow_s):
                return await handler(context)
        except TimeoutError:
            raise NodeError(f"The step took more than {context.step.allow_s} s.", node=context.step.node) from None

    return await once()


def _lines_sent(
    work: Work, run: str, step: Step
) -> tuple[dict[int, int], dict[int, str], bool, frozenset[int], dict[int, float]]:
    """Return ({line number: times sent}, {line number: outcome}, whether any was) since the node was last put back.

    The last two values hold the lines that were sent last before a person resumed the step, and when each line was sent
    last, by this process's own clock.

    After a failed rollback, one that was cut off half-way, and when the step is gone through anew, nothing is known of
    the lines, so they are forgotten too, but not that the step had begun: the next attempt goes by the status alone.
    """
    sent: dict[int, int] = {}
    outcomes: dict[int, str] = {}
    began = False
    looked_at: set[int] = set()
    at: dict[int, float] = {}
    for event in work.journal.step_events(run, step.id, step.node):
        if event.kind in {Kind.PUT_BACK, Kind.ROLLBACK_FAILED} and event.node == step.node:
            sent, outcomes = {}, {}
            began = began and event.kind is Kind.ROLLBACK_FAILED
        elif event.kind is Kind.STEPS_REOPENED:
            if step.id in event.data["steps"]:
                sent, outcomes = {}, {}
        elif event.kind is Kind.LANE_RESUMED:
            looked_at |= set(sent) if step.id in event.data.get("steps", ()) else set()
        elif event.step != step.id:
            continue
        elif event.kind is Kind.INTENT:
            number = int(event.data["line"])
            if number >= UNDO_OFFSET:
                sent = {one: times for one, times in sent.items() if one >= UNDO_OFFSET}
                outcomes = {one: state for one, state in outcomes.items() if one >= UNDO_OFFSET}
            sent[number] = sent.get(number, 0) + 1
            at[number] = event.at.timestamp()
            outcomes.pop(number, None)
            looked_at.discard(number)
            began = True
        elif event.kind is Kind.OUTCOME:
            outcomes[int(event.data["line"])] = str(event.data["state"])
    # By the database's clock, as leases are: the process that sent them may have been on another machine.
    clock = work.journal.read(lambda connection: connection.execute(_CLOCK).scalar_one()) if at else 0.0
    now = work.monotonic()
    return sent, outcomes, began, frozenset(looked_at), {one: now - max(0.0, clock - when) for one, when in at.items()}


def _error(error: CertbridgeError) -> dict[str, str]:
    return {"code": error.code, "text": error.message, "remedy": error.remedy()}
