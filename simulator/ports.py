"""A listening TCP port that loses no client: used for SSH and for TLS alike.

asyncio's own server leaks the socket of a client that comes at the moment when the port is closed, and appliances close
ports all the time (disable, reboot, unreachable).
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress


class Port:
    """Listens on an address from construction until `close`; each client is given to *serve*, in a task of its own."""

    def __init__(
        self, address: str, number: int, serve: Callable[[socket.socket], Coroutine[object, object, None]]
    ) -> None:
        """Begin to listen. Raises: OSError: the port is taken."""
        self.number = number
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listening.bind((address, number))
            self._listening.listen(100)
            self._listening.setblocking(False)
        except OSError:
            self._listening.close()
            raise
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            client, _ = self._listening.accept()
            client.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._guarded(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: client.close())  # whoever took it over holds a duplicate

    async def _guarded(self, client: socket.socket) -> None:
        await self._serve(client.dup())

    def close(self) -> None:
        """Stop listening; clients that are being served stay."""
        with suppress(ValueError):
            asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()

    async def finish(self) -> None:
        """Stop listening and end what is being done for clients."""
        self.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
