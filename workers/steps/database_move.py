"""Behind the point of no return: remove, initialize, join, connect, upgrade_schema, and what is looked at before each.

None of them is ever sent twice by itself: when the status shows neither that one began nor that it is done, a person
decides (DESIGN.md section 5). How an operation is followed to its end is in `database_following`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from workers.context import Redo, StepContext
from workers.session import NodeSession
from workers.steps.database_following import carry_out, move_of
from workers.steps.database_make import database_differences
from workers.steps.database_status import in_sync, in_words, is_connected, is_primary
from workers.steps.survey import read_database
from workflows.errors import Drifted, NodeError, OutcomeUnknown, Unreachable
from workflows.facts import DatabaseFact
from workflows.journal import claims, tables
from workflows.journal.store import moment
from workflows.procedures.database_places import REPLICA


async def database_remove(context: StepContext) -> dict[str, Any]:
    """Take this node out of the cluster. Returns {"database": its status in words, "operation", "took_s"}."""

    async def begin(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
        if differences := database_differences(context.step.expects, fact):
            raise Drifted(f"No longer as the plan expects: {'; '.join(differences)}.", node=context.step.node)
        await asyncio.to_thread(_read_and_backed_up, context)
        await context.change(session, move_of(context))

    # Somebody who finished the rebuild by hand, with the runbook, left the node in the cluster with its new files.
    new = _new_files(context)
    return await carry_out(
        context, done=lambda fact: fact.disabled or (bool(new) and list(fact.files) == new), begin=begin
    )


async def database_initialize(context: StepContext) -> dict[str, Any]:
    """Make this node the primary again, with the data it has. Returns as `database_remove`."""

    async def begin(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
        await _nobody_else_leads(context)
        await _enter(context, session, fact)

    return await carry_out(context, done=lambda fact: is_primary(fact, context.step.params["primary"]), begin=begin)


async def database_join(context: StepContext) -> dict[str, Any]:
    """Let this node join; its data is overwritten by the primary's, which is looked at first. Returns as `remove`."""
    primary = context.step.params["primary"]
    return await carry_out(context, done=lambda fact: in_sync(fact, primary), begin=_enter_behind_primary)


async def database_connect(context: StepContext) -> dict[str, Any]:
    """Let this node use the database of the primary, which is looked at first. Returns as `database_remove`."""
    primary = context.step.params["primary"]
    return await carry_out(context, done=lambda fact: is_connected(fact, primary), begin=_enter_behind_primary)


async def database_upgrade_schema(context: StepContext) -> dict[str, Any]:
    """Bring the schema to the release, once all joined nodes are in sync. Returns as `database_remove`."""

    async def begin(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
        behind = [one.address for one in fact.members if one.role == REPLICA and not one.in_sync]
        behind += await asyncio.to_thread(left_for_later, context)
        if behind:
            remedy = f"Bring them in first: `certbridge runs resume {context.run}` takes them up, and then the schema."
            raise NodeError(f"Not in sync yet: {', '.join(behind)}.", remedy=remedy, node=context.step.node)
        await context.change(session, move_of(context))

    def done(fact: DatabaseFact) -> bool:
        return fact.last_command.endswith("upgrade_schema") and fact.progress == "success"

    return await carry_out(context, done=done, begin=begin)


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


# ── what is looked at before a line ──────────────────────────────────────────────────────────────────────────────────
async def _enter(context: StepContext, session: NodeSession, fact: DatabaseFact) -> None:
    """Name the files, set the interface where the status does not show it, and begin to come in."""
    if not fact.disabled:
        raise Drifted(
            f"It is in a cluster already: {in_words(fact)}.",
            remedy="Take it out by hand with `database cluster remove` if it hangs half-way in, then resume the run.",
            node=context.step.node,
        )
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


async def _nobody_else_leads(context: StepContext) -> None:
    """Look at every other joined node: one that is in a cluster by now was brought there by somebody else.

    One that does not answer is left alone: it was removed by this run, and it cannot be asked.
    """
    for node in context.step.params["others"]:
        try:
            async with context.session(node) as there:
                seen = await read_database(there)
        except (Unreachable, OutcomeUnknown):
            continue
        if seen is None or not seen.disabled:
            raise NodeError(
                f"{node} is in a cluster that this run did not make ({in_words(seen)}): nobody leads it a second time.",
                remedy="Find out who did that. If its data is the data to keep, cancel this run and make a new plan.",
                node=context.step.node,
            )


def _read_and_backed_up(context: StepContext) -> None:
    """Return when readings and backups behind the gate are young enough, or a node is out. Raises: Redo: all anew.

    Made anew together, so that what changed meanwhile voids the approval.
    """
    journal = context.work.journal
    steps = journal.state(context.run).lanes[context.lane.name].steps
    before = [step for step in context.lane.steps() if step.action in {"database_recheck", "database_backup"}]
    removing = [step.id for step in context.lane.steps() if step.action == "database_remove"]
    if any(steps[one].status == "done" for one in removing if one in steps):
        return
    now = moment(journal.read(lambda connection: float(connection.execute(sa.select(tables.clock())).scalar_one())))
    youngest = now - timedelta(seconds=context.step.params["backup_age_s"])
    began = {step.id: steps[step.id].started_at if step.id in steps else None for step in before}
    old = [one for one, at in began.items() if at is None or at < youngest]
    if old:
        why = f"more than {context.step.params['backup_age_s'] // 60} minutes before the first remove: {', '.join(old)}"
        lane = context.lane.name
        raise Redo((*began, f"{lane}/as-approved", f"{lane}/backed-up"), why)


def _new_files(context: StepContext) -> list[str]:
    """Return the files with which this node is to come in again, [] when it is not."""
    entering = (step for step in context.lane.steps() if step.node == context.step.node and "files" in step.params)
    return next((list(step.params["files"]) for step in entering), [])
