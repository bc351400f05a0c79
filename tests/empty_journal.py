"""An empty journal of today's schema for tests that begin with one: the migrations are run once, not for each of them.

That a journal without a schema gets one is shown by the tests of migrations, and by every acceptance test.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from workflows.journal import Journal

_SQLITE = "sqlite:///"


def put(url: str) -> None:
    """Put an empty journal where *url* says; nothing where that is no SQLite or there is one already."""
    file = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not file.exists():
        file.touch(mode=0o600)
        file.write_bytes(_made())


@cache
def _made() -> bytes:
    """Return the file as the product makes it: once in each process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "journal.db"
        Journal.open(f"{_SQLITE}{file}").close()
        assert [one.name for one in file.parent.iterdir()] == [file.name], "all of it is in the one file"
        return file.read_bytes()
