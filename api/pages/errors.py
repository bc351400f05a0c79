"""A problem as a page; whoever is not signed in is led to the sign-in page and back afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

if TYPE_CHECKING:
    from api.problems import Problem

_GATE = re.compile(r"(/runs/[^/]+/gates/[^/]+/[^/]+)/(?:approve|reject|deliver)$")
"""What is done at a gate: whoever could not do it goes back there."""


def answer(request: Request, problem: Problem) -> Response:
    """Return *problem* as the response of a page."""
    if problem.status == 401:
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        where = f"/sign-in?next={quote(back, safe='')}" if request.method == "GET" else "/sign-in"
        if request.headers.get("hx-request"):
            # htmx would put the sign-in page into a corner of this one.
            return Response(status_code=204, headers={"HX-Redirect": "/sign-in"})
        return RedirectResponse(where, 303)
    return drawn(request, problem)


def drawn(request: Request, problem: Problem, *, survey: Sequence[str] = ()) -> Response:
    """Return the page of *problem*; *survey* are the clusters that it offers to survey."""
    from api.pages.drawing import draw

    gate = _GATE.match(request.url.path) if request.method == "POST" else None
    values = {"problem": problem, "survey": survey, "gate": gate[1] if gate else ""}
    return draw(request, "problem.html", status=problem.status, **values)
