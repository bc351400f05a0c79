"""What `database cluster status` says, in the layout of its verbatim samples (S1): a space-padded label of 25.

The words for what no sample shows (a failed connection, an expired certificate, a copy under way) are guessed.
"""

from collections.abc import Mapping
from types import MappingProxyType

from simulator.appliance import Appliance
from simulator.database import JOINED, DatabaseCluster, Role, expired
from simulator.faults import FaultKind
from simulator.releases import Release

LABELS = ("Server Key", "Server Certificate", "Client Key", "Client Certificate", "CA Certificate")
# Status while an operation runs; what is not here stays Enabled.
_WORKING: Mapping[str, str] = MappingProxyType(
    {"initialize": "Initializing", "join": "Attaching", "connect": "Connecting", "remove": "Removing"}
)


def word(appliance: Appliance) -> str:
    """Return the word of the status row."""
    own = appliance.database
    verb = (own.last_command or "").partition(" ")[0]
    if own.busy and verb in _WORKING and not own.syncing:
        return _WORKING[verb]
    if own.role is Role.NONE:
        return "Disabled"
    return "Error" if error(appliance) is not None else "Enabled"


def error(appliance: Appliance) -> str | None:
    """Return the text of the ERROR row: what the last operation left, or that nodes refuse each other's certificate."""
    own = appliance.database
    if own.error is not None or own.role is Role.NONE:
        return own.error
    out_of_date = any(expired(member) for member in [appliance, *_members(appliance)])
    return appliance.say("database.nodes-expired") if out_of_date else None


def status(appliance: Appliance) -> str:
    """Return the status from this appliance's point of view."""
    own = appliance.database
    problem = error(appliance)
    lines = [] if problem is None else [_row("ERROR", problem)]
    lines.append(_row("Status", word(appliance)))
    if own.role is not Role.NONE:
        lines += ["\n", "Nodes:\n", *_nodes(appliance), _row("Node in use", _primary(appliance))]
    if own.interface is not None:
        lines += ["\n", _row("Interface", own.interface)]
    if own.files:
        lines += ["\n", "Certificates\n", *_certificates(appliance)]
    if own.last_command is not None:
        lines += ["\n", _row("Last command", f"'database cluster {own.last_command}' ({own.progress})")]
    return "".join(lines)


def _primary(appliance: Appliance) -> str:
    """Return the address that this appliance takes for the primary's."""
    split = appliance.faults.first(FaultKind.DATABASE_SPLIT, appliance.name, "")
    return (split.text if split is not None else None) or appliance.database.primary or ""


def _members(appliance: Appliance) -> list[Appliance]:
    """Return the joined nodes of the cluster, the primary first even if it is in no cluster any more."""
    cluster: DatabaseCluster = appliance.database_cluster
    address = appliance.database.primary or ""
    members = cluster.joined(address)
    primary = cluster.appliances.get(address)
    return members if primary is None or primary in members else [primary, *members]


def _nodes(appliance: Appliance) -> list[str]:
    rows = []
    claimed = _primary(appliance)
    primary, replica = (appliance.say(f"database.{name}") for name in _role_texts(appliance))
    for member in _members(appliance):
        is_primary = member.address == claimed
        name = primary if is_primary else replica
        address = f"    {member.address}{' (me)' if member is appliance else ''}"
        if member is not appliance and not _in_touch(appliance, member):
            rows.append(_row(address, appliance.say("database.connection-failure", role=name)))
        elif is_primary:
            rows.append(_row(address, appliance.say("database.connected", role=name)))
        else:
            rows.append(_row(address, appliance.say(f"database.{_sync(member)}", role=name)))
    return rows


def _role_texts(appliance: Appliance) -> tuple[str, str]:
    return ("primary", "replica") if appliance.release >= Release(3, 0) else ("master", "slave")


def _in_touch(appliance: Appliance, member: Appliance) -> bool:
    """Tell whether *appliance* reaches the database of *member* and finds it in the same cluster."""
    if member.database.role not in JOINED or member.database.primary != appliance.database.primary:
        return False
    return appliance.database_cluster.talks(appliance, member)


def _sync(member: Appliance) -> str:
    """Return the key of the text that says how a replica stands to its primary."""
    primary = member.database_cluster.appliances.get(member.database.primary or "")
    if member.database.syncing:
        return "syncing"
    lost = member.faults.first(FaultKind.DATABASE_SYNC_LOST, member.name, "") is not None
    if lost or primary is None or (primary is not member and not _in_touch(member, primary)):
        return "out-of-sync"
    return "in-sync"


def _certificates(appliance: Appliance) -> list[str]:
    own = appliance.database
    out_of_date = expired(appliance)
    rows = []
    for label, file in zip(LABELS[-len(own.files) :], own.files, strict=True):
        shown = appliance.say("database.expired-file", file=file) if file in out_of_date else file
        rows.append(_row(f"  {label}", shown))
    return rows


def _row(label: str, value: str) -> str:
    return f"{label:<25}: {value}\n"


def in_sync(member: Appliance) -> bool:
    """Tell whether a joined node has all the data of its primary."""
    return member.database.role is Role.PRIMARY or _sync(member) == "in-sync"
