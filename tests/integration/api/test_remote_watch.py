"""`runs watch` over the API: the stream of events, the same lines as on the machine, and cuts in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from api.cli import remote_following
from api.routes import events
from tests.integration.api.remote_world import far_side, served
from workflows.journal import lanes, stock


class Cutting:
    """An application whose streams break off behind so many events, as at a network that fails."""

    def __init__(self, app, *, behind: int, times: int) -> None:
        self._app, self._behind, self._left = app, behind, times
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, scope, receive, send) -> None:
        """Answer."""
        if scope["type"] != "http" or not scope["path"].endswith("/events"):
            self.asked.append((scope.get("path", ""), ""))
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        self.asked.append((scope["path"], headers.get(b"last-event-id", b"").decode()))
        sent = 0

        async def cut(message) -> None:
            nonlocal sent
            if b"event:" in message.get("body", b""):
                sent += 1
                if sent > self._behind and self._left:
                    self._left -= 1
                    raise ConnectionResetError
            await send(message)

        await self._app(scope, receive, cut)

    def looks(self, run: str) -> int:
        """Return how often the run was looked at."""
        return [path for path, _ in self.asked].count(f"/api/runs/{run}")

    @property
    def streams(self) -> list[int]:
        """The number behind which each stream began."""
        return [int(last) for path, last in self.asked if path.endswith("/events")]


@pytest.fixture
def cutting(seeded, monkeypatch) -> Cutting:
    """Give the application, which looks often and cuts each of its first three streams behind four events."""
    monkeypatch.setattr(events, "LOOK_S", 0.03)
    monkeypatch.setattr(remote_following, "WAIT_S", 0.02)
    return Cutting(seeded.app, behind=4, times=3)


def started(seeded) -> str:
    """Return a run of one cluster that nobody has worked on yet."""
    seeded.survey()
    seeded.world.beat()
    return seeded.world.ok("run", "--yes", "--cluster", "seoul", by="olga").strip()


@contextmanager
def meanwhile(function, *, once) -> Iterator[None]:
    """Call *function* in a thread as soon as *once* returns true."""

    def work() -> None:
        while not once():
            time.sleep(0.02)
        function()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join()


def test_a_cut_stream_goes_on_where_it_was_cut(seeded, cutting, monkeypatch):
    """Nothing is missing and nothing is told twice: the lines are those of the machine, in their order."""
    run = started(seeded)
    with served(cutting) as url, meanwhile(lambda: seeded.world.advance(run), once=lambda: cutting.streams):
        far = far_side(seeded, url, monkeypatch)("runs", "watch", run)
    here = seeded.world.say("runs", "watch", run)
    # The server lives in this process and logs that its connection broke; that is not what the command says.
    result = "".join(line for line in far.stdout.splitlines(keepends=True) if "ConnectionResetError" not in line)
    assert (far.exit_code, result, far.stderr) == (3, here.stdout, here.stderr)
    assert "gate opened" in far.stderr
    began = cutting.streams
    assert (len(began) >= 4, began, began[0]) == (True, sorted(set(began)), 0)


def test_while_nothing_happens_nobody_asks(seeded, cutting, monkeypatch):
    """One stream, and a look behind what it brings."""
    monkeypatch.setattr(events, "MARK_EVERY", 1000)
    cutting._left = 0
    run = started(seeded)
    once = partial(cutting.looks, run)
    pause = partial(lanes.pause_lane, run=run, lane="seoul", by="olga")
    with served(cutting) as url, meanwhile(lambda: (time.sleep(1), seeded.journal.write(pause)), once=once):
        far = far_side(seeded, url, monkeypatch)("runs", "watch", run)
    assert (far.exit_code, "lane paused by olga" in far.stderr) == (4, True)
    assert len(cutting.streams) == 1
    assert cutting.looks(run) <= 3


def test_nobody_at_work_is_told(seeded, cutting, monkeypatch):
    run = started(seeded)
    seeded.journal.write(lambda tx: stock.leave(tx, "test@here"))
    with served(cutting) as url, meanwhile(lambda: seeded.world.advance(run), once=lambda: cutting.looks(run) > 1):
        far = far_side(seeded, url, monkeypatch)("runs", "watch", run)
    assert (far.exit_code, "no worker answers" in far.stderr) == (3, True)


def test_a_server_that_stays_away_is_told(seeded, monkeypatch):
    monkeypatch.setattr(remote_following, "WAIT_S", 0.02)
    monkeypatch.setattr(remote_following, "AWAY_S", 0.0)
    run = seeded.waiting_run("seoul")

    async def gone(scope, receive, send) -> None:
        if scope["path"].endswith("/events"):
            raise ConnectionResetError
        await seeded.app(scope, receive, send)

    with served(gone) as url:
        far = far_side(seeded, url, monkeypatch)("runs", "watch", run)
    assert far.exit_code == 1
    assert "→" in far.stderr


def test_a_run_of_several_clusters_is_followed_by_somebody_of_one(seeded, cutting, monkeypatch):
    run = seeded.waiting_run()
    with served(cutting) as url:
        far = far_side(seeded, url, monkeypatch)("runs", "watch", run, who="sol")
    assert far.exit_code == 3, far.stderr
    assert ("seoul" in far.stderr, "busan" in far.stderr + far.stdout) == (True, False)
