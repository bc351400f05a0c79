"""The proxy spoils connections as it is told, and passes everything on otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from proxy import Proxy, Treatment

ADDRESS = "127.9.8.7"


def free_port() -> int:
    """Return a port that is free on ADDRESS."""
    with socket.socket() as one:
        one.bind((ADDRESS, 0))
        return int(one.getsockname()[1])


@pytest.fixture
def echo() -> Iterator[int]:
    """Give the port of a server that says everything back."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, ADDRESS, port), loop).result(10)
    yield port

    async def end() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[tuple[Proxy, int]]:
    """Give a proxy before the server, and the port where it listens."""
    port = free_port()
    with Proxy({(ADDRESS, port): (ADDRESS, echo)}) as running:
        yield running, port


def connected(port: int) -> socket.socket:
    """Return a client."""
    client = socket.create_connection((ADDRESS, port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def received(client: socket.socket, size: int) -> bytes:
    """Return up to *size* bytes: fewer when the connection ends."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while len(data) < size and (more := client.recv(size - len(data))):
            data += more
    return data


def test_bytes_pass_unchanged_when_nothing_is_spoiled(proxy):
    """What goes in comes back."""
    _, port = proxy
    with connected(port) as client:
        client.sendall(b"hello" * 1000)
        assert received(client, 5000) == b"hello" * 1000


def test_connection_is_cut_after_exactly_so_many_bytes(proxy):
    """The server's answer ends in the middle; a new connection counts anew, and is whole once healed."""
    running, port = proxy
    running.treat(ADDRESS, Treatment(way="from", cut_after=7))
    for _ in range(2):
        with connected(port) as client:
            client.sendall(b"0123456789")
            assert received(client, 10) == b"0123456"
    running.heal(ADDRESS)
    with connected(port) as client:
        client.sendall(b"0123456789")
        assert received(client, 10) == b"0123456789"


def test_open_connection_can_be_cut_at_once(proxy):
    """Both sides hear of it, by a RST."""
    running, port = proxy
    with connected(port) as client:
        client.sendall(b"x")
        assert received(client, 1) == b"x"
        assert running.cut(ADDRESS) == 1
        with pytest.raises(ConnectionError):
            client.recv(1)


def test_swallowed_connection_says_nothing_to_anybody(proxy):
    """No byte comes any more and no end either, even after the network is well again."""
    running, port = proxy
    running.treat(ADDRESS, Treatment(swallow_after=3))
    with connected(port) as client:
        client.sendall(b"abcdef")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        running.heal()
        client.sendall(b"g")
        with pytest.raises(TimeoutError):
            client.recv(10)


def test_pieces_come_late_and_one_by_one(proxy):
    """Ten bytes of one byte each, each a little late, take their time and stay in order."""
    running, port = proxy
    running.treat(ADDRESS, Treatment(way="to", piece=1, delay_s=0.02))
    began = time.monotonic()
    with connected(port) as client:
        client.sendall(b"0123456789")
        assert received(client, 10) == b"0123456789"
    assert time.monotonic() - began >= 0.2
