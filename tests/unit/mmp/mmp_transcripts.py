"""Reads tests/transcripts/<command>/<case>.toml: a command, a reply, what it must mean, and how well it is known."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from workflows.mmp.commands import Command, command_of
from workflows.mmp.conversation import Reply
from workflows.mmp.replies import Standing

ROOT = Path(__file__).resolve().parents[2] / "transcripts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One file; *result* without its empty values, None where *error* names what is raised."""

    name: str
    line: str
    reply: str
    standing: Standing
    source: str
    result: Any
    error: str | None

    @property
    def command(self) -> Command[Any]:
        """The command that sends the line."""
        return command_of(self.line)

    def parsed(self) -> Any:
        """Return what the command makes of the reply."""
        return self.command.parse(Reply(command=self.line, text=self.reply))


def load(name: str) -> Transcript:
    """Return the transcript called *name*, e.g. "turn/status"."""
    return _read(ROOT / f"{name}.toml")


def load_all() -> list[Transcript]:
    """Return all transcripts, by name."""
    return [_read(path) for path in sorted(ROOT.glob("*/*.toml"))]


def _read(path: Path) -> Transcript:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = set(raw) - {"command", "reply", "standing", "source", "note", "result", "error"}
    if unknown or ("result" in raw) == ("error" in raw):
        raise ValueError(f"{path}: one of result and error, and no other keys ({unknown})")
    return Transcript(
        name=f"{path.parent.name}/{path.stem}",
        line=raw["command"],
        reply=raw["reply"].removesuffix("\n"),
        standing=Standing(raw["standing"]),
        source=raw["source"],
        result=raw.get("result"),
        error=raw.get("error"),
    )


def plain(value: Any) -> Any:
    """Return *value* as TOML would hold it: a table without text and empty parts, or what it is under "value"."""
    found = _plain(value)
    return found if isinstance(found, dict) else {"value": found}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        parts = {item.name: _plain(getattr(value, item.name)) for item in fields(value) if item.name != "text"}
        return {name: part for name, part in parts.items() if part not in (None, "", [])}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value
