"""A simulated fleet over real SSH, and the connections of one worker to it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from simulator.fleet import FleetHandle, FleetSettings, start_fleet_in_thread
from simulator.server import SSH_PORT
from workers.connections import Connections, MemoryCircuit, MemoryPins, Timings
from workers.credentials import Credentials
from workers.loop import LoopThread
from workers.redaction import Redactor
from workers.session import NodeSession
from workers.transcript import Transcripts
from workflows.errors import OutcomeUnknown, Unreachable
from workflows.mmp.commands import Version

T = TypeVar("T")
PASSWORD = "canary-device-password-7f3a"
# Short enough for tests, long enough for two busy cores.
QUICK = Timings(connect_s=5, login_s=10, quiet_s=0.1, interrupt_s=2, transfer_s=10, command_s=10)


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for *condition*; fail when it never comes true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the inventory, as far as sessions need it."""

    name: str
    address: str
    port: int = SSH_PORT
    credential: str = "cms"


class _OpenDoor(asyncssh.SSHServer):
    """Take any password."""

    def password_auth_supported(self) -> bool:
        """Offer passwords."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Take it."""
        return bool(username and password)


@dataclass(slots=True, kw_only=True)
class World:
    """One worker process's worth of sessions, and the fleet they go to."""

    fleet: FleetHandle
    loop: LoopThread
    connections: Connections
    pins: MemoryPins
    circuit: MemoryCircuit
    folder: Path
    redactor: Redactor

    def node(self, name: str = "cmscore1", **changes: Any) -> Node:
        """Return a node of the fleet."""
        return replace(Node(name=name, address=self.fleet.address(name)), **changes)

    @contextlib.contextmanager
    def session(self, *allowed: Any, node: Node | None = None) -> Iterator[NodeSession]:
        """Give a session whose plan holds *allowed*."""
        with self.loop.entered(self.connections.session(node or self.node(), run="run-1", allowed=allowed)) as session:
            yield session

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out *work* on the loop of the sessions."""
        return self.loop.call(work)

    @contextlib.contextmanager
    def server(self, shell: Any, login: Any = None) -> Iterator[Node]:
        """Serve *shell* (an asyncssh process handler) on loopback as node cms9; *login* is an asyncssh.SSHServer."""
        key = asyncssh.generate_private_key("ssh-ed25519")

        async def serve() -> asyncssh.SSHAcceptor:
            return await asyncssh.listen(
                "127.0.0.1",
                0,
                server_factory=login or _OpenDoor,
                server_host_keys=[key],
                process_factory=shell,
                line_editor=False,
            )

        async def stop(server: asyncssh.SSHAcceptor) -> None:
            await self.connections.close()
            server.close()
            await server.wait_closed()

        server = self.do(serve())
        port = server.get_port()
        self.pins.keys[("127.0.0.1", port)] = key.export_public_key("openssh").decode()
        try:
            yield Node(name="cms9", address="127.0.0.1", port=port)
        finally:
            self.do(stop(server))

    def answers(self, session: NodeSession) -> bool:
        """Return whether the server answers a reading command now."""
        try:
            return bool(self.do(session.ask(Version())))
        except (OutcomeUnknown, Unreachable):
            return False

    def logins(self, node: str | None = None) -> list[str]:
        """Return the kinds of the logins in the fleet's log: "login", "login-refused"."""
        return [one.kind for one in self.fleet.records(node=node) if one.kind.startswith("login")]

    def transcript(self, node: str = "cmscore1") -> list[dict[str, Any]]:
        """Return the lines of the transcript of *node*."""
        path = self.folder / "transcripts" / "run-1" / f"{node}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def key_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file of keys: making them anew for each fleet would take most of the time."""
    file = tmp_path_factory.mktemp("pool") / "keys.pem"
    for _ in range(2):
        key = rsa.generate_private_key(65537, 2048)
        encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with file.open("ab") as keys:
            keys.write(encoded)
    return file


@pytest.fixture
def fleet(key_pool: Path) -> Iterator[FleetHandle]:
    """Give three nodes, fresh for each test."""
    with start_fleet_in_thread(FleetSettings(nodes=3, key_pool=key_pool, password=PASSWORD, reboot_s=0.1)) as fleet:
        yield fleet
        until(lambda: not running_commands(fleet))


def running_commands(fleet: FleetHandle) -> set[int]:
    """Return the numbers of the commands that servers still work on, also those whose client has gone."""
    records = fleet.records("command")
    ended = {one.number for one in records if one.phase == "end"}
    return {one.number for one in records if one.phase == "begin"} - ended


@pytest.fixture
def make_world(fleet: FleetHandle, tmp_path: Path) -> Iterator[Any]:
    """Give a function that makes a World; *timings* and *password* may differ."""
    made: list[World] = []

    def make(*, timings: Timings = QUICK, password: str = PASSWORD, credentials_file: Path | None = None) -> World:
        redactor = Redactor()
        loop = LoopThread()
        loop.start()
        environ = {"CERTBRIDGE_CREDENTIAL_CMS": f"admin:{password}", "CERTBRIDGE_CREDENTIAL_OTHER": f"admin:{PASSWORD}"}
        pins = MemoryPins({(fleet.address(name), SSH_PORT): fleet.host_key(name) for name in fleet.nodes})
        circuit = MemoryCircuit()
        connections = Connections(
            Credentials(credentials_file, environ=environ, keyring=lambda _: None, learn=redactor.register),
            pins,
            Transcripts(tmp_path / "transcripts", redactor),
            circuit,
            timings,
        )
        made.append(
            World(
                fleet=fleet,
                loop=loop,
                connections=connections,
                pins=pins,
                circuit=circuit,
                folder=tmp_path,
                redactor=redactor,
            )
        )
        return made[-1]

    yield make
    for world in made:
        world.loop.call(world.connections.close())
        world.loop.stop()


@pytest.fixture
def world(make_world: Any) -> World:
    """Give a worker with the right credential."""
    world: World = make_world()
    return world
