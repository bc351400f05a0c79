"""No request holds the character NUL: no name has one, and PostgreSQL stores no text with it.

It is looked for in the address, and in what is sent as it stands there: a form has it as `%00`, JSON as an escape.
Deliveries are left out: certificates in DER hold zeros, and names of files are made printable (`api.archives`). Pure
ASGI, as `api.body_size`, which has counted what comes here.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body_size import is_delivery
from api.problems import plain_problem, shown

_SENTENCE = "The request holds the character NUL."
_IN_ADDRESS = re.compile(rb"\x00|%00")
_IN_FORM = _IN_ADDRESS
_IN_PARTS = re.compile(rb"\x00")
_IN_JSON = re.compile(rb"\x00|(?<!\\)(?:\\\\)*\\u0000")
"""A backslash that is itself escaped begins no `\\u0000`. Zeros as they are: no JSON, or one in UTF-16."""


class NoNul:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request with NUL in its address at once, one with NUL in its body when all of it has come in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\x00" in scope["path"] or _IN_ADDRESS.search(scope["query_string"]):
            refused = shown(Request(scope), plain_problem(422, _SENTENCE, "Leave it out."))
            await refused(scope, receive, send)
            return
        if is_delivery(scope):
            await self._app(scope, receive, send)
            return
        pattern, body = _pattern(Headers(scope=scope).get("content-type", "")), bytearray()

        async def looked_at() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            if message["type"] == "http.request" and not message.get("more_body") and pattern.search(body):
                raise HTTPException(422, _SENTENCE)
            return message

        await self._app(scope, looked_at, send)


def _pattern(content_type: str) -> re.Pattern[bytes]:
    kind = content_type.lower()
    if kind.startswith("application/x-www-form-urlencoded"):
        return _IN_FORM
    return _IN_PARTS if kind.startswith("multipart/") else _IN_JSON
