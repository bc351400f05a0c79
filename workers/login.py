"""Logging in over SSH: the host key is checked first, then the password goes out, once.

All options of asyncssh are given as objects and by name: by default it would read the account's ~/.ssh, ask an agent
and trust known_hosts. Objects are also several times cheaper than file names at each connect.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from dataclasses import dataclass
from typing import Protocol

import asyncssh
from asyncssh.auth import KbdIntPrompts, KbdIntResponse, PasswordChangeResponse
from asyncssh.public_key import get_default_public_key_algs

from workers.credentials import Credential, Secret
from workflows.errors import HostKeyChanged, LoginRefused, Unreachable

# AES-GCM first, then all that asyncssh takes by default: its own first choice, chacha20, costs 1.8 times as much.
CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"


class NodeAddress(Protocol):
    """What is needed of a node of the inventory."""

    @property
    def name(self) -> str:
        """Its name in the inventory."""

    @property
    def address(self) -> str:
        """Host name or IP address."""

    @property
    def port(self) -> int:
        """The SSH port."""

    @property
    def credential(self) -> str:
        """The name of its credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long we wait, in seconds. A silent cut is noticed after keepalive_s * (keepalive_count + 1)."""

    connect_s: float = 10.0
    login_s: float = 20.0
    keepalive_s: float = 5.0
    keepalive_count: int = 3
    idle_s: float = 60.0  # servers cap sessions, so an unused connection is closed
    quiet_s: float = 1.0  # nothing came for so long: perhaps it is a question
    interrupt_s: float = 5.0  # for the prompt after Ctrl-C
    transfer_s: float = 60.0  # for each transfer, and one second more for every 50 kB
    command_s: float | None = None  # instead of the limit of the command's class (tests, slow links)


async def log_in(
    node: NodeAddress, pin: str, credential: Credential, dialled: socket.socket, timings: Timings
) -> asyncssh.SSHClientConnection:
    """Return a connection to *node* whose host key is *pin* ("ssh-ed25519 AAAA…"), logged in with *credential*.

    *dialled* is a connected socket from `dial`. One attempt with the password is made, no more.
    Raises: HostKeyChanged: before any password went out. LoginRefused. Unreachable.
    """
    client = _OneAttempt(credential.password)
    pinned = _public_key(pin)
    try:
        return await asyncssh.connect(
            node.address,
            node.port,
            sock=dialled,
            client_factory=lambda: client,
            config=None,
            agent_path=None,
            agent_forwarding=False,
            known_hosts=([pinned], [], []),
            server_host_key_algs=_algorithms(pinned),
            x509_trusted_certs=None,
            x509_trusted_cert_paths=None,
            username=credential.username,
            password=None,  # the client gives it, once
            client_keys=[credential.key] if credential.key else None,
            client_host_keys=None,
            host_based_auth=False,
            gss_host=None,
            gss_kex=False,
            gss_auth=False,
            pkcs11_provider=None,
            preferred_auth=("publickey", "password", "keyboard-interactive"),
            encryption_algs=CIPHERS,
            compression_algs=None,
            connect_timeout=timings.login_s,
            login_timeout=timings.login_s,
            keepalive_interval=timings.keepalive_s,
            keepalive_count_max=timings.keepalive_count,
            send_env=None,
            canonicalize_hostname=False,
        )
    except asyncssh.HostKeyNotVerifiable:
        raise HostKeyChanged(node=node.name) from None
    except asyncssh.PermissionDenied:
        raise _refused(node, credential, client.change_wanted) from None
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise Unreachable(f"the server does not answer over SSH ({_short(error)})", node=node.name) from error


async def dial(node: NodeAddress, timings: Timings) -> socket.socket:
    """Return a socket connected to *node*. Raises: Unreachable."""
    loop = asyncio.get_running_loop()
    reason = "no address"
    try:
        async with asyncio.timeout(timings.connect_s):
            for family, kind, protocol, _, address in await loop.getaddrinfo(
                node.address, node.port, type=socket.SOCK_STREAM
            ):
                dialled = socket.socket(family, kind, protocol)
                dialled.setblocking(False)
                try:
                    await loop.sock_connect(dialled, address)
                except OSError as error:
                    dialled.close()
                    reason = _short(error)
                except BaseException:
                    dialled.close()
                    raise
                else:
                    return dialled
    except TimeoutError:
        reason = f"nothing within {timings.connect_s:g} s"
    except OSError as error:
        reason = _short(error)
    raise Unreachable(f"the server does not answer at {node.address}:{node.port} ({reason})", node=node.name)


async def scan_host_key(address: str, port: int, *, timeout_s: float = 10.0) -> tuple[str, str]:
    """Return the host key a server shows, without logging in: ("ssh-ed25519 AAAA…", "SHA256:…").

    Raises: Unreachable.
    """
    options = asyncssh.SSHClientConnectionOptions(
        config=None, known_hosts=None, x509_trusted_certs=None, agent_path=None, client_keys=None
    )
    try:
        async with asyncio.timeout(timeout_s):
            key = await asyncssh.get_server_host_key(address, port, config=None, options=options)
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise Unreachable(f"{address}:{port} does not answer over SSH ({_short(error)})") from error
    if key is None:
        raise Unreachable(f"{address}:{port} shows no host key")
    return _openssh(key), key.get_fingerprint()


class _OneAttempt(asyncssh.SSHClient):
    """Gives the password out once per connection, by whichever of the two methods the server asks first.

    Two attempts per login would count double towards a server's lock-out (mmp-reference 1.2, max_failed_logins).
    """

    def __init__(self, password: Secret | None) -> None:
        self._password = password
        self.change_wanted = False

    def _give(self) -> str | None:
        given, self._password = self._password, None
        return given.reveal() if given else None

    def password_auth_requested(self) -> str | None:
        """Return the password the first time, None after that."""
        return self._give()

    def password_change_requested(self, prompt: str, lang: str) -> PasswordChangeResponse:  # noqa: ARG002 - given by position
        """Note that the password has expired; it is never changed from here."""
        self.change_wanted = True
        refuse: PasswordChangeResponse = NotImplemented  # asyncssh's word for "go on without"
        return refuse

    def kbdint_auth_requested(self) -> str | None:
        """Agree to be asked, when the password has not been given yet."""
        return "" if self._password else None

    def kbdint_challenge_received(
        self,
        name: str,  # noqa: ARG002 - asyncssh gives it by position
        instructions: str,  # noqa: ARG002 - the same
        lang: str,  # noqa: ARG002 - the same
        prompts: KbdIntPrompts,
    ) -> KbdIntResponse | None:
        """Answer one hidden prompt with the password, an empty challenge with nothing, anything else not at all."""
        if not prompts:
            return []
        if len(prompts) == 1 and not prompts[0][1] and self._password:
            return [self._give() or ""]
        self.change_wanted = self.change_wanted or any("new password" in text.casefold() for text, _ in prompts)
        return None


def _refused(node: NodeAddress, credential: Credential, change_wanted: bool) -> LoginRefused:
    if change_wanted:
        return LoginRefused(
            f"the password of {credential.username!r} has expired: the server wants a new one at login",
            node=node.name,
            credential=credential.name,
            remedy=f"Log in by hand and set a new password, correct credential {credential.name!r}, then "
            f"`certbridge doctor --credential {credential.name}` wakes it.",
        )
    return LoginRefused(
        f"the server refused user {credential.username!r}; credential {credential.name!r} rests now",
        node=node.name,
        credential=credential.name,
        remedy=f"Correct the credential, then `certbridge doctor --credential {credential.name}` wakes it.",
    )


@functools.lru_cache(maxsize=1024)
def _public_key(pin: str) -> asyncssh.SSHKey:
    return asyncssh.import_public_key(pin)


def _algorithms(pinned: asyncssh.SSHKey) -> list[str]:
    """Return the host key algorithms to offer: those of the pinned key first, then all others.

    Offering the pinned kind alone would make a server that got a key of another kind look like one too old for us.
    """
    names = (*pinned.sig_algorithms, *get_default_public_key_algs())
    return list(dict.fromkeys(name.decode() for name in names))


def _openssh(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "time is over"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)  # asyncio's own words repeat the address, as a tuple
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
