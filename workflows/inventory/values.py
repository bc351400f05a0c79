"""The resolved inventory: frozen values with every default filled in, JSON both ways, no secrets.

This is what planning, journal and workers see; how it stands in `fleet.yaml` is in `model`, how the one becomes the
other in `resolving`. A plan carries these values, so workers never read `fleet.yaml` (DESIGN.md section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Self, TypeVar

import cattrs
import cattrs.gen
import cattrs.preconf.json

from workflows.errors import InputError
from workflows.inventory.approvals import Approval


class DatabaseRole(StrEnum):
    """What a node is to the database cluster; which joined node is the primary is told by the survey."""

    JOINED = "joined"
    CONNECTED = "connected"
    STANDALONE = "standalone"
    NONE = "none"


class Per(StrEnum):
    """How many pairs a certificate means: one for each node, or one that the nodes share."""

    NODE = "node"
    CLUSTER = "cluster"


class KeyOrigin(StrEnum):
    """Where the key is made: by `pki csr` on the node, by the engine, or with another tool that left files (row S2)."""

    NODE = "node"
    ENGINE = "engine"
    FILE = "file"


class KeyKind(StrEnum):
    """The kind of a key that the engine makes. `pki csr` on a node decides for itself."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    EC256 = "ec256"
    EC384 = "ec384"


class FilesPolicy(StrEnum):
    """Whether the new pair has a fresh basename, or takes the names of the old files after *go* (row S9)."""

    FRESH = "fresh"
    SAME = "same"


class IssuerKind(StrEnum):
    """Who signs: people bring the certificate, or a private CA whose key lies on disk."""

    MANUAL = "manual"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who signs. For `local` the paths are joined to the inventory's folder; `days` is the lifetime it gives.

    `passphrase_credential` names the credential whose password opens the CA key; "" when the key is not encrypted.
    """

    name: str
    kind: IssuerKind
    certificate: str = ""
    key: str = ""
    chain: tuple[str, ...] = ()
    days: int = 0
    passphrase_credential: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Where a service is looked at from here. `port` 0 means: where the survey finds it listening.

    `reachable` is False when the inventory says `none`: that service cannot be reached from here, on purpose.
    """

    service: str
    address: str
    port: int
    reachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One server. `release` is "" when the inventory does not say; the survey then tells."""

    name: str
    cluster: str
    address: str
    port: int
    interface: str
    release: str
    database: DatabaseRole
    database_interface: str
    credential: str
    proof: tuple[Proof, ...] = ()
    database_address: str = ""
    """Where its peers reach its database; "" means what the cluster's status shows, else `address`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateWish:
    """One pair that is wanted: what stands in it, who makes the key, who signs, where it is used.

    A `per: node` certificate of the inventory is one wish for each node, and `nodes` then holds that node alone. `name`
    is also the basename of the files. `subject` is in the order of `pki csr` (mmp-reference section 11):
    (("CN", "cms1.example.com"), ("O", "Example")). `key_file` and `csr_file` are "" but for `key: file`.
    """

    name: str
    nodes: tuple[str, ...]
    per: Per
    key: KeyOrigin
    key_kind: KeyKind
    key_file: str
    csr_file: str
    subject: tuple[tuple[str, str], ...]
    dns: tuple[str, ...]
    ip: tuple[str, ...]
    email: tuple[str, ...]
    services: tuple[str, ...]
    issuer: str
    files: FilesPolicy
    trusted_by: tuple[str, ...]
    allow_key_download: bool

    @property
    def common_name(self) -> str:
        """The CN of the subject; a wish always has one."""
        return dict(self.subject)["CN"]


BUILT_IN_CA = "built-in"
"""The issuer of database certificates that is no issuer of the inventory: the CA inside the servers (row S4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePair:
    """One certificate of the database cluster: basename of its files and what stands in it.

    `subject` is in the order of `pki csr`, as in `CertificateWish`.
    """

    basename: str
    subject: tuple[tuple[str, str], ...]
    dns: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseWish:
    """The certificates that the database cluster is to have (rows S1, S4): one server pair, one client pair, one CA.

    `issuer` is "built-in" (the CA inside the servers signs) or the name of an issuer of the inventory; `ca` then says
    nothing. `key` is NODE (made on the primary and handed out from there) or ENGINE. `keep_ca` keeps a built-in CA that
    is in use and good for longer than what is to be renewed.
    """

    issuer: str = BUILT_IN_CA
    key: KeyOrigin = KeyOrigin.NODE
    key_kind: KeyKind = KeyKind.RSA2048
    keep_ca: bool = True
    ca: DatabasePair = DatabasePair(basename="dbca", subject=(("CN", "database-ca"),))
    server: DatabasePair = DatabasePair(basename="dbserver", subject=(("CN", "database-server"),))
    client: DatabasePair = DatabasePair(basename="dbclient", subject=(("CN", "postgres"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Nodes that belong together, in the order of the inventory, and the certificates wanted on them."""

    name: str
    nodes: tuple[Node, ...]
    certificates: tuple[CertificateWish, ...]
    database: DatabaseWish = DatabaseWish()

    def wishes_on(self, node: str) -> tuple[CertificateWish, ...]:
        """Return the wishes that stand on *node*, in the order of the inventory."""
        return tuple(wish for wish in self.certificates if node in wish.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedFleet:
    """The whole inventory with every default filled in.

    `fail_limit` counts nodes per lane. `retention_days` is how long old files are kept on the nodes, `minimum_days` how
    long a new certificate must be valid at the least. `approvals` are those that the inventory writes.
    """

    name: str
    four_eyes: bool
    go_gate: bool
    fail_limit: int
    retention_days: int
    minimum_days: int
    issuers: tuple[Issuer, ...]
    clusters: tuple[Cluster, ...]
    approvals: tuple[Approval, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of all clusters, in the order of the inventory."""
        return tuple(node for cluster in self.clusters for node in cluster.nodes)

    def node(self, name: str) -> Node:
        """Return the node of that name; names are unique in a fleet. Raises: KeyError."""
        return _named(self.nodes, name)

    def cluster(self, name: str) -> Cluster:
        """Return the cluster of that name. Raises: KeyError."""
        return _named(self.clusters, name)

    def issuer(self, name: str) -> Issuer:
        """Return the issuer of that name; `manual` is always there. Raises: KeyError."""
        return _named(self.issuers, name)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` reads them back to an equal value."""
        result: dict[str, Any] = _converter().unstructure(self)
        return result

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the fleet that *data* (made by `to_json`) holds. Raises: InputError: it is something else."""
        try:
            return _converter().structure(data, cls)
        except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                "this is not a resolved inventory of this version of certbridge",
                remedy="Make the plan again with `certbridge plan`.",
            ) from error


_Named = TypeVar("_Named", Node, Cluster, Issuer)


def _named(values: tuple[_Named, ...], name: str) -> _Named:
    for value in values:
        if value.name == name:
            return value
    raise KeyError(name)


@cache
def _converter() -> cattrs.preconf.json.JsonConverter:
    converter = cattrs.preconf.json.make_converter(forbid_extra_keys=True)
    # Left out when nothing is written, so that such a plan has the digest that it had before there were approvals.
    unsaid = cattrs.gen.make_dict_unstructure_fn(
        ResolvedFleet, converter, approvals=cattrs.gen.override(omit_if_default=True)
    )
    converter.register_unstructure_hook(ResolvedFleet, unsaid)
    return converter
