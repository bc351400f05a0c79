"""Trust stores that pin a leaf which will change: first old and new together, at the end the new one alone.

A store is a file on a node that says whom a service trusts. Many hold their peers' own certificates and not the CA
(mmp-reference section 7), so a renewed certificate would be refused by its peers. Stage 600 of DESIGN.md section 7 puts
old + new into every such store before anything is applied, stage 900 takes the old one out again. Stores that hold the
issuing CA need nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflows.facts import NodeFacts, ServiceFact, TrustFact
from workflows.mmp.services import ServiceSettings, TrustStore, trust_stores_of
from workflows.plan import Expect, Step
from workflows.procedures.lines import command_lines, interruptions, is_on, process_facts, settings_of, tag_of, upload
from workflows.procedures.names import next_number
from workflows.procedures.wishes import Due, leaf_in_use, parse_release


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A store on a node that pins leaves which will change: which wishes come in, which fingerprints go out later.

    *removes* holds (fingerprint, nodes that serve it now): a node that drops out of the run goes on serving its own.
    """

    node: str
    store: TrustStore
    file: str
    first_file: str
    last_file: str
    adds: tuple[str, ...]
    removes: tuple[tuple[str, tuple[str, ...]], ...]


def pins(dues: Sequence[Due], facts: Mapping[str, NodeFacts], nodes: Sequence[str]) -> tuple[Pin, ...]:
    """Return the stores on *nodes* that pin a leaf which a wish in *dues* replaces, in the order of *nodes*."""
    leaves = changing_leaves(dues, facts)
    served = _served_by(dues, facts)
    found: list[Pin] = []
    for node in nodes:
        one = facts.get(node)
        if one is None:
            continue
        for store, setting in _stores(one):
            held = one.file(setting.file)
            if held is None:
                continue
            hit = tuple(item.fingerprint for item in held.certificates if item.fingerprint in leaves)
            if not hit:
                continue
            stem = f"trust-{store.name.replace('.', '-')}"
            number = next_number(stem, [one])
            adds = tuple(dict.fromkeys(wish for fingerprint in hit for wish in leaves[fingerprint]))
            found.append(
                Pin(
                    node=node,
                    store=store,
                    file=setting.file,
                    first_file=f"{stem}-{number}.crt",
                    last_file=f"{stem}-{number + 1}.crt",
                    adds=adds,
                    removes=tuple((fingerprint, served[fingerprint]) for fingerprint in dict.fromkeys(hit)),
                )
            )
    return tuple(found)


def stores_of_the_ca(dues: Sequence[Due], facts: Mapping[str, NodeFacts], nodes: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each store that trusts a changing leaf through its CA: another CA would not be trusted.

    Such a store needs nothing as long as the same CA signs, and who will sign is not known when the plan is made.
    """
    leaves = changing_leaves(dues, facts)
    issuers = {
        issuer
        for one in dues
        for node in one.wish.nodes
        for name in one.wish.services
        if (leaf := leaf_in_use(facts[node], name)) is not None and (issuer := leaf.issuer)
    }
    found: list[str] = []
    for node in nodes:
        for store, setting in _stores(facts[node]) if node in facts else ():
            held = facts[node].file(setting.file)
            certificates = held.certificates if held is not None else ()
            if any(item.fingerprint in leaves for item in certificates):
                continue
            named = sorted({item.subject for item in certificates} & issuers)
            if named:
                found.append(
                    f"{node}: trust store {store.name} ({setting.file}) trusts the CA {', '.join(named)}; it needs "
                    "nothing as long as the same CA signs the new certificates"
                )
    return tuple(found)


def changing_leaves(dues: Sequence[Due], facts: Mapping[str, NodeFacts]) -> dict[str, tuple[str, ...]]:
    """Return {fingerprint of a leaf in use: ids of the wishes that replace it}."""
    leaves: dict[str, tuple[str, ...]] = {}
    for one in dues:
        for node in one.wish.nodes:
            for name in one.wish.services:
                leaf = leaf_in_use(facts[node], name)
                if leaf is not None and one.id not in leaves.get(leaf.fingerprint, ()):
                    leaves[leaf.fingerprint] = (*leaves.get(leaf.fingerprint, ()), one.id)
    return leaves


def _served_by(dues: Sequence[Due], facts: Mapping[str, NodeFacts]) -> dict[str, tuple[str, ...]]:
    """Return {fingerprint of a leaf in use: nodes that use it for a service of *dues*}."""
    nodes: dict[str, dict[str, None]] = {}
    for one in dues:
        for node in one.wish.nodes:
            for name in one.wish.services:
                leaf = leaf_in_use(facts[node], name)
                if leaf is not None:
                    nodes.setdefault(leaf.fingerprint, {})[node] = None
    return {fingerprint: tuple(names) for fingerprint, names in nodes.items()}


def trust_steps(cluster: str, found: Sequence[Pin], facts: Mapping[str, NodeFacts]) -> tuple[Step, ...]:
    """Return one step per node and process that puts old + new into its stores, with the restart that takes."""
    return tuple(_trust_step(cluster, group, facts[group[0].node]) for group in _by_process(found))


def close_steps(
    cluster: str, found: Sequence[Pin], facts: Mapping[str, NodeFacts], after: Mapping[tuple[str, str], ServiceFact]
) -> tuple[Step, ...]:
    """Return one step per node and process that takes the old leaves out; effective at the process's next restart.

    *after* holds what (node, service) is set to when the run is over; a load balancer's line names its pair again.
    """
    return tuple(_close_step(cluster, group, facts[group[0].node], after) for group in _by_process(found))


def _trust_step(cluster: str, group: Sequence[Pin], facts: NodeFacts) -> Step:
    process = group[0].store.process
    settings = _settings(process, facts, {})
    sets = {pin.store.name: pin.store.line(pin.first_file, settings=settings) for pin in group}
    backs = {pin.store.name: pin.store.line(pin.file, settings=settings) for pin in group}
    enabled = is_on(process, facts)
    tag = tag_of(process, facts)
    return Step(
        id=f"{cluster}/{facts.node}/trust/{process}",
        node=facts.node,
        action="trust",
        stage=600,
        title=f"{facts.node}: {process} trusts the new certificates as well as the old ones",
        params={"process": process, "stores": [_store_json(pin, pin.first_file) for pin in group], "tag": tag},
        expects=tuple(Expect(kind="trust", subject=pin.store.name, value=pin.file) for pin in group)
        + tuple(Expect(kind="absent", subject=pin.first_file) for pin in group),
        lines=tuple(upload(pin.first_file, f"trust:{pin.store.name}") for pin in group)
        + command_lines(process, sets, enabled=enabled, tag=tag),
        undo=command_lines(process, backs, enabled=enabled, tag=tag),
        interrupts=interruptions(process, facts) if enabled else (),
    )


def _close_step(
    cluster: str, group: Sequence[Pin], facts: NodeFacts, after: Mapping[tuple[str, str], ServiceFact]
) -> Step:
    process = group[0].store.process
    settings = _settings(process, facts, after)
    tag = tag_of(process, facts)
    return Step(
        id=f"{cluster}/{facts.node}/close/{process}",
        node=facts.node,
        action="close",
        stage=900,
        title=f"{facts.node}: {process} trusts the new certificates only (from its next restart)",
        params={"process": process, "stores": [_store_json(pin, pin.last_file) for pin in group], "tag": tag},
        lines=tuple(upload(pin.last_file, f"trust:{pin.store.name}") for pin in group)
        + command_lines(
            process,
            {pin.store.name: pin.store.line(pin.last_file, settings=settings) for pin in group},
            enabled=False,
            tag=tag,
        ),
    )


def _store_json(pin: Pin, file: str) -> dict[str, object]:
    removes = {fingerprint: list(nodes) for fingerprint, nodes in pin.removes} if file == pin.last_file else {}
    return {"store": pin.store.name, "base": pin.file, "file": file, "adds": list(pin.adds), "removes": removes}


def _settings(process: str, facts: NodeFacts, after: Mapping[tuple[str, str], ServiceFact]) -> ServiceSettings | None:
    now = process_facts(process, facts)
    return settings_of(after.get((facts.node, now[0].service), now[0])) if now else None


def _stores(facts: NodeFacts) -> list[tuple[TrustStore, TrustFact]]:
    release = parse_release(facts.release)
    known = {store.name: store for store in trust_stores_of(release)} if release else {}
    return [(known[one.store], one) for one in facts.trust if one.file and one.store in known]


def _by_process(found: Sequence[Pin]) -> list[list[Pin]]:
    groups: dict[tuple[str, str], list[Pin]] = {}
    for pin in found:
        groups.setdefault((pin.node, pin.store.process), []).append(pin)
    return list(groups.values())
