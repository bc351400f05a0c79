"""Many threads in several processes want the same: exactly one gets it, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Literal

from tests.integration.journal import racer
from tests.integration.journal.world import LANE, make_run, take
from workflows.errors import GateDecided
from workflows.journal import Journal, Kind
from workflows.journal.claims import Claim
from workflows.journal.gates import decide, open_gate

ROOT = Path(__file__).parents[3]
PROCESSES, THREADS = 3, 6


def race(url: str, what: str) -> list[str]:
    """Let several processes race, all starting at once, and return all that they won."""
    command = [sys.executable, "-m", "tests.integration.journal.racer", url, what]
    racers = [
        subprocess.Popen(
            [*command, f"p{number}", str(THREADS)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(PROCESSES)
    ]
    for one in racers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in racers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    answers = [one.communicate(timeout=120)[0] for one in racers]
    assert [one.returncode for one in racers] == [0] * PROCESSES
    return [won for answer in answers for won in json.loads(answer)]


def test_each_step_is_claimed_once_by_all_processes_together(url: str, journal: Journal) -> None:
    """18 threads in 3 processes want 20 steps: 20 claims, the rest noted as drops, the chain whole."""
    make_run(journal)
    won = race(url, "claims")
    counted = Counter(event.kind for event in journal.events("r1"))
    assert sorted(won) == sorted(f"s{number}" for number in range(racer.STEPS))
    assert counted[Kind.STEP_CLAIMED] == racer.STEPS
    assert counted[Kind.STEP_DROPPED] == racer.STEPS * (PROCESSES * THREADS - 1)
    assert journal.verify("r1") == ()


def test_no_event_is_lost_and_the_chain_stays_whole(url: str, journal: Journal) -> None:
    """450 notes of 3 processes into one chain: each is there once, numbers have no gap."""
    make_run(journal)
    written = race(url, "notes")
    events = journal.events("r1")
    texts = [event.data["text"] for event in events if event.kind is Kind.NOTE]
    assert sorted(texts) == sorted(written)
    assert len(texts) == PROCESSES * THREADS * racer.NOTES
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert journal.verify("r1") == ()


def test_processes_deciding_the_same_gates_make_one_decision_each(url: str, journal: Journal) -> None:
    """60 gates, 18 approvers in 3 processes: 60 decisions."""
    make_run(journal)
    _open_gates(journal, racer.GATES)
    won = race(url, "gates")
    approved = [event.step for event in journal.events("r1") if event.kind is Kind.GATE_APPROVED]
    assert sorted(won) == sorted(f"g{number}" for number in range(racer.GATES))
    assert sorted(approved) == sorted(won)


def test_two_approvers_at_once_on_300_gates_make_300_decisions(url: str) -> None:
    """Two journals (as two processes have) approve and reject at the same instant; the loser is told who won."""
    number_of_gates = 300
    with Journal.open(url) as one, Journal.open(url) as two, ThreadPoolExecutor(2) as pool:
        make_run(one)
        _open_gates(one, number_of_gates)
        start = Barrier(2)

        def decide_all(journal: Journal, decision: Literal["approve", "reject"], by: str) -> tuple[list[str], set[str]]:
            won, told = [], set()
            for number in range(number_of_gates):
                start.wait()
                try:
                    journal.write(
                        lambda tx, gate=f"g{number}": decide(
                            tx,
                            run="r1",
                            lane=LANE,
                            gate=gate,
                            decision=decision,
                            by=by,
                            reason="not today",
                            digest="d",
                            four_eyes=True,
                            requested_by="ann",
                        )
                    )
                    won.append(f"g{number}")
                except GateDecided as error:
                    told.add(error.data["who"])
            return won, told

        first, second = pool.submit(decide_all, one, "approve", "bob"), pool.submit(decide_all, two, "reject", "eve")
        (approved, told_bob), (rejected, told_eve) = first.result(), second.result()
        decided = Counter(event.kind for event in one.events("r1"))
    assert sorted([*approved, *rejected]) == sorted(f"g{number}" for number in range(number_of_gates))
    assert decided[Kind.GATE_APPROVED] == len(approved)
    assert decided[Kind.GATE_REJECTED] == len(rejected)
    assert told_bob <= {"eve"}
    assert told_eve <= {"bob"}


def test_one_resource_is_never_leased_twice_at_once(journal: Journal) -> None:
    """40 threads claim 40 steps on one node: one gets the lease, the others are told who holds it."""
    make_run(journal)
    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(lambda number: take(journal, f"s{number}", resources=("node:a",)), range(40)))
    assert sum(isinstance(result, Claim) for result in results) == 1


def _open_gates(journal: Journal, number_of_gates: int) -> None:
    for number in range(number_of_gates):
        journal.submit(
            lambda tx, gate=f"g{number}": open_gate(
                tx, run="r1", lane=LANE, gate=gate, name="sign", generation=1, digest="d", summary={}
            )
        )
    assert journal.write(lambda tx: tx.now()) is not None
