"""Flower under `certbridge up`: its pages tell no secret, open with its password only, and change nothing (I8).

Pages and actions are read from Flower's own table of addresses, so that one which a later release adds is tried too.
The broker is an operator's with a password, since Flower shows broker and configuration.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flower.urls
import pytest
import redis
from acceptance_engine import Shape
from chaos_engine import secret_lines
from checker import command_lines, forms_of
from keys import make_keys
from renewing import FAILED, WAITS, begin, must, nodes_of, password
from test_power_cut import UpEngine
from tornado.web import RequestHandler, URLSpec

from workers import supervisor
from workers.embedded import find_server
from workflows.settings import FLOWER_PREFIX, FLOWER_USER

OPEN = {"/metrics", "/healthcheck"}  # Flower gives these to everybody (docs/howto/run-in-production.md)
AT_THE_DOOR = {"/login/?", "/logout", "/static/(.*)", ".*"}  # nothing of the engine is in these
TABLE = "draw=1&start=0&length=10000&order[0][column]=0&columns[0][data]=name"
# Where a secret stands on purpose, each closed to all others (mode 0600).
KEPT = {"credentials.yaml", "vault/key", "flower-password", "flowerconfig.py"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Flower answered; `said` is all of it, headers too."""

    status: int
    said: bytes


class Flower:
    """Flower's pages, as a browser asks for them."""

    def __init__(self, engine: UpEngine) -> None:
        self._port = engine.settings.flower_port
        self.password = (engine.state / "flower-password").read_text().strip()

    def ask(self, path: str, *, method: str = "GET", word: str | None = None) -> Answer:
        """Return the answer to *path*; *word* is the password, "" sends none, None the right one."""
        word = self.password if word is None else word
        encoded = base64.b64encode(f"{FLOWER_USER}:{word}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(
                method, f"/{FLOWER_PREFIX}{path}", headers={"Authorization": f"Basic {encoded}"} if word else {}
            )
            answer = connection.getresponse()
            return Answer(status=answer.status, said=str(answer.headers).encode() + answer.read())
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """Return what *path* says in JSON."""
        return json.loads(self.ask(path).said.partition(b"\n\n")[2])

    def workers(self) -> list[str]:
        """Return the names of the workers that Flower knows all about; none while it is not there."""
        try:
            return sorted(name for name, one in self.json("/api/workers?refresh=1").items() if "conf" in one)
        except (OSError, ValueError):
            return []

    def pages(self) -> list[str]:
        """Return the paths of all pages, for each worker and each task."""
        tasks = list(self.json("/api/tasks?limit=10000"))
        more = {"/tasks/datatable": TABLE, "/api/workers": "refresh=1", "/api/tasks": "limit=10000"}
        found = []
        for pattern in patterns("get"):
            names = self.workers() if "worker" in pattern else tasks
            found += [pattern.partition("(")[0] + name for name in names] if "(" in pattern else [pattern]
        return [f"{path}?{more[path]}" if path in more else path for path in found]

    def actions(self) -> list[str]:
        """Return the paths of everything that would do something."""
        worker, task = self.workers()[0], next(iter(self.json("/api/tasks")))
        names = {"worker": worker, "apply": "reconcile", "send-task": "reconcile", "timeout": "reconcile"}
        return [
            pattern.partition("(")[0] + next((name for part, name in names.items() if part in pattern), task)
            for pattern in patterns("post")
            if pattern.startswith("/api/")
        ]


def patterns(method: str) -> list[str]:
    """Return Flower's addresses that have an answer to *method*, as its table writes them."""
    table = [one if isinstance(one, URLSpec) else URLSpec(*one) for one in flower.urls.handlers]
    nothing = getattr(RequestHandler, method)
    found = [one.regex.pattern.rstrip("$") for one in table if getattr(one.handler_class, method) is not nothing]
    return [pattern for pattern in found if pattern not in AT_THE_DOOR]


@contextmanager
def broker(word: str) -> Iterator[str]:
    """Run an operator's broker with the password *word*; gives its address."""
    port = free_port()
    lines = [f"port {port}", "bind 127.0.0.1", f"requirepass {word}", 'save ""', "maxmemory-policy noeviction"]
    # It reads its configuration from standard input: a password on its command line would be the test's own fault.
    with subprocess.Popen(
        [str(find_server().binary), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        try:
            server.stdin.write("\n".join(lines) + "\n")
            server.stdin.close()
            until(lambda: answers(port, word), 20)
            yield f"redis://:{word}@127.0.0.1:{port}/0"
        finally:
            server.terminate()


def answers(port: int, word: str) -> bool:
    """Return whether the broker answers."""
    try:
        with redis.Redis(port=port, password=word) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], within_s: float) -> None:
    """Wait for *condition*; fail when it never comes true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def where(places: Mapping[str, bytes], canaries: Mapping[str, bytes]) -> list[str]:
    """Return which of *canaries* stands where, in whatever form."""
    forms = [(name, form) for name, value in canaries.items() for form in forms_of(value)]
    return [f"{name} stands in {place}" for place, said in places.items() for name, form in forms if form in said]


def files(state: Path) -> dict[str, bytes]:
    """Return what the state folder holds, but for what is kept there on purpose."""
    paths = {str(path.relative_to(state)): path for path in state.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if name not in KEPT}


@pytest.fixture
def canaries() -> dict[str, bytes]:
    """Give the random words that must be found nowhere; tests add to them."""
    return {"password of the broker": secrets.token_urlsafe(18).encode()}


@pytest.fixture
def engine(tmp_path: Path, canaries: dict[str, bytes]) -> Iterator[UpEngine]:
    """Give an engine that is up, and add its secrets to the canaries."""
    keys = make_keys(tmp_path / "keys.pem", 12)
    with broker(canaries["password of the broker"].decode()) as url:
        shape = Shape(
            nodes=1,
            key_pool=str(keys),
            simulator=("--services=webadmin",),
            settings={
                "broker_url": url,
                "flower_port": free_port(),
                "api_port": free_port(),
                "fleet_workers": 1,
                "fleet_threads": 4,
            },
        )
        with UpEngine(shape) as running:
            canaries["password of the servers"] = password(running).encode()
            for number, line in enumerate([*secret_lines(keys), *secret_lines(running.out / "ca" / "issuing.key")]):
                canaries[f"private key {number}"] = line
            yield running


@pytest.mark.timeout(300)
def test_flower_tells_no_secret_and_only_looks(engine: UpEngine, canaries: dict[str, bytes]) -> None:
    """A server repeats a password, a run fails and ends; no page, file or command line has it, and no action works."""
    pages = Flower(engine)
    until(lambda: len(pages.workers()) == 3, 60)
    (node,) = nodes_of(engine, "seoul")
    engine.fault("failure", node, match="pki csr *", text=f"no, {password(engine)} is wrong")
    must(engine, "survey")
    run = begin(engine)
    run.watch(FAILED)
    assert "is wrong" in run.lane()["reason"]
    run.resume()
    run.watch(WAITS)
    run.approve("--gate", "sign")
    run.watch(WAITS)
    run.approve("--gate", "go")
    run.watch(0)
    canaries["key of the vault"] = (engine.state / "vault" / "key").read_bytes().strip()
    canaries["key of the vault, decoded"] = base64.b64decode(canaries["key of the vault"])
    canaries["password of Flower"] = pages.password.encode()

    # It does show this run, and how the workers are set up: there is something that could tell.
    paths = pages.pages()
    said = {path: pages.ask(path) for path in paths}
    whole = b"".join(one.said for one in said.values())
    assert (run.run.encode() in whole, b"broker_url" in whole, b"flower_task_runtime" in whole) == (True, True, True)
    assert {path: one.status for path, one in said.items() if one.status != 200} == {}
    assert where({path: one.said for path, one in said.items()}, canaries) == []
    assert where({"the process list": b"\n".join(command_lines())}, canaries) == []

    for word in ("", "guessed"):
        shut = {path: pages.ask(path, word=word) for path in paths if path not in OPEN}
        assert {path: one.status for path, one in shut.items() if one.status != 401} == {}
        assert [path for path, one in shut.items() if run.run.encode() in one.said] == []

    before = supervisor.processes(engine.settings)
    actions = pages.actions()
    assert {"/api/worker/shutdown/", "/api/task/revoke/"} <= {path.rpartition("/")[0] + "/" for path in actions}
    assert {path: pages.ask(path, method="POST").status for path in actions} == dict.fromkeys(actions, 403)
    assert {path: pages.ask(path, method="POST", word="").status for path in actions} == dict.fromkeys(actions, 401)
    assert supervisor.processes(engine.settings) == before

    engine.ok("down")
    left = files(engine.state)
    assert [name for name in left if name.startswith("flower.db")] != []
    assert where(left, canaries) == []
