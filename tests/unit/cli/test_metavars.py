"""`--help` shows words for values: FILE, RUN, NAME; never the type that Python has for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from typer.testing import CliRunner

from api.cli import app


def paths(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words of every command."""
    for name, command in group.commands.items():
        yield from paths(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]


def helped(*words: str) -> str:
    """Return what `certbridge words… --help` says."""
    return CliRunner().invoke(app, [*words, "--help"], prog_name="certbridge").stdout


def test_no_command_shows_a_type():
    every = list(paths(typer.main.get_command(app)))
    assert len(every) > 40
    shown = {" ".join(words): helped(*words) for words in every}
    bare = {name: text.replace("<=", "").replace(">=", "") for name, text in shown.items()}
    wrong = {name for name, text in bare.items() if any(mark in text for mark in "<>{}")}
    assert wrong == set()
    assert [name for name, text in shown.items() if "[[" in text or "…..." in text] == []


def test_values_are_named_for_what_they_are():
    assert "\n  QUEUE  " in helped("worker")
    said = helped("gates", "approve")
    assert "Usage: certbridge gates approve [OPTIONS] [RUN]\n" in said
    assert "--lane LANE " in said
    assert "-f, --fleet FILE " in helped("survey")
    assert "-o, --output table|json|yaml " in helped("survey")
    assert "Usage: certbridge runs show [OPTIONS] RUN\n" in helped("runs", "show")
    assert "Usage: certbridge gates deliver [OPTIONS] FILE…\n" in helped("gates", "deliver")
