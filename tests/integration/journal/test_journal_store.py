"""The writer: grouped commits, each caller's failure its own, lost connections, events that nobody can change."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa

from tests.integration.journal.world import make_run
from tests.postgres import Server
from workflows.errors import JournalError, SettingsError, words_of
from workflows.journal import FLEET, Journal, Kind, NewEvent, Transaction, tables


def note(text: str) -> Callable[[Transaction], str]:
    """Return a function that appends a note and returns its text."""

    def write(tx: Transaction) -> str:
        return str(tx.append(NewEvent(run=FLEET, kind=Kind.NOTE, data={"text": text})).data["text"])

    return write


def texts(journal: Journal) -> list[str]:
    """Return the notes in order."""
    return [event.data["text"] for event in journal.events(FLEET)]


def grouped(journal: Journal, *functions: Callable[[Transaction], object]) -> list[Future[object]]:
    """Hand in *functions* while the writer is busy, so that they make one group."""
    busy, go_on = threading.Event(), threading.Event()

    def hold(_tx: Transaction) -> None:
        busy.set()
        assert go_on.wait(10)

    first = journal.submit(hold)
    assert busy.wait(10)
    futures = [journal.submit(function) for function in functions]
    go_on.set()
    first.result(10)
    return futures


def commits(journal: Journal) -> int:
    """Return how many groups this journal has committed."""
    query = sa.select(sa.func.max(tables.writer.c.commits))
    return int(journal.read(lambda connection: connection.execute(query).scalar_one()))


def test_what_waits_is_committed_in_one_transaction(journal: Journal) -> None:
    """50 writers that wait together cost one commit, and each gets its own answer."""
    journal.append(NewEvent(run=FLEET, kind=Kind.NOTE, data={"text": "before"}))
    before = commits(journal)
    futures = grouped(journal, *(note(f"n{number}") for number in range(50)))
    assert [future.result(10) for future in futures] == [f"n{number}" for number in range(50)]
    assert commits(journal) == before + 2  # the one that held the writer, and the group
    assert texts(journal) == ["before", *(f"n{number}" for number in range(50))]


def test_failing_function_spoils_nothing_for_its_neighbours(journal: Journal) -> None:
    """A function that fails after it wrote is undone alone; it alone gets its own exception."""

    def fail(tx: Transaction) -> None:
        note("never")(tx)
        raise KeyError("mine")

    def break_a_rule(tx: Transaction) -> None:
        note("never either")(tx)
        tx.connection.execute(sa.insert(tables.chain).values(run=FLEET, head_n=0, head_hash=""))

    good, bad, worse, last = grouped(journal, note("a"), fail, break_a_rule, note("b"))
    assert (good.result(10), last.result(10)) == ("a", "b")
    with pytest.raises(KeyError, match="mine"):
        bad.result(10)
    with pytest.raises(sa.exc.IntegrityError):
        worse.result(10)
    assert texts(journal) == ["a", "b"]
    assert journal.verify(FLEET) == ()


@pytest.mark.parametrize("name", ["nul \x00", "half a letter \udce9"])
def test_name_that_is_no_text_fails_alone(journal: Journal, name: str) -> None:
    """What a database cannot hold as text is refused at once, and spoils nothing for its neighbours."""
    bad_event = NewEvent(run=FLEET, kind=Kind.NOTE, actor=name)
    good, bad = grouped(journal, note("a"), lambda tx: tx.append(bad_event))
    assert good.result(10) == "a"
    with pytest.raises(JournalError, match="cannot be written"):
        bad.result(10)


def test_run_that_was_undone_leaves_no_chain(journal: Journal) -> None:
    """A function makes a run and then fails; another of the same group makes the same run: one whole chain."""

    def make(tx: Transaction) -> None:
        tx.insert_once(tables.chain, run="r1", head_n=0, head_hash="")
        tx.append(NewEvent(run="r1", kind=Kind.NOTE))

    def make_and_fail(tx: Transaction) -> None:
        make(tx)
        raise KeyError("undone")

    first, late, second = grouped(
        journal, make_and_fail, lambda tx: tx.append(NewEvent(run="r1", kind=Kind.NOTE)), make
    )
    with pytest.raises(KeyError):
        first.result(10)
    with pytest.raises(JournalError, match="no run r1"):
        late.result(10)
    second.result(10)
    assert [event.n for event in journal.events("r1")] == [1]
    assert journal.verify("r1") == ()


def test_answer_comes_only_after_the_commit(url: str, journal: Journal) -> None:
    """What a future has answered, another process already sees."""
    with Journal.open(url) as other:
        for number in range(20):
            journal.write(note(f"n{number}"))
            assert texts(other)[-1] == f"n{number}"


def test_cancelled_future_writes_nothing(journal: Journal) -> None:
    """A caller that gave up before its turn leaves no trace."""
    holding, go_on = threading.Event(), threading.Event()

    def hold(_tx: Transaction) -> None:
        holding.set()
        assert go_on.wait(10)

    journal.submit(hold)
    assert holding.wait(10)
    given_up = journal.submit(note("never"))
    assert given_up.cancel()
    go_on.set()
    journal.write(note("after"))
    assert texts(journal) == ["after"]


def test_writing_from_within_a_writing_function_is_refused(journal: Journal) -> None:
    """It would wait for itself for ever."""
    with pytest.raises(JournalError, match="may not hand in another"):
        journal.write(lambda _tx: journal.write(note("inner")))


def test_close_writes_what_was_handed_in_and_then_refuses(url: str) -> None:
    """Nothing that was accepted is lost at the end; afterwards the journal says that it is closed."""
    journal = Journal.open(url)
    futures = [journal.submit(note(f"n{number}")) for number in range(100)]
    journal.close()
    journal.close()
    assert [future.result(0) for future in futures] == [f"n{number}" for number in range(100)]
    with pytest.raises(JournalError, match="closed"):
        journal.submit(note("late"))


def test_readers_cannot_write(journal: Journal) -> None:
    """The reading connections refuse to change anything."""
    with pytest.raises(JournalError, match="cannot be read or written") as refused:
        journal.read(lambda connection: connection.execute(sa.delete(tables.chain)))
    assert re.search("read-?only", words_of(refused.value))


@pytest.mark.parametrize("verb", ["UPDATE event SET actor = 'eve'", "DELETE FROM event"])
def test_events_cannot_be_changed(journal: Journal, verb: str) -> None:
    """The database itself refuses to change or remove an event."""
    journal.write(note("kept"))
    with pytest.raises(sa.exc.DBAPIError, match="events are never changed"):
        journal.write(lambda tx: tx.connection.exec_driver_sql(verb))
    assert texts(journal) == ["kept"]


def test_events_cannot_be_truncated(postgres_url: str) -> None:
    """PostgreSQL's TRUNCATE is refused as well."""
    with Journal.open(postgres_url) as journal:
        journal.write(note("kept"))
        with pytest.raises(sa.exc.DBAPIError, match="events are never changed"):
            journal.write(lambda tx: tx.connection.exec_driver_sql("TRUNCATE event"))
        assert texts(journal) == ["kept"]


def test_verify_finds_an_edit_and_a_cut_tail(journal: Journal) -> None:
    """Whoever gets past the triggers is found by the chain and its head."""
    make_run(journal)
    whole = journal.verify("r1")
    triggers = {
        "sqlite": ("DROP TRIGGER event_no_update", "DROP TRIGGER event_no_delete"),
        "postgresql": ("ALTER TABLE event DISABLE TRIGGER USER",),
    }

    def tamper(statement: str) -> None:
        def write(tx: Transaction) -> None:
            for trigger in triggers.pop(tx.connection.dialect.name, ()):
                tx.connection.exec_driver_sql(trigger)
            tx.connection.exec_driver_sql(statement)

        journal.write(write)

    tamper("UPDATE event SET actor = 'eve' WHERE run = 'r1' AND n = 1")
    edited = journal.verify("r1")
    tamper("DELETE FROM event WHERE run = 'r1' AND n = 2")
    cut = journal.verify("r1")
    assert whole == ()
    assert edited == ("event 1 was changed",)
    assert cut == ("event 1 was changed", "the chain ends at event 1, but 2 were written")
    assert journal.verify("r9") == ("run r9 has no chain",)


def test_state_is_carried_on_from_the_last_one_read(url: str, journal: Journal) -> None:
    """What another process appended meanwhile is in the next state; an unknown run is an error."""
    make_run(journal)
    before = journal.state("r1")
    with Journal.open(url) as other:
        other.append(NewEvent(run="r1", kind=Kind.LANE_STOPPED, lane="seoul", data={"reason": "x"}))
    after = journal.state("r1")
    assert (before.lanes["seoul"].status, after.lanes["seoul"].status) == ("running", "stopped")
    assert after.n == before.n + 1
    assert journal.events("r1", after=before.n)[0].kind is Kind.LANE_STOPPED
    with pytest.raises(JournalError, match="no run r9"):
        journal.state("r9")
    with pytest.raises(JournalError, match="no run r9"):
        journal.append(NewEvent(run="r9", kind=Kind.NOTE))


def test_cut_connections_are_taken_up_again(postgres_url: str, postgres_server: Server) -> None:
    """An administrator cuts all connections between two writes, and again before a read: nobody notices."""
    name = postgres_url.rsplit("/", 1)[1]
    with Journal.open(postgres_url) as journal:
        for number in range(3):
            postgres_server.terminate_clients(name)
            journal.write(note(f"n{number}"))
            postgres_server.terminate_clients(name)
            assert texts(journal)[-1] == f"n{number}"
        assert journal.verify(FLEET) == ()


def test_connection_cut_inside_a_transaction_repeats_the_whole_group(
    postgres_url: str, postgres_server: Server
) -> None:
    """All functions of the group run again, once each in effect."""
    name = postgres_url.rsplit("/", 1)[1]
    cuts = [name]

    def cut_once(tx: Transaction) -> str:
        if cuts:
            postgres_server.terminate_clients(cuts.pop())
        return note("cut")(tx)

    with Journal.open(postgres_url) as journal:
        futures = grouped(journal, note("a"), cut_once, note("b"))
        assert [future.result(20) for future in futures] == ["a", "cut", "b"]
        assert texts(journal) == ["a", "cut", "b"]


def test_commit_whose_answer_was_lost_is_not_done_twice(postgres_server: Server, postgres_url: str) -> None:
    """The connection dies between the server's commit and its answer (faults.md finding 8): the event is there once."""
    name = postgres_url.rsplit("/", 1)[1]
    with (
        _losing_answers(postgres_server.port) as (port, lose_next_commit),
        Journal.open(postgres_server.url(name, port=port)) as journal,
    ):
        journal.write(note("a"))
        lose_next_commit.set()
        assert journal.write(note("b")) == "b"
        assert not lose_next_commit.is_set()
        journal.write(note("c"))
        assert texts(journal) == ["a", "b", "c"]
        assert journal.verify(FLEET) == ()


def test_group_whose_answer_was_lost_is_never_split(
    postgres_server: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost, then the look whether it landed times out: still nothing is done twice."""
    looks = []
    look = Journal._landed

    def slow_at_first(journal: Journal, connection: sa.Connection) -> bool:
        looks.append(True)
        if len(looks) == 1:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '50ms'")
            connection.exec_driver_sql("SELECT pg_sleep(5)")
        return look(journal, connection)

    monkeypatch.setattr(Journal, "_landed", slow_at_first)
    name = postgres_url.rsplit("/", 1)[1]
    with (
        _losing_answers(postgres_server.port) as (port, lose_next_commit),
        Journal.open(postgres_server.url(name, port=port)) as journal,
    ):

        def lose(tx: Transaction) -> str:
            lose_next_commit.set()
            return note("b")(tx)

        futures = grouped(journal, note("a"), lose)
        assert [future.result(20) for future in futures] == ["a", "b"]
        assert texts(journal) == ["a", "b"]
    assert len(looks) == 2


def test_group_is_split_when_one_of_it_times_out(postgres_url: str) -> None:
    """A function that always runs into the statement timeout fails alone."""

    def slow(tx: Transaction) -> None:
        tx.connection.exec_driver_sql("SET LOCAL statement_timeout = '50ms'")
        tx.connection.exec_driver_sql("SELECT pg_sleep(5)")

    with Journal.open(postgres_url, retry_for_s=0.5) as journal:
        good, bad, last = grouped(journal, note("a"), slow, note("b"))
        assert (good.result(20), last.result(20)) == ("a", "b")
        with pytest.raises(JournalError, match="could not be written") as refused:
            bad.result(20)
        assert "statement timeout" in words_of(refused.value)
        assert texts(journal) == ["a", "b"]


def test_database_that_stays_away_is_an_error_for_every_writer() -> None:
    """Nothing listens there: opening says so."""
    with pytest.raises(JournalError):
        Journal.open(f"postgresql://postgres@127.0.0.1:{_closed_port()}/none")


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "journal.db", "redis://x"])
def test_url_that_is_no_journal_is_refused(bad: str) -> None:
    """The error says which URLs are fine."""
    with pytest.raises(SettingsError) as refused:
        Journal.open(bad)
    assert "sqlite:////path" in refused.value.remedy()


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _losing_answers(server_port: int) -> Iterator[tuple[int, threading.Event]]:
    """Stand between client and server; once the event is set, the next COMMIT's answer is lost, and the connection."""
    lose = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def begin(pump: Callable[..., None], *arguments: object) -> None:
        threads.append(threading.Thread(target=pump, args=arguments))
        threads[-1].start()

    def accept() -> None:
        while client := _accepted(listener):
            server = socket.create_connection(("127.0.0.1", server_port))
            committed = threading.Event()
            begin(_pump_questions, client, server, lose, committed)
            begin(_pump_answers, server, client, lose, committed)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    yield listener.getsockname()[1], lose
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in [acceptor, *threads]:
        thread.join(10)


def _pump_questions(
    client: socket.socket, server: socket.socket, lose: threading.Event, committed: threading.Event
) -> None:
    with suppress(OSError):
        while data := client.recv(65536):
            if lose.is_set() and b"COMMIT" in data:
                committed.set()
            server.sendall(data)
    _end(client, server)


def _pump_answers(
    server: socket.socket, client: socket.socket, lose: threading.Event, committed: threading.Event
) -> None:
    with suppress(OSError):
        while data := server.recv(65536):
            if committed.is_set():
                lose.clear()
                break
            client.sendall(data)
    _end(client, server)


def _end(*connections: socket.socket) -> None:
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def _accepted(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except OSError:
        return None


def test_a_database_that_is_away_is_told_in_the_words_of_its_driver_alone() -> None:
    """One line at the machine itself: what the driver says, without a statement and without a link."""
    with pytest.raises(JournalError) as caught, Journal.open("postgresql://nobody@127.0.0.1:1/nothing"):
        pass
    assert str(caught.value) == "The journal cannot be read or written. (OperationalError)"
    told = words_of(caught.value)
    assert "Connection refused" in told
    assert ("sqlalche.me" in told, "\n" in told) == (False, False)
