"""The TLS ports of an appliance: they serve what is running, not what is configured.

A port is opened when its endpoint runs and closed when it does not. The TLS context is made when a client comes, so a
thousand ports cost little more than their sockets. On the XMPP port TLS begins after STARTTLS (RFC 6120 section 5), on
that of the database after an SSLRequest (PostgreSQL documentation, message formats).
"""

import asyncio
import re
import socket
import ssl
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache, partial

from simulator.appliance import Appliance
from simulator.faults import FaultKind
from simulator.ports import Port
from simulator.services import ClientCertificate, Endpoint, Running, Wire

_HANDSHAKE_S = 10.0
_STREAM = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"id='1' from='%s' version='1.0'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"
    b"<required/></starttls></stream:features>"
)
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"


@lru_cache(maxsize=4096)
def _context(running: Running, asks: ClientCertificate) -> ssl.SSLContext:
    """Return the context that serves *running*; OpenSSL reads keys from files only, so one is made and removed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(running.key + b"".join(running.chain))
        file.flush()
        context.load_cert_chain(file.name)
    if asks is ClientCertificate.REQUIRED or (asks is ClientCertificate.OPTIONAL and running.trust):
        context.verify_mode = ssl.CERT_REQUIRED if asks is ClientCertificate.REQUIRED else ssl.CERT_OPTIONAL
        # A store may pin the peer's own certificate instead of its authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if running.trust:
            context.load_verify_locations(cadata=running.trust.decode("ascii", "replace"))
    return context


class _Plain(asyncio.Protocol):
    """The first protocol of a connection; hands over to TLS at once, or after STARTTLS."""

    def __init__(self, listeners: "Listeners", endpoint: Endpoint) -> None:
        self._listeners = listeners
        self._endpoint = endpoint
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with TLS unless the wire wants words before."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._listeners.connections.add(transport)
            if self._endpoint.kind.wire is Wire.TLS:
                self._begin_tls(transport)

    def data_received(self, data: bytes) -> None:
        """Answer the opening of an XMPP stream with the offer of STARTTLS, and STARTTLS or SSLRequest with TLS."""
        self._received += data
        if self._transport is None or len(self._received) > 4096:
            return
        if self._endpoint.kind.wire is Wire.POSTGRES:
            self._answer_postgres(self._transport)
            return
        if b"<starttls" in self._received:
            self._received = b""
            self._transport.write(_PROCEED)
            self._begin_tls(self._transport)
        elif opening := re.search(rb"<stream:stream[^>]*>", self._received):
            self._received = self._received[opening.end() :]
            self._transport.write(_STREAM % self._listeners.appliance.hostname.encode())

    def _answer_postgres(self, transport: asyncio.Transport) -> None:
        """Begin TLS after an SSLRequest; whoever wants to talk without TLS is left (`sslmode=verify-ca`, S1)."""
        if self._received == _SSL_REQUEST:
            self._received = b""
            transport.write(b"S")
            self._begin_tls(transport)
        elif len(self._received) >= len(_SSL_REQUEST):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection."""
        if self._transport is not None:
            self._listeners.connections.discard(self._transport)

    def _begin_tls(self, transport: asyncio.Transport) -> None:
        self._listeners.spawn(self._listeners.handshake(transport, self._endpoint))


class _Silent(asyncio.Protocol):
    """Takes whatever comes over TLS and says nothing; a web server would answer an HTTP request, so this one does."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._ended = ended

    def connect(self, transport: asyncio.Transport | None) -> None:
        """Say where to answer: `start_tls` does not call `connection_made`, and data may come before it returns."""
        self._transport = transport
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Answer an HTTP request with an empty page and close."""
        self._received = (self._received + data)[:1024]
        if self._transport is not None and self._received.startswith((b"GET ", b"HEAD ")):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection."""
        self._ended()


@dataclass(kw_only=True)
class Listeners:
    """The open ports of one appliance. *probed* is told the endpoint's name and how each handshake ended."""

    appliance: Appliance
    probed: Callable[[str, str], None]
    connections: set[asyncio.Transport] = field(default_factory=set)
    _ports: dict[str, Port] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def reconcile(self, *, away: bool = False) -> None:
        """Open and close ports so that they agree with what is running; *away* closes all."""
        wanted = {} if away else self._wanted()
        if away:
            self._abort_all()
        for name, port in tuple(self._ports.items()):
            if wanted.get(name) != port.number:
                del self._ports[name]
                port.close()
        for name, number in wanted.items():
            if name not in self._ports:
                greet = partial(self._greet, self.appliance.endpoint(name))
                try:
                    self._ports[name] = Port(self.appliance.address, number, greet)
                except OSError:  # somebody else has the port: the service has none then, as on a real machine
                    self.probed(name, "port-taken")

    def _wanted(self) -> dict[str, int]:
        faults, node = self.appliance.faults, self.appliance.name
        return {
            endpoint.kind.name: endpoint.running_port
            for endpoint in (*self.appliance.endpoints(), self.appliance.database.endpoint)
            if endpoint.running is not None
            and endpoint.running_port is not None
            and endpoint.kind.wire is not Wire.NONE
            and faults.first(FaultKind.UNREACHABLE, node, endpoint.kind.name) is None
        }

    async def _greet(self, endpoint: Endpoint, client: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _Plain(self, endpoint), client)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run *work* beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def handshake(self, transport: asyncio.Transport, endpoint: Endpoint) -> None:
        """Do the TLS handshake with the certificate that is running now."""
        name = endpoint.kind.name
        if endpoint.running is None:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        ended = partial(self.connections.discard, transport)
        try:
            context = _context(endpoint.running, endpoint.kind.client_certificate)
            protocol = _Silent(ended)
            secured = await loop.start_tls(
                transport, protocol, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_S
            )
            protocol.connect(secured)
        except (OSError, TimeoutError) as problem:  # ssl.SSLError is an OSError
            self.probed(name, f"refused: {type(problem).__name__}")
            transport.abort()
            ended()
        else:
            self.probed(name, "ok")

    def _abort_all(self) -> None:
        for transport in tuple(self.connections):
            transport.abort()

    async def close(self) -> None:
        """Close all ports and connections."""
        ports = tuple(self._ports.values())
        self.reconcile(away=True)
        for port in ports:
            await port.finish()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._abort_all()
