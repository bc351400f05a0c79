"""A fleet: clusters of appliances on loopback addresses, started and stopped together, and what is written about it.

`async with Fleet(settings) as fleet` on a loop of your own, or `start_fleet_in_thread(settings)` from a test. Files
written to `settings.out`, if given: fleet.yaml, pins.json, credentials.yaml (0600), ca/, commands.jsonl, control.json,
ready.
"""

import asyncio
import json
import os
import random
import resource
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncssh
import yaml
from cryptography import x509

from simulator import pki
from simulator.appliance import Appliance, Member
from simulator.commandlog import CommandLog, Record
from simulator.console import Script
from simulator.control import ControlSocket
from simulator.faults import Fault, FaultKind, Faults
from simulator.layout import DOMAIN, JOIN_NAME, Authorities, Furnisher, pairs_of
from simulator.pki import FreshKeys, KeyPool, KeySource
from simulator.releases import Release, available
from simulator.server import SSH_PORT, Node

_T = TypeVar("_T")
USERNAME = "admin"
SERVICES_2 = ("webadmin", "callbridge", "webbridge", "xmpp", "turn")
SERVICES_3 = ("webadmin", "callbridge", "webbridge3", "turn")
_CLUSTER_NAMES = ("seoul", "busan", "incheon", "daegu", "daejeon", "gwangju", "suwon", "ulsan", "jeju", "sejong")
_OPEN_FILES_PER_NODE = 16
_NOT_IN_INVENTORY = frozenset({"trunk", "h323_gateway"})  # the inventory does not know these services


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What a fleet is to be. *key_pool* is a number of keys, a file of keys, or None for fresh keys."""

    clusters: int = 1
    nodes: int = 3  # per cluster
    release: str = "3.9"
    services: tuple[str, ...] = ()  # () means the usual ones of the release
    out: Path | None = None
    latency: Mapping[str, float] = field(default_factory=dict)  # command pattern -> seconds, "pki csr" -> 3
    key_pool: int | Path | None = None
    days_left: float = 12.0
    pin_leaves: bool = True  # trust stores hold the peers' certificates; False: the authority's
    faults: tuple[Fault, ...] = ()
    banner: str | None = None  # printed after login; None means the text of the table
    fqdn_hostnames: bool = False
    reboot_s: float = 2.0
    texts: Mapping[str, str] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)

    @property
    def enabled_services(self) -> tuple[str, ...]:
        """The services that every node runs."""
        if self.services:
            return self.services
        return SERVICES_3 if Release.parse(self.release) >= Release(3, 0) else SERVICES_2


def cluster_name(number: int) -> str:
    """Return the name of cluster *number*, counted from 0."""
    rounds, place = divmod(number, len(_CLUSTER_NAMES))
    return _CLUSTER_NAMES[place] + (str(rounds + 1) if rounds else "")


def node_name(cluster: int, node: int) -> str:
    """Return the name of a node: cmscore1, cmscore2, ... in the first cluster, busan1, ... in the others."""
    return f"cmscore{node + 1}" if cluster == 0 else f"{cluster_name(cluster)}-{node + 1}"


class Fleet:
    """A running fleet. All methods belong to the loop it was started on; `FleetHandle` is for other threads."""

    def __init__(self, settings: FleetSettings) -> None:
        release = Release.parse(settings.release)
        unknown = [s for s in settings.enabled_services if not available((s,), release)]
        if unknown:
            raise ValueError(f"release {release} has no {', '.join(unknown)}")
        self.settings = settings
        self.faults = Faults(settings.faults)
        self.nodes: dict[str, Node] = {}
        self.log: CommandLog
        self.authorities: Authorities
        self.control: ControlSocket | None = None

    async def __aenter__(self) -> Self:
        """Make the certificates, open the ports, write the files."""
        settings = self.settings
        if settings.out is not None:
            settings.out.mkdir(parents=True, exist_ok=True)
            (settings.out / "ready").unlink(missing_ok=True)
        self.log = CommandLog(None if settings.out is None else settings.out / "commands.jsonl")
        _allow_open_files(settings.clusters * settings.nodes * _OPEN_FILES_PER_NODE + 256)
        keys = _key_source(settings.key_pool)
        self.authorities = await Authorities.make(keys, datetime.now(UTC))
        try:
            for number in range(settings.clusters):
                await self._cluster(number, keys)
            if settings.out is not None:
                self.control = ControlSocket(self, settings.out)
                await self.control.open()
                self._write_files(settings.out)
        except BaseException:
            await self.close()
            raise
        self.faults.changed = self.reconcile
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        await self.close()

    async def close(self) -> None:
        """Stop everything; may be called twice."""
        self.faults.changed = lambda: None
        if self.control is not None:
            await self.control.close()
        for node in self.nodes.values():
            await node.close()
        self.log.close()
        await asyncio.sleep(0)

    async def _cluster(self, number: int, keys: KeySource) -> None:
        settings = self.settings
        addresses = await self._free_addresses(settings.nodes)
        members = tuple(
            Member(
                address=address, role=database_role(index, settings.nodes), primary=index == 0 and settings.nodes > 1
            )
            for index, address in enumerate(addresses)
        )
        appliances = []
        for index, address in enumerate(addresses):
            name = node_name(number, index)
            appliances.append(
                Appliance(
                    name=name,
                    cluster=cluster_name(number),
                    address=address,
                    release=Release.parse(settings.release),
                    hostname=f"{name}.{DOMAIN}" if settings.fqdn_hostnames else name,
                    faults=self.faults,
                    keys=keys,
                    latency=settings.latency,
                    texts=settings.texts,
                    members=members,
                )
            )
        furnisher = Furnisher(
            authorities=self.authorities,
            keys=keys,
            services=settings.enabled_services,
            days_left=settings.days_left,
            pin_leaves=settings.pin_leaves,
            now=datetime.now(UTC),
        )
        await furnisher.furnish(appliances)
        for appliance in appliances:
            node = Node(
                appliance=appliance,
                log=self.log,
                username=USERNAME,
                password=settings.password,
                host_key=asyncssh.generate_private_key("ssh-ed25519"),
                banner=appliance.say("shell.welcome") if settings.banner is None else settings.banner,
                reboot_s=settings.reboot_s,
            )
            self.nodes[appliance.name] = node
            node.reconcile()

    async def _free_addresses(self, count: int) -> list[str]:
        """Return *count* loopback addresses of one random 127.x.y net on which no SSH server listens."""
        taken = {node.appliance.address for node in self.nodes.values()}
        for _ in range(50):
            second, third = random.randrange(2, 254), random.randrange(0, 250)  # noqa: S311 - an address, no secret
            candidates = [f"127.{second}.{third + i // 250}.{i % 250 + 1}" for i in range(count)]
            if not taken.intersection(candidates) and not await _in_use(candidates[0]):
                return candidates
        raise OSError("no free loopback addresses found")

    def reconcile(self) -> None:
        """Make the ports of all nodes agree with services and faults."""
        for node in self.nodes.values():
            node.reconcile()

    def add_fault(self, fault: Fault) -> str:
        """Add a fault; when this returns it is in effect. Returns its id."""
        return self.faults.add(fault)

    def remove_fault(self, fault_id: str | None) -> None:
        """Remove one fault, or all of them with None; when this returns it is in effect."""
        if fault_id is None:
            self.faults.clear()
        else:
            self.faults.remove(fault_id)

    def state(self, name: str) -> dict[str, Any]:
        """Return the state of a node as JSON: services with settings and what they serve, files, host name, faults.

        {"hostname": "cmscore1", "files": ["callbridge.key", ...], "services": {"webadmin": {"enabled": True, "up":
        True, "trusts": {}, "endpoints": {"webadmin": {"key": "callbridge.key", "certificate": ..., "bundle": ...,
        "port": 8443, "serves": {"key_file": ..., "fingerprint": <SHA-256 of the leaf>, "not_after": <ISO 8601>,
        "chain": 2}}}}}}
        """
        appliance = self.nodes[name].appliance
        return {
            "hostname": appliance.hostname,
            "release": str(appliance.release),
            "files": list(appliance.files),
            "services": {n: _service_state(s) for n, s in appliance.services.items()},
        }

    def broken_links(self) -> list[str]:
        """Return the C2W links between Call Bridges and Web Bridges of a cluster that trust stores in effect forbid.

        Each as "cmscore1 -> cmscore2": the Call Bridge of the first to the Web Bridge 3 of the second.
        """
        broken = []
        for caller in self.nodes.values():
            for called in self.nodes.values():
                same = caller.appliance.cluster == called.appliance.cluster
                if same and not _link_up(caller.appliance, called.appliance):
                    broken.append(f"{caller.appliance.name} -> {called.appliance.name}")
        return broken

    # files about the fleet

    def _write_files(self, out: Path) -> None:
        (out / "ca").mkdir(exist_ok=True)
        root, issuing = self.authorities.root, self.authorities.issuing
        for name, authority in {"ca": root, "issuing": issuing}.items():
            _write_secret(out / "ca" / f"{name}.key", pki.key_to_pem(authority.key))
            (out / "ca" / f"{name}.crt").write_bytes(pki.to_pem(authority.certificate))
        chain = pki.to_pem(issuing.certificate) + pki.to_pem(root.certificate)
        (out / "ca" / "chain.pem").write_bytes(chain)
        pins = [
            {"address": node.appliance.address, "port": SSH_PORT, "key": node.public_host_key}
            for node in self.nodes.values()
        ]
        (out / "pins.json").write_text(json.dumps(pins, indent=1) + "\n")
        known = "".join(f"[{pin['address']}]:{pin['port']} {pin['key']}\n" for pin in pins)
        (out / "known_hosts").write_text(known)
        credentials = {"cms": {"username": USERNAME, "password": self.settings.password}}
        _write_secret(out / "credentials.yaml", yaml.safe_dump(credentials).encode())
        inventory = yaml.safe_dump(self.inventory(), sort_keys=False, width=1000)
        (out / "fleet.yaml").write_text("# Written by the simulator.\n" + inventory)
        (out / "ready").write_text(f"{os.getpid()}\n")

    def inventory(self) -> dict[str, Any]:
        """Return the content of fleet.yaml."""
        settings = self.settings
        return {
            "fleet": "demo",
            "release": settings.release,
            "four_eyes": False,
            "go_gate": True,
            "defaults": {
                "credential": "cms",
                "port": SSH_PORT,
                "interface": "a",
                "key": "node",
                "files": "fresh",
                "issuer": "local",
            },
            "issuers": {
                "local": {
                    "kind": "local",
                    "certificate": "ca/issuing.crt",
                    "key": "ca/issuing.key",
                    "chain": ["ca/issuing.crt", "ca/ca.crt"],
                }
            },
            "clusters": [self._inventory_of(cluster_name(number)) for number in range(settings.clusters)],
        }

    def _inventory_of(self, cluster: str) -> dict[str, Any]:
        appliances = [node.appliance for node in self.nodes.values() if node.appliance.cluster == cluster]
        return {
            "name": cluster,
            "nodes": [_inventory_node(appliance, self.settings) for appliance in appliances],
            "certificates": [
                {
                    "name": pair.name,
                    "per": "node",
                    "services": [name for name in pair.endpoints if name not in _NOT_IN_INVENTORY],
                    "subject": {"CN": f"{{node}}.{DOMAIN}", "O": "Example"},
                    "subject_alt_names": {"dns": [f"{{node}}.{DOMAIN}", *([JOIN_NAME] if pair.join else [])]},
                }
                for pair in pairs_of(self.settings.enabled_services).values()
                if not _NOT_IN_INVENTORY.issuperset(pair.endpoints)
            ],
        }


def database_role(index: int, nodes: int) -> str:
    """Return the role of node *index* of a cluster of *nodes*: the first three are joined, the rest connected."""
    if nodes == 1:
        return "none"
    return "joined" if index < 3 else "connected"


def _inventory_node(appliance: Appliance, settings: FleetSettings) -> dict[str, Any]:
    role = next(m.role for m in appliance.members if m.address == appliance.address)
    database = {"database": role} | ({} if role == "none" else {"database_interface": "a"})
    names = [name for pair in pairs_of(settings.enabled_services).values() for name in pair.endpoints]
    ports = {name: appliance.endpoint(name).port for name in names}
    proof = {name: {"port": port} for name, port in ports.items() if port is not None}
    return {"name": appliance.name, "address": appliance.address, **database, "proof": proof}


def _service_state(service: Any) -> dict[str, Any]:
    return {
        "enabled": service.enabled,
        "up": service.up,
        "trusts": dict(service.trusts),
        "endpoints": {
            name: {
                "key": endpoint.key,
                "certificate": endpoint.certificate,
                "bundle": endpoint.bundle,
                "port": endpoint.port,
                "serves": _served(endpoint.running),
            }
            for name, endpoint in service.endpoints.items()
        },
    }


def _served(running: Any) -> dict[str, Any] | None:
    if running is None:
        return None
    leaf = x509.load_pem_x509_certificate(running.chain[0])
    return {
        "key_file": running.key_file,
        "certificate_file": running.certificate_file,
        "fingerprint": leaf.fingerprint(pki.SHA256).hex(),
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "chain": len(running.chain),
    }


def _link_up(caller: Appliance, called: Appliance) -> bool:
    """Tell whether the Call Bridge of *caller* and the Web Bridge 3 of *called* accept each other's certificate."""
    if "webbridge3" not in called.services or called.endpoint("webbridge3.c2w").certificate is None:
        return True
    client, server = caller.endpoint("callbridge").running, called.endpoint("webbridge3.c2w").running
    if client is None or server is None:
        return False
    trusted_server = caller.services["callbridge"].applied_trusts.get("callbridge.trust.c2w")
    return _trusts(trusted_server, server.chain) and _trusts(server.trust, client.chain)


def _trusts(store: bytes | None, chain: tuple[bytes, ...]) -> bool:
    """Tell whether *store* holds the leaf of *chain*, or leads it to a root."""
    trusted = pki.load_certificates(store or b"")
    presented = [x509.load_pem_x509_certificate(pem) for pem in chain]
    if presented[0] in trusted:
        return True
    anchors = [certificate for certificate in trusted if certificate.subject == certificate.issuer]
    return pki.chain_problem(presented[0], [*presented[1:], *trusted], None) is None and any(
        anchor in trusted for anchor in (presented[-1], *anchors)
    )


def _key_source(pool: int | Path | None) -> KeySource:
    match pool:
        case None:
            return FreshKeys()
        case int():
            return KeyPool.of_size(pool)
        case _:
            return KeyPool.from_file(pool)


def _write_secret(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


async def _in_use(address: str) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, SSH_PORT), 1)
    except OSError:
        return False
    writer.close()
    return True


def _allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))


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
