"""Make pages/*.webp: every page in light, dark and Korean, from a journal that `tests/pages_world.py` fills.

The application is served on loopback and looked at with the system's Chromium, so what the pictures show is what people
see. Run it from the top of the tree: `.venv/bin/python docs/images/make_screenshots.py [NAME…]` (a minute).
"""

# ruff: noqa: INP001, E402 - a program beside the pictures that it makes; docs/ is no package

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "tests")]

from playwright.sync_api import Browser, sync_playwright

from tests.pages_served import Served
from tests.pages_world import PagesWorld

TARGET = Path(__file__).with_name("pages")
LOOKS = {"light": ("light", "en"), "dark": ("dark", "en"), "ko": ("light", "ko")}


def main() -> int:
    """Write the pictures of the pages that are named, of all without a name."""
    wanted = set(sys.argv[1:])
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, PagesWorld(Path(folder)) as world:
        runs = world.everything()
        with Served(world) as served, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for name, (by, path) in served.pages(runs).items():
                if not wanted or name in wanted:
                    for look in LOOKS:
                        _take(browser, served, name, look, by, path)
            browser.close()
    return 0


def _take(browser: Browser, served: Served, name: str, look: str, by: str, path: str) -> None:
    scheme, language = LOOKS[look]
    served.world.beat()
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 820}, locale=language)  # type: ignore[arg-type]
    if by:
        context.add_cookies([{"name": "certbridge", "value": served.session(by), "url": served.address}])
    page = context.new_page()
    page.goto(served.address + path)
    page.wait_for_timeout(300)
    height = min(1300, max(700, page.evaluate("document.documentElement.scrollHeight")))
    page.set_viewport_size({"width": 1200, "height": height})
    target = TARGET / f"{name}-{look}.webp"
    # Playwright knows no WebP; the browser does.
    session = context.new_cdp_session(page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    target.write_bytes(base64.b64decode(taken["data"]))
    sys.stdout.write(f"{target.name} {target.stat().st_size // 1000} kB\n")
    context.close()


if __name__ == "__main__":
    raise SystemExit(main())
