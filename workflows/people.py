"""Who may do what: permissions, roles, grants with their cluster, and the person that they add up to. Pure.

The command line on the machine of the journal acts for the account of the operating system and asks nobody
(DESIGN.md section 8). Over the API everybody has exactly what was granted to them, and nothing by default.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from workflows.errors import InputError

EVERYWHERE = ""
"""The cluster of a grant that holds for the whole fleet."""

SYSTEM = "system"
"""Who decides when a gate's clock has run out."""

RESERVED = frozenset({SYSTEM, "engine", "issuer", "somebody", "bootstrap", "oidc"})
"""Whom the journal names where no account acted; no account may have one of these names."""


class Permission(StrEnum):
    """One thing that a route may ask for; tokens are given some of them as their scopes."""

    READ = "read"
    """See the fleet, runs, gates and the journal."""
    OPERATE = "operate"
    """Survey, plan, start, pause, resume, cancel, roll back, deliver certificates."""
    DECIDE = "decide"
    """Approve and reject."""
    AUDIT = "audit"
    """See accounts, sessions, tokens and deliveries of webhooks; export and verify the journal."""
    MANAGE = "manage"
    """Change accounts, roles and webhooks; end other people's sessions and tokens."""


class Role(StrEnum):
    """What is granted to an account, for a cluster or everywhere."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.OPERATOR: frozenset({Permission.READ, Permission.OPERATE}),
    Role.APPROVER: frozenset({Permission.READ, Permission.DECIDE}),
    Role.AUDITOR: frozenset({Permission.READ, Permission.AUDIT}),
    # Whoever hands out the roles does not use them: an administrator neither operates nor decides.
    Role.ADMIN: frozenset({Permission.READ, Permission.AUDIT, Permission.MANAGE}),
}
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
WHOLE_FLEET = frozenset({Permission.AUDIT, Permission.MANAGE})
"""What cannot be had for one cluster alone."""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A role, for *cluster* or everywhere."""

    role: Role
    cluster: str = EVERYWHERE


def check_clusters(grants: Iterable[Grant], clusters: Collection[str]) -> None:
    """Return when each grant is for the whole fleet or for one of *clusters*. Raises: InputError: it names others."""
    unknown = sorted({one.cluster for one in grants if one.cluster} - set(clusters))
    if unknown:
        raise InputError(
            f"The inventory has no cluster {', '.join(unknown)}.", remedy=f"Its clusters are: {', '.join(clusters)}."
        )


def read_grant(text: str) -> Grant:
    """Return "operator" or "operator@seoul" as a grant. Raises: ValueError, with what is wrong."""
    role, at, cluster = text.partition("@")
    try:
        found = Role(role.strip().lower())
    except ValueError:
        raise ValueError(role.strip() or "nothing") from None
    if at and not _CLUSTER.fullmatch(cluster.strip()):
        raise ValueError(f"{cluster!r} is no name of a cluster")
    if at and PERMISSIONS[found] & WHOLE_FLEET:
        raise ValueError(f"{found} is for the whole fleet: it has no cluster")
    return Grant(found, cluster.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An account as it stands at this moment.

    *scopes*: None for a session; for a token what it was made for, which can only take away. *via* names the session
    or token in the journal ("session", "token ci"); the person is the account, whatever it came through.
    """

    account: str
    name: str
    grants: frozenset[Grant]
    groups: frozenset[str] = frozenset()
    scopes: frozenset[Permission] | None = None
    via: str = "session"

    def clusters(self, permission: Permission) -> frozenset[str] | None:
        """Return the clusters for which this person has *permission*; None means everywhere."""
        if self.scopes is not None and permission not in self.scopes:
            return frozenset()
        found = [one.cluster for one in self.grants if permission in PERMISSIONS[one.role]]
        if permission in WHOLE_FLEET:
            found = [cluster for cluster in found if cluster == EVERYWHERE]
        return None if EVERYWHERE in found else frozenset(found)

    def may(self, permission: Permission, clusters: Iterable[str] = ()) -> bool:
        """Return whether this person has *permission* for all of *clusters*; without any, for at least one."""
        held = self.clusters(permission)
        if held is None:
            return True
        asked = frozenset(clusters)
        return asked <= held if asked else bool(held)

    @property
    def is_administrator(self) -> bool:
        """Whether this person hands out roles, and so may never approve (whatever else was granted to them)."""
        return any(one.role is Role.ADMIN for one in self.grants)
