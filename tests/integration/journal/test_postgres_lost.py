"""PostgreSQL killed in the middle of commits, and put back to an older state (F10, F11).

A commit whose answer was lost may have happened (faults.md finding 8: in 3 of 8 kills). The journal's writer finds that
out by its own row, so nothing that was answered is lost, and nothing is written twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Event

import pytest

from tests.integration.journal.world import LANE, end, make_run, must_take, next_generation, take
from tests.postgres import Server, own_server
from workflows.errors import LeaseLost, RecordsAway
from workflows.journal import Journal, Kind, NewEvent
from workflows.journal.claims import Claim, Drop, intent
from workflows.journal.lanes import lane_row

__all__ = ["own_server"]

KILLS, WRITERS = 4, 6


@pytest.fixture
def url(own_server: Server) -> Iterator[str]:
    """Give an empty database on a server that this test may kill."""
    return own_server.url(own_server.create_database())


def more(answered: list[str], count: int) -> None:
    """Wait until *count* more writes were answered, for a minute at most."""
    wanted, deadline = len(answered) + count, time.monotonic() + 60
    while len(answered) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nothing_is_lost_and_nothing_is_double_when_postgresql_is_killed(own_server: Server, url: str) -> None:
    """Two processes' worth of writers, four kills in mid-commit: each text that was answered is there exactly once."""
    with Journal.open(url) as one, Journal.open(url) as two, ThreadPoolExecutor(WRITERS) as pool:
        make_run(one)
        over = Event()
        answered: list[str] = []

        def write_on(name: int) -> int:
            number = 0
            while not over.is_set():
                text = f"{name}-{number}"
                journal = one if name % 2 else two
                with suppress(RecordsAway):
                    journal.append(NewEvent(run="r1", kind=Kind.NOTE, data={"text": text}))
                    answered.append(text)
                number += 1
            return number

        writers: list[Future[int]] = [pool.submit(write_on, name) for name in range(WRITERS)]
        try:
            for _ in range(KILLS):
                more(answered, 40)
                own_server.kill()
                own_server.start_again()
            more(answered, 20)
        finally:
            over.set()
        assert all(writer.result(60) > 0 for writer in writers)
        written = Counter(event.data["text"] for event in one.events("r1") if event.kind is Kind.NOTE)
        assert set(answered) <= set(written)
        assert set(written.values()) == {1}
        assert one.verify("r1") == ()


def test_a_claim_whose_answer_was_lost_is_ours_once(own_server: Server, url: str) -> None:
    """Claims go on through kills: each step is claimed once, by whoever was told so."""
    with Journal.open(url) as journal, ThreadPoolExecutor(WRITERS) as pool:
        make_run(journal)

        def claim_all(name: int) -> list[str]:
            return [
                f"s{number}"
                for number in range(40)
                if isinstance(take(journal, f"s{number}", holder=f"w{name}"), Claim)
            ]

        racing = [pool.submit(claim_all, name) for name in range(WRITERS)]
        for _ in range(2):
            own_server.kill()
            own_server.start_again()
        won = [step for one in racing for step in one.result(90)]
        assert sorted(won) == sorted(f"s{number}" for number in range(40))
        claimed = Counter(event.step for event in journal.events("r1") if event.kind is Kind.STEP_CLAIMED)
        assert set(claimed.values()) == {1}


def test_nothing_goes_on_blindly_on_a_database_that_was_put_back(own_server: Server, url: str) -> None:
    """A journal that lived through the loss of its last commits believes the database, not what it remembers (F11).

    The step in work is nobody's any more: its holder sends no further line. Generation and steps are those of the
    older state, and messages of the lost time are dropped; what they would do is observed anew by whoever claims it.
    """
    with Journal.open(url) as journal:
        make_run(journal)
        end(journal, must_take(journal, "s1"))
        own_server.keep_copy()
        assert journal.state("r1").lanes[LANE].steps["s1"].status == "done"
        assert next_generation(journal) == 2
        end(journal, must_take(journal, "s2", generation=2))
        assert next_generation(journal) == 3
        lost = must_take(journal, "s3", generation=3, resources=("node:a",))
        assert set(journal.state("r1").lanes[LANE].steps) == {"s1", "s2", "s3"}

        own_server.go_back_to_copy()

        assert set(journal.state("r1").lanes[LANE].steps) == {"s1"}
        assert journal.read(partial(lane_row, run="r1", lane=LANE)).generation == 1
        with pytest.raises(LeaseLost):
            journal.write(partial(intent, claim=lost, line_no=0, text="pki csr x"))
        late = take(journal, "s3", generation=3)
        assert isinstance(late, Drop)
        assert late.reason.value == "old_generation"
        assert next_generation(journal) == 2
        assert must_take(journal, "s2", generation=2).attempt == 1
        assert journal.state("r1").lanes[LANE].steps["s2"].status == "running"
        assert journal.verify("r1") == ()
