"""A server in a few lines, to see what the lines of a plan come to: it refuses what a real one would be broken by.

It reads MMP lines with the driver's own `command_of` and nothing of `procedures`: a line that names a file which is not
there, writes over a file, or renames onto one, is an error here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from tests.unit.core.fleets import NOW
from workflows.facts import CertificateFact, FileFact, NodeFacts, PortFact, PortState, ServiceFact, TrustFact
from workflows.mmp.commands import (
    BackupSnapshot,
    LoadbalancerAuth,
    PkiCsr,
    ServiceCerts,
    ServiceDisable,
    ServiceEnable,
    ServiceRestart,
    TrustBundle,
    command_of,
    is_reading_line,
)
from workflows.mmp.services import services_of, trust_stores_of
from workflows.plan import Line, LineKind, Plan, Step
from workflows.procedures.wishes import parse_release


@dataclass(slots=True)
class Box:
    """One server: what its files hold, what its services and stores are set to, and what is in effect."""

    node: str
    release: tuple[int, int]
    files: dict[str, tuple[CertificateFact, ...]]
    services: dict[str, ServiceFact]
    stores: dict[str, str]
    running: dict[str, tuple[tuple[CertificateFact, ...], ...] | None]
    starts: list[str]

    def run(self, lines: Iterable[Line], contents: dict[str, tuple[CertificateFact, ...]]) -> None:
        """Carry out *lines*; *contents* says what an upload carries."""
        for line in lines:
            if line.kind is LineKind.COMMAND:
                self._command(line.text)
            elif line.kind is LineKind.UPLOAD:
                assert line.text not in self.files, f"{line.text} is written over"
                self.files[line.text] = contents[line.content]
            elif line.kind is LineKind.RENAME:
                old, _, new = line.text.partition(" -> ")
                assert new not in self.files, f"{new} is there already"
                self.files[new] = self.files.pop(old)
            elif line.kind is LineKind.DELETE:
                del self.files[line.text]
            elif not line.content.startswith("key-from:"):
                assert line.text in self.files, f"{line.text} is fetched, but is not there"

    def _command(self, text: str) -> None:
        assert not is_reading_line(text), text
        command = command_of(text)
        if isinstance(command, PkiCsr):
            names = {f"{command.basename}.key", f"{command.basename}.csr"}
            assert not names & set(self.files), f"{command.basename} is in use"
            self.files |= dict.fromkeys(names, ())
        elif isinstance(command, BackupSnapshot):
            self.files[f"{command.name}.bak"] = ()
        elif isinstance(command, ServiceCerts):
            entry = next(one for one in services_of(self.release) if one.words == command.words)
            self._set(entry.name, command.key, command.certificate, command.bundle)
        elif isinstance(command, LoadbalancerAuth):
            self._set("loadbalancer", command.key, command.certificate, command.bundle)
            assert self.services["loadbalancer"].tag == command.tag
            self.stores["loadbalancer.auth"] = command.bundle
        elif isinstance(command, TrustBundle):
            store = next(one for one in trust_stores_of(self.release) if one.words == command.words)
            assert command.bundle in self.files
            self.stores[store.name] = command.bundle
        elif isinstance(command, ServiceDisable):
            self._switch(command.process, on=False)
        elif isinstance(command, ServiceEnable):
            assert not self._on(command.process), f"{command.process} is enabled twice"
            self._switch(command.process, on=True)
        else:
            assert isinstance(command, ServiceRestart), text
            self._switch(command.process, on=True)

    def _set(self, name: str, key: str, certificate: str, bundle: str) -> None:
        if name != "callbridge":
            assert not self._on(name.split(".", maxsplit=1)[0]) or name == "loadbalancer", (
                f"{name} is set while it runs"
            )
        for file in (key, certificate, *([bundle] if bundle else [])):
            assert file in self.files, f"{name} is set to {file}, which is not there"
        self.services[name] = replace(self.services[name], key=key, certificate=certificate, bundle=bundle)

    def _names(self, process: str) -> list[str]:
        entries = [one.name for one in services_of(self.release) if one.process == process]
        return [name for name in self.services if name in entries]

    def _on(self, process: str) -> bool:
        return any(self.services[name].enabled for name in self._names(process))

    def _switch(self, process: str, *, on: bool) -> None:
        for name in self._names(process):
            self.services[name] = replace(self.services[name], enabled=on)
            self.running[name] = self._effective(name) if on else None
        if on:
            self.starts.append(process)

    def _effective(self, name: str) -> tuple[tuple[CertificateFact, ...], ...]:
        fact = self.services[name]
        process = name.split(".", maxsplit=1)[0]
        trusted = [self.files[file] for store, file in sorted(self.stores.items()) if store.split(".")[0] == process]
        pair = tuple(self.files.get(file, ()) for file in (fact.certificate, fact.bundle))
        return (*pair, *trusted)

    def in_use(self) -> dict[str, object]:
        """Return all that a person would call the state of this server, whatever its files are called."""
        return {
            name: (
                fact.enabled,
                fact.key,
                fact.certificate,
                fact.bundle,
                self.files.get(fact.certificate),
                self.running[name],
            )
            for name, fact in self.services.items()
        } | {f"trust {name}": (file, self.files[file]) for name, file in self.stores.items()}

    def facts(self, like: NodeFacts) -> NodeFacts:
        """Return what a survey would read now; what it does not change is as in *like*."""
        ports = tuple(
            replace(port, chain=running[0])
            if port.state is PortState.SERVED and (running := self.running[port.service])
            else port
            for port in like.ports
        )
        return replace(
            like,
            services=tuple(self.services.values()),
            trust=tuple(TrustFact(store=name, file=file) for name, file in self.stores.items()),
            files=tuple(FileFact(name=name, size=1, certificates=held) for name, held in sorted(self.files.items())),
            ports=_started(ports, self),
        )


def _started(ports: tuple[PortFact, ...], box: Box) -> tuple[PortFact, ...]:
    return tuple(port for port in ports if box.services[port.service].enabled)


def box_of(facts: NodeFacts) -> Box:
    """Return the server that *facts* were read from, all its services started with the files they are set to."""
    release = parse_release(facts.release)
    assert release is not None
    box = Box(
        node=facts.node,
        release=release,
        files={file.name: file.certificates for file in facts.files},
        services={fact.service: fact for fact in facts.services},
        stores={one.store: one.file for one in facts.trust},
        running={},
        starts=[],
    )
    box.running = {name: box._effective(name) if fact.enabled else None for name, fact in box.services.items()}
    return box


def new_leaf(plan: Plan, wish: str) -> CertificateFact:
    """Return the certificate that the CA makes for *wish*."""
    one = plan.wishes[wish]
    return CertificateFact(
        fingerprint=f"new {wish} {one['basename']}",
        spki_sha256=f"new key of {wish}",
        subject=dict(one["subject"])["CN"],
        issuer="New CA",
        not_valid_after=(NOW + timedelta(days=200)).isoformat(),
        names=(*one["dns"], *one["ip"], *one["email"]),
    )


NEW_CA = CertificateFact(
    fingerprint="new ca",
    spki_sha256="new ca",
    subject="New CA",
    issuer="New CA",
    not_valid_after="2036-01-01T00:00:00Z",
)


def contents_of(plan: Plan, step: Step, box: Box) -> dict[str, tuple[CertificateFact, ...]]:
    """Return what the uploads of *step* carry on *box*."""
    found: dict[str, tuple[CertificateFact, ...]] = {"scratch": ()}
    for wish in plan.wishes:
        leaf = new_leaf(plan, wish)
        found |= {
            f"key:{wish}": (),
            f"certificate:{wish}": (leaf,),
            f"bundle:{wish}": (NEW_CA,),
            f"fullchain:{wish}": (leaf, NEW_CA),
        }
    for one in step.params.get("stores", ()):
        held = (*box.files[one["base"]], *(new_leaf(plan, wish) for wish in one["adds"]))
        gone = set(one["removes"])
        found[f"trust:{one['store']}"] = tuple(dict.fromkeys(leaf for leaf in held if leaf.fingerprint not in gone))
    return found


def carry_out(plan: Plan, facts: dict[str, NodeFacts]) -> dict[str, Box]:
    """Return the servers after all lines of *plan*, in its order."""
    boxes = {name: box_of(one) for name, one in facts.items()}
    for lane in plan.lanes:
        for step in lane.steps():
            if step.node:
                boxes[step.node].run(step.lines, contents_of(plan, step, boxes[step.node]))
    return boxes


def facts_after(plan: Plan, facts: dict[str, NodeFacts]) -> dict[str, NodeFacts]:
    """Return what a survey would read after *plan* was carried out."""
    boxes = carry_out(plan, facts)
    return {name: boxes[name].facts(one) for name, one in facts.items()}
