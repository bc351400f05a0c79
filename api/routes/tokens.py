"""API tokens: made on the pages by their owner, shown once, ended by the owner or an administrator."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from api.auth.identity import oneself
from api.here import Here
from api.routes.sessions import OfWhom, of_whom
from api.routes.users import Line
from api.schemas import Body, Limit, Offset, Page, page_of
from workflows.errors import Clash, NotAllowed, NotThere
from workflows.journal import Transaction, accounts, entries
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["tokens"])
Anybody = Annotated[Person, oneself()]
AtPages = Annotated[Person, oneself(session=True)]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$", description="The id of a token, from the list.")]
LONGEST_DAYS = 366
MOST = 100
"""How many tokens of one account may open something at once."""


class NewToken(Body):
    """What a token is for: what it may do at most, and for how long."""

    name: Line = Field(min_length=1, max_length=80)
    scopes: list[Permission] = Field(min_length=1, max_length=len(Permission))
    days: int = Field(90, ge=1, le=LONGEST_DAYS)


class TokenRow(BaseModel):
    """One token; it opens something while `active` is true. Those of who stays away from the provider rest."""

    token: str
    account: str
    owner: str
    name: str
    scopes: list[Permission]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None
    active: bool


class MadeToken(TokenRow):
    """A token that was just made, with its secret, which is shown this once only."""

    secret: str


@router.get("/tokens")
def list_tokens(
    who: Anybody, here: Here, account: OfWhom = "", limit: Limit = 100, offset: Offset = 0
) -> Page[TokenRow]:
    """List tokens, newest first, those that ended too."""
    whose = of_whom(who, account, Permission.AUDIT)
    found = here.journal.read(partial(entries.tokens, account=whose))
    return page_of(_rows(here, found[offset : offset + limit]), len(found), limit, offset)


@router.post("/tokens", status_code=201)
def make_token(who: AtPages, here: Here, body: NewToken) -> MadeToken:
    """Make a token for oneself; it can do no more than one may oneself, now and later."""
    lacking = sorted(one for one in body.scopes if not who.may(one))
    if lacking:
        raise NotAllowed(f"{who.name} does not have {', '.join(lacking)}, so no token can.")

    def write(tx: Transaction) -> tuple[entries.Token, str]:
        now = tx.now()
        alive = [
            one for one in entries.tokens(tx.connection, who.account) if not one.revoked_at and one.expires_at > now
        ]
        if len(alive) >= MOST:
            raise Clash(f"{who.name} has {MOST} tokens already.", remedy="Revoke those that nobody uses.")
        token, secret = entries.make_token(
            tx, who.account, name=body.name, scopes=set(body.scopes), lasts_s=body.days * 86_400.0, by=who.name
        )
        return next(one for one in entries.tokens(tx.connection, who.account) if one.token == token), secret

    made, secret = here.journal.write(write)
    return MadeToken(secret=secret, **_rows(here, [made])[0].model_dump())


@router.delete("/tokens/{token}", status_code=204)
def revoke_token(who: Anybody, here: Here, token: Id) -> None:
    """Revoke a token; one's own, or with the permission `manage` anybody's. It opens nothing from now on."""

    def write(tx: Transaction) -> None:
        owner = next((one.account for one in entries.tokens(tx.connection) if one.token == token), "")
        # Whose it is is not told to those who may not revoke it.
        if not owner or not (who.may(Permission.MANAGE) or (owner == who.account and who.scopes is None)):
            raise NotThere("There is no such token.", remedy="See the list of tokens.")
        entries.revoke_token(tx, token, by=who.name)

    here.journal.write(write)


def _rows(here: Here, found: list[entries.Token]) -> list[TokenRow]:
    owners = here.journal.read(partial(accounts.some, wanted={one.account for one in found}))
    names = {one.account: one.name for one in owners}
    now, days = datetime.now(UTC), here.settings.oidc_token_days
    resting = {one.account for one in owners if entries.rests(one, now, provider_days=days)}
    return [
        TokenRow(
            owner=names.get(one.account, ""),
            active=one.revoked_at is None and one.expires_at > now and one.account not in resting,
            scopes=list(one.scopes),
            **{name: getattr(one, name) for name in TokenRow.model_fields.keys() - {"owner", "active", "scopes"}},
        )
        for one in found
    ]
