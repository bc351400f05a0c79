"""The grid of a run: servers down, stages across, each cell with how those steps stand. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.pages.words import stage, word
from api.run_view import LaneView, PartView, RunView

NODES_SHOWN = 120
"""A run of more servers is shown lane by lane; a lane is then opened by itself."""
_WORST = ("failed", "parked", "running", "waiting", "undone")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its status, how many of its steps are done of how many, and the one part it stands for."""

    status: str
    done: int
    total: int
    part: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A lane (*node* is "") or a server of it, with a cell or None for each column."""

    lane: str
    node: str
    status: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Columns (their names) and rows; *folded*: there are too many servers, so rows are lanes."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool


def grid(shown: RunView, *, lane: str = "") -> Grid:
    """Return the grid of *shown*, of one *lane* alone when it is named."""
    lanes = [one for one in shown.lanes if lane in {"", one.name}]
    keys = _columns(lanes)
    nodes = sum(len(_nodes(one)) for one in lanes)
    folded = nodes > NODES_SHOWN and not lane
    rows: list[Row] = []
    for one in lanes:
        parts = [part for part in one.parts if part.kind == "gate" or not part.node or folded]
        rows.append(Row(one.name, "", one.status, _cells(keys, parts)))
        if not folded:
            for name, mine in _nodes(one).items():
                rows.append(Row(one.name, name, "", _cells(keys, mine)))
    names = tuple(stage(key, shown.kind) if isinstance(key, int) else word(key) for key in keys)
    return Grid(names, tuple(rows), folded)


def _columns(lanes: Sequence[LaneView]) -> list[int | str]:
    """Return stages, and the gates between them, in the order in which they are met."""
    places: dict[int | str, float] = {}
    for lane in lanes:
        at_gate: list[str] = []
        last = 0.0
        for part in lane.parts:
            if part.kind == "gate":
                at_gate.append(part.id.rpartition("/")[2])
            elif part.kind == "step":
                for number, name in enumerate(at_gate):
                    places.setdefault(name, part.stage - 0.5 + number / 10)
                at_gate.clear()
                last = max(last, part.stage)
                places.setdefault(part.stage, part.stage)
        for name in at_gate:
            places.setdefault(name, last + 0.5)
    return sorted(places, key=lambda key: places[key])


def _nodes(lane: LaneView) -> dict[str, list[PartView]]:
    found: dict[str, list[PartView]] = {}
    for part in lane.parts:
        if part.kind == "step" and part.node:
            found.setdefault(part.node, []).append(part)
    return found


def _cells(keys: Sequence[int | str], parts: Iterable[PartView]) -> tuple[Cell | None, ...]:
    groups: dict[int | str, list[PartView]] = {}
    for part in parts:
        if part.kind == "step":
            groups.setdefault(part.stage, []).append(part)
        elif part.kind == "gate":
            groups.setdefault(part.id.rpartition("/")[2], []).append(part)
    return tuple(_cell(groups[key]) if key in groups else None for key in keys)


def _cell(parts: Sequence[PartView]) -> Cell:
    states = [part.status for part in parts]
    done = sum(state in {"done", "excused"} for state in states)
    worst = next((one for one in _WORST if one in states), "")
    if not worst:
        worst = states[0] if len(set(states)) == 1 else "done" if done == len(states) else "mixed"
    return Cell(worst, done, len(parts), parts[0].id if len(parts) == 1 else "")
