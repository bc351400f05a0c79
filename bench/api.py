"""How long routes and pages take with 2,000 servers and 100,000 journal events, over a real server on loopback.

    python bench/api.py [--nodes 2000] [--events 100000] [--times 40] [--keep DIR]

A state is made (inventory, facts, 40 runs of one cluster each that wait for approval, one run of the whole fleet
half-way through), then a server is started in a process
of its own and asked by one client, one request after the other. Printed are median, 95th percentile and spread of each,
and how long the first time took, which fills what is kept in memory. It ends with 1 when a median of the fleet, of
the run or of the inbox is 300 ms or more. A state in DIR that is there already is used again.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import uvicorn

from api.app import create_app
from bench.inventory import fleet_text
from workflows import actions
from workflows.facts import CertificateFact, DatabaseState, FileFact, NodeFacts, PortFact, PortState, ServiceFact
from workflows.inventory import Fleet, select
from workflows.journal import Journal, Kind, NewEvent, Transaction, accounts, entries, gates, lanes, runs, stock
from workflows.people import Grant, Permission, Role
from workflows.plan import Plan
from workflows.procedures.renewal import plan_renewal
from workflows.settings import Settings, prepare_state

LIMIT_S = 0.3
SERVICES = ("callbridge", "webadmin", "webbridge3.https", "turn")
AT_ONCE = 2000
WAITING = 40
"""So many runs of one cluster each wait in the inbox; every plan carries the inventory of the whole fleet."""


def facts_of(node: str, ends: datetime) -> NodeFacts:
    """Return facts of a server with four services, each with a pair and a chain of its own."""
    files, services, ports = [], [], []
    for place, service in enumerate(SERVICES):
        stem = service.partition(".")[0]
        digest = hashlib.sha256(f"{node}{service}".encode()).hexdigest()
        leaf = CertificateFact(
            fingerprint=digest,
            spki_sha256=digest,
            subject=f"{node}.example.com",
            issuer="CN=Issuing CA",
            not_valid_after=(ends + timedelta(days=place)).isoformat(),
            names=(f"{node}.example.com", "join.example.com"),
        )
        files += [FileFact(name=f"{stem}.crt", size=1800, sha256=digest, certificates=(leaf,))]
        files += [FileFact(name=f"{stem}.key", size=1700)]
        services.append(
            ServiceFact(service=service, enabled=True, key=f"{stem}.key", certificate=f"{stem}.crt", bundle="ca.crt")
        )
        ports.append(
            PortFact(service=service, address="10.0.0.1", port=443 + place, state=PortState.SERVED, chain=(leaf,) * 3)
        )
    return NodeFacts(
        node=node,
        at=datetime.now(UTC).isoformat(),
        release="3.9",
        hostname=node,
        clock_skew_s=0.0,
        database=DatabaseState.DISABLED,
        database_primary="",
        services=tuple(services),
        trust=(),
        files=tuple(files),
        ports=tuple(ports),
    )


def events_of(plan: Plan, run: str, count: int) -> Iterator[NewEvent]:
    """Yield *count* events of a run that goes on: every step claimed, its lines sent, and done."""
    steps = [(lane.name, step) for lane in plan.lanes for step in lane.steps()]
    told = 0
    for lane, step in steps:
        at = {"run": run, "lane": lane, "step": step.id, "node": step.node}
        said = [NewEvent(kind=Kind.STEP_CLAIMED, data={"generation": 1, "attempt": 1, "holder": "w"}, **at)]
        for line, _ in enumerate(step.lines):
            said += [
                NewEvent(kind=Kind.INTENT, data={"line": line}, **at),
                NewEvent(kind=Kind.OUTCOME, data={"line": line, "state": "ok"}, **at),
            ]
        said.append(NewEvent(kind=Kind.STEP_DONE, data={"data": {"took": "0.4"}}, **at))
        yield from said
        told += len(said)
        if told >= count:
            return
    while told < count:  # steps that are followed for long say again and again that they wait
        lane, step = steps[told % len(steps)]
        yield NewEvent(run=run, lane=lane, step=step.id, node=step.node, kind=Kind.NOTE, data={"text": "waiting"})
        told += 1


def wait(tx: Transaction, plan: Plan, run: str) -> None:
    """Write *run*, which waits at the first gate of each lane; it reserves nothing, as the big run wants all."""
    said = {"plan": plan.to_json(), "digest": plan.digest(), "fleet": "bench", "requested_by": "olga"}
    runs.create_run(tx, run=run, kind=plan.kind, lanes=[one.name for one in plan.lanes], resources=(), **said)
    for lane in plan.lanes:
        lanes.raise_generation(tx, run, lane.name, "bench")
        gate = lane.gates()[0]
        asked = {"lane": lane.name, "gate": gate.id, "name": gate.name, "digest": plan.digest()}
        gates.open_gate(tx, run=run, generation=1, summary={}, **asked)


def fill(root: Path, nodes: int, events: int) -> None:
    """Make the state with its one big run."""
    (root / "fleet.yaml").write_text(fleet_text(nodes))
    settings = Settings.load({}, state=root / "state", fleet=root / "fleet.yaml")
    prepare_state(settings)
    fleet = Fleet.from_yaml(settings.fleet.read_text()).resolved(str(root))
    soon = datetime.now(UTC) + timedelta(days=12)
    ends = [soon + timedelta(days=place % 20) for place in range(nodes)]
    facts = {node.name: facts_of(node.name, end) for node, end in zip(fleet.nodes, ends, strict=True)}
    plan = plan_renewal(fleet, facts, now=datetime.now(UTC), within=timedelta(days=60))
    run = actions.new_run_id(datetime.now(UTC))
    with Journal.open(settings.database_url) as journal:
        waiting = [
            journal.submit(partial(stock.put_facts, node=name, facts=one.to_json())) for name, one in facts.items()
        ]
        for one in waiting:
            one.result()
        grants = [Grant(Role.VIEWER), Grant(Role.APPROVER)]
        journal.write(lambda tx: accounts.add(tx, name="ann", by="bench", grants=grants))
        for place in range(min(WAITING, nodes // 10)):
            part = select(fleet, [f"c{place}"])
            small = plan_renewal(fleet, facts, now=datetime.now(UTC), within=timedelta(days=60), wanted=part)
            journal.write(partial(wait, plan=small, run=actions.new_run_id(datetime.now(UTC))))
        actions.start_run(journal, plan, by="ann", run=run)
        batch: list[NewEvent] = []
        for event in events_of(plan, run, events - nodes):
            batch.append(event)
            if len(batch) == AT_ONCE:
                journal.append(*batch)
                batch.clear()
        journal.append(*batch)
        print(f"{nodes} servers, {len(plan.lanes)} lanes, {journal.state(run).n} events in the run")


@contextmanager
def served(root: Path) -> Iterator[str]:
    """Serve the state in a process of its own and give its address."""
    command = [sys.executable, __file__, "--serve", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            yield address
        finally:
            process.terminate()


def serve(root: Path) -> None:
    """Be that process."""
    settings = Settings.load({}, state=root / "state", fleet=root / "fleet.yaml")
    with Journal.open(settings.database_url) as journal:
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings, journal), host="127.0.0.1", port=0, log_level="error")
        )
        config = server.config
        socket = config.bind_socket()
        print(f"http://127.0.0.1:{socket.getsockname()[1]}", flush=True)
        server.run(sockets=[socket])


def measure(client: httpx.Client, path: str, times: int) -> list[float]:
    """Return how long *path* took each time, in seconds, after a first time that fills what is kept in memory."""
    first = time.perf_counter()
    answer = client.get(path)
    first = time.perf_counter() - first
    if answer.status_code != 200:
        raise SystemExit(f"{path}: {answer.status_code} {answer.text[:300]}")
    found = []
    for _ in range(times):
        began = time.perf_counter()
        client.get(path)
        found.append(time.perf_counter() - began)
    found.sort()
    p95 = found[min(len(found) - 1, int(len(found) * 0.95))]
    print(
        f"{path:<44} median {statistics.median(found) * 1000:7.1f} ms   p95 {p95 * 1000:7.1f} ms   "
        f"from {found[0] * 1000:6.1f} to {found[-1] * 1000:7.1f} ms   first {first * 1000:8.1f} ms   "
        f"{len(answer.content) / 1000:8.1f} kB"
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--keep", default="", help="a folder for the state; else a temporary one")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(Path(asked.serve))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(asked.keep or folder)
        root.mkdir(parents=True, exist_ok=True)
        database = root / "state" / "journal.db"
        if not database.exists():
            fill(root, asked.nodes, asked.events)
        with Journal.open(f"sqlite:///{database}") as journal:
            run = journal.runs()[0].run
            account = journal.read(partial(accounts.by_name, name="ann")).account  # type: ignore[union-attr]
            secret = journal.write(lambda tx: entries.sign_in(tx, account, how="bench"))
            making = partial(entries.make_token, account=account, name="bench", lasts_s=3600, by="ann")
            token = journal.write(partial(making, scopes=[Permission.READ, Permission.DECIDE]))[1]
        with served(root) as address:
            return compare(address, run, token, secret, asked.times)


def compare(address: str, run: str, token: str, secret: str, times: int) -> int:
    """Measure routes with the token and pages with the session; return 1 when one that counts is too slow."""
    counted: list[list[float]] = []
    with httpx.Client(base_url=address, timeout=120, headers={"Authorization": f"Bearer {token}"}) as client:
        counted += [measure(client, path, times) for path in ("/api/fleet", f"/api/runs/{run}", "/api/gates?mine=true")]
        for path in (
            f"/api/runs/{run}?lane=c7",
            f"/api/runs/{run}/steps?limit=50",
            "/api/nodes?limit=50",
            "/api/nodes/c7n3",
            "/api/clusters/c7",
            "/api/certificates?limit=50",
            "/api/gates?limit=50",
            "/api/gates/described?limit=50",
            "/api/runs",
            "/api/journal",
            f"/api/journal?run={run}&node=c7n3",
        ):
            measure(client, path, times)
    with httpx.Client(base_url=address, timeout=120, cookies={"certbridge": secret}) as client:
        counted += [measure(client, path, times) for path in ("/", f"/runs/{run}", "/gates")]
        for path in ("/clusters/c7", "/runs", "/journal"):
            measure(client, path, times)
    slow = sum(statistics.median(one) >= LIMIT_S for one in counted)
    print(f"{len(counted) - slow} of {len(counted)} that count have a median below {LIMIT_S * 1000:.0f} ms")
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
