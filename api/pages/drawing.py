"""Drawing a page: one Jinja environment (autoescape on) and what every page has in its frame.

A page function gathers values by the same route functions as the API and calls `draw`. Nothing inline: the
Content-Security-Policy allows no script and no style but our own files (`api/protect.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from api.here import server
from api.pages import sentences, texts, words
from workflows.journal import gates
from workflows.people import Permission, Person

STATIC = Path(__file__).parents[1] / "static"
THEME_COOKIE = "certbridge_theme"
THEMES = ("light", "dark")


def draw(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return *template* with *values* in the reader's language."""
    texts.speak(texts.language_of(request))
    page = _environment().get_template(template)
    return HTMLResponse(page.render(_frame(request) | values), status)


def now() -> datetime:
    """Return the time by which pages say how long ago something was."""
    return datetime.now(UTC)


def narrowed(path: str, asked: Mapping[str, str]) -> str:
    """Return the address of *path* with what is *asked* of it, to be followed by one more: "/runs?kind=survey&"."""
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{path}?{query}&" if query else f"{path}?"


def theme_of(request: Request) -> str:
    """Return "light", "dark", or "" for what the system says."""
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else ""


def _frame(request: Request) -> dict[str, Any]:
    person: Person | None = getattr(request.state, "person", None)
    return {
        "request": request,
        "path": request.url.path,
        "here_url": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "person": person,
        "may": person.may if person else lambda *_: False,
        "P": Permission,
        "language": texts.spoken(),
        "languages": texts.LANGUAGES,
        "theme": theme_of(request),
        "inbox": _inbox(request, person),
        "moved": False,
        "units": texts.units(),
        "now": now(),
    }


def _inbox(request: Request, person: Person | None) -> int:
    """Return how many gates wait for a decision that *person* may see."""
    if person is None or not person.may(Permission.READ):
        return 0
    seen = person.clusters(Permission.READ)
    open_now = server(request).journal.read(gates.open_by_lane)
    return sum(count for lane, count in open_now.items() if seen is None or lane in seen)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("api"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        undefined=jinja2.StrictUndefined,
    )
    environment.install_gettext_callables(texts.gettext, texts.ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.globals |= {"asset": asset, "words": words}
    environment.filters |= {
        "moment": _moment,
        "clock": _clock,
        "day": texts.day,
        "number": texts.number,
        "lasting": texts.lasting,
        "since": _since,
        "word": words.word,
        "mark": words.mark,
        "stage": words.stage,
        "said": sentences.said,
        "plainly": sentences.plainly,
        "original": sentences.original,
    }
    return environment


@cache
def asset(name: str) -> str:
    """Return the address of a static file; it changes with the file, so that browsers may keep it for long."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{digest}"


def _moment(at: datetime | str | None, *, seconds: bool = False) -> Markup:
    """Return a time with its machine form beside it and its zone in the title; the script adds the reader's own time.

    A text is what a problem carries along; one that is no time is shown as it is.
    """
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            return escape(at)
    return Markup("") if at is None else _time(at, texts.moment(at, seconds=seconds))


def _clock(at: datetime | None) -> Markup:
    return Markup("") if at is None else _time(at, texts.clock(at))


def _time(at: datetime, said: str, look: str = "") -> Markup:
    drawn = Markup('<time{} datetime="{}" title="{}">{}</time>')
    named = Markup(' class="{}"').format(look) if look else ""
    return drawn.format(named, at.isoformat(timespec="seconds"), texts.in_utc(at), said)


def _since(at: datetime | None, until: datetime | None = None) -> Markup:
    """Return how long ago *at* is; without *until* the script lets it run on."""
    if at is None:
        return Markup("")
    said = texts.lasting(((until or now()) - at).total_seconds())
    if until is not None:
        return Markup("<span>{}</span>").format(said)
    return _time(at, said, "since")
