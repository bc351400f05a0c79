"""`certbridge gates`: what waits for people, the CSRs out, decisions, and the signed certificates in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from api import gate_view, request_sheet
from api.archives import LARGEST, collected, unpacked
from api.cli import gate_text
from api.cli.elsewhere import over_api
from api.cli.output import Format, OutputOption, Table, bare, emit, moment, note, plain, say, show, show_warnings
from api.cli.run_text import STYLES
from api.cli.surroundings import YesOption, account, confirm, now, open_journal, read_bytes, read_moment, run_id
from workflows.errors import GateError, InputError

if TYPE_CHECKING:
    from workflows.actions import OpenGate
    from workflows.journal import Journal
    from workflows.plan import Plan

RunArgument = Annotated[
    str, typer.Argument(metavar="[RUN]", help="The run's id or @latest; may be left out when one run waits.")
]
RunOption = Annotated[str, typer.Option("--run", help="The run's id or @latest; may be left out when one run waits.")]
LaneOption = Annotated[str, typer.Option("--lane", help="Only this lane.")]
GateOption = Annotated[
    Literal["", "sign", "go", "point-of-no-return"],
    typer.Option("--gate", metavar="NAME", help="Only this gate: sign, go or point-of-no-return."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_gates)
    group.command("show")(show_gates)
    group.command("csr")(csr)
    group.command("approve")(approve)
    group.command("reject")(reject)
    group.command("deliver")(deliver)
    app.add_typer(group, name="gates", help="Decide what waits for people; CSRs out, certificates in.")


@over_api("list_gates", module="remote_gates")
def list_gates(output: OutputOption = Format.TABLE) -> None:
    """List every gate that waits, in all runs, oldest first."""
    with open_journal() as journal:
        found = [
            one
            for run in _waiting_runs(journal)
            for one in gate_view.described(journal, run, _opened(journal, run, "", ""), now())
        ]
    waiting = [one for one in found if one["waiting"]]
    if output is not Format.TABLE:
        emit(waiting, output)
        return
    rows = [
        (
            one["run"],
            one["lane"],
            one["gate"],
            (one["status"], STYLES.get(one["status"], "")),
            moment(one["waiting"]["since"]),
            one["waiting"]["on"],
            one["waiting"]["who"],
        )
        for one in waiting
    ]
    show(Table(columns=("run", "lane", "gate", "status", "since", "waiting on", "who may decide"), rows=rows))


@over_api("show_gates", module="remote_gates")
def show_gates(
    run: RunArgument = "", lane: LaneOption = "", gate: GateOption = "", output: OutputOption = Format.TABLE
) -> None:
    """Show the gates of a run: requests or certificates, the digest a decision is bound to, who decided what."""
    with open_journal() as journal:
        name = _run(journal, run)
        found = gate_view.described(journal, name, _opened(journal, name, lane, gate), now())
        if output is not Format.TABLE:
            emit(found, output)
            return
        for line in gate_text.lines(_plan(journal, name), found):
            say(*line)


@over_api("csr", module="remote_gates")
def csr(
    run: RunArgument = "",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files; it is made.")] = ...,  # type: ignore[assignment]
    lane: LaneOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Write the request sheet; after the approval of `sign`, the CSR files too."""
    from workflows.gate import SIGN

    with open_journal() as journal:
        name = _run(journal, run)
        plan = _plan(journal, name)
        gates = _opened(journal, name, lane, SIGN)
        found = {one.lane: request_sheet.requests(journal, name, plan, one.lane) for one in gates}
    every = [one for requests in found.values() for one in requests]
    if not every:
        raise GateError(f"Run {name} has no requests at a sign gate yet.", remedy=f"See `certbridge runs show {name}`.")
    released = {one.lane for one in gates if one.state.status in {"approved", "passed"}}
    files = {
        "request-sheet.txt": request_sheet.as_text(name, every).encode(),
        "request-sheet.csv": request_sheet.as_csv(every).encode(),
    }
    files |= {one.file: one.pem for lane_name in released for one in found[lane_name]}
    write_files(out, files)
    if output is Format.TABLE:
        for file in files:
            say(str(out / file))
    else:
        emit({"run": name, "files": sorted(files), "requests": [request_sheet.as_json(one) for one in every]}, output)
    held = sorted(set(found) - released)
    if held:
        note(f"lane {', '.join(held)}: the CSR files come once `sign` is approved (`certbridge gates approve {name}`)")


@over_api("approve", module="remote_gates")
def approve(
    run: RunArgument = "",
    lane: LaneOption = "",
    gate: GateOption = "",
    not_before: Annotated[
        str | None, typer.Option("--not-before", metavar="ISO", help="Approved, but nothing moves before this time.")
    ] = None,
    digest: Annotated[str, typer.Option("--digest", help="What you looked at, in full or its first 12 digits.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="A word for the journal.")] = "",
    yes: YesOption = False,
) -> None:
    """Approve all open gates of a run (or those of --lane and --gate), after showing them."""
    moment_ = read_moment(not_before) if not_before else None
    _decide("approve", run, lane, gate, digest=digest, reason=reason, not_before=moment_, yes=yes)


@over_api("reject", module="remote_gates")
def reject(
    reason: Annotated[str, typer.Option("--reason", help="Why; whoever asked for the run reads it.")],
    run: RunArgument = "",
    lane: LaneOption = "",
    gate: GateOption = "",
    yes: YesOption = False,
) -> None:
    """Reject all open gates of a run (or those of --lane and --gate); their lanes stop."""
    _decide("reject", run, lane, gate, digest="", reason=reason, not_before=None, yes=yes)


@over_api("deliver", module="remote_gates")
def deliver(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Certificates: files, folders, .zip.")],
    run: RunOption = "",
    lane: LaneOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Take signed certificates of any format in any order; nothing is taken until all that came is right."""
    from workflows import papers

    pile = read_files(files)
    with open_journal() as journal:
        name = _run(journal, run)
        took = papers.deliver(journal, name, pile, by=account(), now=now(), lane=lane)
    if output is not Format.TABLE:
        emit({"run": name} | plain(asdict(took)), output)
        return
    show_warnings(took.warnings)
    for wish in took.taken:
        say(("matched ", "green"), wish)
    for wish in took.missing:
        say(("missing ", "yellow"), wish)
    for complete in took.complete:
        say(f"lane {complete} has all its certificates and goes on")


def read_files(paths: Sequence[Path]) -> dict[str, bytes]:
    """Return {name: bytes} of *paths*: files as they are, folders and .zip archives with all they hold.

    Raises: InputError: not there, empty, or more than certificates can be.
    """
    found = collected(each for path in paths for each in _contents(path))
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: there are no files", remedy="Name the certificate files.")
    return found


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                yield from _contents(file)
    elif path.suffix.lower() == ".zip":
        yield from unpacked(path, str(path))
    else:
        if path.exists() and path.stat().st_size > LARGEST:
            raise InputError(f"{path}: more than {LARGEST // 1_000_000} MB", remedy="Send certificates only.")
        yield str(path), read_bytes(path, "the certificates", "Name files, folders or .zip archives.")


def _decide(
    decision: Literal["approve", "reject"],
    run: str,
    lane: str,
    gate: str,
    *,
    digest: str,
    reason: str,
    not_before: Any,
    yes: bool,
) -> None:
    from workflows import actions

    with open_journal() as journal:
        name = _run(journal, run)
        every = _opened(journal, name, lane, gate)
        chosen = [one for one in every if one.state.status == "open"] or every[-1:]
        if digest and len(chosen) > 1:
            raise InputError("--digest names one gate, but several are open.", remedy="Say `--lane` or `--gate` too.")
        _check(chosen, decision, digest=digest, reason=reason)
        if any(one.state.status == "open" for one in chosen):
            # Who says `--yes` has seen all of it before, in `gates show`.
            text = gate_text.short_lines if yes else gate_text.lines
            for line in text(_plan(journal, name), gate_view.described(journal, name, chosen, now())):
                note("".join(bare(span) for span in line))
            confirm(f"{decision.capitalize()} {', '.join(f'{one.lane} {one.gate.name}' for one in chosen)}?", yes=yes)
        decided = False
        for one in chosen:
            # Without --digest the decision is bound to what was just shown, not to what stands there by now.
            bound = _bound(one, digest) or one.state.digest
            after = actions.decide(
                journal, one, decision=decision, by=account(), digest=bound, reason=reason, not_before=not_before
            )
            word = {"open": "voted for", "approved": "approved", "rejected": "rejected"}[after.status]
            decided = decided or (one.gate.name == "sign" and after.status == "approved")
            say((word, STYLES.get(word, "")), f" {one.gate.name} of lane {one.lane}, digest {one.state.digest[:12]}")
            if after.status == "open":
                note(f"more people are needed: `certbridge gates show {name}` says who")
    if decided:
        note(f"CSR files: `certbridge gates csr {name} --out DIR`; then `certbridge gates deliver FILE…`")


def _check(chosen: Sequence[OpenGate], decision: str, *, digest: str, reason: str) -> None:
    """Return when this person may decide so: nobody reads a hundred lines to be refused. Raises: GateError."""
    from workflows.gate import check_decision

    for one in chosen:
        if one.state.status == "open":
            check_decision(
                decision=decision,
                by=account(),
                requested_by=one.requested_by,
                four_eyes=one.four_eyes,
                two_people=one.gate.two_people,
                digest=_bound(one, digest),
                current_digest=one.state.digest,
                reason=reason,
                others=one.others,
            )


def _bound(one: OpenGate, digest: str) -> str:
    """Return the whole digest that *digest*, whole or its first 12 digits, means."""
    return one.state.digest if len(digest) >= 12 and one.state.digest.startswith(digest) else digest


def _opened(journal: Journal, run: str, lane: str, gate: str) -> tuple[OpenGate, ...]:
    from workflows import actions

    lanes = tuple(journal.state(run).lanes)
    if lane and lane not in lanes:
        raise InputError(f"Run {run} has no lane {lane}.", remedy=f"Its lanes are: {', '.join(lanes)}.")
    found = actions.open_gates(journal, run, lane=lane, name=gate)
    if not found:
        raise GateError(f"Run {run} stands at no such gate yet.", remedy=f"See `certbridge runs show {run}`.")
    return found


def _run(journal: Journal, run: str) -> str:
    if run:
        return run_id(journal, run)
    waiting = _waiting_runs(journal)
    if not waiting:
        raise GateError(
            f"No run waits for people.{_last_decision(journal)}", remedy="Name the run; see `certbridge runs list`."
        )
    if len(waiting) > 1:
        raise InputError(f"Several runs wait: {', '.join(waiting)}.", remedy="Say which one you mean.")
    return waiting[0]


def _last_decision(journal: Journal) -> str:
    """Return a sentence about the gate that was decided last, "" when there was none of late."""
    decided = [
        (gate.decided_at, run.run, lane.name, gate)
        for run in journal.runs(limit=20)
        for lane in journal.state(run.run).lanes.values()
        for gate in lane.gates.values()
        if gate.decided_at
    ]
    if not decided:
        return ""
    at, run, lane, gate = max(decided, key=lambda one: one[0])
    word = "rejected" if gate.status == "rejected" else "approved"
    return f" The last one, {gate.name} of lane {lane} of run {run}, was {word} by {gate.decided_by} at {moment(at)}."


def _waiting_runs(journal: Journal) -> list[str]:
    from workflows.journal import gates

    rows = journal.read(lambda connection: gates.open_gates(connection, ("open", "approved", "rejected")))
    return list(dict.fromkeys(row.run for row in rows))


def _plan(journal: Journal, run: str) -> Plan:
    from workflows.plan import Plan

    return Plan.from_json(journal.plan(run))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write *files* into *folder*, which is made. Raises: InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror})", remedy="Name another folder.") from error
