"""What a runbook says: where a database run stands, what is left, and a way back that is true at that moment."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.core.database_fleets import NOW, a_database_fleet, database_facts, database_plan, facts_after
from workflows import preview
from workflows.inventory import KeyOrigin
from workflows.journal.events import Event, Kind, NewEvent, chained
from workflows.journal.fold import RunState, fold
from workflows.plan import Barrier, Gate, Plan, Step, walk
from workflows.procedures.rollback import plan_rollback
from workflows.runbook import event_number, render, standing_lines

RUN = "20261123-1200-test"
GATE = "seoul/point-of-no-return"
KNOWN = re.compile(
    r"|# .*|## .*|- .*|\* .*|\d+\. .*"
    r"|    \S+> \S.*|    \S+: sftp (upload|fetch|delete) \S+.*|    \S+\? status shows: .+|        gives on \S+: .+"
    r"|        or, if it is back already: .+"
    r"|[A-Z].*|what a joined node held alone before is in its backup only\.|[a-z]\d .*"
)
Said = tuple[Kind, str, dict[str, Any]]


def a_plan(purpose: str = "renew", *, joined: int = 2, connected: int = 1, **facts: Any) -> Plan:
    """Return a plan for the joined nodes a1 (the primary), a2 and so on, and the connected b1 and so on."""
    fleet = a_database_fleet(joined, connected)
    asked = {"primary": "a1"} if purpose == "build" else {}
    if purpose == "build":
        facts = {"outside": [node.name for node in fleet.nodes], **facts}
    return database_plan(fleet, database_facts(fleet, **facts), purpose, **asked)


def done_until(plan: Plan, stop: str) -> list[Said]:
    """Return what the journal says when all before the part *stop* went well."""
    said: list[Said] = [(Kind.LANE_SENT, "", {"generation": 1})]
    for part in walk(plan.lanes[0].tree):
        if part.id == stop:
            return said
        said += _well(part)
    assert stop == "", f"{stop} is no part of the lane"
    return [*said, (Kind.LANE_DONE, "", {})]


def _well(part: Step | Barrier | Gate) -> list[Said]:
    if isinstance(part, Gate):
        said = {"name": part.name, "digest": "d", "summary": {}}
        return [(Kind.GATE_OPENED, part.id, said), (Kind.GATE_APPROVED, part.id, {}), (Kind.GATE_PASSED, part.id, {})]
    if isinstance(part, Barrier):
        return [(Kind.BARRIER_PASSED, part.id, {})]
    data = {}
    if "backup" in part.params:
        data = {"backup": {"name": part.params["backup"], "size": 4096, "sha256": "ab" * 32}}
    lines = [
        one
        for number in range(len(part.lines))
        for one in (
            (Kind.INTENT, part.id, {"line": number}),
            (Kind.OUTCOME, part.id, {"line": number, "state": "ok"}),
        )
    ]
    return [(Kind.STEP_CLAIMED, part.id, {"attempt": 1}), *lines, (Kind.STEP_DONE, part.id, {"data": data})]


def state_of(plan: Plan, said: list[Said]) -> RunState:
    """Return the state of a run of *plan* that ann asked for."""
    created = {"kind": "database", "digest": plan.digest(), "requested_by": "ann", "lanes": ["seoul"]}
    events: list[Event] = [chained(NewEvent(run=RUN, kind=Kind.RUN_CREATED, data=created), n=1, at=NOW, prev="")]
    for number, (kind, step, data) in enumerate(said, start=2):
        event = NewEvent(run=RUN, kind=kind, lane="seoul", step=step, node="", actor="bob", data=data)
        events.append(chained(event, n=number, at=NOW + timedelta(seconds=number), prev=events[-1].hash))
    return fold(events)


def runbook(plan: Plan, *said: Said, stop: str = "") -> dict[str, list[str]]:
    """Return the parts of the runbook after all before *stop* went well and *said* came then: {title: lines}."""
    text = render(plan, state_of(plan, [*done_until(plan, stop), *said]), now=NOW)
    assert [line for line in text.splitlines() if not KNOWN.fullmatch(line)] == []
    parts = re.split(r"^## seoul: (.+)\n\n", text, flags=re.MULTILINE)
    return {title: body.strip("\n").splitlines() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def typed(lines: list[str]) -> list[str]:
    """Return the command lines among *lines*, without the answers."""
    return [line.strip().partition("    (")[0] for line in lines if re.match(r"    \S+> ", line)]


def test_the_head_names_run_digest_event_and_time() -> None:
    """Who finds the file knows what it is of and how old it is."""
    plan = a_plan()
    state = state_of(plan, [])
    text = render(plan, state, now=NOW)
    assert text.startswith(f"# Runbook of run {RUN}\n")
    assert f"\nDigest: {plan.digest()}\n" in text
    assert f"\nWritten: {NOW:%Y-%m-%d %H:%M:%S} UTC\n" in text
    assert event_number(text) == state.n
    assert event_number("no runbook") == 0


def test_cancel_preview_names_who_stays_out_and_what_to_do() -> None:
    """Who is out, or may be, stays out; the ways on and back are named before anybody says yes."""
    plan = a_plan(joined=3)
    removes = [step for step in plan.lanes[0].steps() if step.action == "database_remove"]
    said = [*done_until(plan, removes[1].id), (Kind.INTENT, removes[1].id, {"line": 0})]
    found = preview.cancel(plan, state_of(plan, said))
    assert f"left so: {removes[0].node}, {removes[1].node}." in found.effect
    for word in ("resume", "rollback", "runbook"):
        assert f"certbridge runs {word} {RUN}" in found.effect
    (sentence,) = found.standing
    assert f"out of the cluster: {removes[0].node}, leaving, or out already: {removes[1].node}" in sentence.lower()


@pytest.mark.parametrize(("stop", "told"), [(GATE, "no node was taken out"), ("", "the run is over")])
def test_cancel_preview_of_a_whole_cluster_names_nobody(stop: str, told: str) -> None:
    """Before the first removal, and at the end, nobody is out."""
    plan = a_plan()
    found = preview.cancel(plan, state_of(plan, done_until(plan, stop)))
    assert (told in found.effect, "left so" in found.effect) == (True, False)


def test_before_the_first_remove_there_is_nothing_to_undo() -> None:
    """At the gate the cluster stands; new files are listed by node."""
    parts = runbook(a_plan(), (Kind.GATE_OPENED, GATE, {"name": "point-of-no-return"}), stop=GATE)
    assert parts["where it stands"] == [
        "No node was taken out of its cluster or into one; the run waits at gate point-of-no-return."
    ]
    assert parts["back"][0] == "Nothing to undo: no node was taken out of its cluster or into one."
    assert "- b1: dbclient-1.key, dbclient-1.crt" in parts["back"]
    assert parts["in doubt"] == ["Nothing."]


def test_next_holds_every_line_left_in_the_order_of_the_plan() -> None:
    """What is typed is what the plan would send, each line with its node."""
    plan = a_plan()
    parts = runbook(plan, stop="seoul/b1/remove")
    wanted = [f"{step.node}> {line.text}" for step in plan.lanes[0].steps() if step.stage >= 700 for line in step.lines]
    assert typed(parts["next, in this order"]) == wanted


def test_a_line_that_asks_says_which_answer_it_gets() -> None:
    """A small y does not do (mmp-reference 1.3)."""
    parts = runbook(a_plan(), stop="seoul/a1/initialize")
    asks = "    a1> database cluster initialize    (asks (Y/n): answer with a capital Y)"
    assert asks in parts["next, in this order"]


@pytest.mark.parametrize("stop", ["seoul/a2/join", "seoul/b1/connect"])
def test_the_primary_is_looked_at_before_a_node_comes_in(stop: str) -> None:
    """To join any other node could overwrite the data to keep."""
    lines = runbook(a_plan(), stop=stop)["next, in this order"]
    ways_in = [number for number, line in enumerate(lines) if re.search(r"cluster (join|connect) ", line)]
    assert ways_in
    assert all(lines[number - 1].startswith("    a1? status shows: ") for number in ways_in)
    assert all(lines[number - 1].endswith("(me) Connected Primary") for number in ways_in)


def test_hand_out_is_told_as_transfers() -> None:
    """Before the gate keys go from the primary to the others by SFTP."""
    lines = runbook(a_plan(), stop="seoul/b1/deliver/database")["next, in this order"]
    assert lines[1:5] == [
        "    a1: sftp fetch dbclient-1.key",
        "    b1: sftp upload dbclient-1.key",
        "        gives on b1: file dbclient-1.key",
        "    b1: sftp upload dbclient-1.crt",
    ]


def test_between_first_remove_and_the_primarys_each_node_goes_back_by_itself() -> None:
    """Last out, first back, each with its old files; the primary is not touched."""
    parts = runbook(a_plan(), stop="seoul/a1/remove")
    assert parts["where it stands"][0].startswith("Out of the cluster: b1, a2; the primary a1 is still in it;")
    assert [line.partition(" localnode")[0] for line in typed(parts["back"])] == [
        "a2> database cluster certs dbserver.key dbserver.crt dbclient.key dbclient.crt dbca.crt",
        "a2> database cluster",
        "a2> database cluster join 10.97.0.1",
        "b1> database cluster certs dbclient.key dbclient.crt dbca.crt",
        "b1> database cluster",
        "b1> database cluster connect 10.97.0.1",
    ]


def test_after_the_primarys_remove_the_whole_cluster_goes_back() -> None:
    """Everything out, the primary last; then the old primary first."""
    lines = typed(runbook(a_plan(), stop="seoul/b1/connect")["back"])
    moves = [line for line in lines if re.search(r"cluster (remove|initialize|join|connect)", line)]
    assert [(line.split(">")[0], line.split()[3]) for line in moves] == [
        ("b1", "remove"),
        ("a2", "remove"),
        ("a1", "remove"),
        ("a1", "initialize"),
        ("a2", "join"),
        ("b1", "connect"),
    ]


@pytest.mark.parametrize("state", ["", "unknown"])
def test_a_removal_of_the_primary_without_a_known_end_counts_as_one(state: str) -> None:
    """From the moment its line is written down, only the way of the whole cluster is safe to name."""
    step = "seoul/a1/remove"
    sent: list[Said] = [(Kind.STEP_CLAIMED, step, {}), (Kind.INTENT, step, {"line": 0})]
    parts = runbook(a_plan(), *sent, *([(Kind.OUTCOME, step, {"line": 0, "state": state})] if state else []), stop=step)
    assert parts["where it stands"][0].startswith("Out of the cluster: b1, a2, leaving, or out already: a1;")
    assert parts["back"][0].startswith("The whole cluster is built again with the old files")
    assert parts["in doubt"][0].startswith("- a1: `database cluster remove` was sent at ")


def test_after_a_failed_remove_the_primary_is_still_in() -> None:
    """Its status said Failed, so nothing is in doubt, and each removed node goes back by its own lines."""
    step = "seoul/a1/remove"
    failed: list[Said] = [
        (Kind.STEP_CLAIMED, step, {}),
        (Kind.INTENT, step, {"line": 0}),
        (Kind.OUTCOME, step, {"line": 0, "state": "ok"}),
        (Kind.STEP_FAILED, step, {"error": {"code": "CommandRejected", "text": "`database cluster remove` failed"}}),
    ]
    parts = runbook(a_plan(), *failed, stop=step)
    assert parts["in doubt"] == ["Nothing."]
    assert parts["failed"] == ["- a1: leaves the cluster (primary): failed: `database cluster remove` failed"]
    assert parts["where it stands"][0].startswith("Out of the cluster: b1, a2; the primary a1 is still in it")
    assert parts["back"][0].startswith("a1 is still in the cluster, so each removed node (b1, a2) goes back")


def test_a_refused_line_changed_nothing() -> None:
    """The server said FAILURE: the node counts as still in."""
    step = "seoul/b1/remove"
    refused: list[Said] = [
        (Kind.STEP_CLAIMED, step, {}),
        (Kind.INTENT, step, {"line": 0}),
        (Kind.OUTCOME, step, {"line": 0, "state": "refused"}),
        (Kind.STEP_FAILED, step, {"error": {"text": "was refused"}}),
        (Kind.LANE_STOPPED, "", {"reason": "b1: was refused"}),
    ]
    parts = runbook(a_plan(), *refused, stop=step)
    assert parts["back"][0].startswith("Nothing to undo")
    assert parts["where it stands"][0].endswith("the run stopped (b1: was refused).")


def test_expired_pairs_are_no_way_back_once_such_a_node_is_out() -> None:
    """Until then nothing is to be undone; after it the backups are named."""
    plan = a_plan(days=-1)
    assert runbook(plan, stop="seoul/b1/remove")["back"][0].startswith("Nothing to undo")
    lines = runbook(plan, stop="seoul/a2/remove")["back"]
    assert lines[0].startswith("There is no way back but forward, or the backups: the old files of b1 ")
    assert typed(lines) == []
    assert [line.split(":")[0] for line in lines[2:]] == ["- certbridge-1.bak on a1", "- certbridge-1.bak on a2"]


def test_one_node_with_expired_pairs_spoils_only_what_it_is_part_of() -> None:
    """While it is still in, the others go back; once the primary is out, the whole cluster cannot."""
    plan = a_plan(joined=3, connected=0, expired=["a3"])
    assert "goes back by its own lines" in runbook(plan, stop="seoul/a3/remove")["back"][0]
    assert runbook(plan, stop="seoul/a1/remove")["back"][0].startswith("There is no way back but forward")


def test_nodes_that_left_a_cluster_of_another_primary_cannot_go_back_one_by_one() -> None:
    """`--primary` named a replica: those that are out could not join it before it is initialized."""
    fleet = a_database_fleet(3, 0)
    plan = database_plan(fleet, database_facts(fleet, primary="a2"), primary="a1")
    lines = runbook(plan, stop="seoul/a1/remove")["back"]
    assert lines[0].startswith("The whole cluster is built again with the old files, on the data of a1")


def test_a_first_building_goes_back_by_leaving() -> None:
    """No old files are named, for there were none; the primary leaves last."""
    plan = a_plan("build")
    assert runbook(plan, stop="seoul/a1/initialize")["back"][0].startswith("Nothing to undo")
    lines = runbook(plan, stop="seoul/b1/connect")["back"]
    assert lines[0].startswith("Before this run no node was in a cluster.")
    assert typed(lines) == ["a2> database cluster remove", "a1> database cluster remove"]


def test_a_dissolution_ends_outside_and_goes_back_with_the_old_files() -> None:
    """It makes no files and brings nobody in."""
    parts = runbook(a_plan("dissolve"))
    assert parts["where it stands"] == ["Every node is out of the cluster; the data to keep is on a1; the run is done."]
    assert parts["next, in this order"] == ["Nothing."]
    assert typed(parts["back"])[3].startswith("a1> database cluster certs dbserver.key ")


def test_an_operation_that_goes_on_is_in_doubt_with_what_the_node_said() -> None:
    """Its line was answered, which says nothing of its end (mmp-reference 11)."""
    step = "seoul/a2/join"
    waiting = {"operation": "join", "since": NOW.isoformat(), "elapsed_s": 5, "status": "Sync in progress"}
    parts = runbook(
        a_plan(),
        (Kind.STEP_CLAIMED, step, {}),
        *((kind, step, {"line": n, "state": "ok"}) for n in range(3) for kind in (Kind.INTENT, Kind.OUTCOME)),
        (Kind.STEP_WAITING, step, {"data": waiting}),
        stop=step,
    )
    at = f"{NOW:%Y-%m-%d %H:%M:%S} UTC or after, and its end is not known"
    assert parts["in doubt"] == [
        f"- a2: `database cluster join 10.97.0.1` was sent at {at}: read `database cluster status` on a2 first.",
        "- a2 said last: Sync in progress",
    ]


def test_a_node_left_for_later_is_told_and_still_to_be_brought_in() -> None:
    """The others go on; by hand its lines come first."""
    plan = a_plan()
    parked: Said = (Kind.STEP_PARKED, "seoul/a2/join", {"error": {"text": "Couldn't connect"}})
    parts = runbook(plan, (Kind.STEP_CLAIMED, "seoul/a2/join", {}), parked, stop="seoul/a2/join")
    assert parts["failed"][-1].endswith("failed (left for later, the others go on): Couldn't connect")
    assert parts["in doubt"] == ["Nothing."]
    assert typed(parts["next, in this order"])[0].startswith("a2> database cluster certs ")
    assert parts["where it stands"][0].startswith("a1 is the primary again; 1 of 3 nodes are in the cluster; still out")


def test_a_voided_approval_says_why() -> None:
    """The gate is open again, and the file tells what was found."""
    summary = {"voided": "a2: its role is none"}
    parts = runbook(a_plan(), (Kind.GATE_OPENED, GATE, {"name": "point-of-no-return", "summary": summary}), stop=GATE)
    assert "an earlier approval is void (a2: its role is none)" in parts["where it stands"][0]


def test_a_cancelled_run_keeps_its_lines() -> None:
    """Whoever cancels is told where that leaves the servers; nothing of the file is lost."""
    plan = a_plan()
    said = [*done_until(plan, "seoul/a1/remove"), (Kind.LANE_CANCELLED, "", {"reason": "enough"})]
    state = state_of(plan, said)
    assert standing_lines(plan, state) == (
        "lane seoul: Out of the cluster: b1, a2; the primary a1 is still in it; the run was cancelled (enough).",
    )
    assert "    a1> database cluster remove" in render(plan, state, now=NOW)


def test_what_a_server_said_never_looks_like_a_line() -> None:
    """A reply with line ends and escape codes stays on one line of text."""
    error = {"text": "bad\n    a1> database cluster remove\x1b[2J"}
    step = "seoul/b1/remove"
    failed: list[Said] = [(Kind.STEP_CLAIMED, step, {}), (Kind.STEP_FAILED, step, {"error": error})]
    parts = runbook(a_plan(), *failed, stop=step)
    assert parts["failed"][0].endswith("failed: bad a1> database cluster remove?[2J")


def a_rollback() -> Plan:
    """Return the plan back from a renewal that ended well."""
    fleet = a_database_fleet(2, 1)
    before = database_facts(fleet)
    plan = database_plan(fleet, before)
    return plan_rollback(plan, facts_after(plan, fleet, before), now=NOW)


def test_a_rollback_goes_back_to_where_it_began() -> None:
    """A rollback has a way back as well: the files that were in use before it."""
    plan = a_rollback()
    forward = typed(runbook(plan, stop="seoul/a1/initialize")["next, in this order"])
    assert forward[0] == "a1> database cluster certs dbserver.key dbserver.crt dbclient.key dbclient.crt dbca.crt"
    lines = typed(runbook(plan, stop="seoul/a1/initialize")["back"])
    assert lines[3] == "a1> database cluster certs dbserver-1.key dbserver-1.crt dbclient-1.key dbclient-1.crt dbca.crt"


def test_keys_in_the_vault_are_told_apart() -> None:
    """A person cannot fetch them from a server: the file says where they lie."""
    fleet = a_database_fleet(2, 1, key=KeyOrigin.ENGINE)
    lines = runbook(database_plan(fleet, database_facts(fleet)), stop="seoul/b1/deliver/database")
    assert "    b1: sftp upload dbclient-1.key    (sealed in the vault of certbridge)" in lines["next, in this order"]


@pytest.mark.parametrize("plan", [a_plan(), a_plan("build"), a_plan("dissolve"), a_rollback()], ids=lambda p: p.purpose)
def test_every_border_of_every_purpose_has_a_runbook_of_known_lines(plan: Plan) -> None:
    """Wherever a run ends, each line has one of the few forms, and every command says what it gives."""
    for part in [*walk(plan.lanes[0].tree)]:
        for lines in runbook(plan, stop=part.id).values():
            commands = [number for number, line in enumerate(lines) if re.match(r"    \S+> ", line)]
            assert all(lines[number + 1].startswith("        gives on ") for number in commands)
