"""What the demos share: the world they play in, the first chapters, commands that must end well, and asking.

The stories themselves are in `demo` (service certificates) and `demo_database` (a database cluster). Nothing is acted:
every line after "$" is run as shown.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from api.cli.demo_world import World
from api.cli.output import say
from api.cli.surroundings import on_terminal
from workflows.errors import EngineError, InputError, Stopped

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.journal import Journal

WAITS_FOR_PEOPLE = 3
PLAN_LINES = 24
GATE_LINES = 16


class Telling:
    """A demo in chapters; a context manager that takes everything down again. *settings* are the engine's own."""

    def __init__(self, *, ask: bool, keep: bool, **settings: Any) -> None:
        if ask and not on_terminal():
            raise InputError("`--ask` needs a terminal to ask on.", remedy="Leave out `--ask`.")
        self.asks = ask
        self.keeps = keep
        self._settings = settings
        self._began = time.monotonic()
        self.world: World

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGHUP):  # they take everything down as Ctrl-C does
            signal.signal(number, _interrupt)
        self.world = World(keep=self.keeps, **self._settings)
        return self

    def __exit__(self, *error: object) -> None:
        if self.keeps and getattr(error[1], "exit_code", None) == 0:
            self.world.leave_open()
            return
        try:
            say(("Taking everything down again.", "dim"))
            sys.stdout.flush()
        except BrokenPipeError:
            _show_nothing_more()
        self.world.__exit__(*error)

    # ── the first chapters ───────────────────────────────────────────────────────────────────────────────────────────
    def start_engine(self) -> None:
        """Start the engine and trust the host keys of the simulator."""
        world = self.world
        chapter(
            "The engine",
            "A broker, workers, a clock and Flower, all on this machine, with a state directory of the demo's own. "
            "Workers are separate processes; this takes some seconds.",
        )
        world.start_engine()
        _copy_private(world.fleet / "credentials.yaml", world.state / "credentials.yaml")
        chapter(
            "Whom we talk to",
            "No password goes to a server whose host key is not known. Here the keys come from the simulator; on a "
            "real fleet `certbridge trust NODE` shows each fingerprint, and you compare it with the server's own.",
        )
        self.must("trust", "--from", str(world.fleet / "pins.json"))

    # ── what the chapters share ──────────────────────────────────────────────────────────────────────────────────────
    @property
    def plan_file(self) -> Path:
        """Where the plan is kept."""
        return self.world.root / "plan.json"

    @property
    def took_s(self) -> float:
        """How long the demo has taken so far."""
        return time.monotonic() - self._began

    def must(self, *words: str, code: int = 0, shorten_to: int = 0) -> None:
        """Show and run `certbridge words…`. Raises: EngineError: it did not end with *code*. BrokenPipeError."""
        found = self.world.run(*words, shorten_to=shorten_to)
        if found != code:
            say("")
            sys.stdout.flush()  # where nobody reads any more (`demo | head`), that is the reason, and not the command
            raise EngineError(
                f"`certbridge {' '.join(words)}` ended with {found} and not with {code}; the demo cannot go on.",
                remedy="Run the demo with `--keep` and read the logs, then report it.",
            )

    def decide(self, run: str, gate: str, *, show_lines: int = GATE_LINES) -> None:
        """Approve a gate, or let the person at the terminal decide. Raises: EngineError, Stopped."""
        if not self.asks:
            self.must("gates", "show", run, "--gate", gate, shorten_to=show_lines)
            self.must("gates", "approve", run, "--gate", gate, "--yes", shorten_to=GATE_LINES)
        elif self.world.run("gates", "approve", run, "--gate", gate):  # it shows all of it, and asks
            self.must("gates", "reject", run, "--gate", gate, "--reason", "said no in the demo", "--yes")
            raise Stopped("You said no: the run ends here, and nothing more is changed.")

    def start_run(self) -> str:
        """Start the run of the plan, follow it to its first gate, and return its id."""
        self.must("run", str(self.plan_file), "--yes", "--watch", code=WAITS_FOR_PEOPLE)
        with self.journal() as journal:
            return journal.runs(limit=1)[0].run

    def facts(self) -> dict[str, NodeFacts]:
        """Return what the last survey found, node by node."""
        from workflows.facts import NodeFacts
        from workflows.inventory import Fleet
        from workflows.journal import stock

        path = self.world.settings.fleet
        names = [node.name for node in Fleet.from_yaml(path.read_text()).resolved(str(path.parent)).nodes]
        with self.journal() as journal:
            latest = journal.read(partial(stock.latest_facts, nodes=names))
        return {name: NodeFacts.from_json(latest[name][2]) for name in names if name in latest}

    def journal(self) -> Journal:
        """Open the journal of the demo's engine."""
        from workflows.journal import Journal

        return Journal.open(self.world.settings.database_url)


def chapter(title: str, words: str) -> None:
    """Begin a chapter."""
    say("")
    say((f"── {title} ", "bold"))
    say(words)


def agrees(question: str) -> bool:
    """Return whether the person at the terminal says yes. Raises: Stopped: nobody is there."""
    return answer(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def answer(question: str) -> str:
    """Return what the person at the terminal types. Raises: Stopped: nobody is there."""
    try:
        return input(question)
    except EOFError:
        raise Stopped("Nobody answers any more, so the demo ends here.") from None


def _copy_private(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    target.write_bytes(source.read_bytes())


def _show_nothing_more() -> None:
    """Let what is still said go nowhere: whoever read it has gone, and the world must be taken down all the same."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
