"""What modules of the core say, read from their source: every literal sentence, with "7" where a value stands."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from workflows import errors

ROOT = Path(__file__).parents[3]
VALUE = "7"
"""Stands for every value: it fits a name, a number, a list and a sentence."""
MADE = {"Finding", "plain_problem"} | {
    name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.CertbridgeError)
}
_SENTENCE = re.compile(r"[A-Za-z`]\S* \S+ \S+")


def sentences_in(module: str) -> dict[str, int]:
    """Return {sentence: line} of what *module* ("workflows/gate.py") says in three words or more, but docstrings."""
    tree = ast.parse((ROOT / module).read_text())
    found: dict[str, int] = {}
    for node in _outermost(tree):
        for text in _variants(node):
            if _SENTENCE.search(text) and not text.startswith("(?"):
                found.setdefault(text, node.lineno)
    return found


def messages_in(module: str) -> dict[str, int]:
    """Return {sentence: line} of the first lines of the docstrings of classes: the messages of errors."""
    tree = ast.parse((ROOT / module).read_text())
    docs = {node: ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return {doc.splitlines()[0]: node.lineno for node, doc in docs.items() if doc}


def _outermost(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield every expression that makes a text, as a whole: sums of texts are one text."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    def look(node: ast.AST) -> Iterator[ast.expr]:
        if id(node) in docs and isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            yield node
            inside = [one.value for one in getattr(node, "values", ()) if isinstance(one, ast.FormattedValue)]
            for each in inside:
                yield from look(each)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _texts(node):
            yield node
        else:
            for child in ast.iter_child_nodes(node):
                yield from look(child)

    yield from look(tree)


def _texts(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr | ast.IfExp)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        or (isinstance(side, ast.BinOp) and _texts(side))
        for side in (node.left, node.right)
    )


def _variants(node: ast.expr) -> list[str]:
    """Return what *node* can say, one text for each way that its conditions go."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else [VALUE]
    if isinstance(node, ast.JoinedStr):
        return _joined([_variants(one) for one in node.values])
    if isinstance(node, ast.FormattedValue):
        every = _variants(node.value) if isinstance(node.value, ast.IfExp) else [VALUE]
        return [f"'{one}'" for one in every] if node.conversion == ord("r") else every
    if isinstance(node, ast.IfExp):
        return [*_variants(node.body), *_variants(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([_variants(node.left), _variants(node.right)])
    return [VALUE]


def _joined(parts: list[list[str]]) -> list[str]:
    return ["".join(one) for one in itertools.islice(itertools.product(*parts), 64)]


def refusals_in(module: str) -> dict[str, int]:
    """Return {sentence: line} of what errors and findings are made with in *module*: message, what, remedy."""
    tree = ast.parse((ROOT / module).read_text())
    found: dict[str, int] = {}
    for scope in [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]:
        calls = [one for one in ast.walk(scope) if isinstance(one, ast.Call) and _name(one.func) in MADE]
        given = [arg for call in calls for arg in (*call.args, *(key.value for key in call.keywords if _told(key)))]
        names = {one.id for arg in given for one in ast.walk(arg) if isinstance(one, ast.Name)}
        given += [
            one.value
            for one in (*ast.walk(scope), *tree.body)
            if isinstance(one, ast.Assign) and {_name(target) for target in one.targets} & names
        ]
        for node in (each for arg in given for each in _outermost(arg)):
            for text in _variants(node):
                if _SENTENCE.search(text):
                    found.setdefault(text, node.lineno)
    return found


def _told(key: ast.keyword) -> bool:
    return key.arg in {"remedy", "message", "what"}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
