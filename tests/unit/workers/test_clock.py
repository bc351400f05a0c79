"""A worker's own clock goes on while its machine sleeps."""

import time
from dataclasses import fields

import pytest

from workers import clock
from workers.context import Work


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux tells how long it was suspended")
def test_suspended_time_counts(monkeypatch):
    """The kernel's clock since boot is asked, not the one that stands still in a suspended machine."""
    told = {time.CLOCK_BOOTTIME: 7200.0, time.CLOCK_MONOTONIC: 60.0}
    monkeypatch.setattr(time, "clock_gettime", told.__getitem__)
    assert clock.elapsed() == 7200.0


def test_clock_goes_on_where_the_kernel_does_not_tell(monkeypatch):
    """Elsewhere the monotonic clock is the best there is."""
    monkeypatch.setattr(clock, "_BOOTTIME", None)
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert clock.elapsed() == 5.0


def test_leases_are_judged_by_it():
    """Every worker process has it, unless a test gives another one."""
    (found,) = [one.default for one in fields(Work) if one.name == "monotonic"]
    assert found is clock.elapsed
