"""What a hostile review of the rebuild found, each as it was shown then, with what must happen now.

Nothing is sent twice because somebody resumed, never two operations at once, nobody waits for ever without a word,
nothing goes by an old approval, and the way back is that of the cluster of now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from database_engine import GATE, DatabaseEngine
from steps_engine import RUN

from workflows import actions
from workflows.errors import PlanError
from workflows.journal.fold import StepState
from workflows.plan import Plan, Seq, Step
from workflows.procedures.rollback import plan_rollback
from workflows.runbook import render

Start = Callable[..., DatabaseEngine]
PAIR = {"joined": 2, "connected": 0, "days_left": 5, "database_days_left": 5}
THREE = PAIR | {"joined": 3}
# Simulated: at the speed of these fleets four seconds, twice as long as a step polls before it gives its thread back.
LONG_S = 1600


def _slow(engine: DatabaseEngine, node: str, verb: str) -> None:
    """Let the next operation of *node* take long."""
    engine.fleet.fault("database-stuck", node=node, match=f"{verb}*", seconds=LONG_S)


def _fails(engine: DatabaseEngine, node: str, verb: str) -> None:
    engine.fleet.fault("database-fails", node=node, match=f"{verb}*", text="No space left")


def _until_it_waits(engine: DatabaseEngine, step: str) -> StepState:
    """Carry the lane of *step* on until the step gave its thread back while its operation goes on."""
    lane = step.partition("/")[0]
    for _ in range(60):
        engine.run_once(lane)
        found = engine.state_of(lane).steps.get(step)
        if found is not None and found.status == "waiting":
            return found
    raise AssertionError(f"{step} does not wait: {engine.state_of(lane)}")


def _sent(engine: DatabaseEngine, node: str, verb: str) -> int:
    """Return how often a line that begins an operation was sent to *node*."""
    return len([line for line in engine.fleet.commands(node) if line.startswith(f"database cluster {verb}")])


def _by_hand(engine: DatabaseEngine, node: str, *lines: str) -> None:
    """Type *lines* on *node*, and wait for what they begin."""
    for line in lines:
        asks = line.split()[2] in {"remove", "initialize", "join", "connect"}
        engine.fleet.execute(node, line, *(["Y"] if asks else []))
        engine.fleet.wait_idle("seoul")


def _way_back(engine: DatabaseEngine, plan: Plan) -> Plan:
    return plan_rollback(plan, engine.survey(), now=datetime.now(UTC))


def _days_go_by(engine: DatabaseEngine) -> None:
    """Let the next canvas find all that was read and saved too old, as it is after days; then age counts as ever."""
    plan, fleet = engine.work.plan(RUN)
    lane = plan.lanes[0]
    parts = tuple(
        replace(part, params={**part.params, "backup_age_s": 0})
        if isinstance(part, Step) and part.action == "database_remove"
        else part
        for part in lane.tree.parts
    )
    engine.work.plans[RUN] = (replace(plan, lanes=(replace(lane, tree=Seq(parts)),)), fleet)
    assert engine.run_once() is None
    engine.work.plans.clear()


# ── nothing is sent twice, never two at once ─────────────────────────────────────────────────────────────────────────
def test_pause_and_resume_beside_an_operation_do_not_send_it_again_when_it_fails(start_database: Start) -> None:
    """To resume says that a person looked at what failed, and here nothing had failed yet."""
    engine = start_database(**PAIR)
    engine.to_the_gate()
    _slow(engine, "cmscore1", "initialize")
    _fails(engine, "cmscore1", "initialize")
    engine.beyond(until="seoul/cmscore1/initialize")
    _until_it_waits(engine, "seoul/cmscore1/initialize")
    assert actions.pause(engine.work.journal, RUN, by="ann") == ("seoul",)
    assert actions.resume(engine.work.journal, RUN, by="ann") == ("seoul",)

    assert engine.run_lane() == "seoul/cmscore1/initialize"

    assert "No space left" in engine.state_of("seoul").reason
    assert _sent(engine, "cmscore1", "initialize") == 1
    assert engine.violations(complete=False) == []
    engine.resume()
    assert engine.run_lane() == ""
    assert _sent(engine, "cmscore1", "initialize") == 2


def test_to_resume_one_lane_leaves_another_that_moves_alone(start_database: Start) -> None:
    """Without `--lane` only the stopped lane goes on; what fails in the other later is not sent a second time."""
    engine = start_database(clusters=2, joined=1, connected=0, days_left=5, database_days_left=5)
    plan = engine.start(engine.database_plan())
    stops, moves = (lane.name for lane in plan.lanes)
    node = next(step.node for step in plan.lane(moves).steps() if step.action == "database_initialize")
    other = next(step.node for step in plan.lane(stops).steps() if step.action == "database_initialize")
    _slow(engine, node, "initialize")
    _fails(engine, node, "initialize")
    _fails(engine, other, "remove")
    for lane in (stops, moves):
        assert engine.run_lane(lane) == f"{lane}/point-of-no-return"
    engine.approve("point-of-no-return", by="bob")
    for lane in (stops, moves):
        engine.through("point-of-no-return", lane)
    assert engine.run_lane(stops) == f"{stops}/{other}/remove"
    _until_it_waits(engine, f"{moves}/{node}/initialize")

    assert actions.resume(engine.work.journal, RUN, by="ann") == (stops,)

    assert engine.run_lane(moves) == f"{moves}/{node}/initialize"
    assert "No space left" in engine.state_of(moves).reason
    assert _sent(engine, node, "initialize") == 1


def test_a_join_that_still_copies_goes_on_after_pause_and_resume(start_database: Start) -> None:
    """A replica out of sync is on its way, not "in a cluster already": it is waited for, and nothing is sent."""
    engine = start_database(**PAIR)
    engine.to_the_gate()
    engine.fleet.fault("database-sync-lost", node="cmscore2")
    engine.beyond(until="seoul/cmscore2/join")
    _until_it_waits(engine, "seoul/cmscore2/join")
    actions.pause(engine.work.journal, RUN, by="ann")
    actions.resume(engine.work.journal, RUN, by="ann")
    _until_it_waits(engine, "seoul/cmscore2/join")
    engine.fleet.mend()
    assert engine.run_lane() == ""
    assert _sent(engine, "cmscore2", "join") == 1
    assert engine.violations() == []


def test_a_parked_join_is_not_taken_up_while_another_is_under_way(start_database: Start) -> None:
    """Resumed too early nothing happens; when the other one has ended, the parked one has its turn."""
    engine = start_database(**THREE)
    engine.to_the_gate()
    _fails(engine, "cmscore2", "join")
    _slow(engine, "cmscore3", "join")
    engine.beyond(until="seoul/cmscore3/join")
    _until_it_waits(engine, "seoul/cmscore3/join")
    assert actions.resume(engine.work.journal, RUN, by="ann") == ()
    actions.pause(engine.work.journal, RUN, by="ann")
    assert actions.resume(engine.work.journal, RUN, by="ann") == ("seoul",)
    assert engine.state_of("seoul").steps["seoul/cmscore2/join"].status == "parked"

    assert engine.run_lane() == "seoul/cmscore1/agree"

    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "none", "cmscore3": "replica"}
    engine.resume()
    assert engine.run_lane() == ""
    assert engine.violations() == []


def test_a_question_in_place_of_a_status_does_not_let_the_next_join_begin(start_database: Start) -> None:
    """The join goes on whatever the node asks, so it is not left for later: the lane stops, and a person looks."""
    engine = start_database(**THREE)
    engine.to_the_gate()
    _slow(engine, "cmscore2", "join")
    engine.beyond(until="seoul/cmscore2/join")
    _until_it_waits(engine, "seoul/cmscore2/join")
    engine.fleet.fault("question", node="cmscore2", match="database cluster status", text="Log is full. Clear? [y/n] ")
    assert engine.run_lane() == "seoul/cmscore2/join"
    lane = engine.state_of("seoul")
    assert ("Log is full" in lane.reason, lane.steps["seoul/cmscore2/join"].status) == (True, "failed")
    assert _sent(engine, "cmscore3", "join") == 0
    engine.resume()
    assert engine.run_lane() == ""
    assert _sent(engine, "cmscore2", "join") == 1
    assert engine.violations() == []


# ── old approvals, old backups ───────────────────────────────────────────────────────────────────────────────────────
def _held_for_days(engine: DatabaseEngine) -> None:
    """Let the first `remove` be refused, and the lane stand for days until somebody resumes it."""
    engine.to_the_gate()
    engine.fleet.fault("failure", node="cmscore2", match="database cluster remove*", text="internal error")
    assert engine.beyond() == "seoul/cmscore2/remove"
    engine.resume()
    _days_go_by(engine)


def test_backups_are_made_anew_when_the_first_remove_was_refused_days_ago(start_database: Start) -> None:
    """That the line went out once does not make them young: before the next one each joined node is backed up again."""
    engine = start_database(**PAIR)
    _held_for_days(engine)
    assert engine.run_lane() == ""
    for node in ("cmscore1", "cmscore2"):
        lines = [line for line in engine.fleet.commands(node) if line.startswith(("backup snap", "database cluster r"))]
        wanted = (
            ["backup", "backup", "database"] if node == "cmscore1" else ["backup", "database", "backup", "database"]
        )
        assert wanted == [line.split()[0] for line in lines]
    assert engine.violations() == []


def test_what_changed_while_the_lane_stood_for_days_voids_the_approval(start_database: Start) -> None:
    """The readings behind the gate are made anew with the backups; nothing is removed on what was approved then."""
    engine = start_database(**PAIR)
    _held_for_days(engine)
    name = next(name for name in engine.fleet.files("cmscore1") if name.startswith("dbserver-"))
    engine.fleet.put_file("cmscore1", name, b"something else")

    assert engine.run_lane() == "seoul/as-approved"

    gate = engine.state_of("seoul").gates[GATE]
    assert gate.status == "open"
    assert name in gate.summary["voided"]
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "replica"}
    assert _sent(engine, "cmscore2", "remove") == 1


def test_nobody_is_initialized_beside_a_cluster_that_somebody_made_meanwhile(start_database: Start) -> None:
    """The run's primary was given up, and another node leads by hand: resumed, the run stops and says who leads."""
    engine = start_database(**PAIR)
    plan = engine.to_the_gate()
    _fails(engine, "cmscore1", "initialize")
    assert engine.beyond() == "seoul/cmscore1/initialize"
    certs = next(step.lines[0].text for step in plan.lanes[0].steps() if step.action == "database_join")
    _by_hand(engine, "cmscore2", certs, "database cluster localnode a", "database cluster initialize")
    engine.resume()
    assert engine.run_lane() == "seoul/cmscore1/initialize"
    assert "cmscore2 is in a cluster that this run did not make" in engine.state_of("seoul").reason
    assert engine.roles() == {"cmscore1": "none", "cmscore2": "primary"}
    assert _sent(engine, "cmscore1", "initialize") == 1


# ── nobody waits for ever, and what is said is true ──────────────────────────────────────────────────────────────────
def test_a_schema_upgrade_that_never_arrived_stops_the_lane(start_database: Start) -> None:
    """The node shows neither that it goes on nor that it is done; a person resumes, and it is sent once more."""
    engine = start_database(joined=1, connected=0, database_ready=False)
    engine.to_the_gate(engine.database_plan("build", primary="cmscore1", upgrade_schema=True))
    engine.fleet.fault("cut-before", node="cmscore1", match="database cluster upgrade_schema*")
    assert engine.beyond() == "seoul/cmscore1/upgrade_schema"
    assert "shows neither that it goes on nor that it is done" in engine.state_of("seoul").reason
    engine.resume()
    assert engine.run_lane() == ""


def test_a_primary_at_another_address_than_promised_stops_the_lane(start_database: Start) -> None:
    """Its `initialize` has ended, but nobody could join it where the others are to: that is said, with the status."""

    def change(document: dict[str, Any]) -> None:
        document["clusters"][0]["nodes"][0]["database_address"] = "10.9.9.9"

    engine = start_database(change, joined=1, connected=0, database_ready=False)
    engine.to_the_gate(engine.database_plan("build", primary="cmscore1"))
    assert engine.beyond() == "seoul/cmscore1/initialize"
    assert "has ended, but not as it was wanted: Enabled" in engine.state_of("seoul").reason
    assert _sent(engine, "cmscore1", "initialize") == 1


def test_a_status_that_is_not_understood_stops_the_lane_before_anything_is_sent(start_database: Start) -> None:
    """It is not waited for without an end, and nothing is removed on it; mended, the run goes on."""
    engine = start_database(**PAIR)
    engine.to_the_gate()
    engine.beyond(until="seoul/cmscore2/remove")
    engine.fleet.fault("failure", node="cmscore2", match="database cluster status", text="database locked", times=None)
    assert engine.run_lane() == "seoul/cmscore2/remove"
    assert "is not understood, so nothing was sent" in engine.state_of("seoul").reason
    assert _sent(engine, "cmscore2", "remove") == 0
    engine.fleet.mend()
    engine.resume()
    assert engine.run_lane() == ""
    assert engine.violations() == []


def test_a_node_left_for_later_that_is_away_at_the_end_makes_the_cluster_degraded(start_database: Start) -> None:
    """The others agree, and it is told as the one that is not in, not as a node that broke the last look."""
    engine = start_database(**PAIR)
    engine.to_the_gate()
    _fails(engine, "cmscore2", "join")
    engine.beyond(until="seoul/cmscore1/agree")
    _away(engine, "cmscore2")
    assert engine.run_lane() == "seoul/cmscore1/agree"
    reason = engine.state_of("seoul").reason
    assert "The cluster is degraded: 1 of 2 nodes are not in it (cmscore2: " in reason
    assert ("No space left" in reason, "Also:" in reason) == (True, False)


def test_a_node_that_is_in_and_away_at_the_end_is_named(start_database: Start) -> None:
    """The cluster is not called done on the word of the others; when it is back, the run ends well."""
    engine = start_database(**PAIR)
    engine.to_the_gate()
    engine.beyond(until="seoul/cmscore1/agree")
    _away(engine, "cmscore2")
    assert engine.run_lane() == "seoul/cmscore1/agree"
    assert "cmscore2 does not tell: " in engine.state_of("seoul").reason
    engine.fleet.mend()
    engine.resume()
    assert engine.run_lane() == ""


def _away(engine: DatabaseEngine, node: str) -> None:
    engine.fleet.fault("unreachable", node=node, match="ssh")
    engine.work.loop.call(engine.work.connections.close())


# ── the way back is that of the cluster of now ───────────────────────────────────────────────────────────────────────
def test_there_is_no_way_back_over_the_data_of_a_node_that_leads_by_now(start_database: Start) -> None:
    """The primary of then was replaced and is empty: going back would give all its nothing."""
    engine = start_database(**PAIR)
    plan = engine.to_the_gate()
    assert engine.beyond() == ""
    for node in ("cmscore2", "cmscore1"):
        _by_hand(engine, node, "database cluster remove")
    _by_hand(engine, "cmscore2", "database cluster initialize")
    with pytest.raises(PlanError, match="names cmscore2 as its primary, and not cmscore1, whose data that run keeps"):
        _way_back(engine, plan)


def test_a_primary_named_by_hand_is_brought_back_by_two_people_only(start_database: Start) -> None:
    """No way back to it while another node acts as primary; once all are out, whoever asked may not approve it."""
    engine = start_database(**PAIR)
    engine.fleet.fault("database-split", node="cmscore1", text=engine.fleet.address("cmscore2"))
    plan = engine.to_the_gate(engine.database_plan(primary="cmscore2"))
    engine.fleet.mend()
    assert engine.beyond() == "seoul/as-approved"  # the quarrel is over, which is not what was approved
    assert engine.state_of("seoul").gates[GATE].status == "open"
    _by_hand(engine, "cmscore2", "database cluster remove")
    with pytest.raises(PlanError, match="names cmscore1 as its primary, and not cmscore2"):
        _way_back(engine, plan)
    _by_hand(engine, "cmscore1", "database cluster remove")
    back = _way_back(engine, plan)
    assert [(gate.name, gate.two_people) for gate in back.lanes[0].gates()] == [("point-of-no-return", True)]


def test_after_a_way_back_the_runbook_knows_what_is_further_back(start_database: Start) -> None:
    """The primary never left, so it is not told to leave: nothing of the cluster of before is to be taken apart."""
    engine = start_database(joined=2, connected=1, days_left=5, database_days_left=5)
    plan = engine.to_the_gate()
    assert engine.beyond(until="seoul/cmscore2/remove") == "seoul/cmscore2/remove"
    engine.cancel()
    back = _way_back(engine, plan)
    engine.start(back, run="back")
    assert engine.run_lane(run="back") == GATE
    assert engine.beyond(run="back", until="seoul/cmscore1/agree") == "seoul/cmscore1/agree"
    text = render(back, engine.work.journal.state("back"), now=datetime.now(UTC))
    end = text[text.index("## seoul: back") :]
    assert "cmscore3 came back to cmscore1 with the files of before; there is nothing further back." in end
    assert "database cluster remove" not in end


def test_nodes_that_another_run_brought_in_leave_too_before_the_old_files_come_back(start_database: Start) -> None:
    """Two nodes were out before the first run, a second one brought them in; none stays behind with new files."""
    engine = start_database(**THREE)
    old = engine.databases()["cmscore1"]["files"]
    for node in ("cmscore2", "cmscore3"):
        _by_hand(engine, node, "database cluster remove")
    plan = engine.to_the_gate()
    assert engine.beyond(until="seoul/cmscore2/join") == "seoul/cmscore2/join"
    engine.cancel()
    engine.start(engine.database_plan(primary="cmscore1"), run="second")
    assert engine.run_lane(run="second") == GATE
    assert engine.beyond(run="second") == ""

    back = _way_back(engine, plan)

    leaving = [step.node for step in back.lanes[0].steps() if step.action == "database_remove"]
    assert leaving == ["cmscore2", "cmscore3", "cmscore1"]
    engine.start(back, run="back")
    assert engine.run_lane(run="back") == GATE
    assert engine.beyond(run="back") == ""
    assert old == engine.databases()["cmscore1"]["files"]
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "none", "cmscore3": "none"}


def test_a_primary_whose_remove_failed_takes_nobody_back_until_a_person_looked(start_database: Start) -> None:
    """Its status says Error, so a join would fail: that is said before anything is planned, with what to do."""
    engine = start_database(**PAIR)
    plan = engine.to_the_gate()
    _fails(engine, "cmscore1", "remove")
    assert engine.beyond() == "seoul/cmscore1/remove"
    with pytest.raises(PlanError, match="cmscore1: says 'No space left': nobody can come back to it like that") as why:
        _way_back(engine, plan)
    assert "database cluster clear_error" in why.value.remedy()
    _by_hand(engine, "cmscore1", "database cluster clear_error")
    assert [step.id for step in _way_back(engine, plan).lanes[0].steps() if step.stage >= 700] == [
        "seoul/cmscore2/join",
        "seoul/cmscore1/agree",
    ]
