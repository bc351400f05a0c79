"""`certbridge gates`: what waits for people, the CSRs out, decisions, and the signed certificates in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
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
    from workflows.papers import Delivery
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
    show_list([one for one in found if one["waiting"]], output)


def show_list(waiting: Sequence[dict[str, Any]], output: Format) -> None:
    """Show gates that wait, as `gate_view.described` returns them."""
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
        plan = _plan(journal, name)
    show_described(plan, found, output)


def show_described(plan: Plan, found: Sequence[dict[str, Any]], output: Format) -> None:
    """Show gates of the run of *plan*, as `gate_view.described` returns them."""
    if output is not Format.TABLE:
        emit(found, output)
        return
    for line in gate_text.lines(plan, found):
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
    check_requests(name, every)
    released = [one.lane for one in gates if one.state.status in {"approved", "passed"}]
    files = {
        "request-sheet.txt": request_sheet.as_text(name, every).encode(),
        "request-sheet.csv": request_sheet.as_csv(every).encode(),
    }
    files |= {one.file: one.pem for lane_name in released for one in found[lane_name]}
    held = sorted(set(found).difference(released))
    hand_out(name, out, files, [request_sheet.as_json(one) for one in every], held, output)


def check_requests(run: str, requests: Sequence[object]) -> None:
    """Return when there are *requests*. Raises: GateError."""
    if not requests:
        raise GateError(f"Run {run} has no requests at a sign gate yet.", remedy=f"See `certbridge runs show {run}`.")


def hand_out(
    run: str, out: Path, files: dict[str, bytes], requests: Sequence[object], held: Sequence[str], output: Format
) -> None:
    """Write *files* into *out* and say so; *held* are the lanes whose CSRs nobody has approved yet."""
    write_files(out, files)
    if output is Format.TABLE:
        for file in files:
            say(str(out / file))
    else:
        emit({"run": run, "files": sorted(files), "requests": requests}, output)
    if held:
        note(f"lane {', '.join(held)}: the CSR files come once `sign` is approved (`certbridge gates approve {run}`)")


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
    show_delivery(name, took, output)


def show_delivery(run: str, took: Delivery, output: Format) -> None:
    """Show what came of a delivery."""
    if output is not Format.TABLE:
        emit({"run": run} | plain(asdict(took)), output)
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
        check_digest(digest, len(chosen))
        for one in chosen:
            if one.state.status == "open":
                bound = _bound(one, digest)
                actions.check_decision(one, decision=decision, by=account(), digest=bound, reason=reason)
        if any(one.state.status == "open" for one in chosen):
            ask(decision, _plan(journal, name), gate_view.described(journal, name, chosen, now()), yes=yes)
        decided = False
        for one in chosen:
            # Without --digest the decision is bound to what was just shown, not to what stands there by now.
            bound = _bound(one, digest) or one.state.digest
            after = actions.decide(
                journal, one, decision=decision, by=account(), digest=bound, reason=reason, not_before=not_before
            )
            decided = decided or (one.gate.name == "sign" and after.status == "approved")
            tell_decided(name, one.lane, one.gate.name, one.state.digest, after.status)
    if decided:
        tell_csr(name)


def check_digest(digest: str, gates: int) -> None:
    """Return when *digest* can mean one gate only. Raises: InputError."""
    if digest and gates > 1:
        raise InputError("--digest names one gate, but several are open.", remedy="Say `--lane` or `--gate` too.")


def ask(decision: str, plan: Plan, described: Sequence[dict[str, Any]], *, yes: bool) -> None:
    """Show the gates that are decided on, and ask. Raises: Stopped, InputError: nobody can be asked."""
    # Who says `--yes` has seen all of it before, in `gates show`.
    text = gate_text.short_lines if yes else gate_text.lines
    for line in text(plan, described):
        note("".join(bare(span) for span in line))
    names = ", ".join(f"{one['lane']} {one['gate']}" for one in described)
    confirm(f"{decision.capitalize()} {names}?", yes=yes)


def tell_decided(run: str, lane: str, gate: str, digest: str, status: str) -> None:
    """Say what came of a decision: *status* is that of the gate after it."""
    word = {"open": "voted for", "approved": "approved", "rejected": "rejected"}[status]
    say((word, STYLES.get(word, "")), f" {gate} of lane {lane}, digest {digest[:12]}")
    if status == "open":
        note(f"more people are needed: `certbridge gates show {run}` says who")


def tell_csr(run: str) -> None:
    """Say what comes after the approval of `sign`."""
    note(f"CSR files: `certbridge gates csr {run} --out DIR`; then `certbridge gates deliver FILE…`")


def _bound(one: OpenGate, digest: str) -> str:
    """Return the whole digest that *digest*, whole or its first 12 digits, means."""
    return one.state.digest if len(digest) >= 12 and one.state.digest.startswith(digest) else digest


def _opened(journal: Journal, run: str, lane: str, gate: str) -> tuple[OpenGate, ...]:
    from workflows import actions

    lanes = tuple(journal.state(run).lanes)
    if lane and lane not in lanes:
        raise InputError(f"Run {run} has no lane {lane}.", remedy=f"Its lanes are: {', '.join(lanes)}.")
    found = actions.open_gates(journal, run, lane=lane, name=gate)
    check_found(run, found)
    return found


def check_found(run: str, found: Sequence[object]) -> None:
    """Return when there are gates. Raises: GateError."""
    if not found:
        raise GateError(f"Run {run} stands at no such gate yet.", remedy=f"See `certbridge runs show {run}`.")


def _run(journal: Journal, run: str) -> str:
    if run:
        return run_id(journal, run)
    waiting = _waiting_runs(journal)
    return the_one(waiting, "" if waiting else _last_decision(journal))


def the_one(waiting: Sequence[str], last: str) -> str:
    """Return the one run that waits; *last* tells of the last decision. Raises: GateError: none; InputError: more."""
    if not waiting:
        raise GateError(f"No run waits for people.{last}", remedy="Name the run; see `certbridge runs list`.")
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
    return last_one(gate.name, lane, run, word, gate.decided_by, at)


def last_one(gate: str, lane: str, run: str, word: str, by: str, at: datetime) -> str:
    """Return the sentence about the gate that was decided last."""
    return f" The last one, {gate} of lane {lane} of run {run}, was {word} by {by} at {moment(at)}."


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
