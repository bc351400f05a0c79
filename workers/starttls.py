"""What is said before TLS begins: nothing, XMPP's STARTTLS, or PostgreSQL's SSLRequest.

Used by `served` only. Each function leaves the connection at the point where the client's TLS hello comes next.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from xml.sax.saxutils import quoteattr

_LIMIT = 65536  # more than any server says before TLS
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL "Message Formats", SSLRequest

Preamble = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


async def _plain_tls(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _server_name: str) -> None:
    """TLS from the first byte."""


async def _xmpp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server_name: str) -> None:
    """Negotiate a stream and ask for TLS (RFC 6120 sections 4.2 and 5.4.2)."""
    writer.write(
        f"<?xml version='1.0'?><stream:stream to={quoteattr(server_name)} version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
    )
    features = await _read_until(reader, b"</stream:features>", b"<stream:features/>", b"</stream:error>")
    if b"urn:ietf:params:xml:ns:xmpp-tls" not in features:
        raise ConnectionError("the XMPP server offers no STARTTLS")
    writer.write(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    answer = await _read_until(reader, b">")
    if b"<proceed" not in answer:
        raise ConnectionError("the XMPP server refused STARTTLS")


async def _postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _server_name: str) -> None:
    """Ask for TLS and read the one byte of the answer (PostgreSQL "Message Flow", SSL Session Encryption)."""
    writer.write(_SSL_REQUEST)
    answer = await reader.readexactly(1)
    if answer != b"S":
        raise ConnectionError("the database server does not speak TLS")


async def _read_until(reader: asyncio.StreamReader, *ends: bytes) -> bytes:
    seen = b""
    while not any(end in seen for end in ends):
        data = await reader.read(4096)
        if not data:
            raise EOFError("the connection was closed before TLS began")
        seen += data
        if len(seen) > _LIMIT:
            raise ConnectionError("too much was said before TLS began")
    return seen


PREAMBLES: Mapping[str, Preamble] = MappingProxyType(
    {"tls": _plain_tls, "starttls-xmpp": _xmpp, "starttls-postgres": _postgres}
)
