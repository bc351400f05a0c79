"""Going back over HTTP to the end: the plan of it is made, shown, kept to, started once, and waits at its gate.

And plans of database clusters over HTTP. Both on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.ca import pem
from tests.integration.api.conftest import on_both
from tests.integration.cli.cli_world import facts_of
from tests.integration.cli.database_facts import CLUSTER, survey_databases
from workflows import actions, papers
from workflows.facts import FileFact, NodeFacts
from workflows.journal import Kind, NewEvent, stock
from workflows.plan import Plan


def renewed(seeded) -> str:
    """Return a renewal of seoul that is done: its servers use new files, and the old ones lie beside them."""
    run = seeded.waiting_run("seoul")
    _decide(seeded, run, "sign")
    signed = {
        f"{number}.pem": pem(seeded.world.ca.deliver(csr).everything) for number, csr in enumerate(_csrs(seeded, run))
    }
    papers.deliver(seeded.journal, run, signed, by="olga", now=datetime.now(UTC))
    seeded.world.advance(run)
    _decide(seeded, run, "go")
    seeded.world.advance(run)
    assert seeded.journal.state(run).outcome == "done"
    plan = Plan.from_json(seeded.journal.plan(run))
    for node in ("cms1", "cms2"):
        step = next(one for one in plan.lane("seoul").steps() if one.node == node and one.action == "apply")
        sent = NewEvent(run=run, kind=Kind.INTENT, lane="seoul", step=step.id, node=node, data={"line": 0})
        seeded.journal.write(lambda tx, sent=sent: tx.append(sent))
    return run


def survey_after(seeded, run: str) -> None:
    """Keep what a survey finds after *run*."""
    plan = Plan.from_json(seeded.journal.plan(run))
    for node in ("cms1", "cms2"):
        applied = [one for one in plan.lane("seoul").steps() if one.node == node and one.action == "apply"]
        wanted = {name: files for step in applied for name, files in step.params["wanted"].items()}
        seeded.journal.write(partial(stock.put_facts, node=node, facts=_using(node, wanted).to_json()))


def _using(node: str, wanted: dict[str, dict[str, str]]) -> NodeFacts:
    found = facts_of(node, datetime.now(UTC) + timedelta(days=10))
    services = tuple(replace(one, **wanted[one.service]) if one.service in wanted else one for one in found.services)
    names = dict.fromkeys(name for files in wanted.values() for name in files.values())
    more = (FileFact(name="ca.crt", size=1000), *(FileFact(name=name, size=1700) for name in names))
    return replace(found, services=services, files=(*found.files, *more))


def _csrs(seeded, run: str) -> list[bytes]:
    return list(seeded.world.csrs(run).values())


def _decide(seeded, run: str, gate: str) -> None:
    for one in actions.open_gates(seeded.journal, run, name=gate):
        actions.decide(seeded.journal, one, decision="approve", by="anna", reason="")


@on_both("seeded")
def test_a_run_is_gone_back_from(seeded):
    run = renewed(seeded)
    olga, path = seeded.signed_in("olga"), f"/api/runs/{run}/rollback"
    stale = olga.post(path, json={})
    assert (stale.status_code, stale.json()["code"]) == (409, "PlanStale")
    page = olga.get(f"/runs/{run}/rollback")
    assert (page.status_code, f'href="/runs/{run}"' in page.text) == (409, True)
    assert 'action="/surveys"' in page.text
    assert '<input type="hidden" name="clusters" value="seoul">' in page.text
    survey_after(seeded, run)
    shown = olga.get(f"{path}/preview").json()
    assert (shown["lanes"], shown["stops_at"]) == (["seoul"], ["seoul/go"])
    lines = [line["text"] for lane in shown["shown"] for part in lane["parts"] for line in part.get("lines", [])]
    assert "callbridge certs old.key old.crt ca.crt" in lines
    other = olga.post(path, json={"digest": "0" * 64})
    assert (other.status_code, other.json()["code"], len(seeded.journal.runs())) == (409, "DigestChanged", 1)

    words = {"digest": shown["digest"], "reason": "the new chain is not trusted"}
    answers = [olga.post(path, json=words, headers={"Idempotency-Key": "back"}) for _ in range(2)]
    assert [one.status_code for one in answers] == [202, 202]
    started = answers[0].json()
    assert answers[1].json() == started
    assert started["digest"] == shown["digest"]
    assert [one.run for one in seeded.journal.runs()] == [started["run"], run]
    assert [one.data["reason"] for one in seeded.journal.events(run) if one.kind is Kind.NOTE] == [words["reason"]]

    back = olga.get(f"/api/runs/{started['run']}").json()
    assert (back["purpose"], back["requested_by"], back["outcome"]) == ("rollback", "olga", "open")
    seeded.world.advance(started["run"])
    _decide(seeded, started["run"], "go")
    seeded.world.advance(started["run"])
    assert olga.get(f"/api/runs/{started['run']}").json()["outcome"] == "done"
    again = olga.get(f"/api/runs/{started['run']}/rollback/preview")
    assert (again.status_code, "is a rollback itself" in again.json()["detail"]) == (422, True)


@on_both("seeded")
def test_a_database_plan_is_made_and_started(seeded):
    survey_databases(seeded.world)
    seeded.world.beat()
    assert seeded.world.fleet.read_text() == CLUSTER
    olga = seeded.signed_in("olga")
    answer = olga.post("/api/plans", json={"clusters": ["seoul"], "database": "renew"})
    assert answer.status_code == 201
    plan = answer.json()
    assert (plan["kind"], plan["purpose"], plan["lanes"]) == ("database", "renew", ["seoul"])
    stages = dict.fromkeys(part["stage"] for part in plan["shown"][0]["parts"] if part["stage"])
    assert list(stages) == [200, 300, 400, 500, 550, 600, 700, 720, 740, 760, 800]
    assert plan["digest"] == seeded.world.json("plan", "--database", "renew")["digest"]
    refused = olga.post("/api/plans", json={"clusters": ["seoul"], "database": "renew", "primary": "cms3"})
    assert (refused.status_code, "cms3: cannot be the primary" in refused.text) == (422, True)
    assert olga.post("/api/plans", json={"database": "repair"}).status_code == 422

    run = olga.post("/api/runs", json={"plan": plan["digest"]}).json()["run"]
    seeded.world.advance(run)
    (gate,) = olga.get(f"/api/runs/{run}/gates").json()["items"]
    assert gate["id"] == "seoul/point-of-no-return"
    shown = olga.get(f"/api/runs/{run}/gates/seoul/point-of-no-return").json()
    assert "writes to any node but cms1 are lost" in shown["database"]["lost"]
