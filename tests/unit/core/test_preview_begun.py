"""What a pause or a cancel lets go on: steps that have sent a line, also those that wait for their next try."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.fleets import facts_of, lone, plan_of
from workflows import preview
from workflows.journal.fold import LaneState, RunState, StepState

STEP = "seoul/a1/apply/webadmin"


@pytest.mark.parametrize(("lines", "goes_on"), [((), ()), (((0, "ok"), (1, "unknown")), (STEP,))])
def test_step_that_waits_half_way_goes_on_to_its_end(
    lines: tuple[tuple[int, str], ...], goes_on: tuple[str, ...]
) -> None:
    """One that waits before its first line never runs; one that waits behind it is not left where it stands."""
    fleet = lone()
    plan = plan_of(fleet, facts_of(fleet))
    step = StepState(id=STEP, node="a1", status="waiting", lines=lines)
    state = RunState(run="r1", kind="renewal", lanes={"seoul": LaneState(name="seoul", steps={STEP: step})})
    shown = preview.cancel(plan, state)
    assert (shown.would_run, STEP in shown.left) == (goes_on, not goes_on)


@pytest.mark.parametrize("action", [preview.pause, preview.cancel])
@pytest.mark.parametrize("dead", [(), (STEP,)])
def test_step_whose_worker_died_before_its_first_line_is_not_at_work(action: Any, dead: tuple[str, ...]) -> None:
    """Nobody goes on with it under a pause or a cancel, so it is among what is left."""
    fleet = lone()
    plan = plan_of(fleet, facts_of(fleet))
    step = StepState(id=STEP, node="a1", status="running")
    lane = LaneState(name="seoul", status="running", steps={STEP: step})
    shown = action(plan, RunState(run="r1", kind="renewal", lanes={"seoul": lane}), dead=dead)
    assert (STEP in shown.would_run, STEP in shown.left) == (not dead, bool(dead))
    assert ("no step is at work now" in shown.effect) == bool(dead)
