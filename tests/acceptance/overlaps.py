"""Who was at work at the same time, from the simulator's log: spans of time, and how many of them overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acceptance_engine import Engine
from renewing import planned, seen


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, in seconds of one monotonic clock; `node` is whose."""

    begin: float
    end: float
    node: str = ""


def spans_of(records: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Return the spans of begin and end records, by when they began; what never ended is left out."""
    begun = {record["number"]: record for record in records if record["phase"] == "begin"}
    spans = [
        Span(begun[record["number"]]["monotonic"], record["monotonic"], record["node"])
        for record in records
        if record["phase"] == "end" and record["number"] in begun
    ]
    return sorted(spans, key=lambda span: span.begin)


def applying(engine: Engine, plan: Mapping[str, Any], node: str, *, stage: int = 700) -> Span:
    """Return when *node* was in *stage*: from its first to its last line of it. The log must hold the plan's lines."""
    lines = planned(plan, node)
    changes = seen(engine, node)[-len(lines) :]
    assert [change.said for change in changes] == [line.said for line in lines]
    times = [change.at for change, line in zip(changes, lines, strict=True) if line.stage == stage]
    return Span(min(times), max(times), node)


def most_at_once(spans: Sequence[Span]) -> int:
    """Return the greatest number of *spans* that lie over each other at one time."""
    edges = sorted([(span.begin, 1) for span in spans] + [(span.end, -1) for span in spans])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
