"""A plain SSH, SFTP and TLS client for the tests of the simulator; it knows nothing of our driver."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
from cryptography import x509

from simulator.fleet import FleetHandle

PATIENCE_S = 10.0


@asynccontextmanager
async def connected(
    fleet: FleetHandle, node: str, password: str | None = None
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Log in to *node* with its pinned host key."""
    pin = asyncssh.import_public_key(fleet.host_key(node))
    async with asyncssh.connect(
        fleet.address(node),
        2222,
        username=fleet.username,
        password=fleet.password if password is None else password,
        known_hosts=([pin], [], []),
        client_keys=None,
        agent_path=None,
        config=None,
    ) as connection:
        yield connection


class Conversation:
    """An interactive shell; `ask` sends a line and returns the reply up to the next prompt."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], prompt: str) -> None:
        self.process = process
        self.prompt = prompt
        self.received = ""

    async def until(self, text: str) -> str:
        """Return what comes up to and with *text*; what is left is kept. Raises: EOFError: the connection has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.received:
                data = await self.process.stdout.read(65536)
                if not data:
                    raise EOFError(self.received)
                self.received += data.decode("utf-8", "replace")
        before, _, self.received = self.received.partition(text)
        return before + text

    def send(self, text: str) -> None:
        """Type *text*."""
        self.process.stdin.write(text.encode())

    async def ask(self, line: str) -> str:
        """Type a line and return the reply, without echo and prompt, with line feeds only."""
        self.send(line + "\r")
        reply = (await self.until(self.prompt)).replace("\r\n", "\n").removesuffix(self.prompt)
        return reply.removeprefix(line + "\n")


@asynccontextmanager
async def shell(fleet: FleetHandle, node: str, hostname: str | None = None) -> AsyncIterator[Conversation]:
    """Open a shell with a pseudo-terminal on *node* and wait for the first prompt."""
    async with (
        connected(fleet, node) as connection,
        connection.create_process(term_type="vt100", term_size=(200, 50), encoding=None) as process,
    ):
        conversation = Conversation(process, f"{hostname or node}> ")
        await conversation.until(conversation.prompt)
        yield conversation


def talk(fleet: FleetHandle, node: str, *lines: str) -> list[str]:
    """Return the replies to *lines*, typed in one session."""

    async def session() -> list[str]:
        async with shell(fleet, node) as conversation:
            return [await conversation.ask(line) for line in lines]

    return asyncio.run(session())


def upload(fleet: FleetHandle, node: str, name: str, data: bytes) -> None:
    """Put a file by SFTP."""

    async def session() -> None:
        async with (
            connected(fleet, node) as connection,
            connection.start_sftp_client() as sftp,
            sftp.open(name, "wb") as file,
        ):
            await file.write(data)

    asyncio.run(session())


def download(fleet: FleetHandle, node: str, name: str) -> bytes:
    """Get a file by SFTP."""

    async def session() -> bytes:
        async with (
            connected(fleet, node) as connection,
            connection.start_sftp_client() as sftp,
            sftp.open(name, "rb") as file,
        ):
            return bytes(await file.read())

    return asyncio.run(session())


def served(fleet: FleetHandle, node: str, port: int) -> x509.Certificate:
    """Return the leaf that a port really serves, whether or not the peer then refuses us. Raises: OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((fleet.address(node), port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")


def refused(fleet: FleetHandle, node: str, port: int) -> bool:
    """Tell whether nothing listens on a port."""
    try:
        socket.create_connection((fleet.address(node), port), timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until *condition* is true. Raises: TimeoutError."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(condition)
        time.sleep(0.02)


def sign(fleet: FleetHandle, csr: bytes) -> tuple[bytes, bytes]:
    """Return (leaf, issuers) in PEM for a request, from the fleet's issuing authority."""
    from datetime import UTC, datetime, timedelta

    from simulator import pki

    request = x509.load_pem_x509_csr(csr)
    names = tuple(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    authorities = fleet.fleet.authorities
    now = datetime.now(UTC)
    leaf = authorities.issuing.issue(
        public_key=request.public_key(),
        wish=pki.Wish(subject=request.subject, names=names),
        not_before=now - timedelta(minutes=5),
        not_after=now + timedelta(days=90),
    )
    issuers = pki.to_pem(authorities.issuing.certificate) + pki.to_pem(authorities.root.certificate)
    return pki.to_pem(leaf), issuers


def renewed(fleet: FleetHandle, node: str, basename: str) -> bytes:
    """Make key, request and signed certificate *basename* on *node*; return the leaf in PEM.

    Files: basename.key, .csr, .crt (leaf), -bundle.crt (issuing, root), -fullchain.crt.
    """
    host = f"{node}.example.com"
    fleet.execute(node, f"pki csr {basename} CN:{host} subjectAltName:{host}")
    leaf, issuers = sign(fleet, fleet.files(node)[f"{basename}.csr"])
    for name, data in {".crt": leaf, "-bundle.crt": issuers, "-fullchain.crt": leaf + issuers}.items():
        fleet.put_file(node, basename + name, data)
    return leaf


def write_askpass(directory: Path, password: str) -> dict[str, str]:
    """Return the environment with which OpenSSH asks a script of ours for the password."""
    script = directory / "askpass"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$SIMULATOR_PASSWORD"\n')
    script.chmod(0o700)
    return {
        "SSH_ASKPASS": str(script),
        "SSH_ASKPASS_REQUIRE": "force",
        "SIMULATOR_PASSWORD": password,
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
    }


def confirm(fleet: FleetHandle, node: str, line: str, key: str = "Y") -> str:
    """Type a line that asks a question, answer it with *key*, and return all that was printed."""

    async def session() -> str:
        async with shell(fleet, node) as conversation:
            conversation.send(line + "\r")
            asked = await conversation.until("(Y/n)")
            conversation.send(key)
            return asked + await conversation.until(conversation.prompt)

    return asyncio.run(session()).replace("\r\n", "\n")


def served_database(fleet: FleetHandle, node: str) -> x509.Certificate:
    """Return the leaf that the database serves after an SSLRequest. Raises: OSError: nothing listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((fleet.address(node), 5432), timeout=PATIENCE_S) as plain:
        plain.sendall(bytes.fromhex("0000000804d2162f"))
        if plain.recv(1) != b"S":
            raise OSError("no TLS")
        with context.wrap_socket(plain) as secured:
            return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
