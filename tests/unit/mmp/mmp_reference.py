"""Renders docs/reference/implemented-commands.md from the command classes and the transcripts.

Run it after a change: `python tests/unit/mmp/mmp_reference.py`; a test fails while the page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))

import mmp_transcripts  # noqa: E402 - the path above must stand first when this runs as a program

from workflows.mmp.commands import CHANGING, READING, TIMEOUTS_S, Command  # noqa: E402 - the same

PAGE = PROJECT / "docs" / "reference" / "implemented-commands.md"

_HEAD = """# Implemented MMP commands

<!-- Made by `python tests/unit/mmp/mmp_reference.py` from the classes in workflows/mmp/commands.py; do not edit. -->

Every line that certbridge can send to a server stands here; it sends no other.
Lines that only read are sent whenever they are needed.
Lines that change a server are sent only when the plan lists them.

*Standing* says how well the reply is known.
**verbatim**: printed in a document by the maker.
**recalled**: remembered from the manual.
**guessed**: made up until a real server says otherwise; it never counts as success, the state is read instead.

*Transcripts* are the files under `tests/transcripts/`; `certbridge survey --record` on a real server makes new ones.

"mmp-reference" is the project's collection of facts about the MMP.
S-numbers are the documents it names or, after "base document", the rows of that document.
"""


def render() -> str:
    """Return the whole page."""
    parts = [_HEAD, "## Commands that read\n", _table(READING), "## Commands that change a server\n", _table(CHANGING)]
    parts += ["## What the holes may be\n", _choices()]
    return "\n".join(parts)


def _table(commands: Sequence[type[Command[Any]]]) -> str:
    rows = [
        "| Line | Changes the server | Time class | Question | Standing | Source | Transcripts |",
        "|---|---|---|---|---|---|---|",
    ]
    transcripts = mmp_transcripts.load_all()
    for command in commands:
        names = [f"`{case.name}` ({case.standing.value})" for case in transcripts if type(case.command) is command]
        cells = (
            f"`{command.form}`",
            "yes" if command.changes else "no",
            f"{command.time_class.value} ({TIMEOUTS_S[command.time_class]:.0f} s)",
            f"`{command.question}` → `{command.answer}`" if command.question else "",
            command.standing.value,
            command.manual,
            "<br>".join(names),
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*rows, ""])


def _choices() -> str:
    rows = [
        f"* `{command.form}`, {hole}: {', '.join(f'`{word}`' for word in words)}"
        for command in (*READING, *CHANGING)
        for hole, words in command.choices.items()
    ]
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
