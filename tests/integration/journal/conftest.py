"""Journals on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import empty_journal
from tests.postgres import postgres_server, postgres_url
from workflows.journal import Journal

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    """Give an open journal."""
    empty_journal.put(url)
    with Journal.open(url) as opened:
        yield opened
