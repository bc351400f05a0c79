"""What all tests share: markers of tests that need another program, loopback only, and what could not be run.

Also where their files lie (in memory, if there is room) and in which order the folders come (the slow ones first).
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

# How long an example takes depends on what else the machine does, so it is never a fault here (`bench/` measures).
hypothesis_settings.register_profile("certbridge", deadline=None)
hypothesis_settings.load_profile("certbridge")

_PROGRAMS = {
    "needs_openssl": ("openssl",),
    "needs_ssh": ("ssh", "sftp"),
    "needs_strace": ("strace",),
    "needs_faketime": ("faketime",),
    "needs_chromium": ("chromium",),
    "needs_axe": ("chromium",),
}
AXE = Path(__file__).parents[1] / ".tools/node_modules/axe-core/axe.min.js"
_REMEDY = "run `make tools` (Debian, as root)"

# Files of slow tests begin first, so that no process is left with a long one at the end while the others are idle.
# What mostly waits stands before what mostly computes. pytest-randomly still shuffles within each of these.
_FIRST = (("chaos",), ("acceptance",), ("integration", "workers_steps"), ("integration",))
_MEMORY = Path("/dev/shm")
_ROOM = 2 * 1024**3  # a run of the whole suite leaves some 50 MB; containers have 64 MB in all, which is too little


def _work_in_memory() -> None:
    """Put all files of the tests into memory: they commit a hundred thousand times, and no test pulls the plug.

    Not where TMPDIR says otherwise, or where there is little room, or where programs may not be started from there.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_MEMORY).free > _ROOM and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(_MEMORY)  # for the processes that tests start
        tempfile.tempdir = None  # to be looked up again


_work_in_memory()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is missing on a person's machine; where the tools are required (CI), fail instead."""
    for marker, programs in _PROGRAMS.items():
        missing = [program for program in programs if shutil.which(program) is None]
        if marker == "needs_axe" and not AXE.is_file():
            missing.append("axe-core")
        if item.get_closest_marker(marker) and missing:
            text = f"needs {', '.join(missing)}: {_REMEDY}"
            if os.environ.get("CERTBRIDGE_TOOLS_REQUIRED"):
                pytest.fail(text)
            pytest.skip(text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow folders first; leave out what is marked `chaos`, unless CERTBRIDGE_CHAOS is set (`longtests`)."""
    items.sort(key=_turn)
    if os.environ.get("CERTBRIDGE_CHAOS"):
        return
    left_out = [item for item in items if item.get_closest_marker("chaos")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("chaos")]


def _turn(item: pytest.Item) -> int:
    parts = item.path.relative_to(Path(__file__).parent).parts
    return next((turn for turn, folders in enumerate(_FIRST) if parts[: len(folders)] == folders), len(_FIRST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count and name the tests that could not be run, wherever they were to run: the reports tell of all processes."""
    not_run = [report.nodeid for report in terminalreporter.stats.get("skipped", ()) if _REMEDY in str(report.longrepr)]
    if not_run:
        terminalreporter.section(f"{len(not_run)} tests were not run for want of a program (make tools)")
        for name in not_run:
            terminalreporter.write_line(name)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test of this process reach anything but this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple):
            host = str(address[0])
            if not (host.startswith("127.") or host in {"::1", "localhost"}):
                raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
