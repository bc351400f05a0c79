"""What stands for a value in `--help`: FILE, RUN, NAME. One table for all commands, by the name of the option.

Typer would show types (`<str>`, `RUN <str>`, `{RUN}`), which say nothing to who types; an option that names its own
`metavar` keeps it. What is chosen from a few words shows these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperArgument, TyperOption

_VALUES = {
    "clusters": "N",
    "connected": "N",
    "credential": "NAME",
    "database_days_left": "DAYS",
    "database_s": "TIMES",
    "days_left": "DAYS",
    "digest": "DIGEST",
    "display": "TEXT",
    "fleet": "FILE",
    "host": "ADDRESS",
    "joined": "N",
    "key_pool": "KEYS",
    "lane": "LANE",
    "latency": "SECONDS",
    "limit": "N",
    "name": "NAME",
    "nodes": "N",
    "out": "DIR",
    "port": "PORT",
    "reason": "TEXT",
    "release": "RELEASE",
    "run": "RUN",
    "services": "NAMES",
    "speed": "SECONDS",
    "threads": "N",
    "within": "SPAN",
}


class _Option(TyperOption):
    """An option that shows a word for its value."""

    def display_type_rich(self, ctx: Any) -> str | None:
        """Return the word."""
        return value_of(self) or self.display_type(ctx).strip("<>")


class _Argument(TyperArgument):
    """An argument that shows its word alone, in brackets where it may be left out."""

    def display_type_rich(self, ctx: Any) -> str | None:
        """Return nothing: the word says it."""
        del ctx
        return None

    def _usage_display_name(self) -> str:
        return in_usage(self)


def value_of(parameter: Any) -> str:
    """Return the word for the value of an option or argument; "" for a switch, and where one of a few is chosen."""
    if parameter.metavar:
        return str(parameter.metavar)
    if getattr(parameter, "is_flag", False) or parameter.type_descriptor.is_choice:
        return ""
    name = str(parameter.name)
    return _VALUES.get(name, name.upper().replace("_", "-"))


def in_usage(argument: Any) -> str:
    """Return how *argument* stands in a line of usage: "RUN", "[RUN]", "FILE…"."""
    word = value_of(argument) or str(argument.name).upper()
    return word if argument.required or word.startswith("[") else f"[{word}]"


def name_values(commands: Mapping[str, Any]) -> None:
    """Let all parameters of *commands*, and of the groups among them, show words."""
    for command in commands.values():
        name_values(getattr(command, "commands", {}))
        for parameter in command.params:
            parameter.__class__ = _Argument if isinstance(parameter, TyperArgument) else _Option
            if isinstance(parameter, TyperArgument):
                parameter.metavar = value_of(parameter) or str(parameter.name).upper()
