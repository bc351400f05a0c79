"""OIDC with a real provider on loopback (oidc-provider-mock), and one that lies: forged, replayed, for others, late.

Between us and the provider stands a hand that watches PKCE and, when told, signs something else in the token's place.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import time
import warnings
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import sqlalchemy as sa
from joserfc import jws, jwt
from joserfc.jwk import OctKey, RSAKey

from api.app import create_app
from api.auth import kept
from tests.integration.api.conftest import Web
from workflows.errors import NotAllowed
from workflows.journal import FLEET, Journal, Kind, accounts, entries, tables
from workflows.people import Grant, Role
from workflows.settings import Settings, prepare_state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it still stands on authlib.jose
    import oidc_provider_mock
    from oidc_provider_mock._server import _threaded_server

pytestmark = pytest.mark.filterwarnings("ignore")
ROLES = {"cab": "approver", "ops": "operator@seoul", "bosses": "admin"}


class Provider:
    """The provider with a hand in between: `claims` are put into the next tokens, `sign` signs them otherwise."""

    def __init__(self) -> None:
        self.app = oidc_provider_mock.app(
            user_claims=[
                oidc_provider_mock.User(
                    sub="u-1",
                    claims={"preferred_username": "kim@example.com", "name": "Kim", "groups": ["cab", "ops", "x"]},
                ),
                oidc_provider_mock.User(sub="u-2", claims={"preferred_username": "lee", "groups": ["x"]}),
            ],
        )
        self.key = RSAKey.generate_key(2048, {"kid": "hand"})
        self.reset()

    def reset(self) -> None:
        """Be honest again. `hand`: publish and sign with a key of the hand; else the provider is as it comes."""
        self.hand = True
        self.claims: dict[str, object] = {}
        self.sign = None
        self.metadata: dict[str, object] = {}
        self.away = False
        self.verified: list[bool] = []
        self._challenge = ""

    def __call__(self, environ, start_response):
        """Answer as the provider does, or as a liar would."""
        path = environ["PATH_INFO"]
        if self.away:
            start_response("503 Service Unavailable", [])
            return [b""]
        if path == "/oauth2/authorize":
            asked = parse_qs(environ["QUERY_STRING"])
            assert asked["code_challenge_method"] == ["S256"]
            self._challenge = asked["code_challenge"][0]
        if path == "/oauth2/token":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            verifier = parse_qs(body.decode())["code_verifier"][0]
            made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
            self.verified.append(made == self._challenge)
            environ["wsgi.input"] = io.BytesIO(body)
        told = {}

        def begin(status, headers, exc_info=None):
            told.update(status=status, headers=[one for one in headers if one[0].lower() != "content-length"])

        body = b"".join(self.app(environ, begin))
        if path.endswith("openid-configuration"):
            body = json.dumps(json.loads(body) | self.metadata).encode()
        elif path == "/jwks" and self.hand:
            found = {"keys": [self.key.as_dict(private=False) | {"alg": "RS256"}]}
            body = json.dumps(found).encode()
        elif path == "/oauth2/token" and self.hand:
            found = json.loads(body)
            payload = found["id_token"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
            found["id_token"] = (self.sign or self.signed)(claims)
            body = json.dumps(found).encode()
        start_response(told["status"], told["headers"])
        return [body]

    def signed(self, claims):
        """Return *claims* signed with a key that the provider publishes."""
        return jwt.encode({"alg": "RS256", "kid": "hand"}, claims, self.key, algorithms=["RS256"])


@pytest.fixture(scope="module")
def provider():
    """Give the provider; making its keys takes longer than a test."""
    made = Provider()
    with _threaded_server(made, host="127.0.0.1", poll_interval=0.02) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        yield made


@pytest.fixture
def world(tmp_path, monkeypatch, provider):
    """Give certbridge told of the provider, and the provider, honest again."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    provider.reset()
    settings = Settings.load(
        {},
        state=tmp_path / "state",
        fleet=tmp_path / "fleet.yaml",
        public_url="https://certbridge.test",
        oidc_issuer=provider.address,
        oidc_client_id="certbridge",
        oidc_client_secret="planted-hunter2",
        oidc_roles=ROLES,
    )
    prepare_state(settings)
    with Journal.open(settings.database_url) as journal:
        web = Web(tmp_path, journal, settings)
        web.app = create_app(settings, journal)
        yield web, provider


def sent(client, going="/runs"):
    """Return where the browser is sent."""
    answer = client.get(f"/oidc/sign-in?next={going}")
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def agreed(address, sub="u-1"):
    """Sign in at the provider; return the path and query of the way back."""
    answer = httpx2.post(address, data={"sub": sub}, follow_redirects=False)
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}" == "https://certbridge.test"
    return f"{back.path}?{back.query}"


def signed_in(web, sub="u-1"):
    client = web.client()
    return client, client.get(agreed(sent(client), sub))


def refused(web, answer):
    """See that nobody came in, and that nothing of the answer is in page or journal."""
    assert answer.status_code in {403, 503}, answer.text
    assert "__Host-certbridge=" not in answer.headers.get("set-cookie", "")
    assert web.journal.read(entries.sessions) == []
    return True


def test_whoever_signs_in_at_the_provider_is_in_with_the_roles_of_their_groups(world):
    web, provider = world
    provider.hand = False
    client, answer = signed_in(web)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    me = client.get("/api/me").json()
    assert (me["name"], me["groups"], me["has_password"]) == ("kim@example.com", ["cab", "ops", "x"], False)
    assert [(one["role"], one["cluster"], one["source"]) for one in me["grants"]] == [
        ("approver", "", "oidc"),
        ("operator", "seoul", "oidc"),
    ]
    assert [one.data["how"] for one in web.journal.events(FLEET) if one.kind is Kind.SIGNED_IN] == ["oidc"]
    assert "127.0.0.1" in client.get("/sign-in").text


def test_asvs_10_2_1_the_code_is_bound_to_the_browser_by_pkce_s256(world):
    web, provider = world
    provider.hand = False
    signed_in(web)
    assert provider.verified == [True]


def test_the_clients_secret_is_in_no_page_address_or_event(world):
    web, _ = world
    client = web.client()
    address = sent(client)
    answer = client.get(agreed(address))
    everything = address + answer.text + str(dict(answer.headers)) + client.get("/api/me").text
    everything += "".join(str(one.data) for one in web.journal.events(FLEET))
    assert "planted-hunter2" not in everything


def test_the_second_time_it_is_the_same_account_with_the_groups_of_that_time(world):
    web, provider = world
    client, _ = signed_in(web)
    first = client.get("/api/me").json()
    provider.claims = {"groups": ["bosses"], "preferred_username": "renamed", "email": "other@example.com"}
    client, _ = signed_in(web)
    second = client.get("/api/me").json()
    assert (first["account"], first["name"]) == (second["account"], second["name"])
    assert [one["role"] for one in second["grants"]] == ["admin"]
    provider.claims = {"groups": ["cab"]}
    client, _ = signed_in(web)
    assert [one["role"] for one in client.get("/api/me").json()["grants"]] == ["approver"]


def test_asvs_10_5_2_and_6_8_2_a_person_is_issuer_and_subject_never_a_name_or_an_address(world):
    """A local account of the same name is not taken over, nor that of another subject with the same name and e-mail."""
    web, provider = world
    local = web.person("kim@example.com", Role.ADMIN)
    client, _ = signed_in(web)
    me = client.get("/api/me").json()
    assert (me["name"], me["account"] != local) == ("kim@example.com-2", True)
    provider.claims = {"preferred_username": "kim@example.com", "email": "kim@example.com", "groups": ["cab"]}
    other, _ = signed_in(web, "u-2")
    assert other.get("/api/me").json()["name"] == "kim@example.com-3"


def test_what_was_granted_here_stays_beside_what_the_provider_says(world):
    web, provider = world
    client, _ = signed_in(web)
    account = client.get("/api/me").json()["account"]
    web.journal.write(lambda tx: accounts.set_grants(tx, account, [Grant(Role.VIEWER)], by="admin"))
    provider.claims = {"groups": []}
    client, _ = signed_in(web)
    assert [(one["role"], one["source"]) for one in client.get("/api/me").json()["grants"]] == [("viewer", "local")]


def test_a_token_of_who_does_not_come_back_to_the_provider_rests_until_they_do(world):
    """What the provider granted counts for 30 days; a token of a local account has nothing to do with that."""
    web, provider = world
    client, _ = signed_in(web)
    me = client.get("/api/me").json()
    script, local = web.with_token(me["name"]), web.person("lee", Role.VIEWER)
    other = web.with_token("lee")

    def last_seen(days):
        seen = {"seen_at": time.time() - days * 86_400}
        web.journal.write(lambda tx: tx.connection.execute(sa.update(tables.identity).values(**seen)))
        return script.get("/api/me")

    assert last_seen(days=29.9).status_code == 200
    answer = last_seen(days=30.1)
    assert (answer.status_code, answer.json()["code"]) == (401, "NotSignedIn")
    assert answer.json()["remedy"] == "Sign in again through the provider; then it works again."
    web.person("audrey", Role.AUDITOR)
    listed = web.signed_in("audrey").get("/api/tokens?account=everybody").json()["items"]
    assert {one["owner"]: one["active"] for one in listed} == {me["name"]: False, "lee": True}
    assert other.get("/api/me").json()["account"] == local
    provider.claims = {"groups": ["cab"]}
    signed_in(web)
    assert [one["role"] for one in script.get("/api/me").json()["grants"]] == ["approver"]
    users = web.journal.read(accounts.every)
    assert [one.name for one in users if one.seen_at_provider] == [me["name"]]


def test_there_is_no_invitation_past_the_provider(world):
    """Neither over the API nor on the page, and one that was made before opens nothing."""
    web, _ = world
    client, _ = signed_in(web)
    account = client.get("/api/me").json()["account"]
    web.person("adam", Role.ADMIN)
    web.person("lee", Role.VIEWER)
    admin = web.signed_in("adam")
    answer = admin.post(f"/api/users/{account}/invitation")
    assert (answer.status_code, answer.json()["code"]) == (403, "NotAllowed")
    assert "signs in at the provider" in answer.json()["detail"]
    page = admin.get("/settings/users").text
    assert f"/settings/users/{account}/invitation" not in page
    assert f"/settings/users/{web.account('lee')}/invitation" in page
    with pytest.raises(NotAllowed):
        web.journal.write(lambda tx: accounts.invite(tx, account, by="root"))
    secret = web.journal.write(lambda tx: accounts.invite(tx, web.account("lee"), by="root"))
    moved = sa.update(tables.invitation).values(account=account)
    web.journal.write(lambda tx: tx.connection.execute(moved))
    data = {"token": secret, "password": "walnut harbour zebra", "again": "walnut harbour zebra"}
    assert web.client().post("/invitation", data=data).status_code == 403
    assert not web.journal.read(lambda connection: accounts.password_of(connection, account))


def test_nobody_comes_in_without_a_role_and_no_account_is_made(world):
    web, _ = world
    assert refused(web, signed_in(web, "u-2")[1])
    assert web.journal.read(accounts.every) == []


def test_whoever_has_lost_every_group_has_lost_every_role_even_the_last_administrator(world):
    web, provider = world
    provider.claims = {"groups": ["bosses"]}
    client, _ = signed_in(web)
    provider.claims = {"groups": []}
    assert signed_in(web)[1].status_code == 403
    assert client.get("/api/me").json()["permissions"] == {}


def test_whoever_is_shut_out_here_stays_out(world):
    web, _ = world
    client, _ = signed_in(web)
    account = client.get("/api/me").json()["account"]
    web.journal.write(lambda tx: accounts.set_active(tx, account, active=False, by="admin"))
    assert refused(web, signed_in(web)[1])


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_asvs_10_1_2_a_forged_state_is_refused(world):
    web, _ = world
    client = web.client()
    back = agreed(sent(client))
    for forged in (re.sub(r"state=[^&]+", "state=forged", back), re.sub(r"&?state=[^&]+", "", back)):
        assert refused(web, client.get(forged))
    assert client.get(back).status_code == 303  # the forgery has spoiled nothing


def test_asvs_10_1_2_an_answer_counts_in_the_browser_that_asked_only(world):
    web, _ = world
    back = agreed(sent(web.client()))
    assert refused(web, web.client().get(back))
    other = web.client()
    sent(other)
    assert refused(web, other.get(back))


def test_a_replayed_answer_is_refused(world):
    web, _ = world
    client = web.client()
    address = sent(client)
    cookie = client.cookies["__Host-certbridge-oidc"]
    back = agreed(address)
    assert client.get(back).status_code == 303
    again = web.client()
    again.cookies.set("__Host-certbridge-oidc", cookie, domain="certbridge.test")
    answer = again.get(back)
    assert (answer.status_code, "This sign-in is over." in answer.text) == (403, True)


def test_the_cookie_of_an_attempt_is_short_and_for_no_script(world):
    web, _ = world
    found = web.client().get("/oidc/sign-in").headers["set-cookie"].lower()
    assert found.startswith("__host-certbridge-oidc=")
    for part in ("max-age=600", "httponly", "secure", "samesite=lax", "path=/"):
        assert part in found


def test_nobody_is_led_elsewhere_by_the_way_back(world):
    web, _ = world
    client = web.client()
    assert client.get(agreed(sent(client, "https://evil.example/"))).headers["location"] == "/"


def test_an_answer_of_another_issuer_is_refused(world):
    web, _ = world
    client = web.client()
    assert refused(web, client.get(agreed(sent(client)) + "&iss=https://evil.example"))


def test_what_the_provider_refuses_is_told(world):
    web, _ = world
    client = web.client()
    state = parse_qs(urlsplit(sent(client)).query)["state"][0]
    answer = client.get(f"/oidc/callback?state={state}&error=access_denied&error_description=<script>")
    assert refused(web, answer)
    assert ("access_denied" in answer.text, "<script>" in answer.text.split("<main")[1]) == (True, False)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-client"},
        {"aud": ["certbridge", "another-client"]},
        {"aud": None},
        {"azp": "another-client"},
        {"nonce": "of another attempt"},
        {"nonce": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": timedelta(hours=-1)},
        {"exp": None},
        {"iat": timedelta(hours=1)},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=lambda claims: "-".join(f"{name}:{value}"[:30] for name, value in claims.items()),
)
def test_asvs_10_5_1_to_10_5_4_a_token_for_others_of_others_or_of_another_time_is_refused(world, claims):
    web, provider = world
    now = time.time()
    provider.claims = {
        name: int(now + value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in claims.items()
    }
    assert refused(web, signed_in(web)[1])


def _none(claims):
    parts = [json.dumps({"alg": "none"}), json.dumps(claims)]
    return ".".join(base64.urlsafe_b64encode(one.encode()).rstrip(b"=").decode() for one in parts) + "."


def _by_secret(claims):
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("planted-hunter2"), algorithms=["HS256"])


def _by_stranger(claims):
    return jwt.encode({"alg": "RS256", "kid": "hand"}, claims, RSAKey.generate_key(2048), algorithms=["RS256"])


def _another_algorithm(claims):
    key = RSAKey.generate_key(2048)
    return jws.serialize_compact({"alg": "RS512", "kid": "hand"}, json.dumps(claims), key, algorithms=["RS512"])


@pytest.mark.parametrize("sign", [_none, _by_secret, _by_stranger, _another_algorithm, lambda _: "a.b.c", lambda _: 7])
def test_asvs_9_1_2_a_token_that_the_providers_key_did_not_sign_is_refused(world, sign):
    web, provider = world
    provider.sign = sign
    assert refused(web, signed_in(web)[1])


def test_what_cannot_be_a_name_is_made_one(world):
    web, provider = world
    provider.claims = {"preferred_username": "Kim Lee/Ops", "name": "a\nb", "groups": ["cab", "a\x00b", 7]}
    client, _ = signed_in(web)
    me = client.get("/api/me").json()
    assert (me["name"], me["groups"]) == ("kim-lee-ops", ["cab"])


def test_more_groups_than_the_provider_tells_is_said(world):
    web, provider = world
    provider.claims = {"groups": None, "_claim_names": {"groups": "src1"}}
    answer = signed_in(web)[1]
    assert refused(web, answer)
    assert "more groups than the provider tells" in answer.text


# ── the provider is away ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_provider_that_is_away_at_the_start_is_told_and_comes_back(world, monkeypatch):
    monkeypatch.setattr(kept, "FAILED_S", 0.0)
    web, provider = world
    provider.away = True
    answer = web.client().get("/oidc/sign-in")
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    provider.away = False
    assert signed_in(web)[1].status_code == 303


def test_a_provider_that_is_away_in_mid_sign_in_is_told_and_nothing_breaks(world):
    web, provider = world
    client = web.client()
    back = agreed(sent(client))
    provider.away = True
    answer = client.get(back)
    assert refused(web, answer)
    assert "local accounts can sign in meanwhile" in answer.text
    provider.away = False
    assert client.get(agreed(sent(client))).status_code == 303


@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example"}, {"token_endpoint": None}, {"jwks_uri": "ftp://x"}]
)
def test_asvs_10_5_3_a_document_that_is_not_the_issuers_is_not_believed(world, metadata):
    web, provider = world
    provider.metadata = metadata
    assert web.client().get("/oidc/sign-in").status_code == 503


def test_without_a_provider_there_is_no_such_page(web):
    assert web.client().get("/oidc/sign-in").status_code == 404
    assert "/oidc/" not in web.client().get("/sign-in").text
