"""Programs of this state that run without their supervisor, as after a `kill -9` of supervisord alone.

They go on working: a worker takes tasks, the broker answers. But nobody restarts them, and supervisord's socket is
gone, so they must be found otherwise. Each program that supervisord starts carries its own name and our state folder in
its environment, which the kernel shows to its owner; a number in a file could be that of another program by now.
Valkey and Redis write over their environment, so the broker is asked for its number at its socket.
Where there is no /proc, only the broker is found. Workers started by systemd or by hand are not ours to stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workers import embedded, processes, programs
from workflows.broker import socket_path
from workflows.settings import Settings

_PROC = Path("/proc")
_LOOK_AGAIN_S = 0.05
_TELL_AFTER_S = 2.0
_BROKER = "broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A program without its supervisor; *holder* is its name in `workers.processes`."""

    name: str
    group: str
    pid: int
    holder: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    def is_gone(self) -> bool:
        """Return whether it has ended; its number may have been given away since."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return processes.is_gone(self.holder)


def find(settings: Settings) -> tuple[Stray, ...]:
    """Return the programs of this state that a supervisor has started, the broker last: so they are to be stopped.

    Ask only when no supervisor is up: its own programs look just the same.
    """
    found = {one.pid: one for one in _of_state(settings.state)}
    listen = socket_path(settings.state)
    broker = embedded.process_id(listen)
    if broker is not None and broker not in found:
        found[broker] = Stray(name=_BROKER, group=_BROKER, pid=broker, holder=processes.name_of(broker))
    last = {group: -place for place, group in enumerate(programs.GROUPS)}
    return tuple(sorted(found.values(), key=lambda one: (last[one.group], one.name)))


def told(strays: tuple[Stray, ...]) -> str:
    """Return the sentence about them, e.g. "these programs run without their supervisor: beat (process 12)"."""
    what = "this program runs" if len(strays) == 1 else "these programs run"
    return f"{what} without {'its' if len(strays) == 1 else 'their'} supervisor: {', '.join(map(str, strays))}"


def stop(strays: tuple[Stray, ...], say: Callable[[str], None]) -> None:
    """End *strays* group by group by TERM, and wait; who has not ended after `STOP_WITHIN_S` is killed."""
    for group in reversed(programs.GROUPS):
        members = [one for one in strays if one.group == group]
        for one in members:
            _send(one, signal.SIGTERM)
        began, said = time.monotonic(), False
        while left := [one for one in members if not one.is_gone()]:
            waited = time.monotonic() - began
            if not said and waited > _TELL_AFTER_S:
                say(f"Waiting for {', '.join(one.name for one in left)} to end.")
                said = True
            if waited > programs.STOP_WITHIN_S:
                for one in left:
                    _send(one, signal.SIGKILL)
            time.sleep(_LOOK_AGAIN_S)


def _send(stray: Stray, number: signal.Signals) -> None:
    if not stray.is_gone():
        with contextlib.suppress(ProcessLookupError):
            os.kill(stray.pid, number)


def _of_state(state: Path) -> Iterator[Stray]:
    """Yield every process of this account that a supervisor of *state* has started."""
    for folder in _PROC.glob("[0-9]*"):
        holder = processes.name_of(int(folder.name))  # before we look: should the number change hands, it is gone
        environment = _environment(folder)
        group = environment.get("SUPERVISOR_GROUP_NAME", "")
        if group in programs.GROUPS and _same(environment.get("CERTBRIDGE_STATE", ""), state):
            name = environment.get("SUPERVISOR_PROCESS_NAME", group)
            stray = Stray(name=name, group=group, pid=int(folder.name), holder=holder)
            if not stray.is_gone():
                yield stray


def _environment(folder: Path) -> dict[str, str]:
    try:
        if folder.stat().st_uid != os.geteuid():
            return {}
        text = (folder / "environ").read_bytes()
    except OSError:  # it has ended, or is not ours
        return {}
    pairs = (os.fsdecode(each).partition("=") for each in text.split(b"\0") if each)
    return {name: value for name, _, value in pairs}


def _same(text: str, state: Path) -> bool:
    return bool(text) and os.path.realpath(text) == os.path.realpath(state)
