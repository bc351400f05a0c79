"""The catalogues: every text of pages stands in them, and every language has all of them."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from babel.messages.pofile import read_po

from api.pages import extract, texts

API = Path(extract.API)
TEMPLATES = sorted(path for path in (API / "templates").rglob("*.html") if path.name != "report.html")
MODULES = sorted(path for path in (API / "pages").glob("*.py") if path.name != "extract.py")
LETTERS = re.compile(r"[^\W\d_]{2,}")
SPOKEN = ("aria-label", "title", "placeholder", "alt", "data-on", "data-off")
NAMES = {"certbridge", "SHA", "Enter", "sftp", "OpenAPI", "Flower", "HTTP"}
"""What is the same in every language."""


class _Texts(HTMLParser):
    """Collects what a reader would see or hear of a template's literal parts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in SPOKEN and value]


def outside(source: str) -> list[str]:
    """Return the literal texts of a template that stand in no {% trans %} and no _()."""
    literal, in_trans = [], False
    tokens = list(jinja2.Environment().lex(source))
    name = ""
    for number, (_line, kind, value) in enumerate(tokens):
        if kind == "block_begin":
            name = next(text for _, what, text in tokens[number + 1 :] if what == "name")
            in_trans = {"trans": True, "endtrans": False}.get(name, in_trans)
        elif kind == "data":
            literal.append("" if in_trans else value)
        elif kind == "variable_begin":
            literal.append("0")  # something stands here, so that attributes stay whole
    parser = _Texts()
    parser.feed("".join(literal))
    words = [word for text in parser.found for word in LETTERS.findall(text)]
    return [word for word in words if word not in NAMES]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_text_outside_the_catalogues(path):
    assert outside(path.read_text()) == []


def test_a_text_outside_is_found():
    assert outside("<p>Hello {{ name }}</p>") == ["Hello"]
    assert outside('<a title="Hello">{% trans %}inside{% endtrans %}</a>') == ["Hello"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_says_no_literal_sentence_in_an_expression(path):
    tokens = [one for one in jinja2.Environment().lex(path.read_text()) if one[1] != "whitespace"]
    said = [
        value
        for number, (_, kind, value) in enumerate(tokens)
        if kind == "string" and re.search(r"[a-z]{2,} [a-z]{2,}|^.[A-Z][a-z]+.$", value)
        if [tokens[number - 2][2], tokens[number - 1][2]] != ["_", "("]
    ]
    assert said == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_of_the_pages_says_no_sentence_outside_the_catalogues(path):
    tree = ast.parse(path.read_text())
    inside: set[int] = set()
    for node in ast.walk(tree):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        said = called in {"_", "N_", "gettext", "ngettext"} or isinstance(node, ast.Raise | ast.Expr)
        attribute = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if said or (attribute and node.func.attr in {"gettext", "ngettext"}):
            inside |= {id(child) for child in ast.walk(node)}
    found = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside
        if re.search(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}|^[A-Z][a-z]+ [a-z]+$", node.value)
    ]
    assert found == []


def test_the_list_of_texts_is_the_one_that_pages_and_code_say():
    """`make texts` makes it anew."""
    kept = (extract.LOCALE / "certbridge.pot").read_bytes()
    assert kept == extract.rendered(extract.template())


@pytest.mark.parametrize("language", [one for one in texts.LANGUAGES if one != "en"])
def test_every_text_is_translated_and_none_is_uncertain(language):
    with (extract.LOCALE / language / "certbridge.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    wanted = extract.texts_of(extract.template())
    assert extract.texts_of(catalogue) == wanted
    assert [one.id for one in catalogue if one.id and (one.fuzzy or not one.string or not all(one.string))] == []


@pytest.mark.parametrize("language", [one for one in texts.LANGUAGES if one != "en"])
def test_a_translation_names_the_same_values(language):
    with (extract.LOCALE / language / "certbridge.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    for one in catalogue:
        if not one.id:
            continue
        ids = {one.id} if isinstance(one.id, str) else set(one.id)
        forms = {one.string} if isinstance(one.string, str) else set(one.string)
        wanted = set().union(*(re.findall(r"%\(\w+\)s", text) for text in ids))
        assert all(set(re.findall(r"%\(\w+\)s", text)) == wanted for text in forms), one.id


@pytest.mark.parametrize(
    ("language", "seconds", "said"),
    [
        ("en", 0.2, "under 1 s"),
        ("en", 37, "37 s"),
        ("en", 7500, "2 h 5 min"),
        ("en", 86400, "1 d"),
        ("ko", 7500, "2시간 5분"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(language, seconds, said):
    texts.speak(language)
    assert said == texts.lasting(seconds)


def test_times_are_written_as_the_language_does():
    at = datetime(2026, 11, 6, 14, 5, tzinfo=UTC)
    texts.speak("ko")
    assert texts.moment(at) == "2026년 11월 6일 14:05"
    texts.speak("en")
    assert texts.moment(at) == "6 Nov 2026, 14:05"


def test_an_unknown_language_is_english():
    texts.speak("tlh")
    assert texts.spoken() == "en"
