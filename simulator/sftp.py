"""SFTP to an appliance: one flat directory held in memory (MMP reference 6), with the faults of transfers.

`log`, `audit`, `live.json` and `boot.json` are there to be read, as on the product; they are made when they are looked
at.
"""

import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncssh
from asyncssh import SFTPAttrs, SFTPName

from simulator.appliance import Appliance
from simulator.commandlog import CommandLog, Record
from simulator.faults import Fault, FaultKind

_SPECIAL = ("log", "audit", "live.json", "boot.json")
_KEY_MARK = b"PRIVATE KEY"


@dataclass(slots=True, kw_only=True)
class _OpenFile:
    name: str
    begun: Record
    writing: bool
    data: bytes = field(repr=False)  # what a reader is given; a writer's bytes go straight to the appliance
    faults: list[Fault] = field(default_factory=list)
    outcome: str = "ok"


class FlatSFTP(asyncssh.SFTPServer):
    """The SFTP subsystem of one appliance, for one connection."""

    def __init__(
        self, channel: "asyncssh.SSHServerChannel[bytes]", appliance: Appliance, log: CommandLog, session: str
    ) -> None:
        super().__init__(channel)
        self._appliance = appliance
        self._log = log
        self._session = session

    # names and attributes

    def _name(self, path: bytes) -> str:
        name = path.decode(errors="replace").strip("/")
        return "" if name == "." else name.removeprefix("./")

    def _content(self, name: str) -> bytes:
        if name in self._appliance.files:
            return self._appliance.files[name].data
        if name in _SPECIAL:
            return "".join(self._appliance.journal).encode() if name in {"log", "audit"} else b"{}\n"
        raise asyncssh.SFTPNoSuchFile(f"{name}: no such file")

    def _attributes(self, name: str) -> SFTPAttrs:
        if not name:
            return SFTPAttrs(permissions=stat.S_IFDIR | 0o755, nlink=1, uid=0, gid=0, size=0)
        size = len(self._content(name))
        stored = self._appliance.files.get(name)
        modified = int((stored.modified if stored else datetime.now(UTC)).timestamp())
        permissions = stat.S_IFREG | 0o644
        return SFTPAttrs(permissions=permissions, nlink=1, uid=0, gid=0, size=size, mtime=modified, atime=modified)

    def stat(self, path: bytes) -> SFTPAttrs:
        """Return the attributes of a file or of the directory."""
        return self._attributes(self._name(path))

    def lstat(self, path: bytes) -> SFTPAttrs:
        """Return the same as `stat`: there are no links."""
        return self.stat(path)

    def fstat(self, file_obj: object) -> SFTPAttrs:
        """Return the attributes of an open file."""
        return self._attributes(_open(file_obj).name)

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:  # noqa: ARG002 - asyncssh's signature
        """Accept new attributes without keeping them."""
        self._attributes(self._name(path))

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Accept new attributes without keeping them."""

    def realpath(self, path: bytes) -> bytes:
        """Return the path from the root."""
        return b"/" + self._name(path).encode()

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """Give the files of the directory."""
        if self._name(path):
            raise asyncssh.SFTPNoSuchFile("no such directory")
        for name in (".", ".."):
            yield SFTPName(name.encode(), attrs=self._attributes(""))
        for name in (*self._appliance.files, *_SPECIAL):
            yield SFTPName(name.encode(), attrs=self._attributes(name))

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:  # noqa: ARG002 - asyncssh's signature
        """Refuse: the root is flat."""
        raise asyncssh.SFTPPermissionDenied("directories are not supported")

    # transfers

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:  # noqa: ARG002 - asyncssh's signature
        """Open a file; a file opened for writing is emptied at once, so a cut transfer leaves a piece."""
        name = self._name(path)
        writing = bool(pflags & asyncssh.FXF_WRITE)
        kind = "upload" if writing else "download"
        event = f"{kind} {name}"
        faults = self._appliance.faults
        begun = self._log.begin(node=self._appliance.name, session=self._session, kind=kind, text=name)
        if not writing:
            return self._open_reading(name, event, begun)
        if not name or "/" in name or name in _SPECIAL:
            self._log.end(begun, outcome="failure")
            raise asyncssh.SFTPPermissionDenied(f"{name}: not allowed")
        kinds = (FaultKind.PARTIAL_UPLOAD, FaultKind.CORRUPT_UPLOAD, FaultKind.DISK_FULL)
        happening = faults.use(kinds, self._appliance.name, event)
        if pflags & asyncssh.FXF_TRUNC or name not in self._appliance.files:
            self._appliance.write(name, b"")
        return _OpenFile(name=name, begun=begun, writing=True, data=b"", faults=happening)

    def _open_reading(self, name: str, event: str, begun: Record) -> object:
        try:
            data = self._content(name)
        except asyncssh.SFTPNoSuchFile:
            self._log.end(begun, outcome="failure")
            raise
        if _KEY_MARK in data:
            refused = self._appliance.faults.use({FaultKind.REFUSE_KEY_DOWNLOAD}, self._appliance.name, event)
            if refused:
                self._log.end(begun, outcome="failure", faults=(refused[0].kind,))
                raise asyncssh.SFTPPermissionDenied(f"{name}: permission denied")
        return _OpenFile(name=name, begun=begun, writing=False, data=data)

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Return a piece of the file as it was when it was opened."""
        return _open(file_obj).data[offset : offset + size]

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write a piece of the file, or as much of it as the faults allow."""
        file = _open(file_obj)
        whole = self._appliance.read(file.name)
        for fault in file.faults:
            limit = {FaultKind.PARTIAL_UPLOAD: 64, FaultKind.DISK_FULL: 0}.get(fault.kind)
            if limit is None:
                continue
            limit = limit if fault.count is None else fault.count
            if offset + len(data) > limit:
                self._appliance.write(file.name, _spliced(whole, offset, data)[: max(limit, offset)])
                file.outcome = fault.kind
                if fault.kind is FaultKind.DISK_FULL:
                    raise asyncssh.SFTPFailure("no space left on device")
                self.connection.abort()
                return 0
        self._appliance.write(file.name, _spliced(whole, offset, data))
        return len(data)

    def close(self, file_obj: object) -> None:
        """End a transfer and write it to the log."""
        file = _open(file_obj)
        data = (
            self._appliance.files[file.name].data if file.writing and file.name in self._appliance.files else file.data
        )
        if any(fault.kind is FaultKind.CORRUPT_UPLOAD for fault in file.faults) and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            self._appliance.write(file.name, data)
            file.outcome = FaultKind.CORRUPT_UPLOAD
        self._log.end(file.begun, outcome=file.outcome, faults=tuple(f.kind for f in file.faults), size=len(data))

    # other changes

    def remove(self, path: bytes) -> None:
        """Delete a file."""
        name = self._name(path)
        begun = self._log.begin(node=self._appliance.name, session=self._session, kind="remove", text=name)
        if self._appliance.files.pop(name, None) is None:
            self._log.end(begun, outcome="failure")
            raise asyncssh.SFTPNoSuchFile(f"{name}: no such file")
        self._log.end(begun, outcome="ok")

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file; the new name must be free."""
        self._rename(oldpath, newpath, overwrite=False)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file over another one."""
        self._rename(oldpath, newpath, overwrite=True)

    def _rename(self, oldpath: bytes, newpath: bytes, *, overwrite: bool) -> None:
        old, new = self._name(oldpath), self._name(newpath)
        text = f"{old} {new}"
        node = self._appliance.name
        begun = self._log.begin(node=node, session=self._session, kind="rename", text=text)
        refused = self._appliance.faults.use({FaultKind.RENAME_REFUSED}, node, f"rename {text}")
        taken = new in self._appliance.files and not overwrite
        if refused or taken or old not in self._appliance.files or not new or "/" in new:
            self._log.end(begun, outcome="failure", faults=tuple(fault.kind for fault in refused))
            raise asyncssh.SFTPFailure(f"cannot rename {old}")
        self._appliance.files[new] = self._appliance.files.pop(old)
        self._log.end(begun, outcome="ok")


def _open(file_obj: object) -> _OpenFile:
    if not isinstance(file_obj, _OpenFile):
        raise asyncssh.SFTPInvalidHandle("not an open file")
    return file_obj


def _spliced(whole: bytes, offset: int, data: bytes) -> bytes:
    return whole[:offset].ljust(offset, b"\0") + data + whole[offset + len(data) :]
