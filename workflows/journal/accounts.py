"""Accounts: who they are, what is granted to them, and the invitations by which they choose their first password.

Every change is an event of the fleet's chain. Passwords arrive here as argon2id hashes only, and what an invitation,
a session or a token opens is kept as its SHA-256: 256 random bits need no slow hash (ASVS 5.0, 6.5.2).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workflows.errors import Clash, InputError, NotAllowed, NotThere
from workflows.journal import tables
from workflows.journal.events import FLEET, Kind, NewEvent
from workflows.journal.store import Transaction, moment
from workflows.people import RESERVED, Grant, Person, Role

LOCAL = "local"
INVITATION_S = 3 * 86_400.0
_ACCOUNT = tables.account
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account; `has_password` is False for those who sign in elsewhere or have not taken their invitation yet.

    `seen_at_provider`: when the sign-in provider last spoke for this person; None for those who sign in here.
    """

    account: str
    name: str
    display: str
    active: bool
    has_password: bool
    grants: tuple[Grant, ...]
    groups: tuple[str, ...]
    created_at: datetime
    created_by: str
    seen_at_provider: datetime | None = None


def digest(secret: str) -> str:
    """Return the SHA-256 (hex) by which *secret* is found again."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add(
    tx: Transaction,
    *,
    name: str,
    by: str,
    display: str = "",
    grants: Collection[Grant] = (),
    groups: Collection[str] = (),
    source: str = LOCAL,
) -> str:
    """Make an account and return its id. Raises: InputError (its name), Clash (the name is taken)."""
    folded = name.strip().casefold()
    if not _NAME.fullmatch(folded) or folded in RESERVED:
        raise InputError(
            f"{name!r} is no name of an account.",
            remedy="Use 1 to 64 of a-z, 0-9 and . _ @ + -, with a letter or digit first.",
        )
    account = secrets.token_hex(8)
    if tx.connection.execute(sa.select(_ACCOUNT.c.account).where(_ACCOUNT.c.name == folded)).first():
        raise Clash(f"There is an account {folded} already.", remedy="Choose another name.")
    values = {"display": display, "password": "", "created_by": by, "active": True, "created_at": tx.clock}
    tx.connection.execute(sa.insert(_ACCOUNT).values(account=account, name=folded, **values))
    said = {"account": account, "name": folded, "change": "made"}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))
    set_grants(tx, account, grants, by=by, source=source)
    set_groups(tx, account, groups, by=by, source=source)
    return account


def set_grants(
    tx: Transaction,
    account: str,
    grants: Collection[Grant],
    *,
    by: str,
    source: str = LOCAL,
    may_be_last: bool = False,
) -> None:
    """Replace what *source* granted to *account*; it holds from the next request on (ASVS 8.3.2).

    Raises: NotAllowed: nobody who hands out roles would be left, unless *may_be_last*.
    """
    table, wanted = tables.granted, sorted(set(grants))
    before = _grants(tx.connection, account, source)
    if before == wanted:
        return
    tx.connection.execute(sa.delete(table).where(table.c.account == account, table.c.source == source))
    for one in wanted:
        tx.connection.execute(
            sa.insert(table).values(account=account, role=one.role.value, cluster=one.cluster, source=source)
        )
    if any(one.role is Role.ADMIN for one in before) and not may_be_last:
        _check_an_administrator_is_left(tx)
    said = {"account": account, "change": "roles", "before": _told(before), "after": _told(wanted), "source": source}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))


def set_groups(tx: Transaction, account: str, groups: Collection[str], *, by: str, source: str = LOCAL) -> None:
    """Replace the groups that *source* put *account* into."""
    table, wanted = tables.membership, sorted(set(groups))
    mine = (table.c.account == account, table.c.source == source)
    before = sorted(tx.connection.execute(sa.select(table.c.group).where(*mine)).scalars())
    if before == wanted:
        return
    tx.connection.execute(sa.delete(table).where(*mine))
    for one in wanted:
        tx.connection.execute(sa.insert(table).values(account=account, group=one, source=source))
    said = {"account": account, "change": "groups", "before": before, "after": wanted, "source": source}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))


def set_display(tx: Transaction, account: str, display: str, *, by: str) -> None:
    """Set what people are shown beside the name."""
    tx.connection.execute(sa.update(_ACCOUNT).where(_ACCOUNT.c.account == account).values(display=display))
    said = {"account": account, "change": "display", "after": display}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))


def set_active(tx: Transaction, account: str, *, active: bool, by: str) -> None:
    """Let *account* in again, or shut it out at once: its sessions end and its tokens are revoked, for good.

    Raises: NotThere; NotAllowed: nobody who hands out roles would be left.
    """
    found = get(tx.connection, account)
    tx.connection.execute(sa.update(_ACCOUNT).where(_ACCOUNT.c.account == account).values(active=active))
    if not active:
        if person(found).is_administrator:
            _check_an_administrator_is_left(tx)
        session, invitation = tables.session, tables.invitation
        tx.connection.execute(sa.delete(session).where(session.c.account == account))
        # One that was taken stays: gates tell whose it was, see `taken`.
        unused = (invitation.c.account == account, invitation.c.used_at.is_(None))
        tx.connection.execute(sa.delete(invitation).where(*unused))
    said = {"account": account, "change": "activated" if active else "deactivated"}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))
    if not active:
        _revoke_tokens(tx, account, by=by)


def set_password(tx: Transaction, account: str, argon2id: str, *, by: str, keep: str = "") -> None:
    """Store the hash of a new password and end every session of *account* but *keep* (ASVS 7.4.3)."""
    get(tx.connection, account)
    session = tables.session
    tx.connection.execute(sa.update(_ACCOUNT).where(_ACCOUNT.c.account == account).values(password=argon2id))
    tx.connection.execute(sa.delete(session).where(session.c.account == account, session.c.session != keep))
    said = {"account": account, "change": "password"}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))


def rehash(tx: Transaction, account: str, argon2id: str) -> None:
    """Store the same password hashed with newer parameters."""
    tx.connection.execute(sa.update(_ACCOUNT).where(_ACCOUNT.c.account == account).values(password=argon2id))


# ── invitations: the only way to a first password ────────────────────────────────────────────────────────────────────
def invite(tx: Transaction, account: str, *, by: str, lasts_s: float = INVITATION_S) -> str:
    """Return a secret that lets whoever has it choose the password of *account*, once; earlier ones are void.

    With *account* "" it makes the first administrator, and only while there is no account at all.
    Raises: NotAllowed: the account signs in at a provider, and a password would be a way in past it.
    """
    table, secret = tables.invitation, secrets.token_urlsafe(32)
    invites = get(tx.connection, account) if account else None
    if invites is not None and invites.seen_at_provider is not None:
        raise NotAllowed(
            f"{invites.name} signs in at the provider, so there is no password here.",
            remedy="Let them sign in through the provider; its groups say what they may.",
        )
    tx.connection.execute(sa.delete(table).where(table.c.account == account, table.c.used_at.is_(None)))
    values = {"account": account, "made_by": by, "created_at": tx.clock, "expires_at": tx.clock + lasts_s}
    tx.connection.execute(sa.insert(table).values(hash=digest(secret), **values))
    said = {"account": account, "change": "invited" if account else "bootstrap token made"}
    tx.append(NewEvent(run=FLEET, kind=Kind.ACCOUNT_CHANGED, actor=by, data=said))
    return secret


def invited(connection: sa.Connection, secret: str) -> tuple[str, str]:
    """Return account and name that *secret* is the invitation of; ("", "") for the first administrator's.

    Raises: NotAllowed: unknown, used or expired, all told alike.
    """
    table = tables.invitation
    alive = (table.c.used_at.is_(None), table.c.expires_at > tables.clock())
    query = sa.select(table.c.account).where(table.c.hash == digest(secret), *alive)
    found = connection.execute(query).scalar_one_or_none()
    if found is None or (not found and not nobody(connection)):
        raise _not_invited(connection)
    account = get(connection, found) if found else None
    if account is not None and not _may_choose_a_password(account):
        raise _not_invited(connection)
    return (account.account, account.name) if account else ("", "")


def take_invitation(tx: Transaction, secret: str, *, argon2id: str, name: str = "") -> str:
    """Use up the invitation and set the password; returns the account. *name* is for the first administrator only.

    Every session of the account ends and its tokens are revoked: who lost control of an account has it back whole.
    Raises: NotAllowed: unknown, used or expired, all told alike.
    """
    table = tables.invitation
    taken = tx.connection.execute(
        sa.update(table)
        .where(table.c.hash == digest(secret), table.c.used_at.is_(None), table.c.expires_at > tx.clock)
        .values(used_at=tx.clock)
        .returning(table.c.account)
    ).one_or_none()
    if taken is None or (not taken.account and not nobody(tx.connection)):
        raise _not_invited(tx.connection)
    if taken.account and not _may_choose_a_password(get(tx.connection, taken.account)):
        raise _not_invited(tx.connection)
    account: str = taken.account or add(tx, name=name, by="bootstrap", grants=[Grant(Role.ADMIN)])
    who = get(tx.connection, account).name
    set_password(tx, account, argon2id, by=who)
    _revoke_tokens(tx, account, by=who)
    return account


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An invitation that was taken: the password of *account* was set by whoever had it from *by*."""

    account: str
    by: str
    at: datetime


def taken(connection: sa.Connection, wanted: Collection[str]) -> list[Taken]:
    """Return the invitations of the accounts *wanted* that were taken, newest first."""
    table = tables.invitation
    mine = (table.c.account.in_(sorted(wanted)), table.c.used_at.is_not(None))
    query = sa.select(table.c.account, table.c.made_by, table.c.used_at).where(*mine).order_by(table.c.used_at.desc())
    return [Taken(account=row.account, by=row.made_by, at=moment(row.used_at)) for row in connection.execute(query)]


def _may_choose_a_password(account: Account) -> bool:
    return account.active and account.seen_at_provider is None


def _not_invited(connection: sa.Connection) -> NotAllowed:
    """Return the refusal; who is to be asked depends on whether there is an administrator who can sign in."""
    if _has_administrator(connection):
        return NotAllowed("This invitation is not valid.", remedy="Ask an administrator for a new one.")
    remedy = "Make one with `certbridge users add NAME --role admin`."
    if nobody(connection):
        remedy = "Make one with `certbridge users bootstrap`, on the machine of the journal."
    return NotAllowed(
        "This invitation is not valid, and there is no administrator yet.",
        remedy=remedy,
    )


def nobody(connection: sa.Connection) -> bool:
    """Return whether there is no account yet."""
    return connection.execute(sa.select(_ACCOUNT.c.account).limit(1)).first() is None


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def get(connection: sa.Connection, account: str) -> Account:
    """Return the account with this id. Raises: NotThere."""
    found = _read(connection, _ACCOUNT.c.account == account)
    if not found:
        raise NotThere("There is no such account.", remedy="See `certbridge users list`.")
    return found[0]


def by_name(connection: sa.Connection, name: str) -> Account | None:
    """Return the account called *name*, None when there is none."""
    folded = name.strip().casefold()
    # What cannot be a name is not asked for: it may hold what is no text in a database.
    found = _read(connection, _ACCOUNT.c.name == folded) if _NAME.fullmatch(folded) else []
    return found[0] if found else None


def some(connection: sa.Connection, wanted: Collection[str]) -> list[Account]:
    """Return the accounts with these ids that there are, by name."""
    return _read(connection, _ACCOUNT.c.account.in_(sorted(wanted)))


def every(connection: sa.Connection) -> list[Account]:
    """Return all accounts by name."""
    return _read(connection, sa.true())


def names(connection: sa.Connection) -> dict[str, str]:
    """Return the name of every account, by its id."""
    return {row.account: row.name for row in connection.execute(sa.select(_ACCOUNT.c.account, _ACCOUNT.c.name))}


def granted_to(connection: sa.Connection, accounts: Collection[str]) -> list[tuple[str, Grant, str]]:
    """Return account, grant and source ("local", "oidc") of all grants of *accounts*, in order."""
    table = tables.granted
    query = sa.select(table).where(table.c.account.in_(accounts))
    return sorted((row.account, Grant(Role(row.role), row.cluster), row.source) for row in connection.execute(query))


def password_of(connection: sa.Connection, account: str) -> str:
    """Return the argon2id hash, "" without one."""
    query = sa.select(_ACCOUNT.c.password).where(_ACCOUNT.c.account == account)
    return connection.execute(query).scalar_one_or_none() or ""


def person(account: Account, *, via: str = "session", scopes: Collection[Any] | None = None) -> Person:
    """Return *account* as the person that a route asks."""
    return Person(
        account=account.account,
        name=account.name,
        grants=frozenset(account.grants),
        groups=frozenset(account.groups),
        scopes=None if scopes is None else frozenset(scopes),
        via=via,
    )


def _read(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Account]:
    identity = tables.identity
    seen = sa.select(sa.func.max(identity.c.seen_at)).where(identity.c.account == _ACCOUNT.c.account)
    columns = (_ACCOUNT, seen.scalar_subquery().label("seen_at"))
    rows = connection.execute(sa.select(*columns).where(where).order_by(_ACCOUNT.c.name)).all()
    names = [row.account for row in rows]
    grants: dict[str, set[Grant]] = {name: set() for name in names}
    groups: dict[str, set[str]] = {name: set() for name in names}
    granted, member = tables.granted, tables.membership
    for one in connection.execute(sa.select(granted).where(granted.c.account.in_(names))):
        grants[one.account].add(Grant(Role(one.role), one.cluster))
    for one in connection.execute(sa.select(member.c.account, member.c.group).where(member.c.account.in_(names))):
        groups[one.account].add(one.group)
    return [
        Account(
            account=row.account,
            name=row.name,
            display=row.display,
            active=row.active,
            has_password=bool(row.password),
            grants=tuple(sorted(grants[row.account])),
            groups=tuple(sorted(groups[row.account])),
            created_at=moment(row.created_at),
            created_by=row.created_by,
            seen_at_provider=None if row.seen_at is None else moment(row.seen_at),
        )
        for row in rows
    ]


def _grants(connection: sa.Connection, account: str, source: str) -> list[Grant]:
    table = tables.granted
    query = sa.select(table).where(table.c.account == account, table.c.source == source)
    return sorted(Grant(Role(row.role), row.cluster) for row in connection.execute(query))


def _has_administrator(connection: sa.Connection) -> bool:
    table = tables.granted
    query = (
        sa.select(table.c.account)
        .join(_ACCOUNT, _ACCOUNT.c.account == table.c.account)
        .where(table.c.role == Role.ADMIN.value, table.c.cluster == "", _ACCOUNT.c.active)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _check_an_administrator_is_left(tx: Transaction) -> None:
    if not _has_administrator(tx.connection):
        raise NotAllowed(
            "Nobody would be left who can hand out roles.", remedy="Make somebody else administrator first."
        )


def _revoke_tokens(tx: Transaction, account: str, *, by: str) -> None:
    table = tables.token
    alive = (table.c.account == account, table.c.revoked_at.is_(None), table.c.expires_at > tx.clock)
    gone = tx.connection.execute(sa.update(table).where(*alive).values(revoked_at=tx.clock).returning(table.c.token))
    for token in sorted(gone.scalars()):
        tx.append(NewEvent(run=FLEET, kind=Kind.TOKEN_REVOKED, actor=by, data={"token": token}))


def _told(grants: Sequence[Grant]) -> list[Mapping[str, str]]:
    return [{"role": one.role.value, "cluster": one.cluster} for one in grants]
