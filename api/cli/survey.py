"""`certbridge survey`: read every server, change nothing, and show what ends when and what does not agree."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Span, Table, emit, note, say, show
from api.cli.surroundings import (
    ClusterOption,
    FleetOption,
    NodeOption,
    account,
    load_settings,
    now,
    open_journal,
    read_fleet,
)
from workflows.errors import InputError

if TYPE_CHECKING:
    from api.survey_results import Surveyed
    from workflows.facts import NodeFacts, ServiceFact
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("survey")(survey)


@over_api("survey", module="remote_fleet")
def survey(
    fleet: FleetOption = None,
    cluster: ClusterOption = None,
    node: NodeOption = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="DIR", help="Copy the masked transcripts of this survey to DIR.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Read releases, services, files and ports of all servers at once; show days left and drift."""
    from workflows.inventory import select

    _, resolved = read_fleet(fleet)
    wanted = select(resolved, cluster or (), node or ())
    settings = load_settings()
    with open_journal(settings) as journal:
        found = take(journal, resolved, wanted, by=account())
    if record is not None:
        copied = copy_transcripts(settings.transcripts_dir / found.run, record)
        note(f"{copied} transcripts are in {record}")
    show_surveyed(wanted, found, output)


def show_surveyed(wanted: ResolvedFleet, found: Surveyed, output: Format) -> None:
    """Show what the survey of *wanted* came to. Raises: typer.Exit: somebody did not answer."""
    from api import survey_database

    if output is Format.TABLE:
        show(Table(columns=_COLUMNS, rows=_rows(wanted, found, now())))
        for sentence, well in survey_database.sayings(wanted, found.facts):
            say((sentence, "" if well else "bold red"))
    else:
        emit(as_json(wanted, found), output)
    for name, error in found.failed.items():
        note(f"{name}: {error['text']}", "red")
        if error.get("remedy"):
            note(f"  → {error['remedy']}")
    if found.failed:
        raise typer.Exit(1)


def take(journal: Journal, fleet: ResolvedFleet, wanted: ResolvedFleet, *, by: str) -> Surveyed:
    """Have workers read every node of *wanted*, a part of *fleet*, and return what they found. Raises: NoWorker."""
    from api.cli.following import carry_out
    from api.reading_plans import survey_plan
    from api.survey_results import surveyed

    state = carry_out(journal, survey_plan(fleet, wanted), by=by, what="survey")
    return surveyed(journal, state, [node.name for node in wanted.nodes])


def as_json(fleet: ResolvedFleet, found: Surveyed) -> dict[str, Any]:
    """Return {"run", "nodes": [facts with "drift"], "failed": {node: {"code", "text", "remedy"}}}."""
    from workflows.facts import drift

    nodes = []
    for facts in found.facts.values():
        drifts = [{"service": one.service, "what": one.what} for one in drift(facts)]
        drifts += [{"service": "database", "what": what} for what in _differences(fleet, facts)]
        nodes.append(facts.to_json() | {"drift": drifts})
    return {"run": found.run, "nodes": nodes, "failed": found.failed}


def _differences(fleet: ResolvedFleet, facts: NodeFacts) -> tuple[str, ...]:
    """Return where the certificates of the database of a server differ from what the inventory asks for."""
    from api import survey_database

    cluster = fleet.cluster(fleet.node(facts.node).cluster)
    return survey_database.differences(facts, cluster.database) if survey_database.takes_part(facts) else ()


def copy_transcripts(source: Path, target: Path) -> int:
    """Copy the transcripts of one run (secrets are masked in them already); return how many there are."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        files = sorted(source.glob("*.jsonl"))
        for file in files:
            shutil.copyfile(file, target / file.name)
    except OSError as error:
        raise InputError(
            f"transcripts cannot be written to {target} ({error.strerror})", remedy="Name another folder."
        ) from error
    return len(files)


_COLUMNS = ("node", "release", "service", "file", "ends", "days left", "drift", "clock")


def _rows(fleet: ResolvedFleet, found: Surveyed, at: datetime) -> list[tuple[Span, ...]]:
    from api import survey_database
    from workflows.facts import drift
    from workflows.inventory import DatabaseRole

    rows: list[tuple[Span, ...]] = []
    for facts in found.facts.values():
        drifts = {one.service: one.what for one in drift(facts)}
        used = (one for one in facts.services if one.certificate or one.enabled)
        rows += [_service_row(facts, service, drifts.get(service.service, ""), at) for service in used]
        if survey_database.takes_part(facts):
            file, ends = survey_database.soonest(facts)
            role = f"database ({facts.database.value})"
            wrong = "; ".join(filter(None, (survey_database.complaints(facts), *_differences(fleet, facts))))
            rows.append(_row(facts, role, file, ends, wrong, at))
        elif (planned := fleet.node(facts.node).database) is not DatabaseRole.NONE:
            known = facts.database_cluster is not None
            said = "it is in no cluster" if known else "its status is not known"
            wrong = f"{planned.value} in the inventory, but {said}"
            rows.append(_row(facts, "database (none)", "none", None, wrong, at))
    rows += [(name, "", "", "", "", "", ("no answer", "bold red"), "") for name in found.failed]
    return rows


def _service_row(facts: NodeFacts, service: ServiceFact, what: str, at: datetime) -> tuple[Span, ...]:
    stored = facts.file(service.certificate)
    leaf = stored.certificates[0] if stored and stored.certificates else None
    ends = datetime.fromisoformat(leaf.not_valid_after) if leaf else None
    name = service.service if service.enabled is not False else f"{service.service} (off)"
    return _row(facts, name, service.certificate or "none", ends, what, at)


def _row(facts: NodeFacts, service: str, file: str, ends: datetime | None, what: str, at: datetime) -> tuple[Span, ...]:
    days = (ends - at).days if ends else None
    style = "" if days is None else "bold red" if days < 14 else "yellow" if days < 30 else "green"
    skew = facts.clock_skew_s
    return (
        facts.node,
        facts.release,
        service,
        file,
        f"{ends:%Y-%m-%d}" if ends else "?",
        (str(days) if days is not None else "?", style),
        (what, "bold red"),
        ("?" if skew is None else f"{skew:+.0f} s", "yellow" if skew is not None and abs(skew) > 60 else ""),
    )
