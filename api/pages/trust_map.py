"""Who trusts whom in a cluster as a small drawing: servers in a circle, an arc for each pair that knows one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from api.fleet_view import Trusted

WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 640, 320, 120, 30
MOST = 10
"""More servers than this are a table only."""


@dataclass(frozen=True, slots=True)
class Box:
    """A server."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Arc:
    """One server trusts another: by its very certificate (*leaf*), or by the CA that signed it."""

    path: str
    leaf: bool
    title: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole drawing."""

    boxes: tuple[Box, ...]
    arcs: tuple[Arc, ...]
    width: int = WIDTH
    height: int = HEIGHT
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def drawn(nodes: Sequence[str], links: Sequence[Trusted]) -> Drawing | None:
    """Return the drawing of *links* between *nodes*; None where there are too many or there is nothing to see."""
    between = {(one.node, one.trusts_node, one.by) for one in links if one.node != one.trusts_node}
    inside = sorted(one for one in between if one[0] in nodes and one[1] in nodes)
    if not 2 <= len(nodes) <= MOST or not inside:
        return None
    places = {name: _place(number, len(nodes)) for number, name in enumerate(nodes)}
    boxes = tuple(Box(round(x - BOX_WIDTH / 2, 1), round(y - BOX_HEIGHT / 2, 1), n) for n, (x, y) in places.items())
    arcs = tuple(Arc(_path(places[a], places[b]), by == "leaf", f"{a} → {b}") for a, b, by in inside)
    return Drawing(boxes, arcs)


def _place(number: int, of: int) -> tuple[float, float]:
    angle = 2 * math.pi * number / of - math.pi / 2
    return WIDTH / 2 + math.cos(angle) * (WIDTH / 2 - BOX_WIDTH / 2 - 8), HEIGHT / 2 + math.sin(angle) * (
        HEIGHT / 2 - BOX_HEIGHT / 2 - 8
    )


def _path(a: tuple[float, float], b: tuple[float, float]) -> str:
    """Return a curve from the edge of box *a* to the edge of box *b*; there and back are two curves."""
    start, end = _edge(a, b), _edge(b, a)
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    middle = ((start[0] + end[0]) / 2 - dy / length * 14, (start[1] + end[1]) / 2 + dx / length * 14)
    return f"M{start[0]:.1f} {start[1]:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {end[0]:.1f} {end[1]:.1f}"


def _edge(box: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    dx, dy = towards[0] - box[0], towards[1] - box[1]
    reach = min(
        (BOX_WIDTH / 2 + 4) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2 + 4) / abs(dy) if dy else math.inf,
    )
    return box[0] + dx * reach, box[1] + dy * reach
