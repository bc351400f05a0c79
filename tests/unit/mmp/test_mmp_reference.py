"""The page of implemented commands says what the code does."""

from __future__ import annotations

import mmp_reference

from workflows.mmp.commands import CHANGING, READING


def test_the_page_of_implemented_commands_is_up_to_date():
    """Run `python tests/unit/mmp/mmp_reference.py` when this fails."""
    assert mmp_reference.PAGE.read_text(encoding="utf-8") == mmp_reference.render()


def test_the_page_names_every_command_once():
    """One row per class, in one of the two tables."""
    page = mmp_reference.render()

    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1].replace("\\|", "|") for row in rows] == [
        command.form for command in (*READING, *CHANGING)
    ]
