"""`make chaos`: rounds of the nemesis, Redis emptied fifty times, and a table of what was found.

python -m tests.chaos [--seed N] [--rounds N] [--quiet]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "acceptance"), str(HERE.parent)]

from keys import make_keys  # noqa: E402 - the path first
from nemesis import Round, Scale, play  # noqa: E402

from tests import postgres  # noqa: E402


def main(words: list[str]) -> int:
    """Carry out the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description="Kill everything, and see that nothing is lost.")
    parser.add_argument("--seed", type=int, default=None, help="default: one of the clock")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="three servers instead of ten")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args(words)
    seed = int(time.time()) % 100_000 if arguments.seed is None else arguments.seed
    scale = Scale(clusters=1, joined=2, connected=1, services="webadmin,callbridge") if arguments.small else Scale()
    began = time.monotonic()

    def tell(text: str) -> None:
        if not arguments.quiet:
            print(f"  {text}", file=sys.stderr, flush=True)  # noqa: T201

    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        keys = make_keys(Path(folder) / "keys.pem", 300)
        try:
            for number in range(arguments.rounds):
                rounds.append(play(seed + number, scale, keys=keys, tell=tell))
                print("\n".join(told(rounds[-1])), flush=True)  # noqa: T201
        finally:
            postgres.stop()
    print("\n".join(summary(rounds, time.monotonic() - began)))  # noqa: T201
    return 0 if all(one.good for one in rounds) else 1


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


def summary(rounds: list[Round], took_s: float) -> list[str]:
    """Return the table at the end."""
    strikes: Counter[str] = sum((one.strikes for one in rounds), Counter())
    found = [one.findings for one in rounds]
    rows = {
        "rounds": len(rounds),
        **{f"  {kind}": number for kind, number in sorted(strikes.items())},
        "connections spoiled": sum(one.spoiled for one in rounds),
        "lanes resumed by a person": sum(one.resumes for one in rounds),
        "changing commands sent": sum(one.changes for one in found),
        "uploads written again": sum(one.uploads_again for one in found),
        "restarts sent a second time": sum(one.restarts_again for one in found),
        "duplicates": sum(len(one.duplicates) for one in found),
        "order violations": sum(len(one.order) for one in found),
        "stuck runs": sum(len(one.stuck) for one in found),
        "secrets found": sum(len(one.secrets) for one in found),
        "other findings": sum(len(one.other) for one in found),
        "seconds": round(took_s),
    }
    return [f"{name:<32}{number:>8}" for name, number in rows.items()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
