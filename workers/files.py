"""The files of a server over SFTP: list, fetch, upload with read-back, rename, delete.

Private keys and backups are guarded: they are not fetched by name, and one that comes under another name is dropped.
A transfer cut half-way leaves a piece on the server (faults.md, finding 5), so an upload counts only when what is read
back has the same digest. Which transfers the plan allows is the session's business. Source: mmp-reference section 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import asyncssh
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from workers.login import Timings
from workers.transcript import Transcript
from workflows.errors import CommandRejected, KeyGuarded, OutcomeUnknown

_GUARDED_NAMES = re.compile(r"(?i)\.(key|bak|p12|pfx)$")
_PEM_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_PKCS12 = re.compile(rb"\x30.{1,5}\x02\x01\x03\x30", re.DOTALL)  # RFC 7292 section 4: PFX ::= SEQUENCE { version 3, …
_BYTES_PER_S = 50_000  # the slowest link we allow for


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on a server; *size* in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What an upload proved; *read_back* is false when the server lets nobody read the file: only its size was seen."""

    name: str
    size: int
    sha256: str
    read_back: bool = True


class Files:
    """The SFTP client of one connection. Errors of the server are CommandRejected, a cut or silence OutcomeUnknown."""

    def __init__(self, node: str, client: asyncssh.SFTPClient, timings: Timings) -> None:
        self._node = node
        self._client = client
        self._timings = timings
        self.usable = True

    @classmethod
    async def open(cls, node: str, connection: asyncssh.SSHClientConnection, timings: Timings) -> Files:
        """Return the files of the server at the other end. Raises: OutcomeUnknown, CommandRejected."""
        with _translated(node, "opening SFTP"):
            async with asyncio.timeout(timings.login_s):
                return cls(node, await connection.start_sftp_client(path_encoding="utf-8"), timings)

    async def listing(self) -> tuple[RemoteFile, ...]:
        """Return the files of the (flat) directory, by name."""
        with self._using("listing the files"):
            async with asyncio.timeout(self._timings.transfer_s):
                found = await self._client.readdir(".")
        files = (
            RemoteFile(name=str(entry.filename), size=entry.attrs.size or 0)
            for entry in found
            if entry.filename not in {".", ".."} and entry.attrs.type != asyncssh.FILEXFER_TYPE_DIRECTORY
        )
        return tuple(sorted(files, key=lambda file: file.name))

    async def fetch(self, name: str, transcript: Transcript, *, guarded: bool = True) -> bytes:
        """Return the content of *name*; *guarded* refuses private keys and backups.

        Raises: KeyGuarded. CommandRejected: `data["missing"]` is true when there is no such file.
        """
        if guarded and _GUARDED_NAMES.search(name):
            raise KeyGuarded(f"{name} holds private keys, and the plan does not fetch it", node=self._node, file=name)
        data = await self._read(name)
        if guarded and holds_private_key(data):
            transcript.note(f"{name} turned out to hold a private key; it was dropped")
            raise KeyGuarded(f"{name} turned out to hold a private key; it was dropped", node=self._node, file=name)
        transcript.transfer("fetch", name, size=len(data), sha256=_digest(data))
        return data

    async def write(self, name: str, data: bytes, transcript: Transcript) -> None:
        """Write *data* to *name*, whatever stood there. Not proved by itself: see `matches`."""
        with self._using(f"uploading {name}"):
            async with asyncio.timeout(self._allow(len(data))), self._client.open(name, "wb") as file:
                await file.write(data)
        transcript.transfer("upload", name, size=len(data), sha256=_digest(data))

    async def matches(self, name: str, data: bytes, transcript: Transcript) -> Uploaded | None:
        """Return what reading *name* back proves, None when it is not *data*."""
        sha256 = _digest(data)
        try:
            found = await self._read(name)
        except CommandRejected as refused:
            if not refused.data.get("denied"):
                raise
            transcript.note(f"{name} cannot be read back ({refused.message}); its size is compared")
            with self._using(f"looking at {name}"):
                async with asyncio.timeout(self._timings.transfer_s):
                    size = (await self._client.stat(name)).size
            return Uploaded(name=name, size=len(data), sha256=sha256, read_back=False) if size == len(data) else None
        transcript.transfer("read back", name, size=len(found), sha256=_digest(found))
        return Uploaded(name=name, size=len(data), sha256=sha256) if found == data else None

    async def rename(self, old: str, new: str, transcript: Transcript) -> None:
        """Rename *old*; *new* must be free."""
        with self._using(f"renaming {old}"):
            async with asyncio.timeout(self._timings.transfer_s):
                await self._client.rename(old, new)
        transcript.transfer("rename", old, target=new)

    async def delete(self, name: str, transcript: Transcript) -> None:
        """Delete *name*."""
        with self._using(f"deleting {name}"):
            async with asyncio.timeout(self._timings.transfer_s):
                await self._client.remove(name)
        transcript.transfer("delete", name)

    def close(self) -> None:
        """Close the channel; nothing is waited for."""
        self._client.exit()

    async def _read(self, name: str) -> bytes:
        with self._using(f"fetching {name}"):
            async with asyncio.timeout(self._timings.transfer_s) as limit, self._client.open(name, "rb") as file:
                size = (await file.stat()).size or 0
                limit.reschedule(asyncio.get_running_loop().time() + self._allow(size))
                return await file.read(size) if size else await file.read()

    def _allow(self, size: int) -> float:
        return self._timings.transfer_s + size / _BYTES_PER_S

    @contextlib.contextmanager
    def _using(self, what: str) -> Iterator[None]:
        """Translate errors; after anything but an answer of the server this channel is not used again."""
        usable, self.usable = self.usable, False
        try:
            with _translated(self._node, what):
                yield
        except CommandRejected:
            self.usable = usable
            raise
        self.usable = usable


@contextlib.contextmanager
def _translated(node: str, what: str) -> Iterator[None]:
    try:
        yield
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError, OSError) as error:
        time_is_over = isinstance(error, TimeoutError)
        how = "took too long" if time_is_over else "was cut"
        raise OutcomeUnknown(
            f"{what} {how}; what the server did is not known", node=node, command=what, cut=not time_is_over
        ) from None
    except asyncssh.SFTPError as error:
        raise CommandRejected(
            f"{what} was refused: {error.reason}",
            node=node,
            command=what,
            missing=isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath),
            denied=isinstance(error, asyncssh.SFTPPermissionDenied),
        ) from None
    except asyncssh.Error as error:
        raise OutcomeUnknown(f"{what} failed: {error.reason}", node=node, command=what, cut=True) from None


def holds_private_key(data: bytes) -> bool:
    """Return whether *data* is or contains a private key: PEM of any kind, DER (PKCS#1, SEC 1, PKCS#8), PKCS#12."""
    if _PEM_KEY.search(data) or _PKCS12.match(data):
        return True
    if not data.startswith(b"\x30"):
        return False
    try:
        load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return True  # an encrypted one: it wants a password
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
