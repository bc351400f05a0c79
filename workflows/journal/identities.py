"""People who sign in elsewhere: which account an (issuer, subject) is, and what their groups give them.

Never found by name or e-mail: those are given to somebody else when a person leaves (ASVS 5.0, 10.5.2). An account
that was made here is not taken over by one of the same name; the newcomer's name gets a number.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import sqlalchemy as sa

from workflows.journal import accounts, tables
from workflows.journal.store import Transaction
from workflows.people import RESERVED, Grant

OIDC = "oidc"
ATTEMPT_S = 600.0
_ATTEMPT, _IDENTITY = tables.oidc_attempt, tables.identity


def begin(tx: Transaction, secret: str, going: str) -> None:
    """Remember that the browser with *secret* was sent to the provider; it has ten minutes to come back."""
    tx.connection.execute(sa.delete(_ATTEMPT).where(_ATTEMPT.c.expires_at < tx.clock))
    values = {"going": going, "expires_at": tx.clock + ATTEMPT_S}
    tx.connection.execute(sa.insert(_ATTEMPT).values(hash=accounts.digest(secret), **values))


def come_back(tx: Transaction, secret: str) -> str | None:
    """Return where that browser was going, once; None: it was back before, or never sent, or it took too long."""
    mine = (_ATTEMPT.c.hash == accounts.digest(secret), _ATTEMPT.c.expires_at >= tx.clock)
    return tx.connection.execute(sa.delete(_ATTEMPT).where(*mine).returning(_ATTEMPT.c.going)).scalar_one_or_none()


def admit(
    tx: Transaction,
    *,
    issuer: str,
    subject: str,
    name: str,
    display: str,
    grants: Collection[Grant],
    groups: Collection[str],
) -> str:
    """Return the account of this person after its roles and groups were set to what the provider says just now.

    "" when nobody comes in: no role is left (which is kept), or the account is shut out. No account is made then.
    """
    query = sa.select(_IDENTITY.c.account).where(_IDENTITY.c.issuer == issuer, _IDENTITY.c.subject == subject)
    account = tx.connection.execute(query).scalar_one_or_none()
    if account is None:
        if not grants:
            return ""
        account = accounts.add(
            tx, name=_free(tx, name), by=OIDC, display=display, grants=grants, groups=groups, source=OIDC
        )
        values = {"issuer": issuer, "subject": subject, "account": account, "seen_at": tx.clock}
        tx.connection.execute(sa.insert(_IDENTITY).values(**values))
        return account
    mine = (_IDENTITY.c.issuer == issuer, _IDENTITY.c.subject == subject)
    tx.connection.execute(sa.update(_IDENTITY).where(*mine).values(seen_at=tx.clock))
    # Even the last administrator's role goes: the provider says so, and `certbridge users` can always make one.
    accounts.set_grants(tx, account, grants, by=OIDC, source=OIDC, may_be_last=True)
    accounts.set_groups(tx, account, groups, by=OIDC, source=OIDC)
    found = accounts.get(tx.connection, account)
    return account if found.active and found.grants else ""


def _free(tx: Transaction, name: str) -> str:
    """Return a name that nobody has, as near to *name* as can be."""
    wanted = re.sub(r"[^a-z0-9._@+-]+", "-", name.casefold()).lstrip("._@+-")[:56] or "somebody"
    number, found = 1, wanted
    while found in RESERVED or accounts.by_name(tx.connection, found) is not None:
        number += 1
        found = f"{wanted}-{number}"
    return found
