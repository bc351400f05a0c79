"""Votes and clocks of gates on both databases: M of N, who may not any more, and what `system` decides."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.integration.journal.virtual_clock import VirtualClock
from tests.integration.journal.world import LANE, kinds, make_run
from workflows.errors import AlreadyVoted, DigestChanged, FourEyes, GateDecided, GateError, InputError, NotAllowed
from workflows.inventory import Approval, ApprovalStage
from workflows.journal import Journal, Kind, accounts, gates, votes
from workflows.journal.lanes import lane_row, resume_lane
from workflows.people import SYSTEM, Grant, Person, Role

KEY = ("r1", LANE, "g1")
TERMS = Approval(
    gate="sign", stages=(ApprovalStage(group="pki"), ApprovalStage(group="security", needs=2)), decide_within_days=7
)
DAY = 86_400.0


def person(journal: Journal, name: str, *groups: str, roles: tuple[Role, ...] = (Role.APPROVER,)) -> Person:
    """Make an account and return it as the API knows it."""
    grants = [Grant(role) for role in roles]
    account = journal.write(lambda tx: accounts.add(tx, name=name, by="test", grants=grants, groups=groups))
    return journal.read(lambda connection: accounts.person(accounts.get(connection, account)))


def at_gate(journal: Journal, terms: Approval = TERMS) -> None:
    """Let the lane stand at gate g1."""
    make_run(journal)
    opening = partial(gates.open_gate, run="r1", lane=LANE, gate="g1", name="sign", generation=1, summary={})
    assert journal.write(lambda tx: opening(tx, digest="d1", terms=terms))


def decide(journal: Journal, who: Person | str, decision: str = "approve", **changes: Any) -> gates.GateRow:
    """Decide as a person, or as an account of the machine."""
    asked = {"decision": decision, "digest": "d1", "four_eyes": True, "requested_by": "ann", "reason": "so", **changes}
    by, one = (who, None) if isinstance(who, str) else (who.name, who)
    return journal.write(lambda tx: gates.decide(tx, run="r1", lane=LANE, gate="g1", by=by, person=one, **asked))


def row(journal: Journal) -> gates.GateRow:
    """Return gate g1, on which the row and the fold agree."""
    found = journal.read(lambda connection: gates.gate_row(connection, *KEY))
    state = journal.state("r1").lanes[LANE].gates["g1"]
    assert (state.status, state.decided_by, state.not_before) == (found.status, found.decided_by, found.not_before)
    times = [None if at is None else round(at.timestamp(), 3) for at in (state.expires_at, found.expires_at)]
    assert times[0] == times[1]
    return found


def given(journal: Journal) -> list[list[str]]:
    """Return who has voted at each stage, a "-" before those who do not count."""
    gate = row(journal)
    stages = journal.read(lambda connection: votes.stages(connection, KEY, gate.digest, gate.terms))
    return [["" * vote.counts + "-" * (not vote.counts) + vote.name for vote in stage.votes] for stage in stages]


def flag(journal: Journal) -> str:
    """Return the lane's flag."""
    return journal.read(lambda connection: lane_row(connection, "r1", LANE)).flag


def passed(journal: Journal) -> bool:
    """Pass the gate."""
    return journal.write(lambda tx: gates.pass_gate(tx, run="r1", lane=LANE, gate="g1"))


def test_the_vote_that_fills_the_last_stage_is_the_decision(journal: Journal) -> None:
    """One of pki, then two of security; each vote before the last is an event of its own."""
    at_gate(journal)
    bob, eve, sam = (
        person(journal, name, group) for name, group in (("bob", "pki"), ("eve", "security"), ("sam", "security"))
    )
    with pytest.raises(NotAllowed, match="group pki"):
        decide(journal, eve)
    answers = [decide(journal, one).status for one in (bob, eve, sam)]
    assert answers == ["open", "open", "approved"]
    assert kinds(journal)[-3:] == ["gate_voted", "gate_voted", "gate_approved"]
    assert (row(journal).decided_by, given(journal)) == ("sam", [["bob"], ["eve", "sam"]])
    assert [one["name"] for one in journal.state("r1").lanes[LANE].gates["g1"].votes] == ["bob", "eve", "sam"]
    with pytest.raises(GateDecided, match="approved by sam at"):
        decide(journal, bob)
    assert passed(journal)
    assert journal.verify("r1") == ()


def test_a_person_has_one_vote_by_whatever_way(journal: Journal) -> None:
    """By session, by token and at the machine: told when the first was."""
    at_gate(journal)
    bob = person(journal, "bob", "pki", "security")
    decide(journal, bob)
    for who in (bob, "bob"):
        with pytest.raises(AlreadyVoted, match="bob approved at"):
            decide(journal, who)
    assert given(journal) == [["bob"], []]


def test_whoever_lost_the_role_before_the_last_vote_does_not_count(journal: Journal) -> None:
    """The gate stays open although the last stage is full, until the first is full again (F23)."""
    at_gate(journal)
    bob, eve, sam, bea = (
        person(journal, name, group)
        for name, group in (("bob", "pki"), ("eve", "security"), ("sam", "security"), ("bea", "pki"))
    )
    decide(journal, bob)
    decide(journal, eve)
    journal.write(lambda tx: accounts.set_grants(tx, bob.account, [Grant(Role.VIEWER)], by="adam"))
    with pytest.raises(NotAllowed, match="group pki"):
        decide(journal, sam)
    assert decide(journal, bea).status == "open"
    assert given(journal) == [["-bob", "bea"], ["eve"]]
    assert decide(journal, sam).status == "approved"


@pytest.mark.parametrize("loses", ["role", "group", "account"])
def test_whoever_lost_the_right_between_page_and_click_does_not_vote(journal: Journal, loses: str) -> None:
    """What counts is the account at this moment, not as it was when the page was drawn."""
    at_gate(journal)
    bob = person(journal, "bob", "pki")
    take_away(journal, bob, loses)
    with pytest.raises(NotAllowed):
        decide(journal, bob)
    assert given(journal) == [[], []]


@pytest.mark.parametrize("loses", ["role", "group", "account"])
def test_an_approval_is_void_when_its_voter_may_not_any_more(journal: Journal, loses: str) -> None:
    """Looked at when the gate is passed: it is open again, says why, and needs new votes (F23)."""
    at_gate(journal, Approval(gate="go", stages=(ApprovalStage(group="pki"),)))
    bob, bea = (person(journal, name, "pki") for name in ("bob", "bea"))
    assert decide(journal, bob).status == "approved"
    take_away(journal, bob, loses)
    assert not passed(journal)
    assert (row(journal).status, given(journal), flag(journal)) == ("open", [[]], "waiting")
    assert journal.events("r1")[-1].data["again"] == "bob approved it, and may not approve any more"
    decide(journal, bea)
    assert passed(journal)


def take_away(journal: Journal, who: Person, what: str) -> None:
    """Take role, group or account from *who*."""
    if what == "role":
        journal.write(lambda tx: accounts.set_grants(tx, who.account, [], by="adam"))
    elif what == "group":
        journal.write(lambda tx: accounts.set_groups(tx, who.account, [], by="adam"))
    else:
        person(journal, "adam", roles=(Role.ADMIN,))
        journal.write(lambda tx: accounts.set_active(tx, who.account, active=False, by="adam"))


def test_an_administrator_never_approves(journal: Journal) -> None:
    """Also one who is an approver of the group, or becomes an administrator afterwards."""
    at_gate(journal, Approval())
    adam = person(journal, "adam", roles=(Role.ADMIN, Role.APPROVER))
    with pytest.raises(NotAllowed, match="administrators never approve"):
        decide(journal, adam, four_eyes=False)


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_whoever_was_shut_out_does_not_decide_at_the_machine_either(journal: Journal, decision: str) -> None:
    """The account of the operating system is the person of the same name; one without an account may."""
    at_gate(journal, Approval())
    bob = person(journal, "bob")
    journal.write(lambda tx: accounts.set_active(tx, bob.account, active=False, by="adam"))
    with pytest.raises(NotAllowed, match="bob is not active"):
        decide(journal, "bob", decision)
    assert decide(journal, "root").status == "approved"


def test_an_administrator_does_not_approve_at_the_machine_either(journal: Journal) -> None:
    """Nor does one count who became an administrator after the vote: the gate is open again."""
    at_gate(journal, Approval())
    person(journal, "adam", roles=(Role.ADMIN, Role.APPROVER))
    with pytest.raises(NotAllowed, match="administrators never approve"):
        decide(journal, "adam", four_eyes=False)
    bob = person(journal, "bob")
    assert decide(journal, "bob").status == "approved"
    journal.write(lambda tx: accounts.set_grants(tx, bob.account, [Grant(Role.ADMIN)], by="adam"))
    assert not passed(journal)
    assert (row(journal).status, given(journal)) == ("open", [[]])


def test_a_vote_at_the_machine_does_not_count_once_its_account_is_shut_out(journal: Journal) -> None:
    """As a vote that was given over the API."""
    at_gate(journal, Approval(gate="go"))
    bob = person(journal, "bob")
    assert decide(journal, "bob").status == "approved"
    journal.write(lambda tx: accounts.set_active(tx, bob.account, active=False, by="adam"))
    assert not passed(journal)
    assert row(journal).status == "open"


def test_nobody_passes_their_own_work_unless_the_fleet_is_of_one(journal: Journal) -> None:
    """Who asked, who planned, who delivered; with `four_eyes: false` they may."""
    at_gate(journal, Approval())
    others = {"pam": "made its plan", "dan": "delivered its certificates"}
    for name in ("ann", "pam", "dan"):
        with pytest.raises(FourEyes):
            decide(journal, person(journal, name), others=others)
    ann = journal.read(lambda connection: accounts.by_name(connection, "ann"))
    assert ann is not None
    assert decide(journal, accounts.person(ann), four_eyes=False, others=others).decided_by == "ann"


def test_where_two_people_are_needed_the_decision_itself_says_why(journal: Journal) -> None:
    """Nothing in the inventory helps there, and who is refused is told so wherever the refusal comes from."""
    at_gate(journal, Approval())
    with pytest.raises(FourEyes) as refused:
        decide(journal, person(journal, "ann"), two_people=True)
    assert "whatever `four_eyes` says" in refused.value.remedy()


@pytest.mark.parametrize("how", ["reopened", "voided", "resumed"])
def test_a_gate_that_is_opened_again_needs_new_votes(journal: Journal, how: str) -> None:
    """Also when what it shows is the same: old votes are not revived."""
    terms = Approval(stages=(ApprovalStage(needs=2),))
    at_gate(journal, terms)
    decide(journal, "bob")
    if how == "reopened":
        again = partial(gates.reopen, run="r1", lane=LANE, gate="g1", digest="d1", summary={}, why="looked again")
        journal.write(again)
    elif how == "voided":
        decide(journal, "eve")
        assert passed(journal)
        journal.write(partial(gates.void, run="r1", lane=LANE, gate="g1", parts=[], why="another primary"))
    else:
        decide(journal, "eve", "reject")
        assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert (row(journal).status, given(journal)) == ("open", [[]])
    assert [decide(journal, by, digest=row(journal).digest).status for by in ("bob", "eve")] == ["open", "approved"]


def test_a_vote_is_bound_to_the_digest(journal: Journal) -> None:
    """What changed meanwhile is looked at again."""
    at_gate(journal)
    with pytest.raises(DigestChanged):
        decide(journal, person(journal, "bob", "pki"), digest="d0")


def test_the_latest_time_that_a_voter_named_holds(journal: Journal) -> None:
    """The first voter's "not before Saturday" is not overruled by the second one's silence."""
    at_gate(journal, Approval(stages=(ApprovalStage(needs=2),)))
    later = journal.write(lambda tx: tx.now()) + timedelta(days=2)
    decide(journal, "bob", not_before=later)
    assert decide(journal, "eve").not_before == later
    assert not passed(journal)


# ── the two clocks ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_nobody_decided_in_time_is_rejected_by_system_and_resume_opens_it_again(
    url: str, journal: Journal
) -> None:
    """The lane stops with the reason and keeps what it has; the whole time is there again afterwards."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    clock.passes(7 * DAY - 1)
    assert journal.write(gates.expire) == []
    clock.passes(1)
    with pytest.raises(GateError, match="ran out"):
        decide(journal, person(journal, "bob", "pki"))
    assert journal.write(gates.expire) == [("r1", LANE)]
    assert journal.write(gates.expire) == []
    gate = row(journal)
    assert (gate.status, gate.decided_by, gate.reason) == ("rejected", SYSTEM, "nobody decided within 7 days")
    state = journal.state("r1").lanes[LANE]
    assert (state.status, state.reason) == ("stopped", "sign: nobody decided within 7 days")
    with pytest.raises(GateDecided, match="rejected by system"):
        decide(journal, "bob")
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    again = row(journal)
    assert (again.status, again.expires_at) == ("open", again.opened_at + timedelta(days=7))
    clock.passes(7 * DAY - 1)
    assert journal.write(gates.expire) == []


def test_too_few_votes_in_time_are_told_as_such(url: str, journal: Journal) -> None:
    """They do not count after the resume."""
    clock = VirtualClock(journal, url)
    at_gate(journal)
    decide(journal, person(journal, "bob", "pki"))
    clock.passes(7 * DAY)
    journal.write(gates.expire)
    assert row(journal).reason == "not enough people decided within 7 days"
    journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    assert given(journal) == [[], []]


def test_an_approval_that_was_not_used_in_time_is_void(url: str, journal: Journal) -> None:
    """Nothing goes through it from that second on, also before the control worker has looked."""
    clock = VirtualClock(journal, url)
    at_gate(journal, Approval(gate="sign", valid_for_days=1))
    assert decide(journal, "bob").expires_at is not None
    clock.passes(DAY)
    assert not passed(journal)
    assert journal.write(gates.expire) == [("r1", LANE)]
    gate = row(journal)
    assert (gate.status, gate.decided_by) == ("rejected", SYSTEM)
    assert gate.reason == "the approval of bob was not used within 1 day"
    assert journal.state("r1").lanes[LANE].reason == f"sign is void: {gate.reason}"
    assert [event.actor for event in journal.events("r1") if event.kind is Kind.GATE_REJECTED] == [SYSTEM]
    assert journal.write(lambda tx: resume_lane(tx, "r1", LANE, "ann"))
    decide(journal, "bob")
    assert passed(journal)
    clock.passes(400 * DAY)
    assert journal.write(gates.expire) == []  # it was used in time


def test_nobody_approves_for_a_time_when_the_approval_is_void(journal: Journal) -> None:
    """The latest is a second before; the error says what to do."""
    at_gate(journal, Approval(valid_for_days=2))
    now = journal.write(lambda tx: tx.now())
    with pytest.raises(InputError, match="later than an approval is good for") as refused:
        decide(journal, "bob", not_before=now + timedelta(days=2, seconds=5))
    assert "within the next 2 days" in refused.value.remedy()
    assert decide(journal, "bob", not_before=now + timedelta(days=1)).status == "approved"
