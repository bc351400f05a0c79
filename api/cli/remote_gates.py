"""Gates over the API: what waits, what is decided on, decisions, CSRs out and certificates in.

Values come from the API, words from `api.cli.gates` and `api.cli.gate_text`, as on the machine itself.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from api.cli import gates
from api.cli.output import Format
from api.cli.remote import plan_of, run_id
from api.cli.surroundings import read_moment
from api.client import Client, as_value, part
from api.gate_parts import DescribedGate
from workflows.errors import CertificateError, DigestChanged, Finding
from workflows.gate import SIGN
from workflows.journal import Event, Kind
from workflows.papers import Delivery

Row = dict[str, Any]
_WHOLE = 12
"""So many digits at the beginning of a digest stand for all of it."""


def list_gates(client: Client, output: Format) -> None:
    """As `gates list`."""
    gates.show_list(_described(client), output)


def show_gates(client: Client, run: str, lane: str, gate: str, output: Format) -> None:
    """As `gates show`."""
    name = _run(client, run)
    found = _opened(client, name, lane, gate)
    gates.show_described(plan_of(client, name), found, output)


def csr(client: Client, run: str, out: Path, lane: str, output: Format) -> None:
    """As `gates csr`."""
    name = _run(client, run)
    opened = _opened(client, name, lane, SIGN)
    requests = [each for one in opened for each in one["requests"]]
    gates.check_requests(name, requests)
    data = client.read(f"/api/runs/{part(name)}/csr", sheet=True, **({"lane": lane} if lane else {}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # The names are the server's; none may lead out of the folder.
        files = {Path(one).name: archive.read(one) for one in archive.namelist() if Path(one).name == one}
    held = sorted(one["lane"] for one in opened if one["status"] not in {"approved", "passed"})
    gates.hand_out(name, out, files, requests, held, output)


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
    pile = gates.read_files(files)
    name = _run(client, run)
    # The folders of this machine are nobody's business; what is said of a file names it as it was typed.
    typed = {Path(file).name: file for file in pile}
    sent = [("files", (Path(file).name, data)) for file, data in pile.items()]
    query = f"?lane={part(lane)}" if lane else ""
    try:
        took = as_value(Delivery, client.post(f"/api/runs/{part(name)}/deliveries{query}", files=sent))
    except CertificateError as error:
        raise CertificateError(_as_typed(error.findings, typed)) from None
    gates.show_delivery(name, replace(took, warnings=_as_typed(took.warnings, typed)), output)


def _as_typed(findings: Sequence[Finding], typed: Mapping[str, str]) -> tuple[Finding, ...]:
    def where(said: str) -> str:
        sent = max((name for name in typed if said.startswith(name)), key=len, default="")
        return typed.get(sent, "") + said[len(sent) :]

    return tuple(replace(one, where=where(one.where)) for one in findings)


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
    gates.check_digest(digest, len(chosen))

    def send(one: Row, query: str = "") -> Row:
        # Bound to what was just shown, not to what stands there by now.
        shown = str(one["digest"])
        if digest and not (len(digest) >= _WHOLE and shown.startswith(digest)):
            raise DigestChanged(f"You looked at {digest[:12]}, but {shown[:12]} stands there now.")
        place = f"/api/runs/{part(name)}/gates/{part(one['lane'])}/{part(one['gate'])}"
        return dict(client.post(f"{place}/{decision}{query}", {"digest": shown, "reason": reason, **more}))

    still_open = [one for one in chosen if one["status"] == "open"]
    for one in still_open:
        send(one, "?check=true")
    if still_open:
        gates.ask(decision, plan_of(client, name), chosen, yes=yes)
    decided = False
    for one in chosen:
        after = send(one)
        decided = decided or (one["gate"] == SIGN and after["status"] == "approved")
        gates.tell_decided(name, one["lane"], one["gate"], str(one["digest"]), after["status"])
    if decided:
        gates.tell_csr(name)


def _run(client: Client, run: str) -> str:
    if run:
        return run_id(client, run)
    waiting = list(dict.fromkeys(str(one["run"]) for one in client.every("/api/gates", status="waiting")))
    return gates.the_one(waiting, "" if waiting else _last_decision(client))


def _last_decision(client: Client) -> str:
    kinds = [Kind.GATE_APPROVED.value, Kind.GATE_REJECTED.value]
    for row in client.get("/api/journal", kind=kinds, limit=1)["items"]:
        last = as_value(Event, row)
        word = "rejected" if last.kind is Kind.GATE_REJECTED else "approved"
        return gates.last_one(last.step.rpartition("/")[2], last.lane, last.run, word, last.actor, last.at)
    return ""


def _opened(client: Client, run: str, lane: str, gate: str) -> list[Row]:
    found = _described(client, run=run, **({"lane": lane} if lane else {}), **({"gate": gate} if gate else {}))
    gates.check_found(run, found)
    return found


def _described(client: Client, **wanted: str) -> list[Row]:
    """Return gates as `gate_view.described` does: plain values, with times as such."""
    return [DescribedGate.model_validate(one).model_dump() for one in client.every("/api/gates/described", **wanted)]
