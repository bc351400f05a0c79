"""A filled journal behind a port of this machine, and the system's Chromium to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.pages_served import Served
from tests.pages_world import PagesWorld

Opened = Callable[..., Page]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give a served world; `served.runs` names its runs."""
    with PagesWorld(tmp_path_factory.mktemp("pages")) as world:
        runs = world.everything()
        with Served(world) as made:
            made.runs = runs
            yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a browser; for no longer than a module, since Playwright's loop forbids any other in this thread."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(served: Served, browser: Browser) -> Iterator[Opened]:
    """Give a function that opens a page of the world by its name; whatever the CSP refuses is a fault."""
    contexts = []

    def open_page(name: str, *, width: int = 1200, **more: Any) -> Page:
        by, path = served.pages(served.runs)[name]
        context = browser.new_context(viewport={"width": width, "height": 800}, **({"locale": "en"} | more))
        contexts.append(context)
        if by:
            context.add_cookies([{"name": "certbridge", "value": served.session(by), "url": served.address}])
        page = context.new_page()
        page.on("pageerror", lambda error: pytest.fail(f"{name}: {error}"))
        page.on("console", lambda said: pytest.fail(said.text) if "Content Security Policy" in said.text else None)
        page.goto(served.address + path)
        return page

    yield open_page
    for one in contexts:
        one.close()
