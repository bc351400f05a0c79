"""On a terminal: colour, a live tree, questions that can be answered. In a pipe: plain words."""

import os
import pty
import select
import subprocess
import sys
import time

from tests.integration.cli.cli_world import World

COMMAND = (sys.executable, "-c", "from api.cli import main; main()")


def on_terminal(world: World, *words: str, answer: str = "", within_s: float = 60.0) -> tuple[int, str]:
    """Run `certbridge words…` on a terminal of its own; return exit code and all that was painted."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "160"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=world.root, env=environment
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    painted, deadline = b"", time.monotonic() + within_s
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the other side is closed
                break
            if not data:
                break
            painted += data
    os.close(ours)
    return process.wait(10), painted.decode(errors="replace")


def test_tables_have_colour_on_a_terminal_and_none_in_a_pipe(world):
    """The same words, painted or plain."""
    world.at_gate()
    code, painted = on_terminal(world, "runs", "list")
    assert code == 0
    assert "\x1b[" in painted
    assert "waiting" in painted
    assert "\x1b[" not in world.ok("runs", "list")


def test_watch_is_painted_live_and_ends_at_the_gate(world):
    """The live tree goes away, what the run waits for stays; exit 3."""
    world.at_gate()
    code, painted = on_terminal(world, "runs", "watch", "@latest")
    assert code == 3
    assert "waiting on: " in painted


def test_a_question_can_be_answered(world):
    """On a terminal the first lines are shown and a yes starts the run."""
    world.survey()
    world.beat()
    code, painted = on_terminal(world, "run", answer="y\n")
    assert code == 0
    assert "Begin with these lines?" in painted
    assert len(world.journal.runs()) == 1


def test_a_no_ends_with_4(world):
    """A no starts nothing."""
    world.survey()
    world.beat()
    code, painted = on_terminal(world, "run", answer="n\n")
    assert (code, world.journal.runs()) == (4, [])
    assert "You said no, so nothing was done." in painted


def test_survey_has_a_progress_bar(world):
    """On a terminal a bar counts the servers."""
    with world.worker():
        code, painted = on_terminal(world, "survey")
    assert code == 0
    assert "2/2" in painted or "1/2" in painted or "0/2" in painted
