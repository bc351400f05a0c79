"""Logs of a worker process: one handler, one line an event, every known secret hidden before anything is written.

The redactor stands on the handler and not on a logger, because a logger's filter does not see its children's records.
asyncssh tells of every packet at INFO; here it may only warn, which also saves a tenth of a step's CPU.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

from workers.redaction import Redactor
from workflows.log_lines import to_standard_error

_SHARED: tuple[Any, ...] = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def set_up(redactor: Redactor, level: str) -> None:
    """Send all records of this process to standard error, redacted. A second call replaces the first."""
    to_standard_error(
        shared=_SHARED, render=structlog.dev.ConsoleRenderer(colors=False), level=level, redactor=redactor
    )
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
