"""Passwords: what one has to be (ASVS 5.0, 6.2), and argon2id that cannot be used to take the server down.

A hash costs 64 MiB and a fifth of a second on purpose, so only a few are computed at once and few more may wait.
A password is taken exactly as it was typed: nothing is cut, folded or trimmed (6.2.8).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from workflows.errors import InputError, TooMany

SHORTEST, LONGEST = 12, 256
AT_ONCE, WAITING = 2, 8
_COMMON = Path(__file__).with_name("common_passwords.txt")
# How people make a common password longer: other signs for letters, digits and signs at the end.
_SIGNS = str.maketrans("@4301!5$7", "aaeoiisst")
_TAIL = re.compile(r"[\W\d_]+$")
_ROWS = ("abcdefghijklmnopqrstuvwxyz", "1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn")


class Passwords:
    """Hashes and compares; one for the life of the process."""

    def __init__(self, hasher: PasswordHasher | None = None, *, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._hasher = hasher or PasswordHasher()
        self._working = threading.BoundedSemaphore(at_once)
        self._admitted = threading.BoundedSemaphore(at_once + waiting)
        # Compared where there is no account, so that both answers take the same time (6.3.8).
        self._nobody = self._hasher.hash("nobody has this password")

    def hash(self, password: str) -> str:
        """Return the argon2id hash. Raises: TooMany: too many are being computed."""
        with self._turn():
            return self._hasher.hash(password)

    def fits(self, argon2id: str, password: str) -> bool:
        """Return whether *password* has this hash; with "" it takes as long and is False. Raises: TooMany."""
        with self._turn():
            try:
                self._hasher.verify(argon2id or self._nobody, password.encode(errors="surrogatepass"))
            except (VerificationError, InvalidHashError):
                return False
            return bool(argon2id)

    def is_old(self, argon2id: str) -> bool:
        """Return whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(argon2id)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._admitted.acquire(blocking=False):
            raise TooMany("Too many people sign in at this moment.", retry_after_s=2)
        try:
            with self._working:
                yield
        finally:
            self._admitted.release()


def check_password(password: str, *, name: str) -> None:
    """Return when *password* may be the one of the account *name*. Raises: InputError, with what it should be.

    Length is asked for, kinds of characters are not (6.2.5); nothing expires (6.2.10).
    """
    if len(password) < SHORTEST:
        raise InputError(
            f"The password is too short: {len(password)} characters.",
            remedy=f"Use at least {SHORTEST} characters; a few words in a row are easy to keep in mind.",
        )
    if len(password) > LONGEST:
        raise InputError(f"The password is longer than {LONGEST} characters.", remedy="Use a shorter one.")
    if _is_surrogate(password):
        raise InputError("The password is no text.", remedy="Use letters, digits, signs and spaces.")
    folded = password.casefold()
    own = name.casefold()
    if own and (folded == own or _unit(folded) == own or _TAIL.sub("", folded) == own):
        raise InputError("The password is the name of the account.", remedy="Choose one that nobody guesses from it.")
    if is_common(password):
        raise InputError(
            "This password is among the first that anybody tries.",
            remedy="Choose another; a few words in a row that do not belong together are good.",
        )


def is_common(password: str) -> bool:
    """Return whether it is on a list of common passwords, one of them made longer, or a row of keys.

    Few of the lists are as long as a password has to be here, so what they are made longer by is what matters.
    """
    folded = password.casefold()
    unit = _unit(folded)
    plain = {one.translate(_SIGNS) for one in (folded, unit, _TAIL.sub("", folded))} | {folded, unit}
    plain = {shorter for one in plain for shorter in _beginnings(one)}
    in_a_row = any(unit in row * 3 or unit[::-1] in row * 3 for row in _ROWS)
    return len(unit) <= 4 or in_a_row or not plain.isdisjoint(_common())


def _beginnings(text: str) -> Iterator[str]:
    """Yield *text*, and what it may have been before digits and signs came behind it ("abcd12" → "abcd", "abcd1")."""
    bare = len(_TAIL.sub("", text))
    yield text[:bare]
    # The half and more: what begins with four digits that somebody uses is not theirs made longer.
    for end in range(max(bare + 1, len(text) // 2), len(text) + 1):
        yield text[:end]


def _unit(text: str) -> str:
    """Return the shortest text that *text* repeats ("abcabcab" → "abc")."""
    for size in range(1, len(text) // 2 + 1):
        if (text[:size] * (len(text) // size + 1)).startswith(text):
            return text[:size]
    return text


def _is_surrogate(text: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in text)


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    """Return our own list, and the 30,000 most common passwords of leaks that zxcvbn brings (ADR 15)."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    lines = _COMMON.read_text("utf-8").splitlines()
    own = frozenset(one.strip() for one in lines if one.strip() and not one.startswith("#"))
    return own.union(FREQUENCY_LISTS["passwords"])
