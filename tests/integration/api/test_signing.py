"""Signing in and out over HTTP: cookies, one answer for all refusals, throttling, what the journal keeps."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher, extract_parameters

from api.auth.passwords import Passwords
from workflows.journal import FLEET, Kind, accounts, entries, tables
from workflows.people import Role

GOOD = "walnut harbour zebra"
WRONG = "walnut harbour horse"


def quick() -> PasswordHasher:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def door(web):
    """Give the application with ann, who has a password; hashes are quick."""
    web.app.state.server.parts["passwords"] = Passwords(quick())
    ann = web.person("ann", Role.VIEWER)
    web.journal.write(lambda tx: accounts.set_password(tx, ann, quick().hash(GOOD), by="test"))
    return web


def sign_in(client, name="ann", password=GOOD, **more):
    return client.post("/sign-in", data={"name": name, "password": password} | more)


def events(web, kind):
    web.journal.write(lambda _: None)  # refusals are handed in and not waited for
    return [one for one in web.journal.events(FLEET) if one.kind is kind]


def cookie_of(answer):
    return answer.headers["set-cookie"]


def test_whoever_signs_in_goes_where_they_were_going_and_is_known(door):
    client = door.client()
    answer = sign_in(client, next="/runs?kind=renewal")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?kind=renewal")
    assert client.get("/api/me").json()["name"] == "ann"


def test_nobody_is_led_elsewhere_after_signing_in(door):
    assert sign_in(door.client(), next="https://evil.example/").headers["location"] == "/"
    assert 'value="//evil.example"' not in door.client().get("/sign-in?next=//evil.example").text


def test_asvs_3_3_1_to_3_3_4_the_cookie_is_ours_alone(door):
    """Secure, __Host-, no other site, no script, and its value means nothing."""
    name, _, rest = cookie_of(sign_in(door.client())).partition("=")
    attributes = {one.strip().lower() for one in rest.split(";")[1:]}
    assert name == "__Host-certbridge"
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    assert not [one for one in attributes if one.startswith("domain")]


def test_the_cookie_goes_without_tls_to_this_machine_only(door):
    plain = sign_in(door.client(), next="/").request.url
    assert plain.scheme == "https"
    here = door.client(Host="127.0.0.1:8700")
    here.base_url = "http://127.0.0.1:8700"
    found = cookie_of(sign_in(here))
    assert found.startswith("certbridge=")
    assert "secure" not in found.lower()
    elsewhere = door.client()
    elsewhere.base_url = "http://certbridge.example"
    answer = sign_in(elsewhere)
    assert (answer.status_code, "without TLS" in answer.text) == (422, True)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", WRONG), ("ann", ""), ("nobody", GOOD), ("gone", GOOD), ("invited", GOOD), ("x" * 2000, "y")],
)
def test_asvs_6_3_8_whatever_was_wrong_the_answer_is_the_same(door, name, password):
    gone = door.person("gone", Role.VIEWER)
    door.person("invited", Role.VIEWER)
    door.journal.write(lambda tx: accounts.set_password(tx, gone, quick().hash(GOOD), by="test"))
    door.journal.write(lambda tx: accounts.set_active(tx, gone, active=False, by="test"))
    answer = sign_in(door.client(), name, password)
    if password:
        assert answer.status_code == 401
        assert "Name or password is wrong." in answer.text
        other = sign_in(door.client(), "other", password).text.replace('value="other"', "")
        assert answer.text.replace(f'value="{name}"', "") == other
    assert "set-cookie" not in answer.headers


def test_asvs_6_3_8_an_unknown_name_costs_a_hash_too(door):
    asked = []

    class Watched(PasswordHasher):
        def verify(self, argon2id, password):
            asked.append(argon2id[:9])
            return super().verify(argon2id, password)

    door.app.state.server.parts["passwords"] = Passwords(Watched(time_cost=1, memory_cost=8, parallelism=1))
    sign_in(door.client(), "ann", WRONG)
    sign_in(door.client(), "nobody", WRONG)
    assert asked == ["$argon2id", "$argon2id"]


def test_asvs_6_3_1_guessing_is_slowed_down(door):
    client = door.client()
    assert [sign_in(client, "ann", WRONG).status_code for _ in range(5)] == [401] * 5
    answer = sign_in(client, "ann", GOOD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert ("Too many attempts." in answer.text, "Wait, then" in answer.text) == (True, False)


def test_asvs_6_3_1_invitations_and_tokens_are_slowed_down_too(door):
    client = door.client()
    tries = [
        client.post("/invitation", data={"token": "x", "password": GOOD, "again": GOOD}).status_code for _ in range(31)
    ]
    assert (tries[0], tries[-1]) == (403, 429)
    bad = door.client(Authorization="Bearer cbt_nothing")
    answers = [bad.get("/api/me") for _ in range(31)]
    assert (answers[0].status_code, answers[-1].status_code) == (401, 429)
    assert int(answers[-1].headers["retry-after"]) > 0
    assert answers[-1].json()["code"] == "TooMany"


def test_a_bad_token_shuts_out_nobody_with_a_good_one(door):
    bad, good = door.client(Authorization="Bearer cbt_nothing"), door.with_token("ann")
    for _ in range(31):
        bad.get("/api/me")
    assert good.get("/api/me").status_code == 200


def test_asvs_7_2_4_each_signing_in_makes_a_new_session_and_ends_the_old_one(door):
    client = door.client()
    sign_in(client)
    first = client.cookies["__Host-certbridge"]
    sign_in(client)
    second = client.cookies["__Host-certbridge"]
    assert first != second
    old = door.client()
    old.cookies.set("__Host-certbridge", first, domain="certbridge.test")
    assert (old.get("/api/me").status_code, client.get("/api/me").status_code) == (401, 200)


def test_asvs_7_2_3_a_session_is_named_by_256_random_bits_of_which_the_hash_is_kept(door):
    client = door.client()
    sign_in(client)
    secret = client.cookies["__Host-certbridge"]
    assert len(secret) == 43
    assert secret not in str(door.journal.read(entries.sessions))
    assert secret not in "".join(str(one.data) for one in door.journal.events(FLEET))


def test_a_made_up_session_is_never_taken_over(door):
    """Session fixation: what the browser brought is no session afterwards."""
    client = door.client()
    client.cookies.set("__Host-certbridge", "chosen-by-an-attacker", domain="certbridge.test")
    answer = sign_in(client)
    assert "chosen-by-an-attacker" not in cookie_of(answer)


def test_asvs_7_4_1_signing_out_ends_the_session_on_the_server(door):
    client = door.client()
    sign_in(client)
    secret = client.cookies["__Host-certbridge"]
    answer = client.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "Max-Age=0" in cookie_of(answer)
    client.cookies.set("__Host-certbridge", secret, domain="certbridge.test")
    assert client.get("/api/me").status_code == 401
    assert [one.actor for one in events(door, Kind.SESSION_ENDED)] == ["ann"]
    assert client.post("/sign-out").status_code == 303


def test_asvs_3_5_3_nothing_is_changed_by_get(door):
    client = door.client()
    assert client.get("/sign-out").status_code == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://certbridge.test"},
        {},
    ],
)
def test_asvs_3_5_1_another_site_cannot_sign_anybody_out(door, headers):
    client = door.client()
    sign_in(client)
    client.headers.pop("Sec-Fetch-Site")
    assert client.post("/sign-out", headers=headers).status_code == 403
    assert client.get("/api/me").status_code == 200


def test_asvs_3_4_every_page_has_the_headers(door):
    """3.4.1 HSTS, 3.4.2 no CORS, 3.4.3 CSP without inline, 3.4.4 nosniff, 3.4.5 referrer, 3.4.6 frames; 14.3.2."""
    for answer in (door.client().get("/sign-in"), door.client().get("/api/me"), door.client().get("/nowhere")):
        found = answer.headers
        assert "max-age=31536000" in found["strict-transport-security"]
        assert "access-control-allow-origin" not in found
        assert "default-src 'none'" in found["content-security-policy"]
        assert "unsafe" not in found["content-security-policy"]
        assert "frame-ancestors 'none'" in found["content-security-policy"]
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "same-origin"
        assert found["cache-control"] == "no-store"


def test_a_hash_with_old_parameters_is_made_anew_at_sign_in(door):
    newer = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    door.app.state.server.parts["passwords"] = Passwords(newer)
    ann = door.account("ann")
    client = door.client()
    assert sign_in(client).status_code == 303
    kept = door.journal.read(lambda connection: accounts.password_of(connection, ann))
    assert extract_parameters(kept).time_cost == 2
    assert sign_in(door.client()).status_code == 303


def test_asvs_6_2_10_an_old_password_is_still_good(door):
    """It is changed when somebody knows it, not because time went by."""
    times = [column.name for column in tables.account.c if column.name.endswith("_at")]
    door.journal.write(lambda tx: tx.connection.execute(sa.update(tables.account).values(dict.fromkeys(times, 1.0))))
    assert times
    assert sign_in(door.client()).status_code == 303


# ── what the journal keeps ───────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_16_3_1_signing_in_and_being_refused_are_in_the_journal(door):
    client = door.client(**{"User-Agent": "Browser\x1b[31m"})
    sign_in(client)
    sign_in(door.client(), "ann", WRONG)
    assert [(one.actor, one.data["how"]) for one in events(door, Kind.SIGNED_IN)] == [("ann", "password")]
    refused = events(door, Kind.SIGN_IN_REFUSED)
    assert [(one.data["what"], one.data["name"]) for one in refused] == [("password", "ann")]
    assert [one.agent for one in door.journal.read(entries.sessions)] == ["Browser?[31m"]


def test_asvs_16_2_5_neither_passwords_nor_names_that_may_be_some_are_kept(door):
    sign_in(door.client(), GOOD, WRONG)
    said = "".join(str(one.data) for one in door.journal.events(FLEET))
    assert (GOOD in said, WRONG in said) == (False, False)


def test_asvs_16_4_1_a_name_cannot_write_a_line_of_its_own(door):
    sign_in(door.client(), "ann\r\nsigned in: admin\x1b[2J", WRONG)
    assert [one.data["name"] for one in events(door, Kind.SIGN_IN_REFUSED)] == [""]


def test_an_attack_cannot_fill_the_journal(door):
    for n in range(25):
        sign_in(door.client(), f"nobody-{n}", WRONG)
    assert len(events(door, Kind.SIGN_IN_REFUSED)) == 1
    assert door.app.state.server.parts["refusals"]._left_out == 24


def test_asvs_16_5_1_what_nobody_expected_is_told_without_its_words(door):
    """No trace, no text of an error, no name of a file."""
    door.app.state.server.parts["passwords"] = None
    answer = sign_in(door.client())
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for word in ("Traceback", "NoneType", "passwords", ".py"):
        assert word not in answer.text


def test_asvs_16_5_3_when_the_check_itself_fails_nobody_is_let_in(door):
    door.app.state.server.parts["passwords"] = None
    assert "set-cookie" not in sign_in(door.client()).headers


def test_what_is_typed_wrong_is_not_repeated_when_the_form_is_refused(door):
    answer = door.client().post("/sign-in", data={"name": "ann", "password": GOOD + "x" * 3000})
    assert (answer.status_code, GOOD in answer.text) == (422, False)
