"""`database cluster`: the roles of the appliances of a cluster and what `status` says about them (MMP reference 3).

Roles are fixed when the fleet starts; the commands that change a cluster answer that they are not supported.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from simulator.appliance import Appliance, Command, CommandFailed
from simulator.console import Console
from simulator.releases import Release

# Words for the roles: Primary and Replica from 3.0 on (verbatim, S1), Master and Slave before (recalled).
WORDS: Mapping[bool, tuple[str, str]] = MappingProxyType({True: ("Primary", "Replica"), False: ("Master", "Slave")})
CERTIFICATE_FILES = ("dbserver.key", "dbserver.crt", "dbclient.key", "dbclient.crt", "dbca.crt")
_LABELS = ("Server Key", "Server Certificate", "Client Key", "Client Certificate", "CA Certificate")


def status(appliance: Appliance) -> str:
    """Return the status from this appliance's point of view; the layout is that of S1, a space-padded label of 25."""
    own = next((member for member in appliance.members if member.address == appliance.address), None)
    primary = next((member for member in appliance.members if member.primary), None)
    if own is None or primary is None or own.role not in {"joined", "connected"}:
        return _row("Status", "Disabled")
    master, replica = WORDS[appliance.release >= Release(3, 0)]
    lines = [_row("Status", "Enabled"), "\n", "Nodes:\n"]
    for member in appliance.members:
        if member.role == "joined":
            address = f"    {member.address}{' (me)' if member is own else ''}"
            lines.append(_row(address, f"Connected {master}" if member.primary else f"Connected {replica} ( In Sync )"))
    lines += [_row("Node in use", primary.address), "\n", _row("Interface", "a"), "\n", "Certificates\n"]
    files = tuple(zip(_LABELS, CERTIFICATE_FILES, strict=True))
    for label, file in files if own.role == "joined" else files[2:]:
        lines.append(_row(f"  {label}", file))
    lines += [
        "\n",
        _row("Last command", f"'database cluster {_last_command(own.role, primary.address, own.primary)}' (Success)"),
    ]
    return "".join(lines)


def _last_command(role: str, primary: str, is_primary: bool) -> str:
    if is_primary:
        return "initialize"
    return f"join {primary}" if role == "joined" else f"connect {primary}"


def _row(label: str, value: str) -> str:
    return f"{label:<25}: {value}\n"


async def _status(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(status(appliance))


async def _refused(verb: str, appliance: Appliance, _console: Console, _: Sequence[str]) -> None:
    raise CommandFailed(appliance.say("database.refused", verb=verb))


_CHANGES = ("localnode", "certs", "initialize", "join", "connect", "remove", "upgrade_schema", "clear_error")
COMMANDS = (
    Command(words=("database", "cluster", "status"), run=_status),
    *(Command(words=("database", "cluster", verb), run=partial(_refused, verb), most=None) for verb in _CHANGES),
)
