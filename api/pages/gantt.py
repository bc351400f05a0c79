"""The Gantt chart of a lane: what was planned and what happened, as geometry for an SVG. Pure.

Work is drawn to scale; the hours in which people decide are not, so that steps of seconds stay visible: at each gate
the axis is cut and a narrow band says how long the gate took. Planned bars begin where the work before them was ready
to go on. Nothing here is a style: bars have x, width and a class, so the Content-Security-Policy is content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.pages.waits import usual_of
from api.run_view import LaneView, PartView
from workflows.plan import Barrier, Gate, Lane, Par, Seq, Step
from workflows.plan import Part as PlanPart

LEFT, WIDTH, RIGHT, TOP, ROW = 130, 1000, 12, 34, 26
NODES_SHOWN = 60
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_SHORTEST, _LABEL = 2.0, 54
_GAP, _WIDE_GAP = 96, 124
"""How wide the axis is cut at a gate: there is room for its name, and for how long it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A step: where it is drawn, *planned* or how it went (`status`), and what a reader is told of it."""

    x: float
    y: float
    width: float
    status: str
    part: str
    title: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateBand:
    """A gate between two pieces of work; *lasted_s* None: it was not met; *since*: it is open, so that runs on."""

    x: float
    width: float
    name: str
    lasted_s: float | None
    status: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line across: the time of day where it is known, else seconds from the beginning; *labelled*: there is room."""

    x: float
    at: datetime | None
    after_s: float
    labelled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The whole drawing; *more* servers are not drawn."""

    lane: str
    width: int
    height: int
    rows: tuple[tuple[float, str], ...]
    planned: tuple[Bar, ...]
    actual: tuple[Bar, ...]
    gates: tuple[GateBand, ...]
    ticks: tuple[Tick, ...]
    now_x: float | None
    more: int


@dataclass(slots=True)
class _Piece:
    """The work between two gates: planned seconds by step, and when it really began."""

    planned: dict[str, tuple[float, float]]
    began: datetime | None = None
    lasts_s: float = 1.0
    x: float = 0.0


def chart(plan: Lane, shown: LaneView, *, created_at: datetime | None, now: datetime) -> Chart:
    """Return the chart of one lane at *now*."""
    parts = {part.id: part for part in shown.parts}
    pieces, gates = _pieces(plan, parts)
    nodes = list(dict.fromkeys(part.node or shown.name for part in shown.parts if part.kind == "step"))
    drawn = nodes[:NODES_SHOWN]
    _times(pieces, parts, created_at, now)
    scale = _place(pieces, [*map(_gap, gates)])
    rows = {node: TOP + ROW * number for number, node in enumerate(drawn)}
    return Chart(
        lane=shown.name,
        width=WIDTH,
        height=TOP + ROW * len(drawn) + 8,
        rows=tuple((y + 15, node) for node, y in rows.items()),
        planned=tuple(_planned(pieces, parts, rows, scale, shown.name)),
        actual=tuple(_actual(pieces, parts, rows, scale, shown.name, now)),
        gates=tuple(_bands(pieces, gates, parts, scale, now)),
        ticks=tuple(_ticks(pieces, scale)),
        now_x=_now_x(pieces, parts, scale, now),
        more=len(nodes) - len(drawn),
    )


def _pieces(plan: Lane, parts: Mapping[str, PartView]) -> tuple[list[_Piece], list[str]]:
    """Return the pieces of work and the gates between them; a plan's parts one after the other or side by side."""
    pieces, gates = [_Piece({})], []
    at = 0.0

    def lay(part: PlanPart, start: float) -> float:
        if isinstance(part, Step):
            seen = parts.get(part.id)
            low, high = usual_of(seen) if seen else (2, 20)
            end = start + max(1.0, (low + high) / 2)
            pieces[-1].planned[part.id] = (start, end)
            return end
        if isinstance(part, Barrier):
            return start
        if isinstance(part, Par):
            return max((lay(child, start) for child in part.parts), default=start)
        if isinstance(part, Seq):
            for child in part.parts:
                if isinstance(child, Gate):
                    gates.append(child.id)
                    pieces.append(_Piece({}))
                    start = 0.0
                else:
                    start = lay(child, start)
            return start
        return start

    lay(plan.tree, at)
    return pieces, gates


def _times(
    pieces: list[_Piece],
    parts: Mapping[str, PartView],
    created_at: datetime | None,
    now: datetime,
) -> None:
    for number, piece in enumerate(pieces):
        mine = [parts[step] for step in piece.planned if step in parts]
        starts = [part.started_at for part in mine if part.started_at]
        piece.began = min(starts, default=created_at if number == 0 else None)
        ends = [(part.ended_at or now) for part in mine if part.started_at]
        planned = max((end for _, end in piece.planned.values()), default=0.0)
        real = (max(ends) - piece.began).total_seconds() if ends and piece.began else 0.0
        # What is planned long and goes quickly is drawn as it went; what did not begin as it was planned.
        over = bool(mine) and all(part.status in {"done", "excused"} for part in mine)
        piece.lasts_s = max(real if over and real > 0 else max(real, planned), 1.0)


def _gap(gate: str) -> int:
    return _WIDE_GAP if gate.endswith("point-of-no-return") else _GAP


def _place(pieces: list[_Piece], gaps: list[int]) -> float:
    room = WIDTH - LEFT - RIGHT - sum(gaps)
    scale = room / sum(piece.lasts_s for piece in pieces)
    x = float(LEFT)
    for piece, gap in zip(pieces, (*gaps, 0), strict=True):
        piece.x = x
        x += piece.lasts_s * scale + gap
    return scale


def _planned(
    pieces: list[_Piece], parts: Mapping[str, PartView], rows: Mapping[str, int], scale: float, lane: str
) -> Iterator[Bar]:
    for piece in pieces:
        longest = max((end for _, end in piece.planned.values()), default=1.0)
        squeeze = min(1.0, piece.lasts_s / longest)
        for step, (start, end) in piece.planned.items():
            part = parts.get(step)
            node = (part.node or lane) if part else lane
            if part is None or node not in rows:
                continue
            yield Bar(
                x=round(piece.x + start * squeeze * scale, 1),
                y=rows[node] + 2,
                width=round(max(_SHORTEST, (end - start) * squeeze * scale - 1), 1),
                status="planned",
                part=step,
                title=part.title or step,
                from_s=start,
                to_s=end,
            )


def _actual(
    pieces: list[_Piece],
    parts: Mapping[str, PartView],
    rows: Mapping[str, int],
    scale: float,
    lane: str,
    now: datetime,
) -> Iterator[Bar]:
    for piece in pieces:
        for step in piece.planned:
            part = parts.get(step)
            node = (part.node or lane) if part else lane
            if part is None or part.started_at is None or piece.began is None or node not in rows:
                continue
            began = part.started_at
            if part.data.get("took_s") and part.ended_at:  # followed through several claims
                began = part.ended_at - timedelta(seconds=float(part.data["took_s"]))
            start = max(0.0, (began - piece.began).total_seconds())
            end = max(start, ((part.ended_at or now) - piece.began).total_seconds())
            yield Bar(
                x=round(piece.x + start * scale, 1),
                y=rows[node] + 9,
                width=round(max(_SHORTEST, (end - start) * scale), 1),
                status=part.status,
                part=step,
                title=part.title or step,
                from_s=start,
                to_s=end,
            )


def _bands(
    pieces: list[_Piece], gates: list[str], parts: Mapping[str, PartView], scale: float, now: datetime
) -> Iterator[GateBand]:
    for number, gate in enumerate(gates):
        part, after = parts[gate], pieces[number + 1]
        before = pieces[number]
        # An approved gate still holds the lane: until certificates are here, or until its hour has come.
        holds = part.status in {"waiting", "approved"} and after.began is None
        ended = now if holds else after.began or part.ended_at
        lasted = (ended - part.started_at).total_seconds() if ended and part.started_at else None
        x = before.x + before.lasts_s * scale
        name = gate.rpartition("/")[2]
        since = part.started_at if holds else None
        yield GateBand(
            x=round(x + 8, 1), width=_gap(gate) - 16, name=name, lasted_s=lasted, status=part.status, since=since
        )


def _ticks(pieces: list[_Piece], scale: float) -> Iterator[Tick]:
    every = next((one for one in _TICKS_S if one * scale >= 90), _TICKS_S[-1])
    for piece in pieces:
        after = 0.0
        while after <= piece.lasts_s:
            at = piece.began + timedelta(seconds=after) if piece.began else None
            if after == 0 or (piece.lasts_s - after) * scale > 40:
                room = (piece.lasts_s - after) * scale > _LABEL
                yield Tick(x=round(piece.x + after * scale, 1), at=at, after_s=after, labelled=room)
            after += every


def _now_x(pieces: list[_Piece], parts: Mapping[str, PartView], scale: float, now: datetime) -> float | None:
    for piece in pieces:
        busy = [step for step in piece.planned if step in parts and parts[step].status in {"running", "waiting"}]
        if busy and piece.began is not None:
            return round(piece.x + min(piece.lasts_s, (now - piece.began).total_seconds()) * scale, 1)
    return None
