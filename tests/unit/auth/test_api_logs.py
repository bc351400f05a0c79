"""The log of the API: one JSON object a line, in UTC, that says who and what, and no words of an error (ASVS 16.2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from api import logs


@pytest.fixture
def written() -> Iterator[None]:
    """Put everything back afterwards. A server of another test may have set uvicorn's loggers up in its own way."""
    root, *others = (logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error"))
    before = [(one, one.handlers[:], one.level, one.propagate) for one in (root, *others)]
    for one in others:
        one.handlers[:] = []
        one.setLevel(logging.NOTSET)
        one.propagate = True
    yield
    for one, handlers, level, propagates in before:
        one.handlers[:] = handlers
        one.setLevel(level)
        one.propagate = propagates
    structlog.reset_defaults()


@pytest.fixture
def lines(written, capsys) -> Callable[..., list[dict[str, Any]]]:
    """Give a function that sets the log up, does something, and returns the lines that were written."""

    def told(*steps: Callable[[], Any]) -> list[dict[str, Any]]:
        logs.set_up()  # here, for standard error is another one in each phase of a test
        for step in steps:
            step()
        found = capsys.readouterr()
        assert found.out == ""
        assert found.err.replace("\n", "").isprintable()
        return [json.loads(one) for one in found.err.splitlines()]

    return told


def fail() -> None:
    """Raise an error that repeats what somebody typed, caused by another."""
    try:
        int("password: walnut")
    except ValueError as error:
        raise RuntimeError("walnut harbour") from error


def test_asvs_16_2_1_and_16_2_2_a_line_says_when_in_utc_who_and_what(lines):
    said = {"person": "ann", "what": "NotAllowed", "address": "192.0.2.7"}
    (line,) = lines(lambda: structlog.get_logger().warning("access_refused", **said))
    assert datetime.fromisoformat(line.pop("at")).utcoffset() == timedelta(0)
    assert line == {"event": "access_refused", "level": "warning", **said}


def test_asvs_16_2_3_and_16_2_4_other_libraries_write_to_the_same_place_in_the_same_form(lines):
    found = lines(
        lambda: logging.getLogger("uvicorn.error").warning("Invalid HTTP request received."),
        lambda: logging.getLogger("asyncio").error("task %s", "x"),
    )
    assert [(one["level"], one["event"]) for one in found] == [
        ("warning", "Invalid HTTP request received."),
        ("error", "task x"),
    ]


def test_asvs_16_4_1_nothing_begins_a_line_of_its_own_or_moves_a_terminal(lines):
    (line,) = lines(lambda: structlog.get_logger().warning("a\r\nb\x1b[2J\u202e", name="x\nat: now"))
    assert (line["event"], line["name"]) == ("a\r\nb\x1b[2J\u202e", "x\nat: now")


@pytest.mark.parametrize(
    "logger", [structlog.get_logger(), logging.getLogger("uvicorn.error")], ids=["ours", "uvicorn"]
)
def test_asvs_16_2_5_and_16_3_4_an_error_is_told_by_its_kinds_and_places_alone(lines, logger):
    """Also when another library tells of it, as uvicorn does of what no route expected."""

    def tell() -> None:
        try:
            fail()
        except RuntimeError:
            logger.exception("Exception in ASGI application")

    (line,) = lines(tell)
    assert "walnut" not in json.dumps(line)
    assert [one["kind"] for one in line["errors"]] == ["ValueError", "RuntimeError"]
    assert all("test_api_logs.py:" in one["at"][-1] for one in line["errors"])
