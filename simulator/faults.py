"""Named faults: what goes wrong, where, when and how often. Values and a matching table; `server.py` and `sftp.py` act.

A fault is one JSON object, the same on the command line, on the control socket and in `Fault.from_json`:

    {"kind": "cut-after", "node": "cmscore1", "match": "pki csr *", "times": 1, "skip": 0, "seconds": 5, "text": "..."}

`node` and `match` are shell patterns. `match` is held against the command line, or against `upload NAME`,
`download NAME`, `rename OLD NEW`, `remove NAME`, `login USER`, a service name, or an operation of the database such as
`join ADDRESS`; see `FaultKind`.
"""

import fnmatch
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class FaultKind(StrEnum):
    """The kinds. The comment says what `match` is held against, and which of seconds, text, count it uses."""

    CUT_BEFORE = "cut-before"  # a command; the connection is cut before anything is done
    CUT_AFTER = "cut-after"  # a command; it is carried out, then the connection is cut before the reply
    HANG = "hang"  # a command; no answer for `seconds` (for ever without), nothing done until then
    SLOW = "slow"  # a command; `seconds` later than usual
    FAILURE = "failure"  # a command; answers "FAILURE: `text`" and does nothing
    GARBAGE = "garbage"  # a command; stray log lines and bytes (or `text`) around the output
    QUESTION = "question"  # a command; asks `text` (Y/n) first, goes on only after a capital Y
    REBOOT = "reboot"  # a command; carried out, then the appliance is away for `seconds`
    PARTIAL_UPLOAD = "partial-upload"  # upload NAME; the connection is cut after `count` bytes (64 without)
    CORRUPT_UPLOAD = "corrupt-upload"  # upload NAME; right size, one bit wrong
    DISK_FULL = "disk-full"  # upload NAME; writing fails after `count` bytes (0 without)
    REFUSE_KEY_DOWNLOAD = "refuse-key-download"  # download NAME (private keys only); permission denied
    RENAME_REFUSED = "rename-refused"  # rename OLD NEW; the server says failure
    WRONG_PASSWORD = "wrong-password"  # login USER; the right password is refused  # noqa: S105 - a name, no password
    LOCKOUT = "lockout"  # login USER; after `count` refusals the account is locked for `seconds` (900 without)
    HOST_KEY_CHANGE = "host-key-change"  # (no match) another host key as long as it is there
    STALE_LISTENER = "stale-listener"  # endpoint name; goes on serving the old certificate after enable or restart
    UNREACHABLE = "unreachable"  # endpoint name or "ssh"; nothing listens
    CLOCK_SKEW = "clock-skew"  # (no match) the appliance's clock is `seconds` off
    DATABASE_FAILS = "database-fails"  # an operation; ends (Failed) with `text` as ERROR, nothing has changed
    DATABASE_REBOOT = "database-reboot"  # an operation; a reboot of `seconds` in its middle, `text` lost or continues
    DATABASE_STUCK = "database-stuck"  # an operation; in progress for `seconds` (simulated) more, for ever without
    DATABASE_SPLIT = "database-split"  # (no match) names the node at address `text` as the primary
    DATABASE_SYNC_LOST = "database-sync-lost"  # (no match) a joined replica is out of sync


# These last as long as they are there; the others are used up by matching.
LASTING = frozenset(
    {
        FaultKind.HOST_KEY_CHANGE,
        FaultKind.STALE_LISTENER,
        FaultKind.UNREACHABLE,
        FaultKind.CLOCK_SKEW,
        FaultKind.REFUSE_KEY_DOWNLOAD,
        FaultKind.RENAME_REFUSED,
        FaultKind.WRONG_PASSWORD,
        FaultKind.LOCKOUT,
        FaultKind.DATABASE_SPLIT,
        FaultKind.DATABASE_SYNC_LOST,
    }
)
ON_COMMAND = frozenset(
    {
        FaultKind.CUT_BEFORE,
        FaultKind.CUT_AFTER,
        FaultKind.HANG,
        FaultKind.SLOW,
        FaultKind.FAILURE,
        FaultKind.GARBAGE,
        FaultKind.QUESTION,
        FaultKind.REBOOT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. `times` None means every time (the default for lasting kinds; others happen once)."""

    kind: FaultKind
    node: str = "*"
    match: str = "*"
    times: int | None = None
    skip: int = 0
    seconds: float | None = None
    text: str | None = None
    count: int | None = None
    id: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Fault":
        """Return the fault that a JSON object describes. Raises: ValueError: unknown kind or key, wrong type."""
        try:
            kind = FaultKind(value["kind"])
            times = value.get("times", None if kind in LASTING else 1)
            return cls(**{**value, "kind": kind, "times": times})
        except (KeyError, TypeError) as problem:
            raise ValueError(f"not a fault: {json.dumps(dict(value))}") from problem

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of this fault, without what is not set."""
        return {name: value for name, value in asdict(self).items() if value not in {None, ""}}

    def fits(self, node: str, text: str) -> bool:
        """Tell whether the fault is meant for *text* on *node*."""
        return fnmatch.fnmatchcase(node, self.node) and fnmatch.fnmatchcase(text, self.match)


class Faults:
    """The faults of a fleet, in the order they were added."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: dict[str, Fault] = {}
        self._number = 0
        self.hits: list[tuple[str, str, str]] = []  # (fault id, node, text) of everything used so far
        self.changed: Callable[[], None] = lambda: None
        for fault in faults:
            self.add(fault)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults.values()))

    def add(self, fault: Fault) -> str:
        """Add a fault and return its id."""
        self._number += 1
        named = fault if fault.id else replace(fault, id=f"fault-{self._number}")
        self._faults[named.id] = named
        self.changed()
        return named.id

    def remove(self, fault_id: str) -> bool:
        """Remove a fault; return whether it was there."""
        found = self._faults.pop(fault_id, None) is not None
        self.changed()
        return found

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()
        self.changed()

    def first(self, kind: FaultKind, node: str, text: str) -> Fault | None:
        """Return the first fault of *kind* that fits, without using it up."""
        return next((f for f in self._faults.values() if f.kind is kind and not f.skip and f.fits(node, text)), None)

    def use(self, kinds: Iterable[FaultKind], node: str, text: str) -> list[Fault]:
        """Return the faults of *kinds* that happen now: skips are counted down, used-up faults removed."""
        wanted = frozenset(kinds)
        happening = []
        for fault in tuple(self._faults.values()):
            if fault.kind not in wanted or not fault.fits(node, text):
                continue
            if fault.skip:
                self._faults[fault.id] = replace(fault, skip=fault.skip - 1)
                continue
            happening.append(fault)
            self.hits.append((fault.id, node, text))
            if fault.times is None:
                continue
            if fault.times <= 1:
                del self._faults[fault.id]
            else:
                self._faults[fault.id] = replace(fault, times=fault.times - 1)
        return happening
