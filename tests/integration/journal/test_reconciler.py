"""The reconciler moves every lane that nobody is on, whatever happens to one of them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.journal.world import make_run
from workers import control
from workflows.journal import Journal, outbox


def test_a_lane_that_cannot_be_moved_does_not_hold_up_the_others(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw, in the first lane it looks at, is logged; all others are moved."""
    make_run(journal, lanes=("busan", "daegu", "seoul"))
    for one in journal.read(outbox.pending):  # what the outbox still has to send is not idle
        journal.write(partial(outbox.sent, outgoing_id=one.id))
    moved: list[str] = []

    def advance(_work: Any, _app: Any, _run: str, lane: str, *, why: str) -> None:
        moved.append(lane)
        if len(moved) == 1:
            raise KeyError(why)

    monkeypatch.setattr(control, "advance", advance)
    work: Any = SimpleNamespace(journal=journal, holder="here", settings=SimpleNamespace(reconcile_s=-1.0))
    assert control.reconcile(work, SimpleNamespace()) == 3  # type: ignore[arg-type]
    assert sorted(moved) == ["busan", "daegu", "seoul"]
