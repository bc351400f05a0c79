"""Votes at gates: who approved what is there now, and whether each of them may still approve.

A vote is bound to the digest of the gate, and an account has one at a gate. Roles, groups and activity of a voter are
those of this moment, not of the vote's (faults.md F23): whoever lost them does not count any more. Whose invitation
set the password that a vote came by is told with it, since administrators, who never approve, hand those out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from workflows.errors import NotAllowed
from workflows.gate import LOCAL, StageState, Vote, Voter, tally
from workflows.inventory import Approval
from workflows.journal import accounts, tables
from workflows.journal.store import Transaction, moment
from workflows.people import Person

INVITED_FOR = timedelta(days=30)
"""For how long after an invitation was taken votes tell of it: as long as an approval is good for, unless said."""
_VOTE = tables.vote
Key = tuple[str, str, str]
"""Run, lane and gate."""


def voter(connection: sa.Connection, by: str, person: Person | None) -> Voter:
    """Return who decides as that one stands now; without *person* it is the account *by* of this machine.

    Raises: NotAllowed: the account was shut out, or the one that is called as the account of this machine.
    """
    if person is None:
        known = accounts.by_name(connection, by)
        _check_active(known)
        return _local(by, known)
    account = accounts.get(connection, person.account)
    _check_active(account)
    return Voter.of(accounts.person(account, via=person.via, scopes=person.scopes))


def give(
    tx: Transaction, key: Key, *, digest: str, by: Voter, stage: int, reason: str, not_before: datetime | None
) -> bool:
    """Write the vote; False when this account has voted before."""
    return tx.insert_once(
        _VOTE,
        **_named(key),
        digest=digest,
        account=by.person.account if by.person else _account_of(tx.connection, by.name),
        stage=stage,
        name=by.name,
        via=by.via,
        reason=reason,
        at=tx.clock,
        not_before=None if not_before is None else not_before.timestamp(),
    )


def clear(tx: Transaction, key: Key) -> None:
    """Forget the votes at this gate, because it is opened again; the events still tell of them."""
    tx.connection.execute(sa.delete(_VOTE).where(*(_VOTE.c[name] == value for name, value in _named(key).items())))


def stages(connection: sa.Connection, key: Key, digest: str, terms: Approval) -> tuple[StageState, ...]:
    """Return the stages of one gate with the votes for *digest*."""
    return stages_of_all(connection, {key: (digest, terms)})[key]


def stages_of_all(
    connection: sa.Connection, wanted: Mapping[Key, tuple[str, Approval]]
) -> dict[Key, tuple[StageState, ...]]:
    """Return the stages of many gates, each {(run, lane, gate): (digest, terms)}, with as few questions as for one."""
    runs = sorted({run for run, _, _ in wanted})
    rows = connection.execute(sa.select(_VOTE).where(_VOTE.c.run.in_(runs))).all() if runs else []
    rows = [row for row in rows if wanted.get((row.run, row.lane, row.gate), ("",))[0] == row.digest]
    found = _accounts(connection, rows)
    taken = accounts.taken(connection, found) if found else []
    given: dict[Key, list[Vote]] = {key: [] for key in wanted}
    for row in rows:
        key = (row.run, row.lane, row.gate)
        given[key].append(_vote(row, found.get(row.account), wanted[key][1], taken))
    return {key: tally(terms.stages, given[key]) for key, (_, terms) in wanted.items()}


def _vote(row: sa.Row[Any], account: accounts.Account | None, terms: Approval, taken: Iterable[accounts.Taken]) -> Vote:
    group = terms.stages[row.stage].group if row.stage < len(terms.stages) else ""
    if account is not None and not account.active:
        counts = False
    elif row.via == LOCAL:
        counts = _local(row.name, account).counts(group, row.lane)
    else:
        counts = account is not None and Voter.of(accounts.person(account)).counts(group, row.lane)
    invited = _invited(row, taken)
    return Vote(
        stage=row.stage,
        account=row.account,
        name=row.name,
        via=row.via,
        at=moment(row.at),
        reason=row.reason,
        not_before=None if row.not_before is None else moment(row.not_before),
        counts=counts,
        invited_by=invited.by if invited else "",
        invited_at=invited.at if invited else None,
    )


def _invited(row: sa.Row[Any], taken: Iterable[accounts.Taken]) -> accounts.Taken | None:
    """Return the last invitation that set the password before this vote; no password opens the machine itself."""
    if row.via == LOCAL:
        return None
    at = moment(row.at)
    return next((one for one in taken if one.account == row.account and at - INVITED_FOR < one.at <= at), None)


def _accounts(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> dict[str, accounts.Account]:
    wanted = {row.account for row in rows}
    return {one.account: one for one in accounts.some(connection, wanted)} if wanted else {}


def _check_active(account: accounts.Account | None) -> None:
    if account is not None and not account.active:
        raise NotAllowed(f"The account {account.name} is not active.", remedy="Ask an approver.")


def _local(name: str, account: accounts.Account | None) -> Voter:
    """Return whoever sits at the machine of the journal; *account* is the one of the same name, if there is any."""
    if account is None:
        return Voter(name=name)
    who = accounts.person(account)
    return Voter(name=name, groups=who.groups, is_administrator=who.is_administrator)


def _account_of(connection: sa.Connection, name: str) -> str:
    """Return the account called so, that nobody votes twice by two ways; else a key of the machine's own."""
    found = accounts.by_name(connection, name)
    return found.account if found else f"os:{name}"


def _named(key: Key) -> dict[str, str]:
    return dict(zip(("run", "lane", "gate"), key, strict=True))
