"""Errors over HTTP: problem details (RFC 9457) with the sentences, remedies and findings that the command line shows.

Pages show the same sentence in their frame (`api.pages.errors`). What nobody expected is told without its words: they
may hold anything (ASVS 16.5.1); the log has them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from workflows import errors
from workflows.errors import CertbridgeError

MEDIA_TYPE = "application/problem+json"
_TOLD = ("who", "when", "run", "lane", "gate", "node", "resource")
"""What of an error's data goes along; never what is not named here."""
_STATUS: tuple[tuple[type[CertbridgeError], int], ...] = (
    (errors.NotSignedIn, 401),
    (errors.NotAllowed, 403),
    (errors.FourEyes, 403),
    (errors.NotThere, 404),
    (errors.Clash, 409),
    (errors.GateDecided, 409),
    (errors.DigestChanged, 409),
    (errors.GateError, 409),
    (errors.PlanStale, 409),
    (errors.Reserved, 409),
    (errors.Stopped, 409),
    (errors.TooMany, 429),
    (errors.NoWorker, 503),
    (errors.RecordsAway, 503),
    (errors.EngineError, 503),
    (errors.InputError, 422),
    (errors.PlanError, 422),
    (errors.NodeError, 409),
    (errors.IssuerError, 409),
)


class FindingBody(BaseModel):
    """One fault of the input."""

    where: str
    what: str
    remedy: str


class Problem(BaseModel):
    """A problem (RFC 9457). `code` is stable and names the kind of error; `remedy` says what a person can do."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str = ""
    findings: list[FindingBody] = []
    who: str | None = None
    when: str | None = None
    run: str | None = None
    lane: str | None = None
    gate: str | None = None
    node: str | None = None
    resource: str | None = None


def status_of(error: CertbridgeError) -> int:
    """Return the HTTP status of *error*."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: CertbridgeError) -> Problem:
    """Return *error* as a problem."""
    findings = getattr(error, "findings", ())
    data = {name: _text(error.data[name]) for name in _TOLD if error.data.get(name) is not None}
    return Problem(
        type=f"urn:certbridge:problem:{error.code}",
        title=(type(error).__doc__ or "").strip().splitlines()[0],
        status=status_of(error),
        detail=str(error),
        code=error.code,
        remedy=error.remedy(),
        findings=[FindingBody(where=one.where, what=one.what, remedy=one.remedy) for one in findings],
        **data,
    )


_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Names of RFC 9110, which Python has from 3.13 on: a code must not depend on Python's release."""


def plain_problem(status: int, detail: str = "", remedy: str = "") -> Problem:
    """Return the problem of a bare HTTP status."""
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    code = phrase.title().replace(" ", "").replace("-", "")
    return Problem(
        type="about:blank", title=phrase, status=status, detail=detail or f"{phrase}.", code=code, remedy=remedy
    )


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return *problem* as the response of an API route."""
    found = dict(headers or {})
    if problem.status == HTTPStatus.UNAUTHORIZED:
        found.setdefault("WWW-Authenticate", 'Bearer realm="certbridge"')
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, found, MEDIA_TYPE)


def is_api(request: Request) -> bool:
    """Return whether a program asks (problem details) and not a person at a page."""
    return request.url.path.startswith(("/api/", "/openapi.json"))


def shown(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return *problem* as whoever asks reads it: problem details for a program, a page for a person."""
    from api.pages import errors as page

    return answer(problem, headers) if is_api(request) else page.answer(request, problem)


def register(app: FastAPI) -> None:
    """Let *app* answer every error so."""
    from api.auth.parts import accesses
    from api.auth.refusals import printable
    from api.here import server
    from api.protect import add_headers, client_address

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, CertbridgeError)  # noqa: S101 - how it was registered
        found = shown(request, problem_of(error))
        if "driver" in error.data:
            # Only here: it names hosts and databases, and whoever asks may be a stranger.
            structlog.get_logger().error("journal_failed", code=error.code, why=str(error.data["driver"]))
        if isinstance(error, (errors.NotAllowed, errors.FourEyes)):
            who = getattr(request.state, "person", None)
            accesses(server(request)).note(
                error.code,
                address=client_address(request),
                person=who.name if who else "",
                asked=f"{request.method} {request.url.path}",
            )
        if "retry_after_s" in error.data:
            found.headers["Retry-After"] = str(int(error.data["retry_after_s"]))
        return found

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - how it was registered
        found = plain_problem(422, "The request is not what this route takes.", "Compare it with /openapi.json.")
        # The input itself is not repeated: it may hold a password.
        found.findings = [
            FindingBody(where=".".join(map(str, one["loc"])), what=str(one["msg"]), remedy="") for one in error.errors()
        ]
        return shown(request, found)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - how it was registered
        return shown(request, plain_problem(error.status_code, str(error.detail)), dict(error.headers or {}))

    async def unexpected(request: Request, error: Exception) -> Response:
        who = getattr(request.state, "person", None)
        structlog.get_logger().error(
            "unexpected",
            asked=printable(f"{request.method} {request.url.path}"),
            kind=type(error).__name__,
            person=who.name if who else "",
            address=client_address(request),
        )
        found = shown(request, plain_problem(500, "This was not expected. The log of the API says more."))
        # Starlette answers these outside of every middleware.
        add_headers(found.headers, request.scope)
        return found

    app.add_exception_handler(CertbridgeError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
