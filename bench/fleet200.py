"""A whole renewal of 200 simulated servers in 20 clusters: how many CSRs at once, and how clusters run side by side.

    .venv/bin/python bench/fleet200.py [--clusters 20] [--nodes 10] [--latency 3] [--wanted 151] [--threads 256]

Simulator, broker and workers are processes of their own; what is printed comes from the simulator's log, which knows
nothing of certbridge. Exit code 1 when fewer than --wanted `pki csr` were under way at the same time, when a cluster
ever had two servers in stage 700 at once, when no two clusters were, or when the run did not end well.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests" / "acceptance")]

from acceptance_engine import Engine, Shape  # noqa: E402 - found by the line above
from overlaps import applying, most_at_once, spans_of  # noqa: E402 - the same
from renewing import Renewal, begin, must, nodes_of  # noqa: E402 - the same

APPLY_STAGE = 700


@dataclass(slots=True)
class Clock:
    """Prints how long each part took, in seconds."""

    began: float
    last: float

    def lap(self, what: str) -> None:
        """Say that *what* is over."""
        now = time.monotonic()
        print(f"{what:<46} {now - self.last:7.1f} s   {now - self.began:7.1f} s in all", flush=True)
        self.last = now


def measure(arguments: argparse.Namespace) -> int:
    """Renew the whole fleet, print what was seen, and return the exit code."""
    clusters, nodes = arguments.clusters, arguments.nodes
    shape = Shape(
        clusters=clusters,
        nodes=nodes,
        latency=f"pki csr={arguments.latency:g}",
        key_pool=str(clusters * nodes * 8 + 100),
        fleet_workers=2,
        threads=arguments.threads,
        # The timings of a real engine, not the short ones of the tests.
        settings={
            "lease_s": 60.0,
            "renew_s": 15.0,
            "reconcile_s": 30.0,
            "outbox_ms": 100,
            "poll_s": 2.0,
            "longest_poll_s": 50.0,
        },
    )
    start = time.monotonic()
    clock = Clock(start, start)
    with Engine(shape) as engine:
        clock.lap(f"{clusters * nodes} servers, broker, workers are up")
        must(engine, "survey")
        clock.lap("survey")
        run = begin(engine)
        clock.lap("plan, run started")
        run.watch(3)
        clock.lap("prepared and requested, all lanes at `sign`")
        run.approve("--gate", "sign")
        run.watch(3)
        clock.lap("signed and delivered, all lanes at `go`")
        run.approve("--gate", "go")
        run.watch(0)
        clock.lap("applied and proved")
        return report(engine, run, clusters, arguments)


def report(engine: Engine, run: Renewal, clusters: int, arguments: argparse.Namespace) -> int:
    """Print what the simulator saw, and return 1 when it is not what was wanted."""
    lanes = [lane["name"] for lane in run.shown()["lanes"]]
    csr = spans_of(engine.log(kind="command", text="pki csr "))
    plan = run.plan()
    by_cluster = {name: [applying(engine, plan, node) for node in nodes_of(engine, name)] for name in lanes}
    within = {name: most_at_once(spans) for name, spans in by_cluster.items()}
    across = most_at_once([span for spans in by_cluster.values() for span in spans])
    most = most_at_once(csr)
    print(f"pki csr: {len(csr)} in all, {most} at the same time, {csr[-1].end - csr[0].begin:.1f} s from first to last")
    print(f"in stage {APPLY_STAGE}: at most {max(within.values())} server of a cluster, {across} servers of the fleet")
    wrong = [
        text
        for bad, text in (
            (len(lanes) != clusters, f"{len(lanes)} lanes instead of {clusters}"),
            (most < arguments.wanted, f"{most} `pki csr` at the same time instead of {arguments.wanted}"),
            (max(within.values()) > 1, "a cluster had two servers in stage 700 at once"),
            (clusters > 1 and across < 2, "no two clusters were in stage 700 at once"),
        )
        if bad
    ]
    for text in wrong:
        print(f"not reached: {text}")
    return 1 if wrong else 0


def main() -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Renew 200 simulated servers in 20 clusters and say how it went.")
    parser.add_argument("--clusters", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=10, help="per cluster")
    parser.add_argument("--latency", type=float, default=3.0, help="seconds that `pki csr` takes")
    parser.add_argument("--wanted", type=int, default=151, help="how many `pki csr` at the same time")
    parser.add_argument("--threads", type=int, default=256, help="of each of the two workers")
    return measure(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
