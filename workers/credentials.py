"""Credentials: who we log in as, and where the passwords and keys come from.

Looked up in the worker at the moment of the login, in this order (DESIGN.md section 8): the environment variable
CERTBRIDGE_CREDENTIAL_<NAME>, then `credentials.yaml`, then the keyring of the account. Nothing is written here, nothing
of it goes through the broker or into the journal. Which credential a node uses stands in the inventory.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import asyncssh
import yaml

from workflows.errors import CredentialMissing, SettingsError
from workflows.private_file import check_private

_MASKED = "********"
_KEYRING_SERVICE = "certbridge"


class Secret:
    """A value that prints masked and cannot be pickled; `reveal()` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; the caller keeps it out of logs, errors and payloads."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_MASKED})"

    def __str__(self) -> str:
        return _MASKED

    def __format__(self, format_spec: str) -> str:
        return _MASKED

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: payloads carry ids only")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An account on a server: *password* or *key* (an asyncssh private key), at least one of the two."""

    name: str
    username: str
    password: Secret | None = None
    key: asyncssh.SSHKey | None = field(default=None, repr=False)


def variable(name: str) -> str:
    """Return the environment variable of credential *name*: "cms-admin" → "CERTBRIDGE_CREDENTIAL_CMS_ADMIN"."""
    return "CERTBRIDGE_CREDENTIAL_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()


class Credentials:
    """Finds credentials by name. *path* is credentials.yaml (it need not exist); *keyring* asks the account's keyring.

    *learn* is told every secret found (`Redactor.register`), before anybody can use it.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        keyring: Callable[[str], str | None] | None = None,
        learn: Callable[[Secret], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._environ = os.environ if environ is None else environ
        self._keyring = ask_keyring if keyring is None else keyring
        self._learn = learn
        self._read: tuple[tuple[int, int, int], dict[str, Credential]] | None = None

    def resolve(self, name: str) -> Credential:
        """Return the credential called *name*; reads the file again when it has changed.

        Raises: CredentialMissing: found nowhere. SettingsError: the variable, the file or its mode is wrong.
        """
        found = self._from_environment(name) or self._from_file().get(name) or self._from_keyring(name)
        if found is None:
            raise CredentialMissing(f"no password or key is known for credential {name!r}", remedy=self._remedies(name))
        if found.password is not None:
            self._learn(found.password)
        return found

    def _remedies(self, name: str) -> str:
        file = self._path or "credentials.yaml"
        return (
            f"Set {variable(name)}=user:password in the worker's environment, or write it into {file} (mode 0600) as "
            f"`{name}: {{username: …, password: …}}` or `{{username: …, private_key: PATH}}`, "
            f"or store user:password with `keyring set {_KEYRING_SERVICE} {name}`."
        )

    def _from_environment(self, name: str) -> Credential | None:
        text = self._environ.get(variable(name))
        return None if text is None else _from_pair(name, text, where=variable(name))

    def _from_keyring(self, name: str) -> Credential | None:
        text = self._keyring(name)
        return None if text is None else _from_pair(name, text, where=f"keyring entry {name!r}")

    def _from_file(self) -> dict[str, Credential]:
        if self._path is None or not self._path.exists():
            return {}
        status = self._path.stat()
        check_private(self._path, status)
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._read is None or self._read[0] != version:
            self._read = (version, self._parse(self._path))
        return self._read[1]

    def _parse(self, path: Path) -> dict[str, Credential]:
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            place = getattr(error, "problem_mark", None)  # never the text of the error: it quotes the line
            where = f", line {place.line + 1}" if place is not None else ""
            raise SettingsError(f"{path}{where}: not readable as YAML", remedy="Mend the file.") from None
        if not isinstance(entries, dict):
            raise SettingsError(f"{path}: a mapping of credential names is wanted", remedy="Mend the file.")
        return {str(name): self._entry(path, str(name), entry) for name, entry in entries.items()}

    def _entry(self, path: Path, name: str, entry: Any) -> Credential:
        keys = set(entry) if isinstance(entry, dict) else set()
        wanted = ({"username", "password"}, {"username", "private_key"}, {"username", "private_key", "passphrase"})
        if keys not in wanted:
            raise SettingsError(
                f"{path}: credential {name!r} must hold `username` and either `password` or `private_key` "
                "(with `passphrase` when the key has one)",
                remedy="Mend the file.",
            )
        username = str(entry["username"])
        if "password" in keys:
            password = Secret(str(entry["password"]))
            self._learn(password)
            return Credential(name=name, username=username, password=password)
        passphrase = Secret(str(entry["passphrase"])) if "passphrase" in keys else None
        if passphrase is not None:
            self._learn(passphrase)
        key_file = path.parent / str(entry["private_key"])
        return Credential(name=name, username=username, key=_read_key(key_file, name, passphrase))


def _from_pair(name: str, text: str, *, where: str) -> Credential:
    username, colon, password = text.partition(":")
    if not (username and colon and password):
        raise SettingsError(f"{where} must be user:password", remedy=f"Set {where} to user:password.")
    return Credential(name=name, username=username, password=Secret(password))


def _read_key(path: Path, name: str, passphrase: Secret | None) -> asyncssh.SSHKey:
    """Return the private key in *path*; read once as an object, because a file name costs 45 ms at every login."""
    try:
        check_private(path, path.stat())
        return asyncssh.read_private_key(path, passphrase.reveal() if passphrase else None)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a private key that this passphrase opens"
        raise SettingsError(
            f"{path}: {why}", remedy=f"Mend `private_key` and `passphrase` of credential {name!r}."
        ) from None


def ask_keyring(name: str) -> str | None:
    """Return what the account's keyring holds for *name*, or None; a machine without a keyring is no error."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    try:
        return keyring.get_password(_KEYRING_SERVICE, name)
    except (keyring.errors.KeyringError, RuntimeError, OSError):
        return None
