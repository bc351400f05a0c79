"""The plan as data: JSON both ways, a digest, and what must be done before what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.fleets import a_cluster, a_fleet, facts_of, plan_of, usual_wishes
from workflows.plan import (
    Barrier,
    Expect,
    Gate,
    Interruption,
    Lane,
    Line,
    LineKind,
    Par,
    Plan,
    Seq,
    Step,
    predecessors,
    remaining,
)


def step(name: str, node: str = "n1", **changes: Any) -> Step:
    """Return a step with something in every field."""
    whole = Step(
        id=name,
        node=node,
        action="apply",
        stage=700,
        title="in words",
        params={"wanted": {"turn": {"key": "turn.key"}}, "pairs": [["a", "b"]]},
        expects=(Expect(kind="setting", subject="turn", value={"enabled": True}),),
        lines=(Line(kind=LineKind.COMMAND, text="turn disable", content="disable:turn", question="(Y/n)", answer="Y"),),
        undo=(Line(kind=LineKind.RENAME, text="a -> b"),),
        interrupts=(Interruption(service="turn", what="media", from_s=5, to_s=20),),
        allow_s=60,
        source="n2",
    )
    return replace(whole, **changes)


LANE = Lane(
    name="seoul",
    tree=Seq(
        (
            Par((step("p1"), Seq((step("p2"), step("p3", "n2"))))),
            Barrier(id="b1", name="ready", holds="all is ready"),
            Gate(id="g1", name="sign", needs="approval"),
            step("s1"),
            Seq((step("s2"), step("s3"))),
            Barrier(id="b2", name="proved", holds="all is proved"),
        )
    ),
)
PLAN = Plan(
    kind="renewal",
    fleet={"name": "demo"},
    lanes=(LANE,),
    wishes={"w": {"dns": ["a"]}},
    notices=("mind",),
    facts={"n1": "x"},
)


def with_step(plan: Plan, **changes: Any) -> Plan:
    """Return *plan* with its step s1 changed."""
    (lane,) = plan.lanes
    parts = tuple(replace(part, **changes) if getattr(part, "id", "") == "s1" else part for part in lane.tree.parts)
    return replace(plan, lanes=(replace(lane, tree=Seq(parts)),))


def test_a_plan_goes_through_json_and_comes_back_equal() -> None:
    """The journal keeps JSON; workers read it back."""
    assert Plan.from_json(PLAN.to_json()) == PLAN


@pytest.mark.parametrize("release", ["2.9", "3.9"])
def test_a_renewal_goes_through_json_and_comes_back_equal(release: str) -> None:
    """Nothing in a made plan is of a kind that JSON would change, so the digest is the same on both sides."""
    fleet = a_fleet(a_cluster("seoul", ("a1", "a2"), usual_wishes(("a1", "a2"), release)))
    plan = plan_of(fleet, facts_of(fleet, release))
    back = Plan.from_json(plan.to_json())
    assert (back, back.digest()) == (plan, plan.digest())


def test_predictions_stand_outside_the_digest() -> None:
    """How long an interruption may take is a guess; a better guess needs no new approval."""
    better = (Interruption(service="turn", what="media", from_s=1, to_s=2),)
    assert with_step(PLAN, interrupts=better).digest() == PLAN.digest()


@pytest.mark.parametrize(
    "changed",
    [
        with_step(PLAN, node="n9"),
        with_step(PLAN, action="swap"),
        with_step(PLAN, stage=701),
        with_step(PLAN, title="other words"),
        with_step(PLAN, params={}),
        with_step(PLAN, expects=()),
        with_step(PLAN, lines=()),
        with_step(PLAN, undo=()),
        with_step(PLAN, interrupts=()),
        with_step(PLAN, interrupts=(Interruption(service="turn", what="calls"),)),
        with_step(PLAN, allow_s=61),
        with_step(PLAN, source=""),
        with_step(PLAN, lines=(Line(kind=LineKind.COMMAND, text="turn disable", content="disable:turn"),)),
        replace(PLAN, kind="survey"),
        replace(PLAN, fleet={"name": "other"}),
        replace(PLAN, wishes={}),
        replace(PLAN, notices=()),
        replace(PLAN, facts={}),
        replace(PLAN, lanes=(replace(LANE, fail_limit=1),)),
        replace(PLAN, lanes=(replace(LANE, name="busan"),)),
        replace(PLAN, lanes=()),
    ],
)
def test_everything_else_moves_the_digest(changed: Plan) -> None:
    """What was approved is what is carried out, to the letter."""
    assert changed.digest() != PLAN.digest()


@pytest.mark.parametrize(
    ("part", "before"),
    [
        ("p1", set()),
        ("p2", set()),
        ("p3", {"p2"}),
        ("b1", {"p1", "p2", "p3"}),
        ("g1", {"p1", "p2", "p3", "b1"}),
        ("s1", {"p1", "p2", "p3", "b1", "g1"}),
        ("s3", {"p1", "p2", "p3", "b1", "g1", "s1", "s2"}),
        ("b2", {"p1", "p2", "p3", "b1", "g1", "s1", "s2", "s3"}),
    ],
)
def test_a_part_waits_for_its_elders_only(part: str, before: set[str]) -> None:
    """Members of a Par never wait for each other; the parts of a Seq do."""
    assert predecessors(LANE, part) == before


def test_unknown_parts_are_told() -> None:
    """An id that is nowhere in the lane is an error of the caller."""
    for ask in (lambda: predecessors(LANE, "x"), lambda: LANE.part("x"), lambda: PLAN.lane("x")):
        with pytest.raises(KeyError):
            ask()


def test_what_remains_keeps_its_order() -> None:
    """Whatever is done is left out, the rest stands as before."""
    assert [leaf.id for leaf in remaining(LANE, {"p1", "b1", "s2"})] == ["p2", "p3", "g1", "s1", "s3", "b2"]


def test_a_plan_tells_its_nodes_gates_and_parts() -> None:
    """Nodes come in order of appearance, parts by their id."""
    found = (PLAN.nodes(), [gate.id for gate in LANE.gates()], LANE.part("b2"), PLAN.lane("seoul"), PLAN.empty)
    assert found == (("n1", "n2"), ["g1"], LANE.tree.parts[-1], LANE, False)
    assert replace(PLAN, lanes=()).empty


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (Line(kind=LineKind.COMMAND, text="turn enable"), "turn enable"),
        (Line(kind=LineKind.COMMAND, text="x", question="sure?", answer="Y"), "x   [sure? → Y]"),
        (Line(kind=LineKind.UPLOAD, text="a.crt"), "sftp upload a.crt"),
        (Line(kind=LineKind.RENAME, text="a -> b"), "sftp rename a -> b"),
    ],
)
def test_a_line_reads_as_it_will_be_made(line: Line, text: str) -> None:
    """The same words in the plan, the runbook and the journal."""
    assert str(line) == text
