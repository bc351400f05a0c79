"""Simulated fleets of one, two and more nodes, with keys made once for the whole session."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator import pki
from simulator.fleet import FleetHandle, FleetSettings, start_fleet_in_thread


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 66 keys that share primes, see `KeyPool.of_size`."""
    path = tmp_path_factory.mktemp("keys") / "pool.pem"
    pool = pki.KeyPool.of_size(66)
    keys: list[rsa.RSAPrivateKey] = [next(pool._keys) for _ in range(66)]
    path.write_bytes(b"".join(pki.key_to_pem(key) for key in keys))
    return path


@pytest.fixture
def start_fleet(key_file: Path) -> Iterator[Callable[..., FleetHandle]]:
    """Return a function that starts a fleet with given settings; it is stopped after the test."""
    with ExitStack() as stack:

        def start(**settings: Any) -> FleetHandle:
            wanted = {"nodes": 1, "key_pool": key_file, "reboot_s": 0.3} | settings
            return stack.enter_context(start_fleet_in_thread(FleetSettings(**wanted)))

        yield start


@pytest.fixture
def fleet(start_fleet: Callable[..., FleetHandle]) -> FleetHandle:
    """Return a fleet of one node, cmscore1, of release 3.9."""
    return start_fleet()
