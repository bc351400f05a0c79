"""What people may do to a run, on a real journal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from paper_runs import NOW, RUN, a_run, approve, the_fleet

from tests.unit.core.fleets import facts_of, lone, plan_of
from workflows import actions
from workflows.errors import DigestChanged, FourEyes, GateDecided, GateError, InputError, PlanError, Reserved
from workflows.inventory import Issuer, IssuerKind
from workflows.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give an open journal."""
    with Journal.open(f"sqlite:///{tmp_path / 'journal.db'}") as opened:
        yield opened


def test_run_ids_sort_by_time() -> None:
    """The later one is the greater one, and none has letters that look like digits."""
    first, later = actions.new_run_id(NOW), actions.new_run_id(NOW + timedelta(minutes=1))
    assert (first < later, bool(re.fullmatch(r"20261101-1200-[abcdefghjkmnpqrstuvwxyz23456789]{4}", first))) == (
        True,
        True,
    )


def test_an_empty_plan_starts_no_run(journal: Journal) -> None:
    """There is nothing to do, and nothing is written."""
    fleet = lone()
    with pytest.raises(PlanError, match="nothing to do"):
        actions.start_run(journal, plan_of(fleet, facts_of(fleet, days=300)), by="ann", run=RUN)
    assert journal.runs() == []


def test_a_second_run_on_the_same_node_is_told_who_holds_it(journal: Journal) -> None:
    """Nothing of it is written, not even what would have joined the commit."""
    fleet = the_fleet()
    plan = a_run(journal, fleet)
    joined: list[str] = []
    with pytest.raises(Reserved) as refused:
        actions.start_run(journal, plan, by="cid", run="second", also=lambda _: joined.append("joined"))
    assert (refused.value.data["run"], joined, [one.run for one in journal.runs()]) == (RUN, [], [RUN])


def test_reading_reserves_nothing(journal: Journal) -> None:
    """A survey may run while a renewal waits."""
    plan = a_run(journal, the_fleet())
    actions.start_run(journal, replace(plan, kind="survey"), by="cid", run="survey")
    assert sorted(one.run for one in journal.runs()) == [RUN, "survey"]


def test_nobody_approves_their_own_run(journal: Journal) -> None:
    """The gate stays open for another person."""
    a_run(journal, the_fleet())
    with pytest.raises(FourEyes):
        approve(journal, by="ann")
    (opened,) = actions.open_gates(journal, RUN)
    assert opened.state.status == "open"


def test_a_fleet_of_one_may_do_without_four_eyes(journal: Journal) -> None:
    """`four_eyes: false` stands in the plan that is approved."""
    a_run(journal, the_fleet(four_eyes=False))
    approve(journal, by="ann")
    (opened,) = actions.open_gates(journal, RUN)
    assert (opened.state.status, opened.state.decided_by) == ("approved", "ann")


def test_an_approval_is_bound_to_what_was_looked_at(journal: Journal) -> None:
    """A digest from another look is refused."""
    a_run(journal, the_fleet())
    (opened,) = actions.open_gates(journal, RUN)
    with pytest.raises(DigestChanged, match="You looked at 000000000000, but"):
        actions.decide(journal, opened, decision="approve", by="bob", digest="0" * 64)


def test_a_second_decision_is_told_who_was_first(journal: Journal) -> None:
    """One decision wins, whatever the second one is."""
    a_run(journal, the_fleet())
    (opened,) = actions.open_gates(journal, RUN)
    approve(journal)
    with pytest.raises(GateDecided, match="bob"):
        actions.decide(journal, opened, decision="reject", by="cid", reason="too late")
    with pytest.raises(GateDecided, match="bob"):  # what is true comes before who may, as in the commit alone
        actions.decide(journal, opened, decision="approve", by="ann")


def test_a_rejection_needs_a_reason_and_stops_the_lane(journal: Journal) -> None:
    """Also one's own run may be rejected; after a resume the gate is open again."""
    a_run(journal, the_fleet())
    (opened,) = actions.open_gates(journal, RUN)
    with pytest.raises(GateError, match="reason"):
        actions.decide(journal, opened, decision="reject", by="ann")
    actions.decide(journal, opened, decision="reject", by="ann", reason="wrong names")
    assert (journal.state(RUN).lanes["seoul"].status, actions.resume(journal, RUN, by="ann")) == ("stopped", ("seoul",))
    (again,) = actions.open_gates(journal, RUN)
    assert again.state.status == "open"


def test_gates_are_found_by_lane_and_name(journal: Journal) -> None:
    """Each lane has its own."""
    a_run(journal, the_fleet("seoul", "busan"))
    found = {
        asked: [one.lane for one in actions.open_gates(journal, RUN, lane=asked[0], name=asked[1])]
        for asked in (("", ""), ("busan", ""), ("", "sign"), ("", "go"))
    }
    assert found == {
        ("", ""): ["seoul", "busan"],
        ("busan", ""): ["busan"],
        ("", "sign"): ["seoul", "busan"],
        ("", "go"): [],
    }


def test_lanes_are_paused_resumed_and_cancelled(journal: Journal) -> None:
    """Cancelled is for good: the run cannot be resumed."""
    a_run(journal, the_fleet("seoul", "busan"))
    assert actions.pause(journal, RUN, by="ann", lane="busan") == ("busan",)
    assert {name: lane.status for name, lane in journal.state(RUN).lanes.items()} == {
        "seoul": "waiting",
        "busan": "paused",
    }
    assert "busan" in actions.resume(journal, RUN, by="ann")
    assert {lane.status for lane in journal.state(RUN).lanes.values()} == {"waiting"}
    assert actions.cancel(journal, RUN, by="ann", reason="enough") == ("seoul", "busan")
    assert {lane.status for lane in journal.state(RUN).lanes.values()} == {"cancelled"}


def test_a_lane_that_is_not_there_is_told(journal: Journal) -> None:
    """The remedy names those that are."""
    a_run(journal, the_fleet())
    with pytest.raises(InputError) as refused:
        actions.pause(journal, RUN, by="ann", lane="jeju")
    assert "seoul" in refused.value.remedy()


def test_only_a_local_issuer_signs_by_itself() -> None:
    """`manual` waits for people."""
    local = Issuer(name="local", kind=IssuerKind.LOCAL)
    fleet = the_fleet(issuers=(Issuer(name="manual", kind=IssuerKind.MANUAL), local))
    assert [actions.automatic(fleet, name) for name in ("manual", "local")] == [False, True]
