"""Writes docs/reference/cli.md from the commands themselves: `python -m api.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from api.cli.metavars import in_usage, value_of

_HEAD = """\
# The command line

Written by `python -m api.cli.reference` from the commands themselves; do not edit it by hand.

Results go to standard output, progress and errors to standard error.
Every command that reads takes `-o table|json|yaml`; the JSON has sorted keys and ends with a line end.
Who is asking is the account of the effective user id; no option and no variable changes it.
Questions are only asked on a terminal; elsewhere say `--yes`.

| exit code | meaning |
|---|---|
| 0 | Done, or so already: an empty plan, and a rollback that finds nothing to undo, are no faults. |
| 1 | The run or the check failed. |
| 2 | The input is wrong: inventory, arguments, files, decisions that may not be taken. |
| 3 | Waiting for people (`--watch` ends so at a gate). |
| 4 | Stopped by a person, or by another run's reservation. |
| 130 | Interrupted at the keyboard; a run that was looked at goes on. |
"""


def page() -> str:
    """Return the whole page as Markdown."""
    from api.cli import app

    root: Any = typer.main.get_command(app)
    options = "".join(_rows(root))
    parts = [_HEAD, f"\n## Options of every command\n\nThey stand before the command.\n\n{_OPTIONS}{options}"]
    parts += list(_commands(root, "certbridge"))
    return "".join(parts)


_OPTIONS = "| option | what |\n|---|---|\n"


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        here = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, here)
            continue
        words = " ".join(in_usage(each) for each in command.params if each.param_type_name == "argument")
        rows = "".join(_rows(command))
        text = " ".join((command.help or "").split())
        yield f"\n## `{here}`\n\n    {f'{here} [OPTIONS] {words}'.strip()}\n\n{text}\n"
        if rows:
            yield f"\n{_OPTIONS}{rows}"


def _rows(command: Any) -> Iterator[str]:
    for each in command.params:
        if each.param_type_name == "argument":
            yield _row(in_usage(each), each.help)
        elif not each.hidden and each.name not in {"install_completion", "show_completion"}:
            value = value_of(each)
            after = f" {value}" if value else ""
            names = ", ".join(f"`{name}{after}`" for name in (*each.opts, *each.secondary_opts))
            yield _row(names, f"{each.help or ''}{_default(each)}")


def _default(option: Any) -> str:
    value = option.default
    if option.is_flag or value in {None, "", ...} or callable(value):
        return ""
    return f" Default: `{getattr(value, 'value', value)}`."


def _row(name: str, what: str | None) -> str:
    text = " ".join((what or "").split()).replace("|", "\\|")
    return f"| {name if name.startswith('`') else f'`{name}`'} | {text} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
