"""Who approves what: per gate the ordered stages, and the two clocks. Frozen values, JSON both ways, no I/O.

A gate that the inventory says nothing of has the default: one person of any group, 14 days to decide, 30 days to use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

GATES = ("sign", "go", "point-of-no-return")
"""The gates that `approvals` may name; `workflows.gate` has a constant for each."""
DECIDE_DAYS = 14
VALID_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalStage:
    """One stage: *needs* different people of *group*; "" is anybody who may approve."""

    group: str = ""
    needs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What *gate* asks for: stages in their order, days to decide, and days that an approval may wait to be used."""

    gate: str = ""
    stages: tuple[ApprovalStage, ...] = (ApprovalStage(),)
    decide_within_days: int = DECIDE_DAYS
    valid_for_days: int = VALID_DAYS

    @property
    def decide_within(self) -> timedelta:
        """How long people have to decide, from the moment the gate is opened."""
        return timedelta(days=self.decide_within_days)

    @property
    def valid_for(self) -> timedelta:
        """How long an approval is good for, from the moment it is given."""
        return timedelta(days=self.valid_for_days)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` reads them back to an equal value."""
        return {
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
        )


def approval_of(fleet: Mapping[str, Any], gate: str) -> Approval:
    """Return what *gate* asks for by *fleet*, the resolved inventory as a plan carries it."""
    found = next((one for one in fleet.get("approvals", ()) if one["gate"] == gate), {"gate": gate})
    return Approval.from_json(found)
