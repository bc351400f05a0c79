"""The checker: reads after a round what the servers saw, and compares it with the journal and the plan (I1 to I10).

The simulator's command log is the truth of what was sent, the ports are the truth of what is served; the journal only
says what was meant. Both clocks are those of this machine, so the two can be laid over each other.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from chaos_engine import ChaosEngine
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from database_order import check as database_order
from renewing import _READING, must, nodes_of, read_file, say

from workers.served import look
from workflows.errors import Unreachable
from workflows.journal.events import Event, Kind

CHANGING = {"command", "upload", "rename", "remove"}
_ONCE_MORE = " restart"  # a restart whose effect cannot be read back may be sent twice


@dataclass(slots=True)
class Findings:
    """What was found; every list is empty after a good round."""

    changes: int = 0
    uploads_again: int = 0
    restarts_again: int = 0
    never_came: int = 0
    duplicates: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Everything that should not be."""
        return [*self.duplicates, *self.order, *self.stuck, *self.secrets, *self.other]


def check(engine: ChaosEngine, runs: Sequence[str], *, command_lines: Iterable[bytes] = ()) -> Findings:
    """Check a round whose runs have ended; *command_lines* are those of all processes seen meanwhile."""
    found = Findings()
    events = [event for run in runs for event in engine.journal.events(run)]
    changes = changing(engine.log())
    found.changes = len([one for one in changes if one["phase"] == "begin"])
    _ended(engine, runs, found)
    _intents(changes, events, found)
    _one_driver(changes, found)
    _plan_order(engine, runs, changes, events, found)
    _one_server_at_a_time(engine, runs, events, found)
    _databases(engine, runs, found)
    _chains(engine, runs, found)
    _gates(events, found)
    if not found.stuck:
        _served(engine, found)
        _nothing_left(engine, found)
    found.secrets = secrets_found(engine, engine.canaries, command_lines, runs)
    return found


def changing(log: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the records of what changes a server, in the order of time."""
    return [
        record
        for record in log
        if record["kind"] in CHANGING and not (record["kind"] == "command" and _READING.fullmatch(record["text"]))
    ]


# ── I9: no run is stuck ──────────────────────────────────────────────────────────────────────────────────────────────
def _ended(engine: ChaosEngine, runs: Sequence[str], found: Findings) -> None:
    for run in runs:
        state = engine.journal.state(run)
        if state.outcome != "done":
            lanes = {lane.name: f"{lane.status} {lane.reason}".strip() for lane in state.lanes.values()}
            found.stuck.append(f"run {run} ({state.kind}) has not ended: {lanes}")


# ── I5: each line has its intent before it, and nothing is done twice ────────────────────────────────────────────────
_Line = tuple[str, str, str, int]  # node, run, step, number of the line


def _intents(changes: Sequence[Mapping[str, Any]], events: Sequence[Event], found: Findings) -> None:
    """Lay the journal over the log: each change belongs to the last intent of its line before it, and to one only."""
    ends = {one["number"]: one.get("outcome", "") for one in changes if one["phase"] == "end"}
    timeline: list[tuple[datetime, int, Any]] = [(event.at, 0, event) for event in events]
    timeline += [(datetime.fromisoformat(one["utc"]), 1, one) for one in changes if one["phase"] == "begin"]
    timeline.sort(key=lambda entry: (entry[0], entry[1]))
    ledger = _Ledger(found)
    for _, _, one in timeline:
        if isinstance(one, Event):
            ledger.meant(one)
        else:
            ledger.done(one, ends.get(one["number"], ""))
    found.other += [
        f"{node}: {event.data['text']} of {event.step} has no outcome" for (node, *_), event in ledger.open.items()
    ]


class _Ledger:
    """What was meant and what was done so far; `open` are the intents whose outcome has not come yet."""

    def __init__(self, found: Findings) -> None:
        self.open: dict[_Line, Event] = {}
        self._found = found
        self._meant: dict[tuple[str, str], list[_Line]] = defaultdict(list)  # (node, what the log will say)
        self._done: Counter[_Line] = Counter()
        self._uploaded: set[tuple[str, str]] = set()

    def meant(self, event: Event) -> None:
        """Take an event of the journal into account."""
        if event.kind in {Kind.PUT_BACK, Kind.ROLLBACK_FAILED}:
            # Lines of the steps that were taken back are to be sent again, and those of no other step of the node.
            back = taken_back(event)
            self._forget(lambda line: line[:2] == (event.node, event.run) and line[2] in back)
        elif event.kind is Kind.STEPS_REOPENED:
            self._forget(lambda line: line[1] == event.run and line[2] in event.data.get("steps", ()))
        elif event.kind is Kind.INTENT:
            line = (event.node, event.run, event.step, int(event.data["line"]))
            self._meant[event.node, _said(event.data["text"])].append(line)
            self._found.never_came += line in self.open
            self.open[line] = event
        elif event.kind is Kind.OUTCOME:
            self.open.pop((event.node, event.run, event.step, int(event.data["line"])), None)

    def done(self, one: Mapping[str, Any], end: str) -> None:
        """Take a change that a server saw into account; *end* is how it ended there."""
        lines = self._meant[one["node"], f"{one['kind']} {one['text']}"]
        if not lines and one["kind"] == "upload" and (one["node"], one["text"]) in self._uploaded:
            # One upload writes up to four times: after a cut, and when what is read back differs (`session.upload`).
            self._found.uploads_again += 1
            return
        if not lines:
            self._found.other.append(f"{one['node']}: {one['text']} was sent at {one['utc']} without an intent")
            return
        if one["kind"] == "upload":
            self._uploaded.add((one["node"], one["text"]))
        line = lines.pop()
        if end in {"cut-before", "failure"}:
            return  # the server did nothing
        self._done[line] += 1
        times = self._done[line]
        if times == 1:
            return
        if one["kind"] == "upload":
            self._found.uploads_again += 1  # a piece of a file is overwritten
        elif one["text"].endswith(_ONCE_MORE) and times == 2:
            self._found.restarts_again += 1
        else:
            self._found.duplicates.append(
                f"{one['node']}: {one['text']} was sent {times} times ({line[2]}, {one['utc']})"
            )

    def _forget(self, doomed: Callable[[_Line], bool]) -> None:
        for line in [line for line in self._done if doomed(line)]:
            del self._done[line]


def taken_back(event: Event) -> frozenset[str]:
    """Return the steps whose lines a rollback took back, and the one under whose name the lines back were sent."""
    return frozenset({event.step, *event.data.get("steps", ())})


def _said(text: str) -> str:
    """Return the intent's text as the simulator's log says it."""
    if not text.startswith("sftp "):
        return f"command {text.partition('   [')[0]}"
    _, verb, rest = text.split(" ", 2)
    return f"{ {'delete': 'remove'}.get(verb, verb) } {rest.replace(' -> ', ' ')}"


# ── I1: one driver at a time ─────────────────────────────────────────────────────────────────────────────────────────
def _one_driver(changes: Sequence[Mapping[str, Any]], found: Findings) -> None:
    running: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for one in changes:
        here = running[one["node"]]
        if one["phase"] == "end":
            here.pop(one["number"], None)
            continue
        for other in here.values():
            if other["session"] != one["session"]:
                found.order.append(f"{one['node']}: {one['text']} while {other['text']} of another session ran")
        if one["kind"] != "upload":  # the end of an upload that was cut off stands nowhere
            here[one["number"]] = one


# ── the order of the plan ────────────────────────────────────────────────────────────────────────────────────────────
def _plan_order(
    engine: ChaosEngine,
    runs: Sequence[str],
    changes: Sequence[Mapping[str, Any]],
    events: Sequence[Event],
    found: Findings,
) -> None:
    """See that steps of a lane begin in the order of the plan: no line is sent while an earlier part is not done."""
    from workflows.plan import Plan, predecessors

    for run in runs:
        plan = Plan.from_json(engine.journal.plan(run))
        before = {lane.name: {step.id: predecessors(lane, step.id) for step in lane.steps()} for lane in plan.lanes}
        over: dict[str, set[str]] = defaultdict(set)
        for event in (one for one in events if one.run == run):
            if event.kind in {Kind.STEP_DONE, Kind.BARRIER_PASSED, Kind.GATE_PASSED, Kind.STEP_PARKED}:
                over[event.lane].add(event.step)
            elif event.kind in {Kind.PUT_BACK, Kind.STEPS_REOPENED, Kind.LANE_RESUMED}:
                over[event.lane] -= set(event.data.get("steps", ()))
            elif event.kind is Kind.INTENT and event.data["line"] < 1000:
                missing = before[event.lane][event.step] - over[event.lane]
                if missing:
                    found.order.append(f"{event.step}: {event.data['text']} before {', '.join(sorted(missing)[:3])}")


def _one_server_at_a_time(engine: ChaosEngine, runs: Sequence[str], events: Sequence[Event], found: Findings) -> None:
    """See that behind the gate *go* one server of a lane is changed at a time.

    A step that sent a line is under way until it is done, parked or put back. A new claim ends nothing: whoever held
    the step before may have left the server with its service off.
    """
    from workflows.plan import DATABASE, Plan

    for run in runs:
        plan = Plan.from_json(engine.journal.plan(run))
        if plan.kind == DATABASE:
            continue  # its backups are fetched side by side; `database_order` judges the rest
        stages = {step.id: step.stage for lane in plan.lanes for step in lane.steps()}
        under_way: dict[str, dict[str, Event]] = defaultdict(dict)  # lane -> step -> its last line
        for event in (one for one in events if one.run == run and stages.get(one.step, 0) >= 600):
            steps = under_way[event.lane]
            if event.kind is Kind.INTENT:
                found.order += [
                    f"{event.node}: {event.data['text']} while {other.step} was under way, at {other.data['text']}"
                    for other in steps.values()
                    if other.node != event.node
                ]
                steps[event.step] = event
            elif event.kind in {Kind.STEP_DONE, Kind.STEP_PARKED}:
                steps.pop(event.step, None)
            elif event.kind is Kind.PUT_BACK:
                for step in taken_back(event):
                    steps.pop(step, None)


# ── I2: the database ─────────────────────────────────────────────────────────────────────────────────────────────────
def _databases(engine: ChaosEngine, runs: Sequence[str], found: Findings) -> None:
    for run in runs:
        state = engine.journal.state(run)
        if state.kind != "database":
            continue
        clusters = {lane: nodes_of(engine, lane) for lane in state.lanes}
        primary = {cluster: names[0] for cluster, names in clusters.items()}
        complete = state.outcome == "done"
        found.order += database_order(
            engine.log(), clusters=clusters, addresses=engine.addresses, primary=primary, complete=complete
        )
        if complete:
            for nodes in clusters.values():
                databases = {node: engine.state_of(node)["database"] for node in nodes}
                roles = Counter(one["role"] for one in databases.values())
                if roles["primary"] != 1 or roles["none"]:
                    found.other.append(f"the database of {', '.join(nodes)} is not whole: {dict(roles)}")


# ── I6, I7: the journal ──────────────────────────────────────────────────────────────────────────────────────────────
def _chains(engine: ChaosEngine, runs: Sequence[str], found: Findings) -> None:
    for run in (*runs, "fleet"):
        found.other += [f"journal of {run}: {problem}" for problem in engine.journal.verify(run)]


def _gates(events: Sequence[Event], found: Findings) -> None:
    """See that each gate is decided once, and approved by somebody else than who asked for the run."""
    decided: Counter[tuple[str, str]] = Counter()
    asked = {event.run: event.data["requested_by"] for event in events if event.kind is Kind.RUN_CREATED}
    for event in events:
        if event.kind is Kind.GATE_APPROVED and event.actor == asked.get(event.run):
            found.other.append(f"gate {event.step} was approved by {event.actor}, who asked for the run")
        if event.kind is Kind.GATE_OPENED:
            decided[event.run, event.step] = 0
        elif event.kind in {Kind.GATE_APPROVED, Kind.GATE_REJECTED}:
            decided[event.run, event.step] += 1
            if decided[event.run, event.step] > 1:
                found.other.append(f"gate {event.step} was decided twice")


# ── I3, I4, I10: the servers ─────────────────────────────────────────────────────────────────────────────────────────
def _served(engine: ChaosEngine, found: Findings) -> None:
    """See that every port serves a certificate that lives for long, of the key that its service is set to."""
    soon = datetime.now(UTC) + timedelta(days=60)
    inventory = yaml.safe_load((engine.out / "fleet.yaml").read_text())
    wanted = {name for one in inventory["clusters"][0]["certificates"] for name in one["services"]}
    for node, address in engine.addresses.items():
        for service in engine.state_of(node)["services"].values():
            for name, endpoint in service["endpoints"].items():
                if name not in wanted or not endpoint["port"] or not endpoint["certificate"]:
                    continue
                probe = "starttls-xmpp" if name == "xmpp" else "tls"
                try:
                    served = asyncio.run(look(address, endpoint["port"], probe=probe))
                except Unreachable as error:
                    found.other.append(f"{node} {name}: {error}")
                    continue
                leaf = x509.load_der_x509_certificate(served.leaf)
                if leaf.not_valid_after_utc < soon:
                    found.other.append(f"{node} {name} serves a certificate until {leaf.not_valid_after_utc}")
                key = load_pem_private_key(
                    read_file(engine, node, endpoint["key"]), None, unsafe_skip_rsa_key_validation=True
                )
                if _spki(key.public_key()) != _spki(leaf.public_key()):
                    found.other.append(f"{node} {name} serves a certificate of another key than {endpoint['key']}")


def _nothing_left(engine: ChaosEngine, found: Findings) -> None:
    """See that the same runs again would have nothing to do."""
    must(engine, "survey")
    for words in (("plan",), ("plan", "--database", "renew")):
        said = say(engine, *words, "-o", "json")
        try:
            lanes = json.loads(said.out).get("lanes", []) if said.out.strip() else []
        except ValueError:
            lanes = [{"name": said.out}]
        left = [str(lane.get("name")) for lane in lanes]
        if left:
            found.other.append(f"certbridge {' '.join(words)} still plans something for {', '.join(left)}")


def _spki(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


# ── I8: no secret anywhere ───────────────────────────────────────────────────────────────────────────────────────────
def command_lines() -> set[bytes]:
    """Return the command lines of all processes that run now."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes())
    return found


def secrets_found(
    engine: ChaosEngine, canaries: Mapping[str, bytes], lines: Iterable[bytes], runs: Sequence[str]
) -> list[str]:
    """Return where each of *canaries* was found: state, broker, database, reports, command lines."""
    places: list[tuple[str, bytes]] = [("the process list", b"\n".join(lines)), ("the database", engine.dump())]
    for run in runs:
        report = engine.root / f"{run}.html"  # a place of its own: without it the page comes where one stands
        for words in (("runs", "report", run, "--out", str(report)), ("runs", "show", run, "-o", "json")):
            said = say(engine, *words)
            places.append((f"certbridge {words[1]}", (said.out + said.err).encode()))
        if report.exists():
            places.append((report.name, report.read_bytes()))
    for folder in engine.folders():
        places += [(str(path.relative_to(folder.parent)), data) for path, data in _files(engine, folder)]
    forms = [(name, form) for name, value in canaries.items() for form in forms_of(value)]
    return [f"{name} stands in {place}" for place, data in places for name, form in forms if form in data]


def forms_of(value: bytes) -> tuple[bytes, ...]:
    """Return *value* as it may stand somewhere: plain, in hex, and in base64 at any of three places."""
    encoded = [base64.b64encode(b"\0" * shift + value) for shift in range(3)]
    cores = [text[(4 if shift else 0) : len(text) // 4 * 4 - 4] for shift, text in enumerate(encoded)]
    return (value, value.hex().encode(), *(core for core in cores if len(core) >= 12))


def _files(engine: ChaosEngine, folder: Path) -> Iterable[tuple[Path, bytes]]:
    if folder == engine.state:
        for path in sorted(folder.rglob("*")):
            # The credentials are here on purpose, closed to all others; the vault is encrypted, so it is searched.
            if path.is_file() and path.name != "credentials.yaml":
                yield path, path.read_bytes()
        return
    done = subprocess.run(["find", str(folder), "-type", "f", "-print0"], capture_output=True, check=True)
    for name in done.stdout.split(b"\0"):
        with contextlib.suppress(OSError):
            if name:
                yield Path(name.decode()), Path(name.decode()).read_bytes()
