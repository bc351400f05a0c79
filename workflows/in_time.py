"""Runs a coroutine that has a deadline of its own: nothing that it left behind is waited for, not even a resolver.

The system resolves names in a thread that nothing can end. `asyncio.run` waits for such threads before it returns, so
a name server that hangs would hold up whoever called for longer than any deadline inside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
AT_ONCE = 16
"""So many threads of this kind a process has at most, those left behind among them."""
_free = threading.BoundedSemaphore(AT_ONCE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what *work* returns, as soon as it does. Its threads (names, `to_thread`) may go on for themselves."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_LeftBehind())
        return runner.run(work)


class _LeftBehind(ThreadPoolExecutor):
    """Threads, one for each call, unknown to the pool: neither its end nor that of the process waits for them."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call it in a thread of its own. Raises: OSError: too many are under way, as when name servers hang."""
        if not _free.acquire(blocking=False):
            raise OSError("too many names are being looked up")
        answer: Future[T] = Future()

        def call() -> None:
            try:
                if answer.set_running_or_notify_cancel():
                    answer.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever asked hears of it
                answer.set_exception(error)
            finally:
                _free.release()

        try:
            threading.Thread(target=call, name="left-behind", daemon=True).start()
        except BaseException:
            _free.release()
            raise
        return answer
