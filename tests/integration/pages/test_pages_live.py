"""What moves while a page is open, what covers what, and where a reader finds what came of what they did."""

from __future__ import annotations

import re
from functools import partial

import pytest
from playwright.sync_api import expect

from api.routes import events
from tests.pages_served import Served
from tests.pages_world import PagesWorld
from workflows import actions
from workflows.journal import runs, tables

pytestmark = [pytest.mark.needs_chromium, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Give a served world of this module's own: things happen in it."""
    with pytest.MonkeyPatch.context() as patch, PagesWorld(tmp_path_factory.mktemp("live")) as world:
        patch.setattr(events, "LOOK_S", 0.05)
        found = world.everything()
        with Served(world) as made:
            made.runs = found
            yield made


def button(page, name):
    return page.locator("#run-actions").get_by_role("link", name=name, exact=True)


# ── what lies over what ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("size", [(390, 667), (1280, 600)])
def test_where_there_is_little_room_the_decision_covers_nothing(opened, size):
    page = opened("gate-go", width=size[0])
    page.set_viewport_size({"width": size[0], "height": size[1]})
    assert page.locator(".decide").evaluate("(one) => getComputedStyle(one).position") == "static"
    page.locator(".head").get_by_role("link", name="Decide").click()
    expect(page.get_by_role("button", name="Approve")).to_be_in_viewport()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_settings_are_no_wider_than_the_window(served, opened, width):
    served.world.journal.write(partial(_with_password, name="olivia"))
    page = opened("settings", width=width)
    expect(page.locator("input[name=username]")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def _with_password(tx, *, name):
    tx.connection.execute(tables.account.update().where(tables.account.c.name == name).values(password="x"))


def test_on_a_phone_each_cell_of_a_table_says_what_it_is(opened):
    page = opened("runs", width=390)
    cell = page.locator("tbody tr").first.locator("td").nth(2)
    assert cell.evaluate("(one) => getComputedStyle(one, '::before').content") == '"Kind: "'


def test_the_time_of_a_gate_in_the_timeline_runs_on(served, opened):
    page = opened("run")
    page.goto(f"{served.address}/runs/{served.runs['go']}")
    band = page.locator(".gantt [data-since]")
    before = band.first.text_content()
    expect(band.first).not_to_have_text(before, timeout=5000)


# ── what moves ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def run(served):
    """Give a run that waits at its first gate, and end it afterwards: tests come in any order."""
    begun = served.world.renewal("lab")
    served.world.advance(begun)
    yield begun
    end(served.world.journal, begun)


def end(journal, run):
    actions.cancel(journal, run, by="olivia", reason="enough")
    journal.write(lambda tx: runs.close_run(tx, run, "cancelled"))


def test_an_open_page_of_a_gate_tells_what_was_decided_elsewhere(served, opened, run):
    page = opened("inbox")
    page.goto(f"{served.address}/runs/{run}/gates/lab/sign")
    page.locator("#why").fill("I am still writing")
    served.world.decide(run, "sign")
    expect(page.locator("#gate-now")).to_contain_text("anna approved it at")
    expect(page.locator("#why")).to_have_value("I am still writing")
    page.locator("#gate-now").get_by_role("link").click()
    expect(page.locator("#gate-now")).to_be_empty()


def test_the_buttons_of_a_run_and_its_end_are_live(served, opened, run):
    journal = served.world.journal
    page = opened("run")
    page.goto(f"{served.address}/runs/{run}")
    expect(page.locator(".live-dot")).to_have_text("Live")
    expect(page.locator("#inbox-count")).to_have_text(re.compile("^[1-9] waiting"))
    before = int(page.locator("#inbox-count").inner_text().split()[0])
    expect(button(page, "Pause")).to_be_visible()
    button(page, "Cancel").focus()
    actions.pause(journal, run, by="olivia", reason="lunch")
    expect(button(page, "Resume")).to_be_visible()
    expect(button(page, "Pause")).to_have_count(0)
    expect(button(page, "Cancel")).to_be_focused()
    actions.resume(journal, run, by="olivia")
    expect(button(page, "Pause")).to_be_visible()
    expect(button(page, "Resume")).to_have_count(0)
    served.world.decide(run, "sign")
    expect(page.locator("#inbox-count")).to_have_text(re.compile(f"^{before - 1}"), use_inner_text=False)
    end(journal, run)
    expect(page.locator(".live-dot")).to_have_text("The run is over")
    expect(button(page, "Cancel")).to_have_count(0)
    expect(button(page, "Pause")).to_have_count(0)


def test_the_number_of_the_inbox_follows_on_any_page(served, opened, run):
    page = opened("journal")
    page.clock.install()
    page.reload()
    before = int(page.locator("#inbox-count").inner_text().split()[0])
    served.world.decide(run, "sign")
    page.clock.fast_forward(31_000)
    expect(page.locator("#inbox-count")).to_have_text(re.compile(f"^{before - 1}"))


# ── what came of a delivery ──────────────────────────────────────────────────────────────────────────────────────────
def test_what_came_of_a_delivery_is_in_sight_and_has_the_focus(served, opened):
    served.world.decide(served.runs["sign"], "sign")
    page = opened("run")
    page.goto(f"{served.address}/runs/{served.runs['sign']}/gates/london/sign")
    expect(page.get_by_text("They are sent as soon as")).to_be_visible()
    expect(page.get_by_role("button", name="Deliver")).to_have_count(0)
    page.locator("input[type=file]").set_input_files(
        {"name": "note.txt", "mimeType": "text/plain", "buffer": b"no certificate"}
    )
    result = page.locator("#delivery")
    expect(result).to_be_focused()
    expect(result.get_by_role("heading")).to_be_in_viewport()


def test_files_that_are_too_large_are_not_sent(served, opened):
    served.world.decide(served.runs["sign"], "sign")
    page = opened("run")
    page.goto(f"{served.address}/runs/{served.runs['sign']}/gates/london/sign")
    page.locator("input[type=file]").set_input_files(
        {"name": "much.zip", "mimeType": "application/zip", "buffer": b"0" * 20_000_001}
    )
    expect(page.get_by_text("These files are more than 20 MB")).to_be_visible()


def test_without_a_script_there_is_a_button_to_deliver(served, opened):
    served.world.decide(served.runs["sign"], "sign")
    page = opened("run", java_script_enabled=False)
    page.goto(f"{served.address}/runs/{served.runs['sign']}/gates/london/sign")
    expect(page.get_by_text("They are sent as soon as")).not_to_be_visible()
    page.locator("input[type=file]").set_input_files(
        {"name": "note.txt", "mimeType": "text/plain", "buffer": b"no certificate"}
    )
    page.get_by_role("button", name="Deliver").click()
    expect(page.locator("#delivery").get_by_role("heading")).to_be_in_viewport()
