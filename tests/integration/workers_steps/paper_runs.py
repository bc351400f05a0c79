"""A run whose CSRs are there, made without a server: what gates, papers and actions need."""

from __future__ import annotations

from functools import partial
from typing import Any

from cryptography import x509

from tests import ca
from tests.unit.core.fleets import a_cluster, a_fleet, a_wish, facts_of, plan_of
from workflows import actions, papers
from workflows.inventory import ResolvedFleet
from workflows.journal import Journal, claims, gates, lanes, stock
from workflows.journal.claims import Claim
from workflows.plan import Barrier, Plan, Step, walk
from workflows.x509.request import read_request

RUN = "20261101-1200-test"
NOW = ca.NOW


def the_fleet(*clusters: str, **changes: Any) -> ResolvedFleet:
    """Return a fleet of one node in each cluster, a1 in seoul, which wants a certificate for its call bridge."""
    made = []
    for cluster in clusters or ("seoul",):
        node = f"{cluster[0]}1"
        wish = a_wish(
            "callbridge", ("webadmin", "callbridge"), (node,), dns=(f"{node}.example.com", "join.example.com")
        )
        made.append(a_cluster(cluster, (node,), (wish,)))
    return a_fleet(*made, **changes)


def a_run(journal: Journal, fleet: ResolvedFleet, *, run: str = RUN) -> Plan:
    """Start a run asked for by ann, make the CSRs of all lanes, and open their sign gates."""
    plan = plan_of(fleet, facts_of(fleet))
    actions.start_run(journal, plan, by="ann", run=run)
    for lane in plan.lanes:
        journal.write(lambda tx, name=lane.name: lanes.raise_generation(tx, run, name, "test"))
        for part in walk(lane.tree):
            if isinstance(part, Step):
                _finish(journal, run, plan, lane.name, part)
            elif isinstance(part, Barrier):
                journal.write(partial(claims.pass_through, run=run, lane=lane.name, step=part.id, generation=1))
            else:
                open_gate(journal, run, plan, lane.name)
                break
    return plan


def _finish(journal: Journal, run: str, plan: Plan, lane: str, step: Step) -> None:
    data: dict[str, str] = {}
    if step.action == "request":
        wish = plan.wishes[step.params["wish"]]
        csr = ca.make_csr(dict(wish["subject"])["CN"], [x509.DNSName(name) for name in wish["dns"]])
        data = {"csr": journal.write(partial(stock.put_blob, kind="csr", content=csr))}

    def write(tx: Any) -> None:
        claimed = claims.claim(
            tx,
            run=run,
            lane=lane,
            step=step.id,
            node=step.node,
            generation=1,
            holder="worker-1",
            predecessors=frozenset(),
            resources=(),
        )
        assert isinstance(claimed, Claim), claimed
        claims.finish(tx, claimed, status="done", data=data)

    journal.write(write)


def open_gate(journal: Journal, run: str, plan: Plan, lane: str, name: str = "sign") -> None:
    """Open a gate with what lies before it."""
    digest = papers.digest_of_gate(plan, plan.digest(), lane, name, journal.state(run).lanes[lane])
    opening = partial(
        gates.open_gate, run=run, lane=lane, gate=f"{lane}/{name}", name=name, generation=1, digest=digest, summary={}
    )
    assert journal.write(opening)


def approve(journal: Journal, *, by: str = "bob", run: str = RUN, lane: str = "") -> None:
    """Approve the open sign gates of *run*, or that of *lane*."""
    for opened in actions.open_gates(journal, run, lane=lane, name="sign"):
        actions.decide(journal, opened, decision="approve", by=by)


def csr_of(journal: Journal, plan: Plan, wish: str, run: str = RUN) -> bytes:
    """Return the CSR of a wish in PEM form."""
    lane = wish.split("/", maxsplit=1)[0]
    return read_request(papers.requests_of(journal, run, plan, lane)[wish].pem).pem
