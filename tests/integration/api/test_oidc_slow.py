"""An OIDC provider that hangs, or gives a byte now and then: it holds one thread, and that one not for long."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.app import create_app
from api.auth import oidc
from tests.integration.api.conftest import Web
from workflows.journal import Journal
from workflows.settings import Settings, prepare_state


class Slow:
    """Takes connections and gives each of them a byte of a header every 50 ms, without end."""

    def __init__(self) -> None:
        self.came: list[socket.socket] = []
        self.asked = 0
        self.first = threading.Event()
        self.over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._accept, self._drip)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End it."""
        self.over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
        for one in (self._listening, *self.came):
            one.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                one, _ = self._listening.accept()
                one.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            except OSError:
                return
            self.came.append(one)
            self.asked += 1
            self.first.set()

    def _drip(self) -> None:
        while not self.over.wait(0.05):
            for one in tuple(self.came):
                try:
                    one.sendall(b"a")
                except OSError:
                    self.came.remove(one)
                    one.close()


@pytest.fixture
def slow():
    made = Slow()
    yield made
    made.close()


@pytest.fixture
def web(tmp_path, monkeypatch, slow):
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.load(
        {},
        state=tmp_path / "state",
        fleet=tmp_path / "fleet.yaml",
        public_url="https://certbridge.test",
        oidc_issuer=slow.address,
        oidc_client_id="certbridge",
    )
    prepare_state(settings)
    with Journal.open(settings.database_url) as journal:
        made = Web(tmp_path, journal, settings)
        made.app = create_app(settings, journal)
        yield made


def test_an_answer_has_one_deadline_in_all(web, slow, monkeypatch):
    monkeypatch.setattr(oidc, "TIMEOUT_S", 0.5)
    began = time.monotonic()
    assert web.client().get("/oidc/sign-in").status_code == 503
    assert time.monotonic() - began < 5
    # That it failed counts for a while: nobody asks it again at once.
    assert web.client().get("/oidc/sign-in").status_code == 503
    assert slow.asked == 1


def test_while_it_hangs_nobody_else_waits_for_it(web, slow, monkeypatch):
    monkeypatch.setattr(oidc, "TIMEOUT_S", 3.0)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(lambda: web.client().get("/oidc/sign-in").status_code)
        assert slow.first.wait(20)
        began = time.monotonic()
        assert web.client().get("/oidc/sign-in").status_code == 503
        assert web.client().get("/sign-in").status_code == 200
        assert (hanging.done(), time.monotonic() - began < 2.5) == (False, True)
        assert hanging.result(20) == 503
