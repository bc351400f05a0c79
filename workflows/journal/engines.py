"""Engines: how we connect to SQLite and PostgreSQL, and which database errors only mean "try again".

Each process has two: one connection that writes, and a small pool that can only read. In both databases one writer is
at work at a time: SQLite by BEGIN IMMEDIATE, PostgreSQL by one advisory lock per transaction. A run's events form one
chain, so its writers queue anyway; queueing them all makes deadlocks impossible, and lets a retry after a lost commit
know that the lost one is over (engine-notes section 4.2 warns of *session* locks; this one ends with the transaction).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from workflows.errors import SettingsError

BUSY_S = 20
"""How long a writer waits for another process's writer."""

_ONE_WRITER = 0x63657274
"""Number of the advisory lock ("cert" in ASCII)."""

# An error of the database must not repeat the values that were written: they may be digests of secrets. The driver's
# own words repeat them, too, see `_quiet`.
_QUIET: dict[str, Any] = {"hide_parameters": True}

_TRANSIENT = frozenset(
    {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock not available
        "57014",  # statement timeout
        "25P03",  # idle in transaction for too long
        "57P01",  # the server is stopped by its administrator
        "57P02",  # the server crashed
        "57P03",  # the server is starting
        "53300",  # too many connections
    }
)


def parse(url: str) -> sa.URL:
    """Return *url* with the driver we use. Raises: SettingsError: neither a SQLite file nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        raise SettingsError(
            "The database URL cannot be read.", remedy="Write sqlite:////path/journal.db or postgresql://host/name."
        ) from None
    kind = parsed.get_backend_name()
    if kind in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite+pysqlite")
    raise SettingsError(
        f"The journal cannot live in {parsed.render_as_string(hide_password=True)}.",
        remedy="Write sqlite:////path/journal.db or postgresql://host/name.",
    )


def writing(url: sa.URL) -> sa.Engine:
    """Return the engine of the one writing connection; each transaction begins with the lock on writing."""
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, pool_size=1, max_overflow=0, connect_args=_sqlite_arguments(), **_QUIET)
        _begin_with(engine, "BEGIN IMMEDIATE", ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"))
        return engine
    arguments = _postgresql_arguments(read_only=False)
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=arguments, **_QUIET)

    event.listen(engine, "handle_error", _quiet)

    @event.listens_for(engine, "begin")
    def lock(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ONE_WRITER})")

    return engine


def reading(url: sa.URL) -> sa.Engine:
    """Return the engine of the reading connections; what one transaction reads is of one moment."""
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, pool_size=8, max_overflow=24, connect_args=_sqlite_arguments(), **_QUIET)
        _begin_with(engine, "BEGIN", ("query_only=ON",))
        return engine
    engine = sa.create_engine(
        url,
        pool_size=4,
        max_overflow=4,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
        connect_args=_postgresql_arguments(read_only=True),
        **_QUIET,
    )
    event.listen(engine, "handle_error", _quiet)
    return engine


def _quiet(context: sa.ExceptionContext) -> None:
    """Leave the first line of what a server says: behind it stand the row that it did not take, and the statement."""
    if getattr(context.original_exception, "sqlstate", None) is None:
        return
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


def disconnected(error: BaseException) -> bool:
    """Return whether *error* means that the database is gone for now, so that what was sent last may have happened."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    return error.connection_invalidated or (
        isinstance(error.orig, _connection_errors()) and getattr(error.orig, "sqlstate", None) is None
    )


def transient(error: BaseException) -> bool:
    """Return whether the same transaction may well succeed when it is tried again."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.TimeoutError)
    code = getattr(error.orig, "sqlstate", None) or ""
    busy = getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    return busy or code in _TRANSIENT or code.startswith("08") or disconnected(error)


def _connection_errors() -> tuple[type[BaseException], ...]:
    try:
        import psycopg
    except ImportError:  # SQLite alone needs no driver of PostgreSQL
        return ()
    return (psycopg.OperationalError,)


def _sqlite_arguments() -> dict[str, Any]:
    return {"timeout": BUSY_S, "isolation_level": None, "check_same_thread": False}


def _postgresql_arguments(*, read_only: bool) -> dict[str, Any]:
    # A writer that stalls inside a transaction (a stopped process) is thrown out by the server, so that others go on.
    settings = {
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "10s",
        "default_transaction_read_only": "on" if read_only else "off",
        "synchronous_commit": "on",
    }
    return {
        "connect_timeout": 5,
        "application_name": "certbridge",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        # A server that vanished without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


def _begin_with(engine: sa.Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    # Python's sqlite3 begins transactions by rules of its own; we say BEGIN ourselves (isolation_level=None).
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)
