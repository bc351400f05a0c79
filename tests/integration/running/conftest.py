"""What the tests of running programs share: a state directory with a short path, and the settings of it."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflows.broker import socket_path
from workflows.settings import Settings


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a directory of its own, directly below the directory for temporary files, since socket paths are limited."""
    path = Path(tempfile.mkdtemp(prefix="run-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def settings(folder: Path) -> Iterator[Settings]:
    """Give settings of an engine with nothing in it yet, and free ports for Flower and the API."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        flower_port, api_port = one.getsockname()[1], other.getsockname()[1]
    made = Settings.load(
        {},
        state=folder / "state",
        fleet=folder / "fleet.yaml",
        flower_port=flower_port,
        api_port=api_port,
        fleet_workers=1,
        fleet_threads=8,
        log_level="INFO",
    )
    yield made
    shutil.rmtree(socket_path(made.state).parent, ignore_errors=True)
