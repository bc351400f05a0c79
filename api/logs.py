"""Logs of the API's process: one JSON object a line on standard error, with its time in UTC (ASVS 5.0, 16.2).

JSON escapes whatever moves a terminal or would begin a line of its own. Of an error that nobody expected its kind and
the places in the code are told, never its words: they may repeat what somebody typed. What happened to runs and people
is in the journal, not here; there is no line for each request either.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from workflows.log_lines import to_standard_error


def _places(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its kinds, from the cause to what came of it, each with where it was raised."""
    told = event.pop("exc_info", None)
    error = told[1] if isinstance(told, tuple) else told if isinstance(told, BaseException) else sys.exc_info()[1]
    if not told or error is None:
        return event
    found: list[dict[str, Any]] = []
    while error is not None and len(found) < 10:
        frames = traceback.extract_tb(error.__traceback__)
        found.insert(0, {"kind": type(error).__name__, "at": [f"{one.filename}:{one.lineno}" for one in frames]})
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    event["errors"] = found
    return event


_SHARED: tuple[Any, ...] = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    _places,
)


def set_up() -> None:
    """Send all records of this process to standard error. A second call replaces the first."""
    to_standard_error(shared=_SHARED, render=structlog.processors.JSONRenderer(sort_keys=True), level=logging.WARNING)
