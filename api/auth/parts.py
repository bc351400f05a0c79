"""What the sign-in keeps for the life of the process: the hasher, the counters, what was noted of refusals."""

from __future__ import annotations

from api.auth.passwords import Passwords
from api.auth.refusals import Refusals
from api.auth.throttle import Throttle
from api.here import Server
from workflows.journal import Kind


def passwords(here: Server) -> Passwords:
    """Return the hasher of this process."""
    return here.part("passwords", Passwords)


def throttle(here: Server) -> Throttle:
    """Return the counters of this process."""
    return here.part("throttle", Throttle)


def refusals(here: Server) -> Refusals:
    """Return what this process notes of refused attempts to sign in."""
    return here.part("refusals", lambda: Refusals(here.journal))


def accesses(here: Server) -> Refusals:
    """Return what this process notes of people, and of other sites, who may not do what they asked for."""
    return here.part("accesses", lambda: Refusals(here.journal, Kind.ACCESS_REFUSED))
