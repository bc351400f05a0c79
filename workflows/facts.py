"""What a survey read from the servers: frozen values, JSON both ways, no opinions.

A survey (stage 100 of DESIGN.md section 7) reads release, services, files, trust stores, database role, clock and what
each port serves. Planning (`procedures`) compares these facts with the wish of the inventory. Nothing here does I/O;
`workers.steps.survey` fills the values in. Times are ISO 8601 text in UTC so that the JSON is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

import cattrs.preconf.json

from workflows.canonical import digest_of_json

CONVERTER = cattrs.preconf.json.make_converter(forbid_extra_keys=True)


class DatabaseState(Enum):
    """What a server says of its own place in the database cluster."""

    PRIMARY = "primary"
    REPLICA = "replica"
    CONNECTED = "connected"
    DISABLED = "disabled"
    BUSY = "busy"  # a command of the database is under way
    ERROR = "error"
    UNKNOWN = "unknown"


class PortState(Enum):
    """What came of looking at a port: it serves a certificate, nobody answered, or nobody looked."""

    SERVED = "served"
    UNREACHABLE = "unreachable"
    NOT_PROBED = "not probed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFact:
    """One certificate as read: SHA-256 of the DER and of the public key (both hex), CN of subject and issuer, expiry.

    `names` are the subject alternative names, DNS, IP and e-mail alike.
    """

    fingerprint: str
    spki_sha256: str
    subject: str
    issuer: str
    not_valid_after: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """A file on the server. Keys are never fetched: they have a name and a size, but no digest."""

    name: str
    size: int
    sha256: str = ""
    certificates: tuple[CertificateFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFact:
    """A service as its status tells it: on or off (None: the status has no such row) and the files it is set to use.

    `tag` tells several load balancers of one server apart; it is "" for all other services.
    """

    service: str
    enabled: bool | None
    key: str = ""
    certificate: str = ""
    bundle: str = ""
    port: int | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFact:
    """A trust store ("callbridge.c2w") and the file it is set to, "" when none."""

    store: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFact:
    """What a service's port serves: leaf first; chain as sent by the server."""

    service: str
    address: str
    port: int
    state: PortState
    chain: tuple[CertificateFact, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseMember:
    """One row of `database cluster status`. role: "primary", "replica" or "unknown"; `me`: the node that was asked."""

    address: str
    role: str
    me: bool = False
    connected: bool = False
    in_sync: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFact:
    """What `database cluster status` said, "" and () where it said nothing (mmp-reference 3.3).

    `state` is the word of the Status row. progress of the last command: "success", "failed", "in progress", "unknown".
    `expired` are the files that the status itself marks as expired.
    """

    state: str
    error: str = ""
    members: tuple[DatabaseMember, ...] = ()
    node_in_use: str = ""
    interface: str = ""
    server_key: str = ""
    server_certificate: str = ""
    client_key: str = ""
    client_certificate: str = ""
    ca_certificate: str = ""
    expired: tuple[str, ...] = ()
    last_command: str = ""
    progress: str = "unknown"

    @property
    def disabled(self) -> bool:
        """Whether the node is in no cluster."""
        return self.state.casefold() == "disabled"

    @property
    def busy(self) -> bool:
        """Whether a command of the database is under way."""
        return self.progress == "in progress"

    @property
    def me(self) -> DatabaseMember | None:
        """The row of the node that was asked; None when it only connects, or is in no cluster."""
        return next((one for one in self.members if one.me), None)

    @property
    def primary(self) -> str:
        """The address of the one primary; "" when there is none or more than one."""
        found = [one.address for one in self.members if one.role == "primary"]
        return found[0] if len(found) == 1 else ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files named, in the order of `database cluster certs`: five, three, or fewer."""
        named = (
            self.server_key,
            self.server_certificate,
            self.client_key,
            self.client_certificate,
            self.ca_certificate,
        )
        return tuple(name for name in named if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """All that one survey read from one server at *at* (UTC, ISO 8601). `clock_skew_s` is server minus engine."""

    node: str
    at: str
    release: str
    hostname: str
    clock_skew_s: float | None
    database: DatabaseState
    database_primary: str
    services: tuple[ServiceFact, ...]
    trust: tuple[TrustFact, ...]
    files: tuple[FileFact, ...]
    ports: tuple[PortFact, ...]
    database_cluster: DatabaseFact | None = None

    def service(self, name: str) -> ServiceFact | None:
        """Return the fact of service *name*, or None when the server did not tell of it."""
        return next((fact for fact in self.services if fact.service == name), None)

    def file(self, name: str) -> FileFact | None:
        """Return the file called *name*, or None when it is not there."""
        return next((fact for fact in self.files if fact.name == name), None)

    def port(self, service: str) -> PortFact | None:
        """Return what the port of *service* served, or None when it was not looked for."""
        return next((fact for fact in self.ports if fact.service == service), None)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what a plan leans on: two surveys of an unchanged server have the same.

        When it was read, the clock, and files that are neither certificates nor keys (logs grow) are left out, and so
        is what comes and goes in the database cluster: whether a node is reached and in sync at this moment.
        """
        said = self.to_json()
        for member in (said["database_cluster"] or {}).get("members", ()):
            member.update(connected=False, in_sync=False, text="")
        kept = [file for file in said["files"] if file["sha256"] or file["name"].endswith(".key")]
        return digest_of_json({**said, "at": "", "clock_skew_s": None, "files": kept})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` reads them back to an equal value."""
        result: dict[str, Any] = CONVERTER.unstructure(self)
        return result

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the facts that *data* (made by `to_json`) holds."""
        return CONVERTER.structure(data, cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One place where file, setting and served certificate of a service disagree, in words."""

    node: str
    service: str
    what: str


def drift(facts: NodeFacts) -> tuple[Drift, ...]:
    """Return where file, setting and served certificate disagree (features.md row 4), in the order of the services."""
    found: list[Drift] = []
    for service in facts.services:
        if not service.certificate:
            continue
        stored = facts.file(service.certificate)
        if stored is None:
            found.append(_drift(facts, service, f"is set to {service.certificate}, but that file is not there"))
            continue
        if service.key and facts.file(service.key) is None:
            found.append(_drift(facts, service, f"is set to {service.key}, but that file is not there"))
        port = facts.port(service.service)
        if port is None or port.state is not PortState.SERVED or not stored.certificates:
            continue
        if port.chain and port.chain[0].fingerprint != stored.certificates[0].fingerprint:
            found.append(
                _drift(
                    facts,
                    service,
                    f"serves a certificate that ends {port.chain[0].not_valid_after[:10]}, but {service.certificate} "
                    f"holds one that ends {stored.certificates[0].not_valid_after[:10]}: the service was not restarted",
                )
            )
    return tuple(found)


def _drift(facts: NodeFacts, service: ServiceFact, what: str) -> Drift:
    return Drift(node=facts.node, service=service.service, what=what)
