"""`Idempotency-Key`: a request that starts something is carried out once, however often it is sent.

    def start(who: Operator, here: Here, body: StartBody, once: Once) -> Started:
        return once(Started, 202, lambda: _start(who, here, body, once))

The same key with the same request is answered as before (`Idempotency-Replayed: true`), for a day; with another request
it is a fault (422); while the first one is being carried out, 409. A key belongs to its account as it stands: an answer
from before a change of roles is not given again, since it may tell of a cluster that was lost. An answer that is a
problem is not kept, because nothing was done. Pages that call a route themselves hand in `NO_KEY`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from api.auth.identity import who_is
from api.here import Server, server
from workflows.journal import Journal, Transaction, asked
from workflows.people import Person

REPLAYED = "Idempotency-Replayed"
T = TypeVar("T", bound=BaseModel)


@dataclass(slots=True, kw_only=True)
class Keyed:
    """A request and its key, "" when it has none."""

    journal: Journal | None = None
    account: str = ""
    key: str = ""
    request: str = ""
    response: Response = field(default_factory=Response)
    _kept: bool = False

    def __call__(self, model: type[T], status: int, make: Callable[[], T]) -> T:
        """Return what *make* returns, or what it returned the first time; *status* is that of a first answer."""
        if not self.key or self.journal is None:
            return make()
        mine = {"account": self.account, "key": self.key}
        before = self.journal.write(lambda tx: asked.claim_request(tx, request=self.request, **mine))
        if before is not None:
            self.response.headers[REPLAYED] = "true"
            self.response.status_code = before.status
            return model.model_validate_json(before.body)
        try:
            made = make()
        except BaseException:
            self.journal.write(lambda tx: asked.drop_request(tx, **mine))
            raise
        if not self._kept:
            self.journal.write(lambda tx: self.keep(tx, made, self.response.status_code or status))
        return made

    def keep(self, tx: Transaction, made: BaseModel, status: int) -> None:
        """Keep the answer in the commit of what was done; for `make` functions that write by themselves."""
        if self.key:
            asked.answer_request(tx, account=self.account, key=self.key, status=status, body=made.model_dump_json())
            self._kept = True


NO_KEY = Keyed()


def standing(who: Person) -> str:
    """Return what *who* may, as a text that differs whenever that differs."""
    grants = [f"{one.role}@{one.cluster}" for one in sorted(who.grants)]
    scopes = "all" if who.scopes is None else " ".join(sorted(who.scopes))
    return f"{' '.join(grants)} ({scopes})"


async def _fingerprint(request: Request, who: Annotated[Person, Depends(who_is)]) -> str:
    """Return a digest of all that was asked: method, path, query and body, and what the asker may."""
    what = f"{request.method} {request.url.path}?{request.url.query}"
    asked_for = hashlib.sha256(f"{what}\n{standing(who)}\n".encode())
    if request.headers.get("content-type", "").startswith("multipart/"):
        for name, value in (await request.form()).multi_items():
            asked_for.update(f"\n{name}:".encode())
            if isinstance(value, UploadFile):
                asked_for.update(f"{value.filename}:".encode() + await value.read())
                await value.seek(0)
            else:
                asked_for.update(value.encode())
    else:
        asked_for.update(await request.body())
    return asked_for.hexdigest()


def _keyed(
    response: Response,
    here: Annotated[Server, Depends(server)],
    who: Annotated[Person, Depends(who_is)],
    fingerprint: Annotated[str, Depends(_fingerprint)],
    idempotency_key: Annotated[
        str,
        Header(max_length=255, description="Any text: the same request with the same key is carried out once."),
    ] = "",
) -> Keyed:
    return Keyed(journal=here.journal, account=who.account, key=idempotency_key, request=fingerprint, response=response)


Once = Annotated[Keyed, Depends(_keyed)]
