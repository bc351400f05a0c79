"""Fresh file names: the wish's basename plus the next free number, decided from the survey alone.

The same wish against the same facts gives the same names (DESIGN.md section 3), and no file that is in use is ever
written over (row S9: `pki csr` on a basename in use breaks the service at once).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from workflows.facts import NodeFacts


def next_number(stem: str, facts: Iterable[NodeFacts]) -> int:
    """Return the lowest number above every `<stem>-<number>…` file of these nodes; 1 when there is none.

    One number for all of them, so that a pair shared by several nodes has the same name everywhere.
    """
    pattern = re.compile(rf"{re.escape(stem)}-(\d+)(?:[.\-].*)?", re.IGNORECASE)
    numbers = [int(found[1]) for one in facts for file in one.files if (found := pattern.fullmatch(file.name))]
    return max(numbers, default=0) + 1


def set_aside(name: str, facts: NodeFacts, taken: Iterable[str] = ()) -> str:
    """Return the name that an active file gets when a new one takes its place: `callbridge-old2.key` (row S9)."""
    path = PurePosixPath(name)
    names = {file.name for file in facts.files} | set(taken)
    number = 1
    while f"{path.stem}-old{number}{path.suffix}" in names:
        number += 1
    return f"{path.stem}-old{number}{path.suffix}"
