"""Flower behind certbridge's own sign-in: looked at through here only, by whoever may read everywhere.

Flower listens on loopback with a password of its own, which this proxy alone knows; nothing of what a browser holds
(cookies, tokens) goes to it, and nothing that it sets comes back. Its pages run no script of ours, so that they get the
usual policy but for one line of script, told by its hash, and styles.

All that goes to it is a GET. Its page of tasks asks for its table by POST, which is a read as well: exactly that one is
taken, under the proof that every POST needs (`api.protect`), and passed on as the GET that Flower knows too.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

import httpx2
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from api.auth.identity import asks
from api.here import Here, Server
from api.protect import HEADERS
from workflows.errors import EngineError, InputError, NotAllowed
from workflows.people import Permission, Person
from workflows.settings import FLOWER_PREFIX, FLOWER_USER

router = APIRouter(include_in_schema=False)
Reader = Annotated[Person, asks(Permission.READ)]
WITHIN_S = 20.0
_MOST_FIELDS, _LONGEST_QUERY = 500, 32_000
_ASKED = ("accept", "accept-language", "if-none-match", "if-modified-since", "x-requested-with")
_TOLD = ("content-type", "content-length", "etag", "last-modified", "location")
# Flower's only inline script is this one (flower/templates/workers.html), with 1 or 0.
_SCRIPTS = tuple(f"\nvar autorefresh = {number};\n" for number in (1, 0))
_HASHES = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in _SCRIPTS)
POLICY = (
    HEADERS["Content-Security-Policy"]
    .replace("script-src 'self'", f"script-src 'self' {_HASHES}")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
)


async def table_asked(request: Request) -> str:
    """Return the form of a table of tasks as a query. Raises: InputError: it is no such form."""
    try:
        fields = parse_qsl((await request.body()).decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise InputError("This is no form of Flower's table of tasks.", remedy="Load its page anew.") from None
    query = urlencode(fields)
    if len(query) > _LONGEST_QUERY:
        raise InputError("This is no form of Flower's table of tasks.", remedy="Load its page anew.")
    return query


@router.post("/flower/tasks/datatable")
def tasks(who: Reader, here: Here, request: Request, query: Annotated[str, Depends(table_asked)]) -> Response:
    """Answer with the rows of Flower's page of tasks, which asks for them by POST."""
    return _answer(who, here, request, "GET", f"/{FLOWER_PREFIX}/tasks/datatable?{query}")


@router.api_route("/flower", methods=["GET", "HEAD"], name="flower_start")
@router.api_route("/flower/{path:path}", methods=["GET", "HEAD"], name="flower")
def flower(who: Reader, here: Here, request: Request, path: str = "") -> Response:
    """Answer with what Flower answers."""
    del path  # taken as it was sent, encoded
    return _answer(who, here, request, request.method, _where(request))


def _answer(who: Person, here: Server, request: Request, method: str, where: str) -> Response:
    """Return Flower's answer. Raises: NotAllowed: for one cluster only. EngineError: Flower is away."""
    if who.clusters(Permission.READ) is not None:
        raise NotAllowed(
            f"{who.name} may not look at Flower: it shows the tasks of all clusters.",
            remedy="Ask an administrator for the role of a viewer everywhere.",
        )
    asked = {name: value for name, value in request.headers.items() if name in _ASKED}
    client = _client(here)
    try:
        password = here.settings.flower_password_file.read_text().strip()
        wanted = client.build_request(
            method,
            where,
            headers=asked | {"Accept-Encoding": "identity"},
        )
        answer = client.send(wanted, auth=(FLOWER_USER, password), stream=True)
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        client.close()
        raise _away(type(error).__name__) from None
    if answer.status_code == 401 or answer.status_code >= 500:
        client.close()
        raise _away(f"it answers {answer.status_code}")
    return StreamingResponse(_body(client, answer), answer.status_code, _headers(answer.headers))


def _where(request: Request) -> str:
    """Return path and query as they were sent; a path that is decoded and put together again may mean another one."""
    raw = request.scope.get("raw_path") or request.url.path.encode()
    query = request.scope.get("query_string", b"")
    path = raw.partition(b"?")[0].decode("ascii", errors="replace")
    return (
        f"{path if path != f'/{FLOWER_PREFIX}' else f'{path}/'}{'?' if query else ''}{query.decode('ascii', 'replace')}"
    )


def _body(client: httpx2.Client, answer: httpx2.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_raw()
    except httpx2.HTTPError:
        return  # cut short; the length that was promised tells the browser
    finally:
        answer.close()
        client.close()


def _headers(found: Mapping[str, str]) -> dict[str, str]:
    told = {name: found[name] for name in _TOLD if name in found}
    if not told.get("location", "/flower/").startswith(f"/{FLOWER_PREFIX}/"):
        del told["location"]  # Flower leads to nowhere else
    return told | {"Content-Security-Policy": POLICY}


def _client(here: Server) -> httpx2.Client:
    """Return a client for one answer: on loopback a new connection costs less than keeping one open."""
    where = here.settings.flower_url or f"http://127.0.0.1:{here.settings.flower_port}"
    return httpx2.Client(base_url=where, timeout=WITHIN_S, follow_redirects=False, trust_env=False, verify=_trusted())


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _away(why: str) -> EngineError:
    return EngineError(
        f"Flower is not there ({why}).",
        remedy="It is only for looking; runs go on without it. `certbridge up` starts it.",
    )
