"""What a command says on the machine of the engine and over the API of another one is the same, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from api import runbooks
from tests.integration.api.remote_world import far_side, served
from tests.integration.cli import cli_world
from tests.integration.cli.cli_world import facts_of, pem_of
from workflows.facts import FileFact, NodeFacts
from workflows.journal import accounts, runs

Said = tuple[int, str, str]
FORMATS = ("table", "json")
NOW = datetime.now(UTC)
_RUN = re.compile(r"\b\d{8}-\d{4}-[a-z0-9]{4}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?")


class Sides:
    """A command line on the machine, one over the API, and the world behind both."""

    def __init__(self, seeded: Any, far: Any) -> None:
        self.seeded, self._far = seeded, far

    def here(self, *words: Any, by: str = "anna") -> Said:
        """Return exit code, result and notes of a command on the machine."""
        said = self.seeded.world.say(*words, by=by)
        return said.exit_code, said.stdout, said.stderr

    def far(self, *words: Any, who: str = "anna") -> Said:
        """Return exit code, result and notes of a command over the API."""
        said = self._far(*words, who=who)
        return said.exit_code, said.stdout, said.stderr

    def both(self, *words: Any, who: str = "anna") -> Said:
        """Return what both say."""
        here, far = self.here(*words, by=who), self.far(*words, who=who)
        assert far == here
        return here

    def alike(self, *words: Any, who: str = "anna") -> Said:
        """Return what both say who start a run each, of which ids and times differ."""
        here, far = self.here(*words, by=who), self.far(*words, who=who)
        assert _timeless(far) == _timeless(here)
        return here


def _timeless(said: Said) -> Said:
    def bare(text: str) -> str:
        return _MOMENT.sub("THEN", _RUN.sub("RUN", text))

    return said[0], bare(said[1]), bare(said[2])


@pytest.fixture
def sides(seeded, monkeypatch) -> Iterator[Sides]:
    """Give both command lines."""
    with served(seeded.app) as url:
        yield Sides(seeded, far_side(seeded, url, monkeypatch))


# ── gates ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("output", FORMATS)
def test_gates(sides, output):
    """Open, approved, and with the certificates in."""
    run = sides.seeded.waiting_run()
    words = [("gates", "list"), ("gates", "show"), ("gates", "show", run, "--lane", "busan", "--gate", "sign")]

    def look() -> list[Said]:
        return [sides.both(*each, "-o", output) for each in words]

    first = look()
    assert [code for code, *_ in first] == [0, 0, 0]
    assert sides.here("gates", "approve", run, "--lane", "seoul", "--yes")[0] == 0
    second = look()
    folder = sides.seeded.world.sign(run, lambda chain: b"".join(pem_of(one) for one in chain))
    sides.here("gates", "approve", run, "--yes")
    assert sides.here("gates", "deliver", folder, "--run", run, by="ann")[0] == 0
    sides.seeded.world.advance(run)
    third = look()
    assert len({str(each) for each in (first, second, third)}) == 3
    assert "go" in third[0][1]


@pytest.mark.parametrize("output", FORMATS)
def test_requests_that_are_handed_out(sides, output, tmp_path):
    """The sheet is there before the approval, the files of each lane after it."""
    run = sides.seeded.waiting_run()
    seen = set()
    for lane in ("none", "seoul", "busan"):
        if lane != "none":
            sides.here("gates", "approve", run, "--lane", lane, "--yes")
        for each in (("--lane", "seoul"), ()):
            out = tmp_path / "csr"
            here = sides.here("gates", "csr", run, "--out", out, *each, "-o", output)
            kept = {file.name: file.read_bytes() for file in out.iterdir()}
            for file in out.iterdir():
                file.unlink()
            far = sides.far("gates", "csr", run, "--out", out, *each, "-o", output)
            assert far == here
            assert {file.name: file.read_bytes() for file in out.iterdir()} == kept
            seen.add(tuple(sorted(kept)))
    assert len(seen) == 3


def test_decisions(sides):
    """One lane is decided here, the other there; only the names and digests differ."""
    run = sides.seeded.waiting_run()

    def bare(said: Said) -> str:
        told = re.sub(r"[0-9a-f]{12,64}", "DIGEST", " ".join(said[1:]))
        return f"{said[0]} {told.replace('seoul', 'LANE').replace('busan', 'LANE')}"

    here = sides.here("gates", "approve", run, "--lane", "busan", "--yes")
    far = sides.far("gates", "approve", run, "--lane", "seoul", "--yes")
    # One lane has two servers, the other one.
    assert re.sub(r"in all: .*|behind it: .*", "", bare(far)) == re.sub(r"in all: .*|behind it: .*", "", bare(here))
    assert "approved sign of lane LANE" in bare(far)
    sides.both("gates", "approve", run, "--lane", "seoul", "--yes")
    sides.both("gates", "reject", run, "--reason", "no", "--yes")


@pytest.mark.parametrize("output", FORMATS)
def test_a_delivery(sides, output, tmp_path):
    run = sides.seeded.waiting_run()
    sides.here("gates", "approve", run, "--yes")
    folder = sides.seeded.world.sign(run, lambda chain: b"".join(pem_of(one) for one in chain))
    first, *others = sorted(folder.iterdir())
    words = ("gates", "deliver", first, "--run", run, "-o", output)
    told = [sides.far(*words, who="olga"), sides.here(*words, by="olga")]
    assert told[0] == told[1]
    assert "missing" in told[0][1]
    (tmp_path / "junk.pem").write_text("nothing")
    assert "junk.pem" in sides.both("gates", "deliver", tmp_path / "junk.pem", "--run", run, who="olga")[2]
    assert sides.far("gates", "deliver", *others, "--run", run, who="olga")[0] == 0


def test_faults_of_gates(sides):
    """Nothing waits, several wait, no such run, no such lane, no such gate."""
    assert "No run waits for people." in sides.both("gates", "show")[2]
    run = sides.seeded.waiting_run("seoul")
    assert "has no lane nowhere" in sides.both("gates", "show", run, "--lane", "nowhere")[2]
    assert "stands at no such gate" in sides.both("gates", "show", run, "--gate", "go")[2]
    assert "There is no run nothing" in sides.both("gates", "show", "nothing")[2]
    assert "Nobody can be asked here" in sides.both("gates", "approve")[2]
    sides.seeded.waiting_run("busan")
    assert "Several runs wait" in sides.both("gates", "show")[2]


def test_decisions_that_may_not_be_taken_are_refused_before_anything_is_shown(sides):
    run = sides.seeded.waiting_run("seoul", by="olga")
    assert "You looked at" in sides.both("gates", "approve", run, "--digest", "ab" * 32)[2]
    assert "stands there now" in sides.both("gates", "approve", run, "--digest", "0123456789ab")[2]
    assert "You looked at abc, but" in sides.both("gates", "approve", run, "--digest", "abc")[2]
    words = ("gates", "approve", run)
    # Who operates may not decide at all; the machine knows of no roles and says why this one may not.
    assert [sides.far(*words, who="olga")[0], sides.here(*words, by="olga")[0]] == [1, 2]


def test_a_digest_names_one_gate(sides):
    sides.seeded.waiting_run()
    assert "names one gate" in sides.both("gates", "approve", "--digest", "ab" * 32)[2]


def test_the_last_decision_is_told_when_nobody_is_waited_for(sides):
    run = sides.seeded.waiting_run("seoul")
    sides.here("gates", "reject", run, "--reason", "no", "--yes")
    sides.here("runs", "cancel", run, "--yes")
    sides.seeded.journal.write(lambda tx: runs.close_run(tx, run, "cancelled"))
    assert "was rejected by anna at" in sides.both("gates", "show")[2]


# ── the inventory and surveys ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("output", FORMATS)
def test_the_inventory(sides, output):
    assert "join.example.com" in sides.both("fleet", "show", "-o", output, who="olga")[1]
    assert sides.both("fleet", "check", "-o", output, who="olga")[0] == 0
    assert sides.both("fleet", "show", "--schema", "-o", output, who="olga")[0] == 0


def test_an_inventory_with_faults(sides):
    """All of them are told with file and line; a file of this machine is looked at here."""
    good = sides.seeded.world.fleet.read_text()
    (sides.seeded.root / "mine.yaml").write_text(good.replace("port: 2201", "port: many"))
    assert "mine.yaml:6" in sides.both("fleet", "check", "--fleet", "mine.yaml", who="olga")[2]
    sides.seeded.world.fleet.write_text(good.replace("port: 2201", "port: many").replace("port: 2203", "prt: 1"))
    said = sides.both("fleet", "check", who="olga")
    assert (said[0], "fleet.yaml:6" in said[2]) == (2, True)
    assert sides.both("fleet", "show", who="olga")[0] == 2


@pytest.mark.parametrize("output", FORMATS)
def test_a_survey(sides, output):
    """All answer; one does not; some alone are asked; a name that is not known."""
    with sides.seeded.world.worker():
        assert sides.alike("survey", "-o", output, who="olga")[0] == 0
        assert sides.alike("survey", "--cluster", "seoul", "--node", "cms2", "-o", output, who="olga")[0] == 0
        assert "seul" in sides.alike("survey", "--cluster", "seul", who="olga")[2]
    with sides.seeded.world.worker(fail={"seoul/cms1/survey": "no route to host"}):
        said = sides.alike("survey", "-o", output, who="olga")
    assert (said[0], "no route to host" in said[2], "cms3" in said[1]) == (1, True, True)


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_export_of_a_run(sides):
    """Plan and events, byte for byte, to standard output and to a file; `fleet` has no plan."""
    run = sides.seeded.waiting_run()
    assert '"plan"' in sides.both("journal", "export", run, who="audrey")[1].splitlines()[0]
    far = sides.far("journal", "export", "fleet", who="audrey")  # first, as its token is an event too
    assert far == sides.here("journal", "export", "fleet")
    out = sides.seeded.root / "out.ndjson"
    sides.both("journal", "export", run, "--out", out, who="audrey")
    far = out.read_bytes()
    sides.here("journal", "export", run, "--out", out)
    assert far == out.read_bytes()
    assert "There is no run nothing" in sides.both("journal", "export", "nothing", who="audrey")[2]


# ── going back ───────────────────────────────────────────────────────────────────────────────────────────────────────
def renewed(node: str, ends: datetime) -> NodeFacts:
    """Return facts of a server whose services use what a run has made, the same ones each time: a plan holds them."""
    del ends
    facts = replace(facts_of(node, NOW + timedelta(days=10)), at=NOW.isoformat())
    leaf = replace(facts.files[0].certificates[0], fingerprint=f"{node}-new")
    key, name = "callbridge-1.key", "callbridge-1.crt"
    new = (
        FileFact(name=name, size=1000, certificates=(leaf,)),
        FileFact(name=key, size=1700),
        FileFact(name="ca.crt", size=1000, certificates=(replace(leaf, fingerprint="ca"),)),
    )
    services = tuple(replace(one, key=key, certificate=name) for one in facts.services)
    return replace(facts, services=services, files=(*facts.files, *new))


@pytest.fixture
def done_run(sides) -> str:
    """Give a run of two clusters that has ended well."""
    world, run = sides.seeded.world, sides.seeded.waiting_run()
    sides.here("gates", "approve", run, "--yes")
    folder = world.sign(run, lambda chain: b"".join(map(pem_of, chain)))
    sides.here("gates", "deliver", folder, "--run", run, by="olga")
    world.advance(run)
    sides.here("gates", "approve", run, "--yes")
    world.advance(run)
    assert sides.seeded.journal.state(run).outcome == "done"
    return run


@pytest.mark.parametrize("output", FORMATS)
def test_the_way_back(sides, done_run, output, monkeypatch):
    """It is previewed and begun; where everything is as before there is nothing to undo."""
    words = ("runs", "rollback", done_run, "-o", output)
    with sides.seeded.world.worker():
        assert "nothing" in sides.alike(*words, "--preview", who="olga")[2]
        monkeypatch.setattr(cli_world, "facts_of", renewed)
        said = sides.alike(*words, "--preview", who="olga")
        assert "old.crt" in said[1], said[2]
        assert "Nobody can be asked" in sides.alike(*words, who="olga")[2]
        far = sides.far(*words, "--yes", who="olga")
        sides.seeded.world.say("runs", "cancel", "@latest", "--yes")
        for one in sides.seeded.journal.runs(limit=1):
            sides.seeded.journal.write(partial(runs.close_run, run=one.run, outcome="cancelled"))
        here = sides.here(*words, "--yes", by="olga")
    assert _timeless(far) == _timeless(here)
    assert far[0] == 0
    assert len({"".join(_RUN.findall(said[1])) for said in (far, here)}) == 2


def test_no_way_back(sides):
    """Of a survey, of a run that moves, of a lane that is not there."""
    survey = sides.seeded.done_survey()
    assert "has no rollback of its own" in sides.both("runs", "rollback", survey, who="olga")[2]
    run = sides.seeded.world.ok("run", "--yes", "--cluster", "seoul", by="olga").strip()
    assert "is at work on seoul" in sides.both("runs", "rollback", run, who="olga")[2]
    sides.seeded.world.advance(run)
    assert "has no lane nowhere" in sides.both("runs", "rollback", run, "--lane", "nowhere", who="olga")[2]


# ── accounts and runbooks ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("output", FORMATS)
def test_accounts(sides, output):
    """Whoever manages them does it here and there alike; who may not is told so."""
    assert "olga" in sides.both("users", "list", "-o", output, who="adam")[1]
    here = sides.here("users", "add", "kim", "--role", "approver@seoul", "--group", "cab", "-o", output)
    far = sides.far("users", "add", "lee", "--role", "approver@seoul", "--group", "cab", "-o", output, who="adam")
    assert _secretless(far[1].replace("lee", "kim")) == _secretless(here[1])
    assert (far[0], _secretless(far[2])) == (0, _secretless(here[2]))
    for words in (
        ("roles", "lee", "-o", output),
        ("roles", "LEE", "viewer", "approver", "-o", output),
        ("roles", "lee", "--none", "-o", output),
        ("roles", "lee", "king"),
        ("roles", "lee", "viewer", "--none"),
        ("disable", "lee"),
        ("invite", "lee"),
        ("enable", "lee"),
        ("invite", "nobody"),
        ("add", "lee"),
        ("add", "l ee"),
    ):
        sides.both("users", *words, who="adam")
    assert [row.active for row in sides.seeded.journal.read(accounts.every) if row.name == "lee"] == [True]
    assert sides.far("users", "disable", "lee", who="anna")[0] == 1
    assert "machine of the engine" in sides.far("users", "bootstrap", who="adam")[2]


def _secretless(text: str) -> str:
    """Return *text* without secrets, and without the host of a link, which only a server knows of itself."""
    return re.sub(r"[\w-]{43}", "SECRET", re.sub(r"http://127\.0\.0\.1:\d+(?=/invitation#)", "", text))


def test_a_runbook(sides, monkeypatch):
    """Only database runs have one; it is shown and written."""
    run = sides.seeded.waiting_run("seoul")
    assert "only database runs have a runbook" in sides.both("runs", "runbook", run, who="viola")[2]
    monkeypatch.setattr(runbooks, "DATABASE", "renewal")
    assert run in sides.alike("runs", "runbook", "@latest", who="viola")[1]
    out = sides.seeded.root / "book.md"
    assert sides.alike("runs", "runbook", run, "--out", out, who="viola")[1] == f"{out}\n"
