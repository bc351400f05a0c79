"""A database that is away or refuses: strangers read a sentence, operators the driver's first line, nobody a row."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from api.app import create_app
from api.cli.output import show_error
from tests.integration.api.conftest import Web
from tests.postgres import Server, own_server
from workflows.errors import CertbridgeError, RecordsAway, words_of
from workflows.journal import FLEET, Journal, Kind, NewEvent, tables
from workflows.settings import Settings, prepare_state

__all__ = ["own_server"]


@pytest.fixture
def away(own_server: Server, tmp_path: Path) -> Iterator[tuple[Web, Server]]:
    """Give an application whose PostgreSQL has died."""
    url = own_server.url(own_server.create_database())
    settings = Settings.load({}, state=tmp_path / "state", fleet=tmp_path / "fleet.yaml", database_url=url)
    prepare_state(settings)
    with Journal.open(settings.database_url, retry_for_s=0.2) as journal:
        web = Web(tmp_path, journal, settings)
        web.app = create_app(settings, journal)
        own_server.kill()
        yield web, own_server


def test_strangers_hear_that_the_journal_is_away_and_not_where_it_is(away, capsys):
    web, server = away
    client = web.client(Authorization="Bearer made-up")
    with capture_logs() as logged:
        answers = [client.get("/api/runs"), client.get("/runs", headers={"Accept-Language": "ko"})]
        with pytest.raises(RecordsAway) as found:
            web.journal.append(NewEvent(run=FLEET, kind=Kind.NOTE))
    assert answers[0].json()["detail"] == "The journal cannot be read or written. (OperationalError)"
    assert str(found.value) == "The journal could not be written (OperationalError)."
    for said in (*(answer.text for answer in answers), str(found.value), found.value.message):
        assert not [word for word in (str(server.port), "127.0.0.1", "postgres", "connection") if word in said]
    assert [answer.status_code for answer in answers] == [503, 503]
    (line, *_) = [one for one in logged if one["event"] == "journal_failed"]
    assert (str(server.port) in line["why"], "\n" in line["why"]) == (True, False)
    show_error(found.value)
    assert f"port {server.port} failed" in capsys.readouterr().err


def test_no_row_that_was_refused_is_in_any_text_of_its_error(postgres_url):
    """Neither in the sentence nor in the log or a traceback, wherever the error comes up."""

    def twice(tx):
        row = {"issuer": "i", "subject": "hidden-word", "account": "a", "seen_at": 1.0}
        tx.connection.execute(sa.insert(tables.identity).values(row))
        tx.connection.execute(sa.insert(tables.identity).values(row))

    number = sa.text("SELECT CAST(CAST(:typed AS text) AS integer)")
    typed = "1\nhidden-word"
    with Journal.open(postgres_url, retry_for_s=0.2) as journal:
        with pytest.raises(sa.exc.IntegrityError) as refused:
            journal.write(twice)
        with pytest.raises(RecordsAway) as unreadable:
            journal.read(lambda c: c.execute(number, {"typed": typed}).all())
    for error in (refused.value, unreadable.value):
        assert "hidden-word" not in words_of(error) + "".join(traceback.format_exception(error.__cause__ or error))
    assert "violates unique constraint" in words_of(refused.value)
    assert isinstance(unreadable.value, CertbridgeError)
