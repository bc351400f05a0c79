"""300 gates, two approvers each at the same instant over HTTP: 300 decisions, each loser told who and when (show 4)."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import uvicorn

from tests.integration.api.conftest import Web, on_both
from workflows.journal import Journal, Kind, Transaction, gates
from workflows.journal.lanes import raise_generation
from workflows.journal.runs import create_run
from workflows.people import Role
from workflows.plan import Gate, Lane, Plan, Seq

RUNS, LANES = ("r1", "r2", "r3"), 100
DIGEST = "d" * 64


@contextmanager
def served(web: Web) -> Iterator[int]:
    """Serve the application on loopback and give the port."""
    config = uvicorn.Config(web.app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def open_gates(journal: Journal) -> list[str]:
    """Open 300 gates in 3 runs, and return the paths by which they are approved."""

    def write(tx: Transaction, run: str) -> None:
        lanes = [Lane(name=f"c{n}", tree=Seq((Gate(id=f"c{n}/sign", name="sign", needs="it"),))) for n in range(LANES)]
        plan = Plan(kind="renewal", fleet={}, lanes=tuple(lanes))
        said = {"plan": plan.to_json(), "digest": plan.digest(), "fleet": "demo", "requested_by": "ann"}
        create_run(tx, run=run, kind="renewal", lanes=[one.name for one in lanes], resources=(), **said)
        for one in lanes:
            raise_generation(tx, run, one.name, "test")
            asked = {"lane": one.name, "gate": f"{one.name}/sign", "name": "sign", "digest": DIGEST}
            assert gates.open_gate(tx, run=run, generation=1, summary={}, **asked)

    for run in RUNS:
        journal.write(partial(write, run=run))
    return [f"/api/runs/{run}/gates/c{n}/sign/approve" for run in RUNS for n in range(LANES)]


@on_both("web")
def test_two_approvers_at_once_on_300_gates_make_300_decisions(web: Web) -> None:
    """One decision each, in row, event and answers; the chains of events are whole."""
    paths = open_gates(web.journal)
    for name in ("bob", "eve"):
        web.person(name, Role.APPROVER)
    tokens = {name: web.token(name) for name in ("bob", "eve")}
    start = {run: threading.Barrier(2) for run in RUNS}

    def approve_all(port: int, name: str, run: str) -> list[tuple[int, dict[str, str]]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        told = {"Authorization": f"Bearer {tokens[name]}", "Content-Type": "application/json"}
        answers = []
        for path in (path for path in paths if f"/{run}/" in path):
            start[run].wait(60)
            connection.request("POST", path, json.dumps({"digest": DIGEST, "reason": f"{name} says so"}), told)
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())))
        connection.close()
        return answers

    with served(web) as port, ThreadPoolExecutor(6) as pool:
        asked = {name: [pool.submit(approve_all, port, name, run) for run in RUNS] for name in tokens}
        told = {name: [one for each in futures for one in each.result(120)] for name, futures in asked.items()}

    assert Counter(status for answers in told.values() for status, _ in answers) == {200: 300, 409: 300}
    events = [one for run in RUNS for one in web.journal.events(run) if one.kind is Kind.GATE_APPROVED]
    assert len({(one.run, one.step) for one in events}) == len(events) == 300
    by_place = {f"/api/runs/{one.run}/gates/{one.lane}/sign/approve": one for one in events}
    for number, path in enumerate(paths):
        (winner,) = [name for name, answers in told.items() if answers[number][0] == 200]
        (lost,) = [answers[number][1] for answers in told.values() if answers[number][0] == 409]
        event = by_place[path]
        assert event.actor == winner
        assert (lost["code"], lost["who"], lost["when"]) == ("GateDecided", winner, event.at.isoformat())
    assert [web.journal.verify(run) for run in RUNS] == [(), (), ()]
