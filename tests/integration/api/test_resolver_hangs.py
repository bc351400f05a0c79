"""A name server that hangs: no deadline is passed for it, and no more than a few threads are left behind."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.auth import oidc
from api.auth.oidc import Provider
from tests.integration.api.test_webhook_places import told
from workers import webhooks as sending
from workflows import in_time
from workflows.errors import EngineError, NotAllowed
from workflows.settings import Settings


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every name wait until the event is set."""
    over, really = threading.Event(), socket.getaddrinfo

    def resolve(host, *args, **more):
        if host in {"127.0.0.1", "localhost", None}:
            return really(host, *args, **more)
        over.wait(20)
        raise socket.gaierror("it never came")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield over
    over.set()
    deadline = time.monotonic() + 20
    while any(one.name == "left-behind" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("hanging")
def test_a_try_ends_in_time_while_the_name_of_its_receiver_is_looked_up(web, monkeypatch):
    monkeypatch.setattr(sending, "WITHIN_S", 0.5)
    began = time.monotonic()
    assert told(web, "https://receiver.example/", "") == (0, "no answer within 0.5 s")
    assert time.monotonic() - began < 5


def _provider(tmp_path) -> Provider:
    chosen = {"oidc_issuer": "https://provider.example", "oidc_client_id": "certbridge"}
    chosen |= {"public_url": "https://certbridge.test"}
    return Provider(Settings.load({}, state=tmp_path / "state", fleet=tmp_path / "fleet.yaml", **chosen))


@pytest.mark.usefixtures("hanging")
def test_whoever_signs_in_hears_in_time_that_the_provider_is_not_found(tmp_path, monkeypatch):
    monkeypatch.setattr(oidc, "TIMEOUT_S", 0.5)
    provider = _provider(tmp_path)
    monkeypatch.setattr(provider._metadata, "get", lambda: {"token_endpoint": "https://provider.example/token"})
    began = time.monotonic()
    with pytest.raises(EngineError, match="does not answer"):
        provider._fetch_metadata()
    with pytest.raises(EngineError, match="does not answer"):
        provider.claims(code="c", nonce="n", verifier="v" * 43)
    assert time.monotonic() - began < 5


def test_a_provider_that_hangs_holds_a_few_threads_and_the_others_are_told_to_try_again(tmp_path, monkeypatch):
    provider, over = _provider(tmp_path), threading.Event()
    monkeypatch.setattr(provider._metadata, "get", lambda: {"token_endpoint": "https://provider.example/token"})
    came = threading.Semaphore(0)

    async def hang(*_):
        came.release()
        await asyncio.to_thread(over.wait, 20)
        return {}

    monkeypatch.setattr(provider, "_exchange", hang)

    def refusal() -> str:
        with pytest.raises((EngineError, NotAllowed)) as refused:
            provider.claims(code="c", nonce="n", verifier="v" * 43)
        return str(refused.value)

    with ThreadPoolExecutor(oidc.EXCHANGES) as pool:
        first = [pool.submit(refusal) for _ in range(oidc.EXCHANGES)]
        assert all(came.acquire(timeout=10) for _ in first)
        began = time.monotonic()
        assert {refusal() for _ in range(26)} == {"The sign-in provider is being asked, and has not answered yet."}
        assert time.monotonic() - began < 5
        over.set()
        assert {one.result(20) for one in first} == {"What the sign-in provider said does not hold."}
    assert refusal() == "What the sign-in provider said does not hold.", "the places are free again"


def test_so_many_threads_are_left_behind_and_no_more(hanging):
    async def look_up() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.get_running_loop().getaddrinfo("receiver.example", 443)

    for _ in range(in_time.AT_ONCE):
        with pytest.raises(TimeoutError):
            in_time.run(look_up())
    with pytest.raises(OSError, match="too many names"):
        in_time.run(look_up())
    hanging.set()


def test_what_is_returned_or_raised_in_a_thread_comes_back():
    async def work() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 7)

    assert in_time.run(work()) == 7
