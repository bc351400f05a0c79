"""Everything dies at once in the middle of a rebuild; `certbridge up` again, and it ends by itself (show 6)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from acceptance_engine import Engine, Shape
from database_order import check
from renewing import WAITS, begin, must, nodes_of

from workers import embedded
from workflows.broker import socket_path
from workflows.journal import Journal

SHAPE = Shape(
    key_pool="40",
    settings={
        "lease_s": 4.0,
        "renew_s": 1.0,
        "reconcile_s": 1.5,
        "longest_poll_s": 3.0,
        "fleet_workers": 1,
        "fleet_threads": 8,
    },
    simulator=(
        "--joined=2",
        "--connected=1",
        "--database-days-left=-3",
        "--services=callbridge,webadmin",
        "--speed=24",
        "--database-s=remove=12,initialize=96,join=48,connect=12",
    ),
)


class UpEngine(Engine):
    """An engine that is started by `certbridge up`; only the simulator is a child of ours."""

    def _start(self) -> None:
        from workflows.settings import prepare_state

        prepare_state(self.settings)
        self._run("simulator", self._simulator_command())
        self.wait((self.out / "ready").exists, 60, "the simulator is ready")
        shutil.copyfile(self.out / "credentials.yaml", self.state / "credentials.yaml")
        (self.state / "credentials.yaml").chmod(0o600)
        self.ok("up", "--detach")
        self._stack.callback(lambda: self.cli("down"))
        self.journal = self._stack.enter_context(Journal.open(self.settings.database_url))
        self.pin()

    def __exit__(self, *error: object) -> None:
        self.cli("down")
        super().__exit__(*error)

    def cut_the_power(self) -> int:
        """Kill supervisord and all its programs, the broker too, with -9; return how many processes that were."""
        top = int((self.state / "supervisord.pid").read_text())
        doomed = family(top)
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}/exe").exists() for pid in doomed):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return len(doomed)


def family(pid: int) -> list[int]:
    """Return *pid* and all processes below it."""
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(one for child in children for one in family(child))]


@pytest.fixture
def engine() -> Any:
    """Give an engine that is up."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = {"flower_port": one.getsockname()[1], "api_port": other.getsockname()[1]}
    shape = Shape(key_pool=SHAPE.key_pool, simulator=SHAPE.simulator, settings={**SHAPE.settings, **ports})
    with UpEngine(shape) as running:
        yield running


@pytest.mark.timeout(300)
def test_rebuild_goes_on_by_itself_after_everything_was_killed_and_up_was_typed_again(engine):
    """Supervisor, broker, workers, beat and Flower die while the primary is initialized; nothing is sent twice."""
    must(engine, "survey")
    run = begin(engine, "--database", "renew")
    run.watch(WAITS)
    run.approve("--gate", "point-of-no-return")
    engine.wait(lambda: bool(engine.log(kind="database", text="initialize", phase="begin")), 90, "initialize has begun")
    assert engine.cut_the_power() >= 7
    assert not embedded.ping(socket_path(engine.state))
    engine.ok("up", "--detach")
    run.watch(0)
    nodes = nodes_of(engine, "seoul")
    inventory = yaml.safe_load((engine.out / "fleet.yaml").read_text())
    addresses = {one["name"]: one["address"] for one in inventory["clusters"][0]["nodes"]}
    found = check(engine.log(), clusters={"seoul": nodes}, addresses=addresses, primary={"seoul": nodes[0]})
    assert found == []
    assert [engine.state_of(node)["database"]["role"] for node in nodes] == ["primary", "replica", "connected"]
    assert engine.journal.verify(run.run) == ()
