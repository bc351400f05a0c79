"""The checker itself: it finds what is wrong in made-up logs and journals, and nothing in good ones."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from checker import (
    Findings,
    _ended,
    _gates,
    _intents,
    _one_driver,
    _one_server_at_a_time,
    _plan_order,
    changing,
    forms_of,
)

from workflows.journal.events import Event, Kind, NewEvent, chained
from workflows.journal.fold import RunState, fold
from workflows.plan import Lane, Plan, Seq, Step

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CSR, RESTART = "pki csr callbridge-1 CN:a", "callbridge restart"
REQUEST, FIRST, SECOND = "seoul/cms1/request", "seoul/cms1/apply", "seoul/cms2/apply"
GATE = "seoul/go"


@dataclass(frozen=True)
class Written:
    """A made-up journal of one run, as far as the checker reads it; an engine too, since that is asked for it."""

    events: Sequence[Event]

    @property
    def journal(self) -> Written:
        """The journal of the engine."""
        return self

    def plan(self, _run: str) -> dict[str, Any]:
        """Return a plan that applies certificates on one server after the other."""
        steps = tuple(Step(id=step, node=step.split("/")[1], action="apply", stage=700) for step in (FIRST, SECOND))
        return Plan(kind="renewal", fleet={}, lanes=(Lane(name="seoul", tree=Seq(steps)),)).to_json()

    def state(self, _run: str) -> RunState:
        """Return the state that the events tell."""
        return fold(self.events)


def event(second: float, kind: Kind, step: str = REQUEST, by: str = "engine", **data: Any) -> Event:
    """Return an event of one step on one server."""
    node = "" if step == GATE else step.split("/")[1]
    new = NewEvent(run="r", kind=kind, lane="seoul", step=step, node=node, actor=by, data=data)
    return chained(new, n=1, at=NOW + timedelta(seconds=second), prev="")


def intent(second: float, text: str, line: int = 0, step: str = REQUEST) -> Event:
    """Return the intent of a line."""
    return event(second, Kind.INTENT, step, line=line, text=text)


def outcome(second: float, line: int = 0, state: str = "ok", step: str = REQUEST) -> Event:
    """Return the outcome of a line."""
    return event(second, Kind.OUTCOME, step, line=line, state=state)


def sent(second: float, text: str, *, number: int = 1, session: str = "c1", kind: str = "command") -> list[dict]:
    """Return what the simulator writes of a change."""
    common = {"node": "cms1", "kind": kind, "text": text, "number": number, "session": session}
    at = NOW + timedelta(seconds=second)
    return [
        {**common, "phase": "begin", "utc": at.isoformat()},
        {**common, "phase": "end", "outcome": "ok", "utc": (at + timedelta(seconds=0.5)).isoformat()},
    ]


def judged(log: list[dict], events: list[Event]) -> Findings:
    """Return what the checker says."""
    found = Findings()
    _intents(changing(log), events, found)
    _one_driver(changing(log), found)
    return found


def test_line_with_intent_and_outcome_is_good():
    """One intent, one command, one outcome; reading lines count for nothing."""
    log = [*sent(1, CSR), *sent(2, "pki list", number=2)]
    assert judged(log, [intent(0, CSR), outcome(2)]).wrong == []


def test_line_sent_twice_is_a_duplicate():
    """Though the journal meant it twice."""
    log = [*sent(1, CSR), *sent(4, CSR, number=2)]
    found = judged(log, [intent(0, CSR), intent(3, CSR), outcome(5)])
    assert [len(found.duplicates), found.never_came] == [1, 1]


def test_intent_that_was_never_sent_is_no_duplicate():
    """The worker died between intent and line; the next one sent it."""
    assert judged(sent(4, CSR), [intent(0, CSR), intent(3, CSR), outcome(5)]).wrong == []


def test_restart_may_come_twice_but_not_three_times():
    """Its effect cannot be read back."""
    twice = [*sent(1, RESTART), *sent(4, RESTART, number=2)]
    events = [intent(0, RESTART), intent(3, RESTART), outcome(5)]
    assert judged(twice, events).duplicates == []
    thrice = [*twice, *sent(7, RESTART, number=3)]
    assert len(judged(thrice, [*events, intent(6, RESTART), outcome(8)]).duplicates) == 1


def test_line_that_was_put_back_is_sent_again():
    """What was taken back is to be done anew, and its lines back may come again."""
    log = [*sent(1, CSR), *sent(5, CSR, number=2)]
    events = [intent(0, CSR), outcome(2), event(3, Kind.PUT_BACK, steps=[REQUEST]), intent(4, CSR), outcome(6)]
    assert judged(log, events).wrong == []


def test_line_of_a_step_that_was_not_put_back_is_a_duplicate():
    """The rollback took back the certificate of a service, not the key that was made before."""
    log = [*sent(1, CSR), *sent(5, CSR, number=2)]
    events = [intent(0, CSR), outcome(2), event(3, Kind.PUT_BACK, FIRST, steps=[FIRST]), intent(4, CSR), outcome(6)]
    assert len(judged(log, events).duplicates) == 1


@pytest.mark.parametrize("events", [[], [intent(2, CSR), outcome(3)]])
def test_line_without_an_intent_before_it_is_found(events):
    """No intent at all, or one that came too late."""
    assert any("without an intent" in text for text in judged(sent(1, CSR), events).other)


def test_intent_without_outcome_is_found():
    """Nobody looked what came of it."""
    assert any("has no outcome" in text for text in judged(sent(1, CSR), [intent(0, CSR)]).other)


def test_two_sessions_at_work_on_one_server_are_found():
    """The second began before the first had ended."""
    first, second = sent(1, CSR), sent(1.2, RESTART, number=2, session="c2")
    found = judged([first[0], second[0], first[1], second[1]], [intent(0, CSR), intent(0, RESTART, 1)])
    assert len(found.order) == 1


def in_turn(events: Sequence[Event]) -> list[str]:
    """Return what the checker says of the order of servers."""
    found = Findings()
    _one_server_at_a_time(Written(events), ["r"], events, found)
    return found.order


def test_second_server_while_a_line_of_the_first_is_open_is_found():
    """The claim of the second one's step ends nothing of the first."""
    events = [
        event(0, Kind.STEP_CLAIMED, FIRST),
        intent(1, RESTART, step=FIRST),
        event(2, Kind.STEP_CLAIMED, SECOND),
        intent(3, RESTART, step=SECOND),
        outcome(4, step=FIRST),
    ]
    assert in_turn(events) == [f"cms2: {RESTART} while {FIRST} was under way, at {RESTART}"]


def test_two_servers_that_are_off_at_once_are_found():
    """Every line has its outcome before the next is sent, but both servers are off meanwhile."""
    events = [
        intent(0, "webadmin disable", step=FIRST),
        outcome(1, step=FIRST),
        intent(2, "webadmin disable", step=SECOND),
        outcome(3, step=SECOND),
        intent(4, "webadmin enable", 1, FIRST),
        outcome(5, 1, step=FIRST),
        event(5, Kind.STEP_DONE, FIRST),
        intent(6, "webadmin enable", 1, SECOND),
    ]
    assert len(in_turn(events)) == 2


@pytest.mark.parametrize("end", [Kind.STEP_DONE, Kind.STEP_PARKED, Kind.PUT_BACK])
def test_second_server_after_the_first_is_good(end):
    """The first one's step was done, or left for later, or taken back."""
    events = [
        intent(0, RESTART, step=FIRST),
        event(1, Kind.STEP_CLAIMED, FIRST),  # another worker goes on with it
        intent(2, RESTART, step=FIRST),
        outcome(3, step=FIRST),
        event(4, end, FIRST, steps=[FIRST]),
        intent(5, RESTART, step=SECOND),
    ]
    assert in_turn(events) == []


@pytest.mark.parametrize(("done", "findings"), [([], 1), ([event(0, Kind.STEP_DONE, FIRST)], 0)])
def test_line_before_the_elder_step_is_done_is_found(done, findings):
    """The plan has the second server behind the first."""
    events = [*done, intent(1, RESTART, step=SECOND)]
    found = Findings()
    _plan_order(Written(events), ["r"], [], events, found)
    assert len(found.order) == findings


@pytest.mark.parametrize(
    ("decisions", "findings"),
    [
        ([(Kind.GATE_APPROVED, "bob")], []),
        ([(Kind.GATE_APPROVED, "bob"), (Kind.GATE_APPROVED, "carol")], [f"gate {GATE} was decided twice"]),
        ([(Kind.GATE_APPROVED, "bob"), (Kind.GATE_REJECTED, "ann")], [f"gate {GATE} was decided twice"]),
        ([(Kind.GATE_REJECTED, "ann")], []),
        ([(Kind.GATE_APPROVED, "ann")], [f"gate {GATE} was approved by ann, who asked for the run"]),
    ],
)
def test_gate_is_decided_once_and_approved_by_somebody_else(decisions, findings):
    """Who asked for the run may reject it, but not approve it."""
    events = [event(0, Kind.RUN_CREATED, GATE, by="ann", requested_by="ann"), event(1, Kind.GATE_OPENED, GATE)]
    events += [event(2, kind, GATE, by=by) for kind, by in decisions]
    found = Findings()
    _gates(events, found)
    assert found.other == findings


@pytest.mark.parametrize(("closed", "findings"), [([], 1), ([event(1, Kind.RUN_CLOSED, GATE, outcome="done")], 0)])
def test_run_that_has_not_ended_is_stuck(closed, findings):
    """Whatever its lanes stand at."""
    found = Findings()
    _ended(Written([event(0, Kind.RUN_CREATED, GATE, lanes=["seoul"]), *closed]), ["r"], found)
    assert len(found.stuck) == findings


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_secret_is_found_in_base64_wherever_it_stands(before):
    """Any of three places within the encoded text, and hex."""
    secret = b"correct-horse-battery"
    text = base64.b64encode(before.encode() + secret + b" and more")
    assert any(form in text for form in forms_of(secret))
    assert any(form in secret.hex().encode() for form in forms_of(secret))
