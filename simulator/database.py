"""The database cluster as the appliances of one cluster share it: roles, data, and who can talk to whom.

Each appliance keeps its own part (`DatabaseNode`). What an appliance says of the others is looked up in theirs, so all
tell one story as long as they can talk to each other. What an operation does and how long it takes is in
`database_operations.py`, the command line in `database_commands.py`, the layout of the status in `database_status.py`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simulator import database_certificates
from simulator.faults import FaultKind
from simulator.services import ClientCertificate, Endpoint, EndpointKind, Running, Wire

if TYPE_CHECKING:
    from simulator.appliance import Appliance
    from simulator.commandlog import CommandLog

MOST_JOINED = 5  # S4; S1 says three: "let the simulator cap at 5" (MMP reference 3.2)
PORT = 5432
# Simulated seconds. No timings were found anywhere (MMP reference 3.2): these are made up.
USUAL_SECONDS: Mapping[str, float] = MappingProxyType(
    {"remove": 20.0, "initialize": 40.0, "join": 60.0, "connect": 15.0, "upgrade_schema": 20.0}
)
_KIND = EndpointKind(
    name="database", words=(), port=PORT, wire=Wire.POSTGRES, client_certificate=ClientCertificate.REQUIRED
)


class Role(StrEnum):
    """What a node is to the cluster."""

    NONE = "none"
    PRIMARY = "primary"
    REPLICA = "replica"
    CONNECTED = "connected"


JOINED = frozenset({Role.PRIMARY, Role.REPLICA})


class Progress(StrEnum):
    """How the last command stands, in the words of the status (S1; "In progress" is recalled)."""

    SUCCESS = "Success"
    FAILED = "Failed"
    IN_PROGRESS = "In progress"


def fresh_data() -> str:
    """Return the fingerprint of data that nobody else has."""
    return f"data-{secrets.token_hex(4)}"


@dataclass(slots=True, kw_only=True)
class DatabaseNode:
    """One appliance's own part. *taken* are the files' contents when the last operation took them up."""

    role: Role = Role.NONE
    primary: str | None = None  # address of the primary it follows; its own, if it is the primary
    interface: str | None = None
    files: tuple[str, ...] = ()  # five names, three, or none
    taken: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    last_command: str | None = None  # "join 10.48.36.61"
    progress: Progress = Progress.SUCCESS
    error: str | None = None
    data: str = field(default_factory=fresh_data)
    borrowed: bool = False  # the cluster's data were used here; local writes make it different once it is out
    syncing: bool = False
    joined_from: str | None = None  # whose data the last join copied
    callbridge_restarts: int = 0
    endpoint: Endpoint = field(default_factory=lambda: Endpoint(kind=_KIND, key=None, port=PORT, running_port=PORT))

    @property
    def busy(self) -> bool:
        """Whether an operation runs."""
        return self.progress is Progress.IN_PROGRESS

    def enter(self, role: Role, primary: str) -> None:
        """Become a member; a joined one listens from now on."""
        self.role, self.primary = role, primary
        if role in JOINED:
            key, certificate, *_, authority = self.files
            self.endpoint.running = Running(
                key_file=key,
                certificate_file=certificate,
                key=self.taken[key],
                chain=database_certificates.chain(self.taken[certificate]),
                trust=self.taken[authority],
            )

    def leave(self) -> None:
        """Be alone again, with the data as they are here and the settings as they were made."""
        self.role, self.primary, self.syncing = Role.NONE, None, False
        self.taken = {}
        self.endpoint.running = None

    def written(self) -> None:
        """Let the call bridge, which has just started, write: out of the cluster this is a copy of the node's own."""
        if self.role is Role.NONE and self.borrowed:
            self.data, self.borrowed = fresh_data(), False

    def to_json(self, status: str) -> dict[str, Any]:
        """Return this part for `description.state`; *status* is the word of the status row."""
        return {
            "role": self.role.value,
            "status": status,
            "primary": self.primary,
            "interface": self.interface,
            "files": list(self.files),
            "data": self.data,
            "last_command": self.last_command,
            "progress": None if self.last_command is None else self.progress.value,
            "error": self.error,
            "syncing": self.syncing,
            "joined_from": self.joined_from,
            "callbridge_restarts": self.callbridge_restarts,
        }


@dataclass(kw_only=True)
class DatabaseCluster:
    """What the appliances of a cluster share: each other, the pace of operations, the log. Keyed by address."""

    appliances: dict[str, "Appliance"] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=lambda: USUAL_SECONDS)  # simulated, by operation
    speed: float = 40.0  # simulated seconds per real second
    log: "CommandLog | None" = None

    def real_seconds(self, simulated: float) -> float:
        """Return how long *simulated* seconds take on the wall."""
        return simulated / self.speed

    def joined(self, primary: str) -> "list[Appliance]":
        """Return the primary at *primary*, if it is one, and then its replicas in the order of the fleet."""
        members = [a for a in self.appliances.values() if a.database.primary == primary and a.database.role in JOINED]
        return sorted(members, key=lambda appliance: appliance.database.role is not Role.PRIMARY)

    def is_primary(self, address: str) -> bool:
        """Tell whether a Connected Primary is at *address*: one whose `initialize` has ended."""
        found = self.appliances.get(address)
        return found is not None and found.database.role is Role.PRIMARY and reachable(found)

    def talks(self, one: "Appliance", other: "Appliance") -> bool:
        """Tell whether two nodes reach each other and accept each other's certificates."""
        return reachable(one) and reachable(other) and not expired(one) and not expired(other)


def reachable(appliance: "Appliance") -> bool:
    """Tell whether the database of *appliance* can be reached over the network."""
    faults, node = appliance.faults, appliance.name
    gone = any(faults.first(FaultKind.UNREACHABLE, node, what) is not None for what in ("ssh", "database"))
    return not (appliance.away or gone)


def expired(appliance: "Appliance") -> tuple[str, ...]:
    """Return the names of certificates that are out of date by the appliance's clock: those in use, else those set."""
    own = appliance.database
    now = appliance.now()
    stored = {name: file.data for name, file in appliance.files.items() if name in own.files}
    return tuple(name for name in own.files if database_certificates.expired((own.taken or stored).get(name, b""), now))
