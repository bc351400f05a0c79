"""Going back after a renewal: a plan of its own, with the pairs that were in use before it.

Made from the original plan and a fresh survey, so that it undoes what is so now and nothing else: a service that uses
new files of that run gets its old files again, files that changed places change back, and a trust store that was closed
in stage 900 gets the old leaf again first. Stores that hold old and new stay. The order of nodes is the renewal's.
A process that was on before and is off now, because the run was cut off in its middle, is started again.
Refused with the reason where an old file is gone, has expired, or is not the certificate that was served before, and
where a store that a later run wrote no longer trusts the old leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workflows.errors import Finding, NothingToUndo, PlanError
from workflows.facts import CertificateFact, NodeFacts, ServiceFact
from workflows.gate import GO
from workflows.inventory import ResolvedFleet
from workflows.mmp.commands import BackupSnapshot
from workflows.mmp.services import Probe, trust_stores_of
from workflows.plan import RENEWAL, ROLLBACK, Barrier, Expect, Gate, Lane, Line, Par, Part, Plan, Seq, Step
from workflows.procedures.lines import (
    command,
    command_lines,
    fetch,
    interruptions,
    is_on,
    process_facts,
    restart_lines,
    settings_of,
    tag_of,
)
from workflows.procedures.names import next_number
from workflows.procedures.node_steps import expect_setting
from workflows.procedures.wishes import entry_of, parse_release

_FORWARD = "Go forward: mend the cause and `certbridge runs resume`, or make a new plan; else there is the backup."
_STAGES = frozenset({600, 700, 900})


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """One service that goes back: the files it had, where they lie now, and whether they changed places.

    *unchanged*: it uses its old files, and only has to be started again.
    """

    service: str
    wish: str
    old: ServiceFact
    key_file: str
    certificate_file: str
    swapped: bool
    unchanged: bool = False


@dataclass(slots=True, kw_only=True)
class _Node:
    """What is to be undone on one node."""

    facts: NodeFacts
    backs: dict[str, list[Back]] = field(default_factory=dict)  # by process, in the order of the plan
    swaps: list[Step] = field(default_factory=list)
    left_off: set[str] = field(default_factory=set)  # processes that were on before the run, and are off now
    prove: Step | None = None
    findings: list[Finding] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def plan_renewal_rollback(
    original: Plan,
    facts: Mapping[str, NodeFacts],
    *,
    now: datetime,
    silent: AbstractSet[str] = frozenset(),
    touched: AbstractSet[str] | None = None,
) -> Plan:
    """Return the plan that puts the services which *original*, a renewal, changed back to the files of before.

    *facts* are of a survey made after its last step; *silent* are nodes that it could not read, *touched* those on
    which the run began to change anything (None: any may be). Raises: NothingToUndo; PlanError with every finding.
    """
    fleet = ResolvedFleet.from_json(original.fleet)
    findings: list[Finding] = []
    notices: list[str] = []
    lanes: list[Lane] = []
    for lane in original.lanes:
        names = dict.fromkeys(step.node for step in lane.steps() if step.stage in _STAGES and step.node)
        changed = [name for name in names if touched is None or name in touched]
        away = [name for name in changed if name in silent or name not in facts]
        findings += [Finding(name, "did not answer the survey", "Bring it back, then try again.") for name in away]
        nodes = [_node(lane, facts[name], now) for name in changed if name not in away]
        findings += [one for node in nodes for one in node.findings]
        notices += [one for node in nodes for one in node.notices]
        if not any(node.backs for node in nodes):
            continue
        trusting, faults = _trust_steps(lane, nodes, facts)
        findings += faults
        lanes.append(_lane(fleet, lane.name, nodes, trusting))
        notices += _trusted_by(original, nodes)
    if findings:
        raise PlanError(findings)
    if not lanes:
        what = "no service uses new files of this run: there is nothing to undo"
        raise NothingToUndo(
            [Finding(fleet.name, what, "New files that it left behind do no harm; keep or delete them.")]
        )
    used = {step.node for lane in lanes for step in lane.steps()}
    return Plan(
        kind=RENEWAL,
        purpose=ROLLBACK,
        fleet=original.fleet,
        lanes=tuple(lanes),
        notices=tuple(dict.fromkeys(notices)),
        facts={node: facts[node].digest() for node in sorted(used)},
    )


# ── what is to be undone on a node ───────────────────────────────────────────────────────────────────────────────────
def _node(lane: Lane, facts: NodeFacts, now: datetime) -> _Node:
    node = _Node(facts=facts)
    mine = [step for step in lane.steps() if step.node == facts.node]
    swaps = {str(step.params["wish"]): step for step in mine if step.action == "swap"}
    node.prove = next((step for step in mine if step.action == "prove"), None)
    changing = [one for one in mine if one.action in {"apply", "trust"}]
    node.left_off = {str(step.params["process"]) for step in changing if _is_left_off(step, facts)}
    for step in (one for one in changing if one.action == "apply"):
        for name, wanted in step.params["wanted"].items():
            wish = str(step.params["wishes"][name])
            if wish in swaps:
                back = _moved(node, name, wish, wanted, swaps[wish], step)
            else:
                back = _renamed(node, name, wish, wanted, step)
            if back is not None:
                node.findings += _old_pair(node, back, now)
                node.backs.setdefault(step.params["process"], []).append(back)
    applied = {step.params["process"] for step in changing if step.action == "apply"}
    for process in sorted(node.left_off - applied):
        node.backs[process] = []  # only its trust stores were touched: it is started, and no file of it goes back
    back_again = {one.wish for backs in node.backs.values() for one in backs if one.swapped}
    node.swaps = [swap for wish, swap in swaps.items() if wish in back_again]
    return node


def _is_left_off(step: Step, facts: NodeFacts) -> bool:
    """Return whether the process of *step* was on when the run was planned, and is off now."""
    process = str(step.params["process"])
    was_on = any(line.content == f"enable:{process}" for line in step.lines)
    return was_on and bool(process_facts(process, facts)) and not is_on(process, facts)


def _renamed(node: _Node, name: str, wish: str, wanted: Mapping[str, str], step: Step) -> Back | None:
    """Return the way back of a service that was set to files of new names, None when it does not use them."""
    now = node.facts.service(name)
    before = next((one.value for one in step.expects if one.kind == "setting" and one.subject == name), None)
    if now is None or before is None:
        return None
    unchanged = (now.key, now.certificate) == (before["key"], before["certificate"])
    if unchanged:
        if step.params["process"] not in node.left_off or not now.key or not now.certificate:
            return None
    elif (now.key, now.certificate) != (wanted["key"], wanted["certificate"]):
        node.notices.append(
            f"{node.facts.node}: {name} uses {now.key or 'no key'} and {now.certificate or 'no certificate'}, which "
            "that run did not set: it is left as it is"
        )
        return None
    old = ServiceFact(
        service=name,
        enabled=now.enabled,
        key=before["key"],
        certificate=before["certificate"],
        bundle=before["bundle"],
        tag=now.tag,
    )
    return Back(
        service=name,
        wish=wish,
        old=old,
        key_file=old.key,
        certificate_file=old.certificate,
        swapped=False,
        unchanged=unchanged,
    )


def _moved(node: _Node, name: str, wish: str, wanted: Mapping[str, str], swap: Step, step: Step) -> Back | None:
    """Return the way back of a service whose files changed places, None when they lie where they lay and it is on."""
    aside, fresh = _places(swap)
    there = {file.name for file in node.facts.files}
    mine = [wanted[what] for what in ("key", "certificate", "bundle") if wanted[what] in aside]
    unchanged = all(fresh[active] in there and aside[active] not in there for active in mine)
    if unchanged and step.params["process"] not in node.left_off:
        return None
    now = node.facts.service(name)
    old = ServiceFact(
        service=name,
        enabled=now.enabled if now else False,
        key=wanted["key"],
        certificate=wanted["certificate"],
        bundle=wanted["bundle"],
        tag=now.tag if now else "",
    )
    return Back(
        service=name,
        wish=wish,
        old=old,
        key_file=old.key if unchanged else aside.get(old.key, old.key),
        certificate_file=old.certificate if unchanged else aside.get(old.certificate, old.certificate),
        swapped=not unchanged,
        unchanged=unchanged,
    )


def _places(swap: Step) -> tuple[dict[str, str], dict[str, str]]:
    """Return ({name in use: name it was set aside as}, {name in use: name of the new file}) of a swap."""
    pairs = [line.text.partition(" -> ") for line in swap.lines]
    aside = {active: name for active, _, name in pairs[0::2]}
    return aside, {active: fresh for fresh, _, active in pairs[1::2]}


def _old_pair(node: _Node, back: Back, now: datetime) -> Iterator[Finding]:
    """Yield why a service cannot go back: there was no pair, or it is gone, has expired, or is another one now."""
    facts, where = node.facts, f"{node.facts.node}/{back.service}"
    if not back.old.key or not back.old.certificate:
        yield Finding(where, "had no certificate before this run, so there is nothing to put back", _FORWARD)
        return
    names = [back.key_file, back.certificate_file]
    if back.old.bundle and not back.swapped:
        names.append(back.old.bundle)
    gone = [name for name in names if facts.file(name) is None]
    for name in gone:
        yield Finding(where, f"{name}, in use before, is no longer there", _FORWARD)
    if facts.file(back.certificate_file) is None:
        return
    leaf = _leaf(facts, back.certificate_file)
    if leaf is None:
        yield Finding(where, f"{back.certificate_file}, in use before, holds no certificate", _FORWARD)
        return
    if datetime.fromisoformat(leaf.not_valid_after) <= now:
        yield Finding(where, f"{back.certificate_file}, in use before, ended {leaf.not_valid_after[:10]}", _FORWARD)
    served = next((port["before"] for port in _ports(node) if port["service"] == back.service), "")
    if served and served != leaf.fingerprint:
        what = f"{back.certificate_file} holds another certificate than the one that was served before this run"
        yield Finding(where, what, _FORWARD)


def _ports(node: _Node) -> tuple[Mapping[str, Any], ...]:
    return tuple(node.prove.params["ports"]) if node.prove else ()


def _leaf(facts: NodeFacts, name: str) -> CertificateFact | None:
    stored = facts.file(name)
    return stored.certificates[0] if stored and stored.certificates else None


def _trusted_by(original: Plan, nodes: list[_Node]) -> list[str]:
    every = [back for node in nodes for backs in node.backs.values() for back in backs]
    wishes = dict.fromkeys(back.wish for back in every if not back.unchanged)
    return [
        f"{who} must be told by hand that {original.wishes[wish]['name']} of "
        f"{', '.join(original.wishes[wish]['nodes'])} is the old certificate again"
        for wish in wishes
        if wish in original.wishes
        for who in original.wishes[wish]["trusted_by"]
    ]


# ── the steps back ───────────────────────────────────────────────────────────────────────────────────────────────────
def _lane(fleet: ResolvedFleet, name: str, nodes: list[_Node], trusting: tuple[Step, ...]) -> Lane:
    served = [node for node in nodes if node.backs]
    touched = [node for node in nodes if node.backs or any(step.node == node.facts.node for step in trusting)]
    applying: list[Part] = [part for node in served for part in _apply(name, node)]
    changing = [*trusting, *(part for part in applying if isinstance(part, Step))]
    parts: list[Part] = [
        Par(tuple(_prepare(name, node) for node in touched)),
        Barrier(id=f"{name}/prepared", name="prepared", holds="the old pairs are on every server, and match"),
    ]
    if fleet.go_gate:
        parts.append(Gate(id=f"{name}/{GO}", name=GO, needs="approval of the lines back, and of what they interrupt"))
    parts += [
        Par(tuple(_recheck(name, node.facts.node, changing) for node in touched)),
        Barrier(id=f"{name}/as-approved", name="as approved", holds="every server is still as the plan expects"),
        *trusting,
        *applying,
    ]
    return Lane(name=name, tree=Seq(tuple(parts)))


def _prepare(cluster: str, node: _Node) -> Step:
    facts = node.facts
    snapshot = f"certbridge-{next_number('certbridge', [facts])}"
    pairs = dict.fromkeys(
        (back.key_file, back.certificate_file) for backs in node.backs.values() for back in backs if back.key_file
    )
    return Step(
        id=f"{cluster}/{facts.node}/prepare",
        node=facts.node,
        action="prepare",
        stage=200,
        title=f"{facts.node}: the old pairs match, backup {snapshot} is fetched",
        params={"backup": f"{snapshot}.bak", "pairs": [list(pair) for pair in pairs], "no_way_back": []},
        lines=(command(BackupSnapshot(snapshot).line(), "backup"), fetch(f"{snapshot}.bak", f"backup:{facts.node}")),
    )


def _recheck(cluster: str, node: str, changing: list[Step]) -> Step:
    return Step(
        id=f"{cluster}/{node}/recheck",
        node=node,
        action="recheck",
        stage=550,
        title=f"{node}: still as approved",
        expects=tuple(one for step in changing if step.node == node for one in step.expects),
    )


def _apply(cluster: str, node: _Node) -> Iterator[Part]:
    facts = node.facts
    for swap in node.swaps:
        yield Step(
            id=f"{cluster}/{facts.node}/restore/files-{str(swap.params['wish']).rpartition('/')[2]}",
            node=facts.node,
            action="restore",
            stage=700,
            title=f"{facts.node}: the old files of {str(swap.params['wish']).rpartition('/')[2]} get their names back",
            lines=swap.undo,
        )
    for process, backs in node.backs.items():
        yield _restore(cluster, node, process, backs)
    yield _prove(cluster, node)
    yield Barrier(
        id=f"{cluster}/{facts.node}/proved",
        name=f"{facts.node} proved",
        holds=f"every port of {facts.node} serves its old certificate again",
    )


def _restore(cluster: str, node: _Node, process: str, backs: list[Back]) -> Step:
    facts, is_running = node.facts, is_on(process, node.facts)
    tag, enabled = tag_of(process, facts), is_running or process in node.left_off
    sets = {back.service: _line_back(facts, back, tag) for back in backs if not back.swapped and not back.unchanged}
    lines: tuple[Line, ...] = (
        command_lines(process, sets, enabled=enabled, tag=tag)
        if sets
        else restart_lines(process, enabled=enabled, tag=tag)
    )
    now = [facts.service(back.service) for back in backs] or list(process_facts(process, facts))
    how = "uses its old certificate again" if is_running else "stays off; its old files are set"
    if process in node.left_off:
        how = "was left off by that run; it is on again, with its old certificate"
    return Step(
        id=f"{cluster}/{facts.node}/restore/{process}",
        node=facts.node,
        action="restore",
        stage=700,
        title=f"{facts.node}: {process} {how}",
        params={
            "process": process,
            "tag": tag,
            "wanted": {
                back.service: {"key": back.old.key, "certificate": back.old.certificate, "bundle": back.old.bundle}
                for back in backs
            },
            "wishes": {back.service: back.wish for back in backs},
        },
        expects=tuple(expect_setting(one) for one in now if one is not None),
        lines=lines,
        interrupts=interruptions(process, facts) if is_running else (),
    )


def _line_back(facts: NodeFacts, back: Back, tag: str) -> str:
    entry = entry_of(facts, back.service)
    old = back.old
    return entry.certs_line(old.key, old.certificate, old.bundle if entry.bundle_rows else "", tag=tag)


def _prove(cluster: str, node: _Node) -> Step:
    facts = node.facts
    known = {port["service"]: port for port in _ports(node)}
    ports: list[dict[str, Any]] = []
    for back in (one for backs in node.backs.values() for one in backs):
        seen, leaf = facts.port(back.service), _leaf(facts, back.certificate_file)
        port = known.get(back.service) or {"probe": Probe.NONE.value, "address": "", "port": 0, "on": False}
        ports.append(
            {
                "service": back.service,
                "wish": back.wish,
                "probe": port["probe"],
                "address": port["address"],
                "port": port["port"],
                "before": seen.chain[0].fingerprint if seen and seen.chain else "",
                "wanted": leaf.fingerprint if leaf else "",
                "ends": leaf.not_valid_after if leaf else "",
                "on": port["on"],
            }
        )
    return Step(
        id=f"{cluster}/{facts.node}/prove",
        node=facts.node,
        action="prove",
        stage=800,
        title=f"{facts.node}: every port serves its old certificate again",
        params={"ports": ports},
    )


# ── trust stores ─────────────────────────────────────────────────────────────────────────────────────────────────────
def _trust_steps(
    lane: Lane, nodes: list[_Node], facts_of: Mapping[str, NodeFacts]
) -> tuple[tuple[Step, ...], list[Finding]]:
    """Return the steps that open the stores which stage 900 closed, before any old leaf is served again.

    Every other store that stage 900 closes must trust the old leaves now: a later run may have written another one.
    """
    steps: list[Step] = []
    findings: list[Finding] = []
    both = {
        (step.node, one["store"]): one["file"]
        for step in lane.steps()
        if step.action == "trust"
        for one in step.params["stores"]
    }
    by_name = {node.facts.node: node.facts for node in nodes}
    for step in (one for one in lane.steps() if one.action == "close" and one.node in facts_of):
        facts = facts_of[step.node]
        now = {one.store: one.file for one in facts.trust}
        stores = step.params["stores"]
        closed = [one for one in stores if one["store"] in now and now[one["store"]] == one["file"]]
        closed = closed if step.node in by_name else []
        for one in (store for store in stores if store not in closed):
            used = now.get(one["store"], "")
            if not _holds(facts, used, one["removes"]):
                what = f"{used or 'no file'}, in use now, does not trust the old certificates, and is not of this run"
                findings.append(Finding(f"{facts.node}/{one['store']}", what, _FORWARD))
        opened = {one["store"]: both[step.node, one["store"]] for one in closed}
        for one in closed:
            if not _holds(facts, opened[one["store"]], one["removes"]):
                what = f"{opened[one['store']]}, which trusts the old certificates, is gone or was changed"
                findings.append(Finding(f"{facts.node}/{one['store']}", what, _FORWARD))
        if closed and not findings:
            steps.append(_open(lane.name, facts, step.params["process"], opened, now))
    return tuple(steps), findings


def _holds(facts: NodeFacts, name: str, leaves: Iterable[str]) -> bool:
    """Return whether the file *name* is there and holds every one of *leaves*, by fingerprint."""
    stored = facts.file(name)
    return {one.fingerprint for one in stored.certificates}.issuperset(leaves) if stored else False


def _open(cluster: str, facts: NodeFacts, process: str, opened: Mapping[str, str], now: Mapping[str, str]) -> Step:
    release = parse_release(facts.release)
    known = {store.name: store for store in trust_stores_of(release)} if release else {}
    mine = process_facts(process, facts)
    settings = settings_of(mine[0]) if mine else None
    tag, enabled = tag_of(process, facts), is_on(process, facts)
    sets = {name: known[name].line(file, settings=settings) for name, file in opened.items()}
    return Step(
        id=f"{cluster}/{facts.node}/trust/{process}",
        node=facts.node,
        action="restore",
        stage=600,
        title=f"{facts.node}: {process} trusts the old certificates again, as well as the new ones",
        params={"process": process, "tag": tag, "stores": [{"store": one, "file": opened[one]} for one in opened]},
        expects=tuple(Expect(kind="trust", subject=one, value=now[one]) for one in opened),
        lines=command_lines(process, sets, enabled=enabled, tag=tag),
        interrupts=interruptions(process, facts) if enabled else (),
    )
