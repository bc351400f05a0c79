"""A clock that stands until a test moves it, in place of the database's own: nothing of the product is patched.

Leases are judged by the database's clock alone (`tables.clock`). SQLite lets a connection bring a `julianday` of its
own; PostgreSQL finds a function `clock_timestamp` in the schema `public` first when the search path says so. Both give
the time that is set here, to every journal of the process (SQLite) or of the database (PostgreSQL).
"""

from __future__ import annotations

import sqlite3

import psycopg
import sqlalchemy as sa

from workflows.journal import Journal, tables

START = 1_800_000_000.0
_JULIAN_1970, _DAY_S = 2440587.5, 86400.0


class VirtualClock:
    """Time by which *journal* judges leases: it stands at `START`, and goes on only by `passes`."""

    def __init__(self, journal: Journal, url: str) -> None:
        self._journal = journal
        self._url = url
        self._set_to = START
        if url.startswith("sqlite"):
            for engine in (journal._writing, journal._reading):
                sa.event.listen(engine, "connect", self._bring)
        else:
            self._replace()
        for engine in (journal._writing, journal._reading):
            engine.dispose()  # what is connected already has the real clock
        self.now = self._read()

    def passes(self, seconds: float) -> float:
        """Let *seconds* pass (none passes otherwise), and return what the database now takes the time to be."""
        self._set_to += seconds
        if not self._url.startswith("sqlite"):
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute("UPDATE virtual_clock SET at = %s", (self._set_to,))
        self.now = self._read()
        return self.now

    def _read(self) -> float:
        # Read back, because Julian days and microseconds round a little.
        return self._journal.read(lambda connection: float(connection.execute(sa.select(tables.clock())).scalar_one()))

    def _bring(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.create_function("julianday", 1, lambda _now: self._set_to / _DAY_S + _JULIAN_1970)

    def _replace(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("CREATE TABLE virtual_clock (at double precision)")
            connection.execute("INSERT INTO virtual_clock VALUES (%s)", (self._set_to,))
            connection.execute(
                "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE"
                " AS 'SELECT to_timestamp(at) FROM public.virtual_clock'"
            )
            name = connection.info.dbname
            connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')  # type: ignore[arg-type]
