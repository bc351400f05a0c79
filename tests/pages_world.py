"""A journal with something on every page: clusters near and far from their end, runs at every state.

No engine and no server: what workers would have written is written by the journal's own functions (`cli_world`). Tests
of pages and docs/images/make_screenshots.py look at the same world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

from tests.ca import make_ca, pem
from tests.integration.cli.cli_world import World, csr_of
from tests.unit.core.fleets import file_of, node_facts
from workflows import actions, papers
from workflows.facts import CertificateFact, DatabaseFact, DatabaseMember, DatabaseState, FileFact, NodeFacts
from workflows.inventory import Fleet, ResolvedFleet, select
from workflows.journal import Journal, Transaction, accounts, asked, claims, lanes, runs, stock
from workflows.people import Grant, Role
from workflows.plan import Lane, Plan, Step
from workflows.procedures.database_cluster import Purpose, plan_database
from workflows.procedures.renewal import plan_renewal
from workflows.settings import Settings, prepare_state

CLUSTERS = {
    "seoul": ("cmscore1", "cmscore2", "cmscore3", "cmsedge1"),
    "busan": ("busan1", "busan2", "busan3"),
    "london": ("london1", "london2"),
    "lab": ("lab1",),
}
DAYS = {
    "cmscore1": 12, "cmscore2": 9, "cmscore3": 12, "cmsedge1": 26,
    "busan1": 48, "busan2": 71, "busan3": 48,
    "london1": 188, "london2": 164,
    "lab1": -4,
}  # fmt: skip
PEOPLE = {
    "olivia": Grant(Role.OPERATOR),
    "oscar": Grant(Role.OPERATOR),
    "anna": Grant(Role.APPROVER),
    "audrey": Grant(Role.AUDITOR),
    "victor": Grant(Role.VIEWER),
    "ada": Grant(Role.ADMIN),
}
_ROLES = {"cmscore1": "joined", "cmscore2": "joined", "cmscore3": "joined", "cmsedge1": "connected"}


def inventory() -> str:
    """Return `fleet.yaml` of this world."""
    clusters = [
        {
            "name": name,
            "nodes": [
                {"name": node, "address": f"{node}.example.com"}
                | ({"database": _ROLES[node]} if node in _ROLES else {})
                for node in nodes
            ],
            "certificates": [
                _wanted("callbridge", ["webadmin", "callbridge"]),
                _wanted("webbridge", ["webbridge3.https", "webbridge3.c2w"]),
            ],
        }
        for name, nodes in CLUSTERS.items()
    ]
    return json.dumps({"fleet": "example", "release": "3.9", "clusters": clusters}, indent=1)


def _wanted(name: str, services: list[str]) -> dict[str, Any]:
    names = {"dns": ["{node}.example.com", "join.example.com"]}
    subject = {"CN": "{node}.example.com", "O": "Example"}
    told = ["Expressway-C: trust store"] if name == "callbridge" else []
    return {"name": name, "subject": subject, "subject_alt_names": names, "services": services, "trusted_by": told}


class PagesWorld(World):
    """The world; a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ca = make_ca(now=datetime.now(UTC))
        self.fleet = root / "fleet.yaml"
        self.fleet.write_text(inventory())
        self.settings = Settings.load({}, state=root / "state", fleet=self.fleet)
        prepare_state(self.settings)
        self.journal = Journal.open(self.settings.database_url)
        self._until, self._reached = "", False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def resolved(self) -> ResolvedFleet:
        """Return the inventory."""
        return Fleet.from_yaml(self.fleet.read_text(), "fleet.yaml").resolved(str(self.root))

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────
    def people(self) -> None:
        """Make an account for each role."""
        for name, grant in PEOPLE.items():
            self.journal.write(partial(accounts.add, name=name, by="test", grants=[grant], display=name.title()))

    def surveyed(self) -> None:
        """Keep facts of every server; a worker is there."""
        self.beat()
        for nodes in CLUSTERS.values():
            for node in nodes:
                self.journal.write(partial(stock.put_facts, node=node, facts=facts(node, nodes).to_json()))

    def renewal(self, *clusters: str, by: str = "olivia", within: int = 60) -> str:
        """Start a renewal of *clusters* and return its run."""
        plan = self._renewal_plan(clusters, within)
        run = actions.new_run_id(datetime.now(UTC))
        actions.start_run(self.journal, plan, by=by, run=run)
        return run

    def _renewal_plan(self, clusters: Sequence[str], within: int) -> Plan:
        fleet = self.resolved()
        latest = self.journal.read(partial(stock.latest_facts, nodes=[node.name for node in fleet.nodes]))
        known = {node: NodeFacts.from_json(said) for node, (_, _, said) in latest.items()}
        wanted = select(fleet, clusters)
        return plan_renewal(fleet, known, now=datetime.now(UTC), within=timedelta(days=within), wanted=wanted)

    def rebuild(self, by: str = "oscar") -> str:
        """Start a rebuild of the database cluster of seoul and return its run."""
        fleet = self.resolved()
        known = {node: facts(node, CLUSTERS["seoul"]) for node in CLUSTERS["seoul"]}
        plan = plan_database(
            fleet,
            known,
            purpose=Purpose.RENEW,
            now=datetime.now(UTC),
            within=timedelta(days=60),
            wanted=select(fleet, ["seoul"]),
        )
        run = actions.new_run_id(datetime.now(UTC))
        actions.start_run(self.journal, plan, by=by, run=run)
        return run

    def everything(self) -> dict[str, str]:
        """Fill the world and return {what: run}: done, stopped, sign (open), go (open), rebuild (at work)."""
        self.people()
        self.surveyed()
        stopped = self.renewal("lab")
        self.advance(stopped)
        self.decide(stopped, "sign", decision="reject", reason="The subject lacks our organisation unit.")
        actions.cancel(self.journal, stopped, by="olivia", reason="made anew")
        self.journal.write(lambda tx: runs.close_run(tx, stopped, "cancelled"))
        done = self.renewal("lab")
        self.advance(done)
        self.decide(done, "sign")
        self.delivered(done)
        self.advance(done)
        self.decide(done, "go")
        self.advance(done)
        go = self.renewal("busan", within=90)
        self.advance(go)
        self.decide(go, "sign")
        self.delivered(go)
        self.advance(go)
        sign = self.renewal("london", within=300)
        self.advance(sign)
        rebuild = self.rebuild()
        self.advance(rebuild)
        self.decide(rebuild, "point-of-no-return")
        self.at_join(rebuild)
        plan = self.planned("lab")
        return {"cancelled": stopped, "done": done, "go": go, "sign": sign, "rebuild": rebuild, "plan": plan}

    def planned(self, *clusters: str, by: str = "olivia") -> str:
        """Keep a plan that nobody has started, and return its digest."""
        plan = self._renewal_plan(clusters, 60)
        about = {"lanes": [one.name for one in plan.lanes], "nodes": len(plan.nodes()), "steps": 1, "empty": plan.empty}
        keep = partial(asked.keep_plan, digest=plan.digest(), kind=plan.kind, purpose="", by=by, about=about)
        self.journal.write(partial(keep, plan=plan.to_json()))
        return plan.digest()

    def at_join(self, run: str) -> None:
        """Go on until the first replica joins, and stay there: the server has said nothing final yet."""
        plan = Plan.from_json(self.journal.plan(run))
        join = next(step for step in plan.lane("seoul").steps() if step.action == "database_join")
        self.advance(run, until=join.id)
        since = datetime.now(UTC) - timedelta(minutes=4, seconds=12)
        self.begin(
            run,
            "seoul",
            data={
                "operation": "join",
                "since": since.isoformat(),
                "elapsed_s": 252,
                "usual_s": [30, 900],
                "status": "Initial synchronisation, 61 % of 1.2 GB",
            },
        )

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────
    def decide(self, run: str, gate: str, *, by: str = "anna", decision: str = "approve", reason: str = "") -> None:
        """Decide what is open at *gate*, past the pages."""
        for one in actions.open_gates(self.journal, run, name=gate):
            if one.state.status == "open":
                actions.decide(self.journal, one, decision=decision, by=by, reason=reason)

    def delivered(self, run: str) -> None:
        """Deliver a certificate for each CSR."""
        files = {
            f"{wish.replace('/', '_')}.pem": pem(self.ca.deliver(csr).everything)
            for wish, csr in self.csrs(run).items()
        }
        papers.deliver(self.journal, run, files, by="olivia", now=datetime.now(UTC))

    def begin(self, run: str, lane: str, *, data: Mapping[str, Any] | None = None, number: int = 0) -> Step:
        """Claim the step of *lane* that comes next (or the one *number* behind it), and leave it at work."""
        plan = Plan.from_json(self.journal.plan(run))
        state = self.journal.state(run).lanes[lane]
        open_steps = [step for step in plan.lane(lane).steps() if step.id not in state.steps]
        step = open_steps[number]
        generation = self.journal.write(lambda tx: lanes.raise_generation(tx, run, lane, "test")) or state.generation

        def work(tx: Transaction) -> None:
            taken = claims.claim(
                tx, run=run, lane=lane, step=step.id, node=step.node, generation=generation, holder="test",
                predecessors=frozenset(), resources=(),
            )  # fmt: skip
            assert isinstance(taken, claims.Claim), taken
            if data is not None:
                claims.finish(tx, taken, status="waiting", data=data)

        self.journal.write(work)
        return step

    def advance(self, run: str, *, fail: Mapping[str, str] | None = None, until: str = "") -> None:
        """As `World.advance`; with *until* the step of this id is the first that is left."""
        self._until = until
        super().advance(run, fail=fail)

    def _do(self, tx: Transaction, plan: Plan, run: str, lane: Lane, step: Step, *more: Any, **named: Any) -> None:
        if self._until and (step.id == self._until or self._reached):
            self._reached = True
            return
        super()._do(tx, plan, run, lane, step, *more, **named)

    def _data(self, tx: Transaction, plan: Plan, step: Step) -> dict[str, Any]:
        if step.action == "survey":
            return {}
        if step.action == "request":
            return {"csr": stock.put_blob(tx, "csr", csr_of(plan.wishes[step.params["wish"]]))}
        return super()._data(tx, plan, step)

    def _lane(self, run: str, lane: str) -> Lane:
        return Plan.from_json(self.journal.plan(run)).lane(lane)


def facts(node: str, peers: tuple[str, ...]) -> NodeFacts:
    """Return what a survey read from *node*."""
    found = node_facts(
        node,
        peers=peers,
        stems={
            "webadmin": "callbridge",
            "callbridge": "callbridge",
            "webbridge3.https": "webbridge",
            "webbridge3.c2w": "webbridge",
        },
    )
    now = datetime.now(UTC)
    here = DAYS[node]

    def moved(one: CertificateFact) -> CertificateFact:
        if one.subject == one.issuer:
            return replace(one, not_valid_after=(now + timedelta(days=2900)).isoformat(), issuer="Example Issuing CA")
        owner = one.subject.partition(".")[0]
        days = DAYS[owner] + (18 if "webbridge" in one.subject else 0)
        return replace(
            one, not_valid_after=(now + timedelta(days=days, hours=5)).isoformat(), issuer="Example Issuing CA"
        )

    files = tuple(replace(one, certificates=tuple(moved(each) for each in one.certificates)) for one in found.files)
    ports = tuple(replace(one, chain=tuple(moved(each) for each in one.chain)) for one in found.ports)
    found = replace(found, at=now.isoformat(), files=files, ports=ports)
    if node not in _ROLES:
        return found
    return _with_database(found, node, now + timedelta(days=here + 30))


def _with_database(found: NodeFacts, node: str, ends: datetime) -> NodeFacts:
    joined = [name for name, role in _ROLES.items() if role == "joined"]
    addresses = {name: f"10.20.0.{11 + number}" for number, name in enumerate(joined)}
    state = {"cmscore1": DatabaseState.PRIMARY, "cmsedge1": DatabaseState.CONNECTED}.get(node, DatabaseState.REPLICA)
    pairs = ("server", "client") if node in joined else ("client",)
    named = {
        f"{pair}_{kind}": f"db{pair}.{end}" for pair in pairs for kind, end in (("key", "key"), ("certificate", "crt"))
    }
    database = DatabaseFact(
        state="Enabled",
        interface="a",
        members=tuple(
            DatabaseMember(
                address=address,
                role="primary" if name == "cmscore1" else "replica",
                connected=True,
                in_sync=True,
                me=name == node,
                text="Connected Primary" if name == "cmscore1" else "Connected Replica (In Sync)",
            )
            for name, address in addresses.items()
        ),
        ca_certificate="dbca.crt",
        **named,
    )
    issuer = "seoul-database-ca"

    def leaf(stem: str, subject: str) -> FileFact:
        return file_of(
            f"{stem}.crt",
            CertificateFact(
                fingerprint=f"{stem}-leaf",
                spki_sha256=f"{stem}-key",
                subject=subject,
                issuer=issuer,
                not_valid_after=(ends + timedelta(days=2000 if stem == "dbca" else 0)).isoformat(),
            ),
        )

    files = [leaf("dbserver", "seoul-database-server"), leaf("dbclient", "postgres"), leaf("dbca", issuer)]
    keys = [FileFact(name=f"{stem}.key", size=1700) for stem in ("dbserver", "dbclient", "dbca")]
    return replace(
        found,
        database=state,
        database_primary=addresses["cmscore1"],
        database_cluster=database,
        files=(*found.files, *files, *keys),
    )
