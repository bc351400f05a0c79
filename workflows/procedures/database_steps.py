"""The steps of one node in a rebuild of the database cluster: prepare, recheck, backup, remove, build, agree.

Every step lists its exact lines; `remove`, `initialize`, `join` and `connect` ask (Y/n) and get a capital Y
(mmp-reference 1.3). No timings are documented, so how long each takes is our own guess until a run has measured it. The
order of the steps is in `database_cluster`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workflows.facts import DatabaseFact, NodeFacts, PortState
from workflows.mmp.commands import (
    BackupSnapshot,
    DatabaseClusterConnect,
    DatabaseClusterInitialize,
    DatabaseClusterJoin,
    DatabaseClusterLocalnode,
    DatabaseClusterRemove,
    DatabaseClusterUpgradeSchema,
)
from workflows.plan import Expect, Interruption, Line, LineKind, Step
from workflows.procedures.database_certificates import Papers
from workflows.procedures.database_places import CONNECTED, NONE, PRIMARY, FileSet, Place, Places
from workflows.procedures.lines import command, fetch, is_on, upload
from workflows.procedures.names import next_number

QUESTION, YES = "(Y/n)", "Y"
USUAL_S: Mapping[str, tuple[int, int]] = {
    "remove": (10, 120),
    "initialize": (20, 180),
    "join": (30, 900),
    "connect": (10, 120),
    "upgrade_schema": (10, 300),
}
"""From and to, in seconds: our own guess (mmp-reference 3.2 has no timings); runs measure it."""

LONGEST_S = 6 * 3600
"""After so many seconds an operation that has not ended is given to a person; copying a large database takes long."""

BACKUP_AGE_S = 30 * 60
"""How old a backup may be when the first node is removed (DESIGN.md section 7)."""

REMOVE, INITIALIZE, JOIN, CONNECT, UPGRADE, PROVE = 700, 720, 740, 760, 780, 800
"""The stages behind the point of no return."""


# ── before anything is removed ───────────────────────────────────────────────────────────────────────────────────────
def prepare(
    cluster: str, papers: Papers | None, place: Place, facts: NodeFacts, no_way_back: str, *, alone: bool = False
) -> Step:
    """Return stage 200: names are free, the old pairs match, and keys can be read where they are to be handed out.

    *no_way_back* says why the old pairs are no way back, "" when they are one. Who is *alone* hands out nothing.
    """
    lines: tuple[Line, ...] = ()
    kept = ""
    if papers is not None and place.role == PRIMARY:
        kept = f"{papers.ca}.crt" if papers.ca_kept else ""
        if papers.made_on_node and not alone:
            scratch = f"certbridge-scratch-{next_number('certbridge-scratch', [facts])}.key"
            lines = (
                upload(scratch, "scratch"),
                fetch(scratch, "scratch"),
                Line(kind=LineKind.DELETE, text=scratch, content="scratch"),
            )
    pairs = place.old.pairs if place.old and not no_way_back else ()
    return Step(
        id=f"{cluster}/{place.node}/prepare",
        node=place.node,
        action="database_prepare",
        stage=200,
        title=f"{place.node}: new names are free" + ("" if no_way_back else ", the files in use are a way back"),
        params={"pairs": [list(pair) for pair in pairs], "ca": kept},
        expects=tuple(Expect(kind="absent", subject=name) for name in (papers.fresh if papers else ())),
        lines=lines,
    )


def recheck(cluster: str, place: Place, facts: NodeFacts, coming: FileSet | None = None) -> Step:
    """Return the survey after the gate: the same primary, the same role, the same files, old and new (stage 550).

    *coming* are files of before that the node is to use again; those that this run makes are known to its steps.
    """
    return Step(
        id=f"{cluster}/{place.node}/recheck",
        node=place.node,
        action="database_recheck",
        stage=550,
        title=f"{place.node}: still as approved",
        expects=(expected(facts), *_stored(facts, place.old), *_stored(facts, coming)),
    )


def backup(cluster: str, place: Place, facts: NodeFacts) -> Step:
    """Return stage 600: a fresh backup, fetched and sealed; one of an earlier try goes away first."""
    name = f"certbridge-{next_number('certbridge', [facts])}"
    return Step(
        id=f"{cluster}/{place.node}/backup",
        node=place.node,
        action="database_backup",
        stage=600,
        title=f"{place.node}: backup {name} is fetched",
        params={"backup": f"{name}.bak"},
        lines=(
            Line(kind=LineKind.DELETE, text=f"{name}.bak", content="earlier try"),
            command(BackupSnapshot(name).line(), "backup"),
            fetch(f"{name}.bak", f"backup:{place.node}"),
        ),
    )


# ── from the point of no return on ───────────────────────────────────────────────────────────────────────────────────
def remove(cluster: str, place: Place, facts: NodeFacts, primary: Place, backups: Sequence[str], way_back: str) -> Step:
    """Return the step that takes one node out of the cluster; *way_back* is the one that holds after it."""
    return Step(
        id=f"{cluster}/{place.node}/remove",
        node=place.node,
        action="database_remove",
        stage=REMOVE,
        title=f"{place.node}: leaves the cluster ({place.role})",
        params={
            **_operation("remove"),
            **_old(place),
            "backups": list(backups),
            "backup_age_s": BACKUP_AGE_S,
            "way_back": way_back,
        },
        expects=(expected(facts, any_primary=place.role == PRIMARY and not told_primary(facts)),),
        lines=(moving(DatabaseClusterRemove().line(), "remove"),),
        undo=enter_lines(place, place.old, primary) if place.old else (),
        interrupts=_interrupts("remove", facts),
        allow_s=900,
    )


def enter(
    cluster: str, place: Place, facts: NodeFacts, files: FileSet, primary: Place, others: Sequence[str] = ()
) -> Step:
    """Return the step that brings one node (back) into the cluster: initialize, join or connect.

    *others* are the joined nodes that must be in no cluster when the primary is initialized.

    A replica or a connected node that fails is left for later, and the others go on (faults.md F26).
    """
    verb, stage = {PRIMARY: ("initialize", INITIALIZE), CONNECTED: ("connect", CONNECT)}.get(place.role, ("join", JOIN))
    said = {
        "initialize": "is the primary again, with the data it has",
        "join": f"joins {primary.node}; its data is overwritten by that of {primary.node}",
        "connect": f"connects to {primary.node}",
    }
    return Step(
        id=f"{cluster}/{place.node}/{verb}",
        node=place.node,
        action=f"database_{verb}",
        stage=stage,
        title=f"{place.node}: {said[verb]}",
        params={
            **_operation(verb),
            "files": list(files.names),
            "interface": place.interface,
            "address": place.address,
            "primary": primary.address,
            "primary_node": primary.node,
            "others": list(others),
        },
        lines=enter_lines(place, files, primary),
        interrupts=_interrupts(verb, facts),
        allow_s=900,
        parks=verb != "initialize",
    )


def enter_lines(place: Place, files: FileSet, primary: Place) -> tuple[Line, ...]:
    """Return `certs`, `localnode` and the command that brings the node in; those already in effect are left out."""
    if place.role == PRIMARY:
        last = moving(DatabaseClusterInitialize().line(), "initialize")
    elif place.role == CONNECTED:
        last = moving(DatabaseClusterConnect(primary.address).line(), "connect")
    else:
        last = moving(DatabaseClusterJoin(primary.address).line(), "join")
    return (
        command(files.line(), "set:certs"),
        command(DatabaseClusterLocalnode(place.interface).line(), "set:localnode"),
        last,
    )


def upgrade(cluster: str, primary: Place) -> Step:
    """Return the step that brings the schema to a new release, once all are in sync (mmp-reference 3.1)."""
    return Step(
        id=f"{cluster}/{primary.node}/upgrade_schema",
        node=primary.node,
        action="database_upgrade_schema",
        stage=UPGRADE,
        title=f"{primary.node}: the database schema fits its release",
        params={**_operation("upgrade_schema"), "primary": primary.address, "primary_node": primary.node},
        lines=(command(DatabaseClusterUpgradeSchema().line(), "move:upgrade_schema"),),
        interrupts=(
            Interruption(
                service="database",
                what="the schema is upgraded",
                from_s=USUAL_S["upgrade_schema"][0],
                to_s=USUAL_S["upgrade_schema"][1],
            ),
        ),
        allow_s=900,
    )


def agree(found: Places, facts: Mapping[str, NodeFacts], files: Mapping[str, FileSet], wish: str) -> Step:
    """Return stage 800: all nodes tell the same story, and each database port serves the new certificate.

    *files* holds what each node is to use, *wish* the server pair whose certificate the ports show; "" when the old
    ones came back.
    """
    primary = found.primary
    return Step(
        id=f"{found.cluster}/{primary.node}/agree",
        node=primary.node,
        action="database_agree",
        stage=PROVE,
        title=f"{found.cluster}: all nodes tell the same story",
        params={
            "primary": primary.address,
            "wish": wish,
            "nodes": [
                {
                    "node": place.node,
                    "role": place.role,
                    "files": list(files[place.node].names),
                    "port": _port(facts[place.node]) if place.joined else None,
                }
                for place in found.every
            ],
        },
        allow_s=900,
    )


def dissolved(found: Places) -> Step:
    """Return stage 800 of a dissolution: every node says that it is in no cluster."""
    primary = found.primary
    return Step(
        id=f"{found.cluster}/{primary.node}/dissolved",
        node=primary.node,
        action="database_dissolved",
        stage=PROVE,
        title=f"{found.cluster}: no node is in a cluster any more",
        params={"nodes": [{"node": place.node, "role": NONE} for place in found.every]},
    )


def moving(line: str, verb: str) -> Line:
    """Return a line that asks (Y/n) and begins an operation, which is then followed by `database cluster status`."""
    return Line(kind=LineKind.COMMAND, text=line, content=f"move:{verb}", question=QUESTION, answer=YES)


def expected(facts: NodeFacts, *, any_primary: bool = False) -> Expect:
    """Return what the node must still say of its place in the cluster when a step begins.

    *any_primary*: the one that it names now left before its turn, so what it says of a primary then counts for nothing.
    """
    fact = facts.database_cluster or DatabaseFact(state="Disabled")
    value: dict[str, Any] = {"role": role_told(fact), "files": list(fact.files)}
    if any_primary:
        return Expect(kind="database", subject="", value={**value, "any_primary": True})
    return Expect(kind="database", subject=fact.primary, value=value)


def told_primary(facts: NodeFacts) -> bool:
    """Return whether the status of a node says that it is the primary itself."""
    return facts.database_cluster is not None and role_told(facts.database_cluster) == PRIMARY


def role_told(fact: DatabaseFact) -> str:
    """Return the role that a status tells of its own node: primary, replica, unknown, connected or none."""
    if fact.disabled:
        return NONE
    return fact.me.role if fact.me else CONNECTED


def _operation(verb: str) -> dict[str, Any]:
    return {"operation": verb, "usual_s": list(USUAL_S[verb]), "longest_s": LONGEST_S}


def _old(place: Place) -> dict[str, Any]:
    return {"role": place.role, "address": place.address, "old": list(place.old.names) if place.old else []}


def _stored(facts: NodeFacts, files: FileSet | None) -> tuple[Expect, ...]:
    stored = [one for name in (files.names if files else ()) if (one := facts.file(name)) is not None]
    return tuple(Expect(kind="file", subject=one.name, value=one.sha256) for one in stored)


def _interrupts(verb: str, facts: NodeFacts) -> tuple[Interruption, ...]:
    from_s, to_s = USUAL_S[verb]
    database = Interruption(
        service="database", what="the database of this node is not in the cluster", from_s=from_s, to_s=to_s
    )
    if not is_on("callbridge", facts):
        return (database,)
    what = f"`database cluster {verb}` restarts the local Call Bridge: its calls drop"
    return database, Interruption(service="callbridge", what=what, from_s=5, to_s=60)


def _port(facts: NodeFacts) -> dict[str, Any] | None:
    """Return where the database was seen from here before; None when nobody can look."""
    port = facts.port("database")
    if port is None or port.state is not PortState.SERVED:
        return None
    return {"address": port.address, "port": port.port, "before": port.chain[0].fingerprint if port.chain else ""}
