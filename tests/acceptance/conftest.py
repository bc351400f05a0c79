"""The fixture `engine`: a whole engine on a simulated fleet, one for each test module.

A module says what it needs as `ENGINE = Shape(nodes=3, latency="pki csr=3")`; without it there are two servers in one
cluster. When a test fails, the ends of all logs of its engine are shown with it.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from acceptance_engine import Engine, Shape


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Give a running engine, shared by the tests of a module."""
    with Engine(getattr(request.module, "ENGINE", Shape())) as running:
        yield running


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Give a function that starts an engine of its own for one test: `make_engine(nodes=1, fleet_workers=2)`."""
    with ExitStack() as stack:
        yield lambda **shape: stack.enter_context(Engine(Shape(**shape)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add the engine's logs to the report of a test that failed."""
    report = yield
    used = getattr(item, "funcargs", {}).values()
    if report.failed:
        for engine in (one for one in used if isinstance(one, Engine)):
            report.sections.append(("logs of the engine", engine.logs()))
    return report
