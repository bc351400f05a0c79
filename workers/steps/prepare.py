"""Stage 200: fresh names are free, old pairs belong together, a backup is fetched, renaming works if needed."""

from __future__ import annotations

import hashlib
from typing import Any

from workers.context import StepContext
from workers.session import NodeSession
from workers.steps.recheck import check_expects
from workflows.errors import CommandRejected, NodeError
from workflows.mmp.commands import PkiMatch
from workflows.mmp.replies import PkiAnswer
from workflows.plan import ROLLBACK, Line, LineKind

_SCRATCH = b"certbridge: a scratch file that shows whether renaming works; it may be deleted\n"


async def prepare(context: StepContext) -> dict[str, Any]:
    """Make this server ready. Returns {"backup": {"name", "sha256", "size"}}.

    Raises: Drifted (a fresh name is taken), CommandRejected (the old pair does not match, the backup failed), NodeError
    (renaming is refused).
    """
    async with context.session() as session:
        await check_expects(session, context.step.expects, node=context.step.node)
        await _pairs_match(context, session)
        backup = await _backup(context, session)
        await _renaming_works(context, session)
    return {"backup": backup}


async def _pairs_match(context: StepContext, session: NodeSession) -> None:
    when, would = ("before", "is") if context.plan.purpose == ROLLBACK else ("now", "would be")
    for key, certificate in context.step.params["pairs"]:
        if await session.ask(PkiMatch(key, certificate)) is PkiAnswer.NO:
            raise CommandRejected(
                f"{key} and {certificate}, in use {when}, do not belong together: there {would} no way back.",
                node=context.step.node,
            )


async def _backup(context: StepContext, session: NodeSession) -> dict[str, Any]:
    name = context.step.params["backup"]
    if not any(entry.name == name and entry.size for entry in await session.listing()):
        await context.change(session, _line(context, LineKind.COMMAND))
    if not any(entry.name == name and entry.size for entry in await session.listing()):
        raise CommandRejected(f"`backup snapshot` left no file {name}.", node=context.step.node)
    snapshot = _line(context, LineKind.COMMAND)
    await context.settle(snapshot, context.number_of(snapshot))
    data = await context.fetch(session, _line(context, LineKind.FETCH))
    # A backup holds private keys, so it is kept sealed (DESIGN.md section 6).
    await context.seal(f"{context.run}/{context.step.node}/{name}", data)
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def _renaming_works(context: StepContext, session: NodeSession) -> None:
    lines = [line for line in context.step.lines if line.kind in {LineKind.UPLOAD, LineKind.RENAME, LineKind.DELETE}]
    if not lines:
        return
    there = {entry.name for entry in await session.listing()}
    upload, rename, delete = lines
    if context.was_sent(delete) and not {upload.text, delete.text} & there:
        await context.settle(delete, context.number_of(delete))  # it was renamed, or it would not have been deleted
        return
    if delete.text not in there:
        await context.upload(session, upload, _SCRATCH)
        try:
            await context.change(session, rename)
        except CommandRejected as error:
            raise NodeError(
                "This server refuses to rename files over SFTP, so `files: same` cannot work here.",
                remedy="Set `files: fresh` for its certificates and plan again.",
                node=context.step.node,
            ) from error
    await context.change(session, delete)


def _line(context: StepContext, kind: LineKind) -> Line:
    return next(line for line in context.step.lines if line.kind is kind)
