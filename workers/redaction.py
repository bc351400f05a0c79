"""Redaction: takes secrets out of every text that leaves the process for a log, a transcript or an error.

Two ways, one after the other: by value (each secret this process knows, also in base64, URL and JSON form) and by
pattern (`workflows.mmp.replies.mask`: password rows, PEM private keys). The third way, by construction, is that
passwords are handed to asyncssh and never written to a channel.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus

from workers.credentials import Secret
from workflows.mmp.replies import mask

MASK = "********"
_SHORTEST = 3  # a secret of one or two characters would blot out half of every text
_SHORTEST_ENCODED = 6  # shorter ones have base64 forms that turn up by chance
_PEM_OPEN = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_PEM_CLOSE = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")


class Redactor(logging.Filter):
    """Knows the secrets of this process and hides them. A structlog processor and a `logging.Filter`; thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self.longest_lines = 0
        """How many line ends the longest known secret holds; a stream keeps that many lines back."""

    def register(self, secret: Secret | str) -> None:
        """Hide *secret* from now on. Registering it again costs nothing; one under three characters is left alone."""
        value = secret.reveal() if isinstance(secret, Secret) else secret
        if len(value.strip()) < _SHORTEST or value in self._forms:
            return
        with self._lock:
            self._forms |= _forms_of(value)
            longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))
            self.longest_lines = max(form.count("\n") for form in self._forms)

    def redact(self, text: str) -> str:
        """Return *text* with every known secret, secret row and private key hidden; doing it twice changes nothing."""
        pattern = self._pattern
        return mask(pattern.sub(MASK, text) if pattern is not None else text)

    def places(self, text: str) -> tuple[tuple[int, int], ...]:
        """Return where in *text* known secrets stand, as (start, end) in order."""
        pattern = self._pattern
        return tuple(found.span() for found in pattern.finditer(text)) if pattern is not None else ()

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Redact a structlog event, nested values too."""
        for key, value in event.items():
            event[key] = self._value(value)
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a log record, its traceback too; lets every record pass."""
        if isinstance(record.msg, dict):
            return True  # an event of structlog on its way to the formatter: it was redacted as a processor's work
        record.msg, record.args = self.redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.redact(record.exc_text)
            record.exc_info = None  # a later formatter would write the bare traceback again
        return True

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, bytes):
            return self.redact(value.decode(errors="backslashreplace"))
        if isinstance(value, BaseException):
            return self.redact(f"{type(value).__name__}: {value}")
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item) for item in value]
        return value


class RedactedStream:
    """Text that comes in pieces: gives out only what can no longer be part of a secret.

    Pieces end anywhere, so a line that is not finished is kept back, a private key until its last line has come, and as
    many lines as the longest known secret has.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._kept = ""

    def feed(self, text: str) -> str:
        """Take the next piece; return what is safe to write now ("" when nothing is)."""
        self._kept += text
        end = _start_of_last_lines(self._kept, 1 + self._redactor.longest_lines)
        opened = list(_PEM_OPEN.finditer(self._kept))
        if opened and not _PEM_CLOSE.search(self._kept, opened[-1].end(), end):
            end = min(end, self._kept.rfind("\n", 0, opened[-1].start()) + 1)
        for start, stop in self._redactor.places(self._kept):
            if start < end < stop:  # never cut a secret in two
                end = self._kept.rfind("\n", 0, start) + 1
        ready, self._kept = self._kept[:end], self._kept[end:]
        return self._redactor.redact(ready)

    def flush(self) -> str:
        """Return the rest, redacted: the exchange is over."""
        ready, self._kept = self._kept, ""
        return self._redactor.redact(ready)


def _start_of_last_lines(text: str, lines: int) -> int:
    """Return where the last *lines* lines of *text* begin; the last one is the unfinished one, and may be empty."""
    end = len(text)
    for _ in range(lines):
        end = text.rfind("\n", 0, end)
        if end < 0:
            return 0
    return end + 1


def _forms_of(value: str) -> frozenset[str]:
    """Return *value* and how it looks in JSON, in a URL and, at each of three alignments, inside base64."""
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms |= {quote(value, safe=""), quote(value), quote_plus(value)}
    if "\n" in value:  # a PEM text also travels with the line ends of a terminal
        forms.add(value.replace("\n", "\r\n"))
    if len(value) >= _SHORTEST_ENCODED:
        for before in range(3):
            raw = b"\0" * before + value.encode()
            for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
                # The first and last characters also hold bits of what stands beside the secret; leave them out.
                last = len(raw) // 3 * 4
                forms.add(encoded.decode()[(0, 2, 3)[before] : last])
    return frozenset(form for form in forms if len(form) >= _SHORTEST)
