"""Who approves what: per gate the ordered stages, and the two clocks. Frozen values, JSON both ways, no I/O.

A gate that the inventory says nothing of has the default: one person of any group, 14 days to decide, 30 days to use,
and a reminder each day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

GATES = ("sign", "go", "point-of-no-return")
"""The gates that `approvals` may name; `workflows.gate` has a constant for each."""
DECIDE_DAYS = 14
VALID_DAYS = 30
REMIND_HOURS = 24
ESCALATE_HOURS = 72
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalStage:
    """One stage: *needs* different people of *group*; "" is anybody who may approve."""

    group: str = ""
    needs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What *gate* asks for: stages in their order, days to decide, and days that an approval may wait to be used.

    People are reminded after *remind_after_hours* and each day from then on; after *escalate_after_hours* a reminder
    names *escalate_to*, a group; "" is nobody.
    """

    gate: str = ""
    stages: tuple[ApprovalStage, ...] = (ApprovalStage(),)
    decide_within_days: int = DECIDE_DAYS
    valid_for_days: int = VALID_DAYS
    remind_after_hours: int = REMIND_HOURS
    escalate_after_hours: int = ESCALATE_HOURS
    escalate_to: str = ""

    @property
    def decide_within(self) -> timedelta:
        """How long people have to decide, from the moment the gate is opened."""
        return timedelta(days=self.decide_within_days)

    @property
    def valid_for(self) -> timedelta:
        """How long an approval is good for, from the moment it is given."""
        return timedelta(days=self.valid_for_days)

    @property
    def escalate_after(self) -> timedelta:
        """How long a gate waits until reminders name `escalate_to`."""
        return timedelta(hours=self.escalate_after_hours)

    def last_reminder(self, opened: datetime) -> datetime:
        """Return when people are reminded that the time is nearly up: a day before, or half-way when that is later."""
        return opened + max(self.decide_within - _DAY, self.decide_within / 2)

    def next_reminder(self, opened: datetime, *, after: datetime) -> datetime | None:
        """Return the first reminder later than *after* of a gate that was opened at *opened*; None: there is none.

        Daily ones, one when the group to turn to is named, and one before the time is up.
        """
        first = opened + timedelta(hours=self.remind_after_hours)
        days = 0 if after < first else (after - first) // _DAY + 1
        times = [first + days * _DAY, self.last_reminder(opened)]
        if self.escalate_to:
            times.append(opened + self.escalate_after)
        return min((one for one in times if after < one < opened + self.decide_within), default=None)

    def first_reminder_s(self, opened: datetime) -> float | None:
        """Return when the first reminder is due, in seconds since 1970 UTC; None: never."""
        found = self.next_reminder(opened, after=opened)
        return None if found is None else found.timestamp()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` reads them back to an equal value.

        What has its default is left out where it came later than the plans of others: their digest stays.
        """
        later = {name: value for name, default in _LATER.items() if (value := getattr(self, name)) != default}
        return later | {
            "gate": self.gate,
            "stages": [{"group": one.group, "needs": one.needs} for one in self.stages],
            "decide_within_days": self.decide_within_days,
            "valid_for_days": self.valid_for_days,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what *data*, made by `to_json` or by a plan, holds; what is not said has its default."""
        stages = tuple(
            ApprovalStage(group=str(one["group"]), needs=int(one["needs"])) for one in data.get("stages", ())
        )
        return cls(
            gate=str(data.get("gate", "")),
            stages=stages or (ApprovalStage(),),
            decide_within_days=int(data.get("decide_within_days", DECIDE_DAYS)),
            valid_for_days=int(data.get("valid_for_days", VALID_DAYS)),
            remind_after_hours=int(data.get("remind_after_hours", REMIND_HOURS)),
            escalate_after_hours=int(data.get("escalate_after_hours", ESCALATE_HOURS)),
            escalate_to=str(data.get("escalate_to", "")),
        )


_LATER: Mapping[str, Any] = {
    "remind_after_hours": REMIND_HOURS,
    "escalate_after_hours": ESCALATE_HOURS,
    "escalate_to": "",
}


def approval_of(fleet: Mapping[str, Any], gate: str) -> Approval:
    """Return what *gate* asks for by *fleet*, the resolved inventory as a plan carries it."""
    found = next((one for one in fleet.get("approvals", ()) if one["gate"] == gate), {"gate": gate})
    return Approval.from_json(found)
