"""`certbridge users`: accounts on the machine of the journal, and the token for the first administrator.

As every command here it acts for the account of the operating system and asks nobody; each change is in the journal.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.output import Format, OutputOption, Table, emit, note, say, show
from api.cli.surroundings import account as who
from api.cli.surroundings import load_settings, open_journal
from workflows.errors import InputError, NotThere

if TYPE_CHECKING:
    from workflows.journal import Journal
    from workflows.journal.accounts import Account
    from workflows.people import Grant

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account.")]
RolesOption = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="viewer, operator, approver, auditor, admin, or ROLE@CLUSTER."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_users)
    group.command("add")(add)
    group.command("invite")(invite)
    group.command("roles")(roles)
    group.command("disable")(disable)
    group.command("enable")(enable)
    group.command("bootstrap")(bootstrap)
    app.add_typer(group, name="users", help="Accounts of people: who they are, their roles, how they come in.")


def list_users(output: OutputOption = Format.TABLE) -> None:
    """List accounts with their roles."""
    from workflows.journal import accounts

    with open_journal() as journal:
        found = journal.read(accounts.every)
    if output is not Format.TABLE:
        emit({"users": found}, output)
        return
    rows = [(one.name, one.display, _told(one.grants), ", ".join(one.groups), _state(one)) for one in found]
    show(Table(columns=("NAME", "DISPLAY", "ROLES", "GROUPS", "STATE"), rows=rows))


def add(
    name: NameArgument,
    role: RolesOption = None,
    group: Annotated[list[str] | None, typer.Option("--group", metavar="GROUP", help="A group of approvers.")] = None,
    display: Annotated[str, typer.Option("--display", help="What people are shown beside the name.")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make an account and its invitation, by which its owner chooses a password."""
    from workflows.journal import accounts

    grants = _grants(role or [])
    _check_lines([display, *(group or [])])
    with open_journal() as journal:
        account = journal.write(
            lambda tx: accounts.add(tx, name=name, by=who(), display=display, grants=grants, groups=group or [])
        )
        _invite(journal, account, output)


def invite(name: NameArgument, output: OutputOption = Format.TABLE) -> None:
    """Make a new invitation; earlier ones are void."""
    with open_journal() as journal:
        _invite(journal, _find(journal, name).account, output)


def roles(
    name: NameArgument,
    role: Annotated[list[str] | None, typer.Argument(metavar="[ROLE]…", help="ROLE, or ROLE@CLUSTER.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all roles away.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Replace the roles of an account; without any they are shown. Those from OIDC are not touched."""
    from workflows.journal import accounts

    grants = _grants(role or [])
    if grants and none:
        raise InputError("Roles and --none do not go together.", remedy="Name the roles, or say --none.")
    with open_journal() as journal:
        found = _find(journal, name)
        if grants or none:
            journal.write(lambda tx: accounts.set_grants(tx, found.account, grants, by=who()))
        found = journal.read(partial(accounts.get, account=found.account))
    if output is Format.TABLE:
        say(f"{found.name}: {_told(found.grants) or 'no role'}")
    else:
        emit(found, output)


def disable(name: NameArgument) -> None:
    """Shut somebody out at once: sessions end, tokens are revoked, invitations open nothing."""
    _set_active(name, active=False)


def enable(name: NameArgument) -> None:
    """Let somebody in again."""
    _set_active(name, active=True)


def bootstrap(output: OutputOption = Format.TABLE) -> None:
    """Print the token by which the first administrator is made; once, and only while there is no account."""
    from workflows.journal import accounts

    with open_journal() as journal:
        if not journal.read(accounts.nobody):
            raise InputError(
                "There are accounts already, so nobody can be the first administrator.",
                remedy="Make one with `certbridge users add NAME --role admin`.",
            )
        secret = journal.write(partial(accounts.invite, account="", by=who()))
    _show_invitation("", secret, output)


def _invite(journal: Journal, account: str, output: Format) -> None:
    from workflows.journal import accounts

    found = journal.read(partial(accounts.get, account=account))
    if not found.active:
        raise InputError(f"{found.name} is shut out.", remedy=f"First `certbridge users enable {found.name}`.")
    secret = journal.write(partial(accounts.invite, account=account, by=who()))
    _show_invitation(found.name, secret, output)


def _show_invitation(name: str, secret: str, output: Format) -> None:
    from workflows.journal import accounts

    lasts = timedelta(seconds=accounts.INVITATION_S)
    link = f"{load_settings().public_url}/invitation#{secret}"
    if output is not Format.TABLE:
        emit({"name": name, "secret": secret, "link": link, "lasts_s": lasts.total_seconds()}, output)
        return
    say(secret)
    note(f"It counts once, within {lasts.days} days. Open {link}, or paste it at /invitation.")


def _set_active(name: str, *, active: bool) -> None:
    from workflows.journal import accounts

    with open_journal() as journal:
        found = _find(journal, name)
        journal.write(partial(accounts.set_active, account=found.account, active=active, by=who()))
    say(f"{found.name}: {'active' if active else 'shut out'}")


def _find(journal: Journal, name: str) -> Account:
    from workflows.journal import accounts

    found = journal.read(partial(accounts.by_name, name=name))
    if found is None:
        raise NotThere(f"There is no account {name}.", remedy="See `certbridge users list`.")
    return found


def _grants(said: list[str]) -> list[Grant]:
    from workflows.people import Role, read_grant

    try:
        return [read_grant(one) for one in said]
    except ValueError as error:
        raise InputError(
            f"This is no role: {error}.", remedy=f"Roles are {', '.join(Role)}; for one cluster ROLE@CLUSTER."
        ) from None


def _check_lines(texts: list[str]) -> None:
    for one in texts:
        if not one.isprintable() or len(one) > 200:
            raise InputError(f"{one!r} is no line of text.", remedy="Use at most 200 printable characters.")


def _told(grants: Any) -> str:
    return ", ".join(f"{one.role}@{one.cluster}" if one.cluster else str(one.role) for one in grants)


def _state(one: Account) -> str:
    if not one.active:
        return "shut out"
    if one.seen_at_provider is not None:
        return "active, signs in at the provider"
    return "active" if one.has_password else "no password"
