"""The clock by which a worker judges how long its own lease still lives: one that also counts while the machine sleeps.

`time.monotonic` of Linux stands still while a machine is suspended or a virtual one is saved. A worker that wakes from
that would believe that no time had passed, and send a line under a lease that another one has taken over long since.
A clock that people set is no way out either: set back, it would make a dead lease look alive.
"""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Return seconds since some fixed moment, never set back; on Linux with the time the machine was suspended."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
