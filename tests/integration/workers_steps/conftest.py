"""Simulated fleets, and an engine on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from database_engine import DatabaseEngine
from steps_engine import Engine, only

from simulator import pki
from simulator.fleet import FleetHandle, FleetSettings, start_fleet_in_thread
from tests.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 66 keys that share primes, see `KeyPool.of_size`."""
    path = tmp_path_factory.mktemp("keys") / "pool.pem"
    pool = pki.KeyPool.of_size(66)
    keys: list[rsa.RSAPrivateKey] = [next(pool._keys) for _ in range(66)]
    path.write_bytes(b"".join(pki.key_to_pem(key) for key in keys))
    return path


@pytest.fixture
def records(request: pytest.FixtureRequest) -> str:
    """Return the URL of the engine's journal, "" for its own SQLite (`BOTH` asks for either)."""
    found: str = request.getfixturevalue("postgres_url") if getattr(request, "param", "") == "postgresql" else ""
    return found


@pytest.fixture
def start(key_file: Path, tmp_path: Path, records: str) -> Iterator[Callable[..., Engine]]:
    """Return a function that starts a fleet and an engine; *wants* are the services that have a wish."""
    with ExitStack() as stack:

        def begin(*wants: str, change: Callable[[dict[str, Any]], None] | None = None, **settings: Any) -> Engine:
            folder = tmp_path / f"engine-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            wanted = {"nodes": 1, "key_pool": key_file, "reboot_s": 0.3, "out": folder / "fleet"} | settings
            fleet: FleetHandle = stack.enter_context(start_fleet_in_thread(FleetSettings(**wanted)))

            def both(document: dict[str, Any]) -> None:
                if wants:
                    only(wants)(document)
                if change is not None:
                    change(document)

            engine = Engine(fleet, folder, both, database_url=records)
            stack.callback(engine.close)
            return engine

        yield begin


@pytest.fixture
def start_database(key_file: Path, tmp_path: Path, records: str) -> Iterator[Callable[..., DatabaseEngine]]:
    """Return a function that starts a fleet with a database cluster, and an engine that rebuilds it."""
    with ExitStack() as stack:

        def begin(change: Callable[[dict[str, Any]], None] | None = None, **settings: Any) -> DatabaseEngine:
            folder = tmp_path / f"engine-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            quick = {"speed": 400.0, "reboot_s": 0.3, "services": ("callbridge", "webadmin")}
            wanted = {"key_pool": key_file, "out": folder / "fleet"} | quick | settings
            fleet: FleetHandle = stack.enter_context(start_fleet_in_thread(FleetSettings(**wanted)))
            engine = DatabaseEngine(fleet, folder, change, database_url=records)
            stack.callback(engine.close)
            return engine

        yield begin
