"""`certbridge fleet`: whether the inventory is right, and what it says with every default filled in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Table, counted, emit, say, show, show_warnings
from api.cli.surroundings import FleetOption, read_fleet

if TYPE_CHECKING:
    from workflows.errors import Finding
    from workflows.inventory import Cluster, ResolvedFleet


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("check")(check)
    group.command("show")(show_fleet)
    app.add_typer(group, name="fleet", help="Check and show the inventory.")


@over_api("check", module="remote_fleet")
def check(fleet: FleetOption = None, output: OutputOption = Format.TABLE) -> None:
    """Check the inventory; name every fault with file, line and remedy, all at once (exit 2)."""
    check_file(fleet, output)


def check_file(fleet: Path | None, output: Format) -> None:
    """Check an inventory of this machine, which needs no engine."""
    read, resolved = read_fleet(fleet)
    tell_checked(read.source, resolved, read.warnings, output)


def tell_checked(source: str, resolved: ResolvedFleet, warnings: Sequence[Finding], output: Format) -> None:
    """Say that the inventory is right, what it holds, and what works but hardly as meant."""
    found = {
        "fleet": resolved.name,
        "clusters": len(resolved.clusters),
        "nodes": len(resolved.nodes),
        "certificates": sum(len(cluster.certificates) for cluster in resolved.clusters),
        "warnings": warnings,
    }
    if output is not Format.TABLE:
        emit(found, output)
        return
    show_warnings(warnings)
    say(
        (f"{source} is right", "green"),
        f": fleet {resolved.name}, {counted(len(resolved.clusters), 'cluster')}, "
        f"{counted(len(resolved.nodes), 'node')}, {counted(int(str(found['certificates'])), 'certificate')}",
    )


@over_api("show_fleet", module="remote_fleet")
def show_fleet(
    fleet: FleetOption = None,
    schema: bool = typer.Option(False, "--schema", help="Show the JSON Schema of the inventory, for editors."),
    output: OutputOption = Format.TABLE,
) -> None:
    """Show clusters, nodes and certificates with every default filled in."""
    show_file(fleet, output, schema=schema)


def show_file(fleet: Path | None, output: Format, *, schema: bool) -> None:
    """Show an inventory of this machine, or the schema of all of them."""
    if schema:
        from workflows.inventory import json_schema

        emit(json_schema(), Format.JSON if output is Format.TABLE else output)
        return
    show_resolved(read_fleet(fleet)[1], output)


def show_resolved(resolved: ResolvedFleet, output: Format) -> None:
    """Show a resolved inventory."""
    if output is not Format.TABLE:
        emit(resolved.to_json(), output)
        return
    nodes = [
        (
            cluster.name,
            node.name,
            f"{node.address}:{node.port}",
            node.release or "?",
            node.database.value,
            node.credential,
        )
        for cluster in resolved.clusters
        for node in cluster.nodes
    ]
    show(Table(columns=("cluster", "node", "address", "release", "database", "credential"), rows=nodes))
    say()
    certificates = [
        (
            cluster.name,
            wish.name,
            ", ".join(wish.nodes),
            ", ".join(wish.services),
            wish.common_name,
            ", ".join((*wish.dns, *wish.ip, *wish.email)),
            wish.key.value,
            wish.issuer,
        )
        for cluster in resolved.clusters
        for wish in cluster.certificates
    ]
    columns = ("cluster", "certificate", "nodes", "services", "CN", "alternative names", "key", "issuer")
    show(Table(columns=columns, rows=certificates))
    databases = [row for cluster in resolved.clusters for row in _database_rows(cluster)]
    if databases:
        say()
        headings = ("cluster", "database certificate", "nodes", "CN", "alternative names", "key", "issuer")
        show(Table(columns=headings, rows=databases))


def _database_rows(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Yield a row for each certificate of the database; none where no node is joined."""
    joined = [node.name for node in cluster.nodes if node.database.value == "joined"]
    if not joined:
        return
    every = joined + [node.name for node in cluster.nodes if node.database.value == "connected"]
    wish = cluster.database
    pairs = [(wish.server, joined, wish.issuer), (wish.client, every, wish.issuer)]
    if wish.issuer == "built-in":
        pairs.append((wish.ca, every, "itself"))
    for pair, nodes, issuer in pairs:
        key = "node" if pair is wish.ca else wish.key.value
        names = ", ".join((*pair.dns, *pair.ip))
        yield cluster.name, pair.basename, ", ".join(nodes), dict(pair.subject)["CN"], names, key, issuer
