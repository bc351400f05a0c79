"""Who may approve and reject, and when enough people have: the rules, without a journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflows.errors import AlreadyVoted, FourEyes, GateError, NotAllowed
from workflows.gate import Vote, Voter, barred, check_approval, check_rejection, current, tally
from workflows.inventory import ApprovalStage
from workflows.people import Grant, Permission, Person, Role

NOW = datetime(2026, 11, 1, tzinfo=UTC)
STAGES = (ApprovalStage(group="pki"), ApprovalStage(group="security", needs=2))
WHY = barred(requested_by="ann", planned_by="pam", delivered_by={"dan"})


def person(name: str, *grants: Grant | Role, groups: tuple[str, ...] = (), **changes: Any) -> Voter:
    """Return *name* with what is granted (an approver everywhere, if nothing is said)."""
    held = frozenset(one if isinstance(one, Grant) else Grant(one) for one in grants or (Role.APPROVER,))
    return Voter.of(Person(account=f"id-{name}", name=name, grants=held, groups=frozenset(groups), **changes))


def vote(name: str, stage: int, **changes: Any) -> Vote:
    """Return a vote of *name*."""
    return Vote(**{"stage": stage, "account": f"id-{name}", "name": name, "via": "session", "at": NOW, **changes})


def approve(voter: Voter, *votes: Vote, stages: tuple[ApprovalStage, ...] = STAGES) -> int:
    """Return the stage that the approval of *voter* counts for, after *votes*."""
    return check_approval(voter, cluster="seoul", stages=tally(stages, votes), barred_people=WHY)


def reject(voter: Voter, *votes: Vote, reason: str = "no") -> None:
    """Check a rejection of *voter*, after *votes*."""
    check_rejection(voter, cluster="seoul", stages=tally(STAGES, votes), requested_by="ann", reason=reason)


def test_stages_are_filled_one_after_the_other() -> None:
    """The second begins when the first is full."""
    assert approve(person("bob", groups=("pki",))) == 0
    assert approve(person("eve", groups=("security",)), vote("bob", 0)) == 1


@pytest.mark.parametrize("name", ["ann", "pam", "dan", "ANN"])
@pytest.mark.parametrize("via", ["session", "token ci"])
def test_nobody_passes_their_own_work_by_session_or_token(name: str, via: str) -> None:
    """Who asked, who planned, who brought the certificates; the account counts, not the way in."""
    with pytest.raises(FourEyes, match="may not approve it"):
        approve(person(name, groups=("pki",), via=via))


def test_whoever_sits_at_the_machine_is_held_to_four_eyes_and_groups_and_nothing_else() -> None:
    """The account of the operating system is in the groups of the account of its name."""
    with pytest.raises(FourEyes):
        approve(Voter(name="ann", groups=frozenset({"pki"})))
    with pytest.raises(NotAllowed, match="group pki"):
        approve(Voter(name="bob"))
    assert approve(Voter(name="bob"), stages=(ApprovalStage(),)) == 0


@pytest.mark.parametrize(
    ("voter", "what"),
    [
        (person("adam", Role.ADMIN, Role.APPROVER, groups=("pki",)), "administrators never approve"),
        (person("vic", Role.VIEWER, groups=("pki",)), "may not decide for seoul"),
        (person("oli", Role.OPERATOR, groups=("pki",)), "may not decide for seoul"),
        (person("bob", Grant(Role.APPROVER, "busan"), groups=("pki",)), "may not decide for seoul"),
        (person("bob", groups=("pki",), scopes=frozenset({Permission.READ})), "may not decide for seoul"),
        (person("eve", groups=("security",)), "not of the group pki"),
    ],
)
def test_an_approval_needs_the_permission_for_the_cluster_and_the_group(voter: Voter, what: str) -> None:
    """An administrator never approves, whatever else was granted."""
    with pytest.raises(NotAllowed, match=what):
        approve(voter)


def test_a_person_counts_once_at_a_gate_and_is_told_when() -> None:
    """Whatever groups and ways in that person has."""
    both = person("bob", groups=("pki", "security"), via="token ci")
    with pytest.raises(AlreadyVoted, match="bob approved at 2026-11-01 00:00:00 UTC already"):
        approve(both, vote("bob", 0))


def test_a_vote_that_does_not_count_any_more_leaves_its_stage_open() -> None:
    """Somebody else of that group is needed; the votes of the next stage stay."""
    votes = (vote("bob", 0, counts=False), vote("eve", 1, at=NOW + timedelta(1)))
    assert current(tally(STAGES, votes)) == 0
    assert approve(person("bea", groups=("pki",)), *votes) == 0


def test_nobody_approves_what_enough_people_have_approved() -> None:
    """There is no stage left."""
    votes = (vote("bob", 0), vote("eve", 1), vote("sam", 1))
    with pytest.raises(GateError, match="Enough people"):
        approve(person("bea", groups=("pki",)), *votes)


@pytest.mark.parametrize(
    "voter",
    [
        person("bob", groups=("pki",)),
        person("eve", groups=("security",)),
        person("ann", Role.OPERATOR),
        person("pam", groups=("pki",)),
        Voter(name="root"),
    ],
)
def test_these_may_reject(voter: Voter) -> None:
    """Approvers of this stage and of later ones, also of their own work, who asked, and who sits at the machine."""
    reject(voter)


@pytest.mark.parametrize(
    ("voter", "votes"),
    [
        (person("bob", groups=("pki",)), (vote("bea", 0),)),
        (person("eve"), ()),
        (person("vic", Role.VIEWER, groups=("pki",)), ()),
        (person("ann", Role.VIEWER), ()),
        (person("oli", Role.OPERATOR), ()),
    ],
)
def test_these_may_not_reject(voter: Voter, votes: tuple[Vote, ...]) -> None:
    """Approvers of a stage that is full, of no group, and people without the permission."""
    with pytest.raises(NotAllowed):
        reject(voter, *votes)


def test_a_rejection_needs_a_reason() -> None:
    """Whoever asked for the run reads it."""
    with pytest.raises(GateError, match="reason"):
        reject(person("bob", groups=("pki",)), reason=" ")
