"""What the sign-in keeps for the life of the process: the hasher, the counters, what was noted of refusals."""

from __future__ import annotations

from api.auth.passwords import Passwords
from api.auth.refusals import Refusals
from api.auth.throttle import Throttle
from api.here import Server


def passwords(here: Server) -> Passwords:
    """Return the hasher of this process."""
    return here.part("passwords", Passwords)


def throttle(here: Server) -> Throttle:
    """Return the counters of this process."""
    return here.part("throttle", Throttle)


def refusals(here: Server) -> Refusals:
    """Return what this process notes of refused attempts."""
    return here.part("refusals", lambda: Refusals(here.journal))
