"""What a port serves: the certificate chain a server sends, read without believing any of it.

The handshake is driven by hand over memory buffers, so that the chain is still in our hands when the server then
refuses us for want of a client certificate (RFC 8446 section 4.4.2.4); old, expired and weak certificates are seen too.
Nothing is verified here: whether it is the right chain is decided by `workflows.x509` (DESIGN.md section 7, stage 800).
How the talk before TLS goes is in `starttls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from typing import Any

from workers.starttls import PREAMBLES
from workflows.errors import Unreachable

_CHUNK = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """*chain*: certificates as DER in the order sent, at least one; *note*: why the handshake stopped, or ""."""

    chain: tuple[bytes, ...]
    note: str = ""

    @property
    def leaf(self) -> bytes:
        """The server's own certificate, DER."""
        return self.chain[0]


async def look(address: str, port: int, *, probe: str, server_name: str = "", timeout_s: float = 10.0) -> Served:
    """Return what *address*:*port* serves. probe: "tls", "starttls-xmpp" or "starttls-postgres".

    *server_name* goes into SNI (RFC 6066 section 3) and, for XMPP, into the stream header. The handshake may fail after
    the chain has come: then `note` says how.
    Raises: Unreachable: nobody listens, no TLS is spoken, or *timeout_s* is over.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _look(address, port, probe, server_name)
    except TimeoutError:
        raise Unreachable(
            f"{address}:{port} did not answer within {timeout_s:g} s", address=address, port=port
        ) from None
    except (OSError, EOFError) as error:
        raise Unreachable(
            f"{address}:{port} cannot be looked at ({_reason(error)})", address=address, port=port
        ) from error


async def _look(address: str, port: int, probe: str, server_name: str) -> Served:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        await PREAMBLES[probe](reader, writer, server_name)
        return await _handshake(reader, writer, server_name)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server_name: str) -> Served:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _context().wrap_bio(incoming, outgoing, server_hostname=_sni(server_name))
    note = ""
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            data = await reader.read(_CHUNK)
            incoming.write(data) if data else incoming.write_eof()
        except ssl.SSLError as error:
            note = _reason(error)
            break
    chain = _chain(tls)
    if not chain:
        raise ConnectionError(note or "no certificate was sent")
    with contextlib.suppress(OSError):
        writer.write(outgoing.read())  # our last flight, or the alert
        await writer.drain()
    return Served(chain=chain, note=note)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")  # we look, we do not trust: RSA 1024 and SHA-1 are to be seen and reported
    return context


def _sni(server_name: str) -> str | None:
    """Return the name for SNI; addresses do not belong there (RFC 6066 section 3)."""
    try:
        ipaddress.ip_address(server_name)
    except ValueError:
        return server_name or None
    return None


def _chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return what the server sent; public from Python 3.13 on, one layer deeper in 3.11 and 3.12."""
    if hasattr(tls, "get_unverified_chain"):
        return tuple(tls.get_unverified_chain())
    inner: Any = tls._sslobj  # type: ignore[attr-defined] # noqa: SLF001 # no public way before 3.13
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner.get_unverified_chain() or ())


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "the connection was closed"
