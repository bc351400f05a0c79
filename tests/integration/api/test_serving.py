"""`certbridge serve` as a process: it tells where it listens, what is wrong, and ends when it is told to."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from ca import make_ca, make_csr, new_key, pem
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from api import serving
from workflows.errors import InputError
from workflows.journal import FLEET, Journal, Kind

ROOT = Path(__file__).parents[3]
WITH_STREAM = """
import anyio, api.app
from sse_starlette import EventSourceResponse
make = api.app.create_app
async def for_ever():
    while True:
        yield {"data": "moved"}
        await anyio.sleep(0.05)
def with_stream(settings, journal):
    app = make(settings, journal)
    app.add_route("/stream", lambda request: EventSourceResponse(for_ever()))
    return app
api.app.create_app = with_stream
from api.cli import main
main()
"""


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, *words: str, program: str = "from api.cli import main; main()") -> subprocess.Popen[str]:
    """Start `certbridge serve words…` on a state below *folder*."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CERTBRIDGE_")}
    return subprocess.Popen(
        [sys.executable, "-c", program, "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=own | {"CERTBRIDGE_STATE": str(folder / "state"), "CERTBRIDGE_FLEET": str(folder / "fleet.yaml")},
    )


@contextmanager
def serving_on(folder: Path, *words: str, program: str = "from api.cli import main; main()") -> Iterator[tuple]:
    """Give the process and what it said until it listens."""
    with start(folder, *words, program=program) as process:
        said = [process.stdout.readline(), process.stdout.readline()]
        try:
            yield process, "".join(said)
        finally:
            process.kill()


def healthy(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Return whether it answers within ten seconds."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{url}healthz", timeout=5, context=context) as answer:
                return answer.status == 200
        except OSError:
            time.sleep(0.05)
    return False


def test_it_says_where_it_is_and_how_the_first_administrator_is_made_and_ends_on_term(tmp_path):
    port = free_port()
    with serving_on(tmp_path, "--port", str(port)) as (process, said):
        assert said.splitlines() == [f"Pages and API: http://127.0.0.1:{port}/", serving.FIRST_ADMINISTRATOR]
        assert healthy(f"http://127.0.0.1:{port}/")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=10)
        assert (process.returncode, rest) == (0, "")


def test_an_open_stream_does_not_hold_it_up(tmp_path):
    port = free_port()
    with serving_on(tmp_path, "--port", str(port), program=WITH_STREAM) as (process, _):
        assert healthy(f"http://127.0.0.1:{port}/")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stream", timeout=10) as stream:
            assert stream.readline() == b"data: moved\r\n"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=15)
        assert (process.returncode, time.monotonic() - began < serving.GRACE_S + 3) == (0, True)


def test_a_port_that_is_taken_is_told_with_the_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path, "--port", str(port)) as process:
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said.splitlines() == [
        f"port {port} on 127.0.0.1 is taken, so the API cannot use it",
        "→ Set CERTBRIDGE_API_PORT (or --port) to a free port.",
    ]


def test_tls_is_spoken_with_the_files_that_are_given(tmp_path):
    certificate, key, trusted = pair(tmp_path)
    port = free_port()
    with serving_on(tmp_path, "--port", str(port), "--certificate", str(certificate), "--key", str(key)) as (_, said):
        assert f"https://127.0.0.1:{port}/" in said
        assert healthy(f"https://127.0.0.1:{port}/", trusted)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "0.0.0.0"}, "in the clear on 0.0.0.0"),
        ({"host": "192.0.2.1", "behind_proxy": "*"}, "not the address of a proxy"),
        ({"host": "192.0.2.1", "behind_proxy": "0.0.0.0/0"}, "not the address of a proxy"),
        ({"host": "no.such.name.invalid", "behind_proxy": "127.0.0.1"}, "is no address of this machine"),
        ({"certificate": Path("/nowhere.pem")}, "needs a certificate and its key"),
        ({"certificate": Path("/nowhere.pem"), "key": Path("/nowhere.key")}, "cannot be read"),
        ({"certificate": Path(__file__), "key": Path(__file__)}, "are no certificate and its key"),
        ({"host": "192.0.2.1", "behind_proxy": "127.0.0.1"}, "cannot be used"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_listens(web, options, said):
    with pytest.raises(InputError, match=said) as refused:
        serving.serve(web.settings, **{"host": "127.0.0.1", "port": 0, **options})
    assert refused.value.remedy()


@pytest.mark.parametrize(
    ("words", "address", "secure"),
    [((), "127.0.0.1", False), (("--behind-proxy", "127.0.0.1"), "198.51.100.7", True)],
    ids=["alone", "behind a proxy"],
)
def test_asvs_4_1_3_nobody_says_for_themselves_where_they_come_from(tmp_path, words, address, secure):
    """Headers of a proxy count from a proxy that is named, and of these the part that it added; the log says the same.

    The first address is what the client made up, the second what the proxy saw; a host is never taken from a header.
    """
    port = free_port()
    headers = {
        "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;proto=https;host=evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
    }
    with serving_on(tmp_path, "--port", str(port), *words) as (process, _):
        assert healthy(f"http://127.0.0.1:{port}/")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
            refused = client.post("/sign-in", data={"name": "nobody", "password": "walnut harbour zebra"})
            away = client.get("/runs")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=10)
    assert (refused.status_code, "strict-transport-security" in refused.headers) == (401, secure)
    assert "evil.example" not in refused.text + away.headers["location"]
    with Journal.open(f"sqlite:///{tmp_path}/state/journal.db") as journal:
        (event,) = [one for one in journal.events(FLEET) if one.kind is Kind.SIGN_IN_REFUSED]
    (line,) = [json.loads(one) for one in said.splitlines()]
    assert (event.data["address"], line["address"], line["event"]) == (address, address, "sign_in_refused")
    assert "walnut" not in said


def pair(folder: Path) -> tuple[Path, Path, ssl.SSLContext]:
    """Return files with a certificate for 127.0.0.1 and its key, and a client that trusts it."""
    key = new_key()
    made = make_ca(now=dt.datetime.now(dt.UTC))
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    issued = made.deliver(make_csr("127.0.0.1", names, key=key))
    certificate, key_file = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(pem([issued.certificate, made.issuing.certificate]))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    trusted = ssl.create_default_context(cadata=pem([made.root.certificate]).decode())
    return certificate, key_file, trusted
