"""`certbridge trust`: show the host keys of servers and pin them, before any password is sent to them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import Format, OutputOption, Span, Table, emit, note, show
from api.cli.surroundings import (
    FleetOption,
    YesOption,
    account,
    agrees,
    on_terminal,
    open_journal,
    read_bytes,
    read_fleet,
)
from workflows.errors import HostKeyChanged, InputError

if TYPE_CHECKING:
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal

_STYLES = {
    "pinned": "green",
    "same": "green",
    "new": "yellow",
    "changed": "bold red",
    "unreachable": "bold red",
    "missing": "bold red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """The key a server shows. state: new, same (pinned just so), changed, unreachable; afterwards pinned.

    `missing`: the file of keys does not name the server.
    """

    node: str
    address: str
    port: int
    key: str = ""
    fingerprint: str = ""
    state: str = "new"
    why: str = ""


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("trust")(trust)


def trust(
    nodes: Annotated[list[str] | None, typer.Argument(metavar="NODE…", help="The nodes to look at.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All nodes of the inventory.")] = False,
    replace_key: Annotated[bool, typer.Option("--replace", help="Pin anew where another key is pinned.")] = False,
    file: Annotated[
        Path | None, typer.Option("--from", help="Take the keys of this pins.json; no server is contacted.")
    ] = None,
    yes: YesOption = False,
    fleet: FleetOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Read host keys, show their fingerprints, and pin them once a person has compared them."""
    _, resolved = read_fleet(fleet)
    wanted = _wanted(resolved, nodes or [], every=every or file is not None)
    with open_journal() as journal:
        keys = _from_file(file, wanted) if file else scan(journal, resolved, wanted, by=account())
        keys = pin(
            journal, keys, by=account(), compared=file is not None, replace_keys=replace_key, yes=yes or bool(file)
        )
    if output is Format.TABLE:
        rows = [(one.node, f"{one.address}:{one.port}", one.fingerprint, _state(one)) for one in keys]
        show(Table(columns=("node", "address", "fingerprint", "state"), rows=rows))
    else:
        emit([asdict(one) for one in keys], output)
    _raise_for(keys)


def scan(journal: Journal, fleet: ResolvedFleet, wanted: ResolvedFleet, *, by: str) -> tuple[HostKey, ...]:
    """Return the keys that the servers of *wanted* show; a worker reads them. Raises: NoWorker."""
    from api.cli.following import carry_out
    from api.reading_plans import trust_plan

    state = carry_out(journal, trust_plan(fleet, wanted), by=by, what="host keys")
    found = {step.node: step for lane in state.lanes.values() for step in lane.steps.values()}
    keys: list[HostKey] = []
    for node in wanted.nodes:
        step = found.get(node.name)
        one = HostKey(node=node.name, address=node.address, port=node.port)
        if step is not None and step.status == "done":
            keys.append(replace(one, key=str(step.data["key"]).strip(), fingerprint=str(step.data["fingerprint"])))
        else:
            why = (step.error or {}).get("text", "") if step else ""
            keys.append(replace(one, state="unreachable", why=why or "it was not looked at"))
    return tuple(keys)


def pin(
    journal: Journal, keys: Sequence[HostKey], *, by: str, compared: bool, replace_keys: bool, yes: bool
) -> tuple[HostKey, ...]:
    """Pin what may be pinned, asking for each unless *yes*; return the keys with what became of them.

    *compared*: somebody vouches for the keys already. Raises: InputError: nobody can be asked.
    """
    from workflows.journal import stock

    known = journal.read(stock.pins)
    judged = [_judge(one, known[one.address, one.port].key if (one.address, one.port) in known else "") for one in keys]
    asking = [one for one in judged if one.state == "new" or (one.state == "changed" and replace_keys)]
    if asking and not yes and not on_terminal():
        for one in asking:
            note(f"{one.node} {one.address}:{one.port} {one.fingerprint} ({one.state})")
        raise InputError(
            "Nobody can be asked here whether these fingerprints are right.",
            remedy="Compare them with those of the servers, then say `--yes`.",
        )
    done: list[HostKey] = []
    for one in judged:
        wanted = one in asking
        if wanted and not yes:
            note(f"{one.node} {one.address}:{one.port} {one.fingerprint} ({one.state})")
            wanted = agrees("Is this the fingerprint that the server itself shows?")
        if not wanted:
            done.append(one)
            continue
        verified = compared or not yes
        journal.write(
            lambda tx, one=one, verified=verified: stock.pin(  # type: ignore[misc]
                tx, one.address, one.port, one.key, by, verified, replace=replace_keys
            )
        )
        done.append(replace(one, state="pinned"))
    return tuple(done)


def fingerprint_of(key: str) -> str:
    """Return the fingerprint of an OpenSSH public key line as `ssh` shows it: "SHA256:…". Raises: ValueError."""
    words = key.split()
    if len(words) < 2:
        raise ValueError(key)
    digest = hashlib.sha256(base64.b64decode(words[1], validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _wanted(fleet: ResolvedFleet, nodes: Sequence[str], *, every: bool) -> ResolvedFleet:
    from workflows.inventory import select

    if not nodes and not every:
        raise InputError("No node is named.", remedy="Name nodes, or say `--all`.")
    return select(fleet, nodes=nodes)


def _judge(one: HostKey, pinned: str) -> HostKey:
    if one.state != "new" or not pinned:
        return one
    if pinned.split()[:2] == one.key.split()[:2]:
        return replace(one, state="same")
    return replace(one, state="changed", why=f"another key is pinned ({fingerprint_of(pinned)})")


def _from_file(file: Path, wanted: ResolvedFleet) -> tuple[HostKey, ...]:
    data = read_bytes(file, "the file of host keys", "Name the pins.json that the simulator wrote.")
    remedy = 'Write [{"address": …, "port": …, "key": "ssh-ed25519 …"}, …].'
    try:
        keys = {(str(one["address"]), int(one["port"])): str(one["key"]).strip() for one in json.loads(data)}
        prints = {where: fingerprint_of(key) for where, key in keys.items()}
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InputError(f"{file} holds no list of host keys", remedy=remedy) from error
    found = []
    for node in wanted.nodes:
        where = (node.address, node.port)
        one = HostKey(node=node.name, address=node.address, port=node.port)
        if where in keys:
            found.append(replace(one, key=keys[where], fingerprint=prints[where]))
        else:
            found.append(replace(one, state="missing", why=f"{file} does not name it"))
    return tuple(found)


def _state(one: HostKey) -> Span:
    words = {"same": "pinned already, and the same", "new": "not pinned"}.get(one.state, one.state)
    return (f"{words}{f': {one.why}' if one.why else ''}", _STYLES.get(one.state, ""))


def _raise_for(keys: Sequence[HostKey]) -> None:
    changed = [one.node for one in keys if one.state == "changed"]
    if changed:
        raise HostKeyChanged(
            f"{', '.join(changed)}: another host key is pinned than the one shown; nothing was changed there.",
            remedy="Find out why. If the server was replaced on purpose: `certbridge trust NODE --replace`.",
        )
    if any(one.state in {"unreachable", "missing", "new"} for one in keys):
        raise typer.Exit(1)
