"""The connections of a worker process: one per node, kept warm between steps, closed when idle for a while.

How a step gets a session:

    async with connections.session(node, run=run_id, allowed=step.lines) as session:
        listed = await session.ask(PkiList())
        verdict = await session.change(step.lines[0])

or, from a thread of Celery's pool, `with loop.entered(connections.session(…)) as session: loop.call(session.ask(…))`.

The first login with each credential goes alone; the others start when it has succeeded. A refused credential rests: the
circuit (kept in SQL, so for all processes) is told, and nobody tries it again until a person has corrected it
(DESIGN.md section 6, faults.md F28). What a login is, is in `login`; what a session may do, in `session`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import asyncssh

from workers.credentials import Credential, Credentials
from workers.files import Files
from workers.login import NodeAddress, Timings, dial, log_in, scan_host_key
from workers.session import NodeSession
from workers.shell import Shell
from workers.transcript import Transcript, Transcripts
from workflows.errors import CredentialResting, HostKeyUnknown, LoginRefused
from workflows.plan import Line

__all__ = ["Circuit", "Connections", "MemoryCircuit", "MemoryPins", "Pins", "Timings", "scan_host_key"]

# A server gives a login a minute or so from the moment it is dialled. Hundreds of handshakes at once, on a busy
# machine, would all be late together; so many at a time are quick one by one, and who waited long dials again.
_HANDSHAKES = 50
_STALE_S = 3.0
# How often a process looks whether another one has tried the credential, and how long a success counts: passwords are
# changed between runs, and then one attempt must be all there is.
_LOOK_S = 0.1
_ACCEPTED_FOR_S = 60.0


class Pins(Protocol):
    """Where host keys are pinned (the journal); may block, it is asked from a thread."""

    def host_key(self, address: str, port: int) -> str | None:
        """Return the key pinned for *address*:*port*, "ssh-ed25519 AAAA…", or None."""


class Circuit(Protocol):
    """Which credentials rest (the journal); may block, it is asked from a thread."""

    def refused(self, credential: str, node: str) -> None:
        """Note that *node* refused *credential*; it rests from now on."""

    def resting(self, credential: str) -> str | None:
        """Return why *credential* rests ("cms1 refused it"), None when it does not rest."""

    def take_turn(self, credential: str) -> bool:
        """Return whether this process may now try *credential* for the first time, and no other one."""

    def give_turn(self, credential: str) -> None:
        """Let other processes try *credential*."""


@dataclass(slots=True)
class MemoryPins:
    """Pins of one process (tests, bench)."""

    keys: dict[tuple[str, int], str] = field(default_factory=dict)

    def host_key(self, address: str, port: int) -> str | None:
        """Return the key pinned for *address*:*port*."""
        return self.keys.get((address, port))


@dataclass(slots=True)
class MemoryCircuit:
    """A circuit of one process (tests, bench)."""

    rests: dict[str, str] = field(default_factory=dict)

    def refused(self, credential: str, node: str) -> None:
        """Note that *node* refused *credential*."""
        self.rests.setdefault(credential, f"{node} refused it")

    def resting(self, credential: str) -> str | None:
        """Return why *credential* rests."""
        return self.rests.get(credential)

    def take_turn(self, credential: str) -> bool:  # noqa: ARG002 - there is no other process
        """Return True: there is one process only."""
        return True

    def give_turn(self, credential: str) -> None:
        """Do nothing: there is one process only."""


class Link:
    """One node's connection and the lock that makes its users take turns; it connects when it is used."""

    def __init__(self, connections: Connections, node: NodeAddress) -> None:
        self.node = node
        self.lock = asyncio.Lock()
        self.users = 0
        self.idle: asyncio.TimerHandle | None = None
        self.hostname = ""
        """The host name in the prompt, once a shell has been open."""
        self._connections = connections
        self._connection: asyncssh.SSHClientConnection | None = None
        self._shell: Shell | None = None
        self._files: Files | None = None

    @property
    def timings(self) -> Timings:
        """How long to wait for what."""
        return self._connections.timings

    async def shell(self, transcript: Transcript) -> Shell:
        """Return a shell at its prompt; the caller holds the lock. Raises: as `Connections.log_in` and `Shell.open`."""
        connection = await self._connected(transcript)
        if self._shell is None:
            try:
                self._shell = await Shell.open(self.node.name, connection, self.timings, transcript)
            except LoginRefused:
                self.drop()
                await self._connections.rest(self.node)
                raise
            except BaseException:
                self.drop()
                raise
            self.hostname = self._shell.prompt.removesuffix(">")
        return self._shell

    async def files(self, transcript: Transcript) -> Files:
        """Return the files; the caller holds the lock. Raises: as `shell`, and OutcomeUnknown, CommandRejected."""
        connection = await self._connected(transcript)
        if self._files is None:
            self._files = await Files.open(self.node.name, connection, self.timings)
        return self._files

    async def _connected(self, transcript: Transcript) -> asyncssh.SSHClientConnection:
        self.drop_when_unusable()
        if self._connection is None:
            self._connection = await self._connections.log_in(self.node)
            transcript.note(f"logged in at {self.node.address}:{self.node.port}")
        return self._connection

    def drop_when_unusable(self) -> None:
        """Forget a connection that was cut, or on which something late could be taken for the next answer."""
        if self._connection is not None and (
            self._connection.is_closed()
            or (self._shell is not None and not self._shell.usable)
            or (self._files is not None and not self._files.usable)
        ):
            self.drop()

    def drop(self) -> None:
        """Close the connection at once; the next use connects again."""
        if self._connection is not None:
            self._connection.abort()
        self._connection = self._shell = self._files = None

    async def close(self) -> None:
        """Say goodbye and close."""
        connection, self._connection, self._shell, self._files = self._connection, None, None, None
        if connection is not None:
            connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.wait_closed()


@dataclass(slots=True)
class _Turn:
    """Whether a credential has been accepted once, and who is trying it for the first time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    accepted_until: float = 0.0  # by the clock of the loop


class Connections:
    """All connections of this process; used on one event loop only (`loop.LoopThread`)."""

    def __init__(
        self,
        credentials: Credentials,
        pins: Pins,
        transcripts: Transcripts,
        circuit: Circuit,
        timings: Timings | None = None,
    ) -> None:
        self.timings = timings or Timings()
        self._credentials = credentials
        self._pins = pins
        self._transcripts = transcripts
        self._circuit = circuit
        self._links: dict[tuple[str, str, int, str], Link] = {}
        self._turns: dict[str, _Turn] = {}
        self._handshakes = asyncio.Semaphore(_HANDSHAKES)

    @contextlib.asynccontextmanager
    async def session(self, node: NodeAddress, *, run: str, allowed: Iterable[Line] = ()) -> AsyncIterator[NodeSession]:
        """Give a session on *node* that may make the changes and guarded transfers in *allowed*, and any reading.

        It connects at the first use. Several sessions on one node take turns, command by command; the lease keeps other
        runs away. Raises nothing itself.
        """
        link = self._link(node)
        transcript = self._transcripts.open(run, node.name)
        link.users += 1
        if link.idle is not None:
            link.idle.cancel()
            link.idle = None
        try:
            yield NodeSession(link, transcript, tuple(allowed))
        finally:
            transcript.close()
            link.users -= 1
            if not link.users:
                loop = asyncio.get_running_loop()
                link.idle = loop.call_later(self.timings.idle_s, self._close_idle, link)

    async def close(self) -> None:
        """Close all connections."""
        links, self._links = tuple(self._links.values()), {}
        for link in links:
            if link.idle is not None:
                link.idle.cancel()
        await asyncio.gather(*(link.close() for link in links))

    async def log_in(self, node: NodeAddress) -> asyncssh.SSHClientConnection:
        """Return a new connection to *node*, logged in.

        Raises: HostKeyUnknown, HostKeyChanged: before any password went out. CredentialMissing, CredentialResting.
        LoginRefused: the credential rests from now on. Unreachable.
        """
        pin, credential = await asyncio.to_thread(self._look_up, node)
        turn = self._turns.setdefault(credential.name, _Turn())
        loop = asyncio.get_running_loop()
        # Dialled before the turn comes: a server that does not answer holds nobody up.
        dialled, at = await dial(node, self.timings), loop.time()
        try:
            async with contextlib.AsyncExitStack() as stack:
                if turn.accepted_until <= loop.time():
                    await self._take_turn(stack, node, credential.name, turn)
                await stack.enter_async_context(self._handshakes)
                if loop.time() - at > _STALE_S:
                    dialled.close()
                    dialled = await dial(node, self.timings)
                try:
                    connection = await log_in(node, pin, credential, dialled, self.timings)
                except LoginRefused:
                    await self.rest(node)  # before the next one's turn comes
                    raise
                turn.accepted_until = loop.time() + _ACCEPTED_FOR_S
                return connection
        except BaseException:
            dialled.close()
            raise

    async def _take_turn(
        self, stack: contextlib.AsyncExitStack, node: NodeAddress, credential: str, turn: _Turn
    ) -> None:
        """Wait until nobody else, here or in another process, tries *credential*; *stack* gives the turn back.

        Who waited here while another was let in goes on at once, beside all others. Raises: CredentialResting.
        """
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(turn.lock)
            if turn.accepted_until > asyncio.get_running_loop().time():
                return
            # No asyncio.Event crosses over from another process, so the turn is asked for again and again.
            while not await asyncio.to_thread(self._circuit.take_turn, credential):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
            first.push_async_callback(asyncio.to_thread, self._circuit.give_turn, credential)
            await asyncio.to_thread(self._check_resting, node, credential)
            await stack.enter_async_context(first.pop_all())

    async def rest(self, node: NodeAddress) -> None:
        """Let the credential of *node* rest, because *node* refused it."""
        self._turns.setdefault(node.credential, _Turn()).accepted_until = 0.0
        await asyncio.to_thread(self._circuit.refused, node.credential, node.name)

    def _look_up(self, node: NodeAddress) -> tuple[str, Credential]:
        pin = self._pins.host_key(node.address, node.port)
        if pin is None:
            raise HostKeyUnknown(node=node.name, remedy=f"Compare and store it with `certbridge trust {node.name}`.")
        self._check_resting(node, node.credential)
        return pin, self._credentials.resolve(node.credential)

    def _check_resting(self, node: NodeAddress, credential: str) -> None:
        why = self._circuit.resting(credential)
        if why is not None:
            raise CredentialResting(
                f"credential {credential!r} rests ({why}); it was not tried",
                node=node.name,
                credential=credential,
                remedy=f"Correct the credential, then `certbridge doctor --credential {credential}` wakes it.",
            )

    def _link(self, node: NodeAddress) -> Link:
        key = (node.name, node.address, node.port, node.credential)
        return self._links.setdefault(key, Link(self, node))

    def _close_idle(self, link: Link) -> None:
        if not link.users:
            link.drop()
