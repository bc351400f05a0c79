"""Facts of a small database cluster as a survey would keep them: cms1 is the primary, cms2 joined, cms3 connects."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.integration.cli.cli_world import FLEET, World, facts_of
from workflows.facts import CertificateFact, DatabaseFact, DatabaseMember, DatabaseState, FileFact, NodeFacts
from workflows.journal import Transaction, stock

CLUSTER = FLEET.replace("port: 2201}", "port: 2201, database: joined}").replace(
    "      - {name: cms2, address: 127.0.0.1, port: 2202}\n",
    "      - {name: cms2, address: 127.0.0.1, port: 2202, database: joined}\n"
    "      - {name: cms3, address: 127.0.0.1, port: 2203, database: connected}\n",
)
NODES = ("cms1", "cms2", "cms3")
_STATES = {"cms1": DatabaseState.PRIMARY, "cms2": DatabaseState.REPLICA, "cms3": DatabaseState.CONNECTED}


def database_facts(node: str, *, days: float = -3, primary: str = "10.0.0.1") -> NodeFacts:
    """Return the facts of *node*, whose database certificates end in *days* days and which names *primary*."""
    ends = datetime.now(UTC) + timedelta(days=days)
    pairs = ("dbserver", "dbclient") if node != "cms3" else ("dbclient",)
    files = [
        _stored("dbserver", "seoul-database-server", ends),
        _stored("dbclient", "postgres", ends),
        _stored("dbca", "seoul-database-ca", ends + timedelta(days=4000)),
    ]
    own = {f"10.0.0.{number}": f"cms{number}" for number in (1, 2)}
    fact = DatabaseFact(
        state="Enabled",
        interface="a",
        members=tuple(
            DatabaseMember(
                address=address,
                role="primary" if address == primary else "replica",
                connected=True,
                in_sync=True,
                me=name == node,
            )
            for address, name in own.items()
        ),
        **{
            f"{pair.removeprefix('db')}_{kind}": f"{pair}.{ending}"
            for pair in pairs
            for kind, ending in (("key", "key"), ("certificate", "crt"))
        },
        ca_certificate="dbca.crt",
    )
    seen = facts_of(node, datetime.now(UTC) + timedelta(days=300))
    keys = (FileFact(name=f"{stem}.key", size=1700) for stem in ("dbserver", "dbclient", "dbca"))
    return replace(
        seen,
        database=_STATES[node],
        database_primary=primary,
        database_cluster=fact,
        files=(*seen.files, *files, *keys),
    )


def survey_databases(world: World, *, days: float = -3, nodes: tuple[str, ...] = NODES) -> None:
    """Write the inventory of the cluster, and keep facts of *nodes*."""
    world.fleet.write_text(CLUSTER)
    for node in nodes:
        facts = database_facts(node, days=days)
        world.journal.write(partial(_put, node=node, facts=facts))


def _put(tx: Transaction, *, node: str, facts: NodeFacts) -> None:
    stock.put_facts(tx, node=node, facts=facts.to_json())


def _stored(stem: str, subject: str, ends: datetime) -> FileFact:
    leaf = CertificateFact(
        fingerprint=f"{stem}-leaf",
        spki_sha256=f"{stem}-key",
        subject=subject,
        issuer="CN=seoul-database-ca",
        not_valid_after=ends.isoformat(),
        names=(),
    )
    return FileFact(name=f"{stem}.crt", size=1000, sha256=f"{stem}-sha", certificates=(leaf,))
