"""The inventory and surveys over the API: values come from there, words from `api.cli.fleet` and `api.cli.survey`.

A file that is named lies on this machine, and is checked and shown here: that needs no engine.
"""

from __future__ import annotations

from pathlib import Path

from api.cli import fleet as inventories
from api.cli import survey as surveys
from api.cli.output import Format
from api.cli.remote import no_files, plan_of, take_survey
from api.client import Client, as_value, part
from api.survey_results import Surveyed
from workflows.errors import Finding
from workflows.facts import NodeFacts
from workflows.inventory import ResolvedFleet, select


def check(client: Client, fleet: Path | None, output: Format) -> None:
    """As `fleet check`; without a file it is the inventory of the API."""
    if fleet is not None:
        inventories.check_file(fleet, output)
        return
    found = client.get("/api/fleet/inventory")
    warnings = [as_value(Finding, one) for one in found["warnings"]]
    inventories.tell_checked(found["source"], ResolvedFleet.from_json(found["inventory"]), warnings, output)


def show_fleet(client: Client, fleet: Path | None, schema: bool, output: Format) -> None:
    """As `fleet show`; without a file it is the inventory of the API."""
    if fleet is not None or schema:
        inventories.show_file(fleet, output, schema=schema)
        return
    found = client.get("/api/fleet/inventory")["inventory"]
    inventories.show_resolved(ResolvedFleet.from_json(found), output)


def survey(
    client: Client,
    fleet: Path | None,
    cluster: list[str] | None,
    node: list[str] | None,
    record: Path | None,
    output: Format,
) -> None:
    """As `survey`."""
    no_files(fleet=fleet, record=record)
    run = take_survey(client, {"clusters": cluster or [], "nodes": node or []})
    rows = list(client.every(f"/api/surveys/{part(run)}/nodes"))
    found = Surveyed(
        run=run,
        facts={one["node"]: NodeFacts.from_json(one["facts"]) for one in rows if one["facts"] is not None},
        failed={one["node"]: one["error"] for one in rows if one["error"] is not None},
    )
    # The plan of the survey holds the inventory as it was then, whatever became of it since.
    whole = ResolvedFleet.from_json(plan_of(client, run).fleet)
    surveys.show_surveyed(select(whole, (), [one["node"] for one in rows]), found, output)
