"""Language, light or dark: two cookies of whoever sits there, signed in or not. No account knows of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse

from api.auth.identity import open_to_all
from api.pages import drawing, texts

router = APIRouter(include_in_schema=False, dependencies=[open_to_all()])
_YEAR_S = 365 * 86400


@router.post("/preferences")
def set_preferences(
    request: Request,
    language: Annotated[str, Form(max_length=10)] = "",
    theme: Annotated[str, Form(max_length=10)] = "",
    back: Annotated[str, Form(max_length=2000)] = "/",
) -> RedirectResponse:
    """Keep what was chosen and go back to the page where it was chosen."""
    answer = RedirectResponse(local(back), 303)
    if language in texts.LANGUAGES:
        _keep(answer, request, texts.COOKIE, language)
    if theme == "toggle":
        theme = "light" if drawing.theme_of(request) == "dark" else "dark"
    if theme in drawing.THEMES:
        _keep(answer, request, drawing.THEME_COOKIE, theme)
    return answer


def local(address: str) -> str:
    """Return *address* when it is a page of ours, else the fleet: nobody is led elsewhere by a link."""
    fine = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if fine else "/"


def _keep(answer: RedirectResponse, request: Request, name: str, value: str) -> None:
    secure = request.url.scheme == "https"
    # Not httponly: the switch of the pages sets the theme itself, so that the page need not be loaded again.
    answer.set_cookie(name, value, max_age=_YEAR_S, path="/", secure=secure, httponly=False, samesite="lax")
