"""Gates over the API: what waits, what is decided on, decisions, CSRs out and certificates in."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from api.cli.output import Format, Table, emit, note, say, show
from api.cli.run_text import STYLES
from api.cli.surroundings import confirm, read_moment
from api.client import Client, part
from workflows.errors import GateError, InputError

Row = dict[str, Any]


def list_gates(client: Client, output: Format) -> None:
    """As `gates list`; who may decide is told for whoever asks."""
    found = list(client.every("/api/gates", status="open"))
    if output is not Format.TABLE:
        emit(found, output)
        return
    rows = [
        (
            one["run"],
            one["lane"],
            one["gate"],
            (one["status"], STYLES.get(one["status"], "")),
            str(one["opened_at"] or "")[:19].replace("T", " "),
            "you" if one["may"]["approve"] else one["may"]["why_not_approve"],
        )
        for one in found
    ]
    show(Table(columns=("run", "lane", "gate", "status", "since", "who may decide"), rows=rows))


def show_gates(client: Client, run: str, lane: str, gate: str, output: Format) -> None:
    """As `gates show`."""
    found = [_whole(client, one) for one in _opened(client, _run(client, run), lane, gate)]
    if output is not Format.TABLE:
        emit(found, output)
        return
    for text in (text for one in found for text in _lines(one)):
        say(text)


def csr(client: Client, run: str, out: Path, lane: str, output: Format) -> None:
    """As `gates csr`."""
    from api.cli.gates import write_files

    name = _run(client, run)
    data = client.read(f"/api/runs/{part(name)}/csr", **({"lane": lane} if lane else {}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # The names are the server's; none may lead out of the folder.
        files = {Path(one).name: archive.read(one) for one in archive.namelist() if Path(one).name == one}
    write_files(out, files)
    if output is Format.TABLE:
        for file in files:
            say(str(out / file))
    else:
        emit({"run": name, "files": sorted(files)}, output)


def approve(
    client: Client, run: str, lane: str, gate: str, not_before: str | None, digest: str, reason: str, yes: bool
) -> None:
    """As `gates approve`."""
    more = {"not_before": read_moment(not_before).isoformat()} if not_before else {}
    _decide(client, "approve", run, lane, gate, digest=digest, reason=reason, yes=yes, **more)


def reject(client: Client, reason: str, run: str, lane: str, gate: str, yes: bool) -> None:
    """As `gates reject`."""
    _decide(client, "reject", run, lane, gate, digest="", reason=reason, yes=yes)


def deliver(client: Client, files: Sequence[Path], run: str, lane: str, output: Format) -> None:
    """As `gates deliver`."""
    from api.cli.gates import read_files

    pile = read_files(files)
    name = _run(client, run)
    sent = [("files", (Path(file).name, data)) for file, data in pile.items()]
    query = f"?lane={part(lane)}" if lane else ""
    took = client.post(f"/api/runs/{part(name)}/deliveries{query}", files=sent)
    if output is not Format.TABLE:
        emit(took, output)
        return
    for one in took.get("files", ()):
        for fault in one.get("faults", ()):
            note(f"{fault['where']}: {fault['what']}", "red")
            note(f"  → {fault['remedy']}")
    for wish in took.get("taken", ()):
        say(("matched ", "green"), wish)
    for wish in took.get("missing", ()):
        say(("missing ", "yellow"), wish)
    for complete in took.get("complete", ()):
        say(f"lane {complete} has all its certificates and goes on")


def _decide(
    client: Client,
    decision: str,
    run: str,
    lane: str,
    gate: str,
    *,
    digest: str,
    reason: str,
    yes: bool,
    **more: str,
) -> None:
    name = _run(client, run)
    every = _opened(client, name, lane, gate)
    chosen = [one for one in every if one["status"] == "open"] or every[-1:]
    if digest and len(chosen) > 1:
        raise InputError("--digest names one gate, but several are open.", remedy="Say `--lane` or `--gate` too.")
    if any(one["status"] == "open" for one in chosen):
        for one in chosen:
            for text in _lines(_whole(client, one), short=yes):
                note(text)
        names = ", ".join(f"{one['lane']} {one['gate']}" for one in chosen)
        confirm(f"{decision.capitalize()} {names}?", yes=yes)
    for one in chosen:
        # Bound to what was just shown, not to what stands there by now.
        shown = str(one["digest"])
        bound = shown if not digest or (len(digest) >= 12 and shown.startswith(digest)) else digest
        body = {"digest": bound, "reason": reason, **more}
        after = client.post(f"{_path(one)}/{decision}", body)
        if decision == "approve" and after["status"] == "open":
            say(("approval counted", "green"), f" for {one['gate']} of lane {one['lane']}; more people are needed")
            continue
        word = "approved" if decision == "approve" else "rejected"
        say((word, STYLES[word]), f" {one['gate']} of lane {one['lane']}, digest {shown[:12]}")
    if decision == "approve" and any(one["gate"] == "sign" for one in chosen):
        note(f"CSR files: `certbridge gates csr {name} --out DIR`; then `certbridge gates deliver FILE…`")


def _run(client: Client, run: str) -> str:
    from api.cli.remote import run_id

    if run:
        return run_id(client, run)
    waiting = list(
        dict.fromkeys(
            str(one["run"])
            for status in ("open", "approved", "rejected")
            for one in client.every("/api/gates", status=status)
        )
    )
    if not waiting:
        raise GateError("No run waits for people.", remedy="Name the run; see `certbridge runs list`.")
    if len(waiting) > 1:
        raise InputError(f"Several runs wait: {', '.join(waiting)}.", remedy="Say which one you mean.")
    return waiting[0]


def _opened(client: Client, run: str, lane: str, gate: str) -> list[Row]:
    every = list(client.every(f"/api/runs/{part(run)}/gates"))
    found = [one for one in every if lane in {"", one["lane"]} and gate in {"", one["gate"]}]
    if not found:
        raise GateError(f"Run {run} stands at no such gate yet.", remedy=f"See `certbridge runs show {run}`.")
    return found


def _path(one: Row) -> str:
    return f"/api/runs/{part(one['run'])}/gates/{part(one['lane'])}/{part(one['gate'])}"


def _whole(client: Client, one: Row) -> Row:
    return dict(client.get(_path(one)))


def _lines(one: Row, *, short: bool = False) -> Iterator[str]:
    """Yield a gate as it is decided on; the lines that would be typed come last, server by server."""
    yield f"{one['gate']} of lane {one['lane']}: {one['status']}"
    if one["voided"]:
        yield f"  an earlier approval is void: {one['voided']}"
    if one["waiting"]:
        yield f"  waiting on: {one['waiting']['on']}; who may decide: {one['waiting']['who']}"
    for stage in one["stages"]:
        said = ", ".join(vote["name"] for vote in stage["votes"] if vote["counts"]) or "nobody yet"
        yield f"  {stage['group'] or 'anybody who may approve'}: {said}; {stage['missing']} more needed"
    if one["decided_by"]:
        why = f" ({one['reason']})" if one["reason"] else ""
        yield f"  decided by {one['decided_by']} at {one['decided_at']}{why}"
    yield f"  digest {one['digest']}"
    for request in one["requests"]:
        yield f"  request {request['wish']}: {request['subject']}; {', '.join(request['names'])}; {request['key']}"
    for certificate in one["certificates"]:
        yield f"  certificate {certificate['wish']}: ends {certificate['not_valid_after']}, by {certificate['issuer']}"
    if short:
        return
    for node in one["nodes"]:
        yield f"  {node['node']}:"
        for line in (line for step in node["steps"] for line in step["lines"]):
            yield f"    {line['shown']}"
    yield from (f"  notice: {notice}" for notice in one["notices"])
