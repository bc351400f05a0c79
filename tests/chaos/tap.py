"""A tap on the broker: every message that was sent, to be sent again, at once or later (MONITOR of Redis)."""

from __future__ import annotations

import ast
import contextlib
import re
import socket
import threading
from collections import deque
from pathlib import Path
from typing import Self

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"')
_KEPT = 400


class Tap:
    """Listens to the broker at *listen* on a thread of its own; connects again when the broker was away."""

    def __init__(self, listen: Path, queues: tuple[str, ...]) -> None:
        self._listen = listen
        self._queues = queues
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self._known: set[bytes] = set()
        self.messages: deque[tuple[str, bytes]] = deque(maxlen=_KEPT)
        self.doubling = False
        """While it is true, each new message is sent a second time as soon as it is seen."""
        self.doubled = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(0.5)
                connection.connect(str(self._listen))
                connection.sendall(b"MONITOR\r\n")
                self._read(connection)
            self._stopping.wait(0.1)

    def _read(self, connection: socket.socket) -> None:
        pending = b""
        while not self._stopping.is_set():
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            *lines, pending = (pending + data).split(b"\r\n")
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        if b'"LPUSH"' not in line:
            return
        words = [ast.literal_eval(f"b{word}") for word in _WORD.findall(line.decode("latin-1"))]
        if len(words) == 3 and words[1].decode("latin-1").startswith(self._queues) and words[2] not in self._known:
            queue, message = words[1].decode("latin-1"), words[2]
            self._known.add(message)
            self.messages.append((queue, message))
            if self.doubling:
                self._double(queue, message)

    def _double(self, queue: str, message: bytes) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.5)
            connection.connect(str(self._listen))
            parts = (b"LPUSH", queue.encode("latin-1"), message)
            said = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*3\r\n" + said)
            connection.recv(100)
            self.doubled += 1
