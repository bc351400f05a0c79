"""Stage 300: key and CSR under a fresh basename, the CSR fetched and compared with the wish.

On the node `pki csr` makes both. `key: engine` makes them here, `key: file` takes what was brought in; such a key is
kept sealed until it is on its servers. `pki csr` is never repeated blindly: when key and CSR are there, they are read.
"""

from __future__ import annotations

import asyncio
from typing import Any

from workers.context import StepContext
from workers.session import NodeSession
from workflows.errors import CommandRejected, Drifted, Finding, KeyMismatch
from workflows.inventory import KeyOrigin
from workflows.x509.request import (
    RequestView,
    check_request,
    key_pem,
    make_key,
    make_request,
    read_private_key,
    read_request,
    spki_sha256,
)


async def request(context: StepContext) -> dict[str, Any]:
    """Return {"csr": blob digest, "spki_sha256", "key_kind"} of the CSR of this step's wish."""
    wish = context.wish(context.step.params["wish"])
    if wish.key is KeyOrigin.NODE:
        async with context.session() as session:
            pem = await _on_node(context, session)
    else:
        pem = await _off_node(context)
    seen = read_request(pem)
    _compare(context, seen)
    return {"csr": await context.put_blob("csr", seen.pem), "spki_sha256": seen.spki_sha256, "key_kind": seen.key_kind}


async def _on_node(context: StepContext, session: NodeSession) -> bytes:
    ask, fetch = context.step.lines
    wish = context.wish(context.step.params["wish"])
    key, csr = f"{wish.basename}.key", f"{wish.basename}.csr"
    there = {entry.name for entry in await session.listing()}
    if {key, csr} & there and not context.was_sent(ask):
        raise Drifted(f"{key} or {csr} is there, but this run did not make it.", node=context.step.node)
    if not {key, csr} <= there:
        if context.was_sent(ask) and context.outcome_of(ask) != "refused":
            # Sent, answer lost: the server may still be at it (DESIGN.md section 5).
            there = await context.wait_for_files(session, {key, csr})
        if not {key, csr} <= there:
            if {key, csr} & there:
                raise Drifted(f"Only one of {key} and {csr} is there after `pki csr`.", node=context.step.node)
            await context.change(session, ask)
    await context.settle(ask, context.number_of(ask))
    return await context.fetch(session, fetch)


async def _off_node(context: StepContext) -> bytes:
    wish = context.wish(context.step.params["wish"])
    sealed = f"{context.run}/{wish.id}.key"
    if wish.key is KeyOrigin.FILE:
        key_data = await context.unseal(sealed)
        if key_data is None:
            raise CommandRejected(f"The key brought in for {wish.id} is not in the vault of this run.")
        csr = await context.unseal(f"{context.run}/{wish.id}.csr") or b""
        seen = read_request(csr)
        if spki_sha256(read_private_key(key_data)) != seen.spki_sha256:
            raise KeyMismatch(
                [Finding(wish.csr_file, f"is not for the key in {wish.key_file}", "Bring the CSR made with that key.")]
            )
        return seen.pem
    stored = await context.unseal(sealed)
    # A key takes up to seconds of CPU, and the loop that runs this carries all other sessions.
    key = (
        await asyncio.to_thread(read_private_key, stored)
        if stored
        else await asyncio.to_thread(make_key, wish.key_kind)
    )
    if stored is None:
        await context.seal(sealed, key_pem(key))
    return make_request(key, wish.subject, wish.sans)


def _compare(context: StepContext, seen: RequestView) -> None:
    wish = context.wish(context.step.params["wish"])
    findings = check_request(seen, wish.subject, wish.sans)
    if findings.faults:
        text = "; ".join(one.what for one in findings.faults)
        raise Drifted(f"The CSR does not say what was wished: {text}.", node=context.step.node)
