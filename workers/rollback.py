"""Put a node back: the lines back of every apply and swap step that touched it, then the old leaf on every port.

This happens by itself when a step of stage 700 or 800 fails (DESIGN.md section 7, stage 800); of stage 600 the failed
step alone is taken back, so that no process stays off and nobody trusts less than before. When it works the node
serves what it served before; when it does not, "rollback failed" is a state of its own, with the lines for the person.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import stamina
import structlog

from workers.context import UNDO_OFFSET, StepContext
from workers.steps.apply import put_back
from workers.steps.prove import look_until
from workers.steps.recheck import check_expects
from workflows.errors import CertbridgeError, LeaseLost, RecordsAway
from workflows.facts import PortState
from workflows.journal.events import Kind, NewEvent
from workflows.journal.lanes import reopen_steps
from workflows.mmp.services import Probe
from workflows.plan import Step

log = structlog.get_logger()

TRUST = 600
APPLY = 700
STAGES = frozenset({TRUST, APPLY, 800})
TRIES = 3
# Lines back are numbered per step (1000, 1100, …), so that the journal never takes those of one for those of another.
UNDO_SPACE = 100


async def put_back_node(context: StepContext) -> dict[str, Any]:
    """Put this step's node back and journal it. Returns {"put_back": True, …} or {"rollback_failed": sentence, …}.

    A node of which nothing was changed yet is left alone: {}.
    """
    touched = await _touched(context)
    if not touched:
        return {}
    try:
        await _put_all_back(context, touched)
        await _settings_back(context, touched)
        ports = await _old_leaves(context)
    except (LeaseLost, RecordsAway):
        raise
    except CertbridgeError as error:
        return await _failed(context, touched, str(error))
    wrong = [port["fault"] for port in ports if port["fault"]]
    if wrong:
        return await _failed(context, touched, "; ".join(wrong))
    data = {"steps": [step.id for step in touched], "ports": ports}
    await context.write(lambda tx: tx.append(_event(context, Kind.PUT_BACK, data)))
    await _reopen(context, touched)
    return {"put_back": True, "ports": ports}


async def give_up(context: StepContext, why: str) -> dict[str, Any]:
    """Journal that the rollback of this node failed, with the lines that are left for a person; nothing is sent.

    A plan that goes back is not undone by itself: that would be forward again. {} when nothing was changed here yet.
    """
    back = [step for step in context.lane.steps() if step.node == context.step.node and step.action == "restore"]
    state = (await asyncio.to_thread(context.work.journal.state, context.run)).lanes[context.lane.name].steps
    if not any(step.id in state and (state[step.id].lines or state[step.id].status == "done") for step in back):
        return {}
    left = [step for step in back if step.id not in state or state[step.id].status != "done"]
    lines = [str(line) for step in left or back for line in step.lines]
    log.error("rollback_failed", run=context.run, node=context.step.node, why=why)
    data = {"why": why, "lines": lines, "steps": [context.step.id]}
    await context.write(lambda tx: tx.append(_event(context, Kind.ROLLBACK_FAILED, data)))
    return {"rollback_failed": why, "lines": lines}


async def _touched(context: StepContext) -> list[Step]:
    """Return the steps of this node that sent a line, renames first: a restart comes after the old names are back."""
    steps = [step for step in context.lane.steps() if step.node == context.step.node and step.undo]
    if context.step.stage == TRUST:
        steps = [context.step]
    else:
        steps = [step for step in steps if step.stage in STAGES and step.stage != TRUST]
    state = (await asyncio.to_thread(context.work.journal.state, context.run)).lanes[context.lane.name]
    sent = [
        step
        for step in steps
        if step.id in state.steps and (state.steps[step.id].lines or state.steps[step.id].status == "done")
    ]
    return sorted(sent, key=lambda step: step.action != "swap")


async def _put_all_back(context: StepContext, touched: list[Step]) -> None:
    """Put every step back, also when one of them cannot be: no process stays off because of another one.

    Raises: CertbridgeError, the first one.
    """
    first: CertbridgeError | None = None
    for place, step in enumerate(touched):
        try:
            await _put_back(_as(context, step), step, UNDO_OFFSET + place * UNDO_SPACE)
        except (LeaseLost, RecordsAway):
            raise
        except CertbridgeError as error:
            first = first or error
    if first:
        raise first


async def _put_back(context: StepContext, step: Step, offset: int) -> None:
    """Run the lines back; after a cut, again from the first whose end is not known."""

    def again(error: Exception) -> bool:
        return isinstance(error, CertbridgeError) and error.retryable

    @stamina.retry(on=again, attempts=TRIES, timeout=None, wait_initial=0.5, wait_max=5.0)
    async def once() -> None:
        await put_back(context, step, offset=offset)

    # An earlier, failed try at putting back may have left outcomes under these numbers: they tell nothing of this one.
    for number in range(offset, offset + UNDO_SPACE):
        context.sent.pop(number, None)
        context.outcomes.pop(number, None)
    await once()


async def _settings_back(context: StepContext, touched: list[Step]) -> None:
    """Read the status: what had a pair before has it again. Raises: Drifted."""
    expects = [
        expect
        for step in touched
        for expect in step.expects
        if expect.kind == "trust" or (expect.kind == "setting" and expect.value["key"] and expect.value["certificate"])
    ]
    async with context.session() as session:
        await check_expects(session, expects, node=context.step.node)


async def _old_leaves(context: StepContext) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for port in context.ports_of(context.step.node):
        if port["probe"] == Probe.NONE.value or not port["before"]:
            continue
        seen = await look_until(context, port, port["before"], to_the_end=True)
        good = seen.state is PortState.SERVED and seen.chain[0].fingerprint == port["before"]
        fault = (
            "" if good else f"{port['service']} on {port['address']}:{port['port']} does not serve its old certificate"
        )
        found.append({"service": port["service"], "address": port["address"], "port": port["port"], "fault": fault})
    return found


async def _failed(context: StepContext, touched: list[Step], why: str) -> dict[str, Any]:
    lines = [str(line) for step in touched for line in step.undo]
    log.error("rollback_failed", run=context.run, node=context.step.node, why=why)
    data = {"why": why, "lines": lines, "steps": [step.id for step in touched]}
    await context.write(lambda tx: tx.append(_event(context, Kind.ROLLBACK_FAILED, data)))
    await _reopen(context, touched)
    return {"rollback_failed": why, "lines": lines}


async def _reopen(context: StepContext, touched: list[Step]) -> None:
    """Let the steps that were done and are now undone be claimed anew when the lane is resumed."""
    others = [step.id for step in touched if step.id != context.step.id]
    await context.write(lambda tx: reopen_steps(tx, context.run, context.lane.name, others))


def _as(context: StepContext, step: Step) -> StepContext:
    return replace(context, step=step)


def _event(context: StepContext, kind: Kind, data: dict[str, Any]) -> NewEvent:
    return NewEvent(
        run=context.run, kind=kind, lane=context.lane.name, step=context.step.id, node=context.step.node, data=data
    )
