"""A process that races others for the same work: `racer.py URL WHAT NAME THREADS`. Prints what it won, as JSON.

WHAT is "claims" (every thread tries to claim all of 20 steps), "notes" (every thread appends 25 notes), or "gates"
(every thread tries to approve all of 60 gates). It begins when a line comes on standard input, so that all begin at
once.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.integration.journal.world import LANE, take
from workflows.errors import GateDecided
from workflows.journal import Journal, Kind, NewEvent
from workflows.journal.claims import Claim
from workflows.journal.gates import decide

STEPS, NOTES, GATES = 20, 25, 60


def claims(journal: Journal, name: str, thread: int) -> list[str]:
    """Return the steps that this thread won."""
    order = range(STEPS) if thread % 2 else reversed(range(STEPS))
    return [
        f"s{number}"
        for number in order
        if isinstance(take(journal, f"s{number}", holder=f"{name}-{thread}", resources=(f"node:{number}",)), Claim)
    ]


def notes(journal: Journal, name: str, thread: int) -> list[str]:
    """Return the texts that this thread wrote."""
    texts = [f"{name}-{thread}-{number}" for number in range(NOTES)]
    for text in texts:
        journal.append(NewEvent(run="r1", kind=Kind.NOTE, data={"text": text}))
    return texts


def gates(journal: Journal, name: str, thread: int) -> list[str]:
    """Return the gates that this thread decided."""
    won = []
    for number in range(GATES):
        gate = f"g{number}"
        try:
            journal.write(
                lambda tx, gate=gate: decide(
                    tx,
                    run="r1",
                    lane=LANE,
                    gate=gate,
                    decision="approve",
                    by=f"{name}-{thread}",
                    digest="d",
                    four_eyes=True,
                    requested_by="ann",
                )
            )
            won.append(gate)
        except GateDecided:
            continue
    return won


def main() -> None:
    """Race, and print what was won."""
    url, what, name, threads = sys.argv[1:]
    work = {"claims": claims, "notes": notes, "gates": gates}[what]
    with Journal.open(url) as journal, ThreadPoolExecutor(int(threads)) as pool:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        won = pool.map(lambda thread: work(journal, name, thread), range(int(threads)))
        sys.stdout.write(json.dumps([one for part in won for one in part]))


if __name__ == "__main__":
    main()
