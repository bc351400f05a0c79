"""Who is asking, and whether that one may: each route declares it with `Asks`, or says that it is `open_to_all`.

    @router.get("/runs")
    def list_runs(who: Annotated[Person, asks(Permission.READ)], here: Here) -> …:

Account, roles and scopes are read anew at every request, so a role that was taken away is away at once (ASVS 8.3.2).
A session counts by its cookie, a token by `Authorization: Bearer`; a request with a token never falls back to a cookie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Depends, Request
from fastapi.params import Depends as DependsMarker

from api.auth.parts import refusals, throttle
from api.here import Server, server
from api.protect import client_address
from workflows.errors import NotAllowed, NotSignedIn
from workflows.journal import entries
from workflows.people import Permission, Person

SECURE_COOKIE = "__Host-certbridge"
PLAIN_COOKIE = "certbridge"
"""The cookie's name where the browser speaks plain HTTP to loopback: `__Host-` would need TLS."""


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie for the scheme by which the browser came."""
    return SECURE_COOKIE if request.url.scheme == "https" else PLAIN_COOKIE


def who_is(request: Request, *, used: bool = True) -> Person:
    """Return who is asking; *used* says whether it counts as a use of the session. Raises: NotSignedIn."""
    known: Person | None = getattr(request.state, "person", None)
    if known is None:
        known = _find(request, server(request), used=used)
        request.state.person = known
    return known


def still_is(request: Request) -> Person | None:
    """Return who is asking, read anew; None: nobody any more. For streams, which outlive the look at their beginning.

    It does not count as a use of the session: a page that lies open and is not looked at ends when its time is over.
    """
    try:
        return _find(request, server(request), used=False)
    except NotSignedIn:
        return None


def _find(request: Request, here: Server, *, used: bool) -> Person:
    header = request.headers.get("authorization", "")
    if header:
        scheme, _, secret = header.partition(" ")
        found = None
        if scheme.lower() == "bearer":
            asked = partial(entries.of_token, secret=secret.strip(), provider_days=here.settings.oidc_token_days)
            found = here.journal.read(asked)
        if found is None:
            # Only now: a script with an old token must not shut out others from the same address.
            throttle(here).attempt("token", client_address(request))
            refusals(here).note("token", address=client_address(request))
            raise NotSignedIn("This token opens nothing: it is unknown, expired or revoked.")
        if found[2]:  # a token does not end by lying idle, so whatever it opens is noted
            here.journal.submit(partial(entries.note_use, token=found[1].token))
        return found[0]
    secret = request.cookies.get(cookie_name(request), "")
    session = here.journal.read(partial(entries.of_session, secret=secret)) if secret else None
    if session is None:
        raise NotSignedIn
    request.state.session = session[1].session
    if session[2] and used:
        here.journal.submit(partial(entries.touch, session=session[1].session))
    return session[0]


class _Asks:
    """A dependency that gives the person who has *permission* at least somewhere."""

    def __init__(self, permission: Permission, *, by_itself: bool) -> None:
        self.permission = permission
        self.by_itself = by_itself

    def __call__(self, request: Request) -> Person:
        """Return who is asking. Raises: NotSignedIn, NotAllowed."""
        person = who_is(request, used=not self.by_itself)
        if not person.may(self.permission):
            raise NotAllowed(f"{person.name} may not do this: it needs the permission {self.permission}.")
        return person


class _OpenToAll:
    """Marks a route that everybody may call, signed in or not."""

    permission = None

    def __call__(self) -> None:
        """Ask nothing."""


class _OfOneself:
    """A dependency for what everybody who is signed in may do for themselves; *session*: not with a token."""

    permission = None

    def __init__(self, *, session: bool) -> None:
        self.session = session

    def __call__(self, request: Request) -> Person:
        """Return who is asking. Raises: NotSignedIn, NotAllowed."""
        person = who_is(request)
        if self.session and person.scopes is not None:
            raise NotAllowed("This needs a session, not a token.", remedy="Sign in on the pages.")
        return person


def asks(permission: Permission, *, by_itself: bool = False) -> Any:
    """Return the dependency that a route needing *permission* declares.

    *by_itself*: an open page asks for it without anybody having done anything, so it is no use of the session
    (ASVS 7.3.1).
    """
    return Depends(_Asks(permission, by_itself=by_itself))


def oneself(*, session: bool = False) -> Any:
    """Return the dependency of a route about the caller's own account."""
    return Depends(_OfOneself(session=session))


def open_to_all() -> Any:
    """Return the dependency of a route that asks for nobody."""
    return Depends(_OpenToAll())


def declares(dependency: Any) -> bool:
    """Return whether *dependency* (a call or a marker) says what a route asks for; the test of all routes uses it."""
    call = dependency.dependency if isinstance(dependency, DependsMarker) else dependency
    return isinstance(call, _Asks | _OpenToAll | _OfOneself)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a route asks for: nothing (*open*), a *permission*, or only somebody (*session*: not with a token)."""

    open: bool = False
    permission: str = ""
    session: bool = False


def asked_by(call: Any) -> Asked | None:
    """Return what the dependency *call* asks for, None when it is about something else."""
    if isinstance(call, _Asks):
        return Asked(permission=call.permission.value)
    if isinstance(call, _OfOneself):
        return Asked(session=call.session)
    return Asked(open=True) if isinstance(call, _OpenToAll) else None


def check_clusters(person: Person, permission: Permission, clusters: Iterable[str]) -> None:
    """Return when *person* has *permission* for all of *clusters*.

    Raises: NotAllowed: it names those that are missing, but none that *person* may not even read.
    """
    held = person.clusters(permission)
    missing = [] if held is None else sorted(set(clusters) - held)
    if missing:
        read = person.clusters(Permission.READ)
        named = [one for one in missing if one and (read is None or one in read)]
        what = ", ".join(named) or "all the clusters that this is about"
        raise NotAllowed(f"{person.name} may not {permission} for {what}.")
