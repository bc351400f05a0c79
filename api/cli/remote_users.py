"""`users` over the API, for who may manage accounts there; words are those of `api.cli.users`.

The first administrator is made on the machine of the journal: before that, nobody has a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from api.cli import users
from api.cli.output import Format
from api.client import Client, as_value, part
from workflows.journal.accounts import Account
from workflows.people import Grant


def list_users(client: Client, output: Format) -> None:
    """As `users list`."""
    users.show_list(list(_every(client)), output)


def add(
    client: Client, name: str, role: list[str] | None, group: list[str] | None, display: str, output: Format
) -> None:
    """As `users add`."""
    grants = users.read_grants(role or [])
    users.check_lines([display, *(group or [])])
    body = {"name": name, "display": display, "grants": _grants(grants), "groups": group or []}
    _invite(client, _account(client.post("/api/users", body)), output)


def invite(client: Client, name: str, output: Format) -> None:
    """As `users invite`."""
    _invite(client, _find(client, name), output)


def roles(client: Client, name: str, role: list[str] | None, none: bool, output: Format) -> None:
    """As `users roles`."""
    grants = users.read_grants(role or [], none=none)
    found = _find(client, name)
    if grants or none:
        found = _account(client.patch(_path(found), {"grants": _grants(grants)}))
    users.show_roles(found, output)


def disable(client: Client, name: str) -> None:
    """As `users disable`."""
    _set_active(client, name, active=False)


def enable(client: Client, name: str) -> None:
    """As `users enable`."""
    _set_active(client, name, active=True)


def _set_active(client: Client, name: str, *, active: bool) -> None:
    found = _account(client.patch(_path(_find(client, name)), {"active": active}))
    users.tell_active(found.name, active=active)


def _invite(client: Client, found: Account, output: Format) -> None:
    users.check_invited(found)
    made = client.post(f"{_path(found)}/invitation")
    users.show_invitation(made["name"], made["secret"], made["link"], output)


def _find(client: Client, name: str) -> Account:
    folded = name.strip().casefold()
    return users.check_there(name, next((one for one in _every(client) if one.name == folded), None))


def _every(client: Client) -> list[Account]:
    return [_account(row) for row in client.every("/api/users")]


def _account(row: dict[str, Any]) -> Account:
    """Return *row* as the journal has it: a role that two sources give counts once."""
    found = as_value(Account, row)
    return replace(found, grants=tuple(sorted(set(found.grants))))


def _grants(grants: Sequence[Grant]) -> list[dict[str, str]]:
    return [{"role": one.role.value, "cluster": one.cluster} for one in grants]


def _path(found: Account) -> str:
    return f"/api/users/{part(found.account)}"
