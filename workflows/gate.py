"""The pure rules of a gate: what a decision is bound to, who may decide, and when enough people have voted.

A gate ends a lane's canvas (DESIGN.md section 7, stages 400 and 550). The decision is bound to a digest: *sign* to the
plan and the CSRs, *go* and *point of no return* to the plan and the certificates. Each approval is a vote; the one that
fills the last stage is the decision. One decision per gate wins; that is `journal.gates`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from workflows.canonical import digest_of_json
from workflows.errors import AlreadyVoted, DigestChanged, FourEyes, GateError, NotAllowed
from workflows.inventory import ApprovalStage
from workflows.people import Permission, Person

SIGN = "sign"
GO = "go"
POINT_OF_NO_RETURN = "point-of-no-return"
LOCAL = "local"
"""How the command line on the machine of the journal votes; else a session or a token, see `Person.via`."""


# ── what a decision is bound to ──────────────────────────────────────────────────────────────────────────────────────
def digest_of(gate: str, plan_digest: str, lane: str, papers: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) that a decision on *gate* is bound to.

    *papers* maps wish ids to the SHA-256 of what lies before the approver: the CSR at *sign*, else the certificate.
    """
    return digest_of_json({"gate": gate, "plan": plan_digest, "lane": lane, "papers": dict(papers)})


# ── who decides ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class Voter:
    """Who decides: an account as it stands at this moment, or whoever sits at the machine of the journal.

    The latter has no `person`: the account of the operating system is asked for no role (DESIGN.md section 8). What the
    account of the same name is, that one is too: in its *groups*, and an administrator.
    """

    name: str
    person: Person | None = None
    groups: frozenset[str] = frozenset()
    is_administrator: bool = False

    @classmethod
    def of(cls, person: Person) -> Self:
        """Return *person* as somebody who decides."""
        return cls(name=person.name, person=person, groups=person.groups, is_administrator=person.is_administrator)

    @property
    def via(self) -> str:
        """How this one came: "local", "session", "token ci"."""
        return self.person.via if self.person else LOCAL

    def may(self, permission: Permission, cluster: str) -> bool:
        """Return whether this one has *permission* for *cluster*."""
        return self.person is None or self.person.may(permission, (cluster,))

    def is_of(self, group: str) -> bool:
        """Return whether this one is of *group*; "" is everybody."""
        return not group or group in self.groups

    def counts(self, group: str, cluster: str) -> bool:
        """Return whether a vote of this one counts at a stage of *group*; administrators never approve."""
        return not self.is_administrator and self.may(Permission.DECIDE, cluster) and self.is_of(group)


def barred(*, requested_by: str, planned_by: str = "", delivered_by: Collection[str] = ()) -> dict[str, str]:
    """Return {name: why} of those who may not approve: nobody passes their own work, whatever way they come in.

    *delivered_by* are those who delivered the certificates that the gate shows (its last editors).
    """
    found = {_folded(requested_by): "asked for this run"}
    if planned_by:
        found.setdefault(_folded(planned_by), "made its plan")
    for name in sorted(delivered_by):
        if name:
            found.setdefault(_folded(name), "delivered its certificates")
    return found


def check_four_eyes(name: str, why: Mapping[str, str], *, two_people: bool = False) -> None:
    """Return when *name* is not among those who are `barred` (*why*). Raises: FourEyes."""
    said = why.get(_folded(name))
    if said:
        remedy = "The primary was named by hand, so another account must approve, whatever `four_eyes` says."
        raise FourEyes(f"{name} {said} and may not approve it.", remedy=remedy if two_people else "", who=name)


def check_decision(
    *,
    decision: str,
    by: str,
    requested_by: str,
    four_eyes: bool,
    digest: str,
    current_digest: str,
    reason: str,
    two_people: bool = False,
    others: Mapping[str, str] | None = None,
) -> None:
    """Return when this decision may be taken; *two_people*: whatever the inventory says of four eyes.

    *others* are those who are `barred` beside the requester.
    Raises: FourEyes (approving one's own run), DigestChanged (something else stands there now), GateError (a rejection
    without a reason). Rejecting one's own run is allowed: it stops, it does not let through.
    """
    if decision == "reject" and not reason.strip():
        raise GateError("A rejection needs a reason.", remedy='Say why: `gates reject RUN --reason "…"`.')
    if digest and digest != current_digest:
        raise DigestChanged(other_digest(digest, current_digest))
    if decision == "approve" and (four_eyes or two_people):
        why = {**(others or {}), **barred(requested_by=requested_by)}
        check_four_eyes(by, why, two_people=two_people)


def other_digest(looked_at: str, now: str) -> str:
    """Return the words for a decision on *looked_at*, where *now* stands."""
    return f"You looked at {looked_at[:12]}, but {now[:12]} stands there now."


def check_approval(
    voter: Voter,
    *,
    cluster: str,
    stages: Sequence[StageState],
    barred_people: Mapping[str, str],
    two_people: bool = False,
) -> int:
    """Return the number of the stage that an approval of *voter* counts for.

    Raises: NotAllowed (an administrator, no permission for *cluster*, not of the stage's group), FourEyes,
    AlreadyVoted (a person counts once at a gate).
    """
    if voter.is_administrator:
        raise NotAllowed(
            f"{voter.name} is an administrator, and administrators never approve.", remedy="Ask an approver."
        )
    check_four_eyes(voter.name, barred_people, two_people=two_people)
    if not voter.may(Permission.DECIDE, cluster):
        raise NotAllowed(f"{voter.name} may not decide for {cluster}.")
    for stage in stages:
        for vote in stage.votes:
            if _folded(vote.name) == _folded(voter.name):
                when = f"{vote.at:%Y-%m-%d %H:%M:%S} UTC"
                raise AlreadyVoted(f"{vote.name} approved at {when} already.", who=vote.name, when=vote.at)
    number = current(stages)
    if number is None:
        raise GateError("Enough people have approved already.", remedy="See `certbridge gates show`.")
    group = stages[number].group
    if not voter.is_of(group):
        raise NotAllowed(
            f"{voter.name} is not of the group {group}, which approves now.", remedy=f"Ask somebody of {group}."
        )
    return number


def check_rejection(
    voter: Voter, *, cluster: str, stages: Sequence[StageState], requested_by: str, reason: str
) -> None:
    """Return when *voter* may reject: an approver of this or a later stage, or who asked for the run.

    Raises: GateError (no reason), NotAllowed.
    """
    if not reason.strip():
        raise GateError("A rejection needs a reason.", remedy="Say why with `--reason`.")
    if voter.person is None:
        return
    asked = _folded(voter.name) == _folded(requested_by)
    if asked and (voter.may(Permission.OPERATE, cluster) or voter.may(Permission.DECIDE, cluster)):
        return
    if not voter.may(Permission.DECIDE, cluster):
        raise NotAllowed(f"{voter.name} may not decide for {cluster}.")
    groups = [stage.group for stage in stages[current(stages) or 0 :]]
    if not any(voter.is_of(group) for group in groups):
        raise NotAllowed(f"{voter.name} is of none of the groups that may still reject: {', '.join(groups)}.")


# ── when enough people have voted ────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """An approval. `counts` is False while its voter may not approve any more; `via` is how that one came in.

    `invited_by` invited the voter, whose password was set so at `invited_at`, not long before the vote; "" and None:
    nobody did. Who hands out invitations could have taken this one.
    """

    stage: int
    account: str
    name: str
    via: str
    at: datetime
    reason: str = ""
    not_before: datetime | None = None
    counts: bool = True
    invited_by: str = ""
    invited_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """A stage with the votes that were given at it, those that do not count any more too."""

    group: str
    needs: int
    votes: tuple[Vote, ...] = ()

    @property
    def missing(self) -> int:
        """How many people are missing."""
        return max(0, self.needs - sum(1 for vote in self.votes if vote.counts))


def tally(stages: Sequence[ApprovalStage], votes: Iterable[Vote]) -> tuple[StageState, ...]:
    """Return *stages* with their votes, oldest first; a vote belongs to the stage at which it was given."""
    given = sorted(votes, key=lambda vote: vote.at)
    return tuple(
        StageState(group=one.group, needs=one.needs, votes=tuple(vote for vote in given if vote.stage == number))
        for number, one in enumerate(stages)
    )


def current(stages: Sequence[StageState]) -> int | None:
    """Return the number of the first stage that misses somebody; None: all are full, and the gate is decided."""
    return next((number for number, stage in enumerate(stages) if stage.missing), None)


def _folded(name: str) -> str:
    # Names of accounts are folded when they are made; those of the operating system are not.
    return name.casefold()
