"""When people are reminded of a gate: after a time, daily, when somebody else is named, and before the time is up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workflows.inventory import Approval

OPENED = datetime(2026, 11, 1, 12, tzinfo=UTC)


def hours(terms: Approval) -> list[float]:
    """Return after how many hours each reminder comes, when none is missed."""
    found, at = [], OPENED
    while (following := terms.next_reminder(OPENED, after=at)) is not None:
        found.append((following - OPENED) / timedelta(hours=1))
        at = following
    return found


def test_daily_and_a_day_before_the_end():
    assert hours(Approval(decide_within_days=4)) == [24, 48, 72]
    assert hours(Approval(decide_within_days=3, remind_after_hours=8)) == [8, 32, 48, 56]


def test_short_terms_are_told_half_way():
    assert hours(Approval(decide_within_days=1)) == [12]


def test_the_group_to_turn_to_is_named_at_its_hour():
    terms = Approval(decide_within_days=3, escalate_after_hours=30, escalate_to="leads")
    assert hours(terms) == [24, 30, 48]


def test_what_was_missed_is_one_reminder():
    now = OPENED + timedelta(hours=100)
    assert Approval().next_reminder(OPENED, after=now) == OPENED + timedelta(hours=120)
    assert Approval(decide_within_days=4).next_reminder(OPENED, after=now) is None


def test_whoever_says_nothing_of_reminders_has_the_plan_of_before():
    """Digests of plans stay."""
    assert sorted(Approval(gate="go").to_json()) == ["decide_within_days", "gate", "stages", "valid_for_days"]
    asked = Approval(gate="go", remind_after_hours=8, escalate_after_hours=9, escalate_to="leads")
    assert Approval.from_json(asked.to_json()) == asked
