"""Accounts: oneself, everybody, what is granted to whom, invitations, and changing one's password."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from api.auth import signing
from api.auth.identity import asks, oneself
from api.here import Here, Server
from api.schemas import Body, Limit, Offset, Page, page_of
from workflows.errors import InputError, NotAllowed
from workflows.journal import Transaction, accounts
from workflows.people import PERMISSIONS as OF_ROLE
from workflows.people import WHOLE_FLEET, Grant, Permission, Person, Role, check_clusters

router = APIRouter(prefix="/api", tags=["users"])
Auditor = Annotated[Person, asks(Permission.AUDIT)]
Manager = Annotated[Person, asks(Permission.MANAGE)]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$", description="The id of an account, from the list.")]


def one_line(text: str) -> str:
    """Return *text* when it is one line that can be shown anywhere. Raises: ValueError."""
    if not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


Line = Annotated[str, AfterValidator(one_line)]
Group = Annotated[Line, Field(min_length=1, max_length=200)]


class GrantBody(Body):
    """A role, for one cluster or (cluster "") for the whole fleet; administrators and auditors have no cluster."""

    role: Role
    cluster: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")

    def grant(self) -> Grant:
        """Return it as people.py knows it. Raises: ValueError: what is for the whole fleet has a cluster."""
        return Grant(self.role, self.cluster)


def _whole(grants: list[GrantBody]) -> list[GrantBody]:
    for one in grants:
        if one.cluster and OF_ROLE[one.role] & WHOLE_FLEET:
            raise ValueError(f"{one.role} is for the whole fleet: leave its cluster away")
    return grants


Grants = Annotated[list[GrantBody], Field(max_length=500), AfterValidator(_whole)]
Groups = Annotated[list[Group], Field(max_length=200)]


class GrantRow(BaseModel):
    """A grant; *source* says who keeps it: "local" (PATCH replaces these) or "oidc" (every sign-in does)."""

    role: Role
    cluster: str
    source: str


class User(BaseModel):
    """An account. `has_password` is false for those who sign in elsewhere or have not taken their invitation.

    `seen_at_provider`: when the sign-in provider last spoke for this person; null for those who sign in here.
    """

    account: str
    name: str
    display: str
    active: bool
    has_password: bool
    grants: list[GrantRow]
    groups: list[str]
    created_at: datetime
    created_by: str
    seen_at_provider: datetime | None


class NewUser(Body):
    """What a new account is to be."""

    name: Line = Field(min_length=1, max_length=64)
    display: Line = Field("", max_length=200)
    grants: Grants = Field(default_factory=list)
    groups: Groups = Field(default_factory=list)


class ChangedUser(Body):
    """What is to change; what is left out stays."""

    display: Line | None = Field(None, max_length=200)
    grants: Grants | None = None
    groups: Groups | None = None
    active: bool | None = None


class Invitation(BaseModel):
    """What lets somebody choose the password of *name*, once. It is shown this once only.

    *link* opens the form with it; the secret stands behind the `#`, which browsers send to nobody.
    """

    account: str
    name: str
    secret: str
    link: str
    expires_at: datetime


class Me(BaseModel):
    """Who is asking. `permissions` says for which clusters each is held; null means everywhere."""

    account: str
    name: str
    grants: list[GrantRow]
    groups: list[str]
    permissions: dict[Permission, list[str] | None]
    via: str
    scopes: list[Permission] | None
    has_password: bool


class NewPassword(Body):
    """Passwords are taken exactly as they are, spaces too."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    current: SecretStr = Field(max_length=2000)
    new: SecretStr = Field(max_length=2000)


@router.get("/me")
def me(who: Annotated[Person, oneself()], here: Here) -> Me:
    """Say who is asking and what they may do."""
    found = _users(here, [here.journal.read(partial(accounts.get, account=who.account))])[0]
    held = {one: who.clusters(one) for one in Permission}
    return Me(
        account=who.account,
        name=who.name,
        grants=found.grants,
        groups=found.groups,
        permissions={
            one: None if clusters is None else sorted(clusters)
            for one, clusters in held.items()
            if clusters != frozenset()
        },
        via=who.via,
        scopes=None if who.scopes is None else sorted(who.scopes),
        has_password=found.has_password,
    )


@router.post("/me/password", status_code=204)
def change_password(
    who: Annotated[Person, oneself(session=True)], here: Here, request: Request, body: NewPassword
) -> None:
    """Change one's password; it asks for the present one, and ends one's other sessions."""
    signing.change_password(
        here, request, who.account, current=body.current.get_secret_value(), new=body.new.get_secret_value()
    )


@router.get("/users")
def list_users(who: Auditor, here: Here, limit: Limit = 100, offset: Offset = 0) -> Page[User]:
    """List accounts by name."""
    del who
    found = here.journal.read(accounts.every)
    return page_of(_users(here, found[offset : offset + limit]), len(found), limit, offset)


@router.post("/users", status_code=201)
def add_user(who: Manager, here: Here, body: NewUser) -> User:
    """Make an account; nobody can sign in with it until an invitation was taken."""
    grants = _checked(here, body.grants)

    def write(tx: Transaction) -> str:
        return accounts.add(tx, name=body.name, by=who.name, display=body.display, grants=grants, groups=body.groups)

    return get_user(who, here, here.journal.write(write))


@router.get("/users/{account}")
def get_user(who: Auditor, here: Here, account: Id) -> User:
    """Show one account."""
    del who
    return _users(here, [here.journal.read(partial(accounts.get, account=account))])[0]


@router.patch("/users/{account}")
def change_user(who: Manager, here: Here, account: Id, body: ChangedUser) -> User:
    """Change an account, all at once or not at all; it holds from the next request on.

    Nobody changes their own roles, groups or state.
    """
    if (body.grants, body.groups, body.active) != (None, None, None):
        _check_other(who, account)
    grants = None if body.grants is None else _checked(here, body.grants)

    def write(tx: Transaction) -> None:
        accounts.get(tx.connection, account)
        if body.display is not None:
            accounts.set_display(tx, account, body.display, by=who.name)
        if grants is not None:
            accounts.set_grants(tx, account, grants, by=who.name)
        if body.groups is not None:
            accounts.set_groups(tx, account, body.groups, by=who.name)
        if body.active is not None:
            accounts.set_active(tx, account, active=body.active, by=who.name)

    here.journal.write(write)
    return get_user(who, here, account)


@router.post("/users/{account}/invitation", status_code=201)
def invite_user(who: Manager, here: Here, request: Request, account: Id) -> Invitation:
    """Return a new invitation; earlier ones are void. When it is taken, sessions and tokens of the account end.

    Nobody invites themselves: one's own password is changed by who knows the present one (ASVS 6.2.3).
    """
    _check_other(who, account)

    def write(tx: Transaction) -> tuple[accounts.Account, str, datetime]:
        found = accounts.get(tx.connection, account)
        secret = accounts.invite(tx, account, by=who.name)
        return found, secret, tx.now() + timedelta(seconds=accounts.INVITATION_S)

    found, secret, expires = here.journal.write(write)
    link = invitation_link(here.settings.public_url or str(request.base_url).rstrip("/"), secret)
    return Invitation(account=found.account, name=found.name, secret=secret, link=link, expires_at=expires)


def invitation_link(public_url: str, secret: str) -> str:
    """Return the link that opens the form; *public_url* is the address that others reach this server by."""
    return f"{public_url}/invitation#{secret}"


def _checked(here: Server, grants: Sequence[GrantBody]) -> list[Grant]:
    """Return *grants*. Raises: InputError: one is for a cluster that the inventory, where it can be read, has not."""
    found = [one.grant() for one in grants]
    if any(one.cluster for one in found):
        try:
            fleet = here.fleet()[1]
        except InputError:  # the inventory is being mended
            return found
        check_clusters(found, [one.name for one in fleet.clusters])
    return found


def _check_other(who: Person, account: str) -> None:
    """Return when *account* is somebody else's: who hands out roles gets their own from another (ASVS 8.3.1).

    On the machine of the journal there is no account behind `certbridge users`, so that rule is not for it.
    """
    if account == who.account:
        raise NotAllowed(
            f"{who.name} may not change the roles, groups, state or invitation of their own account.",
            remedy="Ask another administrator, or use `certbridge users` on the machine of the journal.",
        )


def _users(here: Here, found: Sequence[accounts.Account]) -> list[User]:
    rows = here.journal.read(partial(accounts.granted_to, accounts=[one.account for one in found]))
    grants: dict[str, list[GrantRow]] = defaultdict(list)
    for account, grant, source in rows:
        grants[account].append(GrantRow(role=grant.role, cluster=grant.cluster, source=source))
    plain = User.model_fields.keys() - {"grants", "groups"}
    return [
        User(
            grants=grants[one.account],
            groups=list(one.groups),
            **{name: getattr(one, name) for name in plain},
        )
        for one in found
    ]
