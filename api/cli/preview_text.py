"""A preview (`workflows.preview`) in lines of text: what would run, what is kept, whether approvals hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from api.cli.output import Span, counted

if TYPE_CHECKING:
    from workflows.preview import Preview

SHOWN = 12
"""So many steps are named; of more, the rest is counted."""


def lines(found: Preview) -> Iterator[tuple[Span, ...]]:
    """Yield the preview line by line."""
    yield ((f"{found.action} {found.run}: ", "bold"), found.effect)
    for sentence in found.standing:
        yield (f"  stands now: {sentence}",)
    yield from _steps("would run", found.would_run)
    if found.kept:
        yield (f"  kept: {counted(len(found.kept), 'step')} that are done",)
    for node in found.untouched:
        yield (f"  kept: {node}, which is not touched",)
    yield from _steps("would run once people have decided" if found.action == "resume" else "would not run", found.left)
    for one in found.approvals:
        word = ("valid", "green") if one.valid else ("not valid", "yellow")
        yield (f"  approval of {one.gate}: ", word, f"; {one.why}")


def _steps(title: str, ids: tuple[str, ...]) -> Iterator[tuple[Span, ...]]:
    if not ids:
        return
    yield (f"  {title}:",)
    for one in ids[:SHOWN]:
        yield (f"    {one}",)
    if len(ids) > SHOWN:
        yield (f"    and {counted(len(ids) - SHOWN, 'more step')}",)
