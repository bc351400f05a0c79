"""The live page of a run: told that the run moved while one may see it, and never a use of the session (ASVS 7.3.1)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
import sqlalchemy as sa

from api.routes import events
from tests.integration.api.test_api_events import close, served
from workflows.journal import accounts, entries, tables
from workflows.people import Grant, Role


@pytest.fixture
def live(seeded, monkeypatch):
    """Give the web side with its real server, which looks often, and a run of both clusters."""
    monkeypatch.setattr(events, "LOOK_S", 0.02)
    monkeypatch.setattr(events, "CHECK_EVERY", 1)
    monkeypatch.setattr(events, "PING_S", 1)
    seeded.run = seeded.waiting_run()
    with served(seeded.app) as address:
        seeded.address = address
        yield seeded


def told(live, name: str) -> Iterator[str]:
    """Yield the events that the page of the run hears of, as *name* has it open."""
    secret = live.journal.write(lambda tx: entries.sign_in(tx, live.account(name), how="test"))
    address, cookies = f"{live.address}/runs/{live.run}/stream", {"certbridge": secret}
    with httpx.stream("GET", address, cookies=cookies, timeout=20) as answer:
        assert answer.status_code == 200
        for line in soon(answer):
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


def soon(answer: httpx.Response) -> Iterator[str]:
    """Yield the lines of a stream, which must end soon."""
    deadline = time.monotonic() + 8
    for line in answer.iter_lines():
        assert time.monotonic() < deadline, "the stream goes on"
        yield line


def test_the_page_hears_that_the_run_moved_until_it_is_over(live):
    stream = told(live, "sol")
    assert next(stream) == "moved"
    close(live, live.run)
    *moves, last = stream
    assert set(moves) == {"moved"}
    assert last == "over"


@pytest.mark.parametrize("grants", [(), (Grant(Role.VIEWER, "jeju"),)])
def test_the_page_hears_nothing_more_once_its_reader_may_not_see_the_run(live, grants):
    stream = told(live, "sol")
    assert next(stream) == "moved"
    live.journal.write(partial(accounts.set_grants, account=live.account("sol"), grants=grants, by="adam"))
    assert list(stream) == []  # though the run goes on, and nothing of it happened


def test_the_api_tells_nothing_more_either(live):
    path, headers = f"{live.address}/api/runs/{live.run}/events", {"Authorization": f"Bearer {live.token('sol')}"}
    with httpx.stream("GET", path, headers=headers, timeout=20) as answer:
        lines = soon(answer)
        assert next(lines)
        moved = (Grant(Role.VIEWER, "jeju"),)
        live.journal.write(partial(accounts.set_grants, account=live.account("sol"), grants=moved, by="adam"))
        assert "event: closed" not in list(lines)


def test_asvs_7_3_1_what_an_open_page_loads_by_itself_is_no_use_of_the_session(seeded):
    run = seeded.waiting_run("seoul")
    close(seeded, run)  # so that its streams end
    client = seeded.signed_in("viola")
    before = datetime.now(UTC).timestamp() - 3000
    table = tables.session
    seeded.journal.write(lambda tx: tx.connection.execute(sa.update(table).values(seen_at=before)))

    def seen_at() -> float:
        seeded.journal.write(lambda _: None)  # what was noted before is written now
        return seeded.journal.read(lambda connection: connection.execute(sa.select(table.c.seen_at)).scalar_one())

    for path in (f"/runs/{run}/live", f"/runs/{run}/stream", f"/api/runs/{run}/events", "/gates/count"):
        assert client.get(path).status_code == 200
        assert seen_at() == pytest.approx(before), path
    client.get(f"/runs/{run}")
    assert seen_at() > before + 1000
