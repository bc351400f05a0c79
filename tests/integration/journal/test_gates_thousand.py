"""1,000 gates, two approvers each at the same instant: 1,000 decisions, and each loser is told who won (show 7, F22).

Threads of one process, and processes of their own; approve against approve, approve against reject, and the double
click of one person. Reading first and writing then gave 301 "winners" of 300 gates (faults.md).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, Literal

import pytest

from tests.integration.journal.world import LANE, make_run
from workflows.errors import GateDecided
from workflows.journal import Journal, Kind, Transaction
from workflows.journal.gates import decide, open_gate, pass_gate
from workflows.journal.gates import open_gates as all_gates

ROOT = Path(__file__).parents[3]
LONG = os.environ.get("CERTBRIDGE_CHAOS") == "1"
GATES = 1000
# In the usual suite 1,000 gates are decided on by processes on SQLite, and a tenth of them everywhere else.
SOME = GATES if LONG else 100
Decision = Literal["approve", "reject"]


def names(count: int) -> list[str]:
    """Return the names of the gates."""
    return [f"g{number}" for number in range(count)]


def open_gates(journal: Journal, gates: Iterable[str]) -> None:
    """Open *gates* in one commit."""

    def write(tx: Transaction) -> None:
        for gate in gates:
            assert open_gate(
                tx, run="r1", lane=LANE, gate=gate, name="sign", generation=1, digest="d", summary={"csrs": 1}
            )

    make_run(journal)
    journal.write(write)


def try_to_decide(journal: Journal, gate: str, decision: Decision, by: str) -> str:
    """Decide as *by*; return "" when that decision stands, else who had decided before."""
    try:
        journal.write(
            lambda tx: decide(
                tx,
                run="r1",
                lane=LANE,
                gate=gate,
                decision=decision,
                by=by,
                reason=f"{by} says so",
                digest="d",
                four_eyes=True,
                requested_by="ann",
            )
        )
    except GateDecided as error:
        return str(error.data["who"])
    return ""


def one_decision_each(journal: Journal, told: dict[str, list[str]]) -> None:
    """Check that each gate has one decision, the same in row, event and answers; *told*: answers by person, by gate."""
    events = journal.events("r1")
    decided = [event for event in events if event.kind in {Kind.GATE_APPROVED, Kind.GATE_REJECTED}]
    by_gate = {event.step: event for event in decided}
    found = journal.read(lambda connection: all_gates(connection, ("open", "approved", "rejected", "passed")))
    rows = {row.gate: row for row in found}
    count = len(rows)
    assert (len(decided), len(by_gate)) == (count, count)
    assert journal.verify("r1") == ()
    assert [answer for answers in told.values() for answer in answers].count("") == count
    for number, gate in enumerate(names(count)):
        (winner,) = [by for by, answers in told.items() if answers[number] == ""]
        row = rows[gate]
        status = "approved" if by_gate[gate].kind is Kind.GATE_APPROVED else "rejected"
        assert (row.decided_by, row.status, row.reason) == (winner, status, f"{winner} says so")
        assert by_gate[gate].actor == winner
        assert {answers[number] for answers in told.values()} == {"", winner}


@pytest.mark.longer
def test_a_thousand_gates_and_two_approvers_in_threads(url: str) -> None:
    """Each gate is approved by two people at the same instant, each with a journal of their own: one decision each."""
    with Journal.open(url) as one, Journal.open(url) as two, ThreadPoolExecutor(2) as pool:
        open_gates(one, names(SOME))
        start = Barrier(2)

        def approve_all(journal: Journal, by: str) -> list[str]:
            answers = []
            for gate in names(SOME):
                start.wait(60)
                answers.append(try_to_decide(journal, gate, "approve", by))
            return answers

        asked = {by: pool.submit(approve_all, journal, by) for by, journal in (("bob", one), ("eve", two))}
        told = {by: future.result(120) for by, future in asked.items()}
        one_decision_each(one, told)
        assert min(Counter(answer for answers in told.values() for answer in answers if answer).values()) > 0


@pytest.mark.longer
def test_a_thousand_gates_approved_and_rejected_by_two_processes(url: str) -> None:
    """One process approves what the other rejects, 16 threads in each: 1,000 decisions; the loser is told who won."""
    count = GATES if url.startswith("sqlite") else SOME
    with Journal.open(url) as journal:
        open_gates(journal, names(count))
        racers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.integration.journal.test_gates_thousand", url, decision, by, str(count)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for decision, by in (("approve", "bob"), ("reject", "eve"))
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        answers = [racer.communicate(timeout=150)[0] for racer in racers]
        assert [racer.returncode for racer in racers] == [0, 0]
        one_decision_each(journal, {by: json.loads(text) for by, text in zip(("bob", "eve"), answers, strict=True)})


def test_a_double_click_is_one_approval(journal: Journal) -> None:
    """The same person approves twice at once: one decision, and the second click is told who it was."""
    gates = names(50)
    open_gates(journal, gates)
    with ThreadPoolExecutor(2) as pool:
        for gate in gates:
            clicks = [pool.submit(try_to_decide, journal, gate, "approve", "bob") for _ in range(2)]
            assert sorted(click.result(30) for click in clicks) == ["", "bob"]
    assert Counter(event.kind for event in journal.events("r1"))[Kind.GATE_APPROVED] == len(gates)


def test_an_approved_gate_is_passed_once_by_many_at_once(journal: Journal) -> None:
    """The outbox, the reconciler and a person's message ring at the same gate: one of 20 goes through."""
    open_gates(journal, ["g0"])
    assert try_to_decide(journal, "g0", "approve", "bob") == ""
    with ThreadPoolExecutor(20) as pool:
        passed = list(
            pool.map(
                lambda _: journal.write(lambda tx: pass_gate(tx, run="r1", lane=LANE, gate="g0")),
                range(20),
            )
        )
    assert Counter(passed) == {True: 1, False: 19}
    assert Counter(event.kind for event in journal.events("r1"))[Kind.GATE_PASSED] == 1


def main() -> None:
    """Decide on all gates from 16 threads, and print the answers as JSON: "" where this decision stands."""
    url, decision, by, count = sys.argv[1:]
    wanted: Any = decision
    with Journal.open(url) as journal, ThreadPoolExecutor(16) as pool:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        sys.stdout.write(
            json.dumps(list(pool.map(lambda gate: try_to_decide(journal, gate, wanted, by), names(int(count)))))
        )


if __name__ == "__main__":
    main()
