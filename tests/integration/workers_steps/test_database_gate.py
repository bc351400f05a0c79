"""The point of no return: what voids an approval, who may give it, and backups that must be young."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from database_engine import GATE, DatabaseEngine
from steps_engine import RUN

from workers import failpoints
from workflows.errors import FourEyes
from workflows.inventory import KeyOrigin
from workflows.journal.events import Kind
from workflows.plan import Plan, Seq, Step

SMALL = {"joined": 2, "connected": 1, "days_left": 5, "database_days_left": 5}


@pytest.fixture
def engine(start_database: Callable[..., DatabaseEngine]) -> DatabaseEngine:
    """Return an engine before a cluster of two joined nodes and one connected."""
    return start_database(**SMALL)


def _another_primary(engine: DatabaseEngine) -> None:
    engine.fleet.fault("database-split", node="cmscore3", text=engine.fleet.address("cmscore2"))


def _changed_file(engine: DatabaseEngine) -> None:
    engine.fleet.put_file("cmscore2", "dbserver-1.crt", engine.fleet.files("cmscore2")["dbclient-1.crt"])


def _changed_key(engine: DatabaseEngine) -> None:
    engine.fleet.put_file("cmscore2", "dbserver-1.key", engine.fleet.files("cmscore2")["dbserver.key"])


def _gone_file(engine: DatabaseEngine) -> None:
    engine.fleet.put_file("cmscore2", "dbserver.crt", b"something else")


def _silent(engine: DatabaseEngine) -> None:
    engine.fleet.fault("unreachable", node="cmscore2", match="ssh")
    engine.work.loop.call(engine.work.connections.close())


CHANGES: dict[str, tuple[Callable[[DatabaseEngine], None], str]] = {
    "another primary": (_another_primary, "it names"),
    "a changed file": (_changed_file, "dbserver-1.crt"),
    "a changed key": (_changed_key, "do not belong together"),
    "a changed old file": (_gone_file, "dbserver.crt holds something else"),
    "a silent node": (_silent, "cmscore2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_the_gate_voids_the_approval(engine: DatabaseEngine, change: str) -> None:
    """The gate is open again and says why; nothing was removed; mended and approved anew, the run ends well."""
    engine.to_the_gate()
    good = engine.fleet.files("cmscore2")
    make, said = CHANGES[change]
    make(engine)

    assert engine.beyond() == "seoul/as-approved"

    gate = engine.state_of("seoul").gates[GATE]
    assert (gate.status, engine.state_of("seoul").status) == ("open", "waiting")
    assert said in gate.summary["voided"]
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
    engine.fleet.mend()
    for name in ("dbserver-1.crt", "dbserver-1.key", "dbserver.crt"):
        engine.fleet.put_file("cmscore2", name, good[name])
    assert engine.beyond() == ""
    assert engine.violations() == []


def test_a_primary_named_by_hand_needs_a_second_person(start_database: Callable[..., DatabaseEngine]) -> None:
    """`--primary` settles who holds the data; whoever asked may not approve that, even without four eyes."""
    engine = start_database(**SMALL)
    assert not engine.inventory.four_eyes
    engine.fleet.fault("database-split", node="cmscore3", text=engine.fleet.address("cmscore2"))
    plan = engine.database_plan(primary="cmscore1")
    engine.to_the_gate(plan)
    with pytest.raises(FourEyes):
        engine.beyond(by="ann")
    assert engine.beyond(by="bob", until="seoul/cmscore1/remove") == "seoul/cmscore1/remove"
    engine.fleet.mend()
    assert engine.run_lane() == ""


def test_backups_of_every_joined_node_are_fetched_and_kept_sealed(engine: DatabaseEngine) -> None:
    """Before the first remove there is a backup of each joined node, whose digest stands in the journal."""
    before = {node: state["data"] for node, state in engine.databases().items()}
    engine.to_the_gate()
    assert engine.beyond(until="seoul/cmscore3/remove") == "seoul/cmscore3/remove"
    for node in ("cmscore1", "cmscore2"):
        told = engine.step(f"seoul/{node}/backup").data["backup"]
        stored = engine.fleet.files(node)[told["name"]]
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (told["size"], told["sha256"])
        sealed = engine.unsealed(f"{RUN}/{node}/{told['name']}")
        with tarfile.open(fileobj=io.BytesIO(sealed)) as archive:
            held = archive.extractfile("database.json")
            assert held is not None
            assert before[node] in json.dumps(json.load(held))
    assert "seoul/cmscore3/backup" not in engine.state_of("seoul").steps


def test_backups_that_are_too_old_are_taken_anew_before_the_first_remove(engine: DatabaseEngine) -> None:
    """A run that was held between backup and removal takes its backups again, by itself, and says why."""
    plan = _with_backup_age(engine.database_plan(), 0)
    engine.to_the_gate(plan)
    assert engine.beyond(until="seoul/cmscore3/remove") == "seoul/cmscore3/remove"
    engine.run_once()
    reopened = engine.events(Kind.STEPS_REOPENED)
    readings = [f"seoul/cmscore{number}/recheck" for number in (1, 2, 3)]
    backups = [f"seoul/cmscore{number}/backup" for number in (1, 2)]
    assert reopened[-1].data["steps"] == [*readings, *backups, "seoul/as-approved", "seoul/backed-up"]
    engine.run_once()
    snapshots = [line for line in engine.fleet.commands("cmscore1") if line.startswith("backup snapshot")]
    assert len(snapshots) >= 2
    assert "database cluster remove" not in engine.fleet.commands("cmscore3")


def test_no_backup_no_rebuild(engine: DatabaseEngine) -> None:
    """A node whose backup fails keeps everything as it is."""
    engine.to_the_gate()
    engine.fleet.fault("failure", node="cmscore2", match="backup snapshot*", text="disk full")
    assert engine.beyond() == "seoul/backed-up"
    assert "disk full" in engine.state_of("seoul").reason
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
    engine.resume()
    assert engine.run_lane() == ""


def test_a_backup_that_is_there_is_not_taken_again_after_a_resume(engine: DatabaseEngine) -> None:
    """Something broke right behind it: whoever resumes within two minutes goes on with the backup that was taken."""
    engine.to_the_gate()

    def breaks(name: str, text: str, _where: str) -> None:
        if (name, text.split(" ")[0:2]) == ("after_outcome", ["backup", "snapshot"]):
            failpoints.switch(None)
            raise failpoints.FailpointRaised

    failpoints.switch(breaks)
    try:
        assert engine.beyond() == "seoul/backed-up"
    finally:
        failpoints.switch(None)
    engine.resume()
    assert engine.run_lane() == ""
    for node in ("cmscore1", "cmscore2"):
        assert [line for line in engine.fleet.commands(node) if line.startswith("backup ")] == [
            "backup snapshot certbridge-1"
        ]


def test_a_backup_that_is_too_small_is_taken_again_after_a_resume(engine: DatabaseEngine) -> None:
    """The disk was full; the person made room, and what lies there is no backup of a database."""
    engine.to_the_gate()

    def spoils(name: str, text: str, _where: str) -> None:
        if (name, text) == ("after_effect", "backup snapshot certbridge-1"):
            failpoints.switch(None)
            engine.fleet.put_file("cmscore1", "certbridge-1.bak", b"a few bytes")

    failpoints.switch(spoils)
    try:
        assert engine.beyond() == "seoul/backed-up"
    finally:
        failpoints.switch(None)
    assert "that is no backup of a database" in engine.state_of("seoul").reason
    engine.resume()
    assert engine.run_lane() == ""


def test_a_node_that_gives_no_keys_away_is_told_before_anything_is_made(
    start_database: Callable[..., DatabaseEngine],
) -> None:
    """Prepare tries with a key made for it alone, and offers `key: engine`, with which the same cluster is rebuilt."""
    engine = start_database(**SMALL)
    engine.fleet.fault("refuse-key-download", node="*")
    before = set(engine.fleet.files("cmscore1"))
    engine.start(engine.database_plan())
    assert engine.run_lane() == "seoul/prepared"
    error = engine.step("seoul/cmscore1/prepare").error
    assert error is not None
    assert "key: engine" in error["remedy"]
    assert before == set(engine.fleet.files("cmscore1"))


def test_keys_made_by_the_engine_need_no_download(start_database: Callable[..., DatabaseEngine]) -> None:
    """With `key: engine` the built-in CA signs CSRs that were brought to it, and no node gives a key away."""

    def change(document: dict[str, Any]) -> None:
        for cluster in document["clusters"]:
            cluster.setdefault("database_cluster", {})["key"] = KeyOrigin.ENGINE.value

    engine = start_database(change, **SMALL)
    engine.fleet.fault("refuse-key-download", node="*")
    engine.to_the_gate()
    assert engine.beyond() == ""
    assert engine.violations() == []
    given = [record.text for record in engine.fleet.records("download") if record.outcome == "ok"]
    assert not [name for name in given if name.endswith(".key")]


def _with_backup_age(plan: Plan, seconds: int) -> Plan:
    lane = plan.lanes[0]
    parts = tuple(
        replace(part, params={**part.params, "backup_age_s": seconds})
        if isinstance(part, Step) and part.action == "database_remove"
        else part
        for part in lane.tree.parts
    )
    return replace(plan, lanes=(replace(lane, tree=Seq(parts)),))
