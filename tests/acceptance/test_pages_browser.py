"""Show 1: people at a browser renew a cluster, from sign-in to the last green cell; a real engine and simulator behind.

An operator signs in, plans and starts; an approver signs in, sees the plan and approves; signed certificates are
dropped in; *go*; the grid goes green without the page being loaded again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from acceptance_engine import Engine, Shape, started
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from renewing import rewrite

from api.auth.passwords import Passwords
from tests.ca import make_ca, pem
from tests.pages_served import Served
from workflows import papers
from workflows.journal import accounts
from workflows.people import Grant, Role
from workflows.plan import Plan

pytestmark = [pytest.mark.needs_chromium, pytest.mark.timeout(180)]
PASSWORD = "a sentence that is long enough"
PEOPLE = {"olivia": Role.OPERATOR, "anna": Role.APPROVER, "arthur": Role.APPROVER}
DROP = """([target, files]) => {
    const carried = new DataTransfer();
    for (const [name, data] of files) {
        carried.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
    }
    document.querySelector(target).dispatchEvent(
        new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with started(Shape(clusters=1, nodes=2)) as made:
        rewrite(made, by_hand)
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield launched
        launched.close()


def by_hand(inventory: dict[str, Any]) -> None:
    """Let people bring the certificates; the simulated fleet's own CA would sign by itself."""
    inventory["defaults"]["issuer"] = "manual"


def add_people(engine: Engine) -> None:
    """Make the accounts, each with the same password."""
    for name, role in PEOPLE.items():
        account = engine.journal.write(partial(accounts.add, name=name, by="test", grants=[Grant(role)]))
        hashed = Passwords().hash(PASSWORD)
        engine.journal.write(partial(accounts.set_password, account=account, argon2id=hashed, by="test"))


def signed_in(browser: Browser, served: Served, name: str) -> Page:
    """Return a page of somebody who typed name and password."""
    context: BrowserContext = browser.new_context(viewport={"width": 1200, "height": 900}, locale="en")
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: pytest.fail(f"{name}: {error}"))
    page.on("console", lambda said: pytest.fail(said.text) if "Content Security Policy" in said.text else None)
    page.goto(f"{served.address}/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Fleet")
    return page


def signed_files(engine: Engine, run: str) -> list[list[str]]:
    """Return what the CA sends back: [[file name, content in base64], …], one with the issuers."""
    ca = make_ca(now=datetime.now(UTC))
    plan = Plan.from_json(engine.journal.plan(run))
    csrs = papers.requests_of(engine.journal, run, plan, plan.lanes[0].name)
    files = [(f"{n}.pem", pem(ca.deliver(seen.pem).everything)) for n, seen in enumerate(csrs.values())]
    return [[name, base64.b64encode(data).decode()] for name, data in files]


def test_two_people_renew_a_cluster_in_the_browser(engine: Engine, browser: Browser) -> None:
    add_people(engine)
    with Served(engine) as served:
        operator = signed_in(browser, served, "olivia")
        operator.get_by_role("button", name="Survey").click()
        expect(operator.locator(".wait.over")).to_contain_text("Everything is done.")

        operator.get_by_role("link", name="Fleet").click()
        operator.get_by_role("link", name="New plan").click()
        operator.get_by_label("What ends within").fill("4000d")
        operator.get_by_role("button", name="Make the plan").click()
        expect(operator.get_by_text("pki csr").first).to_be_visible()
        operator.get_by_role("button", name="Start this run").click()
        expect(operator.locator(".waits-for")).to_contain_text("Waits for a decision at the gate “Sign”.")
        run = operator.url.rpartition("/")[2]
        _mark(operator)

        approver = signed_in(browser, served, "anna")
        expect(approver.locator("nav .count")).to_contain_text("1")
        approver.get_by_role("link", name="Inbox").click()
        approver.get_by_role("link", name="Look and decide").click()
        expect(approver.get_by_role("heading", level=1)).to_contain_text("May these requests go to the CA?")
        approver.get_by_role("button", name="Approve").click()
        expect(approver.locator(".alert.good")).to_contain_text("anna approved it")

        operator.get_by_role("link", name="To the gate").click()
        _drop(operator, [["nonsense.pem", base64.b64encode(b"no certificate at all").decode()]])
        expect(operator.locator("#delivery")).to_contain_text("Nothing was taken")
        _drop(operator, signed_files(engine, run))
        expect(operator.locator("#delivery .badge", has_text="matched").first).to_be_visible()

        operator.goto(f"{served.address}/runs/{run}")
        expect(operator.locator(".waits-for")).to_contain_text("Waits for a decision at the gate “Go”.")
        _mark(operator)
        approver.goto(f"{served.address}/gates")
        approver.get_by_role("link", name="Look and decide").click()
        approver.get_by_role("button", name="Approve").click()

        expect(operator.locator(".wait.over")).to_contain_text("Everything is done.", timeout=90_000)
        cells = operator.locator("#grid .cell")
        assert cells.count() > 6
        assert cells.count() == operator.locator("#grid .cell.s-done").count()
        assert operator.evaluate("window.notLoadedAgain") is True
        # Who asked may not approve, and the page had told why.
        operator.goto(approver.url)
        expect(operator.get_by_role("button", name="Approve")).to_have_count(0)


def _mark(page: Page) -> None:
    """Leave a mark that is gone when the page is loaded again."""
    page.evaluate("window.notLoadedAgain = true")


def _drop(page: Page, files: list[Any]) -> None:
    page.evaluate(DROP, [".drop", files])
