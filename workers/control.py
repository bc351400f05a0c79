"""The control worker: outbox, gates whose time has come or is over, the reconciler, and the issuer.

Whatever has to move a lane, a finished stretch, an approval, a resume, a crash, a lost Redis, comes down to one thing
(DESIGN.md section 4): raise the generation, compile what is left, send it. That is `advance`. The outbox is looked at
every 100 ms by a thread of the control worker; beat rings `reconcile`, which finds lanes that nobody is on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from celery import Celery

from workers import issuers, repair, runbooks
from workers.context import Work
from workers.failpoints import failpoint
from workflows import papers
from workflows.actions import automatic
from workflows.canvas import CLUSTER_QUEUE, FLEET_QUEUE, compile_lane, ends_canvas, header_of
from workflows.errors import CertbridgeError, CertificateError, words_of
from workflows.gate import SIGN
from workflows.inventory import ResolvedFleet
from workflows.journal import claims, gates, lanes, outbox, reminders, runs, stock, tables
from workflows.journal.claims import Drop
from workflows.journal.events import Kind, NewEvent
from workflows.journal.fold import LaneState, done_ids
from workflows.journal.store import Transaction
from workflows.plan import DATABASE, Barrier, Gate, Lane, Plan, Step, predecessors, walk

log = structlog.get_logger()

RECONCILE = "reconcile"
SIGN_TASK = "sign"
LEFT_AT_GATE = "its gate was approved, and nobody moved it"
_AT_ONCE = 16
# Celery's result consumer, which a chord subscribes to, is for one thread at a time.
_SENDING = threading.Lock()


# ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def watch_outbox(work: Work, app: Celery, stopping: threading.Event) -> None:
    """Send what the outbox holds, every 100 ms, until *stopping* is set. A failure is logged and tried again."""
    runbook = runbooks.Watch(work.settings, work.journal, lambda run: work.plan(run)[0])
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="outbox") as pool:
        while not stopping.wait(work.settings.outbox_ms / 1000):
            try:
                pool.submit(runbook.look)
                send_due(work, app, pool)
            except Exception as error:  # noqa: BLE001 - this thread must outlive a database or broker that is away
                log.warning("outbox_failed", error=words_of(error))


def send_due(work: Work, app: Celery, pool: ThreadPoolExecutor) -> int:
    """Handle every row whose time has come; return how many there were.

    Lanes go side by side, because each waits for the journal's commits, and those are shared; rows of one lane go one
    after the other.
    """
    rows = work.journal.read(outbox.pending)
    by_lane: dict[tuple[str, str], list[outbox.Outgoing]] = {}
    for row in rows:
        by_lane.setdefault((row.run, row.lane), []).append(row)
    for _ in pool.map(partial(_handle, work, app), by_lane.values()):
        pass
    return len(rows)


def _handle(work: Work, app: Celery, rows: Sequence[outbox.Outgoing]) -> None:
    for row in rows:
        try:
            failpoint("before_send", row.lane)
            if row.lane and not _overtaken(work, row):
                advance(work, app, row.run, row.lane, why=_why(row.data))
            elif not row.lane:
                settle(work, row.run)
            failpoint("after_send", row.lane)
            # Marked after it was handled: a crash in between handles it twice, and the generation makes that harmless.
            work.journal.write(partial(outbox.sent, outgoing_id=row.id))
        except Exception as error:  # noqa: BLE001 - one row that cannot be sent must not hold up the others
            log.warning("row_not_sent", run=row.run, lane=row.lane, error=words_of(error))


def _overtaken(work: Work, row: outbox.Outgoing) -> bool:
    """Return whether *row* asks for a barrier that the chord's body, the fast way, has passed already."""
    barrier = row.data.get("barrier")
    return barrier is not None and barrier in work.journal.state(row.run).lanes[row.lane].barriers


def advance(work: Work, app: Celery, run: str, lane: str, *, why: str) -> None:
    """Move *lane* on if it can: through an approved gate, to its next canvas, or to its end."""
    plan, fleet = work.plan(run)
    state = work.journal.state(run).lanes[lane]
    row = work.journal.read(partial(lanes.lane_row, run=run, lane=lane))
    if row.flag == "waiting":
        _try_gate(work, app, plan, fleet, run, state, why)
    elif row.flag == "":
        _send(work, plan, run, plan.lane(lane), state, why)
    elif row.flag in lanes.HELD:
        _end_begun(work, plan, run, plan.lane(lane))


def _end_begun(work: Work, plan: Plan, run: str, lane: Lane) -> None:
    """Send the steps of a paused or cancelled lane that were cut off half-way, and nothing else."""
    begun = work.journal.read(partial(lanes.begun, run=run, lane=lane.name))
    if not begun:
        return
    why = f"{', '.join(begun)} had begun, and goes on to its end"
    generation = work.journal.write(lambda tx: lanes.raise_generation(tx, run, lane.name, why))
    if generation is None:
        return
    others = frozenset(part.id for part in walk(lane.tree)) - frozenset(begun)
    canvas = compile_lane(run, lane, others, generation, CLUSTER_QUEUE if plan.kind == DATABASE else FLEET_QUEUE)
    if canvas is not None:
        with _SENDING:
            canvas.clone().apply_async()
        log.info("lane_sent", run=run, lane=lane.name, generation=generation, why=why)


def _send(work: Work, plan: Plan, run: str, lane: Lane, state: LaneState, why: str) -> None:
    done = _not_to_send(work, run, lane, state)
    if compile_lane(run, lane, done, 0) is None:
        finish_when_complete(work, run, lane.name)
        return
    generation = work.journal.write(lambda tx: lanes.raise_generation(tx, run, lane.name, why))
    if generation is None:
        return  # somebody is on the lane; whoever finishes sends the next
    queue = CLUSTER_QUEUE if plan.kind == DATABASE else FLEET_QUEUE
    canvas = compile_lane(run, lane, done, generation, queue)
    if canvas is not None:
        with _SENDING:
            canvas.clone().apply_async()
        log.info("lane_sent", run=run, lane=lane.name, generation=generation, why=why)


def _try_gate(work: Work, app: Celery, plan: Plan, fleet: ResolvedFleet, run: str, state: LaneState, why: str) -> None:
    for gate in plan.lane(state.name).gates():
        at = state.gates.get(gate.id)
        if at is None or at.status != "approved":
            continue
        if gate.name == SIGN:
            missing = [wish for wish in papers.wishes_of(plan, state.name, state) if wish not in state.certificates]
            if any(automatic(fleet, plan.wishes[wish]["issuer"]) for wish in missing):
                # Touched first, so that the reconciler gives the issuer its time before it rings again.
                work.journal.write(partial(_issuer_rung, run=run, lane=state.name, why=why))
                with _SENDING:
                    app.send_task(
                        SIGN_TASK, kwargs={"run": run, "lane": state.name}, queue=FLEET_QUEUE, ignore_result=True
                    )
            if missing:
                return
        work.journal.write(partial(gates.pass_gate, run=run, lane=state.name, gate=gate.id))


def _issuer_rung(tx: Transaction, run: str, lane: str, why: str) -> None:
    """Note that the lane was looked at, and, when nobody had moved it, that its issuer is asked again."""
    lanes.touch(tx, run, lane)
    if why == LEFT_AT_GATE:
        said = {"repair": "idle gate", "found": why, "done": "the issuer is asked again for what is missing"}
        tx.append(NewEvent(run=run, kind=Kind.NOTE, lane=lane, data=said))


# ── the end of lanes and runs ────────────────────────────────────────────────────────────────────────────────────────
def finish_when_complete(work: Work, run: str, lane: str) -> None:
    """End the lane when all of it is done, and the run when all its lanes are over."""
    plan, _ = work.plan(run)
    state = work.journal.state(run).lanes[lane]
    part = plan.lane(lane)
    if compile_lane(run, part, _not_to_send(work, run, part, state), 0) is None:
        work.journal.write(lambda tx: lanes.finish_lane(tx, run, lane))
        settle(work, run)


def settle(work: Work, run: str) -> None:
    """Close the run when none of its lanes can move any more without a person's new decision."""

    def write(tx: Transaction) -> None:
        rows = lanes.lane_rows(tx.connection, run)
        flags = {row.flag for row in rows}
        if not flags <= {"done", "cancelled"}:
            return
        if any(row.live or (row.flag == "cancelled" and lanes.begun(tx.connection, run, row.lane)) for row in rows):
            # A step of a cancelled lane is still at its last lines, or was cut off half-way and is taken up again by
            # whoever the reconciler sends; the run ends after it, so it is looked at again.
            outbox.add(tx, "settle", run, "", after_s=1)
            return
        runs.close_run(tx, run, "done" if flags == {"done"} else "cancelled")
        # Keys made off the servers are on them and proved now, or were never used: nobody needs them here any more.
        stock.drop_sealed_of(tx, run)

    work.journal.write(write)


# ── barriers ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def pass_barrier(tx: Transaction, *, plan: Plan, run: str, lane: str, barrier: str, generation: int) -> str | Drop:
    """Pass the barrier if all before it is over: its Par's steps, or all steps before it in the lane."""
    part = plan.lane(lane)
    header = header_of(part, barrier)
    steps = header[0] if header else [step for step in part.steps() if step.id in predecessors(part, barrier)]
    later = left_for_later(part, claims.parked(tx.connection, run, lane))
    before = {step.id: step.node for step in steps if step.id not in later}
    out = nodes_out(part, claims.excused(tx.connection, run, lane))
    passed = claims.pass_barrier(
        tx,
        run=run,
        lane=lane,
        barrier=barrier,
        generation=generation,
        before=before,
        fail_limit=part.fail_limit - len(out),  # nodes that fell out at an earlier barrier count too
    )
    if passed == "stopped" and plan.kind == DATABASE and header is not None:
        _void_approval(tx, run, part, header)
    if passed == "passed":
        # Whoever fell out here takes no further part: its later steps are excused now, so that nobody waits for them.
        fallen = nodes_out(part, claims.excused(tx.connection, run, lane)) - out
        for step in part.steps():
            if step.node in fallen and barrier in predecessors(part, step.id):
                claims.pass_through(tx, run, lane, step.id, generation, node=step.node, state="excused")
        if ends_canvas(part, barrier):
            outbox.add(tx, outbox.ADVANCE, run, lane, {"step": barrier})
    return passed


def _void_approval(tx: Transaction, run: str, lane: Lane, header: tuple[tuple[Step, ...], Barrier]) -> None:
    """Take the approval back when the survey after the gate found something else than was approved.

    Only the readings right behind a gate can do so: nothing was changed since.
    """
    parts = lane.tree.parts
    members, barrier = header
    place = parts.index(barrier)
    gate = parts[place - 2] if place >= 2 else None
    if not isinstance(gate, Gate) or any(step.lines for step in members):
        return
    why = lane_reason(tx, run, lane.name)
    gates.void(tx, run=run, lane=lane.name, gate=gate.id, parts=[*(step.id for step in members), barrier.id], why=why)


def lane_reason(tx: Transaction, run: str, lane: str) -> str:
    """Return why the lane was stopped in this very commit."""
    stopped = [one for one in tx.appended() if one.run == run and one.lane == lane and one.kind is Kind.LANE_STOPPED]
    return str(stopped[-1].data["reason"]) if stopped else ""


def leave_out(tx: Transaction, run: str, lane: Lane, failed: Step, generation: int) -> bool:
    """Let the lane go on without the node of *failed*, which was put back, if the fail limit allows; return whether.

    The node's barrier counts as passed, and its other steps as excused: the next node may begin.
    """
    out = nodes_out(lane, claims.excused(tx.connection, run, lane.name)) | {failed.node}
    barrier = next((part for part in walk(lane.tree) if part.id == f"{lane.name}/{failed.node}/proved"), None)
    if len(out) > lane.fail_limit or barrier is None:
        return False
    steps = [step for step in lane.steps() if step.node == failed.node and step.stage >= failed.stage]
    for step in steps:
        claims.pass_through(tx, run, lane.name, step.id, generation, node=step.node, state="excused")
    claims.pass_through(tx, run, lane.name, barrier.id, generation)
    data = {"generation": generation, "excused": [step.id for step in steps], "nodes_out": sorted(out)}
    tx.append(NewEvent(run=run, kind=Kind.BARRIER_PASSED, lane=lane.name, step=barrier.id, data=data))
    outbox.add(tx, outbox.ADVANCE, run, lane.name, {"why": f"{failed.node} is left out, within the fail limit"})
    return True


def all_over(tx: Transaction, run: str, lane: str, steps: Sequence[str]) -> bool:
    """Return whether each of *steps* is done, failed, parked or excused."""
    table = tables.claim
    over = sa.select(sa.func.count()).where(
        table.c.run == run,
        table.c.lane == lane,
        table.c.step.in_(steps),
        table.c.state.in_(("done", "failed", "parked", "excused")),
    )
    return int(tx.connection.execute(over).scalar_one()) == len(steps)


def nodes_out(lane: Lane, excused: Iterable[str]) -> frozenset[str]:
    """Return the nodes of *excused* steps: they failed within the limit, and the rest of their steps is left out."""
    steps = frozenset(excused)
    return frozenset(step.node for step in lane.steps() if step.id in steps and step.node) if steps else frozenset()


def left_for_later(lane: Lane, parked: Iterable[str]) -> frozenset[str]:
    """Return the steps of *parked* that their lane goes on without, each with the barrier right behind it."""
    waiting = frozenset(parked)
    found: set[str] = set()
    for part, after in zip(lane.tree.parts, (*lane.tree.parts[1:], None), strict=True):
        if isinstance(part, Step) and part.parks and part.id in waiting:
            found |= {part.id, after.id} if isinstance(after, Barrier) else {part.id}
    return frozenset(found)


def _not_to_send(work: Work, run: str, lane: Lane, state: LaneState) -> frozenset[str]:
    """Return the ids that no canvas of *lane* holds: what is done or excused, and what is left for later."""
    parked = work.journal.read(partial(claims.parked, run=run, lane=lane.name))
    return done_with_excused(lane, state) | left_for_later(lane, parked)


def done_with_excused(lane: Lane, state: LaneState) -> frozenset[str]:
    """Return the ids that need not be sent: what is done, and all steps of nodes that are out."""
    out = nodes_out(lane, state.excused)
    return done_ids(state) | {step.id for step in lane.steps() if step.node in out}


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def reconcile_task() -> int:
    """Find lanes with work left that nobody is on, and move them; return how many there were."""
    from workers.app import app, work

    return reconcile(work(), app)


def reconcile(work: Work, app: Celery) -> int:
    """Move lanes with work left that nobody is on, and lanes at an approved gate that nobody moved; return how many.

    Gates whose clock has run out are decided first, by `system`; of those that wait for long, people are reminded.
    """
    repair.let_go_of_the_dead(work)
    for run, lane in work.journal.write(gates.expire):
        log.info("gate_expired", run=run, lane=lane)
    for run, lane in work.journal.write(reminders.remind):
        log.info("gate_reminded", run=run, lane=lane)
    idle_s = work.settings.reconcile_s
    idle = work.journal.write(lambda tx: lanes.idle_lanes(tx, idle_s))
    at_gate = work.journal.write(lambda tx: lanes.idle_gates(tx, idle_s))
    found = [(run, lane, f"nobody was on it for {idle_s:g} s (generation {number})") for run, lane, number in idle]
    found += [(run, lane, LEFT_AT_GATE) for run, lane in at_gate]
    for run, lane, why in found:
        try:
            advance(work, app, run, lane, why=why)
        except Exception as error:  # noqa: BLE001 - one lane that cannot be moved must not hold up the others
            log.warning("reconcile_failed", run=run, lane=lane, error=words_of(error))
    return len(found)


def sign_task(*, run: str, lane: str) -> None:
    """Have the issuer sign what an approved sign gate still misses, and deliver it as a person would."""
    from workers.app import work

    sign(work(), run, lane, now=datetime.now(UTC))


def sign(work: Work, run: str, lane: str, *, now: datetime) -> None:
    """Sign and deliver what *lane* still misses. What goes wrong stops the lane; a message too late does nothing."""
    plan, fleet = work.plan(run)
    try:
        files = issuers.sign_missing(work, plan, fleet, run, lane, now=now)
        failpoint("after_sign", lane)
        if files:
            papers.deliver(work.journal, run, files, by="issuer", now=now, lane=lane)
    except CertbridgeError as error:
        log.warning("sign_failed", run=run, lane=lane, error=words_of(error))
        state = work.journal.state(run).lanes[lane]
        if all(wish in state.certificates for wish in papers.wishes_of(plan, lane, state)):
            return  # another message came first, and the gate is passed
        why = (
            f"The issuer did not sign: {error}"
            if isinstance(error, CertificateError)
            else f"The issuer did not sign: {error} {error.remedy()}"
        )
        work.journal.write(partial(lanes.stop_lane, run=run, lane=lane, reason=why, data={"code": error.code}))
    except Exception as error:
        log.exception("sign_crashed", run=run, lane=lane)
        why = f"The issuer did not sign: an error of our own, {type(error).__name__}. See the worker's log."
        work.journal.write(partial(lanes.stop_lane, run=run, lane=lane, reason=why, data={"code": "EngineError"}))


def _why(data: Any) -> str:
    for key, words in (("gate", "gate {} was passed"), ("barrier", "barrier {} holds"), ("step", "{} is done")):
        if key in data:
            return words.format(data[key])
    return str(data.get("why", "the next stretch")) if isinstance(data, dict) else "the next stretch"
