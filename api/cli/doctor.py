"""`certbridge doctor`: what could keep a renewal from working, each finding with its remedy; exit 1 when one fails.

A check is a function that gives findings; a failed check never keeps the next from being made. Nothing is changed, but
for `--credential NAME`, which wakes a credential that rests. Servers are not contacted: what is known of them comes
from the last survey.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.cli.output import Span, note, say
from api.cli.surroundings import account, open_journal, read_fleet
from workflows.errors import CertbridgeError, EngineError, Finding, words_of
from workflows.settings import Settings, prepare_state

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.inventory import ResolvedFleet
    from workflows.journal import Journal

QUEUES = ("fleet", "cluster", "control")
# TLS and the dates of certificates bear minutes, not hours; beyond this a fresh certificate may not be valid yet.
SKEW_S = 60.0
_FEW = 5
"""So many names are listed whole."""
FAILPOINTS = "CERTBRIDGE_FAILPOINTS"


class Verdict(Enum):
    """What came of a check. Only FAILED makes the exit code 1; a NOTE is something to know."""

    WELL = "ok"
    NOTE = "note"
    FAILED = "FAILED"


_STYLES = {Verdict.WELL: "green", Verdict.NOTE: "yellow", Verdict.FAILED: "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding: what was looked at, what came of it, in words, and what to do."""

    what: str
    verdict: Verdict
    text: str
    remedy: str = ""


def well(what: str, text: str) -> Check:
    """Return that *what* is in order."""
    return Check(what=what, verdict=Verdict.WELL, text=text)


def noted(what: str, text: str, remedy: str = "") -> Check:
    """Return something worth knowing that keeps nothing from working."""
    return Check(what=what, verdict=Verdict.NOTE, text=text, remedy=remedy)


def failed(what: str, text: str, remedy: str) -> Check:
    """Return that *what* is wrong, and what to do."""
    return Check(what=what, verdict=Verdict.FAILED, text=text, remedy=remedy)


def examine(fleet_file: Path | None, *, wake: str = "") -> int:
    """Make all checks, print them as they come, and return the exit code. Raises: SettingsError."""
    settings = Settings.load()
    failures = 0
    for check in all_checks(settings, fleet_file, wake=wake):
        spans: list[Span] = [(f"{check.verdict.value:6}", _STYLES[check.verdict]), f"  {check.what}: {check.text}"]
        say(*spans)
        for line in check.remedy.splitlines():
            say(f"        → {line}")
        failures += check.verdict is Verdict.FAILED
    note(f"{failures} of the checks failed." if failures else "Everything is in order.")
    return 1 if failures else 0


def all_checks(settings: Settings, fleet_file: Path | None, *, wake: str) -> Iterator[Check]:
    """Give the findings of all checks in order."""
    yield check_state(settings)
    yield from check_failpoints(os.environ)
    prepare_state(settings)
    fleet: ResolvedFleet | CertbridgeError
    try:
        _, fleet = read_fleet(fleet_file)
        users = credential_users(fleet)
    except CertbridgeError as error:
        fleet, users = error, {}
    answer = _ask(settings, users)
    yield from check_strays(answer["strays"])
    yield check_broker(answer["broker"])
    try:
        with open_journal(settings) as journal:
            yield well("database", _database(settings))
            yield from check_workers(journal)
            yield from check_resting(journal, wake)
            yield from check_outage(journal, settings)
            if isinstance(fleet, CertbridgeError):
                yield from _faults("inventory", fleet)
            else:
                yield from _check_fleet(journal, fleet, users, answer["credentials"])
    except EngineError as error:
        yield failed(
            "database", words_of(error), error.remedy() or "Start the database, or correct CERTBRIDGE_DATABASE_URL."
        )


def _database(settings: Settings) -> str:
    return f"{settings.journal_path if settings.is_sqlite else 'PostgreSQL'} is reachable, its schema is current"


def check_state(settings: Settings) -> Check:
    """Return whether the state directory belongs to this account and to nobody else."""
    try:
        status = settings.state.stat()
    except FileNotFoundError:
        return noted("state", f"{settings.state} is not there yet; it is made now")
    if status.st_uid != os.geteuid():
        return failed("state", f"{settings.state} belongs to another account", "Set CERTBRIDGE_STATE to one of yours.")
    if status.st_mode & 0o077:
        return failed(
            "state",
            f"others may look into {settings.state} (mode {status.st_mode & 0o777:04o})",
            f"chmod 0700 {settings.state}",
        )
    return well("state", f"{settings.state}, mode 0700")


def check_failpoints(environ: Mapping[str, str]) -> Iterator[Check]:
    """Give a failure when workers started from here would die or fail on purpose; nothing when all is as usual."""
    rules = environ.get(FAILPOINTS, "")
    if rules:
        yield failed(
            "failpoints",
            f"{FAILPOINTS} is set ({rules}): workers that are started with it die, fail or stall on purpose",
            f"It is a tool for tests. Unset {FAILPOINTS}, and restart the workers.",
        )


def check_strays(told: str) -> Iterator[Check]:
    """Give a failure when an engine goes on though its supervisor is gone; *told* is that of `workers.checks`."""
    if told:
        yield failed(
            "engine", f"{told}; nobody restarts what ends", "Stop them with `certbridge down`, then `certbridge up`."
        )


def check_broker(answer: Mapping[str, str]) -> Check:
    """Return which broker answers; *answer* is that of `workers.checks`."""
    if answer["broker"]:
        return well("broker", f"{answer['broker']} answers")
    return failed("broker", answer["problem"], answer["remedy"])


def check_workers(journal: Journal) -> Iterator[Check]:
    """Give which workers were heard of lately; each queue needs one, `control` exactly one."""
    from workflows.journal import stock

    rows = journal.read(lambda connection: stock.workers(connection, within_s=15))
    for row in rows:
        if rules := row.info.get("failpoints", ""):
            yield failed(
                "failpoints",
                f"{row.worker} was started with {FAILPOINTS} ({rules}): it dies, fails or stalls on purpose",
                f"It is a tool for tests. Restart that worker without {FAILPOINTS}.",
            )
    for queue in QUEUES:
        names = [row.worker for row in rows if queue in row.queues]
        if not names:
            yield failed("workers", f"nobody serves the queue {queue}", "Start `certbridge up`.")
        elif queue == "control" and len(names) > 1:
            yield noted(
                "workers", f"queue control is served by {len(names)} workers; one is enough: {', '.join(names)}"
            )
        else:
            yield well("workers", f"queue {queue}: {', '.join(names)}")


def check_resting(journal: Journal, wake: str) -> Iterator[Check]:
    """Give which credentials rest after a refused login, once *wake* was woken."""
    from workflows.journal import stock

    if wake:
        woken = journal.write(lambda tx: stock.wake_credential(tx, wake, by=account()))
        text = "is awake again and will be tried" if woken else "did not rest"
        yield noted("credentials", f"{wake} {text}")
    for name, why in journal.read(stock.resting).items():
        yield failed(
            "credentials",
            f"{name} rests, because a server refused it: {why}",
            f"Correct it, then `certbridge doctor --credential {name}`.",
        )


def check_outage(journal: Journal, settings: Settings) -> Iterator[Check]:
    """Give whether so many servers are silent that no change begins, and which lanes an outage has stopped."""
    from workflows.journal import silence

    silent = journal.write(lambda tx: silence.silent_nodes(tx, within_s=settings.outage_s, run="", lane=""))
    if len(silent) > settings.outage_nodes:
        yield failed(
            "outage",
            f"{len(silent)} servers fell silent within the last {settings.outage_s:g} s ({_some(silent)}): "
            "no change begins anywhere",
            "Mend the network; then resume the runs that stopped.",
        )
    for run, lanes in journal.read(silence.stopped_by_outage).items():
        yield failed(
            "outage",
            f"run {run} stopped before a change, because many servers were silent (lane {_some(lanes)})",
            f"When the network is back: `certbridge runs resume {run}`.",
        )


def _check_fleet(
    journal: Journal, fleet: ResolvedFleet, users: Mapping[str, Sequence[str]], problems: Mapping[str, str]
) -> Iterator[Check]:
    from workflows.facts import NodeFacts
    from workflows.journal import stock

    yield well("inventory", f"nodes: {len(fleet.nodes)}, clusters: {len(fleet.clusters)}")
    yield from check_credentials(users, problems)
    yield from check_pins(journal, fleet)
    latest = journal.read(lambda connection: stock.latest_facts(connection, [node.name for node in fleet.nodes]))
    facts = {name: NodeFacts.from_json(data) for name, (_, _, data) in latest.items()}
    yield from check_clocks(fleet, facts)
    yield from check_guessed(fleet, facts)


def credential_users(fleet: ResolvedFleet) -> dict[str, list[str]]:
    """Return which nodes and issuers use each credential that the inventory names."""
    users: dict[str, list[str]] = {}
    for node in fleet.nodes:
        users.setdefault(node.credential, []).append(node.name)
    for issuer in fleet.issuers:
        if issuer.passphrase_credential:
            users.setdefault(issuer.passphrase_credential, []).append(f"issuer {issuer.name}")
    return users


def check_credentials(users: Mapping[str, Sequence[str]], problems: Mapping[str, str]) -> Iterator[Check]:
    """Give whether each credential can be found here, where workers would look; *problems* are of `workers.checks`."""
    for name, problem in problems.items():
        text, _, remedy = problem.partition("\n")
        if problem:
            yield failed("credentials", f"{text} (used by {_some(users[name])})", remedy)
        else:
            yield well("credentials", f"{name} is known (used by {_some(users[name])})")


def check_pins(journal: Journal, fleet: ResolvedFleet) -> Iterator[Check]:
    """Give whether the host key of every node is pinned."""
    from workflows.journal import stock

    pins = journal.read(stock.pins)
    unknown = [node.name for node in fleet.nodes if (node.address, node.port) not in pins]
    few = len(unknown) <= _FEW
    if unknown:
        yield failed(
            "host keys",
            f"no key is pinned for {_some(unknown)}",
            f"Compare and store the fingerprints with `certbridge trust {' '.join(unknown) if few else '--all'}`.",
        )
    else:
        yield well("host keys", f"all {len(fleet.nodes)} nodes are pinned")


def check_clocks(fleet: ResolvedFleet, facts: dict[str, NodeFacts]) -> Iterator[Check]:
    """Give whose clock was off at the last survey; a certificate may not be valid yet there."""
    unseen = [node.name for node in fleet.nodes if node.name not in facts]
    if unseen:
        yield noted("clocks", f"never surveyed: {_some(unseen)}", "Make a survey with `certbridge survey`.")
    known = {name: one.clock_skew_s for name, one in facts.items() if one.clock_skew_s is not None}
    off = {name: skew for name, skew in known.items() if abs(skew) > SKEW_S}
    for name, skew in off.items():
        way = "ahead of" if skew > 0 else "behind"
        yield failed("clocks", f"{name} is {abs(skew):.0f} s {way} this machine", "Set NTP on both (`ntp server add`).")
    if known and not off:
        yield well("clocks", f"{len(known)} nodes agree within {SKEW_S:.0f} s with this machine")


def check_guessed(fleet: ResolvedFleet, facts: dict[str, NodeFacts]) -> Iterator[Check]:
    """Give the forms of commands that a renewal of everything would send and whose replies nobody has seen yet."""
    from workflows.mmp.commands import command_of
    from workflows.mmp.replies import Standing
    from workflows.plan import LineKind
    from workflows.procedures.renewal import plan_renewal

    if any(node.name not in facts for node in fleet.nodes):
        return
    try:
        plan = plan_renewal(fleet, facts, now=datetime.now(UTC), within=timedelta(days=36_500))
    except CertbridgeError as error:
        yield from _faults("plan", error)
        return
    lines = [line for lane in plan.lanes for step in lane.steps() for line in step.lines]
    commands = [command_of(line.text) for line in lines if line.kind is LineKind.COMMAND]
    guessed = sorted({command.form for command in commands if command.own_standing is Standing.GUESSED})
    if guessed:
        yield noted(
            "commands",
            f"replies that no real server has confirmed: {'; '.join(guessed)}",
            "They never count as success; the state is read instead. `certbridge survey --record` keeps real replies.",
        )
    else:
        yield well("commands", "every reply that a renewal needs has been seen")


def _faults(what: str, error: CertbridgeError) -> Iterator[Check]:
    """Give each finding of *error* for itself, or the error when it has none."""
    findings: tuple[Finding, ...] = getattr(error, "findings", ())
    for finding in findings:
        yield failed(what, f"{finding.where}: {finding.what}", finding.remedy)
    if not findings:
        yield failed(what, str(error), error.remedy())


def _ask(settings: Settings, credentials: Iterable[str]) -> dict[str, Any]:
    """Return the answers of `workers.checks`, which the command line may not import."""
    done = subprocess.run(
        [sys.executable, "-m", "workers.checks", *credentials],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **settings.environment()},
    )
    if done.returncode:
        raise EngineError(f"workers.checks ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _FEW else f"{', '.join(names[:_FEW])} and {len(names) - _FEW} more"
