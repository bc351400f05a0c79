"""Progress on standard error: a bar on a terminal, one line for each thing done elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from api.cli.output import console, note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Counts to *total*; a context manager. `done` is told each thing once it is over, with a word on it."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._bar: Bar | None = None
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console(sys.stderr), transient=True)
            self._bar.start()
            self._bar.add_task(self._what, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def done(self, name: str, word: str = "done") -> None:
        """Count *name*, the first time that it is told."""
        if name in self._seen:
            return
        self._seen.add(name)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=len(self._seen))
        else:
            note(f"{self._what}: {len(self._seen)} of {self._total}: {name} {word}")
