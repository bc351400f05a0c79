"""Make demo.svg: run `certbridge demo` on a terminal of its own, cut its words to a screenful, and paint them.

Nothing is written by hand: every line of the picture was printed by the demo that this program ran. "⋮" stands where
lines were left out. Run it from the top of the tree: `.venv/bin/python docs/images/make_picture.py` (a minute).
"""

# ruff: noqa: INP001 - a program beside the picture that it makes; docs/ is no package

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).with_name("demo.svg")
COLUMNS = 116
# How many lines of each chapter are shown, from its beginning and from its end; a chapter not named is left out.
CHAPTERS = {
    "Survey": (9, 0),
    "Plan": (8, 0),
    "Gate: sign": (10, 3),
    "Gate: go": (7, 2),
    "Apply and prove": (6, 0),
    "Before and after": (14, 4),
}


def record(command: Sequence[str]) -> str:
    """Return what *command* prints on a terminal, colours as ANSI escapes. Raises: RuntimeError: it failed."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "60"}
    # Its results go to the terminal; its progress (standard error) would paint the same line again and again.
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b""))
        trouble = process.stderr.read() if process.stderr else b""
    os.close(ours)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {trouble.decode()[-2000:]}")
    return seen.decode().replace("\r\n", "\n")


def cut(words: str) -> list[Text]:
    """Return the shown lines of CHAPTERS in *words*, wrapped to the width of the picture."""
    chapters: dict[str, list[Text]] = {}
    here: list[Text] = []
    for line in words.split("\n"):
        text = Text.from_ansi(line)
        if text.plain.startswith("── "):
            here = chapters.setdefault(text.plain.removeprefix("── ").strip(), [])
        if text.plain.strip():
            here.extend(text.wrap(Console(width=COLUMNS, file=io.StringIO()), COLUMNS))
    lines: list[Text] = []
    for name, (first, last) in CHAPTERS.items():
        whole = next(chapters[title] for title in chapters if title.startswith(name))
        left_out = len(whole) > first + last
        shown = [*whole[:first], Text("⋮", style="dim"), *whole[len(whole) - last :]] if left_out else whole
        lines += [*shown, Text()]
    return lines[:-1]


def paint(lines: Sequence[Text]) -> str:
    """Return *lines* as SVG, in the reader's own fixed-width font (no font is fetched from anywhere)."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    painted = console.export_svg(title="certbridge demo", unique_id="demo")
    painted = re.sub(r"@font-face \{.*?\}\s*", "", painted, flags=re.DOTALL)
    painted = painted.replace("Fira Code", "Menlo, Consolas, DejaVu Sans Mono")
    return "\n".join(line.rstrip() for line in painted.splitlines()).rstrip() + "\n"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the last program on the other side has closed it
        return b""


def main() -> int:
    """Write demo.svg."""
    words = record([sys.executable, "-c", "from api.cli import main; main()", "demo"])
    TARGET.write_text(paint(cut(words)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
