"""A vote says whose invitation set the password that it came by: administrators never approve, but they invite."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.api.conftest import on_both
from workflows.journal import Kind, accounts, tables
from workflows.people import Role

DAY = 86_400.0


@pytest.fixture
def gate(seeded) -> str:
    """Give the path of the sign gate of seoul, asked for by olga."""
    return f"/api/runs/{seeded.waiting_run('seoul')}/gates/seoul/sign"


def invite(seeded, name: str) -> None:
    """Let adam invite *name*, and somebody take it."""
    secret = seeded.signed_in("adam").post(f"/api/users/{seeded.account(name)}/invitation").json()["secret"]
    seeded.journal.write(lambda tx: accounts.take_invitation(tx, secret, argon2id="$argon2id$any"))


def back(seeded, seconds: float) -> None:
    """Put what was taken so long into the past."""
    table = tables.invitation
    seeded.journal.write(lambda tx: tx.connection.execute(sa.update(table).values(used_at=table.c.used_at - seconds)))


def vote(seeded, gate: str, client: Any) -> dict[str, Any]:
    """Approve as *client*, and return the vote as the gate shows it."""
    answer = client.post(f"{gate}/approve", json={"digest": client.get(gate).json()["digest"]})
    assert answer.status_code == 200, answer.text
    (one,) = seeded.signed_in("viola").get(gate).json()["stages"][0]["votes"]
    return dict(one)


def approved(seeded, gate: str) -> dict[str, Any]:
    """Return what the event of the approval says."""
    (event,) = (one for one in seeded.journal.events(gate.split("/")[3]) if one.kind is Kind.GATE_APPROVED)
    return dict(event.data)


@on_both("seeded")
@pytest.mark.parametrize("way", ["signed_in", "with_token"])
def test_a_vote_by_an_invitation_says_whose_it_was(seeded, gate, way):
    """In the body of the gate, the journal and the command line, by session and by token."""
    invite(seeded, "anna")
    said = vote(seeded, gate, getattr(seeded, way)("anna"))
    assert (said["name"], said["invited_by"], said["invited_at"] <= said["at"]) == ("anna", "adam", True)
    event = approved(seeded, gate)
    assert event["invited_by"] == "adam"
    assert event["invited_at"][:19] == said["invited_at"][:19]
    shown = seeded.world.ok("gates", "show", gate.split("/")[3])
    assert "the password of anna was set at " in shown
    assert " by an invitation of adam" in shown


@pytest.mark.parametrize(
    ("language", "words"), [("en", "by an invitation of adam."), ("ko", "adam 님의 초대로 설정되었습니다.")]
)
def test_the_page_of_the_gate_says_it_in_both_languages(seeded, gate, language, words):
    invite(seeded, "anna")
    vote(seeded, gate, seeded.signed_in("anna"))
    page = seeded.signed_in("viola").get(gate.removeprefix("/api"), headers={"Accept-Language": language})
    assert (page.status_code, words in page.text) == (200, True)


def test_an_account_that_an_administrator_made_says_it_too(seeded, gate):
    adam = seeded.signed_in("adam")
    grants = [{"role": Role.APPROVER.value, "cluster": ""}]
    made = adam.post("/api/users", json={"name": "eva", "grants": grants})
    assert made.status_code == 201, made.text
    invite(seeded, "eva")
    assert vote(seeded, gate, seeded.signed_in("eva"))["invited_by"] == "adam"


def test_a_password_of_ones_own_choice_afterwards_hides_nothing(seeded, gate):
    """Whoever took the invitation can change the password too, and shut the account out and let it in again."""
    invite(seeded, "anna")
    anna = seeded.account("anna")
    seeded.journal.write(lambda tx: accounts.set_password(tx, anna, "$argon2id$other", by="anna"))
    for active in (False, True):
        seeded.journal.write(lambda tx, active=active: accounts.set_active(tx, anna, active=active, by="adam"))
    assert vote(seeded, gate, seeded.signed_in("anna"))["invited_by"] == "adam"


@pytest.mark.parametrize(("days", "by"), [(29.9, "adam"), (30.1, "")])
def test_it_is_told_for_thirty_days(seeded, gate, days, by):
    invite(seeded, "anna")
    back(seeded, days * DAY)
    said = vote(seeded, gate, seeded.signed_in("anna"))
    assert (said["invited_by"], said["invited_at"] is None) == (by, not by)
    assert approved(seeded, gate).get("invited_by", "") == by


def test_an_invitation_after_the_vote_or_unused_says_nothing_of_it(seeded, gate):
    seeded.signed_in("adam").post(f"/api/users/{seeded.account('anna')}/invitation")
    assert vote(seeded, gate, seeded.signed_in("anna"))["invited_by"] == ""
    invite(seeded, "anna")
    (said,) = seeded.signed_in("viola").get(gate).json()["stages"][0]["votes"]
    assert (said["invited_by"], said["invited_at"]) == ("", None)


def test_at_the_machine_itself_no_password_counts(seeded, gate):
    invite(seeded, "anna")
    seeded.world.ok("gates", "approve", gate.split("/")[3], "--yes", by="anna")
    (said,) = seeded.signed_in("viola").get(gate).json()["stages"][0]["votes"]
    assert (said["name"], said["invited_by"]) == ("anna", "")
