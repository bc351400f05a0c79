"""The command log: what the appliances were asked, one JSON object per line, the witness of the tests.

    {"number": 7, "monotonic": 12.3, "utc": "...", "node": "cmscore1", "session": "c4", "kind": "command",
     "text": "pki list", "phase": "begin"}
    {"number": 7, ..., "phase": "end", "outcome": "ok"}

`number` joins begin and end. Kinds: command, upload, download, rename, remove, login, login-refused, probe, and
database: an operation of the database cluster, with the text "initialize" or "join ADDRESS" and the outcome ok, failure
or lost. Passwords and key material are never written: command lines come masked, file contents not at all.
"""

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the log; `outcome` and `details` stand on the end only. `monotonic` is in seconds."""

    number: int
    monotonic: float
    utc: str
    node: str
    session: str
    kind: str
    text: str
    phase: str
    outcome: str | None = None
    faults: tuple[str, ...] = ()  # kinds of the faults that happened
    size: int | None = None  # bytes of an upload or download


class CommandLog:
    """Writes the log to a file and keeps it for the tests of the same process."""

    def __init__(self, path: Path | None) -> None:
        self.records: list[Record] = []
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8")
        self._number = 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def begin(self, *, node: str, session: str, kind: str, text: str) -> Record:
        """Write that something begins; give the answer to `end`."""
        self._number += 1
        return self._write(number=self._number, node=node, session=session, kind=kind, text=text, phase="begin")

    def end(self, begun: Record, *, outcome: str, faults: tuple[str, ...] = (), size: int | None = None) -> None:
        """Write how what was begun ended."""
        self._write(
            number=begun.number,
            node=begun.node,
            session=begun.session,
            kind=begun.kind,
            text=begun.text,
            phase="end",
            outcome=outcome,
            faults=faults,
            size=size,
        )

    def event(self, *, node: str, session: str, kind: str, text: str, outcome: str) -> None:
        """Write something that takes no time worth telling: a login, a probe."""
        self._number += 1
        self._write(number=self._number, node=node, session=session, kind=kind, text=text, phase="end", outcome=outcome)

    def _write(
        self,
        *,
        number: int,
        node: str,
        session: str,
        kind: str,
        text: str,
        phase: str,
        outcome: str | None = None,
        faults: tuple[str, ...] = (),
        size: int | None = None,
    ) -> Record:
        record = Record(
            number=number,
            monotonic=time.monotonic(),
            utc=datetime.now(UTC).isoformat(),
            node=node,
            session=session,
            kind=kind,
            text=text,
            phase=phase,
            outcome=outcome,
            faults=faults,
            size=size,
        )
        self.records.append(record)
        if self._file is not None:
            written = {name: value for name, value in asdict(record).items() if value not in (None, ())}
            self._file.write(json.dumps(written) + "\n")
            self._file.flush()
        return record


def most_at_once(records: list[Record], prefix: str) -> int:
    """Return the greatest number of commands beginning with *prefix* that were in progress at the same time."""
    current = most = 0
    for record in records:
        if record.kind == "command" and record.text.startswith(prefix):
            current += 1 if record.phase == "begin" else -1
            most = max(most, current)
    return most
