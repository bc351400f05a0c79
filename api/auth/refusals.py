"""Refused attempts in the journal: enough to see an attack, never so many that one fills the disk (ASVS 16.3.1).

Attempts to sign in are of one kind; what somebody may not do (16.3.2) and what another site made a browser send
(16.3.3) are of another. Of each sort one network or person is noted once a minute and ten times an hour; all people who
are signed in sixty times an hour, and all strangers as often: who makes noise hides nobody else's refusals. What was
left out is counted in the next one.
"""

from __future__ import annotations

import threading
from functools import partial

import structlog
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from api.auth.throttle import network
from workflows.journal import FLEET, Journal, Transaction
from workflows.journal.events import Kind, NewEvent

PER_ADDRESS, SHARE, IN_ALL = parse("1 per 1 minute"), parse("10 per 1 hour"), parse("60 per 1 hour")
_LONGEST = 200


class Refusals:
    """What one process notes."""

    def __init__(self, journal: Journal, kind: Kind = Kind.SIGN_IN_REFUSED) -> None:
        self._journal, self._kind = journal, kind
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()
        self._left_out = 0

    def note(self, what: str, *, address: str, name: str = "", person: str = "", asked: str = "") -> None:
        """Note that *what* was refused; nothing that was typed is handed in here but the name of a known account.

        *person* is who was signed in, *asked* the method and path of a request. The path is no part of what is counted:
        whoever makes paths up would be noted at each.
        """
        net = network(address)
        # Whoever is signed in has one share from wherever they come. Asked in this order: what is over one's own share
        # takes nothing of the whole.
        sort = (what, "person" if person else "stranger")
        counts = ((PER_ADDRESS, *sort, net, person), (SHARE, *sort, person or net), (IN_ALL, *sort))
        with self._lock:
            if not all(self._limiter.hit(rate, *whose) for rate, *whose in counts):
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        said: dict[str, str | int] = {"what": what, "address": address, "name": name, "left_out": left_out}
        if asked:
            said["asked"] = printable(asked)
        structlog.get_logger().warning(self._kind.value, person=person, **said)
        event = NewEvent(run=FLEET, kind=self._kind, actor=person or "somebody", data=said)
        self._journal.submit(partial(_append, event=event))


def printable(text: str) -> str:
    """Return *text* without what moves a terminal or begins a line of a log (ASVS 16.4.1)."""
    return "".join(one if one.isprintable() else "?" for one in text[:_LONGEST])


def _append(tx: Transaction, event: NewEvent) -> None:
    tx.append(event)
