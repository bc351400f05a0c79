"""Flower through the API, with a real Flower: for whoever may read everywhere, only to look, and with no more of us."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from workers.embedded import EmbeddedServer
from workflows.broker import socket_path
from workflows.journal import Journal
from workflows.people import Grant, Permission, Role
from workflows.settings import Settings, prepare_state

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def flower(tmp_path_factory, web_class):
    """Give an application beside a real Flower."""
    root = tmp_path_factory.mktemp("flower")
    settings = Settings.load({}, state=root / "state", fleet=root / "fleet.yaml", flower_port=free_port())
    prepare_state(settings)
    listen = socket_path(settings.state)
    with (
        EmbeddedServer(settings.valkey_dir, listen),
        Journal.open(settings.database_url) as journal,
        subprocess.Popen(
            [sys.executable, "-m", "api", "flower"],
            cwd=ROOT,
            env=os.environ | settings.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        web = web_class(root, journal, settings)
        web.person("ann", Role.VIEWER)
        web.person("sam", Grant(Role.OPERATOR, "seoul"))
        try:
            deadline = time.monotonic() + 60
            client = web.signed_in("ann")
            while client.get("/flower/workers").status_code != 200:
                assert time.monotonic() < deadline, "Flower did not start"
                time.sleep(0.1)
            yield web
        finally:
            process.kill()
    shutil.rmtree(listen.parent, ignore_errors=True)


def test_pages_and_assets_come_through_and_stay_below_its_path(flower):
    client = flower.signed_in("ann")
    page = client.get("/flower/workers")
    assert page.headers["content-type"].startswith("text/html")
    assert '"/flower/static/js/flower.js' in page.text
    assert client.get("/flower/static/js/flower.js").status_code == 200
    assert client.get("/flower").status_code == 200
    assert client.head("/flower/static/js/flower.js").content == b""
    table = "draw=1&start=0&length=10&order[0][column]=0&columns[0][data]=name"
    assert client.get(f"/flower/tasks/datatable?{table}").json()["data"] == []
    assert client.post("/flower/tasks/datatable", content=table).json()["data"] == []  # as its page does
    assert flower.with_token("ann", Permission.READ).get("/flower/workers").status_code == 200


def test_only_who_may_read_everywhere_looks(flower):
    stranger = flower.client().get("/flower/workers")
    assert (stranger.status_code, stranger.headers["location"]) == (303, "/sign-in?next=%2Fflower%2Fworkers")
    assert flower.signed_in("sam").get("/flower/workers").status_code == 403
    assert flower.with_token("ann", Permission.OPERATE).get("/flower/workers").status_code == 403


def test_the_table_of_tasks_is_read_by_a_post_that_must_be_ours(web, upstream):
    """Flower's page asks for it by POST; it goes on as a GET, and another site can make nobody's browser send it."""
    client, form = web.signed_in("ann"), "draw=1&search%5Bvalue%5D=a%26b&start=0"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/flower/tasks/datatable", content=form, headers=headers).text == "ok"
    assert upstream[-1]["path"] == f"/flower/tasks/datatable?{form}"
    asked = len(upstream)
    for site in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "", "Origin": "https://elsewhere.example"}):
        assert client.post("/flower/tasks/datatable", content=form, headers=headers | site).status_code == 403
    web.person("sam", Grant(Role.OPERATOR, "seoul"))
    assert web.signed_in("sam").post("/flower/tasks/datatable", content=form).status_code == 403
    assert web.client().post("/flower/tasks/datatable", content=form).status_code in {303, 401}
    assert client.post("/flower/tasks/datatable", content=b"\xff=1").status_code == 422
    assert client.post("/flower/tasks/datatable", content="a=" + "b" * 40_000).status_code == 422
    assert client.post("/flower/tasks/datatable", content="&".join(["a=1"] * 501)).status_code == 422
    assert len(upstream) == asked


def test_nothing_can_be_done_through_it(flower):
    client = flower.signed_in("ann")
    paths = ["/flower/api/worker/shutdown/fleet", "/flower/api/task/revoke/1", "/flower/workers", "/flower"]
    found = {client.request(method, path).status_code for path in paths for method in ("POST", "PUT", "DELETE")}
    assert found == {405}


def test_the_policy_is_wider_by_one_known_line_only(flower):
    page = flower.signed_in("ann").get("/flower/workers")
    policy = page.headers["content-security-policy"]
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in scripts
    inline = [part.partition("</script>")[0] for part in page.text.split('<script type="text/javascript">')[1:]]
    assert inline in (["\nvar autorefresh = 1;\n"], ["\nvar autorefresh = 0;\n"])
    assert "unsafe-inline" not in flower.client().get("/healthz").headers["content-security-policy"]


def test_its_password_is_told_nobody(flower):
    password = flower.settings.flower_password_file.read_text().strip()
    answer = flower.signed_in("ann").get("/flower/workers")
    assert password not in answer.text + str(answer.headers)
    assert flower.settings.flower_password_file.stat().st_mode & 0o777 == 0o600


class Upstream(BaseHTTPRequestHandler):
    """Answers with all that a proxy must not pass on, and keeps what it was asked."""

    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        """Answer with the status in the path."""
        self.asked.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        last = self.path.rpartition("/")[2]
        status = int(last) if last.isdigit() else 200
        self.send_response(status)
        for name, value in (
            ("Set-Cookie", "planted=1"),
            ("WWW-Authenticate", "Basic"),
            ("Location", "https://elsewhere.example/"),
            ("Connection", "close"),
            ("X-Anything", "1"),
            ("Content-Length", "2"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream(web) -> Iterator[list[dict[str, str]]]:
    """Give what a server in Flower's place was asked."""
    Upstream.asked = []
    with HTTPServer(("127.0.0.1", 0), Upstream) as server:
        object.__setattr__(web.settings, "flower_port", server.server_address[1])
        web.settings.flower_password_file.write_text("word\n")
        web.person("ann", Role.VIEWER)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Upstream.asked
        server.shutdown()


def test_cookies_and_tokens_stay_here_and_its_cookies_there(web, upstream):
    client = web.signed_in("ann")
    answer = client.get("/flower/workers", headers={"X-Forwarded-For": "1", "Proxy-Authorization": "x"})
    with_token = web.with_token("ann").get("/flower/workers")
    assert (answer.text, with_token.text) == ("ok", "ok")
    for asked in upstream:
        assert "cookie" not in asked
        assert asked["authorization"].startswith("Basic ")
        assert not {"x-forwarded-for", "proxy-authorization"} & set(asked)
    assert not {"set-cookie", "www-authenticate", "x-anything", "location"} & set(answer.headers)


@pytest.mark.parametrize("status", [401, 500])
def test_a_flower_that_does_not_know_us_is_away(web, upstream, status):
    answer = web.signed_in("ann").get(f"/flower/{status}")
    assert answer.status_code == 503
    assert "www-authenticate" not in answer.headers


def test_flower_away_is_a_page_that_says_so(web):
    object.__setattr__(web.settings, "flower_port", free_port())
    web.person("ann", Role.VIEWER)
    for _ in range(2):
        answer = web.signed_in("ann").get("/flower/workers")
        assert (answer.status_code, "Flower is not there" in answer.text) == (503, True)
        web.settings.flower_password_file.write_text("word\n")
