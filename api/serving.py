"""`certbridge serve`: uvicorn with the application, until TERM. TLS here, or by a proxy that is named."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import uvicorn

from api.app import create_app
from workflows.errors import InputError
from workflows.journal import Journal
from workflows.settings import Settings


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    certificate: Path | None = None,
    key: Path | None = None,
    behind_proxy: str = "",
) -> None:
    """Serve until TERM or Ctrl-C. *behind_proxy*: the addresses of proxies whose X-Forwarded-* headers count.

    Raises: InputError: passwords would cross a network in the clear. SettingsError, JournalError.
    """
    if not (_is_loopback(host) or certificate or behind_proxy):
        raise InputError(
            f"Without TLS, passwords and sessions would cross the network in the clear on {host}.",
            remedy="Give `--certificate FILE --key FILE`, or `--behind-proxy ADDRESS` where a proxy speaks TLS.",
        )
    with Journal.open(settings.database_url) as journal:
        uvicorn.run(
            create_app(settings, journal),
            host=host,
            port=port,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            proxy_headers=bool(behind_proxy),
            forwarded_allow_ips=behind_proxy or None,
            server_header=False,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
