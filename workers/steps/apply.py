"""Stages 600, 700 and 900: trust stores, files that change places, services that take up their new files.

Each function reads the status first and sends only the lines that are still needed, in the order of the plan, so a step
that was cut off half-way goes on where it stood. Success is what the status says afterwards, never a reply alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from workers.context import StepContext
from workers.session import NodeSession
from workers.steps.recheck import check_expects, read_settings
from workers.steps.survey import look
from workflows import papers
from workflows.errors import CommandRejected, Drifted, LeaseLost, NodeError
from workflows.facts import PortState
from workflows.mmp.services import Probe
from workflows.plan import Line, LineKind, Step
from workflows.x509.bundle import split, trust_with, trust_without
from workflows.x509.renewal import fingerprint

MOST_RESTARTS = 2


async def apply(context: StepContext) -> dict[str, Any]:
    """Put the new files of one process in service. Returns {"settings": what the status says afterwards}."""
    wanted: Mapping[str, Mapping[str, str]] = context.step.params["wanted"]
    async with context.session() as session:
        now = await read_settings(session)
        if not context.began:
            await check_expects(session, context.step.expects, node=context.step.node)
        await run_lines(context, session, now)
        after = await read_settings(session)
    if not all_set(wanted, after):
        raise CommandRejected(
            f"The status of {context.step.params['process']} does not show the new files.", node=context.step.node
        )
    return {"settings": {name: after[name] for name in wanted}}


async def trust(context: StepContext) -> dict[str, Any]:
    """Make stores hold old + new, and the process read them. Returns {"stores": {store: file}}."""
    async with context.session() as session:
        if not context.began:
            # A file of ours may be there from before the node was put back; `_upload_stores` looks at what it holds.
            stores = [one for one in context.step.expects if one.kind == "trust"]
            await check_expects(session, stores, node=context.step.node)
        await _upload_stores(context, session)
        now = await read_settings(session)
        await run_lines(context, session, now)
        after = await read_settings(session)
    if not stores_set(context.step, after):
        raise CommandRejected("The status does not show the new trust stores.", node=context.step.node)
    return {"stores": {one["store"]: one["file"] for one in context.step.params["stores"]}}


async def close(context: StepContext) -> dict[str, Any]:
    """Take the old leaves out of the stores; no restart, so it counts from the next one. Returns as `trust` does."""
    return {**await trust(context), "effective": "at the next restart"}


async def swap(context: StepContext) -> dict[str, Any]:
    """Rename the active files aside and the new ones into their places (row S9). Returns {"renamed": [...]}."""
    async with context.session() as session:
        if not context.began:
            await check_expects(session, context.step.expects, node=context.step.node)
        await rename_all(context, session, context.step.lines)
    return {"renamed": [line.text for line in context.step.lines]}


async def rename_all(context: StepContext, session: NodeSession, lines: tuple[Line, ...], offset: int = 0) -> None:
    """Make the renames that are not made yet: one is made when its old name is gone and its new name is there."""
    for number, line in enumerate(lines):
        old, _, new = line.text.partition(" -> ")
        there = {entry.name for entry in await session.listing()}
        made = context.outcome_of(line, offset + number) == "ok" or (
            context.was_sent(line, offset + number) and old not in there
        )
        if made:
            await context.settle(line, offset + number)
            continue
        if old not in there or new in there:
            raise Drifted(
                f"{old} cannot become {new}: {'it is gone' if old not in there else f'{new} is there'}.",
                node=context.step.node,
            )
        await context.change(session, line, number=offset + number)


async def put_back(context: StepContext, step: Step, *, offset: int) -> None:
    """Run the lines back of *step* (its `undo`), from wherever it stands now.

    A line whose end is known is not sent again, so after a cut this may be called anew. When a line is refused, those
    that start a process are sent all the same: better on with the wrong files than off.
    Raises: NodeError when a line back is refused; "rollback failed" is then the state of the node.
    """
    renames = tuple(line for line in step.undo if line.kind is LineKind.RENAME)
    await _settled(context)
    async with context.session() as session:
        if renames:
            await _rename_back(context, session, step, offset)
            return
        refused: NodeError | None = None
        for number, line in enumerate(step.undo, start=offset):
            verb = line.content.partition(":")[0]
            known = {"ok", "refused"} if verb == "disable" else {"ok"}
            if context.outcomes.get(number) in known or (refused and verb != "enable"):
                continue
            if verb == "restart" and context.sent.get(number, 0) >= MOST_RESTARTS:
                continue  # whether it took is seen on the ports and in the status afterwards
            try:
                await context.change(session, line, number=number, tolerate_refusal=verb == "disable")
            except LeaseLost:
                raise
            except NodeError as error:
                if error.retryable:
                    raise
                refused = refused or error
        if refused:
            raise refused


async def _rename_back(context: StepContext, session: NodeSession, step: Step, offset: int) -> None:
    # The lines come in pairs (active → fresh, aside → active); a pair whose swap was never made is left out.
    for number in range(0, len(step.undo), 2):
        for line_number in (number, number + 1):
            line = step.undo[line_number]
            old, _, new = line.text.partition(" -> ")
            there = {entry.name for entry in await session.listing()}
            if old in there and new not in there:
                await context.change(session, line, number=offset + line_number)


async def run_lines(context: StepContext, session: NodeSession, now: Mapping[str, Any]) -> None:
    """Send the commands of this step that are still needed, by what the status says *now* and what was sent before.

    A process is *fresh* when it was started after its files were set: its ports show it, or the outcome of the line
    that starts it does. Set and fresh means done; set and not fresh means start it; else everything.
    """
    commands = [(number, line) for number, line in enumerate(context.step.lines) if line.kind is LineKind.COMMAND]
    now = await _await_late(context, session, commands, now)
    start = next((one for one in commands if one[1].content.split(":")[0] in {"enable", "restart"}), None)
    if all(_is_set(context.step, line, now) for _, line in commands) and (
        start is None or await _fresh(context, *start, now)
    ):
        if start is not None:
            await context.settle(start[1], start[0])
        return
    for number, line in commands:
        verb, _, process = line.content.partition(":")
        if verb == "set":
            if _is_set(context.step, line, now):
                await context.settle(line, number)
                continue
            await context.change(session, line, number=number)
        elif verb == "restart":
            await _restart(context, session, line, number)
        elif _on(process, await read_settings(session)) is (verb == "disable"):
            await context.change(session, line, number=number)
        else:
            await context.settle(line, number)


async def _await_late(
    context: StepContext, session: NodeSession, commands: list[tuple[int, Line]], now: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Wait until each line whose answer was lost shows its effect, or has had its time; return the status then.

    Only then is it known what is still needed: a line that is repeated, or followed by the next one, while the server
    is still at the first would be undone by its late effect.
    """
    for number, line in commands:
        while (left_s := context.late_s(number)) and not await _took(context, line, now):
            context.give_way()
            await asyncio.sleep(min(left_s, context.work.settings.poll_s))
            now = await read_settings(session)
    return now


async def _took(context: StepContext, line: Line, now: Mapping[str, Any]) -> bool:
    """Return whether the effect of *line* is seen, in the status *now* or on the ports."""
    verb, _, process = line.content.partition(":")
    if verb == "set":
        return _is_set(context.step, line, now)
    return await _in_effect(context) if verb == "restart" else _on(process, now) is (verb == "enable")


async def _settled(context: StepContext) -> None:
    """Wait until no line of this step can be at work on its server any more, whatever the status says."""
    await asyncio.sleep(max((context.late_s(number) for number in context.sent), default=0.0))


async def _fresh(context: StepContext, number: int, line: Line, now: Mapping[str, Any]) -> bool:
    """Return whether the line that starts the process took, whether or not its answer came.

    A process that was off for certain, was told to start, and is on, was started by that line.
    """
    verb, _, process = line.content.partition(":")
    if verb == "enable" and not _on(process, now):
        return False
    if context.outcome_of(line, number) == "ok":
        return True
    return _was_started(context, number, line) or await _in_effect(context)


def _was_started(context: StepContext, number: int, line: Line) -> bool:
    """Return whether *line* was told to start what this step had stopped for certain."""
    verb, _, process = line.content.partition(":")
    stops = [place for place, one in enumerate(context.step.lines) if one.content == f"disable:{process}"]
    stopped = any(context.outcomes.get(place) == "ok" for place in stops)
    return verb == "enable" and stopped and context.was_sent(line, number)


async def _restart(context: StepContext, session: NodeSession, line: Line, number: int) -> None:
    """Send a restart at most twice: once, and once more when its answer was lost and its effect cannot be seen."""
    if context.was_sent(line, number):
        if context.outcome_of(line, number) == "ok" or await _comes_into_effect(context):
            await context.settle(line, number)
            return
        if context.times_sent(line, number) >= MOST_RESTARTS:
            raise NodeError(
                f"`{line.text}` was sent {MOST_RESTARTS} times and its effect is not seen.",
                remedy=f"Look at the server, restart the service by hand, then `certbridge runs resume {context.run}`.",
                node=context.step.node,
            )
    await context.change(session, line, number=number)


async def _in_effect(context: StepContext) -> bool:
    """Return whether every port of this process that can be seen serves its new leaf; False when none is seen."""
    ports = [pair async for pair in _looks(context)]
    return bool(ports) and all(served == wanted for wanted, served in ports)


async def _comes_into_effect(context: StepContext) -> bool:
    """Wait while a port of this process is down, as it is during a restart, and return what `_in_effect` does."""
    waited = 0.0
    while waited < context.patience_s:
        if all([served async for _, served in _looks(context)]):
            break
        context.give_way()
        await asyncio.sleep(context.work.settings.poll_s)
        waited += context.work.settings.poll_s
    return await _in_effect(context)


async def _looks(context: StepContext) -> AsyncIterator[tuple[str, str]]:
    """Yield (fingerprint wanted, fingerprint served or "") of every port of this process that can be seen."""
    wishes: Mapping[str, str] = context.step.params.get("wishes", {})
    for port in context.ports_of(context.step.node):
        if port["service"] in wishes and port["probe"] != Probe.NONE.value:
            # A rollback names the leaf itself; a renewal the wish, whose certificate came in meanwhile.
            wanted = port.get("wanted") or fingerprint((await context.certificate(wishes[port["service"]]))[0])
            found = await look(port["service"], port["address"], port["port"], Probe(port["probe"]))
            yield wanted, found.chain[0].fingerprint if found.state is PortState.SERVED else ""


async def _upload_stores(context: StepContext, session: NodeSession) -> None:
    """Upload old + new, or new alone. A node that dropped out of the run keeps its old leaf in its peers' stores."""
    run = await asyncio.to_thread(context.work.journal.state, context.run)
    state = run.lanes[context.lane.name]
    going = papers.wishes_of(context.plan, context.lane.name, state)
    out = papers.nodes_out(context.lane, state)
    for one in context.step.params["stores"]:
        line = next(line for line in context.step.lines if line.kind is LineKind.UPLOAD and line.text == one["file"])
        base = await session.fetch(one["base"])
        leaves = [(await context.certificate(wish))[0] for wish in one["adds"] if wish in going]
        data = trust_with(base, leaves)
        gone = {leaf for leaf, nodes in one["removes"].items() if out.isdisjoint(nodes)}
        if gone:
            data = trust_without(data, [leaf for leaf in split(base) if fingerprint(leaf) in gone])
        there = {entry.name for entry in await session.listing()}
        if context.was_sent(line) or line.text not in there:
            await context.upload(session, line, data)
        elif await session.fetch(line.text) != data:
            raise Drifted(f"{line.text} is there already, and holds something else.", node=context.step.node)


def stores_set(step: Step, now: Mapping[str, Any]) -> bool:
    """Return whether the status *now* names the files of every trust store of *step*."""
    return all(now.get(f"trust {one['store']}") == one["file"] for one in step.params.get("stores", ()))


def all_set(wanted: Mapping[str, Mapping[str, str]], now: Mapping[str, Any]) -> bool:
    """Return whether the status *now* names the files of every service in *wanted*."""
    return all(
        name in now and all((now[name][what] or "") == value for what, value in setting.items())
        for name, setting in wanted.items()
    )


def _is_set(step: Step, line: Line, now: Mapping[str, Any]) -> bool:
    """Return whether what a "set" line sets is set already; True for the lines that set nothing."""
    verb, _, name = line.content.partition(":")
    if verb != "set":
        return True
    if name in step.params.get("wanted", {}):
        return all_set({name: step.params["wanted"][name]}, now)
    stores = {one["store"]: one["file"] for one in step.params.get("stores", ())}
    return now.get(f"trust {name}") == stores.get(name)


def _on(process: str, now: Mapping[str, Any]) -> bool:
    """Return whether *process* runs by its status; its sub-services ("webbridge3.https") share one switch."""
    mine = [value for name, value in now.items() if name.split(".")[0] == process and isinstance(value, Mapping)]
    return any(value["enabled"] for value in mine)
