"""The logs of a worker: events and plain records both come out whole, and redacted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from workers import logs
from workers.redaction import Redactor


@pytest.fixture
def set_up_logs() -> Iterator[Callable[[], None]]:
    """Give a function that sets the logs up with one secret; everything is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    redactor = Redactor()
    redactor.register("correct-horse")
    yield lambda: logs.set_up(redactor, "INFO")
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_an_event_is_one_line_without_its_secrets(set_up_logs, capsys):
    """An event with data, a record of another library: both are written, neither with the secret nor an error."""
    set_up_logs()  # here, for standard error is another one in each phase of a test
    structlog.get_logger().info("lane_sent", run="r1", why="correct-horse")
    logging.getLogger("other").warning("login with %s", "correct-horse")
    written = capsys.readouterr().err
    assert ("lane_sent" in written, "run=r1" in written, "login with" in written) == (True, True, True)
    assert ("correct-horse" in written, "Logging error" in written) == (False, False)
