"""The way in for tests: a fleet on a thread of its own. The fleet itself is in `machines.py`."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509

from simulator.commandlog import Record
from simulator.console import Script
from simulator.faults import Fault, FaultKind
from simulator.machines import USERNAME, Fleet
from simulator.settings import FleetSettings

__all__ = ["Fleet", "FleetHandle", "FleetSettings", "start_fleet_in_thread"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHandle:
    """A fleet on a thread of its own, for tests. Every method waits until it has been done on the fleet's loop."""

    fleet: Fleet
    loop: asyncio.AbstractEventLoop

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def _call(self, function: Callable[[], _T]) -> _T:
        async def work() -> _T:
            return function()

        return self._do(work())

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple(self.fleet.nodes)

    @property
    def username(self) -> str:
        """The name to log in with."""
        return USERNAME

    @property
    def password(self) -> str:
        """The password to log in with."""
        return self.fleet.settings.password

    def address(self, node: str) -> str:
        """Return the address of *node*; SSH is on port 2222."""
        return self.fleet.nodes[node].appliance.address

    def host_key(self, node: str) -> str:
        """Return the pinned host key: `ssh-ed25519 AAAA...`."""
        return self.fleet.nodes[node].public_host_key

    def fault(self, kind: FaultKind | str, **details: Any) -> str:
        """Add a fault (keys as in `Fault`); return its id."""
        return self._call(lambda: self.fleet.add_fault(Fault.from_json({"kind": str(kind), **details})))

    def mend(self, fault_id: str | None = None) -> None:
        """Remove one fault, or all."""
        self._call(lambda: self.fleet.remove_fault(fault_id))

    def records(self, kind: str | None = None, node: str | None = None) -> tuple[Record, ...]:
        """Return the command log so far, of one kind and node if given."""
        everything = self._call(lambda: tuple(self.fleet.log.records))
        return tuple(r for r in everything if kind in {None, r.kind} and node in {None, r.node})

    def commands(self, node: str) -> tuple[str, ...]:
        """Return the command lines that *node* was given, in the order they began."""
        return tuple(r.text for r in self.records("command", node) if r.phase == "begin")

    def state(self, node: str) -> dict[str, Any]:
        """Return `Fleet.state` of *node*."""
        return self._call(lambda: self.fleet.state(node))

    def database(self, node: str) -> dict[str, Any]:
        """Return the part of `Fleet.state` that tells of the database."""
        found: dict[str, Any] = self.state(node)["database"]
        return found

    def wait_idle(self, cluster: str) -> None:
        """Wait until no database operation runs in *cluster*. Raises: TimeoutError: one still does after a minute."""
        self._do(self.fleet.wait_idle(cluster))

    def files(self, node: str) -> dict[str, bytes]:
        """Return the files of *node*."""
        return self._call(lambda: {n: f.data for n, f in self.fleet.nodes[node].appliance.files.items()})

    def put_file(self, node: str, name: str, data: bytes) -> None:
        """Store a file on *node* without SFTP."""
        self._call(lambda: self.fleet.nodes[node].appliance.write(name, data))

    def served_leaf(self, node: str, endpoint: str) -> x509.Certificate | None:
        """Return the certificate that *endpoint* ("webbridge3.c2w") serves, or None when it is down."""
        running = self._call(lambda: self.fleet.nodes[node].appliance.endpoint(endpoint).running)
        return None if running is None else x509.load_pem_x509_certificate(running.chain[0])

    def broken_links(self) -> list[str]:
        """Return `Fleet.broken_links`."""
        return self._call(self.fleet.broken_links)

    def execute(self, node: str, line: str, *answers: str) -> str:
        """Carry out a command without SSH and log; return its output. *answers* are keys or lines for questions."""

        async def work() -> str:
            console = Script(answers)
            await self.fleet.nodes[node].appliance.execute(line, console)
            self.fleet.nodes[node].reconcile()
            return console.text

        return self._do(work())

    def reboot(self, node: str, seconds: float) -> None:
        """Begin a reboot of *node* that takes *seconds*."""
        self._call(lambda: self.fleet.nodes[node].reboot(seconds))


@contextmanager
def start_fleet_in_thread(settings: FleetSettings) -> Iterator[FleetHandle]:
    """Run a fleet on a thread of its own for the length of a `with` block. Raises what starting it raises."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    fleet = Fleet(settings)
    try:
        asyncio.run_coroutine_threadsafe(fleet.__aenter__(), loop).result(120)
        try:
            yield FleetHandle(fleet=fleet, loop=loop)
        finally:
            asyncio.run_coroutine_threadsafe(fleet.close(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(_finish_tasks(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _finish_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):  # an aborted transport closes its socket a few turns of the loop later
        await asyncio.sleep(0)
