"""The report's table of ports: what was served before, told apart from what nobody could see."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from api import report
from api.run_view import PartView
from workflows.plan import DATABASE, RENEWAL, ROLLBACK, Plan


@pytest.mark.parametrize("kind", [RENEWAL, DATABASE])
def test_old_files_that_are_in_use_again_are_not_called_free_to_delete(kind):
    """After a rollback it is the new files that nobody uses; of a renewal the day of the old ones is told."""
    shown = SimpleNamespace(outcome="done", closed_at=datetime(2026, 12, 1, tzinfo=UTC), lanes=[])
    plan = Plan(kind=kind, fleet={"retention_days": 30}, lanes=())
    (forward,) = report.left_for_later(plan, shown)
    (back,) = report.left_for_later(replace(plan, purpose=ROLLBACK), shown)
    assert "After 2026-12-31 (`retention`) a person may delete them" in forward
    assert ("in use again" in back, "may delete" in back) == (True, False)


@pytest.mark.parametrize(
    ("seen", "before", "told"),
    [(True, "aa", "2026-12-05"), (True, "", "none"), (False, "", "not seen")],
)
def test_a_port_that_cannot_be_reached_is_not_called_empty(seen, before, told, monkeypatch):
    """`none` is said only of a port that was looked at; of the others nothing is known."""
    monkeypatch.setattr(report, "_ends_before", lambda _journal, _plan: {"aa": "2026-12-05"})
    port = {"service": "xmpp", "address": "a", "port": 5222, "before": before, "not_valid_after": "2027-01-01T00:00"}
    port |= {"fingerprint": "bb", "seen": seen, "fault": ""}
    part = PartView(id="s/a1/prove", kind="step", title="prove", status="done", node="a1", data={"ports": [port]})
    shown = SimpleNamespace(lanes=[SimpleNamespace(parts=[part])])
    (row,) = report.ports(None, None, shown)
    assert (row.before, row.after, row.where) == (told, "2027-01-01", "a:5222")
