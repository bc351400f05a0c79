"""Sends webhooks: a thread of the control worker that is apart from the outbox, so that no receiver holds up a lane.

Signed as Standard Webhooks says (webhook-id, webhook-timestamp, webhook-signature: "v1," and the base64 of the
HMAC-SHA256 over "id.timestamp.body"). A message is marked after the answer came: a worker that dies in between sends it
again under the same id. Redirects are not followed, and of an answer only its beginning is read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import threading
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx2
import structlog

from workflows.errors import CertbridgeError
from workflows.journal import stock, webhooks
from workflows.journal.store import Journal
from workflows.journal.vault import Vault
from workflows.journal.webhooks import Delivery, Webhook

LOOK_EVERY_S = 0.5
PRUNE_EVERY_S = 3600.0
WITHIN_S = 10.0
"""How long a receiver may take to connect, and again for each part of its answer."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - the format's own mark of a secret
_AT_ONCE = 8
_READ = 4096

log = structlog.get_logger()


def sign(secret: str, message: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header webhook-signature. *secret* is "whsec_" and the base64 of the key."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b".".join((message.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


class Sender:
    """Looks for messages that are due and sends them, one at a time to each webhook, several webhooks at once."""

    def __init__(self, journal: Journal, vault: Vault, *, verify: ssl.SSLContext | None = None) -> None:
        self._journal = journal
        self._vault = vault
        self._client = httpx2.Client(
            timeout=WITHIN_S,
            follow_redirects=False,
            verify=verify or ssl.create_default_context(),
            headers={"User-Agent": f"certbridge/{version('certbridge')}"},
        )
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
        """Forget deliveries that ended long ago, when an hour has passed since the last time."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
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
            "webhook-id": delivery.message,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(secret, delivery.message, now, body),
        }
        try:
            with self._client.stream("POST", hook.url, content=body, headers=headers) as answer:
                return answer.status_code, _beginning(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            # The class alone: the words of a library may repeat the address.
            return 0, f"no answer ({type(error).__name__})"


def _beginning(answer: Any) -> str:
    """Return the first characters of the answer; the rest is not even read."""
    try:
        first = next(iter(answer.iter_bytes(_READ)), b"")
    except httpx2.HTTPError:
        return ""
    text = first.decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)[: webhooks.SAID].strip()
