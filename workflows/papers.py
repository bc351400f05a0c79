"""The papers of a lane: CSRs out, signed certificates in, each certificate found by its public key and checked.

`deliver` takes any pile of files, in any format and order, names every problem at once, and writes nothing until all
that came is right. What is still missing is told, not an error: more files may come. When the last one is in, the
control worker passes the sign gate and the lane goes on. Blobs hold public material only; private keys never come here
(a pile with one is refused).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from cryptography import x509

from workflows.errors import CertificateError, Finding, GateError
from workflows.gate import SIGN, digest_of
from workflows.journal import gates, stock
from workflows.journal.fold import LaneState, RunState
from workflows.journal.store import Journal, Transaction
from workflows.mmp.services import SERVICES
from workflows.plan import Lane, Plan, Step
from workflows.x509.acceptance import Wish, check_signed
from workflows.x509.bundle import render, split
from workflows.x509.match import match_by_key
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.pile import Found, read_pile
from workflows.x509.renewal import fingerprint
from workflows.x509.request import RequestView, read_request, spki_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What came of it: wish ids taken, those still missing, warnings, and the lanes that have all they need."""

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[Finding, ...]
    complete: tuple[str, ...]


def wishes_of(plan: Plan, lane: str, state: LaneState) -> tuple[str, ...]:
    """Return the wish ids of *lane* that go on, in the order of its request steps; those of a failed server are out."""
    out = nodes_out(plan.lane(lane), state)
    steps = [step for step in plan.lane(lane).steps() if step.action == "request"]
    return tuple(step.params["wish"] for step in steps if step.id not in state.excused and step.node not in out)


def nodes_out(lane: Lane, state: LaneState) -> frozenset[str]:
    """Return the nodes that failed within the fail limit, wherever it was: they take no further part in the run."""
    return frozenset(step.node for step in lane.steps() if step.id in state.excused and step.node)


def requests_of(journal: Journal, run: str, plan: Plan, lane: str) -> dict[str, RequestView]:
    """Return {wish id: CSR} of those requests of *lane* that are done."""
    state = journal.state(run).lanes[lane]
    done = {step.id: state.steps[step.id] for step in plan.lane(lane).steps() if step.id in state.steps}
    found: dict[str, RequestView] = {}
    for step in plan.lane(lane).steps():
        digest = done[step.id].data.get("csr") if step.action == "request" and step.id in done else None
        if digest:
            found[step.params["wish"]] = read_request(journal.read(partial(stock.get_blob, sha256=digest)))
    return found


def digest_of_gate(plan: Plan, plan_digest: str, lane: str, gate: str, state: LaneState) -> str:
    """Return what a decision on this gate is bound to now: plan and CSRs at *sign*, plan and certificates at *go*."""
    return digest_of(gate, plan_digest, lane, papers_of(plan, lane, gate, state))


def papers_of(plan: Plan, lane: str, gate: str, state: LaneState) -> dict[str, str]:
    """Return {wish id: SHA-256 of the CSR (sign) or of the certificate (go, point of no return)}."""
    if gate != SIGN:
        signed_here = {
            str(step.params["wish"]): str(state.steps[step.id].data["certificate"])
            for step in plan.lane(lane).steps()
            if step.id in state.steps and "certificate" in state.steps[step.id].data and "wish" in step.params
        }
        delivered = {wish: str(one["leaf"]) for wish, one in state.certificates.items()}
        return dict(sorted((signed_here | delivered).items()))
    steps: Sequence[Step] = [step for step in plan.lane(lane).steps() if step.action == "request"]
    return {
        step.params["wish"]: str(state.steps[step.id].data["csr"])
        for step in steps
        if step.id in state.steps and "csr" in state.steps[step.id].data
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSeen:
    """What a file of a delivery is: the wishes whose certificate it holds, and what is wrong with it.

    A certificate that was taken before, and that nobody waits for any more, counts among the wishes; a warning says so.
    """

    name: str
    wishes: tuple[str, ...] = ()
    faults: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A pile before any of it is taken: chains by wish, each file, every fault (of no file too), and the lanes."""

    chains: Mapping[str, tuple[x509.Certificate, ...]]
    files: tuple[FileSeen, ...]
    faults: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    lane_of: Mapping[str, str]
    waiting: tuple[str, ...]


def examine(journal: Journal, run: str, files: Mapping[str, bytes], *, now: datetime, lane: str = "") -> Examined:
    """Return what is in *files* for every lane of *run* whose sign gate is approved (or for *lane* alone).

    Nothing is written. Raises: GateError: no approved sign gate waits.
    """
    plan = Plan.from_json(journal.plan(run))
    waiting = _waiting_lanes(journal, run, plan, lane)
    requests = {wish: (name, view) for name in waiting for wish, view in requests_of(journal, run, plan, name).items()}
    state = journal.state(run)
    pile = read_pile(files)
    findings = list(pile.problems)
    findings += [
        Finding(
            name, "holds a private key; it was not kept", "Send certificates only. Renew that key if others saw it."
        )
        for name in pile.private_keys
        if not any(one.where == name for one in pile.problems)
    ]
    keys = {wish: view.spki_sha256 for wish, (_, view) in requests.items()}
    again = _delivered_before(journal, state, pile.certificates, keys.values())
    matched = match_by_key([one for one in pile.certificates if fingerprint(one.certificate) not in again], keys)
    findings += matched.problems
    had = [(one.source, again[mark]) for one in pile.certificates if (mark := fingerprint(one.certificate)) in again]
    warnings = [
        Finding(f"{source} ({wish})", "this certificate was delivered already", "Nothing needs to be done about it.")
        for source, wish in dict.fromkeys(had)
    ]
    chains: dict[str, tuple[x509.Certificate, ...]] = {}
    pool = [*matched.issuers, *_known_issuers(journal, state.lanes.values())]
    for wish, found in matched.by_id.items():
        accepted = check_signed(
            found.certificate,
            request=requests[wish][1],
            wish=wish_of(plan, wish),
            pool=pool,
            now=now,
            minimum_days=int(plan.fleet.get("minimum_days", 0)),
        )
        findings += [Finding(f"{found.source} ({wish})", one.what, one.remedy) for one in accepted.faults]
        warnings += [Finding(f"{found.source} ({wish})", one.what, one.remedy) for one in accepted.warnings]
        chains[wish] = accepted.chain
    if not findings and not chains and not had:
        findings.append(Finding(", ".join(files) or "nothing", "holds no certificate for this run", "Check the files."))
    faults = tuple(dict.fromkeys(findings))
    return Examined(
        chains=chains,
        files=tuple(
            FileSeen(
                name=name,
                wishes=(
                    *(wish for wish, found in matched.by_id.items() if found.source == name),
                    *dict.fromkeys(wish for source, wish in had if source == name),
                ),
                faults=tuple(one for one in faults if one.where == name or one.where.startswith(f"{name} (")),
            )
            for name in files
        ),
        faults=faults,
        warnings=_once(warnings),
        lane_of={wish: name for wish, (name, _) in requests.items()},
        waiting=waiting,
    )


def deliver(
    journal: Journal, run: str, files: Mapping[str, bytes], *, by: str, now: datetime, lane: str = ""
) -> Delivery:
    """Take the certificates in *files* for every lane of *run* whose sign gate is approved (or for *lane* alone).

    Raises: CertificateError with every finding (nothing is taken then), GateError (no approved sign gate waits).
    """
    return take(journal, run, examine(journal, run, files, now=now, lane=lane), by=by)


def take(journal: Journal, run: str, seen: Examined, *, by: str) -> Delivery:
    """Take what was examined, all of it or nothing. Raises: CertificateError with every finding, GateError."""
    if seen.faults:
        raise CertificateError(seen.faults)
    plan = Plan.from_json(journal.plan(run))
    lane_of = {wish: seen.lane_of[wish] for wish in seen.chains}
    return _take(journal, run, plan, seen.waiting, lane_of, seen.chains, by, seen.warnings)


def _take(
    journal: Journal,
    run: str,
    plan: Plan,
    waiting: Sequence[str],
    lane_of: Mapping[str, str],
    chains: Mapping[str, Sequence[x509.Certificate]],
    by: str,
    warnings: Sequence[Finding],
) -> Delivery:
    before = journal.state(run)
    missing: dict[str, tuple[str, ...]] = {}
    for name in waiting:
        have = set(before.lanes[name].certificates) | {wish for wish, lane in lane_of.items() if lane == name}
        missing[name] = tuple(wish for wish in wishes_of(plan, name, before.lanes[name]) if wish not in have)

    def write(tx: Transaction) -> None:
        for name in waiting:
            mine: dict[str, dict[str, Any]] = {}
            for wish, chain in chains.items():
                if lane_of[wish] == name:
                    leaf = stock.put_blob(tx, "certificate", render(chain[:1]))
                    mine[wish] = {"leaf": leaf, "chain": stock.put_blob(tx, "chain", render(chain))}
            if mine:
                # Looked at again here: somebody else's delivery may have been complete meanwhile, and the gate passed.
                gates.must_be_approved(tx, run=run, lane=name, name=SIGN)
                gates.deliver(tx, run=run, lane=name, certificates=mine, by=by)

    journal.write(write)
    return Delivery(
        taken=tuple(chains),
        missing=tuple(wish for name in waiting for wish in missing[name]),
        warnings=tuple(warnings),
        complete=tuple(name for name in waiting if not missing[name]),
    )


def _once(warnings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return each warning once; the same for several files names the first of them and counts the others."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in warnings:
        places.setdefault((one.what, one.remedy), []).append(one.where)
    return tuple(
        Finding(where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more", what, remedy)
        for (what, remedy), where in places.items()
    )


def certificate_of(
    journal: Journal, lane: LaneState, wish: str
) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    """Return the delivered certificate of *wish* and its chain (leaf first, root last).

    Raises: GateError: none came.
    """
    one = lane.certificates.get(wish)
    if one is None:
        raise GateError(f"No certificate was delivered for {wish}.")
    chain = split(journal.read(lambda connection: stock.get_blob(connection, str(one["chain"]))))
    return chain[0], chain


def wish_of(plan: Plan, wish: str) -> Wish:
    """Return what the certificate of *wish* is to be; the usages are those that its services need."""
    one = plan.wishes[wish]
    # A database pair belongs to no service; the plan says itself what it is used for.
    usages = {usage for entry in SERVICES if entry.name in one["services"] for usage in entry.eku}
    usages |= set(one.get("usages", ()))
    return Wish(subject=subject_of(one), sans=sans_of(one), usages=frozenset(usages))  # type: ignore[arg-type]


def subject_of(wish: Mapping[str, Any]) -> Subject:
    """Return the subject of a wish of the plan."""
    return Subject(**dict(wish["subject"]))


def sans_of(wish: Mapping[str, Any]) -> SubjectAltNames:
    """Return the subject alternative names of a wish of the plan."""
    return SubjectAltNames(dns=tuple(wish["dns"]), ip=tuple(wish["ip"]), email=tuple(wish["email"]))


def _waiting_lanes(journal: Journal, run: str, plan: Plan, lane: str) -> tuple[str, ...]:
    state = journal.state(run)
    status = {
        one.name: state.lanes[one.name].gates[gate.id].status
        for one in plan.lanes
        for gate in one.gates()
        if gate.name == SIGN and gate.id in state.lanes[one.name].gates and (not lane or one.name == lane)
    }
    waiting = tuple(name for name, one in status.items() if one == "approved")
    if waiting:
        return waiting
    if any(one == "open" for one in status.values()):
        raise GateError(
            "The sign gate is not approved yet, so no certificates are taken.",
            remedy=f"Approve it first: `certbridge gates approve {run}`.",
        )
    raise GateError(f"No lane of run {run} waits for certificates.", remedy="See `certbridge gates list`.")


def _delivered_before(
    journal: Journal, state: RunState, pile: Sequence[Found], wanted: Collection[str]
) -> dict[str, str]:
    """Return {fingerprint: wish} of the certificates in *pile* that were delivered before and answer no open request.

    Whoever gives a whole folder once more, after a part of it was taken, means the rest of it.
    """
    here = {fingerprint(one.certificate) for one in pile if spki_sha256(one.certificate) not in wanted}
    found: dict[str, str] = {}
    for lane in state.lanes.values() if here else ():
        for wish in lane.certificates:
            mark = fingerprint(certificate_of(journal, lane, wish)[0])
            if mark in here:
                found[mark] = wish
    return found


def _known_issuers(journal: Journal, lanes: Any) -> list[x509.Certificate]:
    """Return the issuers of certificates delivered before, so that a chain need not be sent twice."""
    digests = {str(one["chain"]) for lane in lanes for one in lane.certificates.values()}
    return [
        certificate
        for digest in sorted(digests)
        for certificate in split(journal.read(partial(stock.get_blob, sha256=digest)))[1:]
    ]
