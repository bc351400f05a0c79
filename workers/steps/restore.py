"""Going back after a renewal, stages 600 and 700 of a rollback: old settings, old names, stores that trust both again.

As every step it goes by what the server shows: a line whose effect is there is not sent, so a step that was cut off
anywhere, or had to be finished by a person, may simply run again.
"""

from __future__ import annotations

from typing import Any

from workers.context import StepContext
from workers.session import NodeSession
from workers.steps.apply import all_set, run_lines, stores_set
from workers.steps.recheck import check_expects, read_settings
from workflows.errors import CommandRejected, Drifted
from workflows.plan import LineKind


async def restore(context: StepContext) -> dict[str, Any]:
    """Give one process, or files that changed places, back what they had. Returns what is so afterwards."""
    async with context.session() as session:
        if any(line.kind is LineKind.RENAME for line in context.step.lines):
            return await _names_back(context, session)
        if not context.began:
            await check_expects(session, context.step.expects, node=context.step.node)
        await run_lines(context, session, await read_settings(session))
        after = await read_settings(session)
    wanted = context.step.params.get("wanted", {})
    if not all_set(wanted, after) or not stores_set(context.step, after):
        raise CommandRejected(
            f"The status of {context.step.params['process']} does not show the old files.", node=context.step.node
        )
    return {
        "settings": {name: after[name] for name in wanted},
        "stores": {one["store"]: one["file"] for one in context.step.params.get("stores", ())},
    }


async def _names_back(context: StepContext, session: NodeSession) -> dict[str, Any]:
    """Rename new files out of the way and old ones into their places, wherever an earlier try left them."""
    for line in context.step.lines:
        old, _, new = line.text.partition(" -> ")
        there = {entry.name for entry in await session.listing()}
        if old in there and new not in there:
            await context.change(session, line)
        elif new in there and old not in there:
            await context.settle(line, context.number_of(line))
    there = {entry.name for entry in await session.listing()}
    backs = [line.text.partition(" -> ") for line in context.step.lines[1::2]]  # each: set aside → in use
    wrong = [aside for aside, _, active in backs if aside in there or active not in there]
    if wrong:
        raise Drifted(f"{', '.join(wrong)} did not get the old name back.", node=context.step.node)
    return {"renamed": [line.text for line in context.step.lines]}
