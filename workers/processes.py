"""Which process this is, and whether another one on this machine is gone for certain.

A claim names its holder as "host:pid:place-start". A number of a process is used again, and containers may share a host
name, so neither tells anything by itself: *place* stands for this boot of the kernel and its namespaces of process
numbers and time, *start* is the kernel's own tick at which the process began. Only when the place is ours can we say
that a process is gone: the number is free, a zombie's, or belongs to a process that began at another tick.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


def holder() -> str:
    """Return the name under which this process holds claims: "host:pid:place-start"."""
    return name_of(os.getpid())


def name_of(pid: int) -> str:
    """Return the name under which process *pid* of this machine would hold claims."""
    return f"{socket.gethostname()}:{pid}:{place()}-{_start(pid) or 0}"


@cache
def place() -> str:
    """Return what stands for this kernel's boot and our namespaces; "" where /proc does not tell."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        names = [str((_PROC / "self/ns" / name).readlink()) for name in ("pid", "time") if _has(name)]
    except OSError:
        return ""
    return hashlib.sha256("\n".join([boot, *names]).encode()).hexdigest()[:12] if names else ""


def is_gone(name: str) -> bool:
    """Return whether the process that holds claims as *name* is gone for certain; False whenever we cannot know."""
    parts = name.rsplit(":", 2)
    there, _, start = parts[-1].rpartition("-") if len(parts) == 3 else ("", "", "")
    if not there or there != place() or not parts[1].isdigit() or not start.isdigit() or int(start) == 0:
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)  # asks only; a process of another user answers PermissionError, so it is there
    except ProcessLookupError:
        return True
    except OSError:
        pass
    began = _start(pid)
    return _is_dead(pid) if began in {None, int(start)} else True


def _has(namespace: str) -> bool:
    return os.path.lexists(_PROC / "self/ns" / namespace)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def _start(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 and fields[19].isdigit() else None


def _is_dead(pid: int) -> bool:
    """Return whether *pid* is a zombie: it runs nothing any more, only nobody has asked for its exit code."""
    fields = _stat(pid)
    if not fields or fields[0] not in {"Z", "X"}:
        return False
    with contextlib.suppress(OSError):
        return len(list((_PROC / str(pid) / "task").iterdir())) <= 1
    return False
