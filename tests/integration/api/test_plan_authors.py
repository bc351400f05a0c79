"""The author of a plan stays its author, whatever way the plan travels: as a file, as a document, or over the API."""

from __future__ import annotations

import json

import pytest

from tests.integration.api.remote_world import far_side, served
from workflows.people import Grant, Role
from workflows.plan import Plan

KEPT = "is not kept in the journal, so nobody can tell who made it."


@pytest.fixture
def there(seeded, monkeypatch):
    """Give a function that runs a command over the API as somebody; mal operates and approves seoul, and no more."""
    seeded.person("mal", Grant(Role.OPERATOR, "seoul"), Grant(Role.APPROVER, "seoul"))
    seeded.survey()
    seeded.world.beat()
    with served(seeded.app) as url:
        yield far_side(seeded, url, monkeypatch)


@pytest.fixture
def file(seeded):
    """Give the path of a plan file."""
    return seeded.root / "plan.json"


def edited(file):
    """Change one line of the plan in *file*, and the digest of it along with that."""
    document = json.loads(file.read_text())
    text = json.dumps(document["plan"]).replace("callbridge restart", "callbridge  restart")
    made = Plan.from_json(json.loads(text))
    assert made.digest() != document["digest"]
    file.write_text(json.dumps({**document, "plan": made.to_json(), "digest": made.digest()}))


def people_of(seeded, run):
    """Return who asked for *run* and who planned it."""
    state = seeded.journal.state(run)
    return state.requested_by, state.planned_by


@pytest.mark.parametrize("far", [False, True], ids=["here", "over the API"])
def test_whoever_sees_one_cluster_stays_the_author_of_the_file_that_somebody_else_runs(seeded, there, file, far):
    """Three ways to four eyes passed begin with a file whose digest nobody keeps; this is the first of them."""
    assert there("plan", "--save", file, who="mal").exit_code == 0
    started = there("run", file, "--yes") if far else seeded.world.say("run", file, "--yes", by="olga")
    assert started.exit_code == 0, started.stderr
    run = started.stdout.strip()
    assert people_of(seeded, run) == ("olga", "mal")
    seeded.world.advance(run)
    gate = seeded.signed_in("mal").get(f"/api/runs/{run}/gates/seoul/sign").json()
    assert gate["may"]["why_not_approve"] == "mal made its plan and may not approve it."


@pytest.mark.parametrize("shape", ["json", "yaml"])
def test_whoever_has_a_plan_written_out_is_its_author_as_with_save(seeded, there, shape):
    document = seeded.world.ok("plan", "--cluster", "seoul", "-o", shape, by="mal")
    run = seeded.world.ok("run", "--yes", "--cluster", "seoul", by="olga").strip()
    assert seeded.journal.state(run).digest in document
    assert people_of(seeded, run) == ("olga", "mal")


def test_the_document_of_json_runs_as_the_file_of_save_does(seeded, there, file):
    file.write_text(seeded.world.ok("plan", "--cluster", "seoul", "-o", "json", by="mal"))
    run = seeded.world.ok("run", file, "--yes", by="olga").strip()
    assert people_of(seeded, run) == ("olga", "mal")


@pytest.mark.parametrize("far", [False, True], ids=["here", "over the API"])
def test_an_edited_file_with_a_digest_of_its_own_is_refused(seeded, there, file, far):
    seeded.world.ok("plan", "--save", file, by="olga")
    edited(file)
    said = there("run", file, "--yes") if far else seeded.world.say("run", file, "--yes", by="olga")
    assert (said.exit_code, KEPT in said.stderr, "→ Make it here" in said.stderr) == (2, True, True)
    assert seeded.journal.runs() == []


@pytest.mark.parametrize("far", [False, True], ids=["here", "over the API"])
def test_what_a_file_predicts_is_not_believed_since_the_digest_leaves_it_out(seeded, there, file, far):
    """What is shown before the yes, and what runs, is the plan that was kept."""
    seeded.world.ok("plan", "--save", file, by="olga")
    before = json.loads(file.read_text())["plan"]
    document = json.loads(file.read_text().replace('"to_s": ', '"to_s": 999'))
    assert document["plan"] != before
    file.write_text(json.dumps(document))
    said = there("run", file, "--yes") if far else seeded.world.say("run", file, "--yes", by="olga")
    assert seeded.journal.plan(said.stdout.strip()) == before


def test_a_plan_saved_on_the_machine_runs_over_the_api(seeded, there, file):
    """Whoever starts it may see a part of the fleet only; the digest stays that of the whole."""
    seeded.world.ok("plan", "--save", file, "--cluster", "seoul", by="olga")
    started = there("run", file, "--yes", who="sol")
    assert started.exit_code == 0, started.stderr
    run = started.stdout.strip()
    assert people_of(seeded, run) == ("sol", "olga")
    assert seeded.journal.state(run).digest == json.loads(file.read_text())["digest"]
    assert seeded.journal.state(run).digest in started.stderr


@pytest.mark.parametrize("words", [(), ("--cluster", "seoul")], ids=["all", "by name"])
def test_a_person_of_one_cluster_plans_and_runs_over_the_api(seeded, there, words):
    started = there("run", "--yes", *words, who="sol")
    assert started.exit_code == 0, started.stderr
    assert people_of(seeded, started.stdout.strip()) == ("sol", "sol")


def test_a_person_of_one_cluster_runs_a_saved_file_over_the_api(seeded, there, file):
    there("plan", "--save", file, who="sol")
    assert "busan" not in file.read_text()
    started = there("run", file, "--yes", who="sol")
    assert started.exit_code == 0, started.stderr
    assert seeded.journal.state(started.stdout.strip()).digest == json.loads(file.read_text())["digest"]


def test_nothing_due_is_said_to_a_person_of_one_cluster_too(seeded, there):
    seeded.survey(days=300)
    said = there("run", "--yes", who="sol")
    assert (said.exit_code, "Nothing is due" in said.stderr) == (0, True), said.stderr


def test_a_person_of_one_cluster_counts_what_they_see(seeded, there):
    """The numbers of the whole plan would tell how large the rest is."""
    whole = seeded.signed_in("olga").post("/api/plans", json={}).json()
    one = seeded.signed_in("sol").post("/api/plans", json={}).json()
    numbers = {name: one[name] for name in ("lanes", "nodes", "steps", "empty")}
    assert (whole["nodes"], one["nodes"], numbers["steps"] < whole["steps"]) == (3, 2, True)
    sol = seeded.signed_in("sol")
    rows = {row["digest"]: row for row in sol.get("/api/plans").json()["items"]}
    for shown in (rows[whole["digest"]], sol.get(f"/api/plans/{whole['digest']}").json()):
        assert {name: shown[name] for name in numbers} == numbers
