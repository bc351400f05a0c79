"""Who holds a claim, and whether that process is gone for certain: never guessed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workers import processes


def other(*, pid: int, place: str | None = None, start: int = 1) -> str:
    """Return the holder's name of a process that is told by these numbers."""
    return f"host:{pid}:{processes.place() if place is None else place}-{start}"


@pytest.fixture
def child():
    """Give a process of our own that waits to be told to end."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def name_of(pid: int) -> str:
    """Return the holder's name of a process that runs now."""
    return other(pid=pid, start=processes._start(pid) or 0)


def test_this_process_is_not_gone():
    """Its name is stable, and begins with host and number as people know them."""
    assert processes.holder() == processes.holder()
    assert processes.holder().split(":")[1] == str(os.getpid())
    assert not processes.is_gone(processes.holder())


def test_process_that_runs_is_not_gone_until_it_is_killed(child):
    """A zombie counts as gone: it can do nothing any more."""
    name = name_of(child.pid)
    assert not processes.is_gone(name)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has taken its exit code
    assert processes.is_gone(name)
    child.wait()
    assert processes.is_gone(name)


def test_number_that_another_program_has_now_is_gone(child):
    """The number is used again; the tick at which it began tells them apart."""
    assert processes.is_gone(other(pid=child.pid, start=(processes._start(child.pid) or 0) - 1))


@pytest.mark.parametrize(
    "name",
    [
        "worker-1",
        "host:123",
        "host:4194304",
        other(pid=2**22 + 1, place="another-kernel"),
        other(pid=2**22 + 1, place=""),
        other(pid=2**22 + 1, start=0),
        f"host:x:{processes.place()}-1",
    ],
)
def test_process_of_elsewhere_or_of_an_unknown_name_is_never_called_gone(name):
    """Another machine, another container, or a name of an older release: its lease runs out as before."""
    assert not processes.is_gone(name)


def test_process_that_we_may_not_signal_is_there(monkeypatch, child):
    """Another user's process answers "not permitted": it is there."""

    def kill(_pid: int, _number: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", kill)
        assert not processes.is_gone(name_of(child.pid))


def test_without_proc_nothing_is_known(monkeypatch, tmp_path):
    """No /proc: no place, and so nobody is ever called gone."""
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    processes.place.cache_clear()
    try:
        assert processes.place() == ""
        assert not processes.is_gone(processes.holder())
    finally:
        processes.place.cache_clear()
