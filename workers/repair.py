"""Find what processes of this machine held that are gone: at each start of a worker, and whenever the clock rings."""

from __future__ import annotations

from functools import partial

import structlog

from workers import processes
from workers.context import Work
from workflows.journal import repair

log = structlog.get_logger()


def let_go_of_the_dead(work: Work) -> tuple[str, ...]:
    """End the leases of processes that are gone for certain, and return the steps they were at."""
    gone = [name for name in work.journal.read(repair.holders) if name != work.holder and processes.is_gone(name)]
    if not gone:
        return ()
    steps = work.journal.write(partial(repair.let_go, gone=gone))
    if steps:
        log.warning("holders_gone", holders=gone, steps=steps)
    return steps
