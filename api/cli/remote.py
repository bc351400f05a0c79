"""The commands over the API: each asks for values and hands them to the functions that print them locally.

`elsewhere.over_api` calls these with the client and the command's own options. What a command cannot do from another
machine is said, not left out silently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from api.cli.output import Format, emit, note, say
from api.cli.surroundings import confirm, write_private
from api.client import Client, as_value, part
from api.run_view import RunView
from workflows.errors import InputError, NotThere
from workflows.journal import Event
from workflows.journal.store import RunSummary
from workflows.preview import Preview

if TYPE_CHECKING:
    from workflows.plan import Plan


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def list_runs(client: Client, limit: int, output: Format) -> None:
    """As `runs list`."""
    from api.cli.runs import show_list

    found: list[RunSummary] = []
    while len(found) < limit:
        page = client.get("/api/runs", limit=min(500, limit - len(found)), offset=len(found))
        found += [as_value(RunSummary, one) for one in page["items"]]
        if page["next_offset"] is None:
            break
    show_list(found, output)


def show_run(client: Client, run: str, output: Format) -> None:
    """As `runs show`."""
    from api.cli.runs import show_one

    show_one(look(client, run_id(client, run)), output)


def look(client: Client, run: str) -> RunView:
    """Return how *run* stands, all its lanes."""
    return look_at(client, run)[0]


def look_at(client: Client, run: str) -> tuple[RunView, int]:
    """Return how *run* stands, and the number of the last event that this tells of."""
    found = client.get(f"/api/runs/{part(run)}", limit=500)
    while len(found["lanes"]) < found["lanes_total"]:
        more = client.get(f"/api/runs/{part(run)}", limit=500, offset=len(found["lanes"]))["lanes"]
        if not more:
            break
        found["lanes"] += more
    return as_value(RunView, found), int(found["n"])


def plan_of(client: Client, run: str) -> Plan:
    """Return the plan of *run*, as much of it as this person may see."""
    from workflows.plan import Plan

    return Plan.from_json(client.get(f"/api/runs/{part(run)}/plan")["plan"])


def run_id(client: Client, run: str) -> str:
    """Return the id that *run* means; `@latest` as `surroundings.run_id`. Raises: InputError."""
    if run != "@latest":
        return run
    from workflows.actions import READING_KINDS

    latest = client.get("/api/runs", limit=200)["items"]
    if not latest:
        raise InputError("There is no run yet.", remedy="Start one with `certbridge run`.")
    return str(next((one["run"] for one in latest if one["kind"] not in READING_KINDS), latest[0]["run"]))


def events(client: Client, run: str, **only: Any) -> list[Event]:
    """Return the events of *run* that this person may see."""
    return [as_value(Event, one) for one in client.every("/api/journal", run=run, order="oldest", **only)]


def resume(client: Client, run: str, lane: str, preview: bool, output: Format) -> None:
    """As `runs resume`."""
    _act(client, "resume", run, ("goes on", "go on"), "moves already", lane=lane, preview=preview, output=output)


def pause(client: Client, run: str, lane: str, reason: str, preview: bool, output: Format) -> None:
    """As `runs pause`."""
    held = ("is held at its next step border", "are held at their next step borders")
    still = "does not move anyway"
    _act(client, "pause", run, held, still, lane=lane, reason=reason, preview=preview, output=output)


def cancel(client: Client, run: str, reason: str, yes: bool, preview: bool, output: Format) -> None:
    """As `runs cancel`."""
    done = ("is cancelled", "are cancelled")
    _act(
        client,
        "cancel",
        run,
        done,
        "was over already",
        reason=reason,
        preview=preview,
        output=output,
        question="End run {run} for good?",
        yes=yes,
    )


def _act(
    client: Client,
    action: str,
    run: str,
    done: tuple[str, str],
    nothing: str,
    *,
    output: Format,
    preview: bool,
    lane: str = "",
    reason: str = "",
    question: str = "",
    yes: bool = True,
) -> None:
    from api.cli.runs import note_preview, show_preview, tell

    name = run_id(client, run)
    wanted = {"lane": lane} if lane else {}
    found = as_value(Preview, client.get(f"/api/runs/{part(name)}/{action}/preview", **wanted))
    if preview:
        show_preview(found, output)
        return
    if not found.lanes and action == "cancel":
        tell(name, (), done, nothing, found, output)
        return
    note_preview(found, output)
    if question:
        confirm(question.format(run=name), yes=yes)
    moved = client.post(f"/api/runs/{part(name)}/{action}", {"reason": reason, **wanted})["lanes"]
    tell(name, tuple(moved), done, nothing, found, output)


def report(client: Client, run: str, out: Path | None) -> None:
    """As `runs report`."""
    name = run_id(client, run)
    file = out or Path(f"{name}.html")
    write_private(file, client.read(f"/api/runs/{part(name)}/report"))
    say(str(file))


def runbook(client: Client, run: str, out: Path | None) -> None:
    """As `runs runbook`."""
    from api.cli.runs import show_runbook

    show_runbook(client.read(f"/api/runs/{part(run_id(client, run))}/runbook").decode(), out)


# ── journal ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def show_events(client: Client, run: str, output: Format) -> None:
    """As `journal show`."""
    from api.cli.journal import show_found

    show_found(events(client, run_id(client, run)), output)


def verify(client: Client, run: str, output: Format) -> None:
    """As `journal verify`; the machine of the journal counts and compares."""
    from api.cli.journal import tell_verified

    name = run_id(client, run)
    found = client.get("/api/journal/verify", run=name)
    problems = tuple(text for chain in found["chains"] for text in chain["problems"])
    count = client.get("/api/journal", run=name, limit=1)["total"]
    tell_verified(name, count, problems, output)


def export(client: Client, run: str, out: Path | None) -> None:
    """As `journal export`: the plan, and the events, each with its hash."""
    from api.cli.journal import export_lines, write_export

    name = run_id(client, run)
    data = client.read("/api/journal/export", run=name, plan=True)
    rows = [json.loads(line) for line in data.splitlines()]
    # Whoever may audit need not be one who may read: then the plan does not come.
    head = rows.pop(0) if rows and "plan" in rows[0] else {"run": name, "plan": None}
    write_export(export_lines(head, [as_value(Event, one) for one in rows]), out)


# ── plan, run ──────────────────────────────────────────────────────────────────────────────────────────────────────
def plan(client: Client, save: Path | None, output: Format, **wanted: Any) -> None:
    """As `plan`, from the inventory and the surveys of the API."""
    from api.cli.plan import show_made

    show_made(make_plan(client, **wanted), save, output)


def make_plan(
    client: Client,
    *,
    fleet: Path | None,
    cluster: list[str] | None,
    node: list[str] | None,
    certificate: list[str] | None,
    database: str,
    primary: str,
    upgrade_schema: bool,
    within: str,
    survey: bool,
    at: str | None,
) -> Plan:
    """Return the plan that the options mean; the API keeps it under its digest."""
    from workflows.plan import Plan

    no_files(fleet=fleet)
    if at:
        raise InputError("`--now` is for the machine of the journal.", remedy="Leave it out.")
    chosen = {"clusters": cluster or [], "nodes": node or []}
    if survey:
        take_survey(client, chosen)
    options = {"database": database, "primary": primary, "upgrade_schema": upgrade_schema, "within": within}
    made = client.post("/api/plans", {**chosen, "certificates": certificate or [], **options})
    for warning in made["warnings"]:
        note(f"warning: {warning}", "yellow")
    for why in made["why_nothing"]:
        note(why)
    return Plan.from_json(made["plan"])


def run(client: Client, file: Path | None, yes: bool, watch: bool, output: Format, **wanted: Any) -> None:
    """As `run`. A plan from a file is one that the API made and keeps."""
    from api.cli import plan as planning
    from api.cli.run import show_lines

    if file is not None:
        given = {name: value for name, value in wanted.items() if name != "within" and value}
        if given:
            raise InputError("A plan file says everything by itself.", remedy="Leave the selectors out, or the file.")
        made = planning.read_document(file)
    else:
        made = make_plan(client, **wanted)
    digest = made.digest()
    if made.empty:
        note("Nothing is due: everything is as wanted.")
        return
    if file is not None:
        made = _kept(client, file, digest)
    show_lines(made, digest, yes=yes)
    confirm("Begin with these lines?", yes=yes)
    _started(client, client.post("/api/runs", {"plan": digest}), watch=watch, output=output)


def _kept(client: Client, file: Path, digest: str) -> Plan:
    """Return the plan that the API keeps under *digest*, as much of it as this person may see; it is what will run.

    Raises: InputError: it keeps none, so the one in *file* has no author.
    """
    from api.cli.plan import not_kept
    from workflows.plan import Plan

    try:
        return Plan.from_json(client.get(f"/api/plans/{part(digest)}")["plan"])
    except NotThere as error:
        raise not_kept(file) from error


def _started(client: Client, fresh: dict[str, Any], *, watch: bool, output: Format) -> None:
    name = str(fresh["run"])
    if output is Format.TABLE:
        say(name)
    else:
        emit({"run": name, "digest": fresh["digest"]}, output)
    if watch:
        from api.cli.remote_following import follow

        raise typer.Exit(follow(client, name))
    note(f"follow it with `certbridge runs watch {name}`")


def take_survey(client: Client, wanted: dict[str, list[str]]) -> str:
    """Have the servers of *wanted* read, wait for the end of it, and return the run. Raises: NoWorker."""
    from api.cli.remote_following import carry_out

    run = str(client.post("/api/surveys", wanted)["run"])
    carry_out(client, run, "survey")
    return run


def no_files(**given: Path | None) -> None:
    """Return when none of the options *given* names a file. Raises: InputError."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"`--{name}` is for the machine of the engine; over the API its own inventory counts.",
                remedy=f"Leave `--{name}` out.",
            )
