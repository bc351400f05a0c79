"""From a lane to Celery signatures, with nothing sent."""

from __future__ import annotations

import pytest
from celery.canvas import Signature, _chain, _chord, group

from tests.unit.core.test_plan import LANE, step
from workflows.canvas import compile_lane, ends_canvas, header_of, stretch
from workflows.plan import Barrier, Gate, Lane, Par, Seq

BARRIER = Barrier(id="b", name="b", holds="all of it")


def lane(*parts: object) -> Lane:
    """Return a lane of these parts."""
    return Lane(name="seoul", tree=Seq(parts))  # type: ignore[arg-type]


def leaves(canvas: Signature | None) -> list[Signature]:
    """Return the single signatures of a canvas, in the order of the plan."""
    if canvas is None:
        return []
    if isinstance(canvas, _chord):
        return [*leaves(group(canvas.tasks)), *leaves(canvas.body)]
    if isinstance(canvas, _chain | group):
        return [leaf for task in canvas.tasks for leaf in leaves(task)]
    return [canvas]


def ids(canvas: Signature | None) -> list[str]:
    """Return the step ids of a canvas in order."""
    return [leaf.kwargs["step"] for leaf in leaves(canvas)]


def test_wide_work_becomes_a_chord_and_the_canvas_ends_at_the_gate() -> None:
    """Two members at once, then barrier and gate; nothing behind the gate is sent."""
    canvas = compile_lane("r1", LANE, frozenset(), 3)
    assert isinstance(canvas, _chord)
    assert (ids(canvas), [leaf.task for leaf in leaves(canvas)]) == (
        ["p1", "p2", "p3", "b1", "g1"],
        ["apply", "apply", "apply", "barrier", "open_gate"],
    )


def test_a_par_of_one_is_a_chain() -> None:
    """A chord of one member never starts its body (celery #8182); the member still returns, for the barrier's sake."""
    canvas = compile_lane("r1", LANE, {"p2", "p3"}, 1)
    assert (isinstance(canvas, _chain), ids(canvas)) == (True, ["p1", "b1", "g1"])
    assert [leaf.kwargs["header"] for leaf in leaves(canvas)] == [True, False, False]


def test_behind_the_gate_the_rest_is_a_chain() -> None:
    """One step after the other, to the end of the lane."""
    canvas = compile_lane("r1", LANE, {"p1", "p2", "p3", "b1", "g1"}, 1)
    assert (isinstance(canvas, _chain), ids(canvas)) == (True, ["s1", "s2", "s3", "b2"])


def test_a_last_single_part_is_no_chain() -> None:
    """One signature is sent as it is."""
    done = {"p1", "p2", "p3", "b1", "g1", "s1", "s2", "s3"}
    canvas = compile_lane("r1", LANE, done, 1)
    assert (type(canvas), ids(canvas)) == (Signature, ["b2"])


def test_nothing_left_is_no_canvas() -> None:
    """All is done."""
    done = {"p1", "p2", "p3", "b1", "g1", "s1", "s2", "s3", "b2"}
    assert compile_lane("r1", LANE, done, 1) is None


def test_a_second_par_waits_for_the_next_canvas() -> None:
    """Chords are never nested: the journal's outbox goes on."""
    wide = lane(step("a"), Par((step("p"), step("q"))), BARRIER)
    assert ids(compile_lane("r1", wide, frozenset(), 1)) == ["a"]
    assert ids(compile_lane("r1", wide, {"a"}, 1)) == ["p", "q", "b"]


def test_a_par_without_its_barrier_is_refused() -> None:
    """Nobody would know when it is over."""
    with pytest.raises(ValueError, match="not followed by a Barrier"):
        compile_lane("r1", lane(Par((step("p"), step("q")))), frozenset(), 1)


def test_what_stands_behind_a_gate_in_the_same_seq_is_not_sent() -> None:
    """A gate ends the canvas wherever it stands."""
    inside = lane(Seq((step("a"), Gate(id="g", name="go", needs="approval"), step("b"))))
    assert ids(compile_lane("r1", inside, frozenset(), 1)) == ["a", "g"]


def test_payloads_hold_ids_only_and_task_ids_are_made_from_them() -> None:
    """A message sent twice has one name; another generation has another."""
    first, again, later = (leaves(compile_lane("r1", LANE, frozenset(), n)) for n in (1, 1, 2))
    assert first[0].kwargs == {"run": "r1", "lane": "seoul", "step": "p1", "generation": 1, "header": True}
    names = [[leaf.options["task_id"] for leaf in one] for one in (first, again, later)]
    assert (names[0] == names[1], set(names[0]) & set(names[2]), len(set(names[0]))) == (True, set(), len(names[0]))


def test_signatures_go_to_the_queue_and_take_no_result_of_their_elders() -> None:
    """Immutable, so that nothing but the ids goes along."""
    found = leaves(compile_lane("r1", LANE, frozenset(), 1, "cluster"))
    assert {(leaf.options["queue"], leaf.immutable, leaf.args) for leaf in found} == {("cluster", True, ())}


def test_whoever_ends_a_canvas_asks_for_the_next() -> None:
    """Before a Par and at the end of the lane; members of a Par leave that to their barrier."""
    wide = lane(step("a"), Par((step("p"), step("q"))), BARRIER, Seq((step("s"), step("t"))))
    assert {name: ends_canvas(wide, name) for name in ("a", "p", "q", "b", "s", "t")} == {
        "a": True,
        "p": False,
        "q": False,
        "b": False,
        "s": False,
        "t": True,
    }


def test_a_barrier_knows_the_header_it_closes() -> None:
    """All steps of the Par before it, however they are nested; a lone step has none."""
    steps, barrier = header_of(LANE, "p3") or ((), None)
    assert ([one.id for one in steps], barrier, header_of(LANE, "s1"), header_of(LANE, "b2")) == (
        ["p1", "p2", "p3"],
        LANE.tree.parts[1],
        None,
        None,
    )


def test_a_half_done_member_goes_on_where_it_stands() -> None:
    """Its first step is done; the second is sent beside the other member."""
    members, links = stretch(LANE, {"p2"})
    assert ([[one.id for one in member] for member in members], [one.id for one in links]) == (
        [["p1"], ["p3"]],
        ["b1", "g1"],
    )
