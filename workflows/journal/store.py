"""The journal's shell: one writer thread per process, which commits all that waits in one transaction.

Callers hand in a function of a `Transaction`; each runs in a savepoint of its own inside the group's one transaction,
so a failing one spoils nothing for its neighbours. The futures are answered after the commit. Functions may be run
again when the database asks for it (lost connection, lock), so they must do nothing but read and write through the
transaction. 64 threads that commit for themselves were measured at p99 1 s on SQLite (perf-notes); `bench/journal.py`
shows both.
"""

from __future__ import annotations

import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from workflows.errors import JournalError, RecordsAway, driver_data, translating
from workflows.journal import engines, tables, telling
from workflows.journal.events import Event, Kind, NewEvent, chained, verify
from workflows.journal.fold import RunState, fold

T = TypeVar("T")
_GROUP_MAX = 256
_CLOCK = sa.select(tables.clock())
_KEPT_STATES = 64


class _Group:
    """One transaction of the database, shared by all whose functions run in it: its time, chain heads, new events."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.clock = float(connection.execute(_CLOCK).scalar_one())
        self.heads: dict[str, tuple[int, str]] = {}
        self.events: list[Event] = []

    def head(self, run: str) -> tuple[int, str]:
        """Return number and hash of the last event of *run*. Nobody else writes meanwhile (see `engines`)."""
        if run not in self.heads:
            chain = tables.chain
            query = sa.select(chain.c.head_n, chain.c.head_hash).where(chain.c.run == run)
            head = self.connection.execute(query).one_or_none()
            if head is None:
                raise JournalError(f"There is no run {run} in the journal.", run=run)
            # Not kept here: the chain may be new, and undone with the function that made it.
            return (head.head_n, head.head_hash)
        return self.heads[run]

    def write(self) -> None:
        """Write the events and the new heads."""
        if not self.events:
            return
        self.connection.execute(sa.insert(tables.event), [_values(event) for event in self.events])
        telling.write(self.connection, self.events, self.clock)
        chain, first = tables.chain, {event.run: event for event in reversed(self.events)}
        for run, event in first.items():
            n, head = self.heads[run]
            moved = self.connection.execute(
                sa.update(chain)
                .where(chain.c.run == run, chain.c.head_n == event.n - 1)
                .values(head_n=n, head_hash=head)
            )
            if moved.rowcount != 1:
                raise JournalError(f"Somebody else wrote to the chain of run {run} meanwhile.", run=run)


class Transaction:
    """One caller's share of a group: SQL through `connection`, events through `append`, one moment of the database."""

    def __init__(self, group: _Group) -> None:
        self.connection = group.connection
        self._group = group
        self._heads: dict[str, tuple[int, str]] = {}
        self._events: list[Event] = []

    @property
    def clock(self) -> float:
        """Seconds since 1970 by the database's clock, read when the group began: all that is written has one time."""
        return self._group.clock

    def now(self) -> datetime:
        """Return the database's time, aware UTC."""
        return moment(self.clock)

    def append(self, event: NewEvent) -> Event:
        """Add *event* to the end of its run's chain; the row is written at the end of the group.

        Raises: JournalError: no such run, or a name that is no text in a database.
        """
        n, prev = self._heads.get(event.run) or self._group.head(event.run)
        for name in (event.lane, event.step, event.node, event.actor):
            _check_text(name)
        written = chained(event, n=n + 1, at=self.now(), prev=prev)
        self._heads[event.run] = (written.n, written.hash)
        self._events.append(written)
        return written

    def appended(self) -> tuple[Event, ...]:
        """Return the events of this group so far, which SELECT does not find yet."""
        return (*self._group.events, *self._events)

    def insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        """Return the INSERT that knows ON CONFLICT in this database."""
        return sqlite.insert(table) if self.connection.dialect.name == "sqlite" else postgresql.insert(table)

    def insert_once(self, table: sa.Table, **values: Any) -> bool:
        """Insert the row; False, and nothing done, when its key is there already."""
        statement = self.insert(table).values(**values).on_conflict_do_nothing()
        return self.connection.execute(statement.returning(*table.primary_key.columns)).first() is not None

    def keep(self) -> None:
        """Hand the events on to the group: the caller's function has succeeded. Only the journal calls this."""
        self._group.heads.update(self._heads)
        self._group.events.extend(self._events)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the list of runs; `lanes` maps each lane's name to its flag ("" while it moves)."""

    run: str
    kind: str
    fleet: str
    digest: str
    requested_by: str
    created_at: datetime
    outcome: str
    closed_at: datetime | None
    lanes: Mapping[str, str]
    purpose: str = ""
    """What its plan is for, as `Plan.purpose`: "rollback", "build", …; "" for a plain renewal or survey."""


@dataclass(slots=True, eq=False)
class _Job:
    function: Callable[[Transaction], Any]
    future: Future[Any] = field(default_factory=Future)
    answer: Any = None
    error: BaseException | None = None


class Journal:
    """The journal of this process. Thread-safe; many processes share one database."""

    def __init__(self, url: sa.URL, *, retry_for_s: float = 20.0) -> None:
        self._writing = engines.writing(url)
        self._reading = engines.reading(url)
        self._retry_for_s = retry_for_s
        self._id = uuid.uuid4().hex
        self._commits = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        # Each with the hash of the last event that went into it.
        self._states: dict[str, tuple[RunState, str]] = {}
        self._thread = threading.Thread(target=self._write_on, name="journal-writer", daemon=True)

    @classmethod
    def open(cls, url: str, *, retry_for_s: float = 20.0) -> Self:
        """Open the journal at *url* (sqlite:////path or postgresql://…); brings the schema up to date by itself.

        *retry_for_s*: how long a write is tried again while the database is away.
        Raises: SettingsError: not a URL of a journal. JournalError: cannot be opened, or is newer than this program.
        """
        from workflows.journal.migrations import ensure

        parsed = engines.parse(url)
        journal = cls(parsed, retry_for_s=retry_for_s)
        try:
            with translating({sa.exc.SQLAlchemyError: JournalError}):
                ensure(journal._writing)
        except BaseException:
            journal._dispose()
            raise
        journal._thread.start()
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what was handed in, then let go of the database. May be called twice."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._dispose()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, function: Callable[[Transaction], T]) -> Future[T]:
        """Hand in *function*; the future is answered once its group is committed, or carries its own exception."""
        job = _Job(function)
        with self._closing:
            if self._closed:
                raise JournalError("The journal is closed.")
            self._jobs.put(job)
        return job.future

    def write(self, function: Callable[[Transaction], T]) -> T:
        """Return what *function* returned, after the commit. Raises: what it raised; RecordsAway: not written."""
        if threading.current_thread() is self._thread:
            raise JournalError("A function that writes may not hand in another one and wait for it.")
        return self.submit(function).result()

    def append(self, *events: NewEvent) -> tuple[Event, ...]:
        """Append *events* in one commit and return them as they stand."""
        return self.write(lambda tx: tuple(tx.append(event) for event in events))

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def read(self, function: Callable[[sa.Connection], T]) -> T:
        """Return what *function* reads; all of it is of one moment, and writing is impossible.

        Raises: RecordsAway: the database cannot be read.
        """
        with translating({sa.exc.DBAPIError: RecordsAway, sa.exc.TimeoutError: RecordsAway}):
            try:
                with self._reading.begin() as connection:
                    return function(connection)
            except sa.exc.DBAPIError as error:
                if not engines.transient(error):
                    raise
                with self._reading.begin() as connection:
                    return function(connection)

    def events(self, run: str, after: int = 0) -> list[Event]:
        """Return the events of *run* whose number is greater than *after*, in order."""
        table = tables.event
        query = sa.select(table).where(table.c.run == run, table.c.n > after).order_by(table.c.n)
        return self.read(lambda connection: [event_of(row) for row in connection.execute(query)])

    def events_after(self, run: str, after: int, limit: int) -> list[Event]:
        """Return at most *limit* events of *run* behind number *after*, in order."""
        table = tables.event
        query = sa.select(table).where(table.c.run == run, table.c.n > after).order_by(table.c.n).limit(limit)
        return self.read(lambda connection: [event_of(row) for row in connection.execute(query)])

    def step_events(self, run: str, step: str, node: str) -> list[Event]:
        """Return the events of one step, what put its node back or tried to, reopened steps and resumes, in order."""
        table = tables.event
        back = table.c.kind.in_((Kind.PUT_BACK.value, Kind.ROLLBACK_FAILED.value))
        resumed = table.c.kind.in_((Kind.LANE_RESUMED.value, Kind.STEPS_REOPENED.value))
        mine = sa.or_(table.c.step == step, sa.and_(back, table.c.node == node), resumed)
        query = sa.select(table).where(table.c.run == run, mine).order_by(table.c.n)
        return self.read(lambda connection: [event_of(row) for row in connection.execute(query)])

    def state(self, run: str) -> RunState:
        """Return the state of *run*, folded from its events. Raises: JournalError: no such run."""
        known, last = self._states.get(run, (None, ""))
        events = self.events(run, after=known.n - 1 if known else 0)
        if known and events and events[0].hash == last:
            events = events[1:]
        elif known:  # the database was put back to an older state: what is remembered did not happen there
            known, events = None, self.events(run)
        state = fold(events, onto=known)
        if not state.run:
            raise JournalError(f"There is no run {run} in the journal.", run=run)
        while len(self._states) >= _KEPT_STATES:
            self._states.pop(next(iter(tuple(self._states)), run), None)
        self._states[run] = (state, events[-1].hash if events else last)
        return state

    def runs(self, limit: int = 50, offset: int = 0) -> list[RunSummary]:
        """Return runs, newest first."""
        table, lane = tables.run, tables.lane
        query = sa.select(*SUMMARY).order_by(table.c.created_at.desc(), table.c.run).limit(limit).offset(offset)

        def read(connection: sa.Connection) -> list[RunSummary]:
            rows = connection.execute(query).all()
            flags: dict[str, dict[str, str]] = {row.run: {} for row in rows}
            for one in connection.execute(sa.select(lane).where(lane.c.run.in_(flags)).order_by(lane.c.lane)):
                flags[one.run][one.lane] = one.flag
            return [summary_of(row, flags[row.run]) for row in rows]

        return self.read(read)

    def plan(self, run: str) -> dict[str, Any]:
        """Return the plan of *run* as JSON values. Raises: JournalError: no such run."""
        query = sa.select(tables.run.c.plan).where(tables.run.c.run == run)
        plan: dict[str, Any] | None = self.read(lambda connection: connection.execute(query).scalar_one_or_none())
        if plan is None:
            raise JournalError(f"There is no run {run} in the journal.", run=run)
        return plan

    def verify(self, run: str) -> tuple[str, ...]:
        """Return what is wrong with the chain of *run*: edits, gaps, wrong order, a tail cut off. Empty: all whole."""
        table, chain = tables.event, tables.chain

        def read(connection: sa.Connection) -> tuple[str, ...]:
            rows = connection.execute(sa.select(table).where(table.c.run == run).order_by(table.c.n)).all()
            events = [event_of(row) for row in rows]
            head = connection.execute(sa.select(chain).where(chain.c.run == run)).one_or_none()
            if head is None:
                return (f"run {run} has no chain",)
            last = (events[-1].n, events[-1].hash) if events else (0, "")
            cut = (f"the chain ends at event {last[0]}, but {head.head_n} were written",)
            return verify(events) + (() if last == (head.head_n, head.head_hash) else cut)

        return self.read(read)

    # ── the writer thread ────────────────────────────────────────────────────────────────────────────────────────────
    def _write_on(self) -> None:
        last = False
        while not last:
            waiting = [self._jobs.get()]
            while len(waiting) < _GROUP_MAX and not self._jobs.empty():
                waiting.append(self._jobs.get())
            last = None in waiting
            jobs = [job for job in waiting if job is not None and job.future.set_running_or_notify_cancel()]
            if jobs:
                self._carry_out(jobs)

    def _carry_out(self, jobs: Sequence[_Job]) -> None:
        try:
            self._commit(jobs)
        except BaseException as error:  # noqa: BLE001 (the thread must go on, and the callers must hear of it)
            for job in jobs:
                job.error = _not_written(error)
        for job in jobs:
            if job.error is None:
                job.future.set_result(job.answer)
            else:
                job.future.set_exception(job.error)

    def _commit(self, jobs: Sequence[_Job]) -> None:
        """Commit *jobs* as one group; again when the database asks for it, one by one when one may be the cause."""
        self._commits += 1
        give_up_at = time.monotonic() + self._retry_for_s
        tries, unsure = 0, False
        while True:
            try:
                self._try(jobs, again=tries > 0)
                return
            except sa.exc.SQLAlchemyError as error:
                if not engines.transient(error) or time.monotonic() > give_up_at:
                    raise
                # Once an answer was lost, only the same group may be tried: its number tells whether it landed.
                unsure = unsure or engines.disconnected(error)
                if len(jobs) > 1 and tries and not unsure:
                    for job in jobs:
                        self._carry_alone(job)
                    return
            tries += 1
            time.sleep(min(2.0, 0.02 * 2**tries) * (0.5 + random.random() / 2))  # noqa: S311 (jitter is no secret)

    def _carry_alone(self, job: _Job) -> None:
        try:
            self._commit([job])
        except BaseException as error:  # noqa: BLE001 (each caller hears of its own failure only)
            job.error = _not_written(error)

    def _try(self, jobs: Sequence[_Job], *, again: bool) -> None:
        """Run and commit the group once, unless it turns out that it was committed at an earlier try."""
        with self._writing.begin() as connection:
            if again and self._landed(connection):
                return
            group = _Group(connection)
            for job in jobs:
                _run(group, job)
            group.write()
            self._mark(group)

    def _landed(self, connection: sa.Connection) -> bool:
        # After a commit whose answer was lost (faults.md finding 8). The lock on writing is ours, so that one is over.
        query = sa.select(tables.writer.c.commits).where(tables.writer.c.id == self._id)
        return connection.execute(query).scalar_one_or_none() == self._commits

    def _mark(self, group: _Group) -> None:
        values = {"commits": self._commits, "at": group.clock}
        group.connection.execute(
            Transaction(group)
            .insert(tables.writer)
            .values(id=self._id, **values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )
        if self._commits == 1:
            week_ago = group.clock - 7 * 86400
            group.connection.execute(sa.delete(tables.writer).where(tables.writer.c.at < week_ago))

    def _dispose(self) -> None:
        self._writing.dispose()
        self._reading.dispose()


def moment(seconds: float) -> datetime:
    """Return the aware UTC time of *seconds* since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


# Without the plan: one of 200 servers takes half a second to read.
SUMMARY = tuple(column for column in tables.run.c if column.name != "plan")
"""What `summary_of` wants of a run's row."""


def summary_of(row: Any, lanes: Mapping[str, str]) -> RunSummary:
    """Return the line of a run from its row of the table, with the flags of its *lanes*."""
    return RunSummary(
        run=row.run,
        kind=row.kind,
        fleet=row.fleet,
        digest=row.digest,
        requested_by=row.requested_by,
        created_at=moment(row.created_at),
        outcome=row.outcome,
        closed_at=None if row.closed_at is None else moment(row.closed_at),
        lanes=lanes,
        purpose=row.purpose,
    )


def _run(group: _Group, job: _Job) -> None:
    """Run one function in its savepoint; its own failure stays its own, the database's goes up."""
    job.answer, job.error = None, None
    savepoint = group.connection.begin_nested()
    try:
        transaction = Transaction(group)
        job.answer = job.function(transaction)
        savepoint.commit()
        transaction.keep()
    except BaseException as error:
        if engines.transient(error):
            raise
        savepoint.rollback()
        job.answer, job.error = None, error


def _not_written(error: BaseException) -> BaseException:
    away = isinstance(error, sa.exc.SQLAlchemyError)  # the database's fault; anything else is one of ours
    kind = RecordsAway if away else JournalError
    failure = kind(f"The journal could not be written ({type(error).__name__}).", **driver_data(error))
    failure.__cause__ = error
    return failure


def _check_text(name: str) -> None:
    # One bad name must not spoil the INSERT that all of the group share.
    if "\x00" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise JournalError(f"{name!r} cannot be written into a database.")


def _values(event: Event) -> dict[str, Any]:
    return {
        "run": event.run,
        "n": event.n,
        "kind": event.kind.value,
        "lane": event.lane,
        "step": event.step,
        "node": event.node,
        "actor": event.actor,
        "at": event.at.isoformat(timespec="microseconds"),
        "data": event.data,
        "prev": event.prev,
        "hash": event.hash,
    }


def event_of(row: Any) -> Event:
    """Return the event in a row of the table."""
    return Event(
        run=row.run,
        kind=Kind(row.kind),
        lane=row.lane,
        step=row.step,
        node=row.node,
        actor=row.actor,
        data=row.data,
        n=row.n,
        at=datetime.fromisoformat(row.at),
        prev=row.prev,
        hash=row.hash,
    )
