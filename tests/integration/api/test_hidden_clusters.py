"""Every GET as somebody of one cluster, over runs that other clusters are in too: nothing of these is in any answer.

Routes are taken from the application, so one that is new is walked too. Whatever can be named in an address is named
three times: as it is theirs to see, as it is hidden, and as it is nowhere; the last two have the same answer.
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient

from api.reading_plans import survey_plan
from tests.integration.api.conftest import Web
from tests.pages_world import CLUSTERS, PagesWorld
from workflows import actions
from workflows.journal import runs, webhooks
from workflows.people import Grant, Role

MINE = "busan"
HIDDEN = re.compile(
    "|".join(
        [
            *(rf"(?<![a-z]){name}(?![a-z])" for name in CLUSTERS if name != MINE),
            *(node for name, nodes in CLUSTERS.items() for node in nodes if name != MINE),
            r"10\.20\.0\.",  # where the members of the database cluster of seoul are
        ]
    )
)
ENDLESS = frozenset({"/api/events"})
STREAMS = frozenset({"/api/runs/{run}/events", "/runs/{run}/stream"})
"""They end with their run."""
NOWHERE = {
    "run": "20260101-0000-none",
    "digest": "f" * 64,
    "lane": "nowhere",
    "cluster": "nowhere",
    "clusters": "nowhere",
    "node": "nobody1",
    "step": "nowhere/nobody1/prepare",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Give runs of several clusters at every state, `theirs`: what may be asked by name, `hidden`: what may not."""
    with PagesWorld(tmp_path_factory.mktemp("hidden")) as made:
        made.people()
        made.surveyed()
        survey = actions.new_run_id(datetime.now(UTC))
        whole = made.resolved()
        actions.start_run(made.journal, survey_plan(whole, whole), by="olivia", run=survey)
        made.advance(survey, fail={"seoul/cmscore2/survey": "cmscore2.example.com does not answer"})
        ended = made.renewal("busan", "seoul", "lab", within=300, by="oscar")
        made.advance(ended)
        made.decide(ended, "sign", decision="reject", reason="The subject lacks our organisation unit.")
        actions.cancel(made.journal, ended, by="oscar", reason="made anew")
        made.journal.write(lambda tx: runs.close_run(tx, ended, "cancelled"))
        done = _done(made, made.renewal("busan", "seoul", "london", within=300))
        rebuild = made.rebuild()
        made.advance(rebuild)
        made.decide(rebuild, "point-of-no-return")
        made.at_join(rebuild)
        sign = made.renewal("busan", "london", within=300)
        made.advance(sign)
        made.decide(sign, "sign")
        made.delivered(sign)
        made.advance(sign)
        hook = webhooks.new_id()
        add = partial(webhooks.add, webhook=hook, url="https://127.0.0.1:1/seoul", kinds=[], by="ada", ciphertext=b"x")
        made.journal.write(add)
        made.journal.write(partial(webhooks.test, webhook=hook, by="ada"))
        made.theirs = {
            "run": [survey, done, sign, ended],
            "digest": [made.planned("busan", "seoul", "london", "lab")],
            "lane": [MINE],
            "cluster": [MINE],
            "clusters": [MINE],
            "node": ["busan1"],
            "step": ["busan/busan1/prepare", "busan/busan1/survey"],
            "name": ["sign", "go"],
            "action": ["resume", "pause", "cancel", "rollback"],
            "webhook": [hook],
        }
        made.hidden = {
            "run": rebuild,
            "digest": made.planned("seoul"),
            "lane": "seoul",
            "cluster": "seoul",
            "clusters": "seoul",
            "node": "cmscore1",
            "step": "seoul/cmscore1/prepare",
        }
        made.over = [survey, done, ended]
        yield made


def _done(made: PagesWorld, run: str) -> str:
    made.advance(run)
    made.decide(run, "sign")
    made.delivered(run)
    made.advance(run)
    made.decide(run, "go")
    made.advance(run)
    assert made.journal.state(run).outcome == "done"
    return run


@pytest.fixture(scope="module")
def clients(world):
    """Give a client of somebody who operates and approves in one cluster, and of somebody who operates everywhere."""
    web = Web(world.root, world.journal, world.settings)
    web.person("bina", Grant(Role.OPERATOR, MINE), Grant(Role.APPROVER, MINE))
    return {name: web.signed_in(name) for name in ("bina", "olivia")}


def routes(client: TestClient) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield every route that is read: its address, and the names that address and query take."""
    for one in iter_route_contexts(client.app.routes):
        if isinstance(one.route, APIRoute) and "GET" in one.methods and one.path_format not in ENDLESS:
            path = [part.name for part in one.route.dependant.path_params]
            yield one.path_format, path, [part.name for part in one.route.dependant.query_params]


def asked(world: PagesWorld, path: str, names: list[str], query: list[str]) -> Iterator[tuple[Any, Any]]:
    """Yield (values in the path, query) of everything that is theirs to ask for."""
    theirs = {**world.theirs, "run": world.over} if path in STREAMS else world.theirs
    for values in itertools.product(*(theirs.get(name, ["x"]) for name in names)):
        for extra in ({}, *({name: theirs[name][0]} for name in query if name in theirs)):
            yield dict(zip(names, values, strict=True)), extra


def text_of(answer: Any) -> str:
    """Return all that *answer* holds, archives unpacked, and its headers."""
    texts = [answer.text, *(f"{name}: {value}" for name, value in answer.headers.items())]
    if answer.headers.get("content-type") == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            texts += [f"{name}\n{archive.read(name).decode()}" for name in archive.namelist()]
    return "\n".join(texts)


def named(world: PagesWorld, client: TestClient, only: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Return {address: what lies outside of busan and is named by an answer}, of all routes or of *only* these."""
    found: dict[str, list[str]] = {}
    for path, names, query in routes(client):
        if only and path not in only:
            continue
        found[path] = []
        for values, extra in asked(world, path, names, query):
            found[path] += HIDDEN.findall(text_of(client.get(path.format(**values), params=extra)))
    return found


def test_no_answer_names_what_lies_outside_of_ones_clusters(world, clients):
    found = named(world, clients["bina"])
    assert len(found) > 50
    assert {path: sorted(set(names)) for path, names in found.items() if names} == {}


def test_there_is_something_to_be_found(world, clients):
    of_runs = {f"/api/runs/{{run}}{rest}" for rest in ("", "/plan", "/report", "/events", "/gates", "/csr")}
    pages = {"/", "/gates", "/runs", "/runs/{run}", "/runs/{run}/{action}", "/plans/new", "/plans/{digest}", "/journal"}
    wanted = frozenset(of_runs | pages | {"/api/journal", "/api/fleet", "/api/nodes", "/api/plans"})
    found = named(world, clients["olivia"], wanted)
    assert {path for path, names in found.items() if names} == wanted


def test_what_is_hidden_is_answered_as_what_is_not_there(world, clients):
    different = []
    for path, names, query in routes(clients["bina"]):
        for values, _ in asked(world, path, names, []):
            for name in {*names, *query} & NOWHERE.keys():
                hidden, nowhere = (
                    _answer(clients["bina"], path, values, name, value, in_path=name in names)
                    for value in (world.hidden[name], NOWHERE[name])
                )
                if hidden != nowhere or HIDDEN.search(hidden[1]):
                    different.append((path, values, name, hidden[0], nowhere[0]))
    assert different == []


def _answer(
    client: TestClient, path: str, values: dict[str, str], name: str, value: str, *, in_path: bool
) -> tuple[int, str]:
    """Return status and text, without *value*, which was asked for, and without what is made anew for every page."""
    if in_path:
        answer = client.get(path.format(**{**values, name: value}))
    else:
        answer = client.get(path.format(**values), params={name: value})
    text = answer.text
    for one in (value, value.replace("/", "%2F"), value[:12] if name == "digest" else value):
        text = text.replace(one, "ASKED")
    return answer.status_code, re.sub(r'name="key" value="[^"]*"', "", text)
