"""The journal and a plan of a database cluster: no message, early, late or double, begins an operation out of turn."""

from __future__ import annotations

import pytest

from tests.integration.journal.world import end, make_run, next_generation, take
from tests.unit.core.database_fleets import a_database_fleet, database_plan
from workers.attempt import resources
from workers.control import left_for_later, pass_barrier
from workflows.journal import Journal, Transaction
from workflows.journal.claims import Claim, Drop, parked, pass_through
from workflows.journal.lanes import resume_lane
from workflows.plan import Barrier, Gate, Step, predecessors, walk

PLAN = database_plan(a_database_fleet(2, 1), upgrade_schema=True)
LANE = PLAN.lanes[0]
OPERATIONS = [step for step in LANE.steps() if step.stage >= 700]
ORDER = [leaf.id for leaf in walk(LANE.tree)]


class Messages:
    """What a broker might bring, in any order: a message for a part of the lane, of some generation."""

    def __init__(self, journal: Journal) -> None:
        make_run(journal)
        self.journal = journal
        self.generation = 1

    def claim(self, step: Step, *, generation: int = 0, holder: str = "worker-1") -> Claim | Drop:
        """Have a worker try *step*, as `Attempt` does."""
        later = left_for_later(LANE, self.journal.read(lambda connection: parked(connection, "r1", "seoul")))
        return take(
            self.journal,
            step.id,
            node=step.node,
            generation=generation or self.generation,
            holder=holder,
            predecessors=predecessors(LANE, step.id) - later,
            resources=resources(PLAN, "r1", step),
        )

    def refused(self, step: Step, **message: int) -> str:
        """Return why *step* is not claimed."""
        drop = self.claim(step, holder="worker-2", **message)  # type: ignore[arg-type]
        assert isinstance(drop, Drop), drop
        return drop.reason.value

    def carry_out(self, leaf: Step | Barrier | Gate, status: str = "done") -> None:
        """Let *leaf* be done in its turn."""

        def write(tx: Transaction) -> object:
            if isinstance(leaf, Gate):
                return pass_through(tx, "r1", "seoul", leaf.id, self.generation)
            return pass_barrier(tx, plan=PLAN, run="r1", lane="seoul", barrier=leaf.id, generation=self.generation)

        if isinstance(leaf, Step):
            claimed = self.claim(leaf)
            assert isinstance(claimed, Claim), claimed
            end(self.journal, claimed, status)
        else:
            assert self.journal.write(write) in {"passed", None}

    def next_canvas(self) -> None:
        """Raise the generation."""
        raised = next_generation(self.journal)
        assert raised is not None
        self.generation = raised


@pytest.fixture
def messages(journal: Journal) -> Messages:
    """Give a lane on which nothing is done yet."""
    return Messages(journal)


def test_no_operation_may_be_claimed_before_its_turn(messages: Messages) -> None:
    """At every place of the lane, messages for all operations behind it come early, and each is dropped."""
    for place, name in enumerate(ORDER):
        leaf = LANE.part(name)
        behind = [step for step in OPERATIONS if step.id in ORDER[place + 1 :]]
        assert {messages.refused(step) for step in behind} <= {"predecessors"}
        messages.carry_out(leaf)
    assert len(OPERATIONS) == 8


def test_an_operation_at_work_is_the_only_one(messages: Messages) -> None:
    """While it goes on, neither it nor another may be claimed, of this generation or the next; then it is done."""
    for name in ORDER:
        leaf = LANE.part(name)
        if leaf not in OPERATIONS or not isinstance(leaf, Step):
            messages.carry_out(leaf)
            continue
        claimed = messages.claim(leaf)
        assert isinstance(claimed, Claim)
        others = [step for step in OPERATIONS if step.id != leaf.id]
        assert {messages.refused(step) for step in others} <= {"predecessors", "done"}
        assert next_generation(messages.journal) is None
        assert messages.refused(leaf) == "claimed"
        assert messages.refused(leaf, generation=messages.generation + 1) == "old_generation"
        end(messages.journal, claimed)
        assert messages.refused(leaf) == "done"


def test_an_operation_that_waits_is_claimed_again_by_the_next_canvas_only(messages: Messages) -> None:
    """A poll gives its thread back; until the next canvas comes, and from then on, all others are refused."""
    first = OPERATIONS[0]
    for name in ORDER[: ORDER.index(first.id)]:
        messages.carry_out(LANE.part(name))
    messages.carry_out(first, "waiting")
    assert messages.refused(first) == "claimed"
    messages.next_canvas()
    assert {messages.refused(step) for step in OPERATIONS[1:]} == {"predecessors"}
    assert messages.refused(first, generation=1) == "old_generation"
    again = messages.claim(first)
    assert isinstance(again, Claim)
    assert again.attempt == 1


def test_another_run_cannot_touch_the_cluster_meanwhile(messages: Messages) -> None:
    """The lease on the cluster is one for all runs."""
    first = OPERATIONS[0]
    for name in ORDER[: ORDER.index(first.id)]:
        messages.carry_out(LANE.part(name))
    assert isinstance(messages.claim(first), Claim)
    make_run(messages.journal, "r2")
    for step in OPERATIONS:
        drop = take(messages.journal, step.id, run="r2", node=step.node, resources=resources(PLAN, "r2", step))
        assert isinstance(drop, Drop)
        assert drop.reason.value == "held"


def test_a_parked_join_lets_the_next_node_begin_and_comes_back_alone(messages: Messages) -> None:
    """The others go on; once the lane is resumed, `agree` waits for the join and its barrier again."""
    join = next(step for step in OPERATIONS if step.action == "database_join")
    connect = next(step for step in OPERATIONS if step.action == "database_connect")
    agree = OPERATIONS[-1]
    for name in ORDER[: ORDER.index(join.id)]:
        messages.carry_out(LANE.part(name))
    messages.carry_out(join, "parked")
    messages.next_canvas()
    assert messages.refused(join) == "parked"
    assert messages.refused(agree) == "predecessors"
    for name in ORDER[ORDER.index(connect.id) : ORDER.index(agree.id)]:
        messages.carry_out(LANE.part(name))
    messages.carry_out(agree, "failed")
    assert messages.journal.write(lambda tx: resume_lane(tx, "r1", "seoul", "ann"))
    messages.next_canvas()
    assert messages.refused(connect) == "done"
    assert messages.refused(agree) == "predecessors"
    messages.carry_out(join)
    assert messages.refused(agree) == "predecessors"  # the barrier behind the join is missing
    messages.carry_out(LANE.part(ORDER[ORDER.index(join.id) + 1]))
    messages.carry_out(agree)


def test_a_removal_that_failed_lets_nobody_follow(messages: Messages) -> None:
    """The primary's least of all: its data is the data to keep."""
    first = OPERATIONS[0]
    for name in ORDER[: ORDER.index(first.id)]:
        messages.carry_out(LANE.part(name))
    messages.carry_out(first, "failed")
    messages.next_canvas()
    assert messages.refused(first) == "failed"
    assert {messages.refused(step) for step in OPERATIONS[1:]} == {"predecessors"}
