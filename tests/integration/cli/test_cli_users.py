"""`certbridge users`: the first administrator's token, accounts, roles; told in sentences, kept in the journal."""

from __future__ import annotations

from workflows.journal import FLEET, Kind


def test_the_first_administrator_is_made_by_a_token_that_is_shown_once(world):
    secret = world.ok("users", "bootstrap").strip()
    assert len(secret) == 43
    assert secret not in "".join(str(one.data) for one in world.journal.events(FLEET))
    said = world.json("users", "bootstrap")
    assert said["link"] == f"/invitation#{said['secret']}"


def test_there_is_no_first_administrator_once_there_is_an_account(world):
    world.ok("users", "add", "kim")
    result = world.say("users", "bootstrap")
    assert (result.exit_code, "certbridge users add NAME --role admin" in result.stderr) == (2, True)


def test_an_account_is_made_with_roles_and_an_invitation(world):
    made = world.json("users", "add", "Kim", "--role", "operator", "--role", "approver@seoul", "--group", "cab")
    assert made["name"] == "kim"
    users = world.json("users", "list")["users"]
    assert [(one["name"], one["groups"], one["has_password"]) for one in users] == [("kim", ["cab"], False)]
    assert "approver@seoul, operator" in world.ok("users", "list")
    assert world.ok("users", "invite", "kim").strip() != made["secret"]
    actors = {one.actor for one in world.journal.events(FLEET) if one.kind is Kind.ACCOUNT_CHANGED}
    assert actors == {"ann"}


def test_roles_are_replaced_shown_and_taken_away(world):
    world.ok("users", "add", "kim", "--role", "viewer")
    assert world.ok("users", "roles", "kim", "auditor") == "kim: auditor\n"
    assert world.ok("users", "roles", "kim") == "kim: auditor\n"
    assert world.ok("users", "roles", "kim", "--none") == "kim: no role\n"


def test_somebody_is_shut_out_and_let_in(world):
    world.ok("users", "add", "kim")
    world.ok("users", "disable", "kim")
    assert "shut out" in world.ok("users", "list")
    assert world.say("users", "invite", "kim").exit_code == 2
    assert world.ok("users", "enable", "kim") == "kim: active\n"


def test_what_is_wrong_is_told_with_what_to_do(world):
    assert "There is no account nobody" in world.say("users", "invite", "nobody").stderr
    wrong = world.say("users", "add", "kim", "--role", "king")
    assert (wrong.exit_code, "Roles are viewer, operator" in wrong.stderr) == (2, True)
    assert world.say("users", "add", "kim", "--role", "admin@seoul").exit_code == 2
    assert world.say("users", "add", "kim", "--display", "a\nb").exit_code == 2
    assert world.say("users", "add", "k im").exit_code == 2
