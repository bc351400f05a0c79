"""What a journal row costs when many threads write: grouped by one writer, against each committing for itself.

    python bench/journal.py [--url URL] [--threads 64] [--each 20]

Prints the median and 99th percentile of one append, seconds in all, and how many times faster the group is. Without
--url a SQLite file in a temporary folder is used; with a PostgreSQL URL the database must be empty or a journal.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from workflows.journal import FLEET, Journal, Kind, NewEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Times of single appends in seconds, sorted, and of all together."""

    each_s: tuple[float, ...]
    all_s: float

    def percentile(self, percent: float) -> float:
        """Return the time in seconds that *percent* of the appends did not exceed."""
        return self.each_s[min(len(self.each_s) - 1, int(len(self.each_s) * percent / 100))]

    def line(self, name: str) -> str:
        """Return one line of the table."""
        p50, p99 = self.percentile(50) * 1000, self.percentile(99) * 1000
        rate = len(self.each_s) / self.all_s
        return f"{name:<22} p50 {p50:8.1f} ms   p99 {p99:8.1f} ms   {rate:8.0f} rows/s   {self.all_s:6.2f} s"


def measure(journals: Sequence[Journal], each: int) -> Measured:
    """Let one thread per entry of *journals* append *each* events, all starting at once."""
    start = threading.Barrier(len(journals) + 1)

    def write(journal: Journal) -> list[float]:
        start.wait()
        return [timed(lambda: journal.append(NewEvent(run=FLEET, kind=Kind.NOTE))) for _ in range(each)]

    with ThreadPoolExecutor(len(journals)) as pool:
        futures = [pool.submit(write, journal) for journal in journals]
        start.wait()
        all_s = timed(lambda: [future.result() for future in futures])
    return Measured(each_s=tuple(sorted(one for future in futures for one in future.result())), all_s=all_s)


def timed(function: Callable[[], object]) -> float:
    """Return how long *function* took, in seconds."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def compare(url: str, threads: int, each: int) -> tuple[Measured, Measured]:
    """Return (grouped, each for itself): one shared journal, against one journal (connection, writer) per thread."""
    with Journal.open(url) as shared:
        measure([shared] * threads, 1)
        grouped = measure([shared] * threads, each)
    with ExitStack() as stack:
        own = [stack.enter_context(Journal.open(url, retry_for_s=300)) for _ in range(threads)]
        alone = measure(own, each)
    return grouped, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="", help="database; default: SQLite in a temporary folder")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--each", type=int, default=20, help="events per thread")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        grouped, alone = compare(asked.url or f"sqlite:///{folder}/journal.db", asked.threads, asked.each)
    print(f"{asked.threads} threads, {asked.each} appends each")
    print(grouped.line("one writer, grouped"))
    print(alone.line("each for itself"))
    p99 = alone.percentile(99) / grouped.percentile(99)
    print(f"grouped is {alone.all_s / grouped.all_s:.1f} times faster in all, {p99:.1f} times at p99")


if __name__ == "__main__":
    main()
