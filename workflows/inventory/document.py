"""YAML text as a tree in which every value knows its line.

The tree is built from parser events, not by `yaml.load` or `yaml.compose`: nothing of the text is ever turned into a
Python object of its choosing, deep nesting cannot exhaust the stack (libyaml's composer crashes the interpreter on it),
and a key that stands twice is seen. Scalars stay text: `release: 3.10` is not the number 3.1 and `C: NO` is Norway, not
false; the model says what each becomes. Anchors, aliases and merge keys (`<<`) work; tags are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from workflows.errors import Finding, InventoryError

Path = tuple[str | int, ...]

SIZE_LIMIT = 10 * 1024 * 1024  # bytes of text
_DEPTH_LIMIT = 40  # the format itself needs 7
_VALUES_LIMIT = 2_000_000  # values after aliases are followed; a few lines of aliases could mean billions
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})  # YAML 1.2.2 section 10.3.2
_STANDARD_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is built in


@dataclass(slots=True, eq=False)
class _Scalar:
    line: int
    text: str | None
    merges: bool = False


@dataclass(slots=True, eq=False)
class _List:
    line: int
    items: list[_Value] = field(default_factory=list)
    is_open: bool = True
    is_cut: bool = False  # something wrong was taken out of it
    size: int = 1
    depth: int = 1


@dataclass(slots=True, eq=False)
class _Map:
    line: int
    entries: dict[str, tuple[int, _Value]] = field(default_factory=dict)
    merged: list[tuple[int, _Value]] = field(default_factory=list)
    waiting: _Scalar | None = None  # a key whose value has not come yet
    is_open: bool = True
    size: int = 1
    depth: int = 1


_Value = _Scalar | _List | _Map


class Document:
    """One YAML document: plain values, the line of each, and removal of what is wrong so that the rest can be checked.

    `findings` are the faults that do not keep the rest from being read, e.g. a key that stands twice.
    Raises: InventoryError: it is not YAML, too large, or refers to itself.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.findings: list[Finding] = []
        self.removed: set[str] = set()
        self._anchors: dict[str, _Value] = {}
        self._root: _Value = self._read(text)

    def where(self, path: Path) -> str:
        """Return "fleet.yaml:12" for the value at *path*, or for the nearest thing around it that is there."""
        line = self._root.line
        for line, _, _ in self._steps(path):  # noqa: B007 - the last one counts
            pass
        return f"{self.source}:{line}"

    def plain(self) -> Any:
        """Return the document as dicts, lists, texts and None."""
        return _plain(self._root)

    def is_cut(self, path: Path) -> bool:
        """Say whether the list at *path* has lost entries that were wrong."""
        steps = list(self._steps(path))
        return len(steps) == len(path) and isinstance(steps[-1][2], _List) and steps[-1][2].is_cut

    def cut(self, path: Path, *, stand_in: bool) -> bool:
        """Take out what is wrong at *path* (or nearest around it); what stood there is kept in `removed`.

        With *stand_in* a value that the format cannot do without gets a stand-in, so that the rest of its mapping is
        still checked; the stand-in is in `removed` too. Returns False when nothing could be done.
        """
        steps = list(self._steps(path))
        parent = steps[len(path) - 2][2] if len(path) > 1 and len(steps) >= len(path) - 1 else self._root
        new = self._stand_in(str(path[-1])) if stand_in and len(steps) >= len(path) - 1 else None
        if new is not None and isinstance(parent, _Map):
            line, old = parent.entries.get(str(path[-1]), (parent.line, new))
            self.removed.update(_all_texts(old), _all_texts(new))
            parent.entries[str(path[-1])] = (line, new)
            return True
        if not steps:
            return False
        _, parent, old = steps[-1]
        self.removed.update(_all_texts(old), (str(path[len(steps) - 1]),))
        if isinstance(parent, _List):
            parent.items = [item for item in parent.items if item is not old]
            parent.is_cut = True
        elif isinstance(parent, _Map):
            del parent.entries[str(path[len(steps) - 1])]
        return True

    def _stand_in(self, key: str) -> _Value | None:
        # In braces it is an unknown placeholder: rules about names leave it alone.
        number = len(self.removed)
        if key in {"name", "fleet", "address"}:
            return _Scalar(0, f"stand-in-{number}")
        if key == "CN":
            return _Scalar(0, f"{{stand_in_{'x' * number}}}")
        if key == "subject":
            return _Map(0, {"CN": (0, _Scalar(0, f"{{stand_in_{'x' * number}}}"))})
        return _List(0, is_cut=True) if key == "services" else None

    def _steps(self, path: Path) -> Iterator[tuple[int, _Value, _Value]]:
        """Yield (line, parent, value) for each part of *path*, as far as the document goes along."""
        value = self._root
        for part in path:
            parent = value
            if isinstance(parent, _Map) and str(part) in parent.entries:
                line, value = parent.entries[str(part)]
            elif isinstance(parent, _List) and isinstance(part, int) and part < len(parent.items):
                value = parent.items[part]
                line = value.line
            else:
                return
            yield line, parent, value

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _read(self, text: str) -> _Value:
        if len(text) > SIZE_LIMIT or len(text.encode(errors="replace")) > SIZE_LIMIT:
            raise self._stop(1, "the file is larger than 10 MB", "Split the fleet into several files.")
        stack: list[_List | _Map] = []
        root: _Value | None = None
        for event in self._events(text):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._close(stack.pop())
                continue
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self._stop(line, "a second document begins here", "Keep one document in the file.")
            if not isinstance(event, yaml.NodeEvent):
                continue
            value = self._value(event, line)
            if stack:
                self._put(stack[-1], value, line)
            else:
                root = value
            if isinstance(value, _List | _Map) and not isinstance(event, yaml.AliasEvent):
                stack.append(value)
                if len(stack) > _DEPTH_LIMIT:  # here too, for libyaml takes long over deep nesting
                    raise self._too_deep(line)
        if root is None:
            raise self._stop(1, "the inventory is empty", "Write at least `fleet:` and `clusters:`.")
        return root

    def _events(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            raise self._stop(mark.line + 1 if mark else 1, f"not YAML: {what}", "Correct the YAML.") from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self._stop(line, f"not YAML: {error.reason}", "Remove that character.") from error
        except UnicodeError as error:
            raise self._stop(1, f"not text: {error}", "Save the file as UTF-8.") from error

    def _value(self, event: yaml.NodeEvent, line: int) -> _Value:
        if isinstance(event, yaml.AliasEvent):
            value = self._anchors.get(event.anchor or "")
            if value is None:
                raise self._stop(line, f"no anchor &{event.anchor} stands before this", "Correct the name after `*`.")
            if not isinstance(value, _Scalar) and value.is_open:
                raise self._stop(line, f"&{event.anchor} contains itself", "Write the value out.")
            return value
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", *_STANDARD_TAGS):
            self._fault(line, f"the tag {tag} is not used here", "Write the plain value.")
        value = _start(event, line)
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _put(self, parent: _List | _Map, value: _Value, line: int) -> None:
        if isinstance(parent, _List):
            parent.items.append(value)
        elif parent.waiting is None:
            if not isinstance(value, _Scalar):
                raise self._stop(line, "a key must be a word", "Write `key: value`.")
            # A key's line is where it stands, also when it comes from an alias.
            parent.waiting = _Scalar(line, value.text, value.merges)
        else:
            key, parent.waiting = parent.waiting, None
            name = key.text or ""
            if key.merges:
                parent.merged.append((key.line, value))
            elif name in parent.entries:
                first = parent.entries[name][0]
                self._fault(key.line, f"the key {name!r} stands twice (first in line {first})", "Keep one of the two.")
            else:
                parent.entries[name] = (key.line, value)

    def _close(self, value: _List | _Map) -> None:
        """Finish *value*, whose children are all finished, and see that aliases did not make it huge or deep."""
        value.is_open = False
        if isinstance(value, _Map):
            self._merge(value)
        for child in _children(value):
            value.size += 1 if isinstance(child, _Scalar) else child.size
            value.depth = max(value.depth, 1 if isinstance(child, _Scalar) else child.depth + 1)
        if value.size > _VALUES_LIMIT:
            raise self._stop(value.line, "there are too many values, aliases followed", "Write less, or fewer aliases.")
        if value.depth > _DEPTH_LIMIT:
            raise self._too_deep(value.line)

    def _merge(self, mapping: _Map) -> None:
        """Fill in what `<<` brings: keys written out win, and of several sources the first."""
        for line, value in mapping.merged:
            for source in value.items if isinstance(value, _List) else [value]:
                if not isinstance(source, _Map):
                    self._fault(line, "`<<` takes an alias of a mapping", "Write `<<: *name`.")
                    continue
                for key, entry in source.entries.items():
                    mapping.entries.setdefault(key, entry)

    def _fault(self, line: int, what: str, remedy: str) -> None:
        self.findings.append(Finding(f"{self.source}:{line}", what, remedy))

    def _too_deep(self, line: int) -> InventoryError:
        return self._stop(line, "the values are nested too deeply", "Compare with docs/reference/inventory.md.")

    def _stop(self, line: int, what: str, remedy: str) -> InventoryError:
        return InventoryError([*self.findings, Finding(f"{self.source}:{line}", what, remedy)])


def _start(event: yaml.NodeEvent, line: int) -> _Value:
    if isinstance(event, yaml.ScalarEvent):
        plain = event.implicit[0] and event.style in (None, "")
        return _Scalar(line, None if plain and event.value in _NULLS else event.value, plain and event.value == "<<")
    return _List(line) if isinstance(event, yaml.SequenceStartEvent) else _Map(line)


def _children(value: _Value) -> list[_Value]:
    if isinstance(value, _Scalar):
        return []
    return value.items if isinstance(value, _List) else [child for _, child in value.entries.values()]


def _plain(value: _Value) -> Any:
    if isinstance(value, _Scalar):
        return value.text
    if isinstance(value, _List):
        return [_plain(item) for item in value.items]
    return {key: _plain(child) for key, (_, child) in value.entries.items()}


def _all_texts(value: _Value) -> Iterator[str]:
    if isinstance(value, _Scalar):
        if value.text is not None:
            yield value.text
        return
    if isinstance(value, _Map):
        yield from value.entries
    for child in _children(value):
        yield from _all_texts(child)
