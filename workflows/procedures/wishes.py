"""Which certificates are due: the wish of the inventory against what the survey found.

A certificate is due when a service that should use it uses none, or one that ends soon, or one that lacks a wanted
name. When nothing is due the plan is empty, and a finished run therefore plans nothing (house-style: an empty plan
means "already as wanted").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from workflows.errors import Finding
from workflows.facts import CertificateFact, NodeFacts, ServiceFact
from workflows.inventory import CertificateWish, Cluster, KeyOrigin, Per
from workflows.mmp.services import Release, Service, service, services_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A wish that is due, and its id in the plan; `why` says in words what is wrong with what is there now."""

    id: str
    wish: CertificateWish
    why: tuple[str, ...]

    @property
    def source(self) -> str:
        """The node that makes the key; "" when the engine makes it or it was brought in."""
        return self.wish.nodes[0] if self.wish.key is KeyOrigin.NODE else ""


def wish_id(cluster: str, wish: CertificateWish) -> str:
    """Return "seoul/cmscore1/callbridge" for a pair of one node, "seoul/callbridge" for one that nodes share."""
    return f"{cluster}/{wish.nodes[0]}/{wish.name}" if wish.per is Per.NODE else f"{cluster}/{wish.name}"


def due(cluster: Cluster, facts: Mapping[str, NodeFacts], *, now: datetime, within: timedelta) -> tuple[Due, ...]:
    """Return the wishes of *cluster* that are due at *now*, in the order of the inventory."""
    found: list[Due] = []
    for wish in cluster.certificates:
        why = tuple(
            f"{node}: {reason}"
            for node in wish.nodes
            for name in wish.services
            if (reason := _reason(wish, facts[node], name, now=now, within=within))
        )
        if why:
            found.append(Due(id=wish_id(cluster.name, wish), wish=wish, why=why))
    return tuple(found)


def faults(cluster: Cluster, facts: Mapping[str, NodeFacts], nodes: tuple[str, ...]) -> list[Finding]:
    """Return what keeps *cluster* from being planned: no survey, another release, services that it does not have."""
    found: list[Finding] = []
    for node in cluster.nodes:
        if node.name not in nodes:
            continue
        one = facts.get(node.name)
        if one is None:
            found.append(Finding(node.name, "was never surveyed", "Run `certbridge survey` and plan again."))
            continue
        release = parse_release(one.release)
        if release is None:
            found.append(Finding(node.name, f"its release {one.release!r} is not understood", "Report its `version`."))
            continue
        if node.release and parse_release(node.release) != release:
            found.append(
                Finding(
                    node.name,
                    f"the inventory says release {node.release}, the server says {one.release}",
                    "Correct `release` in the inventory, or leave it out.",
                )
            )
        known = {entry.name for entry in services_of(release)}
        found.extend(
            Finding(
                node.name,
                f"certificate {wish.name!r} is for {name}, which release {one.release} does not have",
                f"Services of {one.release}: {', '.join(sorted(known))}.",
            )
            for wish in cluster.wishes_on(node.name)
            for name in wish.services
            if name not in known
        )
        balancer = one.service("loadbalancer")
        if (balancer is None or not (balancer.tag and balancer.bundle)) and "loadbalancer" in known:
            found.extend(
                Finding(
                    node.name,
                    f"certificate {wish.name!r} is for loadbalancer, but there is no load balancer with tag and trust "
                    "bundle",
                    "Create it once by hand (`loadbalancer create`, `loadbalancer auth`), or take it out of the wish.",
                )
                for wish in cluster.wishes_on(node.name)
                if "loadbalancer" in wish.services
            )
    return found


def parse_release(text: str) -> Release | None:
    """Return (3, 9) for "3.9.2", None for text that does not begin with two numbers."""
    parts = text.strip().split(".")
    if len(parts) < 2 or not parts[0].isdigit() or not parts[1].isdigit():
        return None
    return int(parts[0]), int(parts[1])


def entry_of(facts: NodeFacts, name: str) -> Service:
    """Return the row of the services table for service *name* on that node's release."""
    release = parse_release(facts.release)
    if release is None:
        raise ValueError(facts.release)
    return service(name, release)


def leaf_in_use(facts: NodeFacts, name: str) -> CertificateFact | None:
    """Return the leaf that service *name* is set to, None when it is set to none or the file cannot be read."""
    setting = facts.service(name)
    stored = facts.file(setting.certificate) if setting and setting.certificate else None
    return stored.certificates[0] if stored and stored.certificates else None


def _reason(wish: CertificateWish, facts: NodeFacts, name: str, *, now: datetime, within: timedelta) -> str:
    setting = facts.service(name)
    if setting is None or not setting.certificate:
        return f"{name} has no certificate"
    leaf = leaf_in_use(facts, name)
    if leaf is None:
        return f"{name} is set to {setting.certificate}, which holds no certificate"
    missing = _missing_names(wish, leaf)
    if missing:
        return f"{name}: {setting.certificate} lacks {', '.join(missing)}"
    ends = datetime.fromisoformat(leaf.not_valid_after)
    if ends <= now + within:
        return f"{name}: {setting.certificate} ends {leaf.not_valid_after[:10]}"
    return _stale(setting, facts, leaf)


def _stale(setting: ServiceFact, facts: NodeFacts, leaf: CertificateFact) -> str:
    port = facts.port(setting.service)
    if port is not None and port.chain and port.chain[0].fingerprint != leaf.fingerprint:
        return f"{setting.service} serves another certificate than {setting.certificate}"
    return ""


def _missing_names(wish: CertificateWish, leaf: CertificateFact) -> list[str]:
    held = {name.casefold() for name in leaf.names}
    wanted = (*wish.dns, *wish.ip, *wish.email)
    missing = [name for name in wanted if name.casefold() not in held]
    if wish.common_name.casefold() != leaf.subject.casefold():
        missing.insert(0, f"CN {wish.common_name}")
    return missing
