"""Transcripts: what was said to a server and what it answered, secrets hidden, one JSON object a line.

    STATE/transcripts/<run>/<node>.jsonl
    {"at": "…Z", "session": "3f2a…", "is": "sent" | "received" | "transfer" | "note", "text": "pki list"}

Passwords never come here (asyncssh sends them), file contents neither: a transfer is one line with name, size and
SHA-256. Everything else goes through the `Redactor`. Each session hashes the lines it wrote, for the journal; `check`
proves them.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workers.redaction import RedactedStream, Redactor
from workflows.errors import RecordsAway


def _now() -> datetime:
    return datetime.now(UTC)


class Transcripts:
    """The folder of all transcripts; `open` starts a session's part in the file of its run and node."""

    def __init__(self, directory: Path, redactor: Redactor, *, now: Callable[[], datetime] = _now) -> None:
        self._directory = directory
        self.redactor = redactor
        self._now = now

    def path(self, run: str, node: str) -> Path:
        """Return the file for *run* and *node*; characters that do not belong into a file name become `_`."""
        return self._directory / _file_name(run) / f"{_file_name(node)}.jsonl"

    def open(self, run: str, node: str) -> Transcript:
        """Return a new session's transcript; the file is made (mode 0600) with its first line."""
        return Transcript(self.path(run, node), self.redactor, now=self._now)


class Transcript:
    """What one session wrote; several sessions, also of several processes, may share the file."""

    def __init__(self, path: Path, redactor: Redactor, *, now: Callable[[], datetime] = _now) -> None:
        self.path = path
        self.session = secrets.token_hex(8)
        self.redactor = redactor
        self._now = now
        self._hash = hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._stream = RedactedStream(redactor)
        self._received = ""
        self._file: int | None = None
        self._torn = False

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all lines of this session so far, line ends included."""
        return self._hash.hexdigest()

    def sent(self, data: bytes) -> None:
        """Note what we wrote to the shell."""
        self.flush()
        self._write("sent", self.redactor.redact(data.decode(errors="backslashreplace")))

    def received(self, data: bytes) -> None:
        """Note what the server wrote; pieces may end anywhere, even inside a character or a secret."""
        self._received += self._stream.feed(self._decoder.decode(data))

    def transfer(self, what: str, name: str, *, size: int | None = None, sha256: str = "", target: str = "") -> None:
        """Note a transfer: "upload", "read back", "fetch", "rename" or "delete". The content is never written."""
        self.flush()
        data = {"name": name, "target": target, "size": size, "sha256": sha256}
        self._write("transfer", what, **{key: value for key, value in data.items() if value not in {"", None}})

    def note(self, text: str) -> None:
        """Note something neither side said: "connection lost", "gave up after 20 s"."""
        self.flush()
        self._write("note", self.redactor.redact(text))

    def flush(self) -> None:
        """Write what was received until now as one line; called at the end of each exchange."""
        text = self._received + self._stream.feed(self._decoder.decode(b"", final=True)) + self._stream.flush()
        self._received = ""
        if text:
            self._write("received", text)

    def close(self) -> None:
        """Write the rest and close the file; a later line opens it again."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, kind: str, text: str, **data: Any) -> None:
        """Write one line. Raises: RecordsAway: it cannot be, so what it tells of must not be done."""
        try:
            self._append(kind, text, **data)
        except OSError as error:
            raise RecordsAway(f"The transcript {self.path} cannot be written ({error.strerror}).") from error

    def _append(self, kind: str, text: str, **data: Any) -> None:
        at = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = {"at": at, "session": self.session, "is": kind, "text": text, **data}
        line = json.dumps(entry, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One write per line with O_APPEND: lines of several processes do not mix.
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # A full disk may take the beginning of a line: the next one then begins on a line of its own.
        before = b"\n" if self._torn else b""
        written = os.write(self._file, before + line)
        self._torn = written < len(before + line) and (self._torn or written > 0)
        if written < len(before + line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._hash.update(line)


def check(path: Path, session: str, digest: str) -> bool:
    """Return whether the lines of *session* in *path* are the ones whose *digest* the journal holds."""
    found = hashlib.sha256()
    with path.open("rb") as lines:
        for line in lines:
            with suppress(json.JSONDecodeError):  # the torn beginning of a line, from when the disk was full
                if json.loads(line)["session"] == session:
                    found.update(line)
    return found.hexdigest() == digest


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "_"
