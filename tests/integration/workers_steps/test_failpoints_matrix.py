"""Every failpoint x {the process dies, raises, stands still past its lease, does it and then raises}: all is done once.

Each run is struck once at each of its lines (at one line of each step, where what fails is tried again by itself or has
its node put back), and ends as if nothing had been: each change was carried out once, a restart at most twice, and what
was parked said why. The quick ones are in the default suite, all with CERTBRIDGE_CHAOS=1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from database_engine import DatabaseEngine
from failpoints_engine import ACTIONS, Struck, virtual_clock
from steps_engine import RUN

from simulator.fleet import FleetSettings, start_fleet_in_thread
from workers import failpoints
from workers.failpoints import EFFECT
from workflows.plan import LineKind

Start = Callable[..., Struck]
RENEWAL = {"nodes": 1, "services": ("webadmin", "callbridge", "webbridge3")}
REBUILD = {
    "joined": 2,
    "connected": 1,
    "days_left": 5,
    "database_days_left": 5,
    "speed": 400.0,
    "services": ("callbridge", "webadmin"),
}
QUICK = {
    ("renewal", "after_intent", "kill"),
    ("renewal", "after_effect", "kill"),
    ("renewal", "after_intent", "stall"),
    ("renewal", "after_effect", "raise"),
    ("renewal", "after_intent", "effect-then-raise"),
    ("rebuild", "after_intent", "kill"),
    ("rebuild", "after_effect", "kill"),
}
JOURNAL = ("before_claim", "after_claim", "before_finish", "after_finish")
TOO_OFTEN = "times without an end"
NOT_SEEN = "was sent, but the node shows neither that it goes on nor that it is done"


@pytest.fixture
def strike(key_file: Path, tmp_path: Path) -> Iterator[Start]:
    """Return a function that carries a "renewal" or a "rebuild" to its end while it is struck."""
    with ExitStack() as stack:
        clock = stack.enter_context(virtual_clock())
        # Without a worker's own set-up each error is drawn with all its variables, whole plans among them: seconds.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        stack.callback(structlog.reset_defaults)

        def same_names(document: dict[str, Any]) -> None:
            document["defaults"]["files"] = "same"

        def begin(kind: str, point: str, action: str, *, nth: int = -1, same: bool = False) -> Struck:
            shape = RENEWAL if kind == "renewal" else REBUILD
            settings = FleetSettings(key_pool=key_file, reboot_s=0.3, out=tmp_path / "fleet", **shape)
            fleet = stack.enter_context(start_fleet_in_thread(settings))
            engine = DatabaseEngine(fleet, tmp_path, same_names if same else None)
            stack.callback(engine.close)
            struck = Struck(engine, clock, point=point, action=action, nth=nth)
            stack.callback(struck.close)
            engine.start(engine.plan() if kind == "renewal" else engine.database_plan())
            stack.callback(failpoints.switch, None)
            failpoints.switch(struck)
            struck.to_the_end()
            failpoints.switch(None)
            return struck

        yield begin


def cases(kind: str) -> list[Any]:
    """Return (point, action) of all cases; those that are not quick are for chaos."""
    return [
        pytest.param(point, action, marks=() if (kind, point, action) in QUICK else pytest.mark.chaos)
        for action in ACTIONS
        for point in EFFECT
    ]


def nth_of(point: str, action: str) -> int:
    """Return which line of each step is struck: all, unless the step fails of it."""
    return -1 if action in {"kill", "stall"} else EFFECT.index(point)


def wrong(struck: Struck) -> dict[tuple[str, str, str], int]:
    """Return the changes that were not carried out as often as planned: {(node, kind, text): times}.

    A restart may come twice. When nodes were put back, their lines of stage 600 and later came again.
    """
    counts, planned, back = struck.counts(), struck.planned(), struck.put_back()
    found = {}
    for change, steps in planned.items():
        node, _, text = change
        most = len(steps) + (1 if text.endswith(" restart") else 0)
        if any(step.stage >= 600 for step in steps):
            most += 2 * back[node]  # once more there, and once more on the way back
        if counts[change] > most or (counts[change] < len(steps) and not _may_be_left_out(text)):
            found[change] = counts[change]
    undo = {line.text for lane in struck.engine.work.plan(RUN)[0].lanes for step in lane.steps() for line in step.undo}
    return found | {one: times for one, times in counts.items() if one not in planned and one[2] not in undo}


def _may_be_left_out(text: str) -> bool:
    """Return whether a line is only sent where it is needed: an old backup of this run, an interface to set."""
    return text.endswith(".bak") or text.startswith("database cluster localnode")


# ── complete ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["renewal", "rebuild"])
def test_every_line_passes_the_four_places_in_order(strike: Start, kind: str) -> None:
    """A whole run: what the servers saw and what passed the failpoints are the same changes, each place once."""
    struck = strike(kind, "", "", same=True)
    places: dict[tuple[str, str], list[str]] = {}
    for name, text, where in struck.passed:
        if name in EFFECT:
            places.setdefault((where, text), []).append(name)
    assert set(map(tuple, places.values())) == {EFFECT}
    assert wrong(struck) == {}
    assert struck.counts().total() == len(places)
    kinds = {text.split()[1] for _, text in places if text.startswith("sftp ")}
    assert kinds >= {LineKind.UPLOAD.value, LineKind.DELETE.value}
    assert (LineKind.RENAME.value in kinds) == (kind == "renewal")


# ── struck ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("point", "action"), cases("renewal"))
def test_a_renewal_that_is_struck_at_every_line_does_each_once(strike: Start, point: str, action: str) -> None:
    """It ends, nothing is due any more, and each change came once."""
    struck = strike("renewal", point, action, nth=nth_of(point, action), same=action in {"kill", "stall"})
    assert wrong(struck) == {}
    assert len(struck.hits) >= 9
    assert (struck.engine.lane().status, struck.engine.plan().empty) == ("done", True)
    assert struck.engine.fleet.broken_links() == []
    allowed = "FailpointRaised" if action == "raise" else TOO_OFTEN
    assert [reason for reason in struck.reasons() if allowed not in reason] == []


@pytest.mark.parametrize(("point", "action"), cases("rebuild"))
def test_a_rebuild_that_is_struck_at_every_line_does_each_once(strike: Start, point: str, action: str) -> None:
    """An operation that may have gone out is never sent again by itself: it is parked, and one resume ends it."""
    struck = strike("rebuild", point, action, nth=nth_of(point, action))
    assert wrong(struck) == {}
    assert len(struck.hits) >= 9
    assert struck.engine.violations() == []
    assert struck.engine.roles() == {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
    assert (struck.engine.lane().status, struck.engine.database_plan().empty) == ("done", True)
    allowed = {"raise": ("FailpointRaised", NOT_SEEN, "degraded")}.get(action, (TOO_OFTEN, NOT_SEEN, "degraded"))
    assert [reason for reason in struck.reasons() if not any(one in reason for one in allowed)] == []
    if point == "after_intent" and action == "kill":
        assert [reason for reason in struck.reasons() if NOT_SEEN in reason] != []


@pytest.mark.parametrize(
    "point", [pytest.param(one, marks=() if one == "before_finish" else pytest.mark.chaos) for one in JOURNAL]
)
@pytest.mark.parametrize("kind", ["renewal", pytest.param("rebuild", marks=pytest.mark.chaos)])
def test_a_process_that_dies_at_every_step_loses_none(strike: Start, kind: str, point: str) -> None:
    """Before and behind each claim and each end of a step: the next process goes on from what is written."""
    struck = strike(kind, point, "kill")
    assert wrong(struck) == {}
    assert len(struck.hits) >= 8
    assert (struck.engine.lane().status, struck.reasons()) == ("done", [])
