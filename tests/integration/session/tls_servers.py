"""Small real TLS servers on loopback, and certificates for them; only for the tests of `workers.served`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def make_pair(name: str, issuer: Pair | None = None, *, days: int = 30, rsa_bits: int = 0) -> Pair:
    """Return a fresh certificate for *name*; negative *days*: expired that long ago."""
    key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None or "CA" in name, path_length=None), critical=True)
    )
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Pair(certificate=certificate, key=key)


def server_context(folder: Path, chain: list[Pair], *, client_ca: Pair | None = None) -> ssl.SSLContext:
    """Return a server's context that sends *chain*, and asks for a certificate of *client_ca* when there is one."""
    file = folder / "server.pem"
    key = chain[0].key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = b"".join(pair.certificate.public_bytes(serialization.Encoding.PEM) for pair in chain)
    file.write_bytes(key + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(file)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.certificate.public_bytes(serialization.Encoding.PEM).decode())
    return context


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext | None, talk: Talk | None = None) -> AsyncIterator[int]:
    """Serve *context* on a free port of 127.0.0.1; *talk* goes first, and TLS begins when it returns true."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ssl.SSLError):
            if talk is None or await talk(reader, writer):
                if talk is not None and context is not None:
                    await writer.start_tls(context)
                await reader.read(1)
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()

    direct = context if talk is None else None
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=direct)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def xmpp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, piece: int = 4096) -> bool:
    """Play the server's half of RFC 6120 section 5.4.2, *piece* bytes at a time."""
    await reader.readuntil(b"jabber:client")
    await reader.readuntil(b">")
    header = (
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' "
        b"xmlns:stream='http://etherx.jabber.org/streams'><stream:features>"
        b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
    )
    for start in range(0, len(header), piece):
        writer.write(header[start : start + piece])
        await writer.drain()
        await asyncio.sleep(0.001)  # so that the pieces travel alone
    await reader.readuntil(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    writer.write(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    return True


async def xmpp_without_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Play an XMPP server that has no TLS to offer."""
    await reader.readuntil(b"jabber:client")
    writer.write(b"<stream:stream><stream:features></stream:features>")
    await reader.read()
    return False


def postgres(answer: bytes) -> Talk:
    """Return the server's half of SSLRequest: b"S" goes on with TLS, b"N" does not."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await reader.readexactly(8)
        writer.write(answer if request == bytes.fromhex("0000000804d2162f") else b"E")
        return answer == b"S"

    return talk
