"""Laws of votes: a gate is decided if and only if every stage got its different people, in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from workflows.errors import AlreadyVoted, FourEyes, GateError, NotAllowed
from workflows.gate import Vote, Voter, barred, check_approval, current, tally
from workflows.inventory import ApprovalStage
from workflows.people import Grant, Person, Role

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GROUPS = ("", "pki", "security")
NAMES = ("ann", "bob", "cid", "dan", "eve", "fay")

STAGES = st.lists(
    st.builds(lambda group, needs: ApprovalStage(group=group, needs=needs), st.sampled_from(GROUPS), st.integers(1, 3)),
    min_size=1,
    max_size=3,
).map(tuple)
PEOPLE = st.fixed_dictionaries(
    {
        name: st.tuples(
            st.frozensets(st.sampled_from(GROUPS[1:])),
            st.sampled_from([(Role.APPROVER,), (Role.APPROVER, Role.ADMIN), (Role.VIEWER,)]),
        )
        for name in NAMES
    }
)


def expected(
    stages: tuple[ApprovalStage, ...], people: dict[str, tuple[frozenset[str], tuple[Role, ...]]], clicks: list[str]
) -> list[list[str]]:
    """Return who fills which stage, told in another way: a list of free chairs that people sit down on in turn."""
    chairs = [(number, one.group) for number, one in enumerate(stages) for _ in range(one.needs)]
    seated: list[tuple[int, str]] = []
    for name in clicks:
        groups, roles = people[name]
        if len(seated) == len(chairs) or name == "ann" or roles != (Role.APPROVER,):
            continue
        number, group = chairs[len(seated)]
        if (not group or group in groups) and name not in [sitting for _, sitting in seated]:
            seated.append((number, name))
    return [[name for at, name in seated if at == number] for number in range(len(stages))]


@given(STAGES, PEOPLE, st.lists(st.sampled_from(NAMES), max_size=14))
def test_decided_if_and_only_if_every_stage_got_its_people_in_order(stages, people, clicks):
    """Whoever clicks in whatever order: ann asked for the run; administrators and viewers never count."""
    votes: list[Vote] = []
    for at, name in enumerate(clicks):
        groups, roles = people[name]
        held = frozenset(Grant(role) for role in roles)
        voter = Voter.of(Person(account=name, name=name, grants=held, groups=groups))
        try:
            stage = check_approval(
                voter, cluster="seoul", stages=tally(stages, votes), barred_people=barred(requested_by="ann")
            )
        except (NotAllowed, FourEyes, AlreadyVoted, GateError):
            continue
        assert current(tally(stages, votes)) == stage
        votes.append(Vote(stage=stage, account=name, name=name, via="session", at=NOW + timedelta(seconds=at)))
    found = tally(stages, votes)
    wanted = expected(stages, people, clicks)
    assert [[vote.name for vote in stage.votes] for stage in found] == wanted
    assert (current(found) is None) == all(len(got) == one.needs for got, one in zip(wanted, stages, strict=True))


@given(STAGES, st.permutations(range(6)), st.data())
def test_the_tally_does_not_ask_in_which_order_votes_are_read(stages, order, data):
    """They have a time each."""
    votes = [
        Vote(
            stage=data.draw(st.integers(0, len(stages) - 1)),
            account=name,
            name=name,
            via="session",
            at=NOW + timedelta(seconds=at),
            counts=data.draw(st.booleans()),
        )
        for at, name in enumerate(NAMES)
    ]
    assert tally(stages, [votes[at] for at in order]) == tally(stages, votes)
