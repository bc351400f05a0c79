"""A TCP proxy between workers and servers, which spoils connections when it is told to: cut, swallowed, late, in drops.

One for a whole fleet, on an event loop and thread of its own; every method may be called from any thread. Each server
gets a port beside its own on the same address, so addresses that are typed on servers (`join ADDRESS`) stay true.

    with Proxy({("127.1.2.3", 2200): ("127.1.2.3", 2222)}) as proxy:
        proxy.treat("127.1.2.3", Treatment(delay_s=0.3, piece=1))
        proxy.cut("127.1.2.3")

`tc netem` is missing in many kernels (faults.md finding 9); this needs no right and no kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self, TypeVar

T = TypeVar("T")
Way = Literal["to", "from", "both"]
_CHUNK = 65536
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: what is not sent is thrown away, the peer gets a RST


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What happens to the bytes of a server's connections, from now on and to new ones, in one direction or both.

    *delay_s*: each piece so much later. *piece*: so many bytes at a time (0: as they come). *cut_after*: the connection
    is reset after so many bytes. *swallow_after*: after so many bytes nothing arrives any more, and nobody is told.
    """

    way: Way = "both"
    delay_s: float = 0.0
    piece: int = 0
    cut_after: int | None = None
    swallow_after: int | None = None

    def is_for(self, way: Way) -> bool:
        """Return whether bytes that go *way* are meant."""
        return self.way in {"both", way}


@dataclass(slots=True, eq=False)
class _Link:
    """One connection through the proxy; `passed` counts bytes each way since the treatment began."""

    address: str
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    treatment: Treatment | None = None
    passed: dict[Way, int] = field(default_factory=dict)
    swallowed: bool = False

    def close(self, *, reset: bool) -> None:
        """Close both sides; *reset*: at once, by a RST."""
        for writer in (self.client, self.server):
            if reset:
                with contextlib.suppress(OSError):
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                writer.transport.abort()
            else:
                writer.close()  # what was written before still leaves


class Proxy:
    """The proxy of a fleet: *routes* maps (address, port) where it listens to where it leads."""

    def __init__(self, routes: Mapping[tuple[str, int], tuple[str, int]]) -> None:
        self._routes = dict(routes)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._treatments: dict[str, Treatment] = {}
        self.connections = 0
        self.spoiled = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # ── what it is told ──────────────────────────────────────────────────────────────────────────────────────────────
    def cut(self, address: str = "", *, reset: bool = True) -> int:
        """Cut the connections to *address* (to all without) and return how many there were."""
        return self._do(lambda: self._cut(address, reset=reset))

    def treat(self, address: str, treatment: Treatment) -> None:
        """Spoil the connections to *address* as *treatment* says, those that are open included."""
        self._do(lambda: self._treat(address, treatment))

    def heal(self, address: str = "") -> None:
        """Let *address* (all without) alone again. A connection that was swallowed stays lost."""
        self._do(lambda: self._heal(address))

    @property
    def open_links(self) -> int:
        """How many connections are open now."""
        return self._do(lambda: len(self._links))

    # ── on its loop ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _do(self, function: Callable[[], T]) -> T:
        async def work() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    async def _open(self) -> None:
        for (address, port), target in self._routes.items():

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int] = target
            ) -> None:
                await self._serve(reader, writer, target)

            self._servers.append(await asyncio.start_server(serve, address, port, backlog=100))

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._cut("", reset=False)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _cut(self, address: str, *, reset: bool) -> int:
        doomed = [link for link in self._links if address in {"", link.address}]
        for link in doomed:
            link.close(reset=reset)
        self.spoiled += len(doomed)
        return len(doomed)

    def _treat(self, address: str, treatment: Treatment) -> None:
        self._treatments[address] = treatment
        for link in self._links:
            if link.address == address:
                link.treatment, link.passed = treatment, {}

    def _heal(self, address: str) -> None:
        for name in [name for name in self._treatments if address in {"", name}]:
            del self._treatments[name]
        for link in self._links:
            if address in {"", link.address}:
                link.treatment = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection(*target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(address=target[0], client=writer, server=back, treatment=self._treatments.get(target[0]))
        self.connections += 1
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, back, "to"))
                group.create_task(self._pump(link, there, writer, "from"))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(link)
            link.close(reset=False)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        while data := await reader.read(_CHUNK):
            while data:
                treatment = link.treatment
                if treatment is None or not treatment.is_for(way):
                    piece, data = data, b""
                else:
                    size = treatment.piece or len(data)
                    piece, data = data[:size], data[size:]
                    if treatment.delay_s:
                        await asyncio.sleep(treatment.delay_s)
                    piece = self._spoil(link, treatment, way, piece)
                if not link.swallowed and piece:
                    writer.write(piece)
                    await writer.drain()
        # One side has said goodbye: nobody here half-closes, so the other is closed, too.
        raise ConnectionResetError

    def _spoil(self, link: _Link, treatment: Treatment, way: Way, piece: bytes) -> bytes:
        """Return what of *piece* still passes. Raises: ConnectionResetError: the connection was cut after it."""
        before = link.passed.get(way, 0)
        link.passed[way] = before + len(piece)
        if treatment.swallow_after is not None and before + len(piece) > treatment.swallow_after and not link.swallowed:
            link.swallowed = True
            self.spoiled += 1
        if treatment.cut_after is not None and before + len(piece) > treatment.cut_after:
            self.spoiled += 1
            writer = link.server if way == "to" else link.client
            writer.write(piece[: max(0, treatment.cut_after - before)])
            link.close(reset=False)
            raise ConnectionResetError
        return b"" if link.swallowed else piece
