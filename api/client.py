"""The API as the command line uses it from another machine: values in, values out, problems as our own errors.

Reading is tried again while the server is away (stamina); what starts something carries an Idempotency-Key, so that it
can be sent again too. The token goes to the address it was made for and nowhere else: redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import cattrs
import httpx2
import stamina

from workflows import errors
from workflows.errors import CertbridgeError, EngineError, Finding, InputError, NotSignedIn

T = TypeVar("T")
WITHIN_S = 30.0
_TRIES = 4
_PAGE = 500
_BUSY = frozenset({502, 503, 504})
_REMEDIES = {
    "See the list of runs.": "See `certbridge runs list`.",
    "See the list of gates.": "See `certbridge gates list`.",
    "See the gate for who may approve it.": "See `certbridge gates show`.",
    "Look at its preview again.": "Look at it again with `--preview`.",
}
"""Remedies that speak of lists and pages, and what they are on the command line."""
_TOLD = ("who", "when", "run", "lane", "gate", "node", "resource")


class Away(EngineError):
    """The API does not answer."""

    default_remedy = "Check the address (`certbridge login URL`), and that `certbridge serve` runs there."


class _TryAgain(Exception):
    """A gateway says that the server is away just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the API is and what opens it; *ca* is a file of certificates that are trusted in place of the system's."""

    url: str
    token: str
    ca: str = ""

    def __repr__(self) -> str:
        return f"Target({self.url})"  # never with its token


def check_url(url: str) -> str:
    """Return *url* without its last "/". Raises: InputError: a token would cross a network in the clear, or no URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment or parts.username:
        raise InputError(f"{url} is no address of an API.", remedy="Write https://HOST or https://HOST:PORT.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InputError(
            f"Without TLS, the token would cross the network in the clear to {host}.", remedy=f"Write https://{host}."
        )
    return url.rstrip("/")


class Client:
    """One connection to the API; a context manager."""

    def __init__(self, target: Target) -> None:
        self.url = check_url(target.url)
        try:
            trusted = ssl.create_default_context(cafile=target.ca or None)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"{target.ca} cannot be used as certificates of CAs ({error})", remedy="Name a PEM file with `--ca`."
            ) from None
        # Its lines about each try would go to standard output, which holds the result of a command and nothing else.
        stamina.instrumentation.set_on_retry_hooks(())
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=WITHIN_S,
            follow_redirects=False,
            verify=trusted,
            headers={"Authorization": f"Bearer {target.token}", "Accept": "application/json"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def get(self, path: str, **query: Any) -> Any:
        """Return what *path* answers, as JSON values. Raises: our errors."""
        return _json(self._send("GET", path, params=query))

    def read(self, path: str, **query: Any) -> bytes:
        """Return what *path* answers, as bytes."""
        return self._send("GET", path, params=query).content

    def every(self, path: str, **query: Any) -> Iterator[Any]:
        """Yield all items of a list, page by page."""
        offset: int | None = 0
        while offset is not None:
            page = self.get(path, limit=_PAGE, offset=offset, **query)
            yield from page["items"]
            offset = page["next_offset"]

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, files: Any = None) -> Any:
        """Send *body* once, however often it has to be sent, and return the answer. Raises: our errors."""
        more: dict[str, Any] = {"files": files} if files is not None else {"json": dict(body or {})}
        return _json(self._send("POST", path, headers={"Idempotency-Key": str(uuid.uuid4())}, **more))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change what is at *path*, which may be said again, and return the answer. Raises: our errors."""
        return _json(self._send("PATCH", path, json=dict(body)))

    def stream(self, path: str, *, after: int, **query: Any) -> Iterator[httpx2.ServerSentEvent]:
        """Yield the events of a stream as they come, those behind number *after*, until the server ends it.

        Nothing is tried again here: whoever asks knows best what came last. Raises: Away: it was cut; our errors.
        """
        last = {"Last-Event-ID": str(after)}
        try:
            # However large an event is, the journal holds it; and a server that lives says something within 15 s.
            with self._http.sse(path, params=query, headers=last, max_event_size=None) as events:
                if not events.response.is_success:
                    events.response.read()
                    raise problem(events.response, self.url)
                yield from events
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Away(f"{self.url} does not answer ({_words(error)})") from None

    def _send(self, method: str, path: str, **more: Any) -> httpx2.Response:
        try:
            for attempt in stamina.retry_context(
                on=(httpx2.TransportError, _TryAgain), attempts=_TRIES, wait_initial=0.2, wait_max=3.0, timeout=60.0
            ):
                with attempt:
                    answer = self._http.request(method, path, **more)
                    _check_gateway(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, _TryAgain) as error:
            raise Away(f"{self.url} does not answer ({_words(error)})") from None
        if answer.is_success:
            return answer
        raise problem(answer, self.url)


def _check_gateway(answer: httpx2.Response) -> None:
    """Raise _TryAgain where the word is a gateway's and not certbridge's own."""
    if answer.status_code in _BUSY and not _is_problem(answer):
        raise _TryAgain(f"HTTP {answer.status_code}")


def part(text: str) -> str:
    """Return *text* as one part of a path."""
    return quote(text, safe="")


def problem(answer: httpx2.Response, url: str) -> CertbridgeError:
    """Return the error that *answer* tells of: the same class, sentence and remedy as on the machine of the journal."""
    if not _is_problem(answer):
        return Away(f"{url} answers {answer.status_code} and is no API of certbridge, as it seems")
    said = answer.json()
    kind = _class_of(str(said.get("code")))
    data = {name: said[name] for name in _TOLD if said.get(name) is not None}
    remedy, text = str(said.get("remedy", "")), str(said.get("detail", ""))
    remedy = _REMEDIES.get(remedy, remedy)
    node = data.get("node")
    if node:  # the sentence begins with it already, and the error would say it once more
        text = text.removeprefix(f"{node}: ")
    findings = [Finding(one["where"], one["what"], one["remedy"]) for one in said.get("findings", ())]
    if kind is NotSignedIn:
        return NotSignedIn(text, remedy=f"Sign in again: `certbridge login {url}`.")
    if kind is not None and issubclass(kind, errors._WithFindings):  # noqa: SLF001 - our own tree
        return kind(findings, text, remedy=remedy, **data)
    if kind is not None:
        return kind(text, remedy=remedy, **data)
    if answer.status_code < 500:
        told = "; ".join(f"{one.where}: {one.what}" for one in findings)
        return InputError(f"{text}{f' ({told})' if told else ''}", remedy=remedy)
    return EngineError(text, remedy=remedy)


def _class_of(code: str) -> type[CertbridgeError] | None:
    kind = getattr(errors, code, None)
    return kind if isinstance(kind, type) and issubclass(kind, CertbridgeError) else None


def as_value(kind: type[T], values: Any) -> T:
    """Return JSON *values* as a frozen value of *kind*; names that it does not know are passed over."""
    return _CONVERTER.structure(values, kind)


def _converter() -> cattrs.Converter:
    made = cattrs.Converter()
    made.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    return made


_CONVERTER = _converter()


def _is_problem(answer: httpx2.Response) -> bool:
    return answer.headers.get("content-type", "").startswith("application/problem+json")


def _json(answer: httpx2.Response) -> Any:
    if answer.status_code == 204:
        return None
    try:
        return answer.json()
    except json.JSONDecodeError:
        raise Away(f"{answer.url.host} answers, but no JSON: it is no API of certbridge, as it seems") from None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
