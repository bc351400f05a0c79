"""Commands that are no service's: help, version, hostname, date, ipv4, license, users, backup, reboot, syslog."""

import asyncio
import io
import json
import tarfile
from collections.abc import Sequence
from datetime import timedelta

from simulator import pki
from simulator.appliance import Appliance, Command, CommandFailed
from simulator.console import Console


async def _help(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    names = sorted({words[0] for words in appliance.commands} | {"exit"})
    console.write(appliance.say("help.head") + "".join(appliance.say("help.row", command=name) for name in names))


async def _version(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(appliance.say("version", release=appliance.release))


async def _hostname(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    if not arguments:
        console.write(appliance.say("hostname.show", hostname=appliance.hostname))
        return
    appliance.next_hostname = arguments[0]
    console.write(appliance.say("hostname.set"))


async def _date(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(appliance.say("date", utc=appliance.now()))


async def _ipv4(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(appliance.say("ipv4", address=appliance.address))


async def _license(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    expiry = appliance.now() + timedelta(days=690)
    for feature in ("callbridge", "turn"):
        console.write(appliance.say("license", feature=feature, expiry=expiry, days=690))


async def _users(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    expiry = f"{appliance.now() + timedelta(days=180):%Y-%b-%d}"
    console.write(appliance.say("user.head"))
    for name, role in appliance.users.items():
        present = "yes" if name == console.user else "no"
        console.write(appliance.say("user.row", name=name, role=role, expiry=expiry, present=present))


async def _backup(appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    name = arguments[0]
    if not pki.BASENAME.fullmatch(name):
        raise CommandFailed(appliance.say("pki.bad-name", name=name))
    settings = _settings(appliance)
    appliance.write(f"{name}.bak", _archive(appliance, settings))
    appliance.write(f"{name}.json", settings)
    console.write(appliance.say("backup", name=name))


def _settings(appliance: Appliance) -> bytes:
    services = {
        service.kind.name: {
            "enabled": service.enabled,
            "certs": {n: [e.key, e.certificate, e.bundle] for n, e in service.endpoints.items()},
            "trusts": service.trusts,
        }
        for service in appliance.services.values()
    }
    content = {"hostname": appliance.hostname, "release": str(appliance.release), "services": services}
    return json.dumps(content, indent=2).encode() + b"\n"


def _archive(appliance: Appliance, settings: bytes) -> bytes:
    """Return a backup: settings, database, certificates and private keys, as a compressed tar archive."""
    buffer = io.BytesIO()
    files = {name: file.data for name, file in appliance.files.items() if not name.endswith((".bak", ".json"))}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in {"settings.json": settings, "database.json": _database(appliance), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _database(appliance: Appliance) -> bytes:
    """Return what stands for the data here: their fingerprint, that of the cluster's on a joined node."""
    own = appliance.database
    return json.dumps({"data": own.data, "role": own.role.value}, indent=2).encode() + b"\n"


async def _reboot(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(appliance.say("reboot.question"))
    answer = await console.key()
    console.write("\n")
    if answer == "Y":
        console.write(appliance.say("reboot.begun"))
        appliance.reboot_requested = True


async def _syslog(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    """Print new syslog lines until Ctrl-C cancels the command."""
    seen = len(appliance.journal)
    while True:
        fresh = appliance.journal[seen:]
        seen = len(appliance.journal)
        console.write("".join(fresh))
        await asyncio.sleep(0.1)


COMMANDS = (
    Command(words=("help",), run=_help, most=None),
    Command(words=("version",), run=_version),
    Command(words=("hostname",), run=_hostname, most=1, usage="[<name>]"),
    Command(words=("date",), run=_date),
    Command(words=("ipv4",), run=_ipv4, most=1, usage="[<interface>]"),
    Command(words=("license",), run=_license),
    Command(words=("user", "list"), run=_users),
    Command(words=("backup", "snapshot"), run=_backup, least=1, most=1, usage="<name>"),
    Command(words=("reboot",), run=_reboot),
    Command(words=("syslog", "follow"), run=_syslog, endless=True),
)
