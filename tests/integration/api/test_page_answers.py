"""Every page for every role: it answers or refuses, has nothing inline, is whole HTML, and escapes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from api.pages import words
from tests.integration.api.conftest import Web
from tests.pages_served import PAGES, pages_of
from tests.pages_world import PEOPLE, PagesWorld
from workflows.people import Grant, Role

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
EVIL = "<script>alert(1)</script>"
ASKS = {
    "journal": {"audrey", "ada"},
    "users": {"audrey", "ada"},
    "webhooks": {"audrey", "ada"},
    "plan-new": {"olivia", "oscar"},
    "pause": {"olivia", "oscar"},
}
"""Who may see a page that not everybody may see who may see runs."""


class _Balance(HTMLParser):
    """Finds tags that do not fit together, ids that stand twice, and what the CSP would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.faults += [f"{tag} {name}" for name in named if name == "style" or name.startswith("on")]
        if tag in {"style", "base"} or (tag == "script" and not named.get("src")):
            self.faults.append(f"inline {tag}")
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with PagesWorld(tmp_path_factory.mktemp("pages")) as made:
        made.runs = made.everything()
        yield made


@pytest.fixture(scope="module")
def web(world):
    return Web(world.root, world.journal, world.settings)


def faults_of(text: str) -> list[str]:
    parser = _Balance()
    parser.feed(text)
    twice = [f"id {one} twice" for one in {*parser.ids} if parser.ids.count(one) > 1]
    return [*parser.faults, *twice, *(f"<{tag}> is never closed" for tag in parser.open)]


def test_the_list_of_pages_names_them_all(world):
    assert tuple(pages_of(world, world.runs)) == PAGES


def test_a_fault_is_found():
    assert faults_of('<p style="x" onclick="y"><b></p><script>z</script><i id="a"></i><i id="a"></i>') != []


@pytest.mark.parametrize("name", sorted(PEOPLE))
def test_every_page_answers_or_refuses_and_is_whole(web, world, name):
    client = web.signed_in(name)
    for page, (_, path) in pages_of(world, world.runs).items():
        answer = client.get(path)
        allowed = name in ASKS.get(page, PEOPLE)
        assert answer.status_code == (404 if page == "problem" else 200 if allowed else 403), (page, answer.text)
        assert answer.headers["content-type"].startswith("text/html"), page
        assert faults_of(answer.text) == [], page
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"]


def test_a_stranger_is_led_to_sign_in_by_every_page_but_the_doors(web, world):
    client = web.client()
    for page, (by, path) in pages_of(world, world.runs).items():
        answer = client.get(path)
        if by:
            assert (answer.status_code, answer.headers["location"][:13]) == (303, "/sign-in?next"), page
        else:
            assert answer.status_code == 200


def test_every_page_speaks_korean(web, world):
    client = web.signed_in("olivia")
    client.headers["Accept-Language"] = "ko"
    for page, (_, path) in pages_of(world, world.runs).items():
        text = client.get(path).text
        assert '<html lang="ko"' in text
        assert re.search("[가-힣]", text), page
        assert faults_of(text) == [], page


class _English(HTMLParser):
    """Collects English sentences that are not marked so: text outside of lang="en" and of what is typed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        other = tag in {"code", "pre", "style", "script"} or dict(attrs).get("lang") == "en"
        if other or (self._open and tag == self._open[-1]):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag == self._open[-1]:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        said = re.sub("`[^`]*`", "", data)  # a command line is the same in every language
        if not self._open and re.search("[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}", said):
            self.found.append(data.strip())


def test_an_english_sentence_on_a_korean_page_is_marked_so(web, world):
    client = web.signed_in("anna")
    client.headers["Accept-Language"] = "ko"
    for page, (_, path) in pages_of(world, world.runs).items():
        parser = _English()
        parser.feed(client.get(path).text)
        assert parser.found == [], page


@pytest.mark.parametrize(
    ("name", "said", "korean"),
    [
        ("gate-database", "writes to any node but cmscore1", "cmscore1이 아닌 서버에 기록한 내용은 잃게 됩니다"),
        ("plan", "key and CSR", "키와 CSR callbridge-[0-9]"),
    ],
)
def test_where_people_approve_the_english_original_stands_beside_the_korean(web, world, name, said, korean):
    client = web.signed_in("anna")
    client.headers["Accept-Language"] = "ko"
    text = client.get(pages_of(world, world.runs)[name][1]).text
    assert re.search(f'class="original small" lang="en">[^<]*{said}', text)
    assert re.search(korean, text)


def test_what_a_run_waits_for_is_told_in_korean(web, world):
    client = web.signed_in("olivia")
    client.headers["Accept-Language"] = "ko"
    for part in ("", "/live"):
        text = client.get(f"/runs/{world.runs['rebuild']}{part}").text
        assert "cmscore2의 “조인” 단계를 기다리는 중입니다." in text
        assert "Waits for" not in text


def test_somebody_of_one_cluster_sees_nothing_of_the_others(web, world):
    if not any(one == "lena" for one in PEOPLE):
        web.person("lena", Grant(Role.VIEWER, "london"))
    client = web.signed_in("lena")
    text = client.get("/").text
    assert "london1" in text
    assert "cmscore1" not in text
    assert client.get(f"/runs/{world.runs['rebuild']}").status_code == 404
    assert client.get("/clusters/seoul").status_code == 404
    assert "seoul" not in client.get("/runs").text


def test_buttons_are_for_those_who_may(web, world):
    run = f"/runs/{world.runs['rebuild']}"
    assert f"{run}/pause" in web.signed_in("olivia").get(run).text
    assert f"{run}/pause" not in web.signed_in("victor").get(run).text


def test_a_step_links_to_its_task_where_flower_runs(web, world):
    path = pages_of(world, world.runs)["step"][1]
    assert "/flower/task/" not in web.signed_in("victor").get(path).text
    world.settings.flower_password_file.parent.mkdir(exist_ok=True)
    world.settings.flower_password_file.write_text("secret")
    text = web.signed_in("victor").get(path).text
    world.settings.flower_password_file.unlink()
    assert "/flower/task/" in text


def test_what_people_wrote_is_escaped(web, world):
    client = web.signed_in("olivia")
    for path in (
        f"/runs?requested_by={EVIL}",
        f"/journal?node={EVIL}&run={EVIL}",
        f"/runs/{EVIL}",
        f"/clusters/{EVIL}",
    ):
        text = client.get(path).text
        assert EVIL not in text
        assert "&lt;script&gt;" in text


def test_the_run_says_what_it_waits_for_since_when_and_how_long_usually(web, world):
    text = web.signed_in("victor").get(f"/runs/{world.runs['rebuild']}").text
    assert "Waits for “join” on cmscore2." in text
    assert "usually 30 s to 15 min" in text
    assert "61 %" in text


def test_a_part_that_is_loaded_for_a_live_page_leads_to_signing_in_when_the_session_is_over(web, world):
    answer = web.client(**{"HX-Request": "true"}).get(f"/runs/{world.runs['rebuild']}/live")
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/sign-in")


def test_links_of_a_list_keep_what_it_is_narrowed_to(web, world):
    client = web.signed_in("audrey")
    assert (
        'href="/journal?kind=note&amp;actor=oscar&amp;verify=yes"' in client.get("/journal?actor=oscar&kind=note").text
    )
    assert 'href="/journal?verify=yes"' in client.get("/journal").text
    assert 'href="/journal?kind=step_done&amp;offset=50"' in client.get("/journal?kind=step_done").text


def test_static_files_are_ours_and_named_by_what_they_hold(web, world):
    text = web.client().get("/sign-in").text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert len(addresses) >= 4
    for one in addresses:
        assert web.client().get(one).status_code == 200
        assert "?" in one


def test_every_time_says_its_zone_and_every_page_says_it_once(web, world):
    for name, (by, path) in pages_of(world, world.runs).items():
        if not by:
            continue
        text = web.signed_in(by).get(path).text
        assert text.count("Times are UTC.") == 1, name
        for time in re.findall(r"<time[^>]*>", text):
            assert re.search(r'title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"', time), (name, time)


@pytest.mark.parametrize("size", [1, 30_000_000])
def test_whoever_could_not_do_it_at_a_gate_is_led_back_there(web, world, size):
    gate = f"/runs/{world.runs['go']}/gates/busan/go"
    client = web.signed_in("olivia")
    answer = client.post(f"{gate}/deliver", content=b"x" * size, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code in {413, 422}
    assert f'href="{gate}"' in answer.text
    assert "Back to the gate" in answer.text


def test_a_gate_of_a_plan_back_asks_whether_to_go_back():
    assert words.question("go", "rollback") == "May the servers go back to their old certificates?"
    assert words.question("go", "") == "May these certificates be put in service?"
