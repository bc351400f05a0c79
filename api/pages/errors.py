"""A problem as a page; whoever is not signed in is led to the sign-in page and back afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from api.problems import Problem


def answer(request: Request, problem: Problem) -> Response:
    """Return *problem* as the response of a page."""
    if problem.status == 401 and request.method == "GET":
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(back, safe='')}", 303)
    return PlainTextResponse(f"{problem.detail}\n{problem.remedy}\n", problem.status)
