"""Laws of the canvas: whatever is done already, what is sent next keeps the order of the plan."""

from __future__ import annotations

from celery.canvas import Signature, _chain, _chord, group
from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_plan_laws import lanes
from workflows.canvas import compile_lane, ends_canvas, header_of
from workflows.plan import Barrier, Gate, Lane, predecessors, walk


def leaves(canvas: Signature | None) -> list[Signature]:
    """Return the single signatures of a canvas, in the order of the plan."""
    if canvas is None:
        return []
    if isinstance(canvas, _chord):
        return [*leaves(group(canvas.tasks)), *leaves(canvas.body)]
    if isinstance(canvas, _chain | group):
        return [leaf for task in canvas.tasks for leaf in leaves(task)]
    return [canvas]


def chords(canvas: Signature | None, depth: int = 0) -> int:
    """Return how deep chords and groups are nested in *canvas*."""
    if canvas is None:
        return depth
    if isinstance(canvas, _chord):
        inside = [chords(task, depth + 1) for task in canvas.tasks]
        return max([depth + 1, *inside, chords(canvas.body, depth)])
    if isinstance(canvas, _chain | group):
        return max([depth, *(chords(task, depth + isinstance(canvas, group)) for task in canvas.tasks)])
    return depth


@st.composite
def begun(draw: st.DrawFn) -> tuple[Lane, frozenset[str]]:
    """Give a lane and what is done of it: whatever is done has all its predecessors done."""
    lane = draw(lanes())
    done: set[str] = set()
    for leaf in walk(lane.tree):
        if predecessors(lane, leaf.id) <= done and draw(st.sampled_from([True, True, True, False])):
            done.add(leaf.id)
    return lane, frozenset(done)


@given(begun())
def test_what_is_sent_is_open_in_order_and_ends_at_the_first_gate(case: tuple[Lane, frozenset[str]]) -> None:
    """A stretch is the open leaves from the front, without a gap, up to a gate or to the next wide part."""
    lane, done = case
    sent = [leaf.kwargs["step"] for leaf in leaves(compile_lane("r", lane, done, 1))]
    left = [leaf.id for leaf in walk(lane.tree) if leaf.id not in done]
    gates = [one for one in sent if isinstance(lane.part(one), Gate)]
    assert sent == left[: len(sent)]
    assert bool(sent) == bool(left)
    assert gates in ([], sent[-1:])


@given(begun())
def test_chords_are_never_nested_and_never_have_one_member(case: tuple[Lane, frozenset[str]]) -> None:
    """A chord in a chord hangs, and a chord of one member never starts its body (engine-notes 2.8, celery #8182)."""
    lane, done = case
    canvas = compile_lane("r", lane, done, 1)
    assert chords(canvas) <= 1
    if isinstance(canvas, _chord):
        assert len(canvas.tasks) > 1


@given(begun())
def test_only_members_of_a_par_stand_in_a_header(case: tuple[Lane, frozenset[str]]) -> None:
    """A task outside a Par may end its chain; one inside must return, also when it is alone, and is told so."""
    lane, done = case
    canvas = compile_lane("r", lane, done, 1)
    inside = [leaf for leaf in leaves(canvas) if header_of(lane, leaf.kwargs["step"]) and leaf.task != "barrier"]
    flagged = [leaf.kwargs["step"] for leaf in leaves(canvas) if leaf.kwargs["header"]]
    assert flagged == [leaf.kwargs["step"] for leaf in inside]


@given(begun(), st.integers(1, 9))
def test_payloads_are_ids_and_names_are_made_from_them(case: tuple[Lane, frozenset[str]], generation: int) -> None:
    """The same lane, done and generation give the same messages; ids only, never a line or a name of a server."""
    lane, done = case
    first, again = (leaves(compile_lane("r", lane, done, generation)) for _ in range(2))
    assert [(leaf.kwargs, leaf.options) for leaf in first] == [(leaf.kwargs, leaf.options) for leaf in again]
    assert {frozenset(leaf.kwargs) for leaf in first} <= {frozenset({"run", "lane", "step", "generation", "header"})}
    assert len({leaf.options["task_id"] for leaf in first}) == len(first)


@given(lanes())
def test_stretch_after_stretch_carries_out_the_whole_lane_once(lane: Lane) -> None:
    """Doing what is sent until nothing is left does every leaf once, and only ends that ask for more ask for more."""
    done: list[str] = []
    while canvas := compile_lane("r", lane, frozenset(done), 1):
        sent = [leaf.kwargs["step"] for leaf in leaves(canvas)]
        last = lane.part(sent[-1])
        rest = [leaf for leaf in walk(lane.tree) if leaf.id not in {*done, *sent}]
        if rest and not isinstance(last, Gate):
            assert ends_canvas(lane, last.id) or isinstance(last, Barrier)
        done += sent
    assert done == [leaf.id for leaf in walk(lane.tree)]
