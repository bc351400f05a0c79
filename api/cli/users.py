"""`certbridge users`: accounts on the machine of the journal, and the token for the first administrator.

As every command here it acts for the account of the operating system and asks nobody; each change is in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Table, emit, note, say, show
from api.cli.surroundings import account as who
from api.cli.surroundings import load_settings, open_journal, read_fleet
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


@over_api("list_users", module="remote_users")
def list_users(output: OutputOption = Format.TABLE) -> None:
    """List accounts with their roles."""
    from workflows.journal import accounts

    with open_journal() as journal:
        found = journal.read(accounts.every)
    show_list(found, output)


def show_list(found: Sequence[Account], output: Format) -> None:
    """Show accounts."""
    if output is not Format.TABLE:
        emit({"users": found}, output)
        return
    rows = [(one.name, one.display, _told(one.grants), ", ".join(one.groups), _state(one)) for one in found]
    show(Table(columns=("NAME", "DISPLAY", "ROLES", "GROUPS", "STATE"), rows=rows))


@over_api("add", module="remote_users")
def add(
    name: NameArgument,
    role: RolesOption = None,
    group: Annotated[list[str] | None, typer.Option("--group", metavar="GROUP", help="A group of approvers.")] = None,
    display: Annotated[str, typer.Option("--display", help="What people are shown beside the name.")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make an account and its invitation, by which its owner chooses a password."""
    from workflows.journal import accounts

    grants = read_grants(role or [])
    _check_clusters(grants)
    check_lines([display, *(group or [])])
    with open_journal() as journal:
        account = journal.write(
            lambda tx: accounts.add(tx, name=name, by=who(), display=display, grants=grants, groups=group or [])
        )
        _invite(journal, account, output)


@over_api("invite", module="remote_users")
def invite(name: NameArgument, output: OutputOption = Format.TABLE) -> None:
    """Make a new invitation; earlier ones are void."""
    with open_journal() as journal:
        _invite(journal, _find(journal, name).account, output)


@over_api("roles", module="remote_users")
def roles(
    name: NameArgument,
    role: Annotated[list[str] | None, typer.Argument(metavar="[ROLE]…", help="ROLE, or ROLE@CLUSTER.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all roles away.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Replace the roles of an account; without any they are shown. Those from OIDC are not touched."""
    from workflows.journal import accounts

    grants = read_grants(role or [], none=none)
    _check_clusters(grants)
    with open_journal() as journal:
        found = _find(journal, name)
        if grants or none:
            journal.write(lambda tx: accounts.set_grants(tx, found.account, grants, by=who()))
        found = journal.read(partial(accounts.get, account=found.account))
    show_roles(found, output)


def show_roles(found: Account, output: Format) -> None:
    """Show the roles of an account."""
    if output is Format.TABLE:
        say(f"{found.name}: {_told(found.grants) or 'no role'}")
    else:
        emit(found, output)


@over_api("disable", module="remote_users")
def disable(name: NameArgument) -> None:
    """Shut somebody out at once: sessions end, tokens are revoked, invitations open nothing."""
    _set_active(name, active=False)


@over_api("enable", module="remote_users")
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
    show_invitation("", secret, _link(secret), output)


def _invite(journal: Journal, account: str, output: Format) -> None:
    from workflows.journal import accounts

    found = journal.read(partial(accounts.get, account=account))
    check_invited(found)
    secret = journal.write(partial(accounts.invite, account=account, by=who()))
    show_invitation(found.name, secret, _link(secret), output)


def check_invited(found: Account) -> None:
    """Return when this account can be invited. Raises: InputError."""
    if not found.active:
        raise InputError(f"{found.name} is shut out.", remedy=f"First `certbridge users enable {found.name}`.")


def _link(secret: str) -> str:
    return f"{load_settings().public_url}/invitation#{secret}"


def show_invitation(name: str, secret: str, link: str, output: Format) -> None:
    """Show an invitation, which is shown this once."""
    from workflows.journal import accounts

    lasts = timedelta(seconds=accounts.INVITATION_S)
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
    tell_active(found.name, active=active)


def tell_active(name: str, *, active: bool) -> None:
    """Say whether somebody may come in."""
    say(f"{name}: {'active' if active else 'shut out'}")


def _find(journal: Journal, name: str) -> Account:
    from workflows.journal import accounts

    return check_there(name, journal.read(partial(accounts.by_name, name=name)))


def check_there(name: str, found: Account | None) -> Account:
    """Return *found*, the account that was asked for by *name*. Raises: NotThere: it is None."""
    if found is None:
        raise NotThere(f"There is no account {name}.", remedy="See `certbridge users list`.")
    return found


def read_grants(said: Sequence[str], *, none: bool = False) -> list[Grant]:
    """Return the grants that were named. Raises: InputError: one is no role, or some were named beside *none*."""
    from workflows.people import Role, read_grant

    if said and none:
        raise InputError("Roles and --none do not go together.", remedy="Name the roles, or say --none.")
    try:
        return [read_grant(one) for one in said]
    except ValueError as error:
        raise InputError(
            f"This is no role: {error}.", remedy=f"Roles are {', '.join(Role)}; for one cluster ROLE@CLUSTER."
        ) from None


def _check_clusters(grants: Sequence[Grant]) -> None:
    """Return when the clusters of *grants* are in the inventory, where there is one. Raises: InputError."""
    from workflows.people import check_clusters

    if any(one.cluster for one in grants):
        try:
            _, fleet = read_fleet(None)
        except InputError:  # none here, or it is being mended: accounts can be made all the same
            return
        check_clusters(grants, [one.name for one in fleet.clusters])


def check_lines(texts: Sequence[str]) -> None:
    """Return when each of *texts* is a line that can be shown anywhere. Raises: InputError."""
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
