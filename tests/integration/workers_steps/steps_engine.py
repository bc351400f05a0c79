"""An engine without Celery: the journal, the sessions and the steps are real, a loop here sends what a broker would.

engine = Engine(fleet, tmp_path)         a worker process's worth, on a simulated fleet
engine.start(engine.plan())              a run in the journal
engine.go_on()                           carry it out to the next gate, or to where it stops
engine.approve("sign"); engine.sign()    what people and the issuer do
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from simulator.fleet import USERNAME, FleetHandle
from simulator.server import SSH_PORT
from tests import empty_journal
from workers import control, issuers
from workers.attempt import Attempt, Outcome
from workers.connections import Connections, MemoryCircuit, MemoryPins, Timings
from workers.context import Work
from workers.credentials import Credentials
from workers.loop import LoopThread
from workers.redaction import Redactor
from workers.steps.survey import read_facts
from workers.transcript import Transcripts
from workflows import actions, papers
from workflows.facts import NodeFacts
from workflows.inventory import Fleet, ResolvedFleet
from workflows.journal import Journal, gates, lanes
from workflows.journal.events import Event, Kind
from workflows.journal.fold import LaneState, StepState, done_ids
from workflows.journal.vault import Vault
from workflows.plan import Barrier, Gate, Plan, Step, walk
from workflows.procedures.renewal import plan_renewal
from workflows.settings import Settings, prepare_state

QUICK = Timings(connect_s=5, login_s=10, quiet_s=0.1, interrupt_s=2, transfer_s=10, command_s=10)
RUN = "20261123-1200-test"
# Marks a test that runs on a SQLite file and on PostgreSQL (the fixture `records` of conftest.py).
BOTH = pytest.mark.parametrize("records", ["sqlite", "postgresql"], indirect=True)
Change = Callable[[dict[str, Any]], None]


class Engine:
    """One worker process on a simulated fleet."""

    def __init__(
        self,
        fleet: FleetHandle,
        folder: Path,
        change: Callable[[dict[str, Any]], None] | None = None,
        *,
        database_url: str = "",
    ) -> None:
        self.fleet = fleet
        quick = {"poll_s": 0.05, "longest_poll_s": 2, "settle_s": 1, "idle_s": 60, "silent_s": 3}
        where = {"state": folder / "state", "database_url": database_url}
        self.settings = Settings.load({}, home=folder, **{**quick, **where})
        prepare_state(self.settings)
        empty_journal.put(self.settings.database_url)
        self.inventory = self._inventory(change)
        self._folder = folder
        self.work = self.open_work("worker-1")

    def open_work(self, holder: str) -> Work:
        """Return what one worker process has open."""
        fleet, folder = self.fleet, self._folder
        redactor = Redactor()
        loop = LoopThread()
        loop.start()
        environ = {"CERTBRIDGE_CREDENTIAL_CMS": f"{USERNAME}:{fleet.password}", "CERTBRIDGE_CREDENTIAL_CA": "ca:secret"}
        credentials = Credentials(None, environ=environ, keyring=lambda _: None, learn=redactor.register)
        pins = MemoryPins({(fleet.address(name), SSH_PORT): fleet.host_key(name) for name in fleet.nodes})
        return Work(
            settings=self.settings,
            journal=Journal.open(self.settings.database_url),
            loop=loop,
            connections=Connections(
                credentials, pins, Transcripts(folder / "transcripts", redactor), MemoryCircuit(), QUICK
            ),
            vault=Vault(self.settings.vault_dir),
            credentials=credentials,
            holder=holder,
        )

    def close(self) -> None:
        """Close connections, loop and journal."""
        self.work.loop.call(self.work.connections.close())
        self.work.loop.stop()
        self.work.journal.close()

    def _inventory(self, change: Change | None) -> ResolvedFleet:
        """Return the inventory that the simulator wrote, after *change*."""
        out = self.fleet.fleet.settings.out
        assert out is not None
        document = yaml.safe_load((out / "fleet.yaml").read_text())
        if change:
            change(document)
        return Fleet.from_yaml(yaml.safe_dump(document, sort_keys=False)).resolved(str(out))

    # ── planning ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def survey(self) -> dict[str, NodeFacts]:
        """Read every server."""
        now = datetime.now(UTC)
        found = {}
        for node in self.inventory.nodes:
            with self.work.loop.entered(self.work.connections.session(node, run="survey")) as session:
                found[node.name] = self.work.loop.call(read_facts(session, node, now=now))
        return found

    def plan(self, facts: dict[str, NodeFacts] | None = None) -> Plan:
        """Return the plan that renews what ends within thirty days."""
        now = datetime.now(UTC)
        return plan_renewal(self.inventory, facts or self.survey(), now=now, within=timedelta(days=30))

    def start(self, plan: Plan, *, run: str = RUN, by: str = "ann") -> Plan:
        """Write the run into the journal."""
        actions.start_run(self.work.journal, plan, by=by, run=run)
        return plan

    # ── carrying out ─────────────────────────────────────────────────────────────────────────────────────────────────
    def lane(self, name: str = "seoul") -> LaneState:
        """Return the state of a lane."""
        return self.work.journal.state(RUN).lanes[name]

    def step(self, step_id: str) -> StepState:
        """Return the state of a step."""
        return self.lane(step_id.split("/", maxsplit=1)[0]).steps[step_id]

    def events(self, kind: Kind) -> list[Event]:
        """Return the run's events of one kind."""
        return [event for event in self.work.journal.events(RUN) if event.kind is kind]

    def go_on(self, lane: str = "seoul", *, until: str = "") -> str:
        """Carry out what may be carried out, and return the id of the part where it ended: a gate, or what failed.

        "" means: to the end. *until* stops before that part.
        """
        plan, _ = self.work.plan(RUN)
        generation = self.work.journal.write(lambda tx: lanes.raise_generation(tx, RUN, lane, "test"))
        if generation is None:
            return f"not sent: {self.lane(lane).status}"
        state = self.lane(lane)
        done = control.done_with_excused(plan.lane(lane), state)
        for part in walk(plan.lane(lane).tree):
            if part.id == until:
                return until
            if part.id in done | done_ids(self.lane(lane)):
                continue
            if isinstance(part, Step):
                attempt = Attempt(self.work, run=RUN, lane=lane, step=part.id, generation=generation)
                outcome = attempt.carry_out()
                if outcome is not Outcome.DONE and part.stage in {600, 700, 800, 900}:
                    return part.id
            elif isinstance(part, Barrier):
                passing = partial(
                    control.pass_barrier, plan=plan, run=RUN, lane=lane, barrier=part.id, generation=generation
                )
                if self.work.journal.write(passing) != "passed":
                    return part.id
            else:
                self._open(plan, lane, part, generation)
                return part.id
        return ""

    def _open(self, plan: Plan, lane: str, gate: Gate, generation: int, *, run: str = RUN) -> None:
        state = self.work.journal.state(run).lanes[lane]
        digest = papers.digest_of_gate(plan, plan.digest(), lane, gate.name, state)
        self.work.journal.write(
            lambda tx: gates.open_gate(
                tx,
                run=run,
                lane=lane,
                gate=gate.id,
                name=gate.name,
                generation=generation,
                digest=digest,
                summary={},
            )
        )

    def approve(self, name: str, *, by: str = "bob", lane: str = "", run: str = RUN) -> None:
        """Approve every open gate of that name."""
        for opened in actions.open_gates(self.work.journal, run, lane=lane, name=name):
            actions.decide(self.work.journal, opened, decision="approve", by=by)

    def sign(self, lane: str = "seoul") -> None:
        """Let the issuer sign what is missing, and go through the gate."""
        plan, fleet = self.work.plan(RUN)
        now = datetime.now(UTC)
        files = issuers.sign_missing(self.work, plan, fleet, RUN, lane, now=now)
        papers.deliver(self.work.journal, RUN, files, by="issuer", now=now, lane=lane)
        self.through("sign", lane)

    def through(self, name: str, lane: str = "seoul", *, run: str = RUN) -> None:
        """Go through an approved gate."""
        assert self.work.journal.write(partial(gates.pass_gate, run=run, lane=lane, gate=f"{lane}/{name}"))

    def resume(self) -> None:
        """Let stopped lanes go on."""
        actions.resume(self.work.journal, RUN, by="ann")

    def to_apply(self, *, until: str = "") -> str:
        """Carry the run out through both gates, and on to *until*."""
        assert self.go_on() == "seoul/sign"
        self.approve("sign")
        self.sign()
        assert self.go_on() == "seoul/go"
        self.approve("go")
        self.through("go")
        return self.go_on(until=until)

    # ── what the servers say ─────────────────────────────────────────────────────────────────────────────────────────
    def new_leaf(self, wish: str) -> x509.Certificate:
        """Return the certificate that came in for *wish*."""
        return papers.certificate_of(self.work.journal, self.lane(wish.split("/", maxsplit=1)[0]), wish)[0]

    def served(self, node: str, *endpoints: str) -> dict[str, x509.Certificate | None]:
        """Return what the endpoints of *node* serve."""
        return {one: self.fleet.served_leaf(node, one) for one in endpoints}

    def done(self, line: str, node: str = "cmscore1") -> int:
        """Return how often *node* carried *line* out to its end, answered or not."""
        ended = [one for one in self.fleet.records("command", node) if one.phase == "end"]
        return len([one for one in ended if one.text.startswith(line) and one.outcome in {"ok", "cut-after"}])


def only(services: Iterable[str]) -> Change:
    """Return a change of the inventory that keeps the wishes for *services* only."""
    wanted = set(services)

    def change(document: dict[str, Any]) -> None:
        for cluster in document["clusters"]:
            cluster["certificates"] = [
                {**one, "services": [name for name in one["services"] if name in wanted]}
                for one in cluster["certificates"]
                if wanted & set(one["services"])
            ]

    return change
