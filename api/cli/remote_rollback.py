"""`runs rollback` over the API: the same survey, plan and question as on the machine itself (`api.cli.rollback`)."""

from __future__ import annotations

from contextlib import suppress

import typer

from api.cli import rollback as words
from api.cli.output import Format, note
from api.cli.remote import look, run_id, take_survey
from api.client import Client, as_value, part
from workflows.errors import NothingToUndo, PlanError, PlanStale
from workflows.plan import Plan
from workflows.preview import Preview


def rollback(client: Client, run: str, lane: str, yes: bool, preview: bool, watch: bool, output: Format) -> None:
    """As `runs rollback`; the survey that it is made from is taken first."""
    name = run_id(client, run)
    path, wanted = f"/api/runs/{part(name)}/rollback", {"lane": lane} if lane else {}
    # What cannot be gone back from at all is refused before servers are read; the rest is judged anew after it.
    with suppress(PlanStale, PlanError):
        client.get(f"{path}/preview", **wanted)
    shown = look(client, name)
    unfinished = [one.name for one in shown.lanes if one.status != "done"]
    take_survey(client, {"clusters": [lane] if lane else unfinished or [one.name for one in shown.lanes]})
    try:
        said = client.get(f"{path}/preview", **wanted)
    except NothingToUndo as nothing:
        words.tell_nothing(nothing, shown, output)
        return
    made, digest, found = Plan.from_json(said["plan"]), str(said["digest"]), as_value(Preview, said)
    if preview:
        words.show_way(made, digest, found, output)
        return
    words.note_way(made, found, output)
    words.ask(name, made, open_still=shown.outcome == "open", yes=yes)
    fresh = str(client.post(path, {"digest": digest, **wanted})["run"])
    words.tell_started(fresh, made, digest, found, output)
    if watch:
        from api.cli.remote_following import follow

        raise typer.Exit(follow(client, fresh))
    note(f"follow it with `certbridge runs watch {fresh}`")
