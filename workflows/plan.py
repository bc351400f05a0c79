"""The plan: a frozen tree of five words (DESIGN.md section 3), JSON both ways, with a digest.

    Step     one stage on one node                          → a Celery task
    Seq      one after the other                            → chain
    Par      at once; nothing after it until a Barrier      → chord header
    Barrier  goes on only when all before it succeeded      → chord body or chain link
    Gate     ends the chain; people decide                  → a new canvas starts from the journal

A plan says everything a run may change: each step lists its exact MMP lines and SFTP transfers. It holds no secrets and
no clock, so the same wish against the same facts gives the same bytes. How a plan is made is in `procedures`, how it
becomes Celery signatures in `canvas`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Self

import cattrs.preconf.json

from workflows.canonical import digest_of_json

DATABASE = "database"
"""The `kind` of a plan that takes a database cluster apart and puts it together again."""
RENEWAL = "renewal"
"""The `kind` of a plan for the certificates of services."""
ROLLBACK = "rollback"
"""The `purpose` of a plan, of either kind, that goes back to the files of before."""


class LineKind(Enum):
    """What kind of change or transfer a line is. `fetch` reads; all others change the server."""

    COMMAND = "command"
    UPLOAD = "upload"
    FETCH = "fetch"
    RENAME = "rename"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One MMP line or SFTP transfer, exactly as it will be made.

    `text` is the MMP line, or the file name; for a rename "old -> new". `content` names what a transfer carries
    ("certificate:seoul/cmscore1/callbridge"; the bytes come from the journal), or what a command does to whom
    ("restart:callbridge"), so that a step which was cut off knows which of its lines are still needed. `question` is
    what the server is expected to ask, `answer` what it gets; a question that stands here nowhere is never answered.
    """

    kind: LineKind
    text: str
    content: str = ""
    question: str = ""
    answer: str = ""

    def __str__(self) -> str:
        if self.kind is LineKind.COMMAND:
            return f"{self.text}   [{self.question} → {self.answer}]" if self.question else self.text
        return f"sftp {self.kind.value} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """Something that must still be true on the node when the step begins.

    kind: "setting" (subject: service, value: {"key": …, "certificate": …, "bundle": …, "enabled": …}), "file" (subject:
    name, value: SHA-256 hex or "" for a key), "absent" (subject: file name), "trust" (subject: store, value: file),
    "database" (subject: address of the primary, value: {"role": "primary" | "replica" | "connected" | "none", "files":
    names}, and "any_primary" when the primary that it names counts for nothing).
    """

    kind: str
    subject: str
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """What a step interrupts, in words, and for how long, in seconds (a prediction, so outside the digest)."""

    service: str
    what: str
    from_s: int = 0
    to_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage on one node. `id` is a stable path: "seoul/cmscore1/request/callbridge".

    `action` is the task that carries it out ("request"), `stage` its number (300), `lines` what it changes in order,
    `undo` the lines back in order, `allow_s` how long it may take. `source` is the node a pair is copied from. A step
    that `parks` does not stop its lane when it fails: the others go on, and a resumed lane takes it up again.
    """

    id: str
    node: str
    action: str
    stage: int
    title: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    expects: tuple[Expect, ...] = ()
    lines: tuple[Line, ...] = ()
    undo: tuple[Line, ...] = ()
    interrupts: tuple[Interruption, ...] = ()
    allow_s: int = 600
    source: str = ""
    parks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """Goes on only when all before it is done (up to the lane's fail limit); `holds` says it in words."""

    id: str
    name: str
    holds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """People decide. `name` is "sign", "go" or "point-of-no-return"; `needs` says in words what they decide on.

    `two_people`: whoever asked for the run may not approve it, whatever the inventory says.
    """

    id: str
    name: str
    needs: str
    two_people: bool = False


@dataclass(frozen=True, slots=True)
class Seq:
    """One part after the other."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Par:
    """All parts at once; each part is a Step or a Seq of Steps. A Barrier always follows."""

    parts: tuple[Part, ...]


Part = Step | Seq | Par | Barrier | Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One cluster's share of a run: its own canvas, generation, gates and fail limit (in nodes)."""

    name: str
    tree: Seq
    fail_limit: int = 0

    def steps(self) -> Iterator[Step]:
        """Yield every step in the order in which it stands in the tree."""
        for part in walk(self.tree):
            if isinstance(part, Step):
                yield part

    def part(self, part_id: str) -> Step | Barrier | Gate:
        """Return the step, barrier or gate called *part_id*. Raises: KeyError."""
        for part in walk(self.tree):
            if part.id == part_id:
                return part
        raise KeyError(part_id)

    def gates(self) -> tuple[Gate, ...]:
        """Return the gates in the order in which they are met."""
        return tuple(part for part in walk(self.tree) if isinstance(part, Gate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole plan; `kind` is "renewal", "database", "survey" or "trust".

    `purpose` of a database plan: "renew", "build", "dissolve" or "rollback"; of a renewal: "" or "rollback".
    `fleet` is the resolved inventory as JSON
    (no secrets), `wishes` the certificates by id, `notices` what people must know or do elsewhere, `facts` the digest
    of each node's facts it was made from.
    """

    kind: str
    fleet: Mapping[str, Any]
    lanes: tuple[Lane, ...]
    wishes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    purpose: str = ""

    @property
    def empty(self) -> bool:
        """True when there is nothing to do: everything is already as wanted."""
        return not any(True for lane in self.lanes for _ in lane.steps())

    def lane(self, name: str) -> Lane:
        """Return the lane called *name*. Raises: KeyError."""
        for lane in self.lanes:
            if lane.name == name:
                return lane
        raise KeyError(name)

    def nodes(self) -> tuple[str, ...]:
        """Return every node a step touches, in order of appearance."""
        return tuple(dict.fromkeys(step.node for lane in self.lanes for step in lane.steps()))

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON, predictions left out."""
        return digest_of_json(_without_predictions(self).to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` reads them back to an equal plan."""
        result: dict[str, Any] = _CONVERTER.unstructure(self)
        return result

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the plan that *data* (made by `to_json`) holds."""
        return _CONVERTER.structure(data, cls)


def walk(part: Part) -> Iterator[Step | Barrier | Gate]:
    """Yield the leaves of the tree in order."""
    if isinstance(part, Seq | Par):
        for child in part.parts:
            yield from walk(child)
    else:
        yield part


def predecessors(lane: Lane, part_id: str) -> frozenset[str]:
    """Return the ids of all that must be done before *part_id* may begin.

    Parts of a Seq wait for all that stands before them; members of a Par wait for what stands before the Par (and,
    inside their own Seq, for their elders), never for each other.
    """
    found = _before(lane.tree, part_id, frozenset())
    if found is None:
        raise KeyError(part_id)
    return found


def _before(part: Part, part_id: str, earlier: frozenset[str]) -> frozenset[str] | None:
    if isinstance(part, Par):
        for child in part.parts:
            found = _before(child, part_id, earlier)
            if found is not None:
                return found
        return None
    if isinstance(part, Seq):
        for child in part.parts:
            found = _before(child, part_id, earlier)
            if found is not None:
                return found
            earlier = earlier | {leaf.id for leaf in walk(child)}
        return None
    return earlier if part.id == part_id else None


def remaining(lane: Lane, done: AbstractSet[str]) -> tuple[Step | Barrier | Gate, ...]:
    """Return the leaves of *lane* that are not in *done*, in order."""
    return tuple(leaf for leaf in walk(lane.tree) if leaf.id not in done)


def _without_predictions(plan: Plan) -> Plan:
    return replace(plan, lanes=tuple(replace(lane, tree=_strip(lane.tree)) for lane in plan.lanes))


def _strip(part: Any) -> Any:
    if isinstance(part, Seq):
        return Seq(tuple(_strip(child) for child in part.parts))
    if isinstance(part, Par):
        return Par(tuple(_strip(child) for child in part.parts))
    if isinstance(part, Step):
        return replace(part, interrupts=tuple(replace(one, from_s=0, to_s=0) for one in part.interrupts))
    return part


_KINDS: dict[str, Any] = {"step": Step, "barrier": Barrier, "gate": Gate}


def _part_to_json(part: Part) -> dict[str, Any]:
    if isinstance(part, Seq | Par):
        return {"is": type(part).__name__.lower(), "parts": [_part_to_json(child) for child in part.parts]}
    leaf: dict[str, Any] = _LEAVES.unstructure(part)
    return {"is": type(part).__name__.lower(), **leaf}


def _part_from_json(data: Mapping[str, Any]) -> Part:
    kind = data["is"]
    if kind in {"seq", "par"}:
        parts = tuple(_part_from_json(child) for child in data["parts"])
        return Seq(parts) if kind == "seq" else Par(parts)
    part: Part = _LEAVES.structure({name: value for name, value in data.items() if name != "is"}, _KINDS[kind])
    return part


def _make_converter() -> cattrs.preconf.json.JsonConverter:
    converter = cattrs.preconf.json.make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Seq, _part_to_json)
    converter.register_structure_hook(Seq, lambda data, _: _part_from_json(data))
    return converter


_LEAVES = cattrs.preconf.json.make_converter(forbid_extra_keys=True)
_CONVERTER = _make_converter()
