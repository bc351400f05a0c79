"""What a dead process held is let go of at once, unless a line may still be under way; each repair is a note."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from world import LANE, kinds, make_run, must_take, next_generation, take

from workflows.journal import Journal, repair, tables
from workflows.journal.claims import Claim, Drop, intent, outcome, renew
from workflows.journal.events import Kind

NODE = ("node:node-a",)


@pytest.fixture
def held(journal: Journal) -> Claim:
    """Return a claim of a process that is gone."""
    make_run(journal)
    return must_take(journal, holder="dead", resources=NODE)


def let_go(journal: Journal, *gone: str) -> tuple[str, ...]:
    """Let go of what *gone* held."""
    return journal.write(lambda tx: repair.let_go(tx, gone))


def notes(journal: Journal) -> list[dict[str, object]]:
    """Return what the run's notes say."""
    return [dict(one.data) for one in journal.events("r1") if one.kind is Kind.NOTE]


def ringing(journal: Journal) -> list[tuple[str, float]]:
    """Return (lane, seconds from now) of what is to be sent."""
    box = tables.outbox
    query = (
        sa.select(box.c.lane, (box.c.not_before - tables.clock()).label("s"))
        .where(box.c.sent_at.is_(None))
        .order_by(box.c.id)
    )
    return journal.read(lambda connection: [(row.lane, float(row.s)) for row in connection.execute(query)])


def test_claim_of_a_dead_holder_is_free_at_once_and_noted(journal: Journal, held: Claim):
    """The next generation takes it over though the lease had most of a minute left; the late one writes nothing."""
    assert journal.read(repair.holders) == ("dead",)
    assert isinstance(take(journal, generation=1, holder="other"), Drop)
    assert let_go(journal, "dead") == ("s1",)
    assert journal.read(repair.holders) == ()
    *_, (lane, in_s) = ringing(journal)
    assert (lane, in_s <= 0) == (LANE, True)
    (note,) = notes(journal)
    assert ("dead" in str(note["found"]), "lease was ended" in str(note["done"])) == (True, True)
    generation = next_generation(journal)
    assert generation == 2
    again = must_take(journal, generation=2, holder="other", resources=NODE)
    assert again.fences["node:node-a"] == held.fences["node:node-a"] + 1
    assert not journal.write(lambda tx: renew(tx, held))
    assert journal.verify("r1") == ()


def test_line_that_may_be_under_way_keeps_its_lease_and_is_noted_once(journal: Journal, held: Claim):
    """Nobody knows whether the server is still at it, so it gets its time; the lane is rung when that is over."""
    journal.write(lambda tx: intent(tx, held, 0, "webadmin enable"))
    assert let_go(journal, "dead") == ("s1",)
    assert let_go(journal, "dead") == ()
    assert journal.read(repair.holders) == ("dead",)
    *_, (_, in_s) = ringing(journal)
    assert 50 < in_s <= 60
    (note,) = notes(journal)
    assert "`webadmin enable` may still be under way" in str(note["done"])


def test_line_whose_connection_was_cut_keeps_its_lease_as_one_without_an_end_does(journal: Journal, held: Claim):
    """That nobody knows the outcome was written down before the process died: the server may still be at it."""
    journal.write(lambda tx: intent(tx, held, 0, "webadmin enable"))
    journal.write(lambda tx: outcome(tx, held, 0, "unknown", "the connection was cut"))
    assert let_go(journal, "dead") == ("s1",)
    assert journal.read(repair.holders) == ("dead",)
    (note,) = notes(journal)
    assert "`webadmin enable` may still be under way" in str(note["done"])


def test_line_whose_end_was_written_down_does_not_hold_it_up(journal: Journal, held: Claim):
    """Intent and outcome stand in the journal: nothing is under way."""
    journal.write(lambda tx: intent(tx, held, 0, "webadmin enable"))
    journal.write(lambda tx: outcome(tx, held, 0, "ok"))
    assert let_go(journal, "dead") == ("s1",)
    assert journal.read(repair.holders) == ()


def test_others_keep_what_they_hold(journal: Journal):
    """Only who is gone loses anything."""
    make_run(journal)
    must_take(journal, "s1", holder="dead", resources=NODE)
    must_take(journal, "s2", holder="alive", resources=("node:node-b",))
    assert let_go(journal, "dead") == ("s1",)
    assert journal.read(repair.holders) == ("alive",)
    assert let_go(journal) == ()
    assert kinds(journal).count("note") == 1
