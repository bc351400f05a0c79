"""The runbook file of each database run: written anew whenever its journal moved, above all before a line is sent.

`runbooks/<run>.md` in the state folder, for its owner alone. It is replaced as a whole, never by an older one (the
number of the journal's last event stands in it), and it never makes a step fail: a full disk is a warning in the log.
Steps write it at their claim, at each line and at their end; what people decide is seen by the control worker, which
looks once a second. What it says is made in `workflows.runbook`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import structlog

from workflows.errors import words_of
from workflows.journal import tables
from workflows.journal.store import Journal
from workflows.plan import DATABASE, Plan
from workflows.runbook import event_number, render
from workflows.settings import Settings

log = structlog.get_logger()

PATIENCE_S = 5.0
"""How long a step waits for its runbook: a disk that hangs must not hold up a cluster that is taken apart."""

LOOK_S = 1.0
"""How often the control worker looks whether the journal of a database run moved."""

_CLOSED_S = 3600.0
"""Runs closed within so many seconds are still looked at, so that the last event is in the file."""


def file_of(settings: Settings, run: str) -> Path:
    """Return where the runbook of *run* stands."""
    return settings.runbooks_dir / f"{run}.md"


def keep(settings: Settings, journal: Journal, plan: Plan, run: str) -> bool:
    """Write the runbook of *run* as the journal has it now; nothing for other kinds of runs. Never raises.

    Returns whether the file is now as new as the journal was.
    """
    if plan.kind != DATABASE:
        return True
    try:
        file = file_of(settings, run)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(file):
            state = journal.state(run)
            if state.n > _number(file):
                _replace(file, render(plan, state, now=datetime.now(UTC)).encode())
    except Exception as error:  # noqa: BLE001 - whatever it is, the step matters more than its runbook
        log.warning("runbook_not_written", run=run, error=words_of(error))
        return False
    return True


async def keep_in_time(settings: Settings, journal: Journal, plan: Plan, run: str) -> None:
    """Write it from the loop, and go on without it after a while. Never raises."""
    if plan.kind != DATABASE:
        return
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(keep, settings, journal, plan, run)
    except TimeoutError:
        log.warning("runbook_not_written", run=run, error=f"not within {PATIENCE_S:g} s")


class Watch:
    """The control worker's look at database runs whose journal moved without a step: gates, stops, people."""

    def __init__(self, settings: Settings, journal: Journal, plan_of: Callable[[str], Plan]) -> None:
        self._settings = settings
        self._journal = journal
        self._plan_of = plan_of
        self._seen: dict[str, int] = {}
        self._next_at = 0.0
        self._looking = threading.Lock()

    def look(self) -> None:
        """Write the runbooks that are behind, at most once a second and never twice at once. Never raises."""
        if time.monotonic() < self._next_at or not self._looking.acquire(blocking=False):
            return
        try:
            self._next_at = time.monotonic() + LOOK_S
            self._keep_moved()
        except Exception as error:  # noqa: BLE001 - a database that is away comes back, and then it is looked at again
            log.warning("runbooks_not_looked_at", error=words_of(error))
        finally:
            self._looking.release()

    def _keep_moved(self) -> None:
        heads = self._journal.read(_heads)
        self._seen = {run: number for run, number in self._seen.items() if run in heads}
        for run, head in heads.items():
            moved = self._seen.get(run) != head
            if moved and keep(self._settings, self._journal, self._plan_of(run), run):
                self._seen[run] = head


def _heads(connection: sa.Connection) -> dict[str, int]:
    """Return {database run: number of its last event} of open runs and those that were closed just now."""
    run, chain = tables.run, tables.chain
    recent = sa.or_(run.c.outcome == "open", run.c.closed_at > tables.clock() - _CLOSED_S)
    query = sa.select(run.c.run, chain.c.head_n).join(chain, chain.c.run == run.c.run)
    return {row.run: row.head_n for row in connection.execute(query.where(run.c.kind == DATABASE, recent))}


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keep the workers' processes and threads from writing *file* at once."""
    descriptor = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _number(file: Path) -> int:
    try:
        return event_number(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0


def _replace(file: Path, data: bytes) -> None:
    """Put *data* in the place of *file*, so that a reader finds the old text or the new one, never a part."""
    fresh = file.with_name(f".{file.name}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        fresh.replace(file)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
