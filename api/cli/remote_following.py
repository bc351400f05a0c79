"""Following a run over the API: its stream of events, and the same lines and picture as on the machine itself.

The stream is asked for by the number of the last event that was told, so that none is missed and none told twice after
a cut. How the run stands is looked at whenever the server says that all which happened so far has been sent.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import typer

from api.cli import following, run_text
from api.cli.output import note
from api.cli.progress import Progress
from api.cli.remote import events, look_at, run_id
from api.client import Away, Client, as_value, part
from workflows.errors import NoWorker
from workflows.journal import Event, Kind

if TYPE_CHECKING:
    from api.run_view import RunView

AWAY_S = 120.0
"""How long the server may be away before following ends."""
WAIT_S = 0.2
"""How long after a cut the stream is asked for again; twice as long each time that nothing came of it."""
_LONGEST_S = 10.0
_DECISIONS = (Kind.GATE_APPROVED, Kind.GATE_REJECTED, Kind.LANE_RESUMED)


def watch(client: Client, run: str) -> None:
    """As `runs watch`."""
    raise typer.Exit(follow(client, run_id(client, run)))


def follow(client: Client, run: str) -> int:
    """Tell how *run* goes on until it ends or waits for people; return the exit code of DESIGN.md section 9."""
    told = following.last_decision(events(client, run, kind=[one.value for one in _DECISIONS]))
    with following.leaving(run):
        if sys.stderr.isatty():
            with following.Picture() as picture:
                shown = _Follower(client, run, told, look=picture.show).to_the_end()
        else:
            tell = partial(following.tell, waits=following.Waits())
            shown = _Follower(client, run, told, tell=tell, nobody=following.warn_of_workers).to_the_end()
        run_text.show_end(shown)
    return following.exit_code(shown) or 0


def carry_out(client: Client, run: str, what: str) -> None:
    """Wait for the end of a run that only reads, as `following.carry_out`. Raises: NoWorker: none is left."""

    def nobody() -> None:
        raise NoWorker(f"No worker answers any more; run {run} goes on as soon as one does.")

    steps = [one for lane in look_at(client, run)[0].lanes for one in lane.parts if one.kind == "step"]
    with Progress(what, len(steps)) as progress, following.leaving(run):

        def look(shown: RunView) -> None:
            for one in (one for lane in shown.lanes for one in lane.parts):
                if one.kind == "step" and one.status in following.OVER:
                    progress.done(one.id, one.status)

        _Follower(client, run, 0, look=look, nobody=nobody).to_the_end()


def _nothing(*_: object) -> None:
    """Do nothing."""


class _Follower:
    """What was told, and since when the server is away.

    *tell* is called with each event behind number *told*, *look* with how the run stands, *nobody* where no worker is
    alive that would carry it on.
    """

    def __init__(
        self,
        client: Client,
        run: str,
        told: int,
        *,
        tell: Callable[[Event], None] = _nothing,
        look: Callable[[RunView], None] = _nothing,
        nobody: Callable[[], None] = _nothing,
    ) -> None:
        self._client, self._run, self._told = client, run, told
        self._tell, self._look, self._nobody = tell, look, nobody
        self._lost: float | None = None
        self._wait_s = WAIT_S

    def to_the_end(self) -> RunView:
        """Return the run as it stands when it has ended or waits for people. Raises: Away, for too long; our errors."""
        while True:
            try:
                for mark in self._marks():
                    shown, n = look_at(self._client, self._run)
                    self._look(shown)
                    # What happened between the last event and this look is told first: another mark comes behind it.
                    if mark.over or (n <= self._told and following.exit_code(shown) is not None):
                        return shown
                    if not mark.workers:
                        self._nobody()
            except Away as away:
                self._bear(away)
            time.sleep(self._wait_s)
            self._wait_s = min(self._wait_s * 2, _LONGEST_S)

    def _marks(self) -> Iterator[_Mark]:
        """Tell events as they come, and yield whenever all that happened so far is told."""
        for one in self._client.stream(f"/api/runs/{part(self._run)}/events", after=self._told, marks=True):
            self._lost, self._wait_s = None, WAIT_S
            data = json.loads(one.data)
            if one.event == "closed":
                yield _Mark(over=True)
            elif one.event == "caught_up":
                # Events of others' clusters are not sent, but they are over too.
                self._told = max(self._told, int(data["n"]))
                yield _Mark(workers=int(data["workers"]))
            elif (event := as_value(Event, data)).n > self._told:
                self._told = event.n
                self._tell(event)

    def _bear(self, away: Away) -> None:
        """Return while the server may still come back; the first time without a word, since it often has already."""
        now = time.monotonic()
        if self._lost is None:
            self._lost = now
            return
        if now - self._lost > AWAY_S:
            raise away
        note(f"{away}; trying again", "yellow")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """All that happened so far was told; `workers` are alive, and the run is `over` or not."""

    over: bool = False
    workers: int = 1
