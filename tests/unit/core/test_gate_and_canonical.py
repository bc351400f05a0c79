"""The rules of a gate, and the one way to write a value as bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from workflows.canonical import canonical, digest_of_json
from workflows.errors import DigestChanged, FourEyes, GateError
from workflows.gate import GO, SIGN, check_decision, digest_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def decision(**changes: Any) -> None:
    """Check a decision that is right but for *changes*."""
    asked = {
        "decision": "approve",
        "by": "bob",
        "requested_by": "ann",
        "four_eyes": True,
        "digest": "d1",
        "current_digest": "d1",
        "reason": "",
    }
    check_decision(**(asked | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"digest": ""},
        {"by": "ann", "four_eyes": False},
        {"decision": "reject", "reason": "not today"},
        {"decision": "reject", "reason": "my own mistake", "by": "ann"},
    ],
)
def test_these_decisions_may_be_taken(changes: dict[str, Any]) -> None:
    """Somebody else approves what stands there; anybody may reject with a reason, also one's own run."""
    decision(**changes)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"by": "ann"}, FourEyes),
        ({"digest": "d0"}, DigestChanged),
        ({"decision": "reject", "reason": "  "}, GateError),
        ({"decision": "reject", "reason": "no", "digest": "d0"}, DigestChanged),
    ],
)
def test_these_decisions_are_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    """One's own run, something else than was looked at, or no reason."""
    with pytest.raises(error):
        decision(**changes)


@pytest.mark.parametrize(
    "other",
    [
        digest_of(GO, "plan", "seoul", {"w": "1"}),
        digest_of(SIGN, "plan2", "seoul", {"w": "1"}),
        digest_of(SIGN, "plan", "busan", {"w": "1"}),
        digest_of(SIGN, "plan", "seoul", {"w": "2"}),
        digest_of(SIGN, "plan", "seoul", {}),
    ],
)
def test_a_decision_is_bound_to_gate_plan_lane_and_papers(other: str) -> None:
    """Whatever changes, the approval no longer fits."""
    assert digest_of(SIGN, "plan", "seoul", {"w": "1"}) != other


def test_the_order_of_papers_does_not_matter() -> None:
    """A mapping has no order, so the digest has none."""
    first, second = ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    assert digest_of(SIGN, "p", "l", first) == digest_of(SIGN, "p", "l", second)


def test_canonical_json_is_sorted_without_blanks_in_utf8() -> None:
    """The bytes that digests are made of."""
    assert canonical({"b": [1, True, None], "a": "서울"}) == '{"a":"서울","b":[1,true,null]}'.encode()
    assert digest_of_json({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
