"""One handler for all records of a process, on standard error. How a line looks is said by whoever sets it up.

structlog's own records and those of other libraries go the same way, so that a filter or a form holds for both.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog


def to_standard_error(*, shared: Sequence[Any], render: Any, level: str | int, redactor: Any = None) -> None:
    """Send all records of this process to standard error, each as *render* writes it. A second call replaces the first.

    *shared* are the processors that every record goes through. *redactor* is both a filter of the handler and the last
    processor of our own records: a filter on a logger would not see its children's records.
    """
    handler = logging.StreamHandler(sys.stderr)
    if redactor is not None:
        handler.addFilter(redactor)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=list(shared),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    last = () if redactor is None else (redactor,)
    structlog.configure(
        processors=[*shared, *last, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
