"""A value that is fetched from elsewhere and kept: one fetch at a time, and never under a lock.

Whoever would wait for a fetch of somebody else is told that it is away, so that one server that hangs holds one thread
and not all. A failure counts for a while: a server that is down is not asked by every request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from workflows.errors import EngineError

T = TypeVar("T")
FRESH_S = 3600.0
"""For so long a value is taken as it is."""
VALID_S = 2 * FRESH_S
"""For so long it is good enough while a newer one cannot be had."""
ANEW_S = 30.0
"""A value that is younger is not fetched anew, whoever asks for that."""
FAILED_S = 15.0
"""For so long nobody asks again after a failure."""


class Kept(Generic[T]):
    """What *fetch* gives, which raises EngineError when it cannot; *clock* gives seconds that only grow."""

    def __init__(self, fetch: Callable[[], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._value: tuple[float, T] | None = None
        self._fetching = False
        self._failed: tuple[float, EngineError] | None = None

    def get(self, *, anew: bool = False) -> T:
        """Return the value; *anew*: not the old one, unless it was fetched just now.

        Raises: EngineError: it cannot be had, could not be had just now, or somebody else is at it.
        """
        with self._lock:
            age = self._clock() - self._value[0] if self._value else VALID_S
            if self._value and age < (ANEW_S if anew else FRESH_S):
                return self._value[1]
            usable = self._value if age < VALID_S and not anew else None
            failed = self._failed if self._failed and self._clock() - self._failed[0] < FAILED_S else None
            if self._fetching or failed:
                return usable[1] if usable else _refuse(failed[1] if failed else None)
            self._fetching = True
        try:
            found = self._fetch()
        except EngineError as error:
            with self._lock:
                self._failed = (self._clock(), error)
            if usable:
                return usable[1]
            raise
        else:
            with self._lock:
                self._value, self._failed = (self._clock(), found), None
            return found
        finally:
            with self._lock:
                self._fetching = False


def _refuse(error: EngineError | None) -> NoReturn:
    # A new one each time: two threads that raise the same object write into each other's traceback.
    if error is None:
        raise EngineError("The sign-in provider is being asked, and has not answered yet.", remedy="Try again shortly.")
    raise EngineError(str(error), remedy=error.remedy())
