"""Clocks that are wrong: leases go by the database's clock alone, whatever a worker's own clock says (P11, F24)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.integration.journal.virtual_clock import START, VirtualClock
from tests.integration.journal.world import LANE, end, make_run, must_take, next_generation, take
from workflows.errors import LeaseLost
from workflows.journal import Journal, outbox
from workflows.journal.claims import Claim, Drop, intent, renew
from workflows.journal.lanes import idle_lanes, lane_row

ROOT = Path(__file__).parents[3]


def on_another_clock(shift: str, program: str, *arguments: str) -> str:
    """Return what *program* prints in a process whose clock is off by *shift* ("+400d"); monotonic time is not."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")  # where Debian puts it
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WORKER = """
import json, sys, time
from datetime import UTC, datetime
from functools import partial
from tests.integration.journal.world import LANE, must_take, take
from workflows.errors import LeaseLost
from workflows.journal import Journal
from workflows.journal.claims import Drop, intent, renew
with Journal.open(sys.argv[1]) as journal:
    held = take(journal, "s1", holder="wrong", resources=("node:a",), generation=1)
    mine = must_take(journal, "s2", holder="wrong", resources=("node:b",), lease_s=60)
    journal.write(partial(intent, claim=mine, line_no=0, text="pki csr x"))
    renewed = journal.write(partial(renew, claim=mine, lease_s=60))
    print(json.dumps({"year": datetime.now(UTC).year, "held": isinstance(held, Drop) and held.reason.value,
                      "renewed": renewed}))
"""


@pytest.mark.needs_faketime
@pytest.mark.parametrize("shift", ["+400d", "-1h"])
def test_a_worker_whose_clock_is_wrong_neither_takes_nor_loses_a_lease(postgres_url: str, shift: str) -> None:
    """400 days ahead: it does not see a live lease as over; an hour behind: its own lease is as long as anybody's."""
    with Journal.open(postgres_url) as journal:
        make_run(journal)
        right = must_take(journal, "s1", holder="right", resources=("node:a",), lease_s=60)
        told = json.loads(on_another_clock(shift, WORKER, postgres_url))
        assert (told["held"], told["renewed"]) == ("claimed", True)
        assert (told["year"] > datetime.now(UTC).year) == (shift == "+400d")
        assert journal.write(partial(renew, claim=right, lease_s=60))
        taken = take(journal, "s3", holder="right", resources=("node:b",))
        assert isinstance(taken, Drop)
        assert taken.reason.value == "held"
        # The times of all events are the database's, so they stand in order.
        times = [event.at for event in journal.events("r1")]
        assert times == sorted(times)
        assert max(times).year == datetime.now(UTC).year


@pytest.fixture
def ten_minutes_off(postgres_url: str) -> Iterator[Journal]:
    """Give a journal whose database is ten minutes ahead of this process."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE"
            " AS $$SELECT pg_catalog.clock_timestamp() + interval '10 minutes'$$"
        )
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')  # type: ignore[arg-type]
    with Journal.open(postgres_url) as journal:
        yield journal


def test_a_database_ten_minutes_ahead_changes_nothing(ten_minutes_off: Journal) -> None:
    """A lease taken now is live now, lines may be sent, what is to be sent at once is due at once."""
    journal = ten_minutes_off
    make_run(journal)
    ahead = journal.write(lambda tx: tx.now()) - datetime.now(UTC)
    assert 590 < ahead.total_seconds() < 610
    claimed = must_take(journal, "s1", resources=("node:a",), lease_s=10)
    assert isinstance(take(journal, "s2", resources=("node:a",)), Drop)
    journal.write(partial(intent, claim=claimed, line_no=0, text="pki csr x"))
    assert journal.read(partial(lane_row, run="r1", lane=LANE)).live
    end(journal, claimed, advance=True)
    assert [row.data for row in journal.read(outbox.pending)] == [{}, {"step": "s1"}]


def test_a_clock_that_jumps_ahead_lets_leases_run_out_and_nothing_worse(url: str) -> None:
    """The database's own clock jumps by an hour: who was at work sends no line until it has renewed its lease.

    When nobody took over, the renewal makes it the holder again; when somebody did, it is fenced out.
    """
    with Journal.open(url) as journal:
        clock = VirtualClock(journal, url)
        assert abs(clock.now - START) < 1e-3
        make_run(journal)
        first = must_take(journal, "s1", resources=("node:a",))
        second = must_take(journal, "s2", resources=("node:b",), holder="worker-2")
        clock.passes(3600)
        for claim in (first, second):
            with pytest.raises(LeaseLost, match="ran out"):
                journal.write(partial(intent, claim=claim, line_no=0, text="pki csr x"))
        assert journal.write(partial(renew, claim=second))
        journal.write(partial(intent, claim=second, line_no=0, text="pki csr x"))
        end(journal, second)
        assert next_generation(journal) == 2
        assert isinstance(take(journal, "s1", generation=2, resources=("node:a",), holder="worker-3"), Claim)
        assert not journal.write(partial(renew, claim=first))


def test_a_clock_that_jumps_back_holds_work_up_and_loses_none(url: str) -> None:
    """An hour back: leases live an hour longer than meant, unless their holder renews or ends them; then all is well.

    What nobody ends waits until the clock has caught up: that is the price of one clock, and it is told in the docs.
    """
    with Journal.open(url) as journal:
        clock = VirtualClock(journal, url)
        make_run(journal)
        claimed = must_take(journal, "s1", resources=("node:a",))
        dead = must_take(journal, "s2", resources=("node:b",), holder="dead")
        clock.passes(-3600)
        journal.write(partial(intent, claim=claimed, line_no=0, text="pki csr x"))
        assert journal.write(partial(renew, claim=claimed, lease_s=60))
        end(journal, claimed)
        assert next_generation(journal) is None  # the dead one's lease still runs
        assert journal.write(lambda tx: idle_lanes(tx, 30)) == []
        clock.passes(3600 + 61)
        assert next_generation(journal) == 2
        assert must_take(journal, "s2", generation=2, resources=("node:b",)).attempt == dead.attempt + 1
