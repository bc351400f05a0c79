"""The fixture `world` (see `cli_world`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.cli_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Give a world of its own."""
    made = World(tmp_path, monkeypatch)
    yield made
    made.journal.close()
