"""Pages by keyboard, on a phone, and without a script: what people do with them, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.pages_served import PAGES

pytestmark = [pytest.mark.needs_chromium, pytest.mark.timeout(180)]


# ── by keyboard ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_tab_is_a_way_past_the_menu(opened):
    page = opened("fleet")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_j_and_k_go_through_a_list_and_enter_opens(opened):
    page = opened("runs")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("a.row").nth(1)
    expect(second).to_be_focused()
    page.keyboard.press("k")
    expect(page.locator("a.row").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(second).to_be_focused()
    wanted = second.inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(wanted)


def test_a_question_mark_shows_the_keys_and_escape_closes_them(opened):
    page = opened("runs")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).not_to_be_visible()


def test_g_and_a_letter_lead_to_a_page(opened):
    page = opened("fleet")
    page.keyboard.press("g")
    page.keyboard.press("i")
    expect(page.get_by_role("heading", level=1)).to_have_text("Inbox")


def test_keys_are_letters_where_somebody_types(opened):
    page = opened("runs")
    page.keyboard.press("/")
    expect(page.locator("#f-kind")).to_be_focused()
    page.locator("#f-by").click()
    page.keyboard.type("j?k")
    expect(page.locator("#f-by")).to_have_value("j?k")
    expect(page.locator("#keys")).not_to_be_visible()


def test_what_has_the_focus_is_seen(opened):
    page = opened("fleet")
    for _ in range(4):
        page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{style}.outlineStyle") == "solid"
    assert page.evaluate(f"parseFloat({style}.outlineWidth)") >= 2


# ── on a phone ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "language"),
    [
        *((name, "en") for name in PAGES),
        *((name, "ko") for name in ("fleet", "run", "gate-go", "gate-database", "plan")),
    ],
)
def test_a_page_is_no_wider_than_a_phone(opened, name, language):
    page = opened(name, width=360, locale=language)
    wider = """[...document.querySelectorAll("main *")].filter((one) => !one.closest(".scroll, .hidden, svg")
        && one.getBoundingClientRect().right > 361).slice(0, 3).map((one) => one.outerHTML.slice(0, 120))"""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.evaluate(wider)


# ── light and dark, and moving ───────────────────────────────────────────────────────────────────────────────────────
def test_the_switch_turns_light_to_dark_and_it_stays_so(opened):
    page = opened("fleet", color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light or dark").click()
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after


def test_nothing_moves_for_those_who_want_it_so(opened):
    page = opened("run", reduced_motion="reduce")
    moving = (
        "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).animationName !== 'none').length"
    )
    assert page.evaluate(moving) == 0


# ── without a script ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_language_theme_and_filters_work_without_a_script(opened):
    page = opened("runs", java_script_enabled=False)
    page.get_by_role("button", name="한국어").click()
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    page.locator("[data-theme-switch]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#f-kind").select_option("database")
    page.locator(".filters button").click()
    expect(page.locator("a.row")).to_have_count(1)


def test_nothing_is_loaded_from_elsewhere(served, browser):
    context = browser.new_context()
    asked: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served.address}/sign-in")
    context.close()
    assert [one for one in asked if not one.startswith((served.address, "data:"))] == []
