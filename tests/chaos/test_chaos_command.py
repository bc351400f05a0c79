"""`make chaos` itself: it does not end well when too little was tried for anything to be found."""

from __future__ import annotations

import importlib
from collections import Counter

import pytest
from checker import Findings
from emptied import Emptied
from nemesis import Round

command = importlib.import_module("tests.chaos.__main__")
GOOD = Round(seed=1, strikes=Counter({"kill beat": 1}), findings=Findings(changes=40))


def played(monkeypatch: pytest.MonkeyPatch, *words: str, round_: Round = GOOD) -> tuple[int, int]:
    """Return the exit code of `python -m tests.chaos words…` with rounds made up, and how many were played."""
    seeds: list[int] = []

    def play(seed: int, *_: object, **__: object) -> Round:
        seeds.append(seed)
        return round_

    monkeypatch.setattr(command, "play", play)
    monkeypatch.setattr(command, "make_keys", lambda path, _number: path)
    return command.main(["--seed", "1", "--emptied", "0", "--quiet", *words]), len(seeds)


def test_all_rounds_that_were_asked_for_are_good(monkeypatch):
    """Exit code 0, and so many rounds."""
    assert played(monkeypatch, "--rounds", "3") == (0, 3)


def test_one_round_is_played_however_late_it_is_but_fewer_than_asked_for_are_no_success(monkeypatch):
    """The time was over before the first one began."""
    assert played(monkeypatch, "--rounds", "2", "--minutes", "0") == (1, 1)


def test_no_rounds_at_all_cannot_be_asked_for(monkeypatch):
    """One is played."""
    assert played(monkeypatch, "--rounds", "0", "--minutes", "0") == (0, 1)


@pytest.mark.parametrize("findings", [Findings(), Findings(changes=40, order=["cms2 before cms1"])])
def test_round_that_sent_nothing_or_found_something_is_no_success(monkeypatch, findings):
    """A fleet to which nothing was sent proves nothing."""
    assert played(monkeypatch, "--rounds", "1", round_=Round(seed=1, findings=findings)) == (1, 1)


def test_small_runs_that_were_not_begun_count_as_missing():
    """The time for them was over, or Redis was emptied too late in some."""
    emptied = Emptied(started=31, finished=31, late=1, emptied_at=[7] * 30)
    assert command.reasons([GOOD], 1, emptied, 50) == ["30 of 50 strict runs with Redis emptied have ended"]
    enough = Emptied(started=51, finished=50, emptied_at=[7] * 50)
    assert command.reasons([GOOD], 1, enough, 50) == ["1 of the small runs with Redis emptied have not ended"]
