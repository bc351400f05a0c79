"""What a pause or a cancel lets go on: steps that have sent a line, also those that wait for their next try."""

from __future__ import annotations

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
