"""The private keys of the simulated servers, made once for all rounds, so that they can be searched for afterwards."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from simulator.pki import KeyPool


def make_keys(path: Path, size: int) -> Path:
    """Write *size* different keys as PEM to *path* and return it."""
    keys = KeyPool.of_size(size)._keys
    pem = b"".join(
        next(keys).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()) for _ in range(size)
    )
    path.write_bytes(pem)
    return path
