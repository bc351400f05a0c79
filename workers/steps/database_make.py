"""What is done while the database cluster stands: make ready, sign with the built-in CA, hand out, read again, back up.

Nothing here touches what is in use (rows S4, S9): every file has a fresh name, and each is matched and verified on its
node before anything is removed. Keys go from the primary to the others inside one step and are forgotten after it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from workers.context import StepContext
from workers.session import NodeSession
from workers.steps.recheck import check_expects
from workers.steps.survey import read_database
from workflows.errors import CertificateError, CommandRejected, Drifted, NodeError
from workflows.facts import DatabaseFact
from workflows.journal import stock, tables
from workflows.journal.events import Kind
from workflows.journal.store import moment
from workflows.mmp.commands import PkiMatch, PkiVerify
from workflows.mmp.replies import PkiAnswer
from workflows.plan import Expect, Line, LineKind
from workflows.procedures.database_steps import role_told
from workflows.x509.bundle import render, split
from workflows.x509.chain import is_self_signed, issued
from workflows.x509.renewal import view
from workflows.x509.request import KeyKind, key_pem, make_key, read_private_key, spki_sha256

JUST_NOW = timedelta(minutes=2)
"""A backup that an earlier try of its step took is as good as one taken now for so long."""

SMALLEST_BACKUP = 1024
"""A backup that holds a database, settings and keys is never smaller than this, in bytes."""


async def database_prepare(context: StepContext) -> dict[str, Any]:
    """Make this node ready. Returns {"ca": blob digest} of a CA that is kept, else {}.

    Raises: Drifted (a fresh name is taken), CommandRejected (a pair in use does not match), NodeError (keys cannot be
    read from the node that is to hand them out).
    """
    async with context.session() as session:
        await check_expects(session, context.step.expects, node=context.step.node)
        for key, certificate in context.step.params["pairs"]:
            await _must_match(context, session, key, certificate, "in use now: there would be no way back")
        await _keys_can_be_read(context, session)
        name = context.step.params["ca"]
        return {"ca": await context.put_blob("certificate", await session.fetch(name))} if name else {}


async def database_ca(context: StepContext) -> dict[str, Any]:
    """Have the primary make its own CA. Returns {"ca": blob digest}."""
    ask, fetch = context.step.lines
    key, certificate = context.step.params["key"], context.step.params["certificate"]
    async with context.session() as session:
        await _make(context, session, ask, {key, certificate})
        data = await context.fetch(session, fetch)
    made = _only(context, data, certificate)
    if not is_self_signed(made):
        raise Drifted(f"{certificate} is not signed by its own key.", node=context.step.node)
    return {"ca": await context.put_blob("certificate", render([made]))}


async def database_sign(context: StepContext) -> dict[str, Any]:
    """Have the built-in CA sign a CSR. Returns {"wish", "certificate": blob digest, "not_valid_after"}.

    Raises: Drifted: what came is for another key, has another CN, or is not signed by that CA.
    """
    wish = context.step.params["wish"]
    name = context.step.params["certificate"]
    *before, ask, fetch = context.step.lines
    csr = await _request(context, wish)
    async with context.session() as session:
        for line in before:
            await context.upload(session, line, csr[0])
        await _make(context, session, ask, {name})
        data = await context.fetch(session, fetch)
    made = _only(context, data, name)
    seen = view(made)
    ca = (await _ca(context))[0]
    wanted = dict(context.plan.wishes[wish]["subject"])["CN"]
    if seen.spki_sha256 != csr[1] or wanted != seen.CN or not issued(ca, made):
        raise Drifted(f"{name} is not the certificate that was asked of the built-in CA.", node=context.step.node)
    blob = await context.put_blob("certificate", render([made]))
    return {"wish": wish, "certificate": blob, "not_valid_after": seen.not_after.isoformat()}


async def database_deliver(context: StepContext) -> dict[str, Any]:
    """Hand the new files out to this node. Returns {"files": {name: SHA-256 of a certificate file}, "answers": …}.

    Raises: CommandRejected, Drifted: the node or we ourselves see that a pair does not match or the CA did not sign it.
    """
    contents: Mapping[str, str] = context.step.params["contents"]
    certificates = {name: await _content(context, content) for name, content in contents.items()}
    keys = await _keys(context, certificates)
    async with context.session() as session:
        for line in context.step.lines:
            if line.kind is LineKind.UPLOAD:
                await context.upload(session, line, keys.get(line.text) or certificates[line.text])
        answers = await _proved(context, session)
        for name, data in certificates.items():
            if await session.fetch(name) != data:
                raise Drifted(f"{name} holds something else than was made.", node=context.step.node)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in certificates.items()}
    return {"files": files, "answers": answers}


async def database_recheck(context: StepContext) -> dict[str, Any]:
    """Read the node again after the gate. Raises: Drifted, with everything that is no longer as it was approved."""
    delivered = await asyncio.to_thread(_delivered, context)
    async with context.session() as session:
        fact = await read_database(session)
        differences = database_differences(context.step.expects, fact)
        differences += await _files_changed(context, session, delivered)
        if delivered:
            await _proved(context, session, params=delivered["params"])
    if differences:
        raise Drifted(f"No longer as it was approved: {'; '.join(differences)}.", node=context.step.node)
    return {"role": role_told(fact) if fact else ""}


async def database_backup(context: StepContext) -> dict[str, Any]:
    """Take a backup, fetch it and keep it sealed. Returns {"backup": {"name", "size", "sha256"}}.

    Raises: CommandRejected (there is no file, or one too small to hold a database), Drifted (somebody else's file).
    """
    delete, snapshot, fetch = context.step.lines
    name = context.step.params["backup"]
    async with context.session() as session:
        if await _taken_just_now(context, session, snapshot, name):
            await context.settle(snapshot, context.number_of(snapshot))
        else:
            if await _size(session, name) is not None:
                if not context.began:
                    raise Drifted(f"{name} is there, but this run did not make it.", node=context.step.node)
                await context.change(session, delete)
            await context.change(session, snapshot)
        size = await _size(session, name)
        data = await context.fetch(session, fetch) if size else b""
    if len(data) < SMALLEST_BACKUP or len(data) != size:
        raise CommandRejected(
            f"The backup {name} has {len(data)} bytes; that is no backup of a database.",
            remedy="Take one by hand and look at the disk of the server; without a backup nothing is removed.",
            node=context.step.node,
        )
    await context.seal(f"{context.run}/{context.step.node}/{name}", data)
    return {"backup": {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}}


def database_differences(expects: tuple[Expect, ...], fact: DatabaseFact | None) -> list[str]:
    """Return in words where the status of a node differs from the "database" among *expects*."""
    found: list[str] = []
    for expect in (one for one in expects if one.kind == "database"):
        if fact is None:
            return ["`database cluster status` is not understood"]
        if fact.busy:
            found.append(f"`{fact.last_command}` is under way")
        if (role := role_told(fact)) != expect.value["role"]:
            found.append(f"its role is {role}, not {expect.value['role']}")
        if fact.primary != expect.subject and not expect.value.get("any_primary"):
            found.append(f"it names {fact.primary or 'no'} primary, not {expect.subject or 'none'}")
        if list(fact.files) != list(expect.value["files"]):
            found.append(f"it uses {', '.join(fact.files) or 'no files'}, not {', '.join(expect.value['files'])}")
    return found


async def certificate_made(context: StepContext, wish: str) -> x509.Certificate:
    """Return the new certificate of *wish*, whoever signed it."""
    return _only(context, await _content(context, f"certificate:{wish}"), wish)


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _keys_can_be_read(context: StepContext, session: NodeSession) -> None:
    """Try to read a key that was made for this alone; some servers let nobody read keys (DESIGN.md section 7)."""
    if not context.step.lines:
        return
    put, fetch, delete = context.step.lines
    trial = f"{context.run}/{context.step.node}/{put.text}"
    data = await context.unseal(trial)
    if data is None:
        data = key_pem(await asyncio.to_thread(make_key, KeyKind.EC_P256))
        await context.seal(trial, data)  # so that another try of this step knows it again
    readable = await context.unseal(f"{trial}/read") is not None
    if not readable:
        await context.upload(session, put, data)
        try:
            await context.fetch(session, fetch)
        except CommandRejected as refused:
            if not refused.data.get("denied"):
                raise
        else:
            readable = True
            await context.seal(f"{trial}/read", b"yes")
    if readable and context.was_sent(delete) and await _size(session, put.text) is None:
        await context.settle(delete, context.number_of(delete))
    else:
        await context.change(session, delete)
    if not readable:
        raise NodeError(
            "This server lets nobody read private keys, so pairs made here cannot be handed out to the others.",
            remedy="Write `database_cluster: {key: engine}` for this cluster and plan again; nothing was changed yet.",
            node=context.step.node,
        )


async def _taken_just_now(context: StepContext, session: NodeSession, snapshot: Line, name: str) -> bool:
    """Return whether an earlier try of this step took the backup, so lately that it counts as taken now.

    Also when a person resumed since: what failed may have been something else, and nothing is sent twice without need.
    """
    number = context.number_of(snapshot)
    if not context.was_sent(snapshot) or context.outcome_of(snapshot) == "refused":
        return False
    if not await asyncio.to_thread(_sent_just_now, context, number):
        return False
    # Its answer may be lost while the server is still at it (DESIGN.md section 5).
    before = -1
    while name in await context.wait_for_files(session, {name}):
        size = await _size(session, name)
        if size == before:
            return (size or 0) >= SMALLEST_BACKUP  # one that is too small is what the person mended
        before = size or 0
        await asyncio.sleep(context.work.settings.poll_s)
    return False


def _sent_just_now(context: StepContext, number: int) -> bool:
    journal = context.work.journal
    events = journal.step_events(context.run, context.step.id, context.step.node)
    sent = [event.at for event in events if event.kind is Kind.INTENT and event.data["line"] == number]
    now = moment(journal.read(lambda connection: float(connection.execute(sa.select(tables.clock())).scalar_one())))
    return bool(sent) and now - sent[-1] < JUST_NOW


async def _make(context: StepContext, session: NodeSession, ask: Line, names: set[str]) -> None:
    """Send a line that makes files, unless this run's earlier try made them; never over files of somebody else."""
    there = {entry.name for entry in await session.listing()}
    if names & there and not context.was_sent(ask):
        raise Drifted(f"{', '.join(sorted(names & there))} is there, but not by this run.", node=context.step.node)
    if not names <= there and context.was_sent(ask) and context.outcome_of(ask) != "refused":
        there = await context.wait_for_files(session, names)
    if names <= there:
        await context.settle(ask, context.number_of(ask))
        return
    await context.change(session, ask)
    missing = names - await context.wait_for_files(session, names)
    if missing:
        raise CommandRejected(f"`{ask.text}` left no {', '.join(sorted(missing))}.", node=context.step.node)


async def _must_match(context: StepContext, session: NodeSession, key: str, certificate: str, why: str) -> str:
    answer = await session.ask(PkiMatch(key, certificate))
    if answer is PkiAnswer.NO:
        raise CommandRejected(f"{key} and {certificate} do not belong together, {why}.", node=context.step.node)
    return answer.value


async def _proved(
    context: StepContext, session: NodeSession, params: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Have the node itself match each pair and verify each certificate; return {certificate file: its answers}."""
    said = params or context.step.params
    answers: dict[str, str] = {}
    for key, certificate in said["pairs"]:
        match = await _must_match(context, session, key, certificate, "says the node")
        verify = await session.ask(PkiVerify(certificate, said["ca"]))
        if verify is PkiAnswer.NO:
            raise CommandRejected(f"{said['ca']} did not sign {certificate}, says the node.", node=context.step.node)
        answers[certificate] = f"match {match}, verify {verify.value}"
    return answers


async def _keys(context: StepContext, certificates: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return {file: key} of the keys this step uploads, each compared with its certificate; forgotten with the step."""
    wanted = {line.text: line for line in context.step.lines if line.content.startswith("key:")}
    keys: dict[str, bytes] = {}
    if context.step.source and wanted:
        async with context.session(context.step.source) as session:
            for line in (one for one in context.step.lines if one.kind is LineKind.FETCH):
                keys[line.text] = await context.fetch(session, line)
    for name, line in wanted.items():
        if name not in keys:
            sealed = await context.unseal(f"{context.run}/{line.content.removeprefix('key:')}.key")
            if sealed is None:
                raise CommandRejected(f"The key {name} is not in the vault of this run.", node=context.step.node)
            keys[name] = sealed
    for key, certificate in context.step.params["pairs"]:
        if key in keys:
            own = spki_sha256(await asyncio.to_thread(read_private_key, keys[key]))
            if own != view(_only(context, certificates[certificate], certificate)).spki_sha256:
                raise Drifted(f"{key} is not the key of {certificate}.", node=context.step.node)
    return keys


async def _content(context: StepContext, content: str) -> bytes:
    """Return the bytes that a note such as "certificate:seoul/dbserver" or "ca:seoul" names."""
    kind, _, wish = content.partition(":")
    if kind == "ca":
        return render(await _ca(context))
    blob = await _told(context, "certificate", wish=wish)
    if blob:
        return await asyncio.to_thread(_blob, context, blob)
    return render([(await context.certificate(wish))[0]])


async def _ca(context: StepContext) -> tuple[x509.Certificate, ...]:
    """Return the CA certificates: the built-in one, or the issuers that came with both certificates, roots last."""
    blob = await _told(context, "ca")
    if blob:
        return split(await asyncio.to_thread(_blob, context, blob))
    chains = [(await context.certificate(wish))[1][1:] for wish in context.plan.wishes if _mine(context, wish)]
    merged = {one.public_bytes(Encoding.DER): one for chain in chains for one in chain}
    return tuple(sorted(merged.values(), key=is_self_signed))


async def _request(context: StepContext, wish: str) -> tuple[bytes, str]:
    """Return the CSR that was made for *wish*, and the digest of its public key."""
    csr = await _told(context, "csr", wish=wish)
    spki = await _told(context, "spki_sha256", wish=wish)
    return await asyncio.to_thread(_blob, context, csr), spki


async def _told(context: StepContext, what: str, *, wish: str = "") -> str:
    """Return what a step of this lane (of *wish*) left in the journal under *what*, "" when none did."""
    state = (await asyncio.to_thread(context.work.journal.state, context.run)).lanes[context.lane.name]
    for step in context.lane.steps():
        done = state.steps.get(step.id)
        if done is not None and what in done.data and (not wish or step.params.get("wish") == wish):
            return str(done.data[what])
    return ""


def _delivered(context: StepContext) -> dict[str, Any]:
    """Return {"params", "files"} of this node's deliver step, {} when nothing is handed out."""
    state = context.work.journal.state(context.run).lanes[context.lane.name]
    for step in context.lane.steps():
        if step.action == "database_deliver" and step.node == context.step.node and step.id in state.steps:
            return {"params": step.params, "files": state.steps[step.id].data.get("files", {})}
    return {}


async def _files_changed(context: StepContext, session: NodeSession, delivered: Mapping[str, Any]) -> list[str]:
    there = {entry.name for entry in await session.listing()}
    wanted = {one.subject: str(one.value) for one in context.step.expects if one.kind == "file"}
    wanted |= dict(delivered.get("files", {}))
    wanted |= {key: "" for key, _ in delivered.get("params", {}).get("pairs", ())}
    found = [f"{name} is gone" for name in wanted if name not in there]
    for name, digest in wanted.items():
        if digest and name in there and hashlib.sha256(await session.fetch(name)).hexdigest() != digest:
            found.append(f"{name} holds something else")
    return found


async def _size(session: NodeSession, name: str) -> int | None:
    return next((entry.size for entry in await session.listing() if entry.name == name), None)


def _mine(context: StepContext, wish: str) -> bool:
    return wish.partition("/")[0] == context.lane.name


def _blob(context: StepContext, digest: str) -> bytes:
    return context.work.journal.read(lambda connection: stock.get_blob(connection, digest))


def _only(context: StepContext, data: bytes, name: str) -> x509.Certificate:
    try:
        found = split(data, where=name)
    except CertificateError as error:
        raise Drifted(f"{name} cannot be read: {error}", node=context.step.node) from error
    if len(found) != 1:
        raise Drifted(f"{name} holds {len(found)} certificates, not one.", node=context.step.node)
    return found[0]
