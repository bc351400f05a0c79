"""The runbook of a rebuild that stopped anywhere, typed by a person line by line, reaches a good cluster (issue 3)."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

import pytest
from database_engine import DatabaseEngine
from runbook_person import Person, section
from steps_engine import RUN

from workers import runbooks
from workflows import actions

SHAPE = {"joined": 2, "connected": 1, "database_days_left": 5}
ROLES = {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
NEXT = "next, in this order"
OPERATIONS = (
    "cmscore3/remove",
    "cmscore2/remove",
    "cmscore1/remove",
    "cmscore1/initialize",
    "cmscore2/join",
    "cmscore3/connect",
)
STOPS = ("cmscore1/recheck", "cmscore1/backup", "cmscore2/backup", *OPERATIONS, "cmscore1/agree")
STUCK_S = 1200
"""Simulated seconds: longer than a step polls, so that it gives its thread back while the operation goes on."""

Start = Callable[..., DatabaseEngine]


def the_file(engine: DatabaseEngine) -> str:
    """Return the runbook as the workers keep it."""
    return runbooks.file_of(engine.settings, RUN).read_text()


def data_of(engine: DatabaseEngine) -> dict[str, str]:
    """Return what the database of every node holds."""
    return {node: str(state["data"]) for node, state in engine.databases().items()}


def settings_of(engine: DatabaseEngine) -> dict[str, tuple[Any, ...]]:
    """Return {node: (role, whose cluster, files)}."""
    found = engine.databases()
    return {node: (one["role"], one["primary"], tuple(one["files"])) for node, one in found.items()}


def assert_rebuilt(engine: DatabaseEngine, kept: str, person: Person) -> None:
    """Assert that the cluster is whole, with the new files, on the primary's data, and nothing was out of order."""
    assert engine.roles() == ROLES
    assert {kept} == {data_of(engine)[node] for node in ("cmscore1", "cmscore2")}
    assert all("-1." in name for _, _, files in settings_of(engine).values() for name in files[:-1])
    assert person.shows("cmscore2", ["(me) Connected Replica ( In Sync )"])
    assert engine.violations() == []


@pytest.mark.parametrize("stop", STOPS)
def test_a_run_that_stopped_before_a_step_is_finished_by_hand(start_database: Start, stop: str) -> None:
    """Whatever step comes next, the file as the workers left it leads to a good cluster."""
    engine = start_database(**SHAPE)
    kept = data_of(engine)["cmscore1"]
    engine.to_the_gate()
    assert f"seoul/{stop}" == engine.beyond(until=f"seoul/{stop}")

    person = Person(engine.fleet)
    person.follow(section(the_file(engine), NEXT))

    assert_rebuilt(engine, kept, person)


@pytest.mark.parametrize("stop", OPERATIONS)
def test_a_run_that_stopped_right_after_a_line_is_finished_by_hand(start_database: Start, stop: str) -> None:
    """The connection was cut, the outcome is not known, the operation goes on: the file says so, and leads on."""
    engine = start_database(**SHAPE)
    kept = data_of(engine)["cmscore1"]
    node, verb = stop.split("/")
    engine.to_the_gate()
    engine.beyond(until=f"seoul/{stop}")
    engine.fleet.fault("cut-after", node=node, match=f"database cluster {verb}*")
    engine.fleet.fault("database-stuck", node=node, match=f"{verb}*", seconds=STUCK_S)
    assert engine.run_once() is None

    text = the_file(engine)
    doubts = [line for line in section(text, "in doubt") if line.startswith("- ")]
    assert f"- {node}: `database cluster {verb}" in doubts[0]
    assert f"read `database cluster status` on {node} first" in doubts[0]
    person = Person(engine.fleet)
    person.follow(section(text, NEXT))

    assert not any(where == node and line.startswith(f"database cluster {verb}") for where, line in person.typed)
    assert_rebuilt(engine, kept, person)


@pytest.mark.parametrize("verb", ["remove", "initialize", "join"])
def test_an_operation_that_failed_is_typed_again_by_hand(start_database: Start, verb: str) -> None:
    """A failed operation stops the run (a replica is left for later); the file has its line once more."""
    engine = start_database(**SHAPE)
    kept = data_of(engine)["cmscore1"]
    engine.to_the_gate()
    engine.fleet.fault("database-fails", match=f"{verb}*", text="Couldn't do it\n    other> reboot")
    assert engine.beyond()

    text = the_file(engine)
    assert "Couldn't do it" in "".join(section(text, "failed"))
    assert section(text, "in doubt")[1] == "Nothing."
    person = Person(engine.fleet)
    person.follow(section(text, NEXT))

    assert not any(line == "reboot" for _, line in person.typed)
    assert_rebuilt(engine, kept, person)


def test_a_runbook_that_was_followed_asks_for_nothing_more(start_database: Start) -> None:
    """Whoever is called away in the middle begins at the top again: what is in place is left out."""
    engine = start_database(**SHAPE)
    engine.to_the_gate()
    engine.beyond(until="seoul/cmscore3/remove")
    lines = section(the_file(engine), NEXT)
    first, second = Person(engine.fleet), Person(engine.fleet)
    first.follow(lines)

    second.follow(lines)

    assert len(OPERATIONS) == sum("certs" not in line and "localnode" not in line for _, line in first.typed)
    assert second.typed == []


@pytest.mark.parametrize("stop", ["cmscore2/remove", "cmscore1/remove"])
def test_until_the_primary_leaves_each_node_goes_back_by_its_own_lines(start_database: Start, stop: str) -> None:
    """Typed by hand, the lines back give the cluster that was there, and no data is lost."""
    engine = start_database(**SHAPE)
    before, kept = settings_of(engine), data_of(engine)["cmscore1"]
    engine.to_the_gate()
    engine.beyond(until=f"seoul/{stop}")
    lines = section(the_file(engine), "back")
    assert lines[1].startswith("cmscore1 is still in the cluster, so each removed node")

    Person(engine.fleet).follow(lines)

    assert before == settings_of(engine)
    assert {kept} == {data_of(engine)[node] for node in ("cmscore1", "cmscore2")}
    assert engine.violations(complete=False) == []


def test_a_remove_without_a_known_outcome_goes_back_too(start_database: Start) -> None:
    """The file counts a removal that was sent as one that may have taken; a person waits for its end and goes back."""
    engine = start_database(**SHAPE)
    before = settings_of(engine)
    engine.to_the_gate()
    engine.beyond(until="seoul/cmscore2/remove")
    engine.fleet.fault("database-stuck", node="cmscore2", match="remove*", seconds=STUCK_S)
    assert engine.run_once() is None

    Person(engine.fleet).follow(section(the_file(engine), "back"))

    assert before == settings_of(engine)


@pytest.mark.parametrize("stop", ["cmscore1/initialize", "cmscore2/join", "cmscore3/connect"])
def test_after_the_primary_left_the_whole_cluster_goes_back_with_the_old_files(
    start_database: Start, stop: str
) -> None:
    """Typed by hand, the lines back build the old cluster again on the data of the old primary."""
    engine = start_database(**SHAPE)
    before, kept = settings_of(engine), data_of(engine)["cmscore1"]
    engine.to_the_gate()
    engine.beyond(until=f"seoul/{stop}")
    lines = section(the_file(engine), "back")
    assert lines[1].startswith("The whole cluster is built again with the old files, on the data of cmscore1")

    Person(engine.fleet).follow(lines)

    assert before == settings_of(engine)
    assert {kept} == {data_of(engine)[node] for node in ("cmscore1", "cmscore2")}


def test_before_anything_is_removed_the_left_over_files_are_listed(start_database: Start) -> None:
    """At the gate there is nothing to undo, and the new files named are those that are really there."""
    engine = start_database(**SHAPE)
    before = {node: set(engine.fleet.files(node)) for node in engine.fleet.nodes}
    engine.to_the_gate()

    lines = section(the_file(engine), "back")

    assert lines[1].startswith("Nothing to undo")
    told = dict(line.removeprefix("- ").split(": ", 1) for line in lines if line.startswith("- "))
    there = {node: set(engine.fleet.files(node)) - before[node] for node in engine.fleet.nodes}
    assert there == {node: set(names.split(", ")) for node, names in told.items()}


def test_expired_pairs_are_no_way_back_and_the_backups_are_named(start_database: Start) -> None:
    """Once a node with expired files is out there is no way back but forward, and forward works by hand."""
    engine = start_database(**{**SHAPE, "database_days_left": -3})
    kept = data_of(engine)["cmscore1"]
    engine.to_the_gate()
    assert section(the_file(engine), "back")[1].startswith("Nothing to undo")
    engine.beyond(until="seoul/cmscore2/remove")
    text = the_file(engine)
    lines = section(text, "back")

    assert lines[1].startswith("There is no way back but forward, or the backups: the old files of cmscore3")
    assert [line.split()[3].rstrip(":") for line in lines if ".bak on " in line] == ["cmscore1", "cmscore2"]
    person = Person(engine.fleet)
    person.follow(section(text, NEXT))
    assert_rebuilt(engine, kept, person)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_file_is_for_its_owner_and_never_replaced_by_an_older_one(start_database: Start) -> None:
    """Two workers may write at once: the one that read the journal later wins."""
    engine = start_database(**SHAPE)
    plan = engine.to_the_gate()
    file = runbooks.file_of(engine.settings, RUN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    newer = the_file(engine).replace("Journal event: ", "Journal event: 9")
    file.write_text(newer)

    assert runbooks.keep(engine.settings, engine.work.journal, plan, RUN)

    assert newer == the_file(engine)


def test_what_people_decide_is_seen_by_the_control_worker(start_database: Start) -> None:
    """A cancelled run has no step any more that would write; the control worker's look does."""
    engine = start_database(**SHAPE)
    plan = engine.to_the_gate()
    watch = runbooks.Watch(engine.settings, engine.work.journal, lambda _: plan)
    watch.look()
    assert "the run waits at gate point-of-no-return" in the_file(engine)
    actions.cancel(engine.work.journal, RUN, by="ann", reason="not today")

    runbooks.Watch(engine.settings, engine.work.journal, lambda _: plan).look()

    assert "the run was cancelled (not today)" in the_file(engine)


def test_a_runbook_that_cannot_be_written_stops_no_step(start_database: Start) -> None:
    """Where the folder is no folder the run goes on to its end all the same."""
    engine = start_database(**SHAPE)
    engine.settings.runbooks_dir.rmdir()
    engine.settings.runbooks_dir.write_text("in the way")
    engine.to_the_gate()

    assert engine.beyond() == ""

    assert engine.roles() == ROLES
