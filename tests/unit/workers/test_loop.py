"""The loop thread: coroutines from other threads, and a clean end."""

import asyncio
import contextlib
import threading

import pytest

from workers.loop import LoopThread


@pytest.fixture
def loop():
    """Give a running loop thread."""
    thread = LoopThread()
    thread.start()
    thread.start()  # a second start does nothing
    yield thread
    thread.stop()
    thread.stop()


def test_call_gives_the_result_from_the_other_thread(loop):
    """The coroutine runs on the loop's own thread."""

    async def where():
        return threading.current_thread().name

    assert (loop.call(where()), threading.current_thread().name == "sessions") == ("sessions", False)


def test_call_raises_the_error_of_the_coroutine(loop):
    """Errors come to the caller as they are."""

    async def fail():
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        loop.call(fail())


def test_run_returns_at_once(loop):
    """Many coroutines run side by side."""

    async def work():
        met = asyncio.Barrier(3)

        async def one(number):
            await met.wait()
            return number

        return await asyncio.gather(*(one(number) for number in range(3)))

    futures = [loop.run(work()) for _ in range(3)]
    assert [future.result(5) for future in futures] == [[0, 1, 2]] * 3


def test_context_manager_is_entered_and_left_on_the_loop(loop):
    """`entered` makes an asynchronous context manager usable from a task's thread, errors included."""
    seen = []

    @contextlib.asynccontextmanager
    async def manager():
        seen.append("in")
        try:
            yield "value"
        except LookupError:
            seen.append("error")
            raise
        finally:
            seen.append("out")

    with loop.entered(manager()) as value:
        seen.append(value)
    with pytest.raises(LookupError), loop.entered(manager()):
        raise LookupError
    assert seen == ["in", "value", "out", "in", "error", "out"]


def test_stop_cancels_what_still_runs():
    """Nothing is left running when a worker ends."""
    loop = LoopThread()
    loop.start()
    ended = threading.Event()

    async def for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    loop.run(for_ever())
    loop.call(asyncio.sleep(0))
    loop.stop()
    assert ended.is_set()


def test_loop_that_was_not_started_says_so():
    """A coroutine handed to nobody is an error, not a hang."""
    with pytest.raises(RuntimeError, match="not started"):
        LoopThread().call(asyncio.sleep(0))
