"""What was said to a server during one step: the part of the transcript that belongs to its attempts.

Each attempt at a step opens sessions of its own, but a transcript does not name steps, and workers write it by their
own clock, which may be a little off the database's. So a session counts for the attempt, of all those on its server,
that it lies in best; where two steps worked side by side, for both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from api.here import Server
from api.report import Exchange, exchanges
from api.run_bodies import ENDS, AttemptBody
from workflows.journal import Kind, tables

NEAR = timedelta(seconds=2)
"""How far the two clocks may be apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """When something went on; as for steps, *step* and *number* name the attempt."""

    begun: datetime
    ended: datetime
    step: str = ""
    number: int = 0

    def outside(self, other: Spell) -> timedelta:
        """Return how much of *other* lies outside."""
        none = timedelta()
        return max(none, self.begun - other.begun) + max(none, other.ended - self.ended)


def said(
    here: Server, run: str, step: str, node: str, attempts: Sequence[AttemptBody], *, whole: bool = False
) -> list[tuple[int, Exchange]]:
    """Return what was said to *node* during *attempts* at *step*, each with its attempt; masked already in the files.

    *whole*: everything that was said to it in this run; what was said in no attempt of this step has 0.
    """
    file = here.settings.transcripts_dir / run / f"{node}.jsonl"  # nodes are named as files may be
    if not node or not file.is_file() or not (attempts or whole):
        return []
    now = datetime.now(UTC)
    mine = [Spell(begun=one.started_at, ended=one.ended_at or now, step=step, number=one.attempt) for one in attempts]
    others = [one for one in here.journal.read(partial(_spells, run=run, node=node, now=now)) if one.step != step]
    text = _lines(file)
    number = _attempts_of_sessions(text, mine, others)
    found = []
    for session, lines in _by_session(text).items():
        at = number.get(session, 0)
        if at or whole:
            found += [(at, one) for one in exchanges(lines) if one.at]
    return sorted(found, key=lambda one: one[1].at)


def _attempts_of_sessions(text: Iterable[str], mine: Sequence[Spell], others: Sequence[Spell]) -> dict[str, int]:
    """Return {session: number of the attempt at our step that it belongs to}."""
    found: dict[str, int] = {}
    for session, lines in _by_session(text).items():
        times = [_at(line) for line in lines]
        spell = Spell(begun=min(times), ended=max(times))
        best = min(mine, key=lambda one: one.outside(spell), default=None)
        if best is None:
            continue
        far = best.outside(spell)
        if far <= 2 * NEAR and all(far <= one.outside(spell) for one in others):
            found[session] = best.number
    return found


def _spells(connection: sa.Connection, run: str, node: str, now: datetime) -> list[Spell]:
    """Return the attempts at all steps on *node*, as long as they went on."""
    event = tables.event
    kinds = [Kind.STEP_CLAIMED.value, *(kind.value for kind in ENDS)]
    query = sa.select(event.c.step, event.c.kind, event.c.at).where(
        event.c.run == run, event.c.node == node, event.c.kind.in_(kinds)
    )
    found: list[Spell] = []
    open_at: dict[str, int] = {}
    for row in connection.execute(query.order_by(event.c.n)):
        at = datetime.fromisoformat(row.at)
        if row.kind == Kind.STEP_CLAIMED.value:
            open_at[row.step] = len(found)
            found.append(Spell(begun=at, ended=now, step=row.step))
        elif row.step in open_at:
            place = open_at[row.step]
            found[place] = Spell(begun=found[place].begun, ended=at, step=row.step)
    return found


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="backslashreplace").splitlines()


def _by_session(text: Iterable[str]) -> dict[str, list[str]]:
    """Return whole lines by their session; what was cut off belongs to none."""
    found: dict[str, list[str]] = {}
    for line in text:
        try:
            entry = json.loads(line)
            session, _ = str(entry["session"]), datetime.fromisoformat(entry["at"])
        except (ValueError, KeyError, TypeError):
            continue
        found.setdefault(session, []).append(line)
    return found


def _at(line: str) -> datetime:
    return datetime.fromisoformat(json.loads(line)["at"])
