"""From the text of `fleet.yaml` to a `Fleet` that is right, or to one error that names every fault.

YAML first (`document`), then each value (`model`), then the rules over all of it (`rules`). What is wrong by itself is
taken out before the rules are run, so that a bad port does not hide a node that stands twice.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from workflows.errors import Finding, InventoryError
from workflows.inventory import rules
from workflows.inventory.checks import did_you_mean
from workflows.inventory.document import Document, Path
from workflows.inventory.model import WrittenFleet
from workflows.inventory.resolving import resolve
from workflows.inventory.values import ResolvedFleet

_WORDS = {
    "string_type": ("is no text", "Write one text here."),
    "int_parsing": ("is no number", "Write a whole number."),
    "int_type": ("is no number", "Write a whole number."),
    "int_from_float": ("is no whole number", "Write a whole number."),
    "bool_parsing": ("is neither true nor false", "Write true or false."),
    "bool_type": ("is neither true nor false", "Write true or false."),
    "tuple_type": ("is no list", "Write a list: [one, two]."),
    "dict_type": ("is no mapping", "Write `key: value` lines below it."),
    "model_type": ("is no mapping", "Write `key: value` lines below it."),
    "too_short": ("is an empty list", "Write at least one."),
    "string_too_short": ("is empty", "Write a value or remove the key."),
}
_MOST_FAULTS = 1000  # of single values; nobody reads more, and looking for more would take long
_ROUNDS = 20  # each round takes something out; the format is seven levels deep


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """An inventory that was read and found right. `warnings` are what works, but hardly as meant."""

    written: WrittenFleet
    source: str
    warnings: tuple[Finding, ...] = ()

    @classmethod
    def from_yaml(cls, text: str, source: str = "fleet.yaml") -> Self:
        """Return the fleet that *text* describes; *source* is the file's name for messages.

        Raises: InventoryError: with a finding (place, fault, remedy) for everything that is wrong, in order of lines.
        """
        document = Document(text, source)
        findings = list(document.findings)
        written, faults = _validate(document)
        findings += faults
        report = rules.check(written, document) if written is not None else None
        findings += report.faults if report else ()
        if findings or written is None or report is None:
            raise InventoryError(_in_order(findings))
        return cls(written=written, source=source, warnings=_in_order(report.warnings))

    def resolved(self, base_dir: str = ".") -> ResolvedFleet:
        """Return every default and placeholder filled in; *base_dir* is the folder of the file, for relative paths."""
        return resolve(self.written, base_dir)


def _validate(document: Document) -> tuple[WrittenFleet | None, list[Finding]]:
    """Return what is right in *document* and the faults of the rest; None when too little is right."""
    findings: list[Finding] = []
    for attempt in range(_ROUNDS):
        try:
            return WrittenFleet.model_validate(document.plain()), findings
        except ValidationError as error:
            details = [each for each in error.errors(include_url=False) if not _is_echo(each)]
        if attempt == 0:
            findings = [_finding(document, each) for each in details[:_MOST_FAULTS]]
        if len(details) > _MOST_FAULTS:
            break
        if not all([_cut(document, each) for each in details]):  # noqa: C419 - every one is to be cut
            break
    return None, findings


def _cut(document: Document, error: ErrorDetails) -> bool:
    """Take what is wrong out of *document*; where a key is missing, what lacks it goes, unless a stand-in will do."""
    path: Path = error["loc"]
    return bool(path) and document.cut(path, stand_in=error["type"] != "extra_forbidden")


def _is_echo(error: ErrorDetails) -> bool:
    """Say whether a list is only called too short because its entries were wrong, which is told by itself."""
    return error["type"] == "too_short" and bool(error["input"])


def _finding(document: Document, error: ErrorDetails) -> Finding:
    path: Path = error["loc"]
    key = path[-1] if path else "the inventory"
    where = document.where(path)
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == "rule":
        return Finding(where, str(context["what"]), str(context["remedy"]))
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1])
        remedy = did_you_mean(str(key), known) or f"Keys here are {', '.join(known)}."
        return Finding(where, f"unknown key {key!r}", remedy)
    if kind == "missing":
        return Finding(where, f"the key {key!r} is missing", f"Write `{key}: ...` here.")
    if kind in {"enum", "literal_error"}:
        expected = str(context["expected"]).replace("'", "")
        words = expected.replace(" or ", ", ").split(", ")
        remedy = did_you_mean(str(error["input"]), words) or f"Write {expected}."
        return Finding(where, f"`{key}` cannot be {error['input']!r}", remedy)
    if kind in {"greater_than_equal", "less_than_equal"}:
        limit = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return Finding(where, f"`{key}` cannot be {error['input']}", f"Write a whole number of {limit}.")
    what, remedy = _WORDS.get(kind, (f"is not right: {error['msg']}", "Compare with docs/reference/inventory.md."))
    name = f"`{key}`" if isinstance(key, str) else f"entry {key + 1} of `{path[-2]}`" if len(path) > 1 else "the file"
    return Finding(where, f"{name} {what}", remedy)


def _known_keys(path: Path) -> tuple[str, ...]:
    """Return the keys that may stand in the mapping at *path*."""
    annotation: Any = WrittenFleet
    for part in path:
        model = _model_in(annotation)
        if model is not None and not isinstance(part, int):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            annotation = fields[str(part)].annotation
        else:
            annotation = get_args(_without_none(annotation))[-1 if get_origin(annotation) is dict else 0]
    model = _model_in(annotation)
    return tuple(field.alias or name for name, field in model.model_fields.items()) if model else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    annotation = _without_none(annotation)
    if hasattr(annotation, "__metadata__"):  # Annotated[Model, …]
        annotation = annotation.__origin__
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, types.UnionType}:
        return next(each for each in get_args(annotation) if each is not type(None))
    return annotation


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return *findings* by line, each once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: int(finding.where.rpartition(":")[2])))
