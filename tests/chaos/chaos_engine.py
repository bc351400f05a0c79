"""An engine for the nemesis: PostgreSQL, two `fleet` workers, a `cluster` worker, and a proxy before every server.

It is the engine of the acceptance tests with more that can be killed. What ends is started again as the supervisor
would; what hurts is in the methods, when it hurts is decided elsewhere (`nemesis`).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa
import yaml
from acceptance_engine import Engine, Shape
from cryptography.hazmat.primitives import serialization
from proxy import Proxy

from tests import postgres
from workers.embedded import EmbeddedServer, process_id
from workers.programs import beat_command, worker_command
from workflows.broker import socket_path
from workflows.errors import CertbridgeError
from workflows.journal import Journal, stock, tables

SSH_PORT, PROXY_PORT = 2222, 2200
PROGRAMS = ("fleet-1", "fleet-2", "cluster", "control", "beat")


class ChaosEngine(Engine):
    """A whole engine whose every part can be hurt. *on_postgres* False: the journal is a SQLite file."""

    def __init__(self, shape: Shape, *, on_postgres: bool = True, keys: Path | None = None) -> None:
        self.canaries: dict[str, bytes] = {}
        self._database = ""
        self._server: postgres.Server | None = None
        settings = dict(shape.settings)
        if on_postgres:
            # A server of its own, because it is killed.
            self._server = postgres._start()
            self._database = self._server.create_database()
            word = self.canary("password of the database")
            settings["database_url"] = self._server.url(self._database).replace("postgres@", f"postgres:{word}@", 1)
        if keys is not None:
            shape = replace(shape, key_pool=str(keys))
            for number, line in enumerate(secret_lines(keys)):
                self.canaries[f"key {number} of the servers"] = line
        super().__init__(replace(shape, settings=settings))
        self.proxy: Proxy
        self.addresses: dict[str, str] = {}
        self.ended: dict[str, int] = {}

    def canary(self, name: str) -> str:
        """Return a random word that must be found nowhere."""
        word = secrets.token_urlsafe(18)
        self.canaries[name] = word.encode()
        return word

    def __exit__(self, *error: object) -> None:
        try:
            super().__exit__(*error)
        finally:
            if self._server is not None:
                self._server.stop()

    def _start(self) -> None:
        from workflows.settings import prepare_state

        prepare_state(self.settings)
        self._run("simulator", self._simulator_command())
        listen = socket_path(self.state)
        self._broker = self._stack.enter_context(EmbeddedServer(self.settings.valkey_dir, listen))
        self.redis = redis.Redis(unix_socket_path=str(listen), decode_responses=True)
        self._stack.callback(self.redis.close)
        self.journal = self._stack.enter_context(Journal.open(self.settings.database_url))
        self.wait((self.out / "ready").exists, 120, "the simulator is ready")
        shutil.copyfile(self.out / "credentials.yaml", self.state / "credentials.yaml")
        (self.state / "credentials.yaml").chmod(0o600)
        self.canaries["password of the servers"] = self._password().encode()
        for number, line in enumerate(secret_lines(self.out / "ca" / "issuing.key")):
            self.canaries[f"key of the CA {number}"] = line
        self._go_through_the_proxy()
        for name in PROGRAMS:
            self._run(name, self._program(name))
        self.wait_for_workers()

    def _program(self, name: str) -> tuple[str, ...]:
        if name == "beat":
            return beat_command(self.settings.log_level)
        queue = name.partition("-")[0]
        threads = 1 if queue == "control" else self.shape.threads
        return worker_command(queue, name=name, threads=threads, log_level=self.settings.log_level)

    def _password(self) -> str:
        return str(yaml.safe_load((self.out / "credentials.yaml").read_text())["cms"]["password"])

    def _go_through_the_proxy(self) -> None:
        """Put the proxy before every server: in the inventory, and in the pins of host keys."""
        path = self.out / "fleet.yaml"
        inventory = yaml.safe_load(path.read_text())
        inventory["defaults"]["port"] = PROXY_PORT
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))
        self.addresses = {node["name"]: node["address"] for one in inventory["clusters"] for node in one["nodes"]}
        routes = {(address, PROXY_PORT): (address, SSH_PORT) for address in self.addresses.values()}
        self.proxy = self._stack.enter_context(Proxy(routes))
        for one in json.loads((self.out / "pins.json").read_text()):
            self.journal.write(
                lambda tx, one=one: stock.pin(tx, one["address"], PROXY_PORT, one["key"], by="test", verified=True)
            )

    # ── what a supervisor does ───────────────────────────────────────────────────────────────────────────────────────
    def supervise(self, but: Sequence[str] = ()) -> None:
        """Start again what has ended by itself, and count it."""
        for name in PROGRAMS:
            process = self._processes.get(name)
            if process is not None and process.poll() is not None and name not in but:
                self.ended[name] = self.ended.get(name, 0) + 1
                self._run(name, self._commands[name])

    def at_work(self) -> list[str]:
        """Return the workers that have a step in their hands now; none while the database is away."""
        query = sa.select(tables.claim.c.holder).where(tables.claim.c.state == "running").distinct()
        try:
            holders = self.journal.read(lambda connection: list(connection.execute(query).scalars()))
        except CertbridgeError:
            return []
        words = {word for holder in holders for word in holder.split(":")}
        return sorted(name for name, pid in self.alive().items() if str(pid) in words)

    def is_running(self, name: str) -> bool:
        """Return whether the program *name* runs (a frozen one does)."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    # ── more bad luck ────────────────────────────────────────────────────────────────────────────────────────────────
    def kill_everything(self) -> None:
        """Kill all programs, broker and database with -9 in one go, as a power cut does; `restart` starts a program."""
        for name in PROGRAMS:
            if self.is_running(name):
                os.killpg(self._processes[name].pid, signal.SIGKILL)
        self.kill_redis()
        self.kill_postgres()
        for name in PROGRAMS:
            if (process := self._processes.pop(name, None)) is not None:
                process.wait()

    def kill_redis(self) -> None:
        """Kill the broker with -9; `start_redis` starts it again on what its file holds."""
        if pid := process_id(self._broker.listen):
            os.kill(pid, signal.SIGKILL)
        self._broker.stop()

    def start_redis(self) -> None:
        """Start the broker again."""
        self._broker.start()

    def redis_pid(self) -> int:
        """Return the process of the broker, 0 when it is away."""
        return process_id(self._broker.listen) or 0

    def kill_postgres(self) -> None:
        """Kill every process of PostgreSQL with -9; `start_postgres` starts it again. Nothing happens on SQLite."""
        if self._server is not None:
            self._server.kill()

    def start_postgres(self) -> None:
        """Start PostgreSQL again on what its files hold."""
        if self._server is not None:
            self._server.start_again()

    # ── what it has written ──────────────────────────────────────────────────────────────────────────────────────────
    def dump(self) -> bytes:
        """Return all rows of all tables as text (pg_dump, or SQLite's own)."""
        if self._server is None:
            import sqlite3

            with contextlib.closing(sqlite3.connect(self.settings.journal_path)) as connection:
                return "\n".join(connection.iterdump()).encode(errors="replace")
        url = self._server.url(self._database)
        words = [self._server.binaries / "pg_dump", "--inserts", url]
        as_root: dict[str, Any] = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(words, capture_output=True, check=True, cwd=self._server.folder, **as_root)
        return done.stdout

    def folders(self) -> tuple[Path, ...]:
        """Return the folders in which no secret may lie: the state, and the data of PostgreSQL."""
        return (self.state, *(() if self._server is None else (self._server.folder / "data",)))


def secret_lines(path: Path) -> list[bytes]:
    """Return one line out of the middle of every private key in a file of PEM keys, and the same of PKCS#8."""
    found = []
    block: list[bytes] = []
    for line in path.read_bytes().splitlines():
        block.append(line)
        if line.startswith(b"-----END"):
            key = serialization.load_pem_private_key(b"\n".join(block), None, unsafe_skip_rsa_key_validation=True)
            for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
                pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).splitlines()
                found.append(pem[len(pem) // 2])
            block = []
    return found
