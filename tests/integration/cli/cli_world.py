"""A small world around the command line: an inventory, a journal on SQLite, and a worker that the test plays itself.

Commands run in this process through Typer's runner; `by` says who asks. `advance` does what workers and the control
worker would do up to the next gate, by the journal's own functions, so no server, broker or engine is needed.
"""

from __future__ import annotations

import json
import pwd
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from api.cli import app
from tests import empty_journal
from tests.ca import CA, make_ca, make_csr
from workflows import papers
from workflows.facts import CertificateFact, DatabaseState, FileFact, NodeFacts, PortFact, PortState, ServiceFact
from workflows.inventory import approval_of
from workflows.journal import Journal, Transaction, claims, done_ids, gates, lanes, outbox, runs, stock
from workflows.plan import Barrier, Gate, Lane, Plan, Step, predecessors, walk

FLEET = """\
fleet: test
release: "3.9"
clusters:
  - name: seoul
    nodes:
      - {name: cms1, address: 127.0.0.1, port: 2201}
      - {name: cms2, address: 127.0.0.1, port: 2202}
    certificates:
      - name: callbridge
        subject: {CN: "{node}.example.com"}
        subject_alt_names: {dns: ["{node}.example.com", join.example.com]}
        services: [callbridge, webadmin]
"""
HOST_KEYS = {
    "cms1": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEoYYEuY1CZ1BA7gkR4dwjpGYL/vVe3eP4QSV6BrRcdL",
    "cms2": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKmWzZzT6bDUHyvC1AbLhZqk3mJMpnLZ0GPDQnIjyA0q",
}


class Dropped(AssertionError):
    """A step may not begin. The played engine takes it that people ended the lane, and leaves it as a real one does."""


class World:
    """One state directory, one inventory, one journal (on SQLite without a *url*); `say` runs a command in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, url: str = "") -> None:
        self.root = root
        self.ca: CA = make_ca(now=datetime.now(UTC))
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("CERTBRIDGE_STATE", str(root / "state"))
        for name in ("CERTBRIDGE_FLEET", "CERTBRIDGE_DATABASE_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(root)
        (root / "state").mkdir(mode=0o700)
        self.fleet = root / "fleet.yaml"
        self.fleet.write_text(FLEET)
        if url:
            monkeypatch.setenv("CERTBRIDGE_DATABASE_URL", url)
        url = url or f"sqlite:///{root / 'state' / 'journal.db'}"
        empty_journal.put(url)
        self.journal = Journal.open(url)

    # ── what a person does ───────────────────────────────────────────────────────────────────────────────────────────
    def say(self, *words: str | Path, by: str = "ann", answer: str = "") -> Any:
        """Run `certbridge words…` as the account *by* and return what came of it."""
        with self._monkeypatch.context() as patched:
            patched.setattr(pwd, "getpwuid", lambda _uid: SimpleNamespace(pw_name=by))
            return CliRunner().invoke(app, [str(word) for word in words], input=answer)

    def ok(self, *words: str | Path, by: str = "ann", code: int = 0) -> str:
        """Return the standard output of a command, which must end with *code*."""
        result = self.say(*words, by=by)
        assert result.exit_code == code, (words, result.exit_code, result.stdout, result.stderr)
        return result.stdout

    def json(self, *words: str | Path) -> Any:
        """Return what `certbridge words… -o json` says."""
        return json.loads(self.ok(*words, "-o", "json"))

    def started(self, by: str = "ann") -> str:
        """Survey, plan and start a run as *by*; return its id. Nobody has worked on it yet."""
        self.survey()
        self.beat()
        return self.ok("run", "--yes", by=by).strip()

    def at_gate(self, by: str = "ann") -> str:
        """Return the id of a run that waits at its sign gate."""
        run = self.started(by)
        self.advance(run)
        return run

    # ── what workers do ──────────────────────────────────────────────────────────────────────────────────────────────
    def beat(self) -> None:
        """Say that a worker is alive."""
        self.journal.write(lambda tx: stock.beat(tx, "test@here", ["fleet"], {}))

    def survey(self, days: int = 10, *nodes: str) -> None:
        """Keep facts of the nodes, whose certificates end in *days* days."""
        for node in nodes or ("cms1", "cms2"):
            facts = facts_of(node, datetime.now(UTC) + timedelta(days=days))
            self.journal.write(partial(stock.put_facts, node=node, facts=facts.to_json()))

    def advance(self, run: str, *, fail: Mapping[str, str] | None = None) -> None:
        """Do all that can be done of *run* up to its next gates; steps in *fail* (id → why) fail."""
        plan = Plan.from_json(self.journal.plan(run))
        for lane in plan.lanes:
            self._advance_lane(plan, run, lane, fail or {})
        flags = {row.flag for row in self.journal.read(partial(lanes.lane_rows, run=run))}
        if flags == {"done"}:
            self.journal.write(lambda tx: runs.close_run(tx, run, "done"))

    def _advance_lane(self, plan: Plan, run: str, lane: Lane, fail: Mapping[str, str]) -> None:
        write = self.journal.write
        for gate in self.journal.state(run).lanes[lane.name].gates.values():
            complete = set(papers.wishes_of(plan, lane.name, self.journal.state(run).lanes[lane.name])) <= set(
                self.journal.state(run).lanes[lane.name].certificates
            )
            if gate.name != "sign" or complete:
                write(partial(gates.pass_gate, run=run, lane=lane.name, gate=gate.id))
        generation = write(lambda tx: lanes.raise_generation(tx, run, lane.name, "test"))
        if generation is None:
            return
        for leaf in walk(lane.tree):
            state = self.journal.state(run).lanes[lane.name]
            if leaf.id in done_ids(state):
                continue
            if isinstance(leaf, Step):
                write(partial(self._do, plan=plan, run=run, lane=lane, step=leaf, generation=generation, fail=fail))
            elif isinstance(leaf, Barrier):
                before = [step for step in lane.steps() if step.id in predecessors(lane, leaf.id)]
                passed = write(
                    partial(
                        claims.pass_barrier,
                        run=run,
                        lane=lane.name,
                        barrier=leaf.id,
                        generation=generation,
                        before={step.id: step.node for step in before},
                        fail_limit=lane.fail_limit,
                    )
                )
                if passed != "passed":
                    return
            else:
                self._open(plan, run, lane, leaf, generation)
                return
        write(lambda tx: lanes.finish_lane(tx, run, lane.name))

    def _do(
        self, tx: Transaction, plan: Plan, run: str, lane: Lane, step: Step, generation: int, fail: Mapping[str, str]
    ) -> None:
        taken = claims.claim(
            tx,
            run=run,
            lane=lane.name,
            step=step.id,
            node=step.node,
            generation=generation,
            holder="test",
            predecessors=frozenset(),
            resources=(),
        )
        if not isinstance(taken, claims.Claim):
            raise Dropped(taken)
        if step.id in fail:
            error = {"code": "Unreachable", "text": fail[step.id], "remedy": "Check the network."}
            claims.finish(tx, taken, status="failed", error=error)
        else:
            claims.finish(tx, taken, status="done", data=self._data(tx, plan, step))

    def _data(self, tx: Transaction, plan: Plan, step: Step) -> dict[str, Any]:
        if step.action == "request":
            return {"csr": stock.put_blob(tx, "csr", csr_of(plan.wishes[step.params["wish"]]))}
        if step.action == "database_sign":
            wish = step.params["wish"]
            made = pem_of(self.ca.sign(csr_of(plan.wishes[wish])))
            return {"wish": wish, "certificate": stock.put_blob(tx, "certificate", made)}
        if step.action == "database_agree":
            return {"nodes": {one["node"]: "Enabled, in its place" for one in step.params["nodes"]}, "ports": []}
        if step.action == "scan_host_key":
            return {"address": "127.0.0.1", "key": HOST_KEYS[step.node], "fingerprint": f"SHA256:{step.node}"}
        if step.action == "survey":
            facts = facts_of(step.node, datetime.now(UTC) + timedelta(days=10))
            return {"facts": stock.put_facts(tx, step.node, facts.to_json())}
        if step.action == "prove":
            ports = [
                {**port, "seen": True, "fingerprint": "ab" * 32, "not_valid_after": "2030-01-01T00:00:00", "fault": ""}
                for port in step.params["ports"]
            ]
            return {"ports": ports}
        return {}

    def _open(self, plan: Plan, run: str, lane: Lane, gate: Gate, generation: int) -> None:
        state = self.journal.state(run).lanes[lane.name]
        self.journal.write(
            partial(
                gates.open_gate,
                run=run,
                lane=lane.name,
                gate=gate.id,
                name=gate.name,
                generation=generation,
                digest=papers.digest_of_gate(plan, plan.digest(), lane.name, gate.name, state),
                summary={"papers": papers.papers_of(plan, lane.name, gate.name, state)},
                terms=approval_of(plan.fleet, gate.name),
            )
        )

    @contextmanager
    def worker(self, *, fail: Mapping[str, str] | None = None) -> Iterator[None]:
        """Play the engine in a thread: whatever is started meanwhile is carried out at once."""
        self.beat()
        stopping = threading.Event()

        def work() -> None:
            while not stopping.wait(0.02):
                for row in self.journal.read(outbox.pending):
                    self.journal.write(partial(outbox.sent, outgoing_id=row.id))
                    with suppress(Dropped):
                        self.advance(row.run, fail=fail)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    # ── what the CA does ─────────────────────────────────────────────────────────────────────────────────────────────
    def csrs(self, run: str) -> dict[str, bytes]:
        """Return {wish id: CSR} of the run."""
        plan = Plan.from_json(self.journal.plan(run))
        return {
            wish: seen.pem
            for lane in plan.lanes
            for wish, seen in papers.requests_of(self.journal, run, plan, lane.name).items()
        }

    def sign(self, run: str, write: Callable[[Any], bytes]) -> Path:
        """Return a folder with a certificate for each CSR of *run*, each written by *write*, with both issuers."""
        folder = self.root / "signed"
        folder.mkdir(exist_ok=True)
        for number, csr in enumerate(self.csrs(run).values()):
            (folder / f"certificate{number}.pem").write_bytes(write(self.ca.deliver(csr).everything))
        return folder


def csr_of(wish: Mapping[str, Any]) -> bytes:
    """Return a CSR for a wish of the plan."""
    return make_csr(dict(wish["subject"])["CN"], [x509.DNSName(name) for name in wish["dns"]])


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def facts_of(node: str, ends: datetime) -> NodeFacts:
    """Return facts of a server whose callbridge and webadmin share one pair."""
    leaf = CertificateFact(
        fingerprint=f"{node}-leaf",
        spki_sha256=f"{node}-key",
        subject=f"{node}.example.com",
        issuer="CN=Test Issuing CA",
        not_valid_after=ends.isoformat(),
        names=(f"{node}.example.com", "join.example.com"),
    )
    names = ("callbridge", "webadmin")
    return NodeFacts(
        node=node,
        at=datetime.now(UTC).isoformat(),
        release="3.9",
        hostname=node,
        clock_skew_s=0,
        database=DatabaseState.DISABLED,
        database_primary="",
        services=tuple(
            ServiceFact(service=name, enabled=True, key="old.key", certificate="old.crt", bundle="ca.crt", port=port)
            for name, port in zip(names, (5061, 8443), strict=True)
        ),
        trust=(),
        files=(FileFact(name="old.crt", size=1000, certificates=(leaf,)), FileFact(name="old.key", size=1700)),
        ports=tuple(
            PortFact(service=name, address="127.0.0.1", port=port, state=PortState.SERVED, chain=(leaf,))
            for name, port in zip(names, (5061, 8443), strict=True)
        ),
    )
