"""Out to the OIDC provider and back; the rules are `api.auth.oidc_signing`.

A GET, not a form: the Content-Security-Policy lets no form lead elsewhere, not even by a redirect.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from api.auth import oidc_signing, signing
from api.auth.identity import open_to_all
from api.here import Here
from api.routes.signing import entered, refused
from workflows.errors import EngineError, InputError, NotAllowed, TooMany

router = APIRouter(include_in_schema=False, dependencies=[open_to_all()])
_OURS = (EngineError, InputError, NotAllowed, TooMany)


@router.get("/oidc/sign-in")
def sign_in_elsewhere(
    request: Request,
    here: Here,
    next: str = "/",  # noqa: A002 - the name in the address
) -> Response:
    """Send the browser to the provider."""
    try:
        signing.check_transport(request)
        address, secret = oidc_signing.begin(here, request, next)
    except _OURS as error:
        return refused(request, here, error, going=next)
    answer = RedirectResponse(address, 303)
    oidc_signing.set_cookie(answer, request, secret)
    return answer


@router.get("/oidc/callback")
def come_back(request: Request, here: Here) -> Response:
    """Take the browser in again."""
    try:
        signing.check_transport(request)
        secret, going = oidc_signing.finish(here, request)
    except _OURS as error:
        return refused(request, here, error)
    answer = entered(request, secret, going)
    oidc_signing.set_cookie(answer, request, "")
    return answer
