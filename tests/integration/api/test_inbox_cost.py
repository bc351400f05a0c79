"""Lists of gates open the plans of the page that is asked for, once; each plan carries the inventory of the fleet."""

from __future__ import annotations

from functools import partial

import pytest

from tests.integration.api.conftest import Web, on_both
from workflows.journal import Transaction, gates
from workflows.journal.lanes import raise_generation
from workflows.journal.runs import create_run
from workflows.people import Grant, Role
from workflows.plan import Gate, Lane, Plan, Seq

RUNS = [f"r{number:02}" for number in range(40)]
"""More than the plans that were once kept."""


def waiting(web: Web, *, by: str = "olga", four_eyes: bool = True, two_people: bool = False) -> None:
    """Let 40 runs of one cluster each, with two gates each, wait for people."""

    def write(tx: Transaction, run: str) -> None:
        tree = Seq(tuple(Gate(id=f"{run}/{name}", name=name, needs="it", two_people=two_people) for name in "ab"))
        plan = Plan(kind="renewal", fleet={"four_eyes": four_eyes}, lanes=(Lane(name=f"c{run}", tree=tree),))
        said = {"plan": plan.to_json(), "digest": plan.digest(), "fleet": "demo", "requested_by": by}
        create_run(tx, run=run, kind="renewal", lanes=[f"c{run}"], resources=(), **said)
        raise_generation(tx, run, f"c{run}", "test")
        for name in "ab":
            asked = {"lane": f"c{run}", "gate": f"{run}/{name}", "name": name, "digest": "d" * 64}
            assert gates.open_gate(tx, run=run, generation=1, summary={}, **asked)

    for run in RUNS:
        web.journal.write(partial(write, run=run))


@pytest.fixture
def parsed(monkeypatch):
    """Give the list of plans that were parsed."""
    found = []
    parse = Plan.from_json

    def counted(data):
        found.append(data)
        return parse(data)

    monkeypatch.setattr(Plan, "from_json", counted)
    return found


@on_both("web")
def test_only_the_plans_of_the_page_are_opened_and_each_once(web, parsed):
    waiting(web)
    web.person("anna", Role.APPROVER)
    client = web.signed_in("anna")
    for path in ("/api/gates?mine=true", "/api/gates", "/api/gates/described"):
        page = client.get(path, params={"limit": 5, "offset": 10, **({"mine": True} if "mine" in path else {})}).json()
        assert (page["total"], page["next_offset"]) == (80, 15)
        assert [(one["run"], one["gate"]) for one in page["items"]] == [
            *((run, gate) for run in ("r05", "r06") for gate in "ab"),
            ("r07", "a"),
        ]
        assert len(parsed) == 3, path
    assert 'id="inbox-count">80<' in client.get("/runs").text
    assert len(parsed) == 3
    for path in ("/gates", "/api/gates?mine=true&limit=500", "/api/gates/described?limit=500") * 2:
        assert client.get(path).status_code == 200
    assert len(parsed) == len(RUNS)


def test_pages_of_described_gates_are_all_of_them(web):
    waiting(web)
    web.person("anna", Role.APPROVER)
    client = web.signed_in("anna")

    def every(limit: int, **more: str) -> list[tuple[str, str]]:
        found, offset = [], 0
        while offset is not None:
            page = client.get("/api/gates/described", params={"limit": limit, "offset": offset, **more}).json()
            found += [(one["run"], one["gate"]) for one in page["items"]]
            offset = page["next_offset"]
        return found

    assert every(500) == every(7) == [(run, gate) for run in RUNS for gate in "ab"]
    assert every(3, gate="b") == [(run, "b") for run in RUNS]
    assert every(3, lane="cr07") == [("r07", "a"), ("r07", "b")]
    assert every(3, lane="nowhere") == []


@pytest.mark.parametrize(
    ("by", "four_eyes", "two_people", "mine"),
    [
        ("olga", True, False, 80),
        ("Anna", True, False, 0),
        ("Anna", False, False, 80),
        ("Anna", False, True, 0),
    ],
)
def test_mine_is_what_may_be_approved_by_the_rules_of_the_plan(web, by, four_eyes, two_people, mine):
    waiting(web, by=by, four_eyes=four_eyes, two_people=two_people)
    web.person("anna", Role.APPROVER)
    web.person("bus", Grant(Role.APPROVER, "cr03"), Grant(Role.VIEWER))
    web.person("viola", Role.VIEWER)
    every = web.signed_in("anna").get("/api/gates?limit=500").json()["items"]
    page = web.signed_in("anna").get("/api/gates?mine=true&limit=500").json()
    assert page["items"] == [one for one in every if one["may"]["approve"]]
    assert page["total"] == len(page["items"]) == mine
    assert web.signed_in("bus").get("/api/gates?mine=true").json()["total"] == 2
    assert web.signed_in("viola").get("/api/gates?mine=true").json()["total"] == 0


def test_the_number_in_the_frame_of_pages_is_counted_by_the_database(web, monkeypatch):
    waiting(web)
    web.person("anna", Role.APPROVER)
    web.person("bus", Grant(Role.VIEWER, "cr03"))
    monkeypatch.setattr(gates, "open_gates", None)  # it reads what every gate shows
    for name, count in (("anna", 80), ("bus", 2)):
        assert f'id="inbox-count">{count}<' in web.signed_in(name).get("/runs").text
