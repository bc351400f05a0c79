"""The OIDC provider: what it publishes, where to send a browser, and whether what came back is true.

Code flow with PKCE, state and nonce (RFC 9700; ASVS 5.0, chapter 10). The provider's words are believed only when its
key has signed them, with an algorithm of a short list, for us, for this attempt, and just now.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import httpx2
import structlog
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from api.auth.kept import Kept
from workflows import in_time
from workflows.errors import EngineError, NotAllowed
from workflows.settings import Settings

ALGORITHMS = ("RS256", "PS256", "ES256")
"""Never `none`, and never HS256: the client's secret is no key of the provider (ASVS 9.1.2)."""
LEEWAY_S = 60
EXCHANGES = 4
"""So many codes are exchanged at once: a provider that hangs holds no more threads of ours."""
TIMEOUT_S = 10.0
"""How long an answer of the provider may take in all, from the connection to its last byte."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the provider says of a person; *subject* is theirs for ever, the rest is for people to read."""

    issuer: str
    subject: str
    name: str
    display: str
    groups: tuple[str, ...]


class Provider:
    """The provider that the settings name; what it publishes is kept for an hour."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metadata: Kept[Mapping[str, Any]] = Kept(self._fetch_metadata)
        self._keys: Kept[KeySet] = Kept(self._fetch_keys)
        self._exchanges = threading.BoundedSemaphore(EXCHANGES)

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends the browser back to."""
        return f"{self._settings.public_url}/oidc/callback"

    def address(self, *, state: str, nonce: str, verifier: str) -> str:
        """Return the address at the provider where the person signs in. Raises: EngineError: it is away."""
        endpoint = self._metadata.get()["authorization_endpoint"]
        found, _ = self._client().create_authorization_url(endpoint, state=state, nonce=nonce, code_verifier=verifier)
        return str(found)

    def claims(self, *, code: str, nonce: str, verifier: str) -> Claims:
        """Return what the provider says of the person for *code*. Raises: NotAllowed: it does not hold; EngineError."""
        endpoint = self._metadata.get()["token_endpoint"]
        if not self._exchanges.acquire(blocking=False):
            raise EngineError(
                "The sign-in provider is being asked, and has not answered yet.", remedy="Try again shortly."
            )
        try:
            answer = in_time.run(self._exchange(endpoint, code, verifier))
        except OAuthError as error:
            raise _refused("code", error) from None
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            raise _away(error) from None
        finally:
            self._exchanges.release()
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused("no ID token", None)
        return self._read(self._verified(token), nonce)

    def is_issuer(self, issuer: str) -> bool:
        """Return whether *issuer* is the one of the settings (RFC 9207: an answer meant for another is not taken)."""
        return issuer == self._settings.oidc_issuer

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _verified(self, token: str) -> dict[str, Any]:
        try:
            try:
                return jwt.decode(token, self._keys.get(), algorithms=ALGORITHMS).claims
            except (InvalidKeyIdError, BadSignatureError):
                # The provider may have changed its keys.
                return jwt.decode(token, self._keys.get(anew=True), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError) as error:
            raise _refused("signature", error) from None

    def _read(self, claims: dict[str, Any], nonce: str) -> Claims:
        settings = self._settings
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.oidc_issuer},
            aud={"essential": True, "value": settings.oidc_client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            rules.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise _refused("claims", error) from None
        audience = claims["aud"]
        authorized = claims.get("azp", settings.oidc_client_id)
        if authorized != settings.oidc_client_id or (isinstance(audience, list) and len(set(audience)) > 1):
            raise _refused("audience", None)
        if not _is_line(claims["sub"], 255):
            raise _refused("subject", None)
        if settings.oidc_groups_claim in claims.get("_claim_names", {}):
            raise NotAllowed(
                "You are in more groups than the provider tells us.",
                remedy="Let the provider send only the groups that are assigned to certbridge.",
            )
        groups = claims.get(settings.oidc_groups_claim, [])
        groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        name = claims.get("preferred_username")
        display = claims.get("name")
        return Claims(
            issuer=settings.oidc_issuer,
            subject=claims["sub"],
            name=name if _is_line(name, 200) else claims["sub"],
            display=display if _is_line(display, 200) else "",
            groups=tuple(sorted({one for one in groups if _is_line(one, 200)}))[:200],
        )

    # ── what it publishes ────────────────────────────────────────────────────────────────────────────────────────────
    def _fetch_metadata(self) -> Mapping[str, Any]:
        found = self._get(f"{self._settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration")
        # A document of somebody else would lead code and secret to them (ASVS 10.5.3).
        if found.get("issuer") != self._settings.oidc_issuer:
            raise _away(f"it calls itself {str(found.get('issuer'))[:200]!r}")
        for name in _ENDPOINTS:
            self._check_endpoint(name, found.get(name))
        return found

    def _fetch_keys(self) -> KeySet:
        try:
            return KeySet.import_key_set(self._get(self._metadata.get()["jwks_uri"]))  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise _away(error) from None

    def _get(self, address: str) -> dict[str, Any]:
        try:
            answer = in_time.run(_fetched(address))
            answer.raise_for_status()
            found = answer.json()
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            raise _away(error) from None
        if not isinstance(found, dict):
            raise _away("its answer is no object")
        return found

    async def _exchange(self, endpoint: str, code: str, verifier: str) -> Mapping[str, Any]:
        async with asyncio.timeout(TIMEOUT_S), self._client() as client:
            answer: Mapping[str, Any] = await client.fetch_token(
                endpoint, grant_type="authorization_code", code=code, code_verifier=verifier
            )
            return answer

    def _check_endpoint(self, name: str, address: Any) -> None:
        scheme = urlsplit(self._settings.oidc_issuer).scheme
        if not isinstance(address, str) or urlsplit(address).scheme not in {"https", scheme}:
            raise _away(f"its {name} is no https address")

    def _client(self) -> AsyncOAuth2Client:
        secret = self._settings.oidc_client_secret.get_secret_value()
        return AsyncOAuth2Client(
            self._settings.oidc_client_id,
            secret or None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=self._settings.oidc_scopes,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            follow_redirects=False,
        )


async def _fetched(address: str) -> httpx2.Response:
    # The client's own time-outs begin anew with every byte; the one around it does not. That is what asyncio is for.
    async with asyncio.timeout(TIMEOUT_S), httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
        return await client.get(address)


def _is_line(text: Any, longest: int) -> TypeGuard[str]:
    return isinstance(text, str) and 0 < len(text) <= longest and text.isprintable()


def _away(error: object) -> EngineError:
    # The log says more than the page: addresses and certificates of the provider are no business of strangers.
    why = " ".join(str(error).split()) or type(error).__name__
    structlog.get_logger().error("oidc_provider_away", why=why[:300])
    return EngineError(
        "The sign-in provider does not answer as it should.",
        remedy="Try again in a minute; local accounts can sign in meanwhile. The log of the API says more.",
    )


def _refused(what: str, error: Exception | None) -> NotAllowed:
    kind = type(error).__name__ if error else ""
    claim = getattr(error, "claim", "")
    structlog.get_logger().warning("oidc_refused", what=what, kind=kind, claim=claim)
    return NotAllowed("What the sign-in provider said does not hold.", remedy="Sign in again from the first page.")
