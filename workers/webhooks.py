"""Sends webhooks: a thread of the control worker that is apart from the outbox, so that no receiver holds up a lane.

Signed as Standard Webhooks says (webhook-id, webhook-timestamp, webhook-signature: "v1," and the base64 of the
HMAC-SHA256 over "id.timestamp.body"). A message is marked after the answer came: a worker that dies in between sends it
again under the same id. Redirects are not followed, and of an answer only its beginning is read.

A name is resolved for each try, and the connection goes to the very address that `destinations` allowed: between the
look and the connection nobody can let the name lead elsewhere. So no proxy of the environment is used either.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version

import httpx2
import structlog

from workflows import in_time
from workflows.destinations import SETTING, Address, Destinations, is_public
from workflows.errors import CertbridgeError, NotAllowed
from workflows.journal import stock, webhooks
from workflows.journal.store import Journal
from workflows.journal.vault import Vault
from workflows.journal.webhooks import Delivery, Webhook

LOOK_EVERY_S = 0.5
PRUNE_EVERY_S = 3600.0
WITHIN_S = 10.0
"""How long a try may take in all: finding the address, connecting, sending, and the beginning of the answer."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - the format's own mark of a secret
_AT_ONCE = 8
_ADDRESSES = 4
"""So many addresses of a name are tried at most."""

log = structlog.get_logger()


def sign(secret: str, message: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header webhook-signature. *secret* is "whsec_" and the base64 of the key."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b".".join((message.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


class Sender:
    """Looks for messages that are due and sends them, one at a time to each webhook, several webhooks at once."""

    def __init__(
        self,
        journal: Journal,
        vault: Vault,
        destinations: Destinations,
        *,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._journal = journal
        self._vault = vault
        self._destinations = destinations
        self._verify = verify or ssl.create_default_context()
        self._agent = f"certbridge/{version('certbridge')}"
        self._busy: dict[str, threading.Thread] = {}
        self._prune_at = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Send until *stopping* is set. A failure is logged and tried again."""
        while not stopping.wait(LOOK_EVERY_S):
            try:
                self.look()
                self.prune()
            except Exception as error:  # noqa: BLE001 - this thread must outlive a database that is away
                log.warning("webhooks_failed", error=type(error).__name__)

    def look(self) -> int:
        """Begin to send what is due, but for webhooks that are being told already; return how many were begun."""
        by_hook: dict[str, list[tuple[Webhook, Delivery]]] = {}
        for hook, delivery in self._journal.read(webhooks.due):
            by_hook.setdefault(hook.webhook, []).append((hook, delivery))
        self._busy = {name: thread for name, thread in self._busy.items() if thread.is_alive()}
        begun = [name for name in by_hook if name not in self._busy][: _AT_ONCE - len(self._busy)]
        for name in begun:
            # A daemon: the end of the worker waits for no slow receiver; the message is sent again after the restart.
            self._busy[name] = threading.Thread(target=self._send_all, args=(by_hook[name],), daemon=True)
            self._busy[name].start()
        return len(begun)

    def prune(self) -> None:
        """Give up what waits for too long and forget what ended long ago, when an hour has passed since the last."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        self._journal.write(webhooks.give_up)
        while self._journal.write(webhooks.prune):
            pass

    def wait(self, within_s: float) -> None:
        """Wait until nothing is being sent."""
        for thread in tuple(self._busy.values()):
            thread.join(within_s)

    def _send_all(self, rows: Sequence[tuple[Webhook, Delivery]]) -> None:
        for hook, delivery in rows:
            try:
                status, said = self._send(hook, delivery)
                self._journal.write(partial(webhooks.tried, delivery=delivery, status=status, said=said))
            except CertbridgeError as error:  # the journal or the vault; the row stays due
                log.warning("webhook_not_sent", webhook=hook.webhook, error=error.code)
                return
            if not 200 <= status < 300:
                log.info("webhook_refused", webhook=hook.webhook, delivery=delivery.id, status=status)
                return  # the others of this receiver wait for the next look

    def _send(self, hook: Webhook, delivery: Delivery) -> tuple[int, str]:
        """Return the status and the beginning of the answer; (0, why) when none came."""
        row = webhooks.secret_row(hook.webhook)
        ciphertext = self._journal.read(partial(stock.sealed, sealed_id=row))
        if ciphertext is None:
            return 0, "its secret is gone; make a new one"
        secret = self._vault.unseal(row, ciphertext).decode()
        body, now = delivery.body.encode(), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",
            "webhook-id": delivery.message,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(secret, delivery.message, now, body),
        }
        try:
            return in_time.run(self._within(hook.url, body, headers))
        except NotAllowed as error:
            return 0, str(error)
        except TimeoutError:
            return 0, f"no answer within {WITHIN_S:g} s"
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            # The class alone: the words of a library may repeat the address.
            return 0, f"no answer ({type(error).__name__})"

    async def _within(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        # One deadline for all of it: the client's own time-outs begin anew with every byte that comes.
        async with asyncio.timeout(WITHIN_S):
            target = httpx2.URL(url)
            found = await self._addresses(target)
            timeout = httpx2.Timeout(WITHIN_S, connect=WITHIN_S / len(found))
            async with httpx2.AsyncClient(
                timeout=timeout, follow_redirects=False, trust_env=False, verify=self._verify
            ) as client:
                for address in found[:-1]:
                    try:
                        return await _post(client, target, address, body, headers)
                    except (httpx2.ConnectError, httpx2.ConnectTimeout):
                        continue  # nothing was sent: the next address of the same name may answer
                return await _post(client, target, found[-1], body, headers)

    async def _addresses(self, target: httpx2.URL) -> list[Address]:
        """Return the addresses that *target* has now and may have, at most a few. Raises: NotAllowed: none; OSError."""
        port = target.port or (443 if target.scheme == "https" else 80)
        told = await asyncio.get_running_loop().getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(ipaddress.ip_address(one[4][0]) for one in told))
        allowed = [one for one in found if self._destinations.allow(target.host, one)][:_ADDRESSES]
        if not allowed:
            raise NotAllowed(f"not sent: {SETTING} does not allow its address")
        return allowed


async def _post(
    client: httpx2.AsyncClient, target: httpx2.URL, address: Address, body: bytes, headers: Mapping[str, str]
) -> tuple[int, str]:
    """Send it to *address*, under the name that *target* has: for TLS, and for the receiver."""
    name = target.raw_host.decode("ascii")
    async with client.stream(
        "POST",
        target.copy_with(host=str(address)),
        content=body,
        headers={**headers, "Host": target.netloc.decode("ascii")},
        extensions={"sni_hostname": name},
    ) as answer:
        # What stands inside our own networks is not shown to whoever may write an address.
        return answer.status_code, await _beginning(answer) if is_public(address) else ""


async def _beginning(answer: httpx2.Response) -> str:
    """Return the first characters of the answer; the rest is not even read."""
    try:
        # As it came: nothing that grows when it is unpacked.
        first = await anext(answer.aiter_raw(), b"")
    except httpx2.HTTPError:
        return ""
    text = first.decode("utf-8", errors="replace")[: 2 * webhooks.SAID]
    return "".join(letter if letter.isprintable() else " " for letter in text)[: webhooks.SAID].strip()
