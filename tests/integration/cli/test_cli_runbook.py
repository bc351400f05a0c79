"""`runs runbook`, and what `runs cancel` and `runs pause` say of a database run: no engine is needed for any of it."""

import stat

import pytest

from api.cli import surroundings
from tests.unit.core.database_fleets import a_database_fleet, database_facts, database_plan
from workflows import actions

RUN = "20261123-1200-test"
STANDS = "lane seoul: No node was taken out of its cluster or into one; the run goes on by itself."


@pytest.fixture
def database_run(world):
    """Return a world with a database run that nobody has begun."""
    fleet = a_database_fleet()
    actions.start_run(world.journal, database_plan(fleet, database_facts(fleet)), by="ann", run=RUN)
    return world


def test_the_runbook_is_shown_as_it_stands(database_run):
    """Long lines are not broken, so that what is copied is what is to be typed."""
    text = database_run.ok("runs", "runbook", RUN)
    assert text.startswith(f"# Runbook of run {RUN}\n")
    files = "dbserver-1.key dbserver-1.crt dbclient-1.key dbclient-1.crt dbca.crt"
    assert f"\n    a1> database cluster certs {files}\n        gives on a1: Certificates {files}\n" in text


def test_the_runbook_is_written_for_its_owner_alone(database_run):
    """`--out` names the file, and its name is the result."""
    file = database_run.root / "book.md"
    assert database_run.ok("runs", "runbook", RUN, "--out", file) == f"{file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "## seoul: back" in file.read_text()


def test_other_runs_have_no_runbook(world):
    """A renewal puts its servers back by itself; it is told apart, with exit 2."""
    world.survey()
    world.beat()
    run = world.ok("run", "--yes").strip()
    result = world.say("runs", "runbook", run)
    assert result.exit_code == 2
    assert "only database runs have a runbook" in result.stderr


def test_cancel_says_where_the_run_stands_before_it_asks(database_run, monkeypatch):
    """Whoever says no has read it; nothing was cancelled."""
    monkeypatch.setattr(surroundings, "on_terminal", lambda: True)
    result = database_run.say("runs", "cancel", RUN, answer="n\n")
    file = database_run.root / "state" / "runbooks" / f"{RUN}.md"
    said = result.stderr + result.stdout
    assert result.exit_code == 4
    assert said.index("Nothing is put back") < said.index(STANDS) < said.index(str(file)) < said.index("for good?")
    assert database_run.journal.state(RUN).lanes["seoul"].status == "ready"


def test_cancel_ends_with_the_path_of_the_runbook(database_run):
    """The path is on standard output, for whoever goes on by hand."""
    result = database_run.say("runs", "cancel", RUN, "--yes")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(database_run.root / "state" / "runbooks" / f"{RUN}.md")
    assert "the run was cancelled" in database_run.ok("runs", "runbook", RUN)


def test_pause_says_where_the_run_stands(database_run):
    """The short form: one line for each lane, and where the file is."""
    result = database_run.say("runs", "pause", RUN)
    assert result.exit_code == 0
    assert "No node was taken out of its cluster or into one; the run is paused" in result.stderr
    assert f"runbooks/{RUN}.md" in result.stderr
