"""What would come of resume, pause, cancel and rollback is shown before it happens; `--preview` only shows it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.ca import pem
from workflows import actions
from workflows.journal import Transaction, claims, lanes, outbox
from workflows.preview import Preview

FAILED = "seoul/cms2/deliver/callbridge"


@pytest.fixture
def stopped(world) -> str:
    """Return a run whose sign gate was approved and passed, and that then stopped in stage 500."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    world.ok("gates", "deliver", world.sign(run, pem))
    world.advance(run, fail={FAILED: "disk full"})
    return run


def _claim(tx: Transaction, run: str) -> claims.Claim | claims.Drop:
    """Begin the step that failed, in a canvas of its own, and do not end it."""
    generation = lanes.raise_generation(tx, run, "seoul", "test")
    assert generation is not None
    return claims.claim(
        tx,
        run=run,
        lane="seoul",
        step=FAILED,
        node="cms2",
        generation=generation,
        holder="test",
        predecessors=frozenset(),
        resources=("node:cms2",),
    )


def flag(world, run: str) -> str:
    """Return how the only lane stands."""
    return world.journal.state(run).lanes["seoul"].status


def test_resume_preview_names_what_runs_what_is_kept_and_whose_approval_holds(world, stopped):
    """The failed step runs, up to the next gate; the requests are kept; bob's approval of them holds."""
    found = world.json("runs", "resume", stopped, "--preview")
    assert set(found) == set(Preview.__slots__)
    assert (found["action"], found["would_run"], found["stops_at"]) == ("resume", [FAILED], ["seoul/go"])
    assert {"seoul/cms1/request/callbridge", "seoul/cms1/deliver/callbridge"} <= set(found["kept"])
    assert "seoul/cms1/apply/callbridge" in found["left"]
    (approval,) = found["approvals"]
    assert (approval["gate"], approval["valid"]) == ("seoul/sign", True)
    assert "bob approved it at" in approval["why"]
    assert flag(world, stopped) == "stopped"
    shown = world.ok("runs", "resume", stopped, "--preview")
    assert "would run once people have decided:" in shown
    assert ("would run:" in shown, f"    {FAILED}" in shown, "approval of seoul/sign: valid" in shown) == (True,) * 3
    assert flag(world, stopped) == "stopped"


def test_resume_in_front_of_a_gate_says_that_people_decide_first(world):
    """No step runs before that, and those behind the gate are not lost."""
    world.at_gate()
    world.ok("gates", "reject", "--reason", "not today", "--yes", by="bob")
    found = world.json("runs", "resume", "@latest", "--preview")
    assert (found["would_run"], found["effect"]) == (
        [],
        "Lane seoul goes on, and people decide at seoul/sign before anything runs.",
    )


def test_resume_shows_its_preview_and_says_what_it_always_said(world, stopped):
    """Scripts of today go on: no question, the same line on standard output, the preview beside it."""
    result = world.say("runs", "resume", stopped)
    assert (result.exit_code, result.stdout) == (0, f"run {stopped}: lane seoul goes on\n")
    assert f"    {FAILED}" in result.stderr
    world.advance(stopped)
    again = world.json("runs", "resume", stopped)
    assert (again["run"], again["preview"]["would_run"]) == (stopped, [])
    assert "waits for people at a gate" in again["preview"]["effect"]


def test_an_approval_whose_papers_changed_is_called_void(world):
    """At an open gate nobody has decided; a rejected one is opened again."""
    run = world.at_gate()
    (before,) = world.json("runs", "pause", run, "--preview")["approvals"]
    assert (before["valid"], before["why"]) == (False, "nobody has decided yet")
    world.ok("gates", "reject", run, "--reason", "wrong name", "--yes", by="bob")
    found = world.json("runs", "resume", run, "--preview")
    (after,) = found["approvals"]
    assert (after["valid"], "bob rejected it (wrong name)" in after["why"]) == (False, True)
    assert (found["would_run"], found["stops_at"]) == ([], ["seoul/sign"])


def test_an_approved_gate_without_its_papers_is_not_gone_through(world):
    """The approval holds, but the lane waits there all the same, for the signed certificates."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    world.ok("runs", "pause", run)
    found = world.json("runs", "resume", run, "--preview")
    assert ([one["valid"] for one in found["approvals"]], found["stops_at"]) == ([True], ["seoul/sign"])
    assert found["would_run"] == []
    assert FAILED in found["left"]
    world.ok("gates", "deliver", world.sign(run, pem))
    found = world.json("runs", "resume", run, "--preview")
    assert (FAILED in found["would_run"], found["stops_at"]) == (True, ["seoul/go"])


def test_an_approval_for_later_says_from_when_on(world):
    """Nothing runs behind that gate before its time, however early the lane is resumed."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    world.ok("gates", "deliver", world.sign(run, pem))
    world.advance(run)
    later = datetime.now(UTC) + timedelta(hours=3)
    world.ok("gates", "approve", "--yes", "--not-before", later.isoformat(timespec="minutes"), by="bob")
    world.ok("runs", "pause", run)
    found = world.json("runs", "resume", run, "--preview")
    (go,) = [one for one in found["approvals"] if one["gate"] == "seoul/go"]
    assert (go["valid"], f"from {later:%Y-%m-%d %H:%M} UTC on" in go["why"]) == (True, True)


def test_pause_preview_keeps_approvals(world, stopped):
    """A stopped run does not move; one that waits is held, and nothing is put back."""
    assert "does not move" in world.json("runs", "pause", stopped, "--preview")["effect"]
    world.ok("runs", "resume", stopped)
    found = world.json("runs", "pause", stopped)
    assert (found["lanes"], found["preview"]["approvals"][0]["valid"]) == (["seoul"], True)
    assert (FAILED in found["preview"]["left"], flag(world, stopped)) == (True, "paused")


def test_cancel_preview_says_that_approvals_end_and_asks_for_a_yes(world):
    """Nothing is put back, and that is said before the yes."""
    run = world.at_gate()
    result = world.say("runs", "cancel", run)
    assert (result.exit_code, "Nothing is put back" in result.stderr, flag(world, run)) == (2, True, "waiting")
    found = world.json("runs", "cancel", run, "--preview")
    assert [one["valid"] for one in found["approvals"]] == [False]
    assert ("seoul/cms1/request/callbridge" in found["kept"], flag(world, run)) == (True, "waiting")
    done = json.loads(world.ok("runs", "cancel", run, "--yes", "-o", "json"))
    assert (done["lanes"], flag(world, run)) == (["seoul"], "cancelled")


def test_a_lane_that_is_not_there_is_refused(world, stopped):
    """Also when nothing would happen."""
    for words in (("resume", "--preview"), ("pause",)):
        assert world.say("runs", words[0], stopped, "--lane", "busan", *words[1:]).exit_code == 2


def test_rollback_of_a_run_that_changed_nothing_has_nothing_to_undo(world, stopped):
    """The servers are read, and use what they used before: that is no fault, and the run is told to be open still."""
    with world.worker():
        result = world.say("runs", "rollback", stopped, "--yes")
        found = world.json("runs", "rollback", stopped, "--yes")
    assert (result.exit_code, "there is nothing to undo" in result.stderr, flag(world, stopped)) == (0, True, "stopped")
    assert f"certbridge runs cancel {stopped}" in result.stderr
    assert found == {"run": "", "digest": "", "plan": None, "preview": None}


@pytest.mark.parametrize("held", ["paused", "stopped"])
def test_rollback_waits_for_a_step_that_is_still_at_work(world, stopped, held):
    """The lane does not move any more, but its step goes on to its border: what it uses then is not known yet."""
    world.ok("runs", "resume", stopped)
    claimed = world.journal.write(partial(_claim, run=stopped))
    assert isinstance(claimed, claims.Claim)
    if held == "paused":
        world.ok("runs", "pause", stopped)
    else:
        world.journal.write(lambda tx: lanes.stop_lane(tx, stopped, "seoul", "another step failed"))
    result = world.say("runs", "rollback", stopped, "--yes")
    assert (result.exit_code, "is at work on seoul" in result.stderr, flag(world, stopped)) == (2, True, held)
    world.journal.write(lambda tx: claims.finish(tx, claimed, status="failed", error={"text": "disk full"}))
    with world.worker():
        assert "there is nothing to undo" in world.say("runs", "rollback", stopped, "--yes").stderr


def test_rollback_is_refused_when_the_run_went_on_meanwhile(world, stopped):
    """Somebody resumed it while the servers were read: the plan would be of what is no longer so."""
    world.beat()
    surveyed = threading.Event()

    def go_on_and_survey() -> None:
        while not surveyed.wait(0.02):
            for row in world.journal.read(outbox.pending):
                world.journal.write(partial(outbox.sent, outgoing_id=row.id))
                if row.run != stopped:
                    actions.resume(world.journal, stopped, by="bob")
                    world.advance(row.run)

    thread = threading.Thread(target=go_on_and_survey, daemon=True)
    thread.start()
    try:
        result = world.say("runs", "rollback", stopped, "--yes")
    finally:
        surveyed.set()
        thread.join()
    assert (result.exit_code, "went on while its servers were read" in result.stderr) == (2, True)


def test_a_survey_has_no_rollback(world):
    """It changed no server."""
    with world.worker():
        world.ok("survey")
    run = world.json("runs", "list")[0]["run"]
    result = world.say("runs", "rollback", run, "--yes")
    assert (result.exit_code, "has no rollback of its own" in result.stderr) == (2, True)
