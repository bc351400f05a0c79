"""How large a request may be: whoever is not known yet must not fill the memory of the API (ASVS 5.0, 5.2.1).

Certificates come in piles of up to 20 MB (`api.archives`), everything else is small. What a request says of its length
is believed only when it is too much; else what arrives is counted. Pure ASGI, so that nothing is read ahead.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.archives import LARGEST
from api.problems import plain_problem, shown

SMALL = 1_000_000
DELIVERY = LARGEST + 5_000_000
"""More than the route of deliveries takes: it counts for itself, and its sentence says more."""

_DELIVERY = re.compile(r"/api/runs/[^/]+/deliveries|/runs/[^/]+/gates/[^/]+/[^/]+/deliver")
"""Of the API, and of the page of a gate; no other route that happens to end so."""


class BodySize:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what is too large, before it is read or while it comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = DELIVERY if is_delivery(scope) else SMALL
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told) > most:
            problem = plain_problem(413, _sentence(most), "Send less.")
            await shown(Request(scope), problem)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, _sentence(most))
            return message

        await self._app(scope, counted, send)


def is_delivery(scope: Scope) -> bool:
    """Return whether certificates are brought, which are files of any bytes."""
    return scope["method"] == "POST" and _DELIVERY.fullmatch(scope["path"]) is not None


def _sentence(most: int) -> str:
    return f"The request is larger than {most // 1_000_000} MB."
