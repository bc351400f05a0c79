"""Printing: tables and text for people, JSON and YAML for programs, errors with their remedies.

On a terminal there is colour; in a pipe the same words stand as plain text, never wrapped and never cut. Rich is only
imported when there is a terminal to paint on. JSON has sorted keys and ends with a line end, so it can be compared.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from workflows.errors import CertbridgeError, Finding, words_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Span = str | tuple[str, str]
"""A text, or a text and its style ("bold red")."""


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="How the result is written.", case_sensitive=False)
]


UNBROKEN = 12
"""Columns whose cells are no longer than this are never broken: dates, releases, numbers."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings; every cell is a span."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Span]]
    title: str = ""


def emit(value: Any, output: Format) -> None:
    """Write *value* (dataclasses, times and enums are made plain) as JSON or YAML to standard output."""
    sys.stdout.write(as_text(value, output))


def as_text(value: Any, output: Format) -> str:
    """Return *value* as JSON or YAML, keys sorted, with a line end at the end."""
    if output is Format.YAML:
        import yaml

        return str(yaml.safe_dump(plain(value), sort_keys=True, allow_unicode=True, width=1000))
    return json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def plain(value: Any) -> Any:
    """Return *value* in the words of JSON: times as ISO 8601, sets sorted, dataclasses as mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset | set):
        return sorted(plain(one) for one in value)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def say(*spans: Span) -> None:
    """Write one line of the result to standard output."""
    _write(sys.stdout, spans)


def note(text: str, style: str = "") -> None:
    """Write one line that is no result (progress, a warning) to standard error."""
    _write(sys.stderr, [(text, style)])


def show(table: Table) -> None:
    """Write *table* to standard output: ruled and coloured on a terminal, aligned columns in a pipe."""
    if not sys.stdout.isatty():
        _show_plain(table)
        return
    from rich import box
    from rich.table import Table as Ruled

    ruled = Ruled(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(table.columns):
        # Only long texts are broken: half a date or half a name says nothing.
        longest = max((len(bare(row[place])) for row in table.rows), default=0)
        ruled.add_column(column, overflow="fold", no_wrap=longest <= UNBROKEN)
    for row in table.rows:
        ruled.add_row(*(text_of([cell]) for cell in row))
    console(sys.stdout).print(ruled)


def show_error(error: CertbridgeError) -> None:
    """Write what went wrong and what to do about it to standard error, a finding a line."""
    findings: tuple[Finding, ...] = getattr(error, "findings", ())
    if findings:
        for finding in findings:
            note(f"{finding.where}: {finding.what}", "red")
            note(f"  → {finding.remedy}")
        return
    note(words_of(error), "red")
    for remedy in filter(None, error.remedy().splitlines()):
        note(f"→ {remedy}")


def show_warnings(findings: Sequence[Finding]) -> None:
    """Write what works, but hardly as meant, to standard error."""
    for finding in findings:
        note(f"warning: {finding.where}: {finding.what}", "yellow")
        note(f"  → {finding.remedy}")


def console(stream: TextIO) -> Console:
    """Return a painter on *stream* that adds no marks of its own."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def text_of(spans: Sequence[Span]) -> Text:
    """Return *spans* as one text that Rich can paint."""
    from rich.text import Text

    return Text.assemble(*(span if isinstance(span, tuple) else (span, "") for span in spans))


def bare(span: Span) -> str:
    """Return the words of *span*."""
    return span if isinstance(span, str) else span[0]


def moment(when: datetime | None) -> str:
    """Return a time as people read it: "2026-11-23 14:05:09 UTC", "" for none."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC" if when else ""


def counted(number: int, what: str) -> str:
    """Return "1 cluster", "2 clusters"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def lasted(seconds: float) -> str:
    """Return a length of time as people read it: "0.4 s", "12 s", "3 min", "5 h", "2 d"."""
    for limit, unit, size in ((10.0, "s", 1.0), (120.0, "s", 1.0), (7200.0, "min", 60.0), (172_800.0, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds:.1f} {unit}" if limit <= 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _write(stream: TextIO, spans: Sequence[Span]) -> None:
    if stream.isatty():
        console(stream).print(text_of(spans), soft_wrap=True)
    else:
        stream.write("".join(bare(span) for span in spans) + "\n")


def _show_plain(table: Table) -> None:
    rows = [table.columns, *([bare(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    if table.title:
        sys.stdout.write(f"{table.title}\n")
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
