"""Logs of a worker process: one handler, one line an event, every known secret hidden before anything is written.

The redactor stands on the handler and not on a logger, because a logger's filter does not see its children's records.
asyncssh tells of every packet at INFO; here it may only warn, which also saves a tenth of a step's CPU.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from workers.redaction import Redactor

_SHARED: tuple[Any, ...] = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def set_up(redactor: Redactor, level: str) -> None:
    """Send all records of this process to standard error, redacted. A second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(redactor)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=list(_SHARED),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(colors=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, redactor, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
