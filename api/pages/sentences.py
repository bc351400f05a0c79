"""Sentences of plans, runs and problems in the reader's language, found again by their templates when they are shown.

The core speaks English alone: a plan's digest covers its sentences, so they are the same for all who approve it. Here
a sentence is matched with the templates of `api.pages.sayings`, which are the keys of the catalogues, and said anew
with the same values. A sentence that no template fits is shown as it is, marked as English.

Names of placeholders say what they hold: `WORDS` one word, `NAMES` words with commas, `SAID` a sentence of its own,
`CALLED` a word of the engine that has a name on pages, `ANYTHING` the words of somebody else, everything else what has
no semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from markupsafe import Markup, escape

from api.pages import particles, texts, words
from api.pages.sayings import accounts, deliveries, errors, plans, refusals, runs

WORDS = frozenset(
    {"backup", "ca", "cluster", "date", "file", "key", "lane", "limit", "m", "n", "name", "node", "part", "primary"}
    | {"process", "run", "service", "usage", "value"}
)
NAMES = frozenset({"files", "gates", "lanes", "names", "nodes", "stores"})
SAID = frozenset({"also", "count", "deed", "ending", "failed", "how", "left", "stay", "waits", "what", "when", "why"})
CALLED = frozenset({"gate", "permission", "role", "status", "word"})
ANYTHING = frozenset({"reason", "reply", "said", "text"})
LONGEST = 2000
"""A longer text is a server's or a library's; it is shown as it is."""
MOST_PIECES = 40
"""A text of more pieces is not taken apart."""
_BETWEEN = ("\n", ". ", "; ", ": ")
TEMPLATES: tuple[str, ...] = (
    *plans.TEMPLATES,
    *errors.TEMPLATES,
    *refusals.TEMPLATES,
    *accounts.TEMPLATES,
    *deliveries.TEMPLATES,
    *runs.TEMPLATES,
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_NAME = r"[^\s,;]*[^\s,;.]"
_LIST = rf"{_NAME}(?:, {_NAME})*?(?: and \d+ more)?"
_MORE = re.compile(r"(.+) and (\d+) more")
_PLACE = re.compile(_LIST)
"""Before a colon: who or what the sentence is about."""
_SENTENCE = re.compile(r"[A-Za-z]{2,} [a-z]{2,}")


@dataclass(frozen=True, slots=True)
class Template:
    """A template as a pattern that fits a whole sentence; *literal* are its own words, in order."""

    text: str
    pattern: re.Pattern[str]
    literal: tuple[str, ...]


_WORD = re.compile(r"[A-Za-z]+")
"""How sentences and templates are cut into words, to find templates quickly."""


@cache
def templates() -> tuple[Template, ...]:
    """Return all templates; the one with most words of its own comes first, so the most specific one is found."""
    every = [compiled(text) for text in dict.fromkeys(TEMPLATES)]
    return tuple(sorted(every, key=lambda one: -sum(map(len, one.literal))))


def compiled(text: str) -> Template:
    """Return the pattern of a template; a placeholder that comes twice must hold the same twice."""
    pieces = _PLACEHOLDER.split(text)
    literal = pieces[::2]
    pattern = re.escape(literal[0])
    seen: set[str] = set()
    for name, after in zip(pieces[1::2], literal[1:], strict=True):
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_shape(name)})"
        pattern += re.escape(after)
        seen.add(name)
    return Template(text, re.compile(pattern), tuple(literal))


@lru_cache(maxsize=8192)
def find(sentence: str) -> tuple[str, Mapping[str, str]] | None:
    """Return (template, values) of a sentence as a whole; None when no template fits."""
    index, every = _index(), templates()
    there = {number for word in {"", *_WORD.findall(sentence)} for number in index.get(word, ())}
    for one in (every[number] for number in sorted(there)):
        if _holds(sentence, one.literal) and (found := one.pattern.fullmatch(sentence)):
            return one.text, found.groupdict()
    return None


@cache
def _index() -> Mapping[str, tuple[int, ...]]:
    """Return {word: numbers of the templates that need it}: of each its longest word, "" where it has none."""
    found: dict[str, tuple[int, ...]] = {}
    for number, one in enumerate(templates()):
        # A word that touches a placeholder may be longer in the sentence.
        own = re.findall(r"(?<![\w{}])[A-Za-z]+(?![\w{}])", one.text)
        key = max(own, key=len, default="")
        found[key] = (*found.get(key, ()), number)
    return found


def said(text: str | None) -> Markup:
    """Return a sentence of the core in the spoken language; what stays English is marked so."""
    return _said(texts.spoken(), text or "")


def plainly(text: str | None) -> str:
    """Return the same without marks, for places that take none: titles of pages and of drawings."""
    return said(text).striptags()


def original(text: str | None) -> str:
    """Return *text* where it was shown in another language, for the eyes of those who approve; else ""."""
    text = text or ""
    return text if said(text) not in {escape(text), _english(text)} else ""


@lru_cache(maxsize=4096)
def _said(language: str, text: str) -> Markup:
    # The language is a part of the key of what is remembered.
    if language == "en" or not text.strip() or len(text) > LONGEST:
        return _as_it_is(language, text)
    return _whole(text) or _parts(text) or _english(text)


def _as_it_is(language: str, text: str) -> Markup:
    return escape(text) if language == "en" else _english(text)


def _english(text: str) -> Markup:
    return Markup('<span lang="en">{}</span>').format(text) if text.strip() else escape(text)


def _whole(text: str) -> Markup | None:
    """Return *text* by the template that fits it as a whole; None without one, or without a translation."""
    found = find(text)
    if found is None:
        return None
    template, values = found
    translated = texts.gettext(template)
    if translated == template and texts.spoken() != "en":
        return None
    filled, word = Markup(""), ""
    for number, piece in enumerate(_PLACEHOLDER.split(translated)):
        if number % 2:
            value = _value(piece, values[piece])
            filled, word = filled + value, value.striptags()
        else:
            filled += escape(particles.after(word, piece))
    return filled


def _value(name: str, value: str) -> Markup:
    if name in CALLED:
        return escape(words.word(value))
    if name in NAMES and (found := _MORE.fullmatch(value)):
        more = texts.ngettext("and %(n)s more", "and %(n)s more", int(found[2])) % {"n": found[2]}
        return escape(f"{found[1]} {more}")
    if name not in SAID:
        return escape(value)
    # Times and names stand there, too: they are no language.
    return _whole(value) or _parts(value) or (_english(value) if _SENTENCE.search(value) else escape(value))


def _parts(text: str) -> Markup | None:
    """Return *text* piece by piece: lines, sentences, what stands between semicolons, and what a name is said of."""
    before, colon, after = text.partition(": ")
    if sum(map(text.count, _BETWEEN)) > MOST_PIECES:
        return None
    if colon and _PLACE.fullmatch(before) and (rest := _whole(after)) is not None:
        return escape(before) + colon + rest
    for between in _BETWEEN[:3]:
        pieces = text.split(between)
        if len(pieces) > 1:
            dot = between.strip() == "."
            found = [_piece(one, dot=dot and number + 1 < len(pieces)) for number, one in enumerate(pieces)]
            if any(one is not None for one in found):
                shown = [_english(one) if ours is None else ours for one, ours in zip(pieces, found, strict=True)]
                return escape(between).join(shown)
    if colon and after:
        name = escape(before) if _PLACE.fullmatch(before) else _whole(before)
        rest = _whole(after) or _parts(after)
        if name is not None and rest is not None:
            return name + colon + rest
    return None


def _piece(text: str, *, dot: bool) -> Markup | None:
    """Return one piece, None when it is not known; *dot*: it stood before a full stop that was cut off."""
    if dot and (found := _whole(f"{text}.")) is not None:
        return found.removesuffix(".")
    if found := _whole(text) or _parts(text):
        return found
    # Findings and sentences that are joined to one text gain a full stop, or lose it.
    for other in (text.removesuffix("."), f"{text}."):
        if other != text and (found := _whole(other)) is not None:
            return found + "." if len(other) < len(text) else found.removesuffix(".")
    return None


def _holds(sentence: str, literal: Iterable[str]) -> bool:
    """Return whether the words of a template stand in *sentence* in this order: quick, before the pattern is tried."""
    place = 0
    for piece in literal:
        place = sentence.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


def _shape(name: str) -> str:
    if name in WORDS | CALLED:
        return r"\S*?[^\s.]"
    if name in NAMES:
        return _LIST
    # A full stop behind it is that of the sentence.
    return r"[\s\S]+" if name in SAID | ANYTHING else r"[^;\n]*?[^;\n.]"
