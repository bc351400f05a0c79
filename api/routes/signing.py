"""The forms of signing in and out and of invitations; the rules are `api.auth.signing`, OIDC is `api.routes.oidc`.

The secret of an invitation is never part of a query: it comes behind the # of a link, or is pasted (ASVS 14.2.1).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from api.auth import signing
from api.auth.identity import open_to_all
from api.here import Here
from api.pages.drawing import draw
from api.problems import status_of
from workflows.errors import CertbridgeError, InputError, NotAllowed, NotSignedIn, TooMany
from workflows.journal import accounts

router = APIRouter(include_in_schema=False, dependencies=[open_to_all()])
Text = Annotated[str, Form(max_length=2000)]
_OURS = (InputError, NotAllowed, NotSignedIn, TooMany)


@router.get("/sign-in")
def sign_in_form(request: Request, here: Here, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """Show the form."""
    return _sign_in_page(request, here, going=next)


@router.post("/sign-in")
def sign_in(
    request: Request,
    here: Here,
    name: Text,
    password: Text,
    next: Text = "/",  # noqa: A002 - the name in the form
) -> Response:
    """Sign in and go to where the person was going."""
    try:
        signing.check_transport(request)
        secret = signing.sign_in(here, request, name=name, password=password)
    except _OURS as error:
        return refused(request, here, error, going=next, name=name)
    return entered(request, secret, next)


@router.post("/sign-out")
def sign_out(request: Request, here: Here) -> Response:
    """End the session."""
    signing.sign_out(here, request)
    answer = RedirectResponse("/sign-in", 303)
    signing.drop_cookie(answer, request)
    return answer


@router.get("/invitation")
def invitation_form(request: Request, here: Here) -> Response:
    """Show the form; nothing of the address is read."""
    return _invitation_page(request, here)


@router.post("/invitation")
def take_invitation(
    request: Request, here: Here, token: Text, password: Text, again: Text = "", name: Text = ""
) -> Response:
    """Choose the first password, and be signed in."""
    try:
        signing.check_transport(request)
        if password != again:
            raise InputError("The two passwords differ.", remedy="Type the same one twice.")
        secret = signing.take_invitation(here, request, secret=token.strip(), password=password, name=name)
    except _OURS as error:
        return _retry_after(error, _invitation_page(request, here, token=token, name=name, error=error))
    return entered(request, secret, "/")


def entered(request: Request, secret: str, going: str) -> Response:
    """Return the answer that hands *secret* to the browser and leads to *going*, if that is a page of ours."""
    answer = RedirectResponse(signing.local_path(going), 303)
    signing.set_cookie(answer, request, secret)
    return answer


def refused(request: Request, here: Here, error: CertbridgeError, *, going: str = "/", name: str = "") -> Response:
    """Return the form of signing in with what was wrong."""
    return _retry_after(error, _sign_in_page(request, here, going=going, name=name, error=error))


def _sign_in_page(
    request: Request,
    here: Here,
    *,
    going: str,
    name: str = "",
    error: CertbridgeError | None = None,
) -> Response:
    return draw(
        request,
        "sign_in.html",
        status=status_of(error) if error else 200,
        next=signing.local_path(going),
        name=name,
        problem=_said(error),
        said="",
        oidc=here.settings.oidc_name if here.settings.has_oidc else "",
        nobody=here.journal.read(accounts.nobody),
    )


def _invitation_page(
    request: Request, here: Here, *, token: str = "", name: str = "", error: CertbridgeError | None = None
) -> Response:
    return draw(
        request,
        "invitation.html",
        status=status_of(error) if error else 200,
        bootstrap=here.journal.read(accounts.nobody),
        token=token,
        name=name,
        problem=_said(error),
    )


def _said(error: CertbridgeError | None) -> str:
    return f"{error} {error.remedy()}" if error else ""


def _retry_after(error: CertbridgeError, answer: Response) -> Response:
    if "retry_after_s" in error.data:
        answer.headers["Retry-After"] = str(int(error.data["retry_after_s"]))
    return answer
