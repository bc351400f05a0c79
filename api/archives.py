"""Files as people bring them: by name, .zip archives unpacked, and never more than a delivery can be.

Nothing is written to disk, and names are labels only: a path in them leads nowhere. The size that an archive states may
lie, so what is unpacked is counted, never believed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from workflows.errors import InputError

LARGEST = 20_000_000
"""How many bytes a delivery may hold in all; certificates are small."""
MOST_FILES = 1_000
_LONGEST_NAME = 120


def unpacked(archive: Path | bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield ("mail.zip/one.crt", bytes) of all that *archive* holds; an archive in it is not opened.

    Each is at most one byte longer than `LARGEST`; whoever collects them counts. Raises: InputError: no archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir():
                    with opened.open(entry) as stream:
                        yield f"{name}/{entry.filename}", stream.read(LARGEST + 1)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError) as error:
        raise InputError(f"{name} cannot be unpacked ({error})", remedy="Unpack it and name the folder.") from error


def collected(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return *files* by name. Raises: InputError: more, or larger, than certificates can be."""
    found: dict[str, bytes] = {}
    size = 0
    for name, data in files:
        size += len(data)
        if size > LARGEST:
            raise InputError(f"{name}: more than {LARGEST // 1_000_000} MB", remedy="Send certificates only.")
        if len(found) >= MOST_FILES:
            raise InputError(f"{name}: more than {MOST_FILES} files", remedy="Send certificates only.")
        found[name] = data
    return found


def labelled(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield files that came over the network under names that can be shown: no folders, printable, each once.

    An archive's entries keep its name before theirs: "mail.zip/one.crt".
    """
    seen: set[str] = set()
    for name, data in files:
        label = _label(name)
        entries = unpacked(data, label) if label.lower().endswith(".zip") else [(label, data)]
        for entry, content in entries:
            plain = entry if entry == label else f"{label}/{_label(entry.removeprefix(f'{label}/'))}"
            number, one = 2, plain
            while one in seen:
                one, number = f"{plain} ({number})", number + 1
            seen.add(one)
            yield one, content


def _label(name: str) -> str:
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(letter if letter.isprintable() else "?" for letter in last)[:_LONGEST_NAME]
    return shown if shown.strip(". ") else "file"
