"""What a session costs: the same job through `workers.connections` and through bare asyncssh, on simulated servers.

    .venv/bin/python bench/session.py [--nodes 200] [--rounds 5]

The job, on every node at once: log in, ten commands in one shell, four SFTP transfers (ours: an upload with its
read-back and two fetches). The servers run in a process of their own. Printed are the medians over the rounds; the two
kinds take turns, so that a busy machine slows both. CPU is that of this process, the client; trust the ratios more than
the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import yaml

from workers.connections import Connections, MemoryCircuit, MemoryPins
from workers.credentials import Credentials
from workers.login import CIPHERS
from workers.redaction import Redactor
from workers.transcript import Transcripts
from workflows.mmp.commands import PkiList, ServiceStatus, Version
from workflows.plan import Line, LineKind

COMMANDS = ("version", "pki list", "webadmin", "callbridge", "webbridge3", "turn") + ("pki list",) * 4
UPLOAD = Line(kind=LineKind.UPLOAD, text="bench.crt")
DATA = b"-----BEGIN CERTIFICATE-----\n" + b"A" * 1500 + b"\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as sessions need it."""

    name: str
    address: str
    port: int
    credential: str = "cms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The simulated servers."""

    nodes: tuple[Node, ...]
    pins: dict[tuple[str, int], str]
    username: str
    password: str
    folder: Path


async def bare(fleet: Fleet) -> None:
    """Do the job with nothing but asyncssh, as lean as it can be written."""
    keys = {place: asyncssh.import_public_key(pin) for place, pin in fleet.pins.items()}

    async def one(node: Node) -> None:
        async with asyncssh.connect(
            node.address,
            node.port,
            known_hosts=([keys[node.address, node.port]], [], []),
            config=None,
            agent_path=None,
            client_keys=None,
            x509_trusted_certs=None,
            encryption_algs=CIPHERS,
            compression_algs=None,
            username=fleet.username,
            password=fleet.password,
        ) as connection:
            process = await connection.create_process(term_type="vt100", encoding=None)
            prompt = f"{node.name}> ".encode()
            await process.stdout.readuntil(prompt)
            for command in COMMANDS:
                process.stdin.write(command.encode() + b"\n")
                await process.stdout.readuntil(prompt)
            async with connection.start_sftp_client() as sftp:
                async with sftp.open("bench.crt", "wb") as file:
                    await file.write(DATA)
                for _ in range(3):
                    async with sftp.open("bench.crt", "rb") as file:
                        await file.read()

    await asyncio.gather(*(one(node) for node in fleet.nodes))


async def ours(fleet: Fleet) -> None:
    """Do the job as a step does it: checked, masked, with a transcript."""
    redactor = Redactor()
    environ = {"CERTBRIDGE_CREDENTIAL_CMS": f"{fleet.username}:{fleet.password}"}
    with tempfile.TemporaryDirectory() as folder:
        connections = Connections(
            Credentials(None, environ=environ, learn=redactor.register),
            MemoryPins(dict(fleet.pins)),
            Transcripts(Path(folder), redactor),
            MemoryCircuit(),
        )

        async def one(node: Node) -> None:
            async with connections.session(node, run="bench", allowed=(UPLOAD,)) as session:
                for command in COMMANDS:
                    if command == "version":
                        await session.ask(Version())
                    elif command == "pki list":
                        await session.ask(PkiList())
                    else:
                        await session.ask(ServiceStatus(command))
                await session.upload(UPLOAD, DATA)
                for _ in range(2):
                    await session.fetch("bench.crt")

        await asyncio.gather(*(one(node) for node in fleet.nodes))
        await connections.close()


def measured(job: Callable[[Fleet], Awaitable[None]], fleet: Fleet) -> tuple[float, float]:
    """Return (seconds, CPU seconds of this process) of one round."""

    async def go() -> None:
        await job(fleet)

    cpu, began = time.process_time(), time.perf_counter()
    asyncio.run(go())
    return time.perf_counter() - began, time.process_time() - cpu


def started(count: int, folder: Path) -> tuple[subprocess.Popen[bytes], Fleet]:
    """Start *count* simulated servers; return their process and what is needed to talk to them."""
    command = [sys.executable, "-m", "simulator", "--nodes", str(count), "--key-pool", "10", "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (folder / "ready").exists():
        if process.poll() is not None:
            raise SystemExit("the simulator did not start")
        time.sleep(0.1)
    inventory = yaml.safe_load((folder / "fleet.yaml").read_text())
    credential = yaml.safe_load((folder / "credentials.yaml").read_text())["cms"]
    pins = {(pin["address"], pin["port"]): pin["key"] for pin in yaml.safe_load((folder / "pins.json").read_text())}
    nodes = tuple(
        Node(name=node["name"], address=node["address"], port=inventory["defaults"]["port"])
        for cluster in inventory["clusters"]
        for node in cluster["nodes"]
    )
    return process, Fleet(nodes=nodes, pins=pins, folder=folder, **credential)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--nodes", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=5)
    wanted = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, fleet = started(wanted.nodes, Path(folder))
        try:
            measured(bare, fleet)  # imports, caches
            measured(ours, fleet)
            rounds = [(measured(bare, fleet), measured(ours, fleet)) for _ in range(wanted.rounds)]
        finally:
            process.terminate()
            process.wait()
    print(f"{wanted.nodes} nodes, {len(COMMANDS)} commands and 4 transfers each, {wanted.rounds} rounds, medians;")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, asyncssh {asyncssh.__version__}")
    for number, name in enumerate(("bare asyncssh", "our session")):
        seconds = statistics.median(one[number][0] for one in rounds)
        cpu = statistics.median(one[number][1] for one in rounds)
        print(f"{name:>14}: {wanted.nodes / seconds:6.0f} nodes/s   {1000 * cpu / wanted.nodes:5.2f} ms CPU per node")
    ratios = [ours_[1] / bare_[1] for bare_, ours_ in rounds]
    print(f"our CPU / that of bare asyncssh: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
