"""One simulated server: its files, settings and services, and the command line that changes them. No network.

`Appliance.execute` carries out one line as typed. The commands themselves are registered in tables by
`pki_commands`, `service_commands`, `system_commands` and `database_commands`; what a release does not have, it does
not know.
Nothing here is awaited between reading and writing state, so two sessions see each command whole.
"""

import asyncio
import fnmatch
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from simulator.console import Console
from simulator.database import DatabaseCluster, DatabaseNode
from simulator.faults import FaultKind, Faults
from simulator.pki import KeySource
from simulator.releases import Release, available
from simulator.services import Endpoint, Service, service_kinds
from simulator.texts import say

if TYPE_CHECKING:
    from simulator.database_operations import Operation


class Outcome(Enum):
    """How a command ended, as the command log tells it."""

    OK = "ok"
    FAILURE = "failure"
    UNKNOWN_COMMAND = "unknown-command"


class CommandFailed(Exception):
    """Ends a command; the argument is what the appliance prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file on the appliance."""

    data: bytes = field(repr=False)
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: its words, what does it, how many arguments it takes, and how its usage reads."""

    words: tuple[str, ...]
    run: "Callable[[Appliance, Console, Sequence[str]], Awaitable[None]]"
    least: int = 0
    most: int | None = 0  # None: any number
    usage: str = ""
    secret_arguments: tuple[int, ...] = ()  # arguments that are masked in every log
    endless: bool = False  # goes on until Ctrl-C or until the client has gone


@dataclass(kw_only=True)
class Appliance:
    """A simulated Cisco Meeting Server."""

    name: str
    cluster: str
    address: str
    release: Release
    hostname: str
    faults: Faults
    keys: KeySource
    latency: Mapping[str, float] = field(default_factory=dict)  # command pattern -> seconds
    texts: Mapping[str, str] = field(default_factory=dict)  # literals that replace those of `texts.TEXTS`
    database_role: str = "none"  # joined | connected | none: what the inventory says it is to be
    database: DatabaseNode = field(default_factory=DatabaseNode)
    database_cluster: DatabaseCluster = field(default_factory=DatabaseCluster)
    operation: "Operation | None" = None  # of the database, while it runs
    away: bool = False  # rebooting
    changed: Callable[[], None] = lambda: None  # told when ports have to be opened or closed
    reboot: Callable[[float | None], None] = lambda _: None  # goes away for so many seconds
    files: dict[str, File] = field(default_factory=dict)
    next_hostname: str | None = None
    reboot_requested: bool = False
    journal: list[str] = field(default_factory=list)  # the syslog
    users: dict[str, str] = field(default_factory=lambda: {"admin": "admin"})  # name -> role
    services: dict[str, Service] = field(init=False)
    commands: dict[tuple[str, ...], Command] = field(init=False)

    def __post_init__(self) -> None:
        """Fill in services and commands of the release, and take a place in the cluster."""
        from simulator import database_commands, pki_commands, service_commands, system_commands

        kinds = service_kinds(sip_media=self.release >= Release(3, 0))
        self.services = {name: Service.of(kind) for name, kind in kinds.items() if available((name,), self.release)}
        tables = (
            pki_commands.COMMANDS,
            database_commands.COMMANDS,
            system_commands.COMMANDS,
            service_commands.commands(self.services),
        )
        self.commands = {c.words: c for table in tables for c in table if available(c.words, self.release)}
        self.database_cluster.appliances[self.address] = self

    def say(self, key: str, /, **values: object) -> str:
        """Return the sentence *key* of the text table."""
        return say(key, self.texts, **values)

    def now(self) -> datetime:
        """Return the time by the appliance's own clock, in UTC."""
        skew = self.faults.first(FaultKind.CLOCK_SKEW, self.name, "date")
        return datetime.now(UTC) + timedelta(seconds=0 if skew is None else skew.seconds or 0)

    # files

    def write(self, name: str, data: bytes) -> None:
        """Store a file; a new name goes to the end of `pki list`."""
        self.files[name] = File(data=data, modified=self.now())

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises: CommandFailed: there is no such file."""
        if name not in self.files:
            raise CommandFailed(self.say("shell.file-missing", file=name))
        return self.files[name].data

    # services

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint *name*, such as "webbridge3.c2w" or "database". Raises: KeyError."""
        if name == "database":
            return self.database.endpoint
        return self.services[name.split(".", maxsplit=1)[0]].endpoints[name]

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints of all services."""
        return [endpoint for service in self.services.values() for endpoint in service.endpoints.values()]

    # the command line

    async def execute(self, line: str, console: Console) -> Outcome:
        """Carry out one line as typed and return how it ended; all output goes to *console*."""
        try:
            words = split_words(line)
        except ValueError:
            console.write(self.say("shell.quote"))
            return Outcome.FAILURE
        command, arguments = self.find(words)
        if command is None or (arguments and command.most == 0):
            console.write(self.say("shell.unknown", line=line))
            return Outcome.UNKNOWN_COMMAND
        self.note(console, self.masked(line))
        await asyncio.sleep(self._latency(line))
        if len(arguments) < command.least or (command.most is not None and len(arguments) > command.most):
            console.write(self.say("shell.usage", usage=" ".join((*command.words, command.usage)).strip()))
            return Outcome.FAILURE
        try:
            await command.run(self, console, arguments)
        except CommandFailed as failed:
            console.write(str(failed))
            return Outcome.FAILURE
        return Outcome.OK

    def find(self, words: Sequence[str]) -> tuple[Command | None, list[str]]:
        """Return the command whose words are the longest beginning of *words*, and the arguments after them."""
        for length in range(len(words), 0, -1):
            command = self.commands.get(tuple(words[:length]))
            if command is not None:
                return command, list(words[length:])
        return None, []

    def is_endless(self, line: str) -> bool:
        """Tell whether *line* is a command that goes on until it is ended."""
        command, _ = self.find(line.split())
        return command is not None and command.endless

    def masked(self, line: str) -> str:
        """Return *line* with secret arguments replaced by `****`."""
        try:
            words = split_words(line)
        except ValueError:
            return line.split(maxsplit=1)[0] + " ****"
        command, arguments = self.find(words)
        if command is None or not command.secret_arguments:
            return line
        shown = ["****" if n in command.secret_arguments else argument for n, argument in enumerate(arguments)]
        return " ".join((*command.words, *shown))

    def note(self, console: Console, line: str) -> None:
        """Write the syslog line that the product writes for every command (S8)."""
        entry = self.say(
            "syslog", utc=self.now(), hostname=self.hostname, user=console.user, peer=console.peer, line=line
        )
        self.journal.append(entry)
        del self.journal[:-2000]

    def _latency(self, line: str) -> float:
        """Return the seconds that *line* takes: those of the longest pattern that fits it."""
        fitting = [pattern for pattern in self.latency if fnmatch.fnmatchcase(line, pattern + "*")]
        return self.latency[max(fitting, key=len)] if fitting else 0.0


def split_words(line: str) -> list[str]:
    """Return the words of *line*; double quotes group words: OU:"Cisco Support". Raises: ValueError: one is open."""
    words: list[str] = []
    current: str | None = None
    quoted = False
    for letter in line:
        if letter == '"':
            quoted = not quoted
            current = current or ""
        elif letter.isspace() and not quoted:
            if current is not None:
                words.append(current)
            current = None
        else:
            current = (current or "") + letter
    if quoted:
        raise ValueError(line)
    return words if current is None else [*words, current]
