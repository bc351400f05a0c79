"""Refused attempts in the journal: enough to see an attack, never so many that one fills the disk (ASVS 16.3.1).

One address is noted once a minute and all together sixty times an hour; what was left out is counted in the next one.
"""

from __future__ import annotations

import threading
from functools import partial

import structlog
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from workflows.journal import FLEET, Journal, Transaction
from workflows.journal.events import Kind, NewEvent

PER_ADDRESS, IN_ALL = parse("1 per 1 minute"), parse("60 per 1 hour")


class Refusals:
    """What one process notes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()
        self._left_out = 0

    def note(self, what: str, *, address: str, name: str = "") -> None:
        """Note that *what* was refused; nothing that was typed is handed in here but the name of a known account."""
        with self._lock:
            if not (self._limiter.hit(PER_ADDRESS, what, address) and self._limiter.hit(IN_ALL)):
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        structlog.get_logger().warning("sign_in_refused", what=what, address=address, name=name, left_out=left_out)
        said: dict[str, str | int] = {"what": what, "address": address, "name": name, "left_out": left_out}
        self._journal.submit(partial(_append, said=said))


def _append(tx: Transaction, said: dict[str, str | int]) -> None:
    tx.append(NewEvent(run=FLEET, kind=Kind.SIGN_IN_REFUSED, actor="somebody", data=said))
