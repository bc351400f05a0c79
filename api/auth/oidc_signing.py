"""Signing in at the OIDC provider: sent there, back again, and which account that is.

The browser keeps one random secret in a cookie of ten minutes; state, nonce and PKCE verifier are made from it and its
hash stands in the journal's database. So an answer counts only in the browser that asked, and once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from functools import partial

from fastapi import Request, Response

from api.auth import signing
from api.auth.oidc import Provider
from api.auth.parts import refusals, throttle
from api.here import Server
from api.protect import client_address
from workflows.errors import NotAllowed, NotThere
from workflows.journal import identities
from workflows.people import Grant, read_grant

_PLAIN, _SECURE = "certbridge-oidc", "__Host-certbridge-oidc"


def provider(here: Server) -> Provider:
    """Return the provider. Raises: NotThere: none is set."""
    if not here.settings.has_oidc:
        raise NotThere("People sign in with a password here.", remedy="Set CERTBRIDGE_OIDC_ISSUER to change that.")
    return here.part("oidc", lambda: Provider(here.settings))


def begin(here: Server, request: Request, going: str) -> tuple[str, str]:
    """Return the address to send the browser to, and the secret for its cookie. Raises: EngineError, TooMany."""
    at = provider(here)
    throttle(here).attempt("oidc", client_address(request))
    secret = secrets.token_urlsafe(32)
    address = at.address(state=_made("state", secret), nonce=_made("nonce", secret), verifier=_made("verifier", secret))
    here.journal.write(partial(identities.begin, secret=secret, going=signing.local_path(going)))
    return address, secret


def finish(here: Server, request: Request) -> tuple[str, str]:
    """Return the secret of a new session, and where the person was going.

    Raises: NotAllowed: forged, replayed, late, not true, or no role; EngineError: the provider is away.
    """
    at = provider(here)
    throttle(here).attempt("oidc", client_address(request))
    try:
        return _finish(here, request, at)
    except NotAllowed:
        refusals(here).note("oidc", address=client_address(request))
        raise


def _finish(here: Server, request: Request, at: Provider) -> tuple[str, str]:
    said = request.query_params
    secret = request.cookies.get(_cookie(request), "")
    if not secret or not hmac.compare_digest(_made("state", secret).encode(), said.get("state", "").encode()):
        raise NotAllowed("This sign-in was not begun in this browser.", remedy="Sign in again from the first page.")
    going = here.journal.write(partial(identities.come_back, secret=secret))
    if going is None:
        raise NotAllowed("This sign-in is over.", remedy="Sign in again from the first page.")
    if "iss" in said and not at.is_issuer(said["iss"]):
        raise NotAllowed("Another provider has answered.", remedy="Sign in again from the first page.")
    if "code" not in said:
        why = said.get("error", "")
        code = why if re.fullmatch(r"[a-z_]{1,40}", why) else "an error"
        raise NotAllowed(f"The sign-in provider refused: {code}.", remedy="Try again, or ask who runs it.")
    claims = at.claims(code=said["code"], nonce=_made("nonce", secret), verifier=_made("verifier", secret))
    roles = here.settings.oidc_roles
    account = here.journal.write(
        partial(
            identities.admit,
            issuer=claims.issuer,
            subject=claims.subject,
            name=claims.name,
            display=claims.display,
            grants=_grants([roles[one] for one in claims.groups if one in roles]),
            groups=claims.groups,
        )
    )
    if not account:
        raise NotAllowed("You may not sign in here.", remedy="Ask an administrator: none of your groups has a role.")
    return signing.begin(here, request, account, how="oidc"), going


def set_cookie(response: Response, request: Request, secret: str) -> None:
    """Let the browser keep *secret* until it is back; with "" it forgets it."""
    name = _cookie(request)
    response.set_cookie(
        name,
        secret,
        max_age=int(identities.ATTEMPT_S) if secret else 0,
        path="/",
        secure=name == _SECURE,
        httponly=True,
        # Lax, not Strict: the way back from the provider is a step from another site.
        samesite="lax",
    )


def _cookie(request: Request) -> str:
    return _SECURE if request.url.scheme == "https" else _PLAIN


def _made(what: str, secret: str) -> str:
    found = hmac.digest(secret.encode(), f"certbridge oidc {what}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def _grants(said: list[str]) -> list[Grant]:
    return [read_grant(one) for one in said]
