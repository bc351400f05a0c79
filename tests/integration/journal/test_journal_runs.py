"""Runs, reservations, the outbox, and what is kept beside the events."""

from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa

from tests.integration.journal.world import make_run
from workflows.errors import HostKeyChanged, JournalError, Reserved
from workflows.journal import FLEET, Journal, Kind, outbox, stock, tables
from workflows.journal.runs import close_run, release, reservations


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_new_run_has_plan_lanes_and_something_to_send(journal: Journal) -> None:
    """One commit makes the run, its lanes, an outbox row for each, and the first event."""
    make_run(journal, lanes=("seoul", "busan"), resources=("node:a",))
    (summary,) = journal.runs()
    created = journal.events("r1")[0]
    assert (summary.run, summary.kind, summary.fleet, summary.outcome) == ("r1", "renewal", "demo", "open")
    assert dict(summary.lanes) == {"busan": "", "seoul": ""}
    assert journal.plan("r1") == {"kind": "renewal"}
    assert created.kind is Kind.RUN_CREATED
    assert (created.actor, created.data["lanes"], created.data["digest"]) == ("ann", ["seoul", "busan"], "plan-digest")
    assert sorted(row.lane for row in journal.read(outbox.pending)) == ["busan", "seoul"]
    assert summary.created_at == created.at


def test_list_of_runs_tells_what_a_plan_is_for(journal: Journal) -> None:
    """The word is read from the plan by either database; a plan without one is no fault."""
    make_run(journal)
    make_run(journal, "r2", purpose="rollback")
    assert {one.run: one.purpose for one in journal.runs()} == {"r1": "", "r2": "rollback"}


def test_run_names_are_used_once(journal: Journal) -> None:
    """A second run of the same name is refused, and so is the name of the fleet's own chain."""
    make_run(journal)
    for taken in ("r1", FLEET):
        with pytest.raises(JournalError, match="already"):
            make_run(journal, taken)
    with pytest.raises(JournalError, match="no run r9"):
        journal.plan("r9")


def test_second_run_on_the_same_node_is_told_who_holds_it(journal: Journal) -> None:
    """All or nothing: nothing of the second run stays; after the first is closed it may begin."""
    make_run(journal, resources=("cluster:seoul", "node:a"))
    since = journal.events("r1")[0].at
    with pytest.raises(Reserved) as refused:
        make_run(journal, "r2", resources=("node:b", "node:a"))
    assert (refused.value.data["run"], refused.value.data["resource"]) == ("r1", "node:a")
    assert abs((refused.value.data["since"] - since).total_seconds()) < 0.001
    assert f"{since:%Y-%m-%d %H:%M:%S}" in str(refused.value)
    assert "runs cancel r1" in refused.value.remedy()
    assert [run.run for run in journal.runs()] == ["r1"]
    assert journal.read(reservations) == {"cluster:seoul": "r1", "node:a": "r1"}
    assert journal.write(lambda tx: close_run(tx, "r1", "cancelled"))
    make_run(journal, "r2", resources=("node:b", "node:a"))
    assert journal.read(reservations) == {"node:a": "r2", "node:b": "r2"}


def test_reading_run_holds_nothing(journal: Journal) -> None:
    """A survey runs beside a renewal."""
    make_run(journal, resources=("node:a",))
    make_run(journal, "r2")
    assert journal.read(reservations) == {"node:a": "r1"}


def test_run_is_closed_once(journal: Journal) -> None:
    """The first outcome stands; what it held is let go and named."""
    make_run(journal, resources=("node:a",))
    closed = [
        journal.write(lambda tx: close_run(tx, "r1", "done")),
        journal.write(lambda tx: close_run(tx, "r1", "failed")),
    ]
    state = journal.state("r1")
    assert closed == [True, False]
    assert (state.outcome, state.closed_at) == ("done", journal.runs()[0].closed_at)
    assert journal.events("r1")[-1].data == {"outcome": "done", "released": ["node:a"]}
    assert journal.write(lambda tx: release(tx, "r1")) == ()


def test_runs_are_listed_newest_first_by_page(journal: Journal) -> None:
    """Limit and offset cut the list."""
    for number in range(4):
        make_run(journal, f"r{number}")
        journal.write(
            lambda tx: tx.connection.execute(sa.update(tables.run).values(created_at=tables.run.c.created_at - 1))
        )
    assert [run.run for run in journal.runs(limit=2)] == ["r3", "r2"]
    assert [run.run for run in journal.runs(limit=2, offset=2)] == ["r1", "r0"]


# ── outbox ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_outbox_gives_what_is_due_oldest_first(journal: Journal) -> None:
    """Rows of the future and sent rows are left out; the limit is kept; reading and writing readers agree."""
    ids = [journal.write(lambda tx, n=n: outbox.add(tx, "advance", "r1", f"l{n}", {"n": n})) for n in range(4)]
    journal.write(lambda tx: outbox.add(tx, "advance", "r1", "later", after_s=3600))
    assert journal.write(lambda tx: outbox.sent(tx, ids[0]))
    due = journal.write(lambda tx: outbox.due(tx, limit=2))
    assert [(row.id, row.lane, row.data) for row in due] == [(ids[1], "l1", {"n": 1}), (ids[2], "l2", {"n": 2})]
    assert [row.lane for row in journal.read(outbox.pending)] == ["l1", "l2", "l3"]


# ── stock ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_blob_is_kept_once_under_its_digest(journal: Journal) -> None:
    """Any bytes come back; a blob that was changed in the database is not handed out."""
    content = bytes(range(256))
    first, second = (journal.write(lambda tx: stock.put_blob(tx, "csr", content)) for _ in range(2))
    assert first == second == hashlib.sha256(content).hexdigest()
    assert journal.read(lambda connection: stock.get_blob(connection, first)) == content
    with pytest.raises(JournalError, match="no blob"):
        journal.read(lambda connection: stock.get_blob(connection, "0" * 64))
    journal.write(lambda tx: tx.connection.execute(sa.update(tables.blob).values(content=b"other")))
    with pytest.raises(JournalError, match="was changed"):
        journal.read(lambda connection: stock.get_blob(connection, first))


def test_latest_facts_of_each_node_are_found(journal: Journal) -> None:
    """Two surveys of a: the later counts. Equal facts have equal digests. The event holds the digest only."""
    make_run(journal)
    old = journal.write(lambda tx: stock.put_facts(tx, "a", {"release": "3.8"}))
    new = journal.write(lambda tx: stock.put_facts(tx, "a", {"release": "3.9"}, run="r1"))
    other = journal.write(lambda tx: stock.put_facts(tx, "b", {"release": "3.8"}))
    found = journal.read(lambda connection: stock.latest_facts(connection, ["a", "b", "never surveyed"]))
    event = journal.events("r1")[-1]
    assert {node: (digest, facts) for node, (digest, _, facts) in found.items()} == {
        "a": (new, {"release": "3.9"}),
        "b": (other, {"release": "3.8"}),
    }
    assert old == other != new
    assert (event.kind, event.node, event.data, event.at) == (Kind.FACTS_RECORDED, "a", {"digest": new}, found["a"][1])
    assert journal.read(lambda connection: stock.latest_facts(connection, [])) == {}


def test_changed_host_key_is_pinned_only_on_request(journal: Journal) -> None:
    """Same key: nothing happens, but a person's check is noted. Another key: refused, unless replaced on purpose."""

    def pinned(key: str, *, verified: bool = False, replace: bool = False) -> bool:
        return journal.write(
            lambda tx: stock.pin(tx, "127.0.0.1", 2222, key, "ann", verified=verified, replace=replace)
        )

    made = [pinned("k1"), pinned("k1"), pinned("k1", verified=True), pinned("k1")]
    with pytest.raises(HostKeyChanged):
        pinned("k2")
    held = journal.read(stock.pins)[("127.0.0.1", 2222)]
    assert made == [True, False, True, False]
    assert (held.key, held.verified, held.pinned_by) == ("k1", True, "ann")
    assert pinned("k2", replace=True)
    assert journal.read(stock.pins)[("127.0.0.1", 2222)].key == "k2"
    assert [event.data["replaced"] for event in journal.events(FLEET)] == ["", "k1", "k1"]


def test_refused_credential_rests_until_woken(journal: Journal) -> None:
    """Resting and waking are noted once each."""
    moves = [
        journal.write(lambda tx: stock.rest_credential(tx, "cms", "refused by a")),
        journal.write(lambda tx: stock.rest_credential(tx, "cms", "refused by b")),
    ]
    rests = journal.read(stock.resting)
    moves += [journal.write(lambda tx: stock.wake_credential(tx, "cms", "ann")) for _ in range(2)]
    assert moves == [True, False, True, False]
    assert (rests, journal.read(stock.resting)) == ({"cms": "refused by a"}, {})
    assert [event.kind for event in journal.events(FLEET)] == [Kind.CREDENTIAL_REFUSED, Kind.CREDENTIAL_WOKEN]


def test_sealed_key_is_dropped_when_it_is_no_longer_needed(journal: Journal) -> None:
    """Ciphertext in, the same out, then gone; no event speaks of it."""
    journal.write(lambda tx: stock.seal(tx, "w1", b"\x00one"))
    journal.write(lambda tx: stock.seal(tx, "w1", b"\x00two"))
    assert journal.read(lambda connection: stock.sealed(connection, "w1")) == b"\x00two"
    assert [journal.write(lambda tx: stock.unseal_drop(tx, "w1")) for _ in range(2)] == [True, False]
    assert journal.read(lambda connection: stock.sealed(connection, "w1")) is None


def test_keys_of_a_closed_run_are_dropped_and_its_backups_stay(journal: Journal) -> None:
    """Only the private keys of that very run go; a name with a wildcard character in it drops no others."""
    rows = ("r_1/seoul/web.key", "r_1/seoul/web.csr", "r_1/a1/certbridge-1.bak", "rx1/seoul/web.key")
    for row in rows:
        journal.write(lambda tx, row=row: stock.seal(tx, row, b"sealed"))
    assert journal.write(lambda tx: stock.drop_sealed_of(tx, "r_1")) == 2
    left = [row for row in rows if journal.read(lambda connection, row=row: stock.sealed(connection, row)) is not None]
    assert left == ["r_1/a1/certbridge-1.bak", "rx1/seoul/web.key"]
    assert journal.events(FLEET) == []


def test_worker_that_fell_silent_is_no_longer_listed(journal: Journal) -> None:
    """Heartbeats are judged by the database's clock."""
    for name in ("w1", "w2"):
        journal.write(lambda tx, name=name: stock.beat(tx, name, ["fleet"], {"pid": 1}))
    silent = sa.update(tables.worker).where(tables.worker.c.worker == "w1").values(seen_at=tables.clock() - 31)
    journal.write(lambda tx: tx.connection.execute(silent))
    journal.write(lambda tx: stock.beat(tx, "w2", ["fleet", "cluster"], {"pid": 2}))
    (alive,) = journal.read(lambda connection: stock.workers(connection, 30))
    assert (alive.worker, alive.queues, alive.info) == ("w2", ("fleet", "cluster"), {"pid": 2})


def test_worker_that_left_is_not_listed_at_once(journal: Journal) -> None:
    """Who ends in order is forgotten then, and not when its last heartbeat has grown old; nobody else is."""
    for name in ("w1", "w2"):
        journal.write(lambda tx, name=name: stock.beat(tx, name, ["fleet"], {"pid": 1}))
    journal.write(lambda tx: stock.leave(tx, "w1"))
    assert [one.worker for one in journal.read(lambda connection: stock.workers(connection, 30))] == ["w2"]
