"""Every change asks for its lease when the login is behind it and the line goes out next (F11)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from workers.context import StepContext
from workflows.errors import LeaseLost
from workflows.mmp.replies import Outcome, Verdict
from workflows.plan import Line, LineKind


class Session:
    """A session that has to log in anew before it sends; `sent` is what went out."""

    def __init__(self, log_in: Callable[[], None]) -> None:
        self.sent: list[str] = []
        self._log_in = log_in

    async def ready(self, line: Line) -> None:
        """Be connected, for now."""

    async def _send(self, line: Line, before_sending: Callable[[], None]) -> Verdict:
        self._log_in()
        before_sending()
        self.sent.append(line.text)
        return Verdict(outcome=Outcome.OK, text="", failures=())

    change = rename = delete = lambda self, line, *, before_sending=lambda: None: self._send(line, before_sending)


class Lease:
    """What `change` uses of its context: the lease lives until `gone` is set."""

    def __init__(self) -> None:
        self.gone = False

    def _must_hold(self) -> None:
        if self.gone:
            raise LeaseLost

    async def _noted(self, _line: Line, _number: int | None, act: Callable[[], Awaitable[Any]], **_: Any) -> None:
        self._must_hold()
        await act()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (LineKind.COMMAND, "webadmin restart"),
        (LineKind.RENAME, "web.crt -> web-old1.crt"),
        (LineKind.DELETE, "probe.txt"),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_nothing_is_sent_when_the_lease_went_during_a_login(kind: LineKind, text: str, lost: bool) -> None:
    """The process stood still in the login; by then another one may be at work on the server."""
    lease = Lease()
    session = Session(lambda: setattr(lease, "gone", lost))
    line = Line(kind=kind, text=text)
    work = StepContext.change(lease, session, line)  # type: ignore[arg-type]
    if lost:
        with pytest.raises(LeaseLost):
            asyncio.run(work)
    else:
        asyncio.run(work)
    assert session.sent == ([] if lost else [text])
