"""No request holds the character NUL: no name has one, and PostgreSQL stores no text with it.

It is looked for in the address, and in what is sent as it stands there: a form has it as `%00`, JSON as an escape.
Which of them a body is, is read as strictly as whoever parses it does; text in another encoding than UTF-8 is refused,
since that may hold it too (UTF-7: `+AAA-`). Deliveries are left out: certificates in DER hold zeros, and names of files
are made printable (`api.archives`). Pure ASGI, as `api.body_size`, which has counted what comes here.
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
_NO_TYPE = "The Content-Type of the request is none that is taken."
_NOT_UTF_8 = "Text is taken in UTF-8 only."
_IN_ADDRESS = re.compile(rb"\x00|%00")
_IN_FORM = _IN_ADDRESS
_IN_PARTS = re.compile(rb"\x00")
_IN_JSON = re.compile(rb"\x00|(?<!\\)(?:\\\\)*\\u0000")
"""A backslash that is itself escaped begins no `\\u0000`. Zeros as they are: no JSON, or one in UTF-16."""
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
"""RFC 6838 §4.2. What is none may be read in one way here and in another one by whoever parses the body."""
_CHARSET = re.compile(r"charset([^=;]*)=([^;]*)")
_UTF_8 = frozenset({"utf-8", "utf8", '"utf-8"', '"utf8"'})


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
        kind, _, options = Headers(scope=scope).get("content-type", "").lower().partition(";")
        if fault := _fault(kind.strip(" \t"), options):
            refused = shown(Request(scope), plain_problem(415, fault, "Send JSON or a form, in UTF-8."))
            await refused(scope, receive, send)
            return
        if is_delivery(scope):
            await self._app(scope, receive, send)
            return
        pattern, body = _pattern(kind.strip(" \t")), bytearray()

        async def looked_at() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            if message["type"] == "http.request" and not message.get("more_body") and pattern.search(body):
                raise HTTPException(422, _SENTENCE)
            return message

        await self._app(scope, looked_at, send)


def _fault(kind: str, options: str) -> str:
    """Return what is wrong with a Content-Type, all in small letters; "" when nothing is."""
    if kind and not _MEDIA_TYPE.fullmatch(kind):
        return _NO_TYPE
    charsets = _CHARSET.findall(options)
    return _NOT_UTF_8 if any(more.strip() or said.strip() not in _UTF_8 for more, said in charsets) else ""


def _pattern(kind: str) -> re.Pattern[bytes]:
    if kind == "application/x-www-form-urlencoded":
        return _IN_FORM
    return _IN_PARTS if kind == "multipart/form-data" else _IN_JSON
