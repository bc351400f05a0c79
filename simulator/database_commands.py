"""The `database cluster` commands (MMP reference 3): what is refused at once, what is asked, what is started.

Whether the certificates are any good is not looked at here but when an operation takes them up, as for every service.
"""

from collections.abc import Sequence
from functools import partial

from simulator.appliance import Appliance, Command, CommandFailed
from simulator.console import Console
from simulator.database import Role
from simulator.database_operations import begin
from simulator.database_status import status

_INTERFACES = ("a", "b", "c", "d", "e")


async def _status(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    console.write(status(appliance))


def _alone(appliance: Appliance) -> None:
    """Raise CommandFailed unless the node is in no cluster and nothing is under way (S2)."""
    if appliance.database.busy:
        raise CommandFailed(appliance.say("database.busy"))
    if appliance.database.role is not Role.NONE:
        raise CommandFailed(appliance.say("database.clustered"))


async def _localnode(appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    _alone(appliance)
    if arguments[0] not in _INTERFACES:
        raise CommandFailed(appliance.say("database.no-interface", interface=arguments[0]))
    appliance.database.interface = arguments[0]


async def _certs(appliance: Appliance, _: Console, arguments: Sequence[str]) -> None:
    _alone(appliance)
    if list(arguments) == ["none"]:
        appliance.database.files = ()
        return
    if len(arguments) not in {3, 5}:
        raise CommandFailed(appliance.say("shell.usage", usage=f"database cluster certs {_CERTS}"))
    for file in arguments:
        appliance.read(file)
    appliance.database.files = tuple(arguments)


async def _move(verb: str, appliance: Appliance, console: Console, arguments: Sequence[str]) -> None:
    """Start `initialize`, `join`, `connect` or `remove` after a capital Y; anything else leaves all as it is (S2)."""
    own = appliance.database
    if verb == "remove":
        if own.busy:
            raise CommandFailed(appliance.say("database.busy"))
        if own.role is Role.NONE:
            raise CommandFailed(appliance.say("database.not-clustered"))
    else:
        _alone(appliance)
        if verb != "connect" and own.interface is None:
            raise CommandFailed(appliance.say("database.no-localnode"))
        if len(own.files) not in ({3, 5} if verb == "connect" else {5}):
            raise CommandFailed(appliance.say("database.no-certs"))
    console.write(appliance.say(f"database.{verb}.question"))
    answer = await console.key()
    console.write("\n")
    if answer != "Y":
        raise CommandFailed(appliance.say("database.unconfirmed"))
    if own.busy:  # another session was faster
        raise CommandFailed(appliance.say("database.busy"))
    begin(appliance, verb, arguments[0] if arguments else None)
    console.write(appliance.say(f"database.{verb}.started"))


async def _upgrade_schema(appliance: Appliance, console: Console, _: Sequence[str]) -> None:
    if appliance.database.busy:
        raise CommandFailed(appliance.say("database.busy"))
    if appliance.database.role is Role.NONE:
        raise CommandFailed(appliance.say("database.not-clustered"))
    begin(appliance, "upgrade_schema")
    console.write(appliance.say("database.upgrade_schema.started"))


async def _clear_error(appliance: Appliance, _: Console, _arguments: Sequence[str]) -> None:
    appliance.database.error = None


_CERTS = "<server_key> <server_crt> <client_key> <client_crt> <ca_crt>"
_WORDS = ("database", "cluster")
COMMANDS = (
    Command(words=(*_WORDS, "status"), run=_status),
    Command(words=(*_WORDS, "localnode"), run=_localnode, least=1, most=1, usage="<interface>"),
    Command(words=(*_WORDS, "certs"), run=_certs, least=1, most=5, usage=_CERTS),
    Command(words=(*_WORDS, "initialize"), run=partial(_move, "initialize")),
    Command(words=(*_WORDS, "join"), run=partial(_move, "join"), least=1, most=1, usage="<address>"),
    Command(words=(*_WORDS, "connect"), run=partial(_move, "connect"), least=1, most=1, usage="<address>"),
    Command(words=(*_WORDS, "remove"), run=partial(_move, "remove")),
    Command(words=(*_WORDS, "upgrade_schema"), run=_upgrade_schema),
    Command(words=(*_WORDS, "clear_error"), run=_clear_error),
)
