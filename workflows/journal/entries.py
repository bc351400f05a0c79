"""Sessions and tokens: the two ways in. Both are looked up at every request, so both can be ended at any moment.

Only the SHA-256 of what is presented is kept; a session is found by it and named in lists by another, public id.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from workflows.errors import NotSignedIn, NotThere
from workflows.journal import accounts, tables
from workflows.journal.events import FLEET, Kind, NewEvent
from workflows.journal.store import Transaction, moment
from workflows.people import Permission, Person

SESSION_S = 12 * 3600.0
"""A session ends this long after signing in (ASVS 7.3.2) …"""
IDLE_S = 3600.0
"""… and this long after its last request (ASVS 7.3.1)."""
PREFIX = "cbt_"
"""Tokens begin so: programs that look for leaked secrets find them by it."""
_NOTED_EVERY_S = 60.0
_SESSION, _TOKEN, _ACCOUNT = tables.session, tables.token, tables.account


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session as lists show it."""

    session: str
    account: str
    how: str
    agent: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One API token as lists show it; `scopes` are what it may do at most."""

    token: str
    account: str
    name: str
    scopes: tuple[Permission, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def sign_in(tx: Transaction, account: str, *, how: str, agent: str = "", address: str = "") -> str:
    """Begin a session and return the secret for its cookie; ended ones of everybody are cleared away."""
    secret = secrets.token_urlsafe(32)
    session = secrets.token_hex(6)
    tx.connection.execute(sa.delete(_SESSION).where(sa.not_(_alive(tx.clock))))
    values = {"account": account, "how": how, "agent": agent[:200], "address": address, "created_at": tx.clock}
    tx.connection.execute(
        sa.insert(_SESSION).values(
            session=session,
            hash=accounts.digest(secret),
            seen_at=tx.clock,
            expires_at=tx.clock + SESSION_S,
            **values,
        )
    )
    name = accounts.get(tx.connection, account).name
    said = {"account": account, "session": session, "how": how, "address": address}
    tx.append(NewEvent(run=FLEET, kind=Kind.SIGNED_IN, actor=name, data=said))
    return secret


def of_session(connection: sa.Connection, secret: str) -> tuple[Person, Session, bool] | None:
    """Return who presents this cookie, the session, and whether `touch` is due; None: ended, unknown or shut out."""
    clock = connection.execute(sa.select(tables.clock())).scalar_one()
    row = connection.execute(
        sa.select(_SESSION).where(_SESSION.c.hash == accounts.digest(secret), _alive(clock))
    ).first()
    if row is None:
        return None
    account = accounts.get(connection, row.account)
    if not account.active:
        return None
    return accounts.person(account), _session(row), clock - row.seen_at > _NOTED_EVERY_S


def touch(tx: Transaction, session: str) -> None:
    """Note that the session was used just now."""
    tx.connection.execute(sa.update(_SESSION).where(_SESSION.c.session == session).values(seen_at=tx.clock))


def sessions(connection: sa.Connection, account: str = "") -> list[Session]:
    """Return the sessions that are alive, of *account* or of everybody, newest first."""
    mine = _SESSION.c.account == account if account else sa.true()
    query = sa.select(_SESSION).where(_alive(tables.clock()), mine).order_by(_SESSION.c.created_at.desc())
    return [_session(row) for row in connection.execute(query)]


def end_session(tx: Transaction, session: str, *, by: str) -> str:
    """End it and return whose it was. Raises: NotThere."""
    gone = tx.connection.execute(
        sa.delete(_SESSION).where(_SESSION.c.session == session).returning(_SESSION.c.account)
    ).scalar_one_or_none()
    if gone is None:
        raise NotThere("There is no such session.", remedy="It may have ended by itself.")
    said = {"account": gone, "session": session}
    tx.append(NewEvent(run=FLEET, kind=Kind.SESSION_ENDED, actor=by, data=said))
    return str(gone)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def make_token(
    tx: Transaction, account: str, *, name: str, scopes: Collection[Permission], lasts_s: float, by: str
) -> tuple[str, str]:
    """Return the token's id and the token itself, "cbt_<id>_<secret>_<crc>", which is shown this once only."""
    token = secrets.token_hex(6)
    secret = f"{PREFIX}{token}_{secrets.token_urlsafe(32)}"
    secret = f"{secret}_{zlib.crc32(secret.encode()):08x}"
    wanted = sorted(scopes)
    tx.connection.execute(
        sa.insert(_TOKEN).values(
            token=token,
            hash=accounts.digest(secret),
            account=account,
            name=name,
            scopes=[one.value for one in wanted],
            created_at=tx.clock,
            expires_at=tx.clock + lasts_s,
        )
    )
    said = {"account": account, "token": token, "name": name, "scopes": [one.value for one in wanted]}
    tx.append(NewEvent(run=FLEET, kind=Kind.TOKEN_MADE, actor=by, data=said))
    return token, secret


def of_token(connection: sa.Connection, secret: str, *, provider_days: int) -> tuple[Person, Token, bool] | None:
    """Return whom this token acts for, the token, and whether `note_use` is due; None: it opens nothing.

    Raises: NotSignedIn: it `rests`.
    """
    head, _, crc = secret.rpartition("_")
    if not secret.startswith(PREFIX) or f"{zlib.crc32(head.encode()):08x}" != crc:
        return None  # not even looked up
    clock = connection.execute(sa.select(tables.clock())).scalar_one()
    row = connection.execute(
        sa.select(_TOKEN).where(
            _TOKEN.c.hash == accounts.digest(secret), _TOKEN.c.revoked_at.is_(None), _TOKEN.c.expires_at > clock
        )
    ).first()
    if row is None:
        return None
    account, token = accounts.get(connection, row.account), _token(row)
    if not account.active:
        return None
    if rests(account, moment(clock), provider_days=provider_days):
        raise NotSignedIn(
            f"This token rests: {account.name} did not sign in through the provider for {provider_days} days.",
            remedy="Sign in again through the provider; then it works again.",
        )
    due = row.used_at is None or clock - row.used_at > _NOTED_EVERY_S
    return accounts.person(account, via=f"token {token.name}", scopes=token.scopes), token, due


def rests(account: accounts.Account, now: datetime, *, provider_days: int) -> bool:
    """Return whether the tokens of *account* rest: it signs in at a provider, and did not for *provider_days*.

    What the provider grants is learned when somebody signs in there; tokens alone would keep it for those who left.
    """
    seen = account.seen_at_provider
    return seen is not None and now - seen > timedelta(days=provider_days)


def note_use(tx: Transaction, token: str) -> None:
    """Note that the token was used just now."""
    tx.connection.execute(sa.update(_TOKEN).where(_TOKEN.c.token == token).values(used_at=tx.clock))


def tokens(connection: sa.Connection, account: str = "") -> list[Token]:
    """Return all tokens, of *account* or of everybody, newest first; revoked and expired ones too."""
    mine = _TOKEN.c.account == account if account else sa.true()
    query = sa.select(_TOKEN).where(mine).order_by(_TOKEN.c.created_at.desc(), _TOKEN.c.token)
    return [_token(row) for row in connection.execute(query)]


def revoke_token(tx: Transaction, token: str, *, by: str) -> None:
    """Let the token open nothing from now on. Raises: NotThere."""
    statement = sa.update(_TOKEN).where(_TOKEN.c.token == token, _TOKEN.c.revoked_at.is_(None))
    if tx.connection.execute(statement.values(revoked_at=tx.clock)).rowcount != 1:
        raise NotThere("There is no such token, or it was revoked before.", remedy="See the list of tokens.")
    tx.append(NewEvent(run=FLEET, kind=Kind.TOKEN_REVOKED, actor=by, data={"token": token}))


def _alive(clock: object) -> sa.ColumnElement[bool]:
    return sa.and_(_SESSION.c.expires_at > clock, _SESSION.c.seen_at > clock - IDLE_S)  # type: ignore[operator]


def _session(row: sa.Row[tuple[object, ...]]) -> Session:
    return Session(
        session=row.session,
        account=row.account,
        how=row.how,
        agent=row.agent,
        address=row.address,
        created_at=moment(row.created_at),
        seen_at=moment(row.seen_at),
        expires_at=moment(row.expires_at),
    )


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    return Token(
        token=row.token,
        account=row.account,
        name=row.name,
        scopes=tuple(Permission(one) for one in row.scopes),
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        used_at=None if row.used_at is None else moment(row.used_at),
        revoked_at=None if row.revoked_at is None else moment(row.revoked_at),
    )
