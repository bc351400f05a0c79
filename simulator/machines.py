"""A fleet: clusters of appliances on loopback addresses, started and stopped together, and what is written about it.

`async with Fleet(settings) as fleet` on a loop of your own; from a test, see `fleet.py`. Files
written to `settings.out`, if given: fleet.yaml, pins.json, credentials.yaml (0600), ca/, commands.jsonl, control.json,
ready.
"""

import asyncio
import json
import os
import random
import resource
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import asyncssh
import yaml

from simulator import database_operations, description, pki
from simulator.appliance import Appliance
from simulator.commandlog import CommandLog
from simulator.control import ControlSocket
from simulator.database import DatabaseCluster
from simulator.faults import Fault, Faults
from simulator.layout import DOMAIN, Authorities, Furnisher
from simulator.pki import FreshKeys, KeyPool, KeySource
from simulator.releases import Release, available
from simulator.server import SSH_PORT, Node
from simulator.settings import FleetSettings

USERNAME = "admin"
_CLUSTER_NAMES = ("seoul", "busan", "incheon", "daegu", "daejeon", "gwangju", "suwon", "ulsan", "jeju", "sejong")
_OPEN_FILES_PER_NODE = 16


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
        self.database = settings.database
        self.operations_s = settings.operations_s
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
        _allow_open_files(settings.clusters * settings.nodes_per_cluster * _OPEN_FILES_PER_NODE + 256)
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
        addresses = await self._free_addresses(settings.nodes_per_cluster)
        database = DatabaseCluster(seconds=self.operations_s, speed=settings.speed, log=self.log)
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
                    database_cluster=database,
                )
            )
        furnisher = Furnisher(
            authorities=self.authorities,
            keys=keys,
            services=settings.enabled_services,
            days_left=settings.days_left,
            pin_leaves=settings.pin_leaves,
            database=self.database,
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
        """Return `description.state` of a node."""
        return description.state(self.nodes[name].appliance)

    def of_cluster(self, cluster: str) -> list[Node]:
        """Return the nodes of *cluster*. Raises: KeyError: there is no such cluster."""
        found = [node for node in self.nodes.values() if node.appliance.cluster == cluster]
        if not found:
            raise KeyError(cluster)
        return found

    async def wait_idle(self, cluster: str) -> None:
        """Wait until no database operation runs in *cluster*."""
        for node in self.of_cluster(cluster):
            await database_operations.idle(node.appliance)

    def broken_links(self) -> list[str]:
        """Return `description.broken_links` of the fleet."""
        return description.broken_links([node.appliance for node in self.nodes.values()])

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
        inventory = yaml.safe_dump(self._inventory(), sort_keys=False, width=1000)
        (out / "fleet.yaml").write_text("# Written by the simulator.\n" + inventory)
        (out / "ready").write_text(f"{os.getpid()}\n")

    def _inventory(self) -> dict[str, Any]:
        clusters: dict[str, list[Appliance]] = {}
        for node in self.nodes.values():
            clusters.setdefault(node.appliance.cluster, []).append(node.appliance)
        return description.inventory(
            release=self.settings.release, services=self.settings.enabled_services, clusters=clusters
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
