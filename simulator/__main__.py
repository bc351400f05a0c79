"""`python -m simulator`: start a fleet in the foreground, or talk to one that runs.

python -m simulator --clusters 2 --nodes 3 --release 3.9 --out DIR
python -m simulator control DIR '{"do": "add", "fault": {"kind": "hang", "node": "cmscore1"}}'
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from simulator.control import ask
from simulator.faults import Fault
from simulator.machines import Fleet
from simulator.settings import FleetSettings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(prog="simulator", description="A fleet of simulated Cisco Meeting Servers.")
    arguments.add_argument("--clusters", type=int, default=1)
    arguments.add_argument("--nodes", type=int, default=3, help="nodes per cluster")
    arguments.add_argument("--joined", type=int, default=None, help="nodes per cluster that hold the database")
    arguments.add_argument("--connected", type=int, default=None, help="nodes per cluster that use it only")
    arguments.add_argument("--primary", type=int, default=0, help="index of the joined node that is the primary")
    arguments.add_argument("--database", choices=("ready", "none"), default="ready", help="none: not built yet")
    arguments.add_argument("--database-pairs", choices=("shared", "own"), default="shared")
    arguments.add_argument("--database-days-left", type=float, default=None, help="default: that of --days-left")
    arguments.add_argument("--database-s", default="", help="simulated seconds of operations: 'join=600,remove=5'")
    arguments.add_argument("--speed", type=float, default=40.0, help="simulated seconds per real second")
    arguments.add_argument("--release", default="3.9")
    arguments.add_argument("--out", type=Path, required=True, help="directory for fleet.yaml, pins, credentials, log")
    arguments.add_argument("--latency", default="", help="seconds for pki csr, or 'pki csr=3,webadmin enable=0.5'")
    arguments.add_argument("--key-pool", default=None, help="number of keys made beforehand, or a file of PEM keys")
    arguments.add_argument("--days-left", type=float, default=12.0, help="of the old certificates; negative: expired")
    arguments.add_argument("--trust", choices=("leaves", "ca"), default="leaves", help="what the trust stores hold")
    arguments.add_argument("--fault", action="append", default=[], help="a fault as JSON, or a list; may be repeated")
    arguments.add_argument("--services", default="", help="webadmin,callbridge,...; default: the usual of the release")
    arguments.add_argument("--banner", default=None, help="text after login")
    arguments.add_argument("--fqdn-hostnames", action="store_true")
    arguments.add_argument("--texts", type=Path, default=None, help="JSON file: literals that replace the table's")
    return arguments


def settings_of(arguments: argparse.Namespace) -> FleetSettings:
    """Return the settings that the command line asks for. Raises: ValueError, OSError."""
    pool = arguments.key_pool
    return FleetSettings(
        clusters=arguments.clusters,
        nodes=arguments.nodes,
        joined=arguments.joined,
        connected=arguments.connected,
        primary=arguments.primary,
        database_ready=arguments.database == "ready",
        database_own_pairs=arguments.database_pairs == "own",
        database_days_left=arguments.database_days_left,
        database_s=read_seconds(arguments.database_s),
        speed=arguments.speed,
        release=arguments.release,
        services=tuple(name for name in arguments.services.split(",") if name),
        out=arguments.out,
        latency=read_latency(arguments.latency),
        key_pool=None if pool is None else int(pool) if pool.isdecimal() else Path(pool),
        days_left=arguments.days_left,
        pin_leaves=arguments.trust == "leaves",
        faults=tuple(fault for text in arguments.fault for fault in read_faults(text)),
        banner=arguments.banner,
        fqdn_hostnames=arguments.fqdn_hostnames,
        texts={} if arguments.texts is None else json.loads(arguments.texts.read_text()),
    )


def read_latency(text: str) -> dict[str, float]:
    """Return command pattern -> seconds: "3" is for `pki csr`, else "pattern=seconds,pattern=seconds"."""
    if not text:
        return {}
    if "=" not in text:
        return {"pki csr": float(text)}
    return read_seconds(text)


def read_seconds(text: str) -> dict[str, float]:
    """Return the numbers in "name=seconds,name=seconds" by name."""
    parts = (part.partition("=") for part in text.split(",") if part)
    return {name.strip(): float(seconds) for name, _, seconds in parts}


def read_faults(text: str) -> list[Fault]:
    """Return the faults in a JSON object or list. Raises: ValueError."""
    value = json.loads(text)
    return [Fault.from_json(item) for item in (value if isinstance(value, list) else [value])]


async def serve(settings: FleetSettings) -> None:
    """Run the fleet until TERM or INT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Fleet(settings) as fleet:
        print(f"simulator: {len(fleet.nodes)} nodes, files in {settings.out}", file=sys.stderr)  # noqa: T201
        await stopped.wait()


def main(words: list[str]) -> int:
    """Carry out the command line; return the exit code."""
    if words[:1] == ["control"] and len(words) == 3:
        answer = ask(Path(words[1]), json.loads(words[2]))
        print(json.dumps(answer, indent=1))  # noqa: T201 - the answer is the output
        return 0 if answer["ok"] else 1
    try:
        settings = settings_of(parser().parse_args(words))
        asyncio.run(serve(settings))
    except ValueError as problem:
        print(f"simulator: {problem}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
