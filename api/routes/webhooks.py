"""Webhooks: whom certbridge tells of what happens, and what came of each message. Sent by the control worker."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.auth.identity import asks
from api.here import Here, Server
from api.schemas import Body, Limit, Offset, Page, page_of
from workflows.journal import webhooks
from workflows.journal.vault import Vault
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["webhooks"])
Auditor = Annotated[Person, asks(Permission.AUDIT)]
Manager = Annotated[Person, asks(Permission.MANAGE)]
_Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class WebhookBody(BaseModel):
    """A webhook; `kinds` empty means everything that there is to tell."""

    webhook: str
    url: str = Field(description="The address; its scheme and host only, for those who may not change webhooks.")
    kinds: list[str]
    active: bool
    made_by: str
    created_at: datetime


class NewWebhookBody(WebhookBody):
    """A webhook with its secret, which is shown this once only."""

    secret: str


class DeliveryBody(BaseModel):
    """A message and what came of it; `message` is its header webhook-id, the same at every try.

    `said`, the beginning of the answer, is "" for those who may not change webhooks: it may repeat the address.
    """

    id: int
    message: str
    run: str
    kind: str
    state: Literal["waiting", "delivered", "given up"]
    tries: int
    status: int
    said: str
    at: datetime
    due_at: datetime
    tried_at: datetime | None
    done_at: datetime | None


class NewWebhook(Body):
    """What makes a webhook."""

    url: str = Field(min_length=1, max_length=2000, description="https, or plain http to the machine of certbridge.")
    kinds: list[str] = Field(default=[], max_length=50, description="What it is told of, as run.closed; empty: all.")


class WebhookChange(Body):
    """What is to be changed; what is left out stays. `new_secret` makes another secret and answers with it."""

    url: str | None = Field(default=None, min_length=1, max_length=2000)
    kinds: list[str] | None = Field(default=None, max_length=50)
    active: bool | None = None
    new_secret: bool = False


class DeliveryStarted(BaseModel):
    """The message that will be sent."""

    delivery: int


@router.get("/webhooks")
def list_webhooks(who: Auditor, here: Here, limit: Limit = 50, offset: Offset = 0) -> Page[WebhookBody]:
    """List webhooks, oldest first."""
    found = here.journal.read(webhooks.every)
    return page_of([_body(one, who) for one in found[offset : offset + limit]], len(found), limit, offset)


@router.post("/webhooks", status_code=201)
def make_webhook(who: Manager, here: Here, wanted: NewWebhook) -> NewWebhookBody:
    """Make a webhook. The secret by which its messages are signed is shown this once only."""
    webhook, secret = webhooks.new_id(), _new_secret()
    _check_url(here, wanted.url)
    add = partial(
        webhooks.add,
        webhook=webhook,
        url=wanted.url,
        kinds=wanted.kinds,
        ciphertext=_seal(here, webhook, secret),
        by=who.name,
    )
    here.journal.write(add)
    return NewWebhookBody(secret=secret, **_body(_get(here, webhook), who).model_dump())


@router.patch("/webhooks/{webhook}")
def change_webhook(who: Manager, here: Here, webhook: str, wanted: WebhookChange) -> NewWebhookBody | WebhookBody:
    """Change a webhook: address, kinds, on or off, or a new secret, which is shown this once only."""
    secret = _new_secret() if wanted.new_secret else ""
    _get(here, webhook)
    if wanted.url is not None:
        _check_url(here, wanted.url)
    change = partial(
        webhooks.change,
        webhook=webhook,
        by=who.name,
        url=wanted.url,
        kinds=wanted.kinds,
        active=wanted.active,
        ciphertext=_seal(here, webhook, secret) if secret else None,
    )
    here.journal.write(change)
    body = _body(_get(here, webhook), who)
    return NewWebhookBody(secret=secret, **body.model_dump()) if secret else body


@router.delete("/webhooks/{webhook}", status_code=204)
def remove_webhook(who: Manager, here: Here, webhook: str) -> Response:
    """Forget a webhook, its secret and the history of its messages."""
    here.journal.write(partial(webhooks.remove, webhook=webhook, by=who.name))
    return Response(status_code=204)


@router.post("/webhooks/{webhook}/test", status_code=202)
def test_webhook(who: Manager, here: Here, webhook: str) -> DeliveryStarted:
    """Send a message of type `webhook.test`."""
    return DeliveryStarted(delivery=here.journal.write(partial(webhooks.test, webhook=webhook, by=who.name)))


@router.get("/webhooks/{webhook}/deliveries")
def list_webhook_deliveries(
    who: Auditor, here: Here, webhook: str, limit: Limit = 50, offset: Offset = 0
) -> Page[DeliveryBody]:
    """List the messages of a webhook, newest first."""
    found, total = here.journal.read(partial(webhooks.deliveries, webhook=webhook, limit=limit, offset=offset))
    items = [DeliveryBody(**{name: getattr(one, name) for name in DeliveryBody.model_fields}) for one in found]
    if not who.may(Permission.MANAGE):
        items = [one.model_copy(update={"said": ""}) for one in items]
    return page_of(items, total, limit, offset)


@router.post("/webhooks/{webhook}/deliveries/{delivery}/again", status_code=202)
def send_again(who: Manager, here: Here, webhook: str, delivery: _Id) -> DeliveryStarted:
    """Send a message once more, at once, under the id that it had."""
    here.journal.write(partial(webhooks.again, webhook=webhook, delivery=delivery, by=who.name))
    return DeliveryStarted(delivery=delivery)


def _check_url(here: Server, url: str) -> None:
    # Told here as far as the address itself tells it; what a name leads to is looked at before each message.
    here.settings.destinations.check(urlsplit(webhooks.check_url(url)).hostname or "")


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _seal(here: Server, webhook: str, secret: str) -> bytes:
    return Vault(here.settings.vault_dir).seal(webhooks.secret_row(webhook), secret.encode())


def _get(here: Server, webhook: str) -> webhooks.Webhook:
    return here.journal.read(partial(webhooks.get, webhook=webhook))


def _body(one: webhooks.Webhook, who: Person) -> WebhookBody:
    body = WebhookBody(**{name: getattr(one, name) for name in WebhookBody.model_fields})
    # Many receivers put what opens them into the path: it is for those who could make another one anyway.
    return body if who.may(Permission.MANAGE) else body.model_copy(update={"url": webhooks.place_of(one.url)})
