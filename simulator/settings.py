"""What a fleet is to be: how many clusters and nodes, of which release, with which certificates and faults."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulator.database import USUAL_SECONDS
from simulator.database_layout import DatabaseShape
from simulator.faults import Fault
from simulator.releases import Release

SERVICES_2 = ("webadmin", "callbridge", "webbridge", "xmpp", "turn")
SERVICES_3 = ("webadmin", "callbridge", "webbridge3", "turn")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What a fleet is to be. *key_pool* is a number of keys, a file of keys, or None for fresh keys.

    *joined* and *connected*, given together or alone, say how many nodes a cluster has; *nodes* counts for nothing
    then. *primary* is the index of the joined node that is the primary of the database.
    """

    clusters: int = 1
    nodes: int = 3  # per cluster
    joined: int | None = None
    connected: int | None = None
    primary: int = 0
    database_ready: bool = True  # False: the cluster of the database is still to be built
    database_own_pairs: bool = False
    database_days_left: float | None = None  # None: days_left
    database_s: Mapping[str, float] = field(default_factory=dict)  # operation -> simulated seconds
    speed: float = 40.0  # simulated seconds of a database operation per real second
    release: str = "3.9"
    services: tuple[str, ...] = ()  # () means the usual ones of the release
    out: Path | None = None
    latency: Mapping[str, float] = field(default_factory=dict)  # command pattern -> seconds, "pki csr" -> 3
    key_pool: int | Path | None = None
    days_left: float = 12.0
    pin_leaves: bool = True  # trust stores hold the peers' certificates; False: the authority's
    faults: tuple[Fault, ...] = ()
    banner: str | None = None  # printed after login; None means the text of the table
    fqdn_hostnames: bool = False
    reboot_s: float = 2.0
    texts: Mapping[str, str] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)

    @property
    def enabled_services(self) -> tuple[str, ...]:
        """The services that every node runs."""
        if self.services:
            return self.services
        return SERVICES_3 if Release.parse(self.release) >= Release(3, 0) else SERVICES_2

    @property
    def database(self) -> DatabaseShape:
        """The database of every cluster. Raises: ValueError: such a cluster cannot be."""
        joined, connected = DatabaseShape.usual(self.nodes)
        if self.joined is not None or self.connected is not None:
            joined, connected = 1 if self.joined is None else self.joined, self.connected or 0
        if joined < 0 or connected < 0 or (connected and not joined) or not 0 <= self.primary < max(joined, 1):
            raise ValueError(
                f"no cluster has {joined} joined and {connected} connected nodes and number {self.primary} as primary"
            )
        return DatabaseShape(
            joined=joined,
            connected=connected,
            primary=self.primary,
            ready=self.database_ready,
            own_pairs=self.database_own_pairs,
            days_left=self.days_left if self.database_days_left is None else self.database_days_left,
        )

    @property
    def nodes_per_cluster(self) -> int:
        """How many nodes each cluster has."""
        shape = self.database
        return shape.joined + shape.connected or self.nodes

    @property
    def operations_s(self) -> Mapping[str, float]:
        """Simulated seconds by operation. Raises: ValueError: there is no such operation."""
        unknown = set(self.database_s) - set(USUAL_SECONDS)
        if unknown:
            raise ValueError(f"no database operation {', '.join(sorted(unknown))}")
        return {**USUAL_SECONDS, **self.database_s}
