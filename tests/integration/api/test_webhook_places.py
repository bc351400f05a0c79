"""Where messages really go: the address is looked at when it is sent, and that one is connected to, in one deadline.

The resolver is played; the receivers are sockets on loopback, which `CERTBRIDGE_WEBHOOK_HOSTS` names or not.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from datetime import UTC, datetime
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests import ca
from workers import webhooks as sending
from workers.webhooks import Sender
from workflows.destinations import Destinations
from workflows.journal import webhooks
from workflows.journal.vault import Vault


class Raw:
    """A receiver that answers each connection with *said*, then every 50 ms with *drip*."""

    def __init__(
        self,
        said: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nword",
        drip: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.got: list[bytes] = []
        self._tls = tls
        self.said, self.drip = said, drip
        self.over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._listening.close()

    def _answer(self) -> None:
        while not self.over.is_set():
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            try:
                with self._tls.wrap_socket(one, server_side=True) if self._tls else one as two:
                    self._tell(two)
            except OSError:
                one.close()

    def _tell(self, one: socket.socket) -> None:
        self.got.append(whole(one))
        one.sendall(self.said)
        while self.drip and not self.over.wait(0.05):
            one.sendall(self.drip)


def whole(one: socket.socket) -> bytes:
    """Return a request with its body: who closes before all was read resets the connection, and the answer is gone."""
    data = b""
    while piece := one.recv(65536):
        data += piece
        head, ended, body = data.partition(b"\r\n\r\n")
        told = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if ended and len(body) >= sum(told):
            break
    return data


@pytest.fixture
def raw():
    made = Raw()
    yield made
    made.close()


class Names(dict[str, list[str]]):
    """{name: its addresses}; `asked` holds the names that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []


@pytest.fixture
def names(monkeypatch):
    """Give {name: addresses}, by which names are resolved; what stands there may be changed."""
    known = Names()
    really = asyncio.BaseEventLoop.getaddrinfo

    async def resolve(loop, host, port, **more):
        if host not in known:
            return await really(loop, host, port, **more)
        known.asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    return known


def told(web, url: str, allowed: str, **more):
    """Send one message to *url*, whatever the API would have said of it; return what came of it."""
    vault = Vault(web.settings.vault_dir)
    sealed = vault.seal(webhooks.secret_row("hook"), b"whsec_" + b"a" * 32)
    web.journal.write(
        lambda tx: webhooks.add(tx, webhook="hook", url=url, kinds=["run.closed"], ciphertext=sealed, by="root")
    )
    web.journal.write(lambda tx: webhooks.test(tx, "hook", by="root"))
    sender = Sender(web.journal, vault, Destinations.read(allowed), **more)
    sender.look()
    sender.wait(20)
    (found,), _ = web.journal.read(partial(webhooks.deliveries, webhook="hook", limit=9, offset=0))
    web.journal.write(lambda tx: webhooks.remove(tx, "hook", by="root"))
    return found.status, found.said


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """Give TLS for a receiver that is called receiver.example, and for a client that knows its CA."""
    made = ca.make_ca(now=datetime.now(UTC))
    key = ca.new_key()
    names = [x509.DNSName("receiver.example")]
    delivery = made.deliver(ca.make_csr("receiver.example", names, key=key))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("tls") / "pair.pem"
    file.write_bytes(private + ca.pem(delivery.everything))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=ca.pem([made.root.certificate]).decode())


def test_asvs_1_3_6_the_address_is_looked_at_when_it_is_sent_and_is_the_one_connected_to(web, names, contexts):
    """A name that leads to this machine is refused; allowed, it is resolved once and has to prove its own name."""
    raw = Raw(tls=contexts[0])
    names["receiver.example"] = names["other.example"] = ["127.0.0.1"]
    try:
        refused = told(web, f"https://receiver.example:{raw.port}/", "", verify=contexts[1])
        assert refused == (0, "not sent: CERTBRIDGE_WEBHOOK_HOSTS does not allow its address")
        assert (raw.got, names.asked) == ([], ["receiver.example"])
        assert told(web, f"https://receiver.example:{raw.port}/", "127.0.0.0/8", verify=contexts[1]) == (200, "")
        assert names.asked == ["receiver.example"] * 2
        status, said = told(web, f"https://other.example:{raw.port}/", "127.0.0.0/8", verify=contexts[1])
        assert (status, said) == (0, "no answer (ConnectError)")
    finally:
        raw.close()


def test_a_name_with_an_address_that_is_not_allowed_leads_to_the_others_only(web, raw, names):
    names["localhost"] = ["169.254.169.254", "127.0.0.1"]
    assert told(web, f"http://localhost:{raw.port}/told?a=b", "127.0.0.0/8") == (200, "")
    (request,) = raw.got
    assert request.startswith(b"POST /told?a=b HTTP/1.1\r\n")
    assert f"host: localhost:{raw.port}\r\n".encode() in request.lower()


def test_an_address_that_nobody_listens_at_is_followed_by_the_next(web, raw, names):
    names["localhost"] = ["127.0.0.9", "127.0.0.1"]
    assert told(web, f"http://localhost:{raw.port}/", "127.0.0.0/8")[0] == 200


def test_of_an_answer_from_inside_only_the_status_is_kept(web, raw, monkeypatch):
    assert told(web, f"http://127.0.0.1:{raw.port}/", "127.0.0.0/8") == (200, "")
    monkeypatch.setattr(sending, "is_public", lambda _: True)
    raw.said = b"HTTP/1.1 503 No\r\nContent-Length: 7\r\n\r\nbusy\x00!!"
    assert told(web, f"http://127.0.0.1:{raw.port}/", "127.0.0.0/8") == (503, "busy !!")


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_a_try_has_one_deadline_in_all(web, monkeypatch, said):
    monkeypatch.setattr(sending, "WITHIN_S", 0.5)
    monkeypatch.setattr(sending, "is_public", lambda _: True)
    slow = Raw(said, b"1")
    try:
        began = time.monotonic()
        assert told(web, f"http://127.0.0.1:{slow.port}/", "127.0.0.0/8") == (0, "no answer within 0.5 s")
        assert time.monotonic() - began < 5
    finally:
        slow.close()


def test_an_address_that_the_setting_does_not_allow_is_refused_when_it_is_written(web_class, web):
    from api.app import create_app
    from workflows.people import Role
    from workflows.settings import Settings

    settings = Settings.load({}, state=web.settings.state, fleet=web.settings.fleet)
    strict = web_class(web.root, web.journal, settings)
    strict.app = create_app(settings, web.journal)
    strict.person("root", Role.ADMIN)
    admin = strict.signed_in("root")
    for url in ("http://localhost/told", "https://169.254.169.254/told", "https://[::1]/told"):
        answer = admin.post("/api/webhooks", json={"url": url})
        assert answer.status_code == 422, url
        assert "CERTBRIDGE_WEBHOOK_HOSTS" in answer.json()["remedy"]
    made = admin.post("/api/webhooks", json={"url": "https://10.1.2.3/told"})
    assert made.status_code == 201
    path = f"/api/webhooks/{made.json()['webhook']}"
    assert admin.patch(path, json={"url": "https://127.0.0.1/told"}).status_code == 422
    assert admin.patch(path, json={"url": "https://chat.example.com/told"}).status_code == 200
