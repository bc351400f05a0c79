"""`make chaos`: rounds of the nemesis, Redis emptied fifty times, and a table of what was found.

python -m tests.chaos [--seed N] [--rounds N] [--emptied N] [--small] [--quiet]
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "acceptance"), str(HERE.parent)]

from acceptance_engine import Engine  # noqa: E402 - the path first
from emptied import Emptied, empty_during, servers, shape  # noqa: E402
from keys import make_keys  # noqa: E402
from nemesis import Round, Scale, play  # noqa: E402
from renewing import must  # noqa: E402

from simulator.machines import cluster_name  # noqa: E402

SMALL = Scale(clusters=1, joined=2, connected=1, services="webadmin,callbridge", strike_s=30.0)


def main(words: list[str]) -> int:
    """Carry out the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description="Kill everything, and see that nothing is lost.")
    parser.add_argument("--seed", type=int, default=None, help="default: one of the clock")
    parser.add_argument("--rounds", type=int, default=2, help="fleets, each with a renewal and a rebuild; at least one")
    parser.add_argument("--emptied", type=int, default=50, help="small runs in each of which Redis is emptied")
    parser.add_argument(
        "--minutes", type=float, default=6.0, help="no further round begins after so many; one always does"
    )
    parser.add_argument("--small", action="store_true", help="three servers instead of ten")
    parser.add_argument("--quiet", action="store_true", help="do not tell each strike")
    arguments = parser.parse_args(words)
    seed = int(time.time()) % 100_000 if arguments.seed is None else arguments.seed
    began = time.monotonic()

    def tell(text: str) -> None:
        if not arguments.quiet:
            print(f"  {text}", file=sys.stderr, flush=True)  # noqa: T201

    print(f"seed {seed}; again with: make chaos SEED={seed} ROUNDS={arguments.rounds}", flush=True)  # noqa: T201
    emptied = _emptied(arguments.emptied, random.Random(seed)) if arguments.emptied else Emptied()
    asked = max(1, arguments.rounds)
    over = time.monotonic() + arguments.minutes * 60
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        keys = make_keys(Path(folder) / "keys.pem", 300)
        while len(rounds) < asked and (not rounds or time.monotonic() < over):
            scale = SMALL if arguments.small else Scale()
            rounds.append(play(seed + len(rounds), scale, keys=keys, tell=tell))
            print("\n".join(told(rounds[-1])), flush=True)  # noqa: T201
    print("\n".join(summary(rounds, emptied, time.monotonic() - began)))  # noqa: T201
    wrong = reasons(rounds, asked, emptied, arguments.emptied)
    for reason in wrong:
        print(f"not good: {reason}")  # noqa: T201
    return 1 if wrong else 0


def reasons(rounds: list[Round], asked: int, emptied: Emptied, asked_emptied: int) -> list[str]:
    """Return why this was no success: something was found, or too little was tried for anything to be found."""
    return [
        *([f"{len(rounds)} of {asked} rounds were played"] if len(rounds) < asked else []),
        *(f"nothing was sent in the round with seed {one.seed}" for one in rounds if not one.findings.changes),
        *(f"findings in the round with seed {one.seed}" for one in rounds if not one.good),
        *(
            [f"{len(emptied.emptied_at)} of {asked_emptied} strict runs with Redis emptied have ended"]
            if len(emptied.emptied_at) < asked_emptied
            else []
        ),
        *(
            [f"{emptied.started - emptied.finished} of the small runs with Redis emptied have not ended"]
            if emptied.finished < emptied.started
            else []
        ),
    ]


def _emptied(runs: int, chance: random.Random) -> Emptied:
    """Empty Redis once in each of so many small runs, and tell what came of it."""
    with Engine(shape(runs)) as engine:
        must(engine, "survey")
        result = empty_during(engine, [cluster_name(number) for number in range(servers(runs))], chance, strict=runs)
    at = sorted(result.emptied_at)
    print(f"Redis emptied in {len(at)} runs with work left, at their events {at}; {result.late} done over")  # noqa: T201
    for text in result.outcomes:
        print(f"  FOUND: {text}", flush=True)  # noqa: T201
    return result


def told(one: Round) -> list[str]:
    """Return what is told of a round."""
    found = one.findings
    return [
        (
            f"round with seed {one.seed}: {one.took_s:.0f} s, {sum(one.strikes.values())} strikes, "
            f"{one.resumes} resumes, {found.changes} changing commands, {len(found.wrong)} findings"
        ),
        *(f"  stopped and resumed: {reason}" for reason in sorted(set(one.stopped))),
        *(f"  {name} ended by itself {number} times" for name, number in sorted(one.ended.items())),
        *(f"  FOUND: {text}" for text in found.wrong),
        *([f"  kept in {one.logs}"] if one.logs else []),
    ]


def summary(rounds: list[Round], emptied: Emptied, took_s: float) -> list[str]:
    """Return the table at the end."""
    strikes: Counter[str] = sum((one.strikes for one in rounds), Counter())
    found = [one.findings for one in rounds]
    rows = {
        "small runs with Redis emptied": emptied.started,
        "  with work left then, and ended": len(emptied.emptied_at),
        "  met too late, and done over": emptied.late,
        "rounds": len(rounds),
        **{f"  {kind}": number for kind, number in sorted(strikes.items())},
        "connections spoiled": sum(one.spoiled for one in rounds),
        "lanes resumed by a person": sum(one.resumes for one in rounds),
        "changing commands sent": sum(one.changes for one in found),
        "uploads written again": sum(one.uploads_again for one in found),
        "intents that were never sent": sum(one.never_came for one in found),
        "restarts sent a second time": sum(one.restarts_again for one in found),
        "duplicates": sum(len(one.duplicates) for one in found),
        "order violations": sum(len(one.order) for one in found),
        "stuck runs": sum(len(one.stuck) for one in found),
        "secrets found": sum(len(one.secrets) for one in found),
        "other findings": sum(len(one.other) for one in found),
        "seconds": round(took_s),
    }
    return [f"{name:<34}{number:>6}" for name, number in rows.items()]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it leaves no process behind
    sys.exit(main(sys.argv[1:]))
