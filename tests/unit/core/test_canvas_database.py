"""A lane of a database goes on without nodes that are parked, and takes up these alone when it is resumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.core.database_fleets import a_database_fleet, database_plan
from tests.unit.core.test_canvas import ids
from tests.unit.core.test_plan import step
from workers.control import left_for_later
from workflows.canvas import compile_lane, ends_canvas, header_of
from workflows.plan import Barrier, Lane, Par, Seq, Step, walk

LANE = database_plan(a_database_fleet(3, 2)).lanes[0]
ORDER = [leaf.id for leaf in walk(LANE.tree)]
BEHIND = ORDER[ORDER.index("seoul/point-of-no-return") + 1 :]


def done_before(part: str) -> set[str]:
    """Return all that stands before *part* in the lane."""
    return set(ORDER[: ORDER.index(f"seoul/{part}")])


def test_the_work_before_the_gate_comes_in_three_canvases() -> None:
    """One for each Par, since chords are never nested; the last one ends at the gate."""
    done: set[str] = set()
    canvases: list[list[str]] = []
    while not done & {"seoul/point-of-no-return"}:
        canvases.append(ids(compile_lane("r", LANE, done, 1)))
        done |= set(canvases[-1])
    assert [(sent[0], sent[-1]) for sent in canvases] == [
        ("seoul/a1/prepare", "seoul/prepared"),
        ("seoul/a1/request/dbserver", "seoul/a1/sign/dbclient"),
        ("seoul/a1/deliver/database", "seoul/point-of-no-return"),
    ]


def test_all_that_changes_the_cluster_is_one_chain() -> None:
    """Readings and backups are wide; from the first `remove` on there is one canvas, one part after the other."""
    sent = ids(compile_lane("r", LANE, done_before("b1/remove"), 1))
    assert sent == ORDER[ORDER.index("seoul/b1/remove") :]
    assert [one for one in sent if header_of(LANE, one)] == []
    assert [one for one in sent if ends_canvas(LANE, one)] == ["seoul/a1/agree"]


def test_a_parked_node_is_left_out_with_the_barrier_behind_it() -> None:
    """The next nodes are sent, and `agree` at the end, which tells that the cluster is degraded."""
    later = left_for_later(LANE, {"seoul/a2/join"})
    assert later == {"seoul/a2/join", "seoul/a2/in-place"}
    sent = ids(compile_lane("r", LANE, done_before("a2/join") | later, 2))
    assert sent == ORDER[ORDER.index("seoul/a3/join") :]


def test_a_resumed_lane_takes_up_the_parked_nodes_alone() -> None:
    """In their order, each with its barrier, and `agree` once more."""
    parked = {"seoul/a2/join", "seoul/b1/connect"}
    done = set(ORDER) - left_for_later(LANE, parked) - {"seoul/a1/agree"}
    assert ids(compile_lane("r", LANE, done, 3)) == [
        *("seoul/a2/join", "seoul/a2/in-place"),
        *("seoul/b1/connect", "seoul/b1/in-place"),
        "seoul/a1/agree",
    ]


@pytest.mark.parametrize("name", ["b1/remove", "a1/remove", "a1/initialize", "a1/agree", "a2/recheck", "a2/in-place"])
def test_nothing_else_is_ever_left_for_later(name: str) -> None:
    """A removal or the primary that fails stops the lane, whatever its claim says."""
    assert left_for_later(LANE, {f"seoul/{name}"}) == frozenset()


def test_who_parks_without_a_barrier_is_left_out_alone() -> None:
    """At the end of a lane, before another step, or in a Par, which waits for all."""
    last, first = replace(step("last"), parks=True), replace(step("first"), parks=True)
    inside = Par((replace(step("p"), parks=True), step("q")))
    lane = Lane(name="seoul", tree=Seq((inside, Barrier(id="b", name="b", holds="all"), first, last)))
    assert left_for_later(lane, {"p", "first", "last"}) == {"first", "last"}


def test_after_a_voided_approval_the_readings_are_sent_anew() -> None:
    """Gate, readings and their barrier are open again; once the gate is passed, nothing else comes first."""
    reopened = [one for one in BEHIND if one.endswith("/recheck") or one == "seoul/as-approved"]
    at_gate = done_before("point-of-no-return")
    assert ids(compile_lane("r", LANE, at_gate, 4)) == ["seoul/point-of-no-return"]
    assert ids(compile_lane("r", LANE, at_gate | {"seoul/point-of-no-return"}, 5)) == reopened


def test_backups_that_are_made_anew_come_before_the_first_removal() -> None:
    """Too old at the first `remove`, they are reopened with their barrier: the removal is behind them again."""
    backups = [one for one in BEHIND if one.endswith("/backup")]
    done = done_before("b1/remove") - {*backups, "seoul/backed-up"}
    sent = ids(compile_lane("r", LANE, done, 4))
    assert sent[: len(backups) + 2] == [*backups, "seoul/backed-up", "seoul/b1/remove"]
    assert all(isinstance(LANE.part(one), Step) for one in backups)
