"""`certbridge serve`: uvicorn with the application, until TERM. TLS here, or by a proxy that is named.

The port is bound before anything else, so that a taken one is told in a sentence. TERM and Ctrl-C end it with exit code
0: sse-starlette sees that uvicorn was told to end and closes its streams, all other answers get `GRACE_S`.
"""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from api import logs
from api.app import create_app
from workflows.errors import InputError, SettingsError
from workflows.journal import Journal, accounts
from workflows.settings import Settings

GRACE_S = 3
"""How long an answer that is on its way may still take after TERM."""
FIRST_ADMINISTRATOR = "No account yet: make the first administrator with `certbridge users bootstrap`."


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    certificate: Path | None = None,
    key: Path | None = None,
    behind_proxy: str = "",
    say: Callable[[str], None] = print,
) -> None:
    """Serve until TERM or Ctrl-C. *behind_proxy*: the addresses of proxies whose X-Forwarded-* headers count.

    Raises: InputError: passwords would cross a network in the clear, or a file or address is wrong. SettingsError: the
    port is taken. JournalError.
    """
    _check_private(host, certificate, behind_proxy)
    _check_proxies(behind_proxy)
    _check_files(certificate, key)
    with _bound(host, port) as listening, Journal.open(settings.database_url) as journal:
        logs.set_up()
        running = uvicorn.Server(
            uvicorn.Config(
                create_app(settings, journal),
                ssl_certfile=certificate,
                ssl_keyfile=key,
                proxy_headers=bool(behind_proxy),
                forwarded_allow_ips=behind_proxy or None,
                server_header=False,
                access_log=False,
                log_config=None,
                log_level="warning",
                timeout_graceful_shutdown=GRACE_S,
                lifespan="off",
            )
        )
        say(f"Pages and API: {address(host, listening.getsockname()[1], tls=certificate is not None)}")
        if journal.read(accounts.nobody):
            say(FIRST_ADMINISTRATOR)
        _until_told(running, listening)


def address(host: str, port: int, *, tls: bool = False) -> str:
    """Return the URL under which *host* and *port* answer, as one types it on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{'https' if tls else 'http'}://{shown}:{port}/"


class _Stopped(BaseException):
    """TERM or Ctrl-C came."""


def _until_told(running: uvicorn.Server, listening: socket.socket) -> None:
    def told(_number: int, _frame: object) -> None:
        raise _Stopped

    # uvicorn has handlers of its own while it serves, and raises the signal once more for these when it has ended.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, told) for number in numbers}
    try:
        running.run(sockets=[listening])
    except _Stopped:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(
            f"{host} is no address of this machine ({error.strerror})", remedy="Write an address, as --host 127.0.0.1."
        ) from None
    family, kind, protocol, _, where = found[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(where)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise _not_bound(host, port, error) from None
    return listening


def _not_bound(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"port {port} on {host} is taken, so the API cannot use it",
            remedy="Set CERTBRIDGE_API_PORT (or --port) to a free port.",
            settings=("api_port",),
        )
    return SettingsError(
        f"port {port} on {host} cannot be used ({error.strerror})",
        remedy="Choose a port from 1024 on and an address of this machine.",
        settings=("api_port",),
    )


def _check_private(host: str, certificate: Path | None, behind_proxy: str) -> None:
    if not (_is_loopback(host) or certificate or behind_proxy):
        raise InputError(
            f"Without TLS, passwords and sessions would cross the network in the clear on {host}.",
            remedy="Give `--certificate FILE --key FILE`, or `--behind-proxy ADDRESS` where a proxy speaks TLS.",
        )


def _check_proxies(behind_proxy: str) -> None:
    for one in filter(None, behind_proxy.split(",")):
        try:
            wide = ipaddress.ip_network(one.strip(), strict=False).prefixlen == 0
        except ValueError:
            wide = True
        if wide:
            raise InputError(
                f"--behind-proxy {one}: not the address of a proxy",
                remedy="Write addresses or networks, as 192.0.2.7 or 172.16.0.0/12; whoever comes from there is "
                "believed about whom it speaks for.",
            )


def _check_files(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise InputError("TLS needs a certificate and its key.", remedy="Give both `--certificate` and `--key`.")
    if certificate is None or key is None:
        return
    for file in (certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror})", remedy="Name a PEM file.") from None
    try:
        # A key with a passphrase would make OpenSSL ask at the terminal, which a service does not have.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        said = getattr(error, "reason", None) or str(error)
        raise InputError(
            f"{certificate} and {key} are no certificate and its key in PEM ({said})",
            remedy="Give the certificate with its chain, leaf first, and the key without a passphrase.",
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
