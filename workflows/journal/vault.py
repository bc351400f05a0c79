"""The vault: seals keys and backups that must rest on disk for a while (DESIGN.md section 6, last lines).

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce; the id of a row is authenticated with it, so a ciphertext that
was moved to another row does not open. The key lies in one file of mode 0600, made on first use. Where the sealed rows
are kept, and when they are dropped, is the journal's business.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from workflows.errors import SettingsError, VaultError
from workflows.private_file import check_private

_MAGIC = b"certbridge-vault-1\n"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Vault:
    """Seals and unseals bytes under the key in *directory*/key."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "key"
        self._cipher: AESGCM | None = None

    def seal(self, row: str, plaintext: bytes) -> bytes:
        """Return *plaintext* encrypted for the row called *row*; sealing twice gives different bytes.

        Raises: SettingsError: the key file is not ours alone.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _MAGIC + nonce + self._open().encrypt(nonce, plaintext, _MAGIC + row.encode())

    def unseal(self, row: str, ciphertext: bytes) -> bytes:
        """Return what was sealed for *row*.

        Raises: VaultError: sealed for another row, under another key, or changed. SettingsError: as `seal`.
        """
        if not ciphertext.startswith(_MAGIC):
            raise VaultError(f"row {row!r} was not sealed by this release of the vault")
        nonce = ciphertext[len(_MAGIC) : len(_MAGIC) + _NONCE_BYTES]
        try:
            return self._open().decrypt(nonce, ciphertext[len(_MAGIC) + _NONCE_BYTES :], _MAGIC + row.encode())
        except (InvalidTag, ValueError):
            raise VaultError(
                f"row {row!r} does not open: it was sealed for another row or under another key, or it was changed",
                remedy=f"Put the key file back that sealed it ({self._file}).",
            ) from None

    def _open(self) -> AESGCM:
        if self._cipher is None:
            if not self._file.exists():
                _make_key(self._file)
            check_private(self._file, self._file.stat())
            self._cipher = AESGCM(_read_key(self._file))
        return self._cipher


def _make_key(file: Path) -> None:
    """Write a new key; when two processes do so at once the first one's key stands, and both use it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".key-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _read_key(file: Path) -> bytes:
    try:
        key = base64.b64decode(file.read_bytes().strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"{file} is not a vault key", remedy="Put the right key file back.")
    return key
