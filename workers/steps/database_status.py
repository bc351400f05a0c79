"""What `database cluster status` of a node says about its place, as yes or no, and in one line for people.

Success of an operation is judged here and nowhere else; the rules are those of mmp-reference 3.3.
"""

from __future__ import annotations

from workflows.facts import DatabaseFact
from workflows.procedures.database_places import NONE, PRIMARY, REPLICA
from workflows.procedures.database_steps import role_told


def is_primary(fact: DatabaseFact, address: str) -> bool:
    """Return whether the node that was asked is the primary, connected, at rest and without an error."""
    me = fact.me
    return (
        me is not None
        and me.role == PRIMARY
        and me.connected
        and me.address == address
        and not fact.error
        and fact.progress != "failed"
        and not fact.busy
    )


def in_sync(fact: DatabaseFact, primary: str) -> bool:
    """Return whether the node that was asked is a replica of *primary*, in sync."""
    me = fact.me
    return me is not None and me.role == REPLICA and me.in_sync and fact.primary == primary and not fact.busy


def is_connected(fact: DatabaseFact, primary: str) -> bool:
    """Return whether the node that was asked uses the cluster of *primary* without being a member of it."""
    at = next((one for one in fact.members if one.role == PRIMARY), None)
    return (
        not fact.disabled
        and fact.me is None
        and at is not None
        and at.address == primary
        and at.connected
        and not fact.error
        and not fact.busy
    )


def in_words(fact: DatabaseFact | None) -> str:
    """Return a status in one line: "Enabled, replica ( In Sync ), last: 'database cluster join …' (success)"."""
    if fact is None:
        return "the status is not understood"
    me = fact.me
    parts = [fact.state, me.text if me else role_told(fact), f"error: {fact.error}" if fact.error else ""]
    last = f"last: `{fact.last_command}` ({fact.progress})" if fact.last_command else ""
    return ", ".join(part for part in (*parts, last) if part and part != NONE)
