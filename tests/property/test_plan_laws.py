"""Laws of the plan tree, on any tree that `procedures` could make."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from workflows.plan import (
    Barrier,
    Expect,
    Gate,
    Interruption,
    Lane,
    Line,
    LineKind,
    Par,
    Part,
    Plan,
    Seq,
    Step,
    predecessors,
    remaining,
    walk,
)

TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
LINES = st.lists(
    st.builds(Line, kind=st.sampled_from(LineKind), text=TEXT, content=TEXT, question=TEXT, answer=TEXT), max_size=3
).map(tuple)


def steps(name: str) -> st.SearchStrategy[Step]:
    """Give any step called *name*."""
    return st.builds(
        Step,
        id=st.just(name),
        node=st.sampled_from(["", "n1", "n2"]),
        action=st.sampled_from(["apply", "request"]),
        stage=st.sampled_from([300, 700]),
        title=TEXT,
        params=st.dictionaries(TEXT, JSON, max_size=2),
        expects=st.lists(st.builds(Expect, kind=TEXT, subject=TEXT, value=JSON), max_size=2).map(tuple),
        lines=LINES,
        undo=LINES,
        interrupts=st.lists(
            st.builds(Interruption, service=TEXT, what=TEXT, from_s=st.integers(0, 9), to_s=st.integers(0, 9)),
            max_size=2,
        ).map(tuple),
        allow_s=st.integers(1, 900),
        source=TEXT,
    )


@st.composite
def lanes(draw: st.DrawFn, name: str = "seoul") -> Lane:
    """Give a lane: steps, barriers and gates one after the other, each Par with its Barrier behind it."""
    counter: Iterator[str] = (f"{name}/{number}" for number in range(10_000))

    def step() -> Step:
        return draw(steps(next(counter)))

    def member() -> Part:
        length = draw(st.integers(1, 2))
        return step() if length == 1 else Seq(tuple(step() for _ in range(length)))

    parts: list[Part] = []
    for kind in draw(st.lists(st.sampled_from(["step", "seq", "par", "barrier", "gate"]), min_size=1, max_size=7)):
        if kind == "step":
            parts.append(step())
        elif kind == "seq":
            parts.append(Seq(tuple(step() for _ in range(draw(st.integers(1, 3))))))
        elif kind == "gate":
            parts.append(Gate(id=next(counter), name="go", needs=draw(TEXT)))
        else:
            if kind == "par":
                parts.append(Par(tuple(member() for _ in range(draw(st.integers(1, 3))))))
            parts.append(Barrier(id=next(counter), name=draw(TEXT), holds=draw(TEXT)))
    return Lane(name=name, tree=Seq(tuple(parts)), fail_limit=draw(st.integers(0, 2)))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Give a plan of one or two lanes."""
    names = draw(st.sampled_from([("seoul",), ("seoul", "busan")]))
    return Plan(
        kind=draw(st.sampled_from(["renewal", "survey"])),
        fleet=draw(st.dictionaries(TEXT, JSON, max_size=2)),
        lanes=tuple(draw(lanes(name)) for name in names),
        wishes=draw(st.dictionaries(TEXT, st.dictionaries(TEXT, JSON, max_size=2), max_size=2)),
        notices=draw(st.lists(TEXT, max_size=2).map(tuple)),
        facts=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
    )


@given(plans())
def test_any_plan_goes_through_json_and_comes_back_equal(plan: Plan) -> None:
    """The journal's copy is the plan."""
    back = Plan.from_json(plan.to_json())
    assert (back, back.digest()) == (plan, plan.digest())


@given(lanes())
def test_whoever_stands_first_waits_for_nobody_behind(lane: Lane) -> None:
    """Predecessors come earlier in the tree, and waiting is passed on: whoever I wait for waits for no one I do not."""
    order = [leaf.id for leaf in walk(lane.tree)]
    before = {name: predecessors(lane, name) for name in order}
    for place, name in enumerate(order):
        assert before[name] <= set(order[:place])
        assert all(before[other] <= before[name] for other in before[name])


@given(lanes())
def test_barriers_and_gates_wait_for_all_that_stands_before_them(lane: Lane) -> None:
    """Nothing that began before a barrier or gate is still open when it is passed."""
    order = [leaf.id for leaf in walk(lane.tree)]
    for leaf in walk(lane.tree):
        if not isinstance(leaf, Step):
            assert predecessors(lane, leaf.id) == set(order[: order.index(leaf.id)])


@given(lanes(), st.data())
def test_what_remains_is_what_is_not_done(lane: Lane, data: st.DataObject) -> None:
    """In the order of the tree, each once."""
    order = [leaf.id for leaf in walk(lane.tree)]
    done = data.draw(st.sets(st.sampled_from(order)))
    assert [leaf.id for leaf in remaining(lane, done)] == [name for name in order if name not in done]
