"""Signing in and out, and taking an invitation: the rules; `api.routes.signing` has the forms.

Whoever is refused hears one sentence, whatever was wrong, after the same time (ASVS 5.0, 6.3.8). Each signing in makes
a new session and ends the one the browser had (7.2.4).
"""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from fastapi import Request, Response

from api.auth.identity import SECURE_COOKIE, cookie_name
from api.auth.parts import passwords, refusals, throttle
from api.auth.passwords import check_password
from api.auth.refusals import printable
from api.here import Server
from api.protect import client_address
from workflows.errors import InputError, NotAllowed, NotSignedIn, NotThere
from workflows.journal import Transaction, accounts, entries

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_NAME = 200


def sign_in(here: Server, request: Request, *, name: str, password: str) -> str:
    """Return the secret of a new session. Raises: NotSignedIn: all refusals alike; TooMany."""
    address = client_address(request)
    key = accounts.digest(name.strip().casefold())
    throttle(here).attempt("sign-in", address, key)
    account = here.journal.read(partial(accounts.by_name, name=name[:_LONGEST_NAME]))
    known = here.journal.read(partial(accounts.password_of, account=account.account)) if account else ""
    # Compared before anything else is decided, so that every refusal takes as long.
    fits = passwords(here).fits(known, password)
    if account is None or not account.active or not fits:
        # A name that nobody has may be a password in the wrong field: it is not kept.
        refusals(here).note("password", address=address, name=account.name if account else "")
        raise NotSignedIn("Name or password is wrong.", remedy="Try again, or ask an administrator for an invitation.")
    throttle(here).succeeded("sign-in", address, key)
    newer = passwords(here).hash(password) if passwords(here).is_old(known) else ""
    return begin(here, request, account.account, how="password", rehashed=newer)


def begin(here: Server, request: Request, account: str, *, how: str, rehashed: str = "") -> str:
    """Return the secret of a new session of *account*; the one the browser had ends."""
    agent = printable(request.headers.get("user-agent", ""))
    old = request.cookies.get(cookie_name(request), "")

    def write(tx: Transaction) -> str:
        if old and (had := entries.of_session(tx.connection, old)):
            entries.end_session(tx, had[1].session, by=had[0].name)
        if rehashed:
            accounts.rehash(tx, account, rehashed)
        return entries.sign_in(tx, account, how=how, agent=agent, address=client_address(request))

    return here.journal.write(write)


def sign_out(here: Server, request: Request) -> None:
    """End the session of the browser; without one nothing happens."""
    secret = request.cookies.get(cookie_name(request), "")
    had = here.journal.read(partial(entries.of_session, secret=secret)) if secret else None
    if had is not None:
        try:
            here.journal.write(partial(entries.end_session, session=had[1].session, by=had[0].name))
        except NotThere:  # it ended meanwhile, as was wished
            return


def take_invitation(here: Server, request: Request, *, secret: str, password: str, name: str = "") -> str:
    """Set the first password and return the secret of a new session; *name* is for the first administrator.

    Raises: NotAllowed: the invitation is not valid; InputError: password or name; TooMany.
    """
    address = client_address(request)
    throttle(here).attempt("invitation", address)
    try:
        _, known = here.journal.read(partial(accounts.invited, secret=secret))
        check_password(password, name=known or name.strip())
        argon2id = passwords(here).hash(password)
        account = here.journal.write(
            lambda tx: accounts.take_invitation(tx, secret, argon2id=argon2id, name=known or name)
        )
    except NotAllowed:
        refusals(here).note("invitation", address=address)
        raise
    return begin(here, request, account, how="invitation")


def change_password(here: Server, request: Request, account: str, *, current: str, new: str) -> None:
    """Set another password; every other session of *account* ends (ASVS 7.4.3).

    Raises: NotAllowed: *current* is not the password; InputError: *new*; TooMany.
    """
    address = client_address(request)
    throttle(here).attempt("password", address, account)
    found = here.journal.read(partial(accounts.get, account=account))
    known = here.journal.read(partial(accounts.password_of, account=account))
    if not passwords(here).fits(known, current):
        refusals(here).note("change of password", address=address, name=found.name)
        raise NotAllowed("The current password is wrong.", remedy="Type the one that you signed in with.")
    check_password(new, name=found.name)
    argon2id, keep = passwords(here).hash(new), getattr(request.state, "session", "")
    here.journal.write(lambda tx: accounts.set_password(tx, account, argon2id, by=found.name, keep=keep))
    throttle(here).succeeded("password", address, account)


# ── the cookie, and where to go ──────────────────────────────────────────────────────────────────────────────────────
def check_transport(request: Request) -> None:
    """Return when a cookie may be set. Raises: InputError: it would go over a network in the clear (ASVS 3.3.1)."""
    if request.url.scheme != "https" and (request.url.hostname or "") not in _LOOPBACK:
        raise InputError(
            "Nobody can sign in here: this page came without TLS.",
            remedy="Come by https; a proxy in front must say so with X-Forwarded-Proto, and be named to "
            "`certbridge serve --behind-proxy`.",
        )


def set_cookie(response: Response, request: Request, secret: str) -> None:
    """Hand the session to the browser: not for scripts, not for other sites, not in the clear (ASVS 3.3.1-3.3.4)."""
    name = cookie_name(request)
    response.set_cookie(
        name,
        secret,
        max_age=int(entries.SESSION_S),
        path="/",
        secure=name == SECURE_COOKIE,
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response, request: Request) -> None:
    """Take the session from the browser, with all else that it keeps of these pages."""
    name = cookie_name(request)
    response.delete_cookie(name, path="/", secure=name == SECURE_COOKIE, httponly=True, samesite="lax")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'


def local_path(text: str) -> str:
    """Return *text* when it is a path of our own pages, else "/": nobody is led elsewhere by a link of ours."""
    if (
        not text.startswith("/")
        or text[1:2] in {"/", "\\"}
        or not text.isprintable()
        or "\\" in text
        or len(text) > 2000
    ):
        return "/"
    parts = urlsplit(text)
    return text if not parts.scheme and not parts.netloc else "/"
