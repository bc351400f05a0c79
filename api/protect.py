"""Headers of every answer, and refusing what another site lets a browser send (OWASP: Fetch Metadata).

A session's cookie comes along with whatever a browser is made to send, so an unsafe method with a cookie counts only
when the browser says that the page is ours: `Sec-Fetch-Site: same-origin`, or for old ones an `Origin` that is ours.
Tokens are not sent by themselves, so they need no such proof. Pure ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import answer, plain_problem

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HSTS = "max-age=31536000; includeSubDomains"


class Protect:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a forged request; else add the headers to whatever comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_headers(MutableHeaders(scope=message), scope)
            await send(message)

        if is_forged(scope["method"], headers, scope["scheme"]):
            _note(scope)
            refused = answer(plain_problem(403, "Another site asked for this.", "Do it on certbridge's own pages."))
            await refused(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def add_headers(found: MutableHeaders, scope: Scope) -> None:
    """Add what every answer to *scope* has."""
    for name, value in HEADERS.items():
        found.setdefault(name, value)
    if found.get("content-type") == "image/svg+xml":  # text, so its encoding is told (ASVS 4.1.1)
        found["content-type"] = "image/svg+xml; charset=utf-8"
    if scope["scheme"] == "https":
        found.setdefault("Strict-Transport-Security", HSTS)
    if not scope["path"].startswith("/static/"):
        found.setdefault("Cache-Control", "no-store")


def is_forged(method: str, headers: Headers, scheme: str) -> bool:
    """Return whether a browser was made to send this by a page that is not ours."""
    # Only a token is never sent by itself: what a proxy asks for (Basic, Negotiate) a browser adds to every request.
    if method in SAFE or headers.get("authorization", "").lower().startswith("bearer "):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc != headers.get("host", "") or urlsplit(origin).scheme != scheme
    # Neither: no browser of today. Without a cookie there is nothing to abuse.
    return "cookie" in headers


def _note(scope: Scope) -> None:
    from api.auth.parts import accesses

    request = Request(scope)
    asked = f"{scope['method']} {scope['path']}"
    accesses(scope["app"].state.server).note("forged", address=client_address(request), asked=asked)


def client_address(request: Request) -> str:
    """Return where *request* came from; behind a proxy uvicorn has put it right (`--forwarded-allow-ips`)."""
    return request.client.host if request.client else ""
