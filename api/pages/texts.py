"""The words of the pages in the reader's language, and times, lengths of time and numbers as that language writes them.

Texts in the code are English and the keys of the catalogues in `api/locale`; `certbridge.pot` lists them all, and each
language has one `.po` file that Babel reads at the first request. Sentences of the core, as those of plans and of
problems, are English there and told in the reader's language where they are shown (`api.pages.sentences`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from babel import Locale, dates, numbers
from babel.messages.pofile import read_po
from fastapi import Request

LOCALE = Path(__file__).parents[1] / "locale"
LANGUAGES: Mapping[str, str] = {"en": "English", "ko": "한국어"}
"""Each language by its own name."""
COOKIE = "certbridge_language"
_language: ContextVar[str] = ContextVar("language", default="en")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language: {English: (form, …)}; what is missing is told in English."""

    texts: Mapping[str, tuple[str, ...]]


@cache
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of *language*; English is what stands in the code."""
    if language == "en":
        return Catalogue({})
    with (LOCALE / language / "certbridge.po").open("rb") as file:
        read = read_po(file, locale=language)
    found: dict[str, tuple[str, ...]] = {}
    for message in read:
        key = message.id if isinstance(message.id, str) else message.id[0]
        forms = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
        if key and all(forms) and not message.fuzzy:
            found[key] = forms
    return Catalogue(found)


def speak(language: str) -> None:
    """Let everything that is said in this context from now on be in *language*."""
    _language.set(language if language in LANGUAGES else "en")


def spoken() -> str:
    """Return the language that is spoken in this context."""
    return _language.get()


def language_of(request: Request) -> str:
    """Return the language of whoever asks: what was chosen, else the first that the browser names and we know."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    wanted: list[tuple[float, str]] = []
    for part in request.headers.get("accept-language", "").split(","):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        wanted.append((-weight, name.partition("-")[0].lower()))
    return next((name for weight, name in sorted(wanted, key=lambda one: one[0]) if weight and name in LANGUAGES), "en")


def gettext(text: str) -> str:
    """Return *text* in the spoken language."""
    return catalogue(spoken()).texts.get(text, (text,))[0]


def ngettext(one: str, many: str, count: int) -> str:
    """Return *one* or *many* in the spoken language, as it fits *count*."""
    forms = catalogue(spoken()).texts.get(one)
    if forms is None:
        return one if count == 1 else many
    return forms[0 if count == 1 or len(forms) == 1 else 1]


def N_(text: str) -> str:  # noqa: N802 - the name by which catalogues are made
    """Return *text* as it is; it is translated where it is shown, and stands in the catalogues by this."""
    return text


_ = gettext


def moment(at: datetime | None, *, seconds: bool = False) -> str:
    """Return a time as the language writes it, in UTC: "26 Nov 2026, 14:05"."""
    if at is None:
        return ""
    pattern = _("d MMM y, HH:mm")
    pattern = pattern.replace("mm", "mm:ss") if seconds else pattern
    return str(dates.format_datetime(at.astimezone(UTC), pattern, tzinfo=UTC, locale=_locale()))


def in_utc(at: datetime) -> str:
    """Return a time with its zone, as a title tells it: "2026-11-26 15:45:55 UTC"."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(at: datetime | None) -> str:
    """Return the time of day with seconds, in UTC."""
    return "" if at is None else f"{at.astimezone(UTC):%H:%M:%S}"


def day(at: datetime | None) -> str:
    """Return a date as the language writes it."""
    return "" if at is None else str(dates.format_date(at.astimezone(UTC), _("d MMM y"), locale=_locale()))


def number(value: float) -> str:
    """Return a number with the separators of the language."""
    return str(numbers.format_decimal(value, locale=_locale()))


def lasting(seconds: float | None) -> str:
    """Return a length of time in its two largest units: "2 h 5 min", "37 s"."""
    if seconds is None:
        return ""
    left = max(0, round(seconds))
    if left < 1:
        return _("under 1 s")
    parts: list[str] = []
    for size, text in ((86400, _("%(n)s d")), (3600, _("%(n)s h")), (60, _("%(n)s min")), (1, _("%(n)s s"))):
        count, left = divmod(left, size)
        if count:
            parts.append(text % {"n": count})
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def units() -> str:
    """Return the units of `lasting` for the script that lets lengths of time run on: "d|h|min|s"."""
    return "|".join((_("%(n)s d"), _("%(n)s h"), _("%(n)s min"), _("%(n)s s"))).replace("%(n)s", "#")


def span(from_s: float, to_s: float) -> str:
    """Return a predicted length of time: "40 s to 18 min"."""
    if from_s == to_s:
        return lasting(to_s)
    return _("%(a)s to %(b)s") % {"a": lasting(from_s) if from_s else _("0 s"), "b": lasting(to_s)}


@cache
def _locale_of(language: str) -> Locale:
    return Locale.parse(language if language != "en" else "en_GB")


def _locale() -> Locale:
    return _locale_of(spoken())
