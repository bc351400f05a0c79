"""Stage 500: key (when it was not made there), certificate, bundle and full chain go to the server, proved there.

Every upload is read back before anything refers to it; then the server itself says that key and certificate match
(`pki match`) and that the chain holds (`pki verify`). Nothing that is in use is touched.
"""

from __future__ import annotations

from typing import Any

from workers.context import StepContext
from workers.session import NodeSession
from workflows.errors import CommandRejected
from workflows.mmp.commands import PkiMatch, PkiVerify
from workflows.mmp.replies import PkiAnswer
from workflows.plan import Line, LineKind
from workflows.x509.bundle import ca_bundle, full_chain, render


async def deliver(context: StepContext) -> dict[str, Any]:
    """Return {"files": {name: SHA-256}, "match": "yes" | "unknown", "verify": …}.

    Raises: CommandRejected when the server says that the pair does not match or the chain does not hold.
    """
    carried = await _key_from_source(context)
    files: dict[str, str] = {}
    async with context.session() as session:
        for line in context.step.lines:
            if line.kind is LineKind.UPLOAD:
                data = carried if line.content.startswith("key:") and carried else await _content(context, line)
                files[line.text] = await context.upload(session, line, data)
        answers = await _prove(context, session)
    return {"files": files, **answers}


async def _key_from_source(context: StepContext) -> bytes:
    """Read the shared key from the node that made it, as the plan's own line says; it is forgotten after this step."""
    if not context.step.source:
        return b""
    line = next(line for line in context.step.lines if line.content.startswith("key-from:"))
    async with context.session(context.step.source) as session:
        return await context.fetch(session, line)


async def _content(context: StepContext, line: Line) -> bytes:
    kind, _, wish_id = line.content.partition(":")
    if kind == "key":
        key = await context.unseal(f"{context.run}/{wish_id}.key")
        if key is None:
            raise CommandRejected(f"The key of {wish_id} is not in the vault of this run.", node=context.step.node)
        return key
    leaf, chain = await context.certificate(wish_id)
    if kind == "certificate":
        return render([leaf])
    return ca_bundle(chain) if kind == "bundle" else full_chain(leaf, chain)


async def _prove(context: StepContext, session: NodeSession) -> dict[str, str]:
    key, certificate = context.step.params["key"], context.step.params["certificate"]
    match = await session.ask(PkiMatch(key, certificate))
    if match is PkiAnswer.NO:
        raise CommandRejected(
            f"The server says that {key} and {certificate} do not belong together.", node=context.step.node
        )
    chains = [line.text for line in context.step.lines if line.content.split(":")[0] in {"bundle", "fullchain"}]
    verify = PkiAnswer.UNKNOWN
    for name in chains:
        verify = await session.ask(PkiVerify(certificate, name))
        if verify is PkiAnswer.NO:
            raise CommandRejected(f"The server says that {name} does not prove {certificate}.", node=context.step.node)
    return {"match": match.value, "verify": verify.value}
