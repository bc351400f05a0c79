"""Accounts, invitations, sessions and tokens over HTTP (ASVS 5.0: 6.2.2, 6.2.3, 6.3.2, 6.4.1, 7.x, 8.3.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from api.auth.passwords import Passwords
from tests.integration.api.conftest import ORIGIN
from workflows.errors import NotAllowed
from workflows.journal import FLEET, Kind, accounts, entries, tables
from workflows.people import Permission, Role

GOOD, BETTER = "walnut harbour zebra", "seven harbour lanterns"


@pytest.fixture
def office(web):
    """Give the application with an administrator, an auditor, a viewer and an operator."""
    web.app.state.server.parts["passwords"] = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for role in (Role.ADMIN, Role.AUDITOR, Role.VIEWER, Role.OPERATOR):
        web.person(role.value, role)
    return web


def take(web, secret, password=GOOD, name="", again=None):
    data = {"token": secret, "password": password, "again": password if again is None else again, "name": name}
    client = web.client()
    return client, client.post("/invitation", data=data)


def later(web, table, **values):
    """Let time go by: set columns of all rows of *table*."""
    web.journal.write(lambda tx: tx.connection.execute(sa.update(table).values(**values)))


# ── the first administrator ──────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_6_3_2_there_is_no_account_until_somebody_makes_one(web):
    assert web.journal.read(accounts.every) == []
    answer = web.client().post("/sign-in", data={"name": "admin", "password": "admin"})
    assert answer.status_code == 401
    assert "/invitation" in web.client().get("/sign-in").text


def test_the_bootstrap_token_makes_the_first_administrator_once(web):
    secret = web.journal.write(lambda tx: accounts.invite(tx, "", by="root"))
    client, answer = take(web, secret, name="Ann")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    me = client.get("/api/me").json()
    assert (me["name"], me["grants"]) == ("ann", [{"role": "admin", "cluster": "", "source": "local"}])
    assert me["permissions"] == {"read": None, "audit": None, "manage": None}
    assert take(web, secret, name="ben")[1].status_code == 403


def test_a_bootstrap_token_opens_nothing_once_there_is_an_account(web):
    secret = web.journal.write(lambda tx: accounts.invite(tx, "", by="root"))
    web.person("ann", Role.VIEWER)
    assert take(web, secret, name="ben")[1].status_code == 403
    assert len(web.journal.read(accounts.every)) == 1


def test_a_wrong_name_or_password_does_not_use_the_bootstrap_token_up(web):
    secret = web.journal.write(lambda tx: accounts.invite(tx, "", by="root"))
    for name, password, again in (
        ("a b", GOOD, GOOD),
        ("ann", "short", "short"),
        ("ann", GOOD, BETTER),
        ("", GOOD, GOOD),
    ):
        answer = take(web, secret, password, name, again)[1]
        assert (answer.status_code, secret in answer.text) == (422, True)
    assert take(web, secret, name="ann")[1].status_code == 303


# ── invitations ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_account_is_made_invited_and_taken(office):
    admin = office.signed_in("admin")
    made = admin.post(
        "/api/users",
        json={
            "name": "Kim",
            "display": "Kim, Seoul",
            "grants": [{"role": "approver", "cluster": "seoul"}],
            "groups": ["cab"],
        },
    )
    assert made.status_code == 201
    user = made.json()
    assert (user["name"], user["has_password"], user["groups"]) == ("kim", False, ["cab"])
    invitation = admin.post(f"/api/users/{user['account']}/invitation").json()
    assert invitation["link"] == f"{ORIGIN}/invitation#{invitation['secret']}"
    client, answer = take(office, invitation["secret"])
    assert answer.status_code == 303
    assert client.get("/api/me").json()["permissions"] == {"read": ["seoul"], "decide": ["seoul"]}
    assert [
        one.data["how"] for one in office.journal.events(FLEET) if one.kind is Kind.SIGNED_IN and one.actor == "kim"
    ] == ["invitation"]


def test_asvs_6_4_1_an_invitation_counts_once_ends_by_itself_and_is_no_password(office):
    account = office.account("viewer")
    admin = office.signed_in("admin")
    first = admin.post(f"/api/users/{account}/invitation").json()["secret"]
    second = admin.post(f"/api/users/{account}/invitation").json()["secret"]
    assert take(office, first)[1].status_code == 403  # a newer one was made
    assert office.client().post("/sign-in", data={"name": "viewer", "password": second}).status_code == 401
    assert take(office, second)[1].status_code == 303
    assert take(office, second)[1].status_code == 403
    third = admin.post(f"/api/users/{account}/invitation").json()["secret"]
    later(office, tables.invitation, expires_at=1.0)
    assert take(office, third)[1].status_code == 403


def test_asvs_14_2_1_a_secret_in_the_address_is_not_read(office):
    secret = office.journal.write(lambda tx: accounts.invite(tx, office.account("viewer"), by="admin"))
    assert f'value="{secret}"' not in office.client().get(f"/invitation?token={secret}").text


def test_an_invitation_of_somebody_who_was_shut_out_opens_nothing(office):
    account = office.account("viewer")
    secret = office.journal.write(lambda tx: accounts.invite(tx, account, by="admin"))
    office.journal.write(lambda tx: accounts.set_active(tx, account, active=False, by="admin"))
    answer = take(office, secret)[1]
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": "a b"}, ""),
        ({"name": "system"}, ""),
        ({"name": "Engine"}, ""),
        ({"name": "x\u0007y"}, "body.name"),
        ({"name": "kim", "display": "a\nb"}, "body.display"),
        ({"name": "kim", "groups": ["a\u0007b"]}, "body.groups.0"),
        ({"name": "kim", "grants": [{"role": "king"}]}, "body.grants.0.role"),
        ({"name": "kim", "grants": [{"role": "admin", "cluster": "seoul"}]}, "body.grants"),
        ({"name": "kim", "grants": [{"role": "viewer", "cluster": "a/b"}]}, "body.grants.0.cluster"),
        ({"name": "kim", "password": "x"}, "body.password"),
    ],
)
def test_what_is_no_account_is_refused_with_where_and_why(office, body, where):
    answer = office.signed_in("admin").post("/api/users", json=body)
    assert answer.status_code == 422
    assert where in [one["where"] for one in answer.json()["findings"]] or not where


def test_a_name_is_taken_once(office):
    answer = office.signed_in("admin").post("/api/users", json={"name": "Viewer"})
    assert (answer.status_code, answer.json()["code"]) == (409, "Clash")


@pytest.mark.parametrize("name", ["auditor", "viewer", "operator"])
def test_only_administrators_change_accounts(office, name):
    client, account = office.signed_in(name), office.account("viewer")
    assert client.post("/api/users", json={"name": "kim"}).status_code == 403
    assert client.patch(f"/api/users/{account}", json={"grants": [{"role": "admin"}]}).status_code == 403
    assert client.post(f"/api/users/{account}/invitation").status_code == 403
    assert client.get("/api/users").status_code == (200 if name == "auditor" else 403)


def test_asvs_8_3_2_a_role_that_was_taken_away_is_away_at_the_next_request(office):
    operator, admin = office.signed_in("operator"), office.signed_in("admin")
    script = office.with_token("operator", Permission.OPERATE)
    assert "operate" in operator.get("/api/me").json()["permissions"]
    changed = admin.patch(f"/api/users/{office.account('operator')}", json={"grants": [{"role": "viewer"}]})
    assert changed.status_code == 200
    assert operator.get("/api/me").json()["permissions"] == {"read": None}
    assert script.get("/api/me").json()["permissions"] == {}


def test_asvs_7_4_2_whoever_is_shut_out_is_out_at_once(office):
    viewer, script = office.signed_in("viewer"), office.with_token("viewer")
    admin, account = office.signed_in("admin"), office.account("viewer")
    assert admin.patch(f"/api/users/{account}", json={"active": False}).json()["active"] is False
    assert (viewer.get("/api/me").status_code, script.get("/api/me").status_code) == (401, 401)
    assert admin.patch(f"/api/users/{account}", json={"active": True}).status_code == 200
    # The session ended and the token was revoked: neither comes back.
    assert (viewer.get("/api/me").status_code, script.get("/api/me").status_code) == (401, 401)
    assert [one.kind for one in office.journal.events(FLEET)].count(Kind.TOKEN_REVOKED) == 1


def test_a_password_that_is_set_by_invitation_ends_sessions_and_tokens(office):
    viewer, script = office.signed_in("viewer"), office.with_token("viewer")
    kept = office.with_token("operator")
    secret = office.signed_in("admin").post(f"/api/users/{office.account('viewer')}/invitation").json()["secret"]
    assert script.get("/api/me").status_code == 200  # until it is taken, all is as it was
    client, answer = take(office, secret)
    assert (answer.status_code, client.get("/api/me").status_code) == (303, 200)
    assert (viewer.get("/api/me").status_code, script.get("/api/me").status_code) == (401, 401)
    assert kept.get("/api/me").status_code == 200


def test_the_last_administrator_stays(office):
    account = office.account("admin")
    for change in (
        lambda tx: accounts.set_grants(tx, account, [], by="root"),
        lambda tx: accounts.set_active(tx, account, active=False, by="root"),
    ):
        with pytest.raises(NotAllowed, match="Nobody would be left"):
            office.journal.write(change)


@pytest.mark.parametrize(
    "change",
    [
        {"grants": [{"role": "admin"}, {"role": "approver"}]},
        {"grants": [{"role": "approver"}]},
        {"groups": ["cab"]},
        {"active": False},
        {"display": "x", "grants": []},
    ],
)
def test_administrators_do_not_change_what_they_are_themselves(office, change):
    office.person("second", Role.ADMIN)
    admin, account = office.signed_in("admin"), office.account("admin")
    before = admin.get(f"/api/users/{account}").json()
    answer = admin.patch(f"/api/users/{account}", json=change)
    assert (answer.status_code, answer.json()["code"]) == (403, "NotAllowed")
    assert "Ask another administrator" in answer.json()["remedy"]
    assert admin.get(f"/api/users/{account}").json() == before
    assert office.signed_in("second").patch(f"/api/users/{account}", json=change).status_code == 200


def test_administrators_change_how_they_are_called_and_do_not_invite_themselves(office):
    admin, account = office.signed_in("admin"), office.account("admin")
    assert admin.patch(f"/api/users/{account}", json={"display": "Adam"}).json()["display"] == "Adam"
    assert admin.post(f"/api/users/{account}/invitation").status_code == 403


def test_the_page_has_no_form_for_ones_own_account(office):
    admin = office.signed_in("admin")
    page = admin.get("/settings/users").text
    assert f'action="/settings/users/{office.account("viewer")}"' in page
    assert f'action="/settings/users/{office.account("admin")}' not in page
    assert "Another administrator changes your own account." in page
    answer = admin.post(
        f"/settings/users/{office.account('admin')}", data={"grants": "admin, approver", "active": "yes"}
    )
    assert (answer.status_code, "Ask another administrator" in answer.text) == (403, True)


# ── passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_6_2_2_and_6_2_3_a_password_is_changed_by_who_knows_the_present_one(office):
    secret = office.journal.write(lambda tx: accounts.invite(tx, office.account("viewer"), by="admin"))
    client, _ = take(office, secret)
    wrong = client.post("/api/me/password", json={"current": GOOD + " ", "new": BETTER})
    assert (wrong.status_code, wrong.json()["detail"]) == (403, "The current password is wrong.")
    assert client.post("/api/me/password", json={"current": GOOD, "new": "password1234"}).status_code == 422
    assert client.post("/api/me/password", json={"current": GOOD, "new": BETTER}).status_code == 204
    assert office.client().post("/sign-in", data={"name": "viewer", "password": GOOD}).status_code == 401
    assert office.client().post("/sign-in", data={"name": "viewer", "password": BETTER}).status_code == 303


def test_asvs_7_4_3_other_sessions_end_with_a_new_password(office):
    secret = office.journal.write(lambda tx: accounts.invite(tx, office.account("viewer"), by="admin"))
    client, _ = take(office, secret)
    other = office.signed_in("viewer")
    assert client.post("/api/me/password", json={"current": GOOD, "new": BETTER}).status_code == 204
    assert (client.get("/api/me").status_code, other.get("/api/me").status_code) == (200, 401)


def test_a_token_cannot_change_a_password(office):
    answer = office.with_token("viewer").post("/api/me/password", json={"current": GOOD, "new": BETTER})
    assert answer.status_code == 403


def test_a_password_is_never_repeated_by_a_problem(office):
    answer = office.signed_in("viewer").post("/api/me/password", json={"current": GOOD, "new": 7, "more": BETTER})
    assert (answer.status_code, GOOD in answer.text, BETTER in answer.text) == (422, False, False)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_7_3_1_a_session_that_is_not_used_for_an_hour_ends(office):
    client = office.signed_in("viewer")
    now = datetime.now(UTC).timestamp()
    later(office, tables.session, seen_at=now - 3590)
    assert client.get("/api/me").status_code == 200
    office.journal.write(lambda _: None)
    later(office, tables.session, seen_at=now - 3610)
    assert client.get("/api/me").status_code == 401


def test_asvs_7_3_2_a_session_ends_after_twelve_hours_however_much_it_is_used(office):
    client = office.signed_in("viewer")
    later(office, tables.session, expires_at=datetime.now(UTC).timestamp() - 1)
    assert client.get("/api/me").status_code == 401
    assert entries.SESSION_S == 12 * 3600


def test_asvs_7_5_2_people_see_and_end_their_own_sessions(office):
    client, other, stranger = office.signed_in("viewer"), office.signed_in("viewer"), office.signed_in("operator")
    found = client.get("/api/sessions").json()
    assert (found["total"], sorted(one["current"] for one in found["items"])) == (2, [False, True])
    theirs = next(one["session"] for one in found["items"] if not one["current"])
    assert stranger.delete(f"/api/sessions/{theirs}").status_code == 404
    assert client.delete(f"/api/sessions/{theirs}").status_code == 204
    assert (client.get("/api/me").status_code, other.get("/api/me").status_code) == (200, 401)
    third = office.signed_in("viewer")
    assert client.delete("/api/sessions").status_code == 204
    assert (client.get("/api/me").status_code, third.get("/api/me").status_code) == (200, 401)
    assert stranger.get("/api/me").status_code == 200


def test_asvs_7_4_5_administrators_end_anybodys_sessions(office):
    admin, viewer, operator = (office.signed_in(name) for name in ("admin", "viewer", "operator"))
    account = office.account("viewer")
    assert operator.delete(f"/api/sessions?account={account}").status_code == 403
    assert admin.delete(f"/api/sessions?account={account}").status_code == 204
    assert (viewer.get("/api/me").status_code, operator.get("/api/me").status_code) == (401, 200)
    assert admin.delete("/api/sessions?account=everybody").status_code == 204
    assert (admin.get("/api/me").status_code, operator.get("/api/me").status_code) == (200, 401)


def test_auditors_see_everybodys_sessions_and_end_none(office):
    auditor, viewer = office.signed_in("auditor"), office.signed_in("viewer")
    found = auditor.get("/api/sessions?account=everybody").json()["items"]
    assert {one["name"] for one in found} == {"auditor", "viewer"}
    theirs = next(one["session"] for one in found if one["name"] == "viewer")
    assert auditor.delete(f"/api/sessions/{theirs}").status_code == 404
    assert viewer.get("/api/sessions?account=everybody").status_code == 403


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_token_is_made_shown_once_used_and_revoked(office):
    client = office.signed_in("operator")
    made = client.post("/api/tokens", json={"name": "ci", "scopes": ["read"], "days": 30}).json()
    script = office.client(Authorization=f"Bearer {made['secret']}")
    me = script.get("/api/me").json()
    assert (me["via"], me["permissions"], me["scopes"]) == ("token ci", {"read": None}, ["read"])
    listed = client.get("/api/tokens")
    assert made["secret"] not in listed.text
    assert [(one["token"], one["active"], one["owner"]) for one in listed.json()["items"]] == [
        (made["token"], True, "operator")
    ]
    assert client.delete(f"/api/tokens/{made['token']}").status_code == 204
    assert script.get("/api/me").status_code == 401
    assert client.get("/api/tokens").json()["items"][0]["active"] is False
    assert client.delete(f"/api/tokens/{made['token']}").status_code == 404
    said = "".join(str(one.data) for one in office.journal.events(FLEET))
    assert made["secret"] not in said


def test_a_token_cannot_do_what_its_owner_may_not(office):
    client = office.signed_in("viewer")
    answer = client.post("/api/tokens", json={"name": "ci", "scopes": ["read", "decide"]})
    assert (answer.status_code, "decide" in answer.json()["detail"]) == (403, True)


def test_a_token_makes_no_token(office):
    answer = office.with_token("viewer").post("/api/tokens", json={"name": "ci", "scopes": ["read"]})
    assert answer.status_code == 403


@pytest.mark.parametrize("body", [{"days": 367}, {"days": 0}, {"scopes": []}, {"scopes": ["all"]}, {"name": "a\nb"}])
def test_a_token_has_a_name_scopes_and_at_most_a_year(office, body):
    answer = office.signed_in("viewer").post("/api/tokens", json={"name": "ci", "scopes": ["read"]} | body)
    assert answer.status_code == 422


def test_an_expired_token_opens_nothing(office):
    script = office.with_token("viewer")
    later(office, tables.token, expires_at=1.0)
    assert script.get("/api/me").status_code == 401


def test_administrators_revoke_and_auditors_see_anybodys_tokens(office):
    admin, auditor, viewer = (office.signed_in(name) for name in ("admin", "auditor", "viewer"))
    made = viewer.post("/api/tokens", json={"name": "ci", "scopes": ["read"]}).json()
    assert [one["token"] for one in auditor.get("/api/tokens?account=everybody").json()["items"]] == [made["token"]]
    assert auditor.delete(f"/api/tokens/{made['token']}").status_code == 404
    assert office.signed_in("operator").delete(f"/api/tokens/{made['token']}").status_code == 404
    assert admin.delete(f"/api/tokens/{made['token']}").status_code == 204


def test_an_account_has_a_hundred_tokens_at_most(office, monkeypatch):
    monkeypatch.setattr("api.routes.tokens.MOST", 2)
    client = office.signed_in("viewer")
    body = {"name": "ci", "scopes": ["read"]}
    assert [client.post("/api/tokens", json=body).status_code for _ in range(3)] == [201, 201, 409]


@pytest.mark.parametrize("path", ["/api/users/%00", "/api/sessions/'or'1", "/api/tokens/%ff"])
def test_what_is_no_id_is_refused(office, path):
    client = office.signed_in("admin")
    method = client.get if "users" in path else client.delete
    assert method(path).status_code in {404, 422}


# ── what is typed wrong ──────────────────────────────────────────────────────────────────────────────────────────────
CLUSTERS = """\
fleet: example
release: '3.9'
defaults: {credential: cms, interface: a}
clusters:
- name: seoul
  nodes:
  - {name: cms1, address: 127.0.0.1}
  certificates:
  - {name: web, services: [webadmin], subject: {CN: cms1.example.com}}
"""


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"name": "kim", "grants": "king"}, "This is no role: king."),
        ({"name": "kim", "grants": "operator@nowhere"}, "The inventory has no cluster nowhere."),
        ({"name": "viewer", "grants": "operator"}, "There is an account viewer already."),
    ],
)
def test_what_is_wrong_with_a_new_account_is_said_beside_the_form_which_keeps_what_was_typed(office, typed, said):
    office.settings.fleet.write_text(CLUSTERS)
    page = office.signed_in("admin").post("/settings/users", data=typed | {"display": "Kim Minji"})
    assert (page.status_code in {409, 422}, said in page.text) == (True, True)
    assert all(f'value="{one}"' in page.text for one in ("Kim Minji", *typed.values()))
    assert "Roles are" in page.text or "Its clusters are: seoul." in page.text or "Choose another name." in page.text


def test_what_is_wrong_with_a_change_is_said_beside_its_form(office):
    account = office.journal.read(lambda connection: accounts.by_name(connection, name="viewer")).account
    page = office.signed_in("admin").post(f"/settings/users/{account}", data={"grants": "viewer, king", "groups": "a"})
    assert (page.status_code, "This is no role: king." in page.text) == (422, True)
    assert ('value="viewer, king"' in page.text, page.text.count("<details open>")) == (True, 1)


def test_a_role_for_a_cluster_that_nobody_knows_is_refused_where_the_inventory_is_known(office):
    client, body = office.signed_in("admin"), {"name": "kim", "grants": [{"role": "operator", "cluster": "nowhere"}]}
    office.settings.fleet.write_text(CLUSTERS)
    refused = client.post("/api/users", json=body)
    assert (refused.status_code, refused.json()["remedy"]) == (422, "Its clusters are: seoul.")
    office.settings.fleet.write_text("fleet: [")
    assert client.post("/api/users", json=body).status_code == 201


def test_a_wrong_present_password_is_said_beside_the_form(office):
    page = office.signed_in("viewer").post(
        "/settings/password", data={"current": "what was it", "new": BETTER, "again": BETTER}
    )
    assert (page.status_code, "The current password is wrong." in page.text) == (403, True)
    assert 'action="/settings/password"' in page.text
    page = office.signed_in("viewer").post("/settings/password", data={"current": "x", "new": BETTER, "again": GOOD})
    assert (page.status_code, "The two passwords differ." in page.text) == (422, True)


def test_an_invitation_that_opens_nothing_names_who_can_make_another(web):
    """Before there is an administrator that is the machine of the journal."""
    first = web.journal.write(lambda tx: accounts.invite(tx, "", by="root"))
    web.person("olga", Role.OPERATOR)  # an account is made before the first link is opened: it opens nothing any more
    told = take(web, first, name="ada")[1].text
    assert "certbridge users add NAME --role admin" in told
    web.person("adam", Role.ADMIN)
    assert "Ask an administrator for a new one." in take(web, "nothing", name="ada")[1].text
    kinds = web.signed_in("adam").get("/settings/webhooks").text
    assert '<input type="checkbox" name="kinds" value="gate.opened">' in kinds
