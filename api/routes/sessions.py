"""Sessions: one's own, everybody's for auditors, and ending them (ASVS 5.0, 7.4)."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from api.auth.identity import oneself
from api.here import Here
from api.schemas import Limit, Offset, Page, page_of
from workflows.errors import NotAllowed, NotThere
from workflows.journal import Transaction, accounts, entries
from workflows.people import Permission, Person

router = APIRouter(prefix="/api", tags=["sessions"])
Anybody = Annotated[Person, oneself()]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$", description="The id of a session, from the list.")]
OfWhom = Annotated[
    str,
    Query(pattern=r"^([0-9a-f]{1,32}|everybody)?$", description="An account's id, or \"everybody\"; else one's own."),
]


class SessionRow(BaseModel):
    """One session; `current` marks the one that asks."""

    session: str
    account: str
    name: str
    how: str
    agent: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool


@router.get("/sessions")
def list_sessions(
    who: Anybody, here: Here, request: Request, account: OfWhom = "", limit: Limit = 100, offset: Offset = 0
) -> Page[SessionRow]:
    """List sessions that are alive, newest first."""
    whose = of_whom(who, account, Permission.AUDIT)
    found = here.journal.read(partial(entries.sessions, account=whose))
    names = here.journal.read(accounts.names)
    mine = getattr(request.state, "session", "")
    rows = [
        SessionRow(
            name=names.get(one.account, ""),
            current=one.session == mine,
            **{name: getattr(one, name) for name in SessionRow.model_fields.keys() - {"name", "current"}},
        )
        for one in found[offset : offset + limit]
    ]
    return page_of(rows, len(found), limit, offset)


@router.delete("/sessions", status_code=204)
def end_sessions(who: Anybody, here: Here, request: Request, account: OfWhom = "") -> None:
    """End all sessions of an account, or of everybody; of one's own, all but the one that asks."""
    whose = of_whom(who, account, Permission.MANAGE)
    keep = getattr(request.state, "session", "") if whose in {who.account, ""} else ""

    def write(tx: Transaction) -> None:
        for one in entries.sessions(tx.connection, whose):
            if one.session != keep:
                entries.end_session(tx, one.session, by=who.name)

    here.journal.write(write)


@router.delete("/sessions/{session}", status_code=204)
def end_session(who: Anybody, here: Here, session: Id) -> None:
    """End a session; one's own, or with the permission `manage` anybody's."""

    def write(tx: Transaction) -> None:
        owner = next((one.account for one in entries.sessions(tx.connection) if one.session == session), "")
        # Whose it is is not told to those who may not end it.
        if not owner or not (who.may(Permission.MANAGE) or (owner == who.account and who.scopes is None)):
            raise NotThere("There is no such session.", remedy="It may have ended by itself.")
        entries.end_session(tx, session, by=who.name)

    here.journal.write(write)


def of_whom(who: Person, account: str, permission: Permission) -> str:
    """Return the account that is meant, "" for everybody. Raises: NotAllowed: *who* lacks *permission* for it."""
    if account in {"", who.account} and (who.scopes is None or permission is Permission.AUDIT):
        return who.account
    if not who.may(permission):
        raise NotAllowed(f"{who.name} may only do this for their own account, signed in on the pages.")
    return "" if account == "everybody" else account or who.account
