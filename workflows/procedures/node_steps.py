"""The steps of one node in a renewal: prepare, request, deliver, recheck, swap, apply, prove.

Each function gives the steps of one stage of DESIGN.md section 7 for one node, with the exact lines, what must still be
true, what is interrupted and the lines back. The order of stages and nodes is in `renewal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from workflows.errors import Finding
from workflows.facts import NodeFacts, PortState, ServiceFact
from workflows.inventory import CertificateWish, Cluster, FilesPolicy, KeyOrigin
from workflows.mmp.commands import BackupSnapshot, PkiCsr
from workflows.mmp.services import Apply, Probe, Service, Takes
from workflows.plan import Barrier, Expect, Line, LineKind, Part, Step
from workflows.procedures.lines import (
    command,
    command_lines,
    fetch,
    interruptions,
    is_on,
    rename,
    restart_lines,
    tag_of,
    upload,
)
from workflows.procedures.names import next_number, set_aside
from workflows.procedures.trust import Pin
from workflows.procedures.wishes import Due, entry_of, leaf_in_use

# The order in which services of one node are changed: the way in (webadmin) first, the one that drops calls last.
_PROCESS_ORDER = (
    "webadmin",
    "recorder",
    "streamer",
    "scheduler",
    "xmpp",
    "loadbalancer",
    "webbridge",
    "webbridge3",
    "turn",
    "callbridge",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A due wish and the fresh basename of its files ("callbridge-3")."""

    due: Due
    basename: str

    @property
    def key_file(self) -> str:
        """The private key's file name on the node."""
        return f"{self.basename}.key"

    @property
    def csr_file(self) -> str:
        """The request's file name on the node."""
        return f"{self.basename}.csr"

    @property
    def certificate_file(self) -> str:
        """The entity certificate's file name on the node."""
        return f"{self.basename}.crt"

    @property
    def bundle_file(self) -> str:
        """The CA bundle's file name: intermediates and root (row S8)."""
        return f"{self.basename}-bundle.crt"

    @property
    def full_chain_file(self) -> str:
        """The full chain's file name: entity, intermediates, root (row S8)."""
        return f"{self.basename}-fullchain.crt"

    def to_json(self) -> dict[str, Any]:
        """Return what the workers need of the wish, as plain JSON."""
        wish = self.due.wish
        return {
            "id": self.due.id,
            "name": wish.name,
            "nodes": list(wish.nodes),
            "basename": self.basename,
            "key": wish.key.value,
            "key_kind": wish.key_kind.value,
            "key_file": wish.key_file,
            "csr_file": wish.csr_file,
            "source": self.due.source,
            "subject": [list(pair) for pair in wish.subject],
            "dns": list(wish.dns),
            "ip": list(wish.ip),
            "email": list(wish.email),
            "services": list(wish.services),
            "issuer": wish.issuer,
            "trusted_by": list(wish.trusted_by),
            "why": list(self.due.why),
        }


def faults(papers: Sequence[Paper], facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """Return why `files: same` cannot work: a file is missing, has two parts to play, or serves others as well."""
    found: list[Finding] = []
    same = [paper for paper in papers if paper.due.wish.files is FilesPolicy.SAME]
    for node in dict.fromkeys(node for paper in same for node in paper.due.wish.nodes):
        moved: dict[str, str] = {}
        for paper in same:
            if node not in paper.due.wish.nodes:
                continue
            for what in _swap_faults(paper, facts[node], moved):
                text = f"certificate {paper.due.wish.name!r} has `files: same`, but {what}"
                found.append(Finding(node, text, "Use `files: fresh`, or one certificate for each file."))
    return found


def _swap_faults(paper: Paper, facts: NodeFacts, moved: dict[str, str]) -> Iterator[str]:
    """Yield what is in the way of this wish's swap; *moved* is {file: certificate of the node that moves it}."""
    wish = paper.due.wish
    pairs = _moves(facts, paper)
    for role, fresh in (
        ("key", paper.key_file),
        ("certificate", paper.certificate_file),
        ("full chain", paper.full_chain_file),
        ("bundle", paper.bundle_file),
    ):
        names = sorted({active for active, new in pairs if new == fresh})
        if "" in names or len(names) > 1:
            shown = ", ".join(name for name in names if name) or "none"
            yield f"its services use several {role} files ({shown})" if shown != "none" else f"it has no {role} file"
    taking = {active: {new for other, new in pairs if other == active} for active, _ in pairs if active}
    for active, news in taking.items():
        if len(news) > 1:
            yield f"{active} is used in two places, as {' and '.join(sorted(news))} will be"
        if active in moved:
            yield f"{active} is also renamed for certificate {moved[active]!r}"
        moved[active] = wish.name
        users = [one.service for one in facts.services if one.service not in wish.services] if news else []
        others = [name for name in users if active in _pair_files(facts, name)]
        others += [one.store for one in facts.trust if one.file == active]
        if others and paper.bundle_file not in news:
            yield f"{active} is also used by {', '.join(others)}"


def _pair_files(facts: NodeFacts, name: str) -> tuple[str, ...]:
    fact = facts.service(name)
    return (fact.key, fact.certificate, fact.bundle) if fact else ()


def shared_bundles(papers: Sequence[Paper], facts: NodeFacts) -> tuple[str, ...]:
    """Return a sentence for every CA bundle that `files: same` replaces under services or stores of others."""
    found: list[str] = []
    for paper in papers:
        if paper.due.wish.files is not FilesPolicy.SAME:
            continue
        for bundle in sorted({active for active, new in _moves(facts, paper) if new == paper.bundle_file}):
            others = [one.service for one in facts.services if one.service not in paper.due.wish.services]
            users = [name for name in others if bundle in _pair_files(facts, name)]
            users += [one.store for one in facts.trust if one.file == bundle]
            if users:
                found.append(
                    f"{facts.node}: {bundle} gets the CA certificates of {paper.due.wish.name}; "
                    f"{', '.join(users)} will read them at the next restart as well"
                )
    return tuple(found)


def ways_back(papers: Sequence[Paper], facts: NodeFacts, *, now: datetime) -> dict[str, str]:
    """Return {service: sentence} for every service of *papers* that cannot be put back to a good pair."""
    return {
        fact.service: f"{facts.node}: {fact.service}{what}"
        for paper in papers
        for fact in _facts(paper.due.wish, facts)
        if (what := _no_way_back(facts, fact, now))
    }


def _no_way_back(facts: NodeFacts, fact: ServiceFact, now: datetime) -> str:
    if not fact.certificate:
        return " has no certificate yet: there is nothing to put back"
    leaf = leaf_in_use(facts, fact.service)
    if leaf is None:
        return f": {fact.certificate} cannot be read: no way back except the backup"
    if fact.key and facts.file(fact.key) is None:
        return f": its key {fact.key} is not there: no way back except the backup"
    if datetime.fromisoformat(leaf.not_valid_after) <= now:
        return f": {fact.certificate} has expired: no way back except the backup"
    return ""


def prepare(cluster: str, facts: NodeFacts, papers: Sequence[Paper], no_way_back: Mapping[str, str]) -> Step:
    """Return stage 200: names free, old pairs match, backup fetched, and for `files: same` a rename that works.

    Pairs in *no_way_back* (service → sentence) are not asked to match: the plan says already that they are no good.
    """
    snapshot = f"certbridge-{next_number('certbridge', [facts])}"
    lines = [command(BackupSnapshot(snapshot).line(), "backup"), fetch(f"{snapshot}.bak", f"backup:{facts.node}")]
    if any(paper.due.wish.files is FilesPolicy.SAME for paper in papers):
        first = f"certbridge-scratch-{next_number('certbridge-scratch', [facts])}"
        lines += [
            upload(f"{first}.crt", "scratch"),
            rename(f"{first}.crt", f"{first}-renamed.crt"),
            Line(kind=LineKind.DELETE, text=f"{first}-renamed.crt"),
        ]
    pairs = sorted(
        {
            (fact.key, fact.certificate)
            for paper in papers
            for fact in _facts(paper.due.wish, facts)
            if fact.key and fact.certificate and fact.service not in no_way_back
        }
    )
    return Step(
        id=f"{cluster}/{facts.node}/prepare",
        node=facts.node,
        action="prepare",
        stage=200,
        title=f"{facts.node}: names are free, there is a way back, backup {snapshot} is fetched",
        params={
            "backup": f"{snapshot}.bak",
            "pairs": [list(pair) for pair in pairs],
            "no_way_back": list(no_way_back.values()),
        },
        expects=tuple(Expect(kind="absent", subject=name) for paper in papers for name in _fresh(paper)),
        lines=tuple(lines),
    )


def request(cluster: str, node: str, papers: Sequence[Paper]) -> tuple[Step, ...]:
    """Return stage 300 for keys that this node makes: `pki csr` under the fresh basename, the CSR fetched."""
    return tuple(
        Step(
            id=f"{cluster}/{node}/request/{paper.due.wish.name}",
            node=node,
            action="request",
            stage=300,
            title=f"{node}: key and CSR {paper.basename}",
            params={"wish": paper.due.id},
            lines=(command(_csr_line(paper), "csr"), fetch(paper.csr_file, f"csr:{paper.due.id}")),
        )
        for paper in papers
        if paper.due.source == node
    )


def request_off_node(papers: Iterable[Paper]) -> tuple[Step, ...]:
    """Return stage 300 for keys that the engine makes or that were brought in: no server is touched (row S2)."""
    return tuple(
        Step(
            id=f"{paper.due.id}/request",
            node="",
            action="request",
            stage=300,
            title=f"{', '.join(paper.due.wish.nodes)}: key and CSR {paper.basename}, made off the server",
            params={"wish": paper.due.id},
        )
        for paper in papers
        if paper.due.wish.key is not KeyOrigin.NODE
    )


def deliver(cluster: str, facts: NodeFacts, papers: Sequence[Paper]) -> tuple[Step, ...]:
    """Return stage 500: certificate, bundle or full chain as the services want, and the key if it is not there."""
    return tuple(_deliver(cluster, facts, paper) for paper in papers)


def _deliver(cluster: str, facts: NodeFacts, paper: Paper) -> Step:
    wish = paper.due.wish
    lines: list[Line] = []
    source = ""
    if paper.due.source and paper.due.source != facts.node:
        source = paper.due.source
        lines.append(fetch(paper.key_file, f"key-from:{source}"))
    if paper.due.source != facts.node:
        lines.append(upload(paper.key_file, f"key:{paper.due.id}"))
    lines.append(upload(paper.certificate_file, f"certificate:{paper.due.id}"))
    entries = [entry_of(facts, name) for name in wish.services]
    if any(_takes_bundle(entry) for entry in entries):
        lines.append(upload(paper.bundle_file, f"bundle:{paper.due.id}"))
    if any(_chained(entry) for entry in entries):
        lines.append(upload(paper.full_chain_file, f"fullchain:{paper.due.id}"))
    return Step(
        id=f"{cluster}/{facts.node}/deliver/{wish.name}",
        node=facts.node,
        action="deliver",
        stage=500,
        title=f"{facts.node}: certificate {paper.basename} uploaded, matched and verified",
        params={"wish": paper.due.id, "key": paper.key_file, "certificate": paper.certificate_file},
        lines=tuple(lines),
        source=source,
    )


def recheck(cluster: str, node: str, wanted: tuple[Expect, ...]) -> Step:
    """Return the reading after *go*: what the approver saw must still be true before the first change (stage 550)."""
    return Step(
        id=f"{cluster}/{node}/recheck",
        node=node,
        action="recheck",
        stage=550,
        title=f"{node}: still as approved",
        expects=wanted,
    )


def expects(facts: NodeFacts, papers: Sequence[Paper]) -> tuple[Expect, ...]:
    """Return what the services of *papers* must still be set to on that node."""
    return tuple(expect_setting(fact) for paper in papers for fact in _facts(paper.due.wish, facts))


def apply(
    cluster: str, facts: NodeFacts, papers: Sequence[Paper], found: Sequence[Pin], whole: Cluster
) -> tuple[Part, ...]:
    """Return stages 700 and 800 of one node: files swapped (`files: same`), one step per process, proof, barrier."""
    taken: list[str] = []
    parts: list[Part] = [
        _swap(cluster, facts, paper, found, taken) for paper in papers if paper.due.wish.files is FilesPolicy.SAME
    ]
    wanted = _wanted(facts, papers, found)
    processes = {entry_of(facts, name).process for name in wanted}
    parts += [
        _apply(cluster, facts, process, papers, found)
        for process in sorted(processes, key=lambda one: (_PROCESS_ORDER.index(one), one))
    ]
    parts += [
        _prove(cluster, facts, papers, whole),
        Barrier(
            id=f"{cluster}/{facts.node}/proved",
            name=f"{facts.node} proved",
            holds=f"every port of {facts.node} serves its new certificate, or the server was put back",
        ),
    ]
    return tuple(parts)


def settings_after(facts: NodeFacts, papers: Sequence[Paper], found: Sequence[Pin]) -> tuple[ServiceFact, ...]:
    """Return what the services of *papers* are set to when the run is over."""
    return tuple(_wanted(facts, papers, found).values())


def _wanted(facts: NodeFacts, papers: Sequence[Paper], found: Sequence[Pin]) -> dict[str, ServiceFact]:
    wanted: dict[str, ServiceFact] = {}
    for paper in papers:
        for fact in _before_apply(facts, paper, found):
            entry = entry_of(facts, fact.service)
            if paper.due.wish.files is FilesPolicy.SAME:
                wanted[fact.service] = fact
                continue
            bundle = paper.bundle_file if _takes_bundle(entry) else ""
            if entry.takes is Takes.TRUST:
                bundle = fact.bundle
            chained = _chained(entry)
            wanted[fact.service] = replace(
                fact,
                key=paper.key_file,
                certificate=paper.full_chain_file if chained else paper.certificate_file,
                bundle=bundle,
            )
    return wanted


def _apply(cluster: str, facts: NodeFacts, process: str, papers: Sequence[Paper], found: Sequence[Pin]) -> Step:
    wanted = {
        name: fact for name, fact in _wanted(facts, papers, found).items() if entry_of(facts, name).process == process
    }
    now = {
        fact.service: fact for paper in papers for fact in _before_apply(facts, paper, found) if fact.service in wanted
    }
    enabled = is_on(process, facts)
    tag = tag_of(process, facts)
    swapped = all(wanted[name] == now[name] for name in wanted)
    if swapped:
        lines = undo = restart_lines(process, enabled=enabled, tag=tag)
    else:
        lines = command_lines(process, _sets(facts, wanted, tag), enabled=enabled, tag=tag)
        old = {name: fact for name, fact in now.items() if fact.key and fact.certificate}
        undo = command_lines(process, _sets(facts, old, tag), enabled=enabled, tag=tag)
    how = "stays off; its files are set" if not enabled else "uses its new certificate"
    return Step(
        id=f"{cluster}/{facts.node}/apply/{process}",
        node=facts.node,
        action="apply",
        stage=700,
        title=f"{facts.node}: {process} {how}",
        params={
            "process": process,
            "tag": tag,
            "restarts": process_restarts(facts, wanted),
            "wanted": {name: _setting(fact) for name, fact in wanted.items()},
            "wishes": {name: paper.due.id for paper in papers for name in paper.due.wish.services if name in wanted},
        },
        expects=() if swapped else tuple(expect_setting(fact) for fact in now.values()),
        lines=lines,
        undo=undo,
        interrupts=interruptions(process, facts) if enabled else (),
    )


def process_restarts(facts: NodeFacts, wanted: Mapping[str, ServiceFact]) -> bool:
    """Return whether these services take up files by a restart, and not by disable and enable (row S7)."""
    return any(entry_of(facts, name).apply is Apply.RESTART for name in wanted)


def _before_apply(facts: NodeFacts, paper: Paper, found: Sequence[Pin]) -> tuple[ServiceFact, ...]:
    """Return what the services of *paper* are set to when stage 700 begins.

    A load balancer names its trust bundle together with its pair, and stage 600 may have changed that bundle.
    """
    settings: list[ServiceFact] = []
    for fact in _facts(paper.due.wish, facts):
        entry = entry_of(facts, fact.service)
        pinned = [pin.first_file for pin in found if pin.node == facts.node and pin.store.process == entry.process]
        settings.append(replace(fact, bundle=pinned[0]) if pinned and entry.takes is Takes.TRUST else fact)
    return tuple(settings)


def _moves(facts: NodeFacts, paper: Paper) -> tuple[tuple[str, str], ...]:
    """Return (file in use, fresh file that takes its name) for every file of this wish's services, each once.

    A file that one service uses as its certificate and another as its full chain becomes the full chain: its first
    certificate is the entity's, which is all that the first one reads.
    """
    pairs: list[tuple[str, str]] = []
    for fact in _facts(paper.due.wish, facts):
        entry = entry_of(facts, fact.service)
        chained = _chained(entry)
        pairs.append((fact.key, paper.key_file))
        pairs.append((fact.certificate, paper.full_chain_file if chained else paper.certificate_file))
        if fact.bundle and _takes_bundle(entry):
            pairs.append((fact.bundle, paper.bundle_file))
    chains = {active for active, fresh in pairs if fresh == paper.full_chain_file}
    return tuple(
        dict.fromkeys(
            (active, fresh) for active, fresh in pairs if not (fresh == paper.certificate_file and active in chains)
        )
    )


def _swap(cluster: str, facts: NodeFacts, paper: Paper, found: Sequence[Pin], taken: list[str]) -> Step:
    """Return the renames of one wish; *taken* collects the names given to files set aside on this node."""
    lines: list[Line] = []
    back: list[Line] = []
    for active, fresh in _moves(facts, paper):
        aside = set_aside(active, facts, taken)
        taken.append(aside)
        lines += [rename(active, aside), rename(fresh, active)]
        back += [rename(active, fresh), rename(aside, active)]
    return Step(
        id=f"{cluster}/{facts.node}/swap/{paper.due.wish.name}",
        node=facts.node,
        action="swap",
        stage=700,
        title=f"{facts.node}: the new files of {paper.due.wish.name} take the names of the old ones",
        params={"wish": paper.due.id},
        expects=tuple(expect_setting(fact) for fact in _before_apply(facts, paper, found)),
        lines=tuple(lines),
        undo=tuple(back),
    )


def _prove(cluster: str, facts: NodeFacts, papers: Sequence[Paper], whole: Cluster) -> Step:
    node = next(one for one in whole.nodes if one.name == facts.node)
    ports: list[dict[str, Any]] = []
    for paper in papers:
        for fact in _facts(paper.due.wish, facts):
            entry = entry_of(facts, fact.service)
            before = facts.port(fact.service)
            proof = next((one for one in node.proof if one.service == fact.service), None)
            reachable = before is not None and before.state is PortState.SERVED and (proof is None or proof.reachable)
            ports.append(
                {
                    "service": fact.service,
                    "wish": paper.due.id,
                    "probe": entry.probe.value if reachable else Probe.NONE.value,
                    "address": before.address if before else node.address,
                    "port": before.port if before else 0,
                    "before": before.chain[0].fingerprint if before and before.chain else "",
                    "on": is_on(entry.process, facts),
                }
            )
    return Step(
        id=f"{cluster}/{facts.node}/prove",
        node=facts.node,
        action="prove",
        stage=800,
        title=f"{facts.node}: every port serves its new certificate with the whole chain",
        params={"ports": ports},
    )


def _facts(wish: CertificateWish, facts: NodeFacts) -> tuple[ServiceFact, ...]:
    return tuple(facts.service(name) or ServiceFact(service=name, enabled=False) for name in wish.services)


def _chained(entry: Service) -> bool:
    # The third file of a load balancer names whom it trusts, so its own intermediates can only come with its leaf.
    return entry.takes in {Takes.FULL_CHAIN, Takes.TRUST}


def _takes_bundle(entry: Service) -> bool:
    # Recorder and streamer of 2.9 have a `certs` line of two files only: no row for a bundle, no third file.
    return entry.takes is Takes.BUNDLE and bool(entry.bundle_rows)


def _sets(facts: NodeFacts, settings: Mapping[str, ServiceFact], tag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, fact in settings.items():
        entry = entry_of(facts, name)
        # A service that wants no bundle any more may still have one from before, and the way back names it again.
        found[name] = entry.certs_line(fact.key, fact.certificate, fact.bundle if entry.bundle_rows else "", tag=tag)
    return found


def _setting(fact: ServiceFact) -> dict[str, Any]:
    return {"key": fact.key, "certificate": fact.certificate, "bundle": fact.bundle}


def expect_setting(fact: ServiceFact) -> Expect:
    """Return the condition that this service is still set to what *fact* says."""
    return Expect(kind="setting", subject=fact.service, value={**_setting(fact), "enabled": fact.enabled})


def _fresh(paper: Paper) -> tuple[str, ...]:
    return (paper.key_file, paper.csr_file, paper.certificate_file, paper.bundle_file, paper.full_chain_file)


def _csr_line(paper: Paper) -> str:
    wish = paper.due.wish
    attributes = dict(wish.subject)
    return PkiCsr(basename=paper.basename, **attributes, subjectAltName=(*wish.dns, *wish.ip, *wish.email)).line()
