"""What is fetched from elsewhere: one at a time, nobody waits, and a failure counts for a while."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.auth.kept import ANEW_S, FAILED_S, FRESH_S, VALID_S, Kept
from workflows.errors import EngineError


class Elsewhere:
    """Gives 1, 2, 3 …; while it is `away` it fails, and with `hold` it answers only once that is set."""

    def __init__(self) -> None:
        self.asked, self.away, self.now = 0, False, 1000.0
        self.hold: threading.Event | None = None
        self.begun = threading.Event()
        self.kept = Kept(self.fetch, clock=lambda: self.now)

    def fetch(self) -> int:
        """Give the next number."""
        self.asked += 1
        self.begun.set()
        if self.hold:
            assert self.hold.wait(20)
        if self.away:
            raise EngineError("it is away", remedy="wait")
        return self.asked


@pytest.fixture
def there() -> Elsewhere:
    return Elsewhere()


def test_it_is_fetched_once_an_hour(there):
    assert [there.kept.get(), there.kept.get()] == [1, 1]
    there.now += FRESH_S
    assert there.kept.get() == 2


def test_it_is_fetched_anew_when_asked_for_but_not_all_the_time(there):
    assert [there.kept.get(), there.kept.get(anew=True)] == [1, 1]
    there.now += ANEW_S
    assert [there.kept.get(), there.kept.get(anew=True)] == [1, 2]


def test_a_failure_counts_for_a_while(there):
    there.away = True
    for _ in range(3):
        with pytest.raises(EngineError, match="it is away"):
            there.kept.get()
    assert there.asked == 1
    there.away = False
    there.now += FAILED_S
    assert there.kept.get() == 2


def test_an_old_value_is_good_enough_while_a_newer_cannot_be_had_but_not_for_ever(there):
    assert there.kept.get() == 1
    there.away = True
    there.now += FRESH_S
    assert [there.kept.get(), there.kept.get()] == [1, 1]
    assert there.asked == 2
    with pytest.raises(EngineError):
        there.kept.get(anew=True)
    there.now += VALID_S - FRESH_S
    with pytest.raises(EngineError):
        there.kept.get()


def test_whoever_comes_while_it_is_being_fetched_does_not_wait(there):
    there.hold = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(there.kept.get)
        assert there.begun.wait(20)
        with pytest.raises(EngineError, match="has not answered yet"):
            there.kept.get()
        there.hold.set()
        assert first.result(20) == 1
    there.hold = threading.Event()
    there.begun.clear()
    there.now += FRESH_S
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(there.kept.get)
        assert there.begun.wait(20)
        assert there.kept.get() == 1, "the old one is good enough meanwhile"
        there.hold.set()
        assert second.result(20) == 2


def test_a_fetch_that_breaks_off_lets_the_next_one_begin(there):
    broken = Kept(lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            broken.get()
