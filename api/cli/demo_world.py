"""The world of the demo: a directory of its own with a simulated fleet and a whole engine; nothing stays of it.

Commands are run as the user would type them, each line shown before it runs; so what the demo shows is what happened.
Everything that was started is stopped at the end, after Ctrl-C too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from api.cli.output import say
from workflows.errors import EngineError
from workflows.settings import Settings

_READY_WITHIN_S = 60.0


class World:
    """A simulated fleet and an engine; a context manager. *keep* leaves its directory where it is.

    *more* are settings of the engine that differ from the usual ones.
    """

    def __init__(self, *, keep: bool, **more: Any) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="certbridge-demo-"))
        self.fleet = self.root / "fleet"
        self.state = self.root / "state"
        self._keep = keep
        self._up = False
        self._left = False
        self._background: list[subprocess.Popen[bytes]] = []
        # The user's own settings are for the user's own fleet.
        own = {name: value for name, value in os.environ.items() if not name.startswith("CERTBRIDGE_")}
        ports = _free_ports(2)
        settings = Settings.load(
            {},
            state=self.state,
            fleet=self.fleet / "fleet.yaml",
            flower_port=ports[0],
            api_port=ports[1],
            public_url=f"http://127.0.0.1:{ports[1]}",
            fleet_threads=64,
            **more,
        )
        self.settings = settings
        self.environment = own | settings.environment() | {"CERTBRIDGE_API_URL": "local"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._left:
            return
        try:
            # The servers first: a step that talks to one ends at once then, instead of taking its time.
            for process in self._background:
                _end(process)
            if self._up:
                self.quietly("down")
        finally:
            if self._keep:
                say(f"Kept: {self.root} (look at it with CERTBRIDGE_STATE={self.state})")
            else:
                shutil.rmtree(self.root, ignore_errors=True)

    def leave_open(self) -> None:
        """Say where the pages are, how to sign in, and how to end all of it; nothing is taken down any more.

        The servers are surveyed first, so that the pages show what the demo has made of them.
        """
        if self.quietly("survey"):
            say("The servers could not be surveyed again, so the pages show them as they were before.")
        if self.run("users", "bootstrap"):
            raise EngineError("The first administrator cannot be made.", remedy="Report this.")
        say(f"Open: {self.settings.public_url}/ (sign in by the link above: it makes you the first administrator)")
        here = f"CERTBRIDGE_STATE={self.state} CERTBRIDGE_API_URL=local {called()}"
        say(f"Once you have signed in, more people: {here} users add NAME --role operator (another: approver)")
        ids = " ".join(str(process.pid) for process in self._background)
        say(f"End it: kill {ids}; {here} down; rm -r {self.root}")
        self._left = True

    def start_simulator(self, *words: str) -> None:
        """Start `certbridge simulator` in the background and wait until its fleet answers. Raises: EngineError."""
        line = ["simulator", *words, "--out", str(self.fleet)]
        _show([*line, "&"])
        log = self.root / "simulator.log"
        with log.open("wb") as stream:
            process = self._start(line, stdout=stream, stderr=stream, new_session=True)
        self._background.append(process)
        deadline = time.monotonic() + _READY_WITHIN_S
        while not (self.fleet / "ready").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"The simulator did not start: {log.read_text(errors='replace').strip()[-500:]}")
            time.sleep(0.05)

    def simulated(self, node: str) -> dict[str, Any]:
        """Return what the simulator itself says of the database of *node*, past all command lines.

        Raises: EngineError: it does not answer.
        """
        request = json.dumps({"do": "database", "node": node})
        words = [sys.executable, "-m", "simulator", "control", str(self.fleet), request]
        found = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        if found.returncode:
            raise EngineError(f"The simulator does not answer: {found.stderr.strip()[-300:]}")
        database: dict[str, Any] = json.loads(found.stdout)["database"]
        return database

    def start_engine(self) -> None:
        """Run `certbridge up --detach`. Raises: EngineError."""
        self._up = True
        if self.run("up", "--detach"):
            raise EngineError("The engine did not start.", remedy=f"Read the logs in {self.state / 'logs'}.")

    def run(self, *words: str, shorten_to: int = 0) -> int:
        """Show and run `certbridge words…`; return its exit code.

        *shorten_to* shows so many lines of its result only, and its notes only when it failed: a question that `--yes`
        answered is not worth two pages.
        """
        _show(words)
        if not shorten_to:
            return _wait(self._start(words))
        notes = self.root / "notes.txt"
        with notes.open("wb") as stream:
            process = self._start(words, stdout=subprocess.PIPE, stderr=stream)
        text = (process.stdout.read() if process.stdout else b"").decode(errors="replace")
        if process.stdout:
            process.stdout.close()
        lines = text.splitlines()
        for line in lines[:shorten_to]:
            say(line)
        if len(lines) > shorten_to:
            say((f"… and {len(lines) - shorten_to} more lines", "dim"))
        code = _wait(process)
        if code:
            say(notes.read_text(errors="replace").rstrip())
        return code

    def quietly(self, *words: str) -> int:
        """Run `certbridge words…` without showing anything, out of reach of Ctrl-C; return its exit code."""
        return self._start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, new_session=True).wait()

    def _start(
        self,
        words: Sequence[str],
        *,
        stdout: object = None,
        stderr: object = None,
        new_session: bool = False,
    ) -> subprocess.Popen[bytes]:
        sys.stdout.flush()
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [sys.executable, "-c", "from api.cli import main; main()", *words],
            env=self.environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=new_session,
        )


def called() -> str:
    """Return how `certbridge` is called from here: by its name where that is found, else by its place."""
    program = Path(sys.executable).parent / "certbridge"
    found = shutil.which("certbridge")
    if not program.exists() or (found and Path(found).resolve() == program.resolve()):
        return "certbridge"
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def _show(words: Sequence[str]) -> None:
    say(("$ ", "bold"), (f"certbridge {' '.join(words)}", "bold cyan"))


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command; when we are interrupted, let it end by itself first, so that it can clean up."""
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(number: int) -> list[int]:
    """Return ports that nobody uses; all are held until all are known, so that they differ."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
