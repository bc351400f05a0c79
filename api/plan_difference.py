"""What is different between two plans for the same cluster: lines by server, names, dates. Pure.

Every renewal makes files with fresh numbers ("callbridge-3.crt" after "callbridge-2.crt"), so lines are compared
without these; what is shown is the line as it stands.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from workflows.plan import Lane, Plan

_NUMBER = re.compile(r"(?<=[A-Za-z0-9_])-\d+(?=[.\s]|-fullchain|-old|$)")
_COMPARED = ("subject", "dns", "ip", "email", "services", "issuer", "key", "key_kind", "nodes", "trusted_by")


class NodeDifference(BaseModel):
    """Lines for one server that were not in the last plan, and those that are not any more; both in order."""

    node: str
    added: list[str]
    removed: list[str]


class ValueDifference(BaseModel):
    """A certificate that is wanted otherwise: which value, before and now."""

    certificate: str
    what: str
    before: str
    now: str


class FileDifference(BaseModel):
    """The basename of a certificate's new files, before and now."""

    certificate: str
    before: str
    now: str


class LaneDifference(BaseModel):
    """A lane against the last plan that succeeded (`run`, "" when there is none yet)."""

    lane: str
    run: str
    at: datetime | None
    same: bool
    nodes: list[NodeDifference]
    certificates_added: list[str]
    certificates_removed: list[str]
    values: list[ValueDifference]
    files: list[FileDifference]


def difference(made: Plan, before: Plan | None, lane: str, *, run: str, at: datetime | None) -> LaneDifference:
    """Return what is different in *lane* of *made* from *before*, whose run ended at *at*."""
    now_lines = _lines(made.lane(lane))
    old_lines = _lines(before.lane(lane)) if before else {}
    nodes = [
        found
        for node in dict.fromkeys((*now_lines, *old_lines))
        if (found := _node(node, old_lines.get(node, ()), now_lines.get(node, ()))) is not None
    ]
    mine, theirs = _wishes(made, lane), _wishes(before, lane) if before else {}
    both = [name for name in mine if name in theirs]
    values = [
        ValueDifference(
            certificate=name, what=what, before=_text(theirs[name].get(what)), now=_text(mine[name].get(what))
        )
        for name in both
        for what in _COMPARED
        if mine[name].get(what) != theirs[name].get(what)
    ]
    added = [name for name in mine if name not in theirs]
    removed = [name for name in theirs if name not in mine]
    return LaneDifference(
        lane=lane,
        run=run,
        at=at,
        same=before is not None and not (nodes or values or added or removed),
        nodes=nodes if before else [],
        certificates_added=added if before else [],
        certificates_removed=removed,
        values=values,
        files=[
            FileDifference(certificate=name, before=str(theirs[name]["basename"]), now=str(mine[name]["basename"]))
            for name in both
            if theirs[name].get("basename") != mine[name].get("basename")
        ],
    )


def _node(node: str, before: Sequence[str], now: Sequence[str]) -> NodeDifference | None:
    matcher = difflib.SequenceMatcher(a=[_bare(one) for one in before], b=[_bare(one) for one in now], autojunk=False)
    added: list[str] = []
    removed: list[str] = []
    for what, a, b, c, d in matcher.get_opcodes():
        if what != "equal":
            removed.extend(before[a:b])
            added.extend(now[c:d])
    return NodeDifference(node=node, added=added, removed=removed) if added or removed else None


def _lines(lane: Lane) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in lane.steps():
        if step.node:
            found.setdefault(step.node, []).extend(str(line) for line in step.lines)
    return found


def _bare(line: str) -> str:
    return _NUMBER.sub("", line)


def _wishes(plan: Plan, lane: str) -> dict[str, Mapping[str, Any]]:
    return {name: wish for name, wish in plan.wishes.items() if name.partition("/")[0] == lane}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join("=".join(one) if isinstance(one, list | tuple) else str(one) for one in value)
    return "" if value is None else str(value)
