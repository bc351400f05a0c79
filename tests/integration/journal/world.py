"""Small runs for the journal's tests: one lane "seoul", steps without a plan behind them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from workflows.journal import Journal, Transaction, tables
from workflows.journal.claims import Claim, Drop, claim, finish, raise_generation
from workflows.journal.runs import create_run

LANE = "seoul"


def make_run(
    journal: Journal, run: str = "r1", *, lanes: tuple[str, ...] = (LANE,), resources: tuple[str, ...] = (), **plan: str
) -> None:
    """Create *run* of *plan* and raise each lane to generation 1."""

    def write(tx: Transaction) -> None:
        create_run(
            tx,
            run=run,
            kind="renewal",
            plan={"kind": "renewal", **plan},
            digest="plan-digest",
            fleet="demo",
            requested_by="ann",
            lanes=lanes,
            resources=resources,
        )
        for lane in lanes:
            raise_generation(tx, run, lane, "first")

    journal.write(write)


def take(journal: Journal, step: str = "s1", **changes: Any) -> Claim | Drop:
    """Claim *step* of run r1 on node "node-a"."""
    asked: dict[str, Any] = {
        "run": "r1",
        "lane": LANE,
        "step": step,
        "node": "node-a",
        "generation": 1,
        "holder": "worker-1",
        "predecessors": frozenset(),
        "resources": (),
        **changes,
    }
    return journal.write(lambda tx: claim(tx, **asked))


def must_take(journal: Journal, step: str = "s1", **changes: Any) -> Claim:
    """Claim *step*, which must be free."""
    taken = take(journal, step, **changes)
    assert isinstance(taken, Claim), taken
    return taken


def end(journal: Journal, claimed: Claim, status: str = "done", **said: Any) -> None:
    """End a claimed step."""
    journal.write(lambda tx: finish(tx, claimed, status=status, **said))  # type: ignore[arg-type]


def next_generation(journal: Journal, run: str = "r1", lane: str = LANE) -> int | None:
    """Raise the lane's generation."""
    return journal.write(lambda tx: raise_generation(tx, run, lane, "test"))


def let_leases_run_out(journal: Journal) -> None:
    """Put the end of every claim and lease before the database's present."""

    def write(tx: Transaction) -> None:
        for table in (tables.claim, tables.lease):
            tx.connection.execute(sa.update(table).values(expires_at=tables.clock() - 0.001))

    journal.write(write)


def let_lanes_idle(journal: Journal, for_s: float) -> None:
    """Pretend that nobody was on any lane for *for_s* seconds, and that all was sent."""

    def write(tx: Transaction) -> None:
        tx.connection.execute(sa.update(tables.lane).values(touched_at=tables.clock() - for_s))
        tx.connection.execute(sa.update(tables.outbox).values(sent_at=tables.clock()))

    journal.write(write)


def kinds(journal: Journal, run: str = "r1") -> list[str]:
    """Return the kinds of the run's events in order."""
    return [event.kind.value for event in journal.events(run)]
