"""Slowing down who guesses: the more attempts failed, the longer the wait (ASVS 5.0, 6.3.1).

Counted for an account from one address, and for an address, never for an account alone: else anybody could lock
anybody out. The counters live in this process; a restart forgets them, and a restart cannot be caused from outside.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Sequence

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from workflows.errors import TooMany

PER_ACCOUNT = "5 per 1 minute; 10 per 10 minutes; 20 per 1 hour; 40 per 1 day"
"""Guesses at one account from one address: after 5 a minute's wait, after 10 ten minutes', and so on."""
PER_ADDRESS = "30 per 1 minute; 100 per 10 minutes; 300 per 1 hour"
"""Attempts of one address at whatever accounts, invitations and tokens; an office may share one."""


class Throttle:
    """The counters of one process."""

    def __init__(self, per_account: str = PER_ACCOUNT, per_address: str = PER_ADDRESS) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_account = _rates(per_account)
        self._per_address = _rates(per_address)

    def attempt(self, what: str, address: str, account: str = "") -> None:
        """Count an attempt at *what* before it is looked at. Raises: TooMany, with `retry_after_s`.

        Counted first and not after it failed: a thousand at once would all have been let through.
        """
        net = network(address)
        self._count(self._per_address, what, net)
        if account:
            self._count(self._per_account, what, net, account)

    def succeeded(self, what: str, address: str, account: str) -> None:
        """Forget the attempts at *account* from *address*."""
        for rate in self._per_account:
            self._limiter.clear(rate, what, network(address), account)

    def _count(self, rates: Sequence[RateLimitItem], *key: str) -> None:
        # All are counted; the longest wait is told.
        over = [rate for rate in rates if not self._limiter.hit(rate, *key)]
        if over:
            until = max(self._limiter.get_window_stats(rate, *key).reset_time for rate in over)
            wait = max(1, math.ceil(until - time.time()))
            raise TooMany("Too many attempts.", remedy=f"Try again in {_told(wait)}.", retry_after_s=wait)


def network(address: str) -> str:
    """Return what counts as one address: an IPv6 customer has a whole /64 to come from."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "elsewhere"
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _rates(text: str) -> tuple[RateLimitItem, ...]:
    return tuple(parse_many(text))


def _told(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
