"""What a command says on the machine of the engine and over the API of another one is the same, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api.remote_world import far_side, served
from tests.integration.cli.cli_world import pem_of
from workflows.journal import runs

Said = tuple[int, str, str]
FORMATS = ("table", "json")


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
