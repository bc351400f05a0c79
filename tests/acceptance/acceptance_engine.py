"""A whole engine for acceptance tests: simulated fleet, embedded broker, real `celery` workers, seen from outside.

Everything is a process of its own and lies in a directory of its own, so engines stand side by side. Timings are short
(CERTBRIDGE_* variables), so that a lost message is found within seconds instead of half a minute.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis

from simulator.control import ask
from workers.embedded import EmbeddedServer, process_id
from workers.programs import beat_command, worker_command
from workflows.broker import KEY_PREFIX, socket_path
from workflows.journal import Journal, stock
from workflows.settings import Settings, prepare_state

QUEUES = ("fleet", "cluster", "control")
QUICK = {
    "lease_s": 6.0,
    "renew_s": 1.5,
    "reconcile_s": 2.0,
    "outbox_ms": 50,
    "poll_s": 0.2,
    "longest_poll_s": 5.0,
    "settle_s": 7.0,
    "log_level": "INFO",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an engine is to be made of; a module that uses the fixture `engine` names its own as `ENGINE = Shape(…)`.

    *simulator*: more options of `python -m simulator`, *settings*: more fields of `Settings`, *environment*: more
    variables of workers and command line. *threads* are those of each `fleet` worker. *pinned*: host keys are known.
    """

    clusters: int = 1
    nodes: int = 2
    release: str = "3.9"
    latency: str = ""
    key_pool: str = "12"
    simulator: tuple[str, ...] = ()
    fleet_workers: int = 1
    threads: int = 16
    pinned: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """A running engine; a context manager. `out` is the simulator's directory, `state` the engine's."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.root = Path(tempfile.mkdtemp(prefix="engine-"))
        self.out = self.root / "fleet"
        self.state = self.root / "state"
        fleet = self.out / "fleet.yaml"
        self.settings = Settings.load({}, state=self.state, fleet=fleet, **(QUICK | dict(shape.settings)))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CERTBRIDGE_")},
            **self.settings.environment(),
            **shape.environment,
        }
        self.journal: Journal
        self.redis: redis.Redis
        self._broker: EmbeddedServer
        self._log: list[dict[str, Any]] = []
        self._log_end = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._stack = contextlib.ExitStack()

    # ── start and stop ───────────────────────────────────────────────────────────────────────────────────────────────
    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            error.add_note(self.logs())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for name in ("beat", *(name for name in self._processes if name not in {"beat", "simulator"})):
                self._end(name)
            self._end("simulator")
        finally:
            self._stack.close()
            shutil.rmtree(self.root, ignore_errors=True)
            shutil.rmtree(socket_path(self.state).parent, ignore_errors=True)

    def _start(self) -> None:
        prepare_state(self.settings)
        self._run("simulator", self._simulator_command())
        listen = socket_path(self.state)
        self._broker = self._stack.enter_context(EmbeddedServer(self.settings.valkey_dir, listen))
        self.redis = redis.Redis(unix_socket_path=str(listen), decode_responses=True)
        self._stack.callback(self.redis.close)
        self.journal = self._stack.enter_context(Journal.open(self.settings.database_url))
        self._run("control", worker_command("control", name="control", threads=1, log_level=self.settings.log_level))
        for number in range(1, self.shape.fleet_workers + 1):
            name = f"fleet-{number}"
            command = worker_command(
                "fleet,cluster", name=name, threads=self.shape.threads, log_level=self.settings.log_level
            )
            self._run(name, command)
        self._run("beat", beat_command(self.settings.log_level))
        self.wait((self.out / "ready").exists, 60, "the simulator is ready")
        shutil.copyfile(self.out / "credentials.yaml", self.state / "credentials.yaml")
        (self.state / "credentials.yaml").chmod(0o600)
        if self.shape.pinned:
            self.pin()
        self.wait_for_workers()

    def _simulator_command(self) -> tuple[str, ...]:
        shape = self.shape
        options = {"clusters": shape.clusters, "nodes": shape.nodes, "release": shape.release, "out": self.out}
        optional = {"latency": shape.latency, "key-pool": shape.key_pool}
        words = [f"--{name}={value}" for name, value in (options | optional).items() if value]
        self.out.mkdir()
        return (sys.executable, "-m", "simulator", *words, *shape.simulator)

    def _run(self, name: str, command: tuple[str, ...]) -> None:
        self._commands[name] = command
        with (self.settings.logs_dir / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Celery puts its directory on the path of imports; the repository must come from there or be installed.
                cwd=Path(__file__).parents[2],
                env=self.environment,
                start_new_session=True,
            )

    def _end(self, name: str, within_s: float = 30.0) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            os.killpg(process.pid, signal.SIGCONT)  # a frozen one would not hear it
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{name} did not end within {within_s} s after TERM") from None

    # ── what a person does ───────────────────────────────────────────────────────────────────────────────────────────
    def cli(self, *words: str | Path, timeout_s: float = 120.0, said: str = "") -> subprocess.CompletedProcess[str]:
        """Run `certbridge words…` as a process of its own and return what came of it; *said* is its standard input."""
        return subprocess.run(
            [sys.executable, "-c", "from api.cli import main; main()", *map(str, words)],
            input=said,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=self.root,
            env=self.environment,
        )

    def ok(self, *words: str | Path, code: int = 0, timeout_s: float = 120.0) -> str:
        """Return the output of `certbridge words…`, which must end with *code*."""
        done = self.cli(*words, timeout_s=timeout_s)
        assert done.returncode == code, f"certbridge {words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str | Path, code: int = 0) -> Any:
        """Return what `certbridge words… -o json` says; it must end with *code*."""
        return json.loads(self.ok(*words, "-o", "json", code=code))

    def begin(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start `certbridge words…` and return it while it runs; `with` and `communicate` end it."""
        return subprocess.Popen(
            [sys.executable, "-c", "from api.cli import main; main()", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
            env=self.environment,
        )

    def latest_run(self) -> str:
        """Return the id of the run that was started last."""
        return self.journal.runs(limit=1)[0].run

    def pin(self) -> None:
        """Pin the host keys of the whole fleet, as a person does who compared the fingerprints."""
        pins = json.loads((self.out / "pins.json").read_text())
        for one in pins:
            self.journal.write(
                lambda tx, one=one: stock.pin(tx, one["address"], one["port"], one["key"], by="test", verified=True)
            )

    # ── what happened on the servers ─────────────────────────────────────────────────────────────────────────────────
    def log(self, *, node: str = "", kind: str = "", text: str = "", phase: str = "") -> list[dict[str, Any]]:
        """Return the records of the simulator's command log; *text* is how the wanted ones begin."""
        with (self.out / "commands.jsonl").open("rb") as stream:
            # Read on from where the last look ended: the log of 200 servers has 150,000 lines.
            stream.seek(self._log_end)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._log_end += len(line)
                self._log.append(json.loads(line))
        return [
            record
            for record in self._log
            if (not node or record["node"] == node)
            and (not kind or record["kind"] == kind)
            and record["text"].startswith(text)
            and (not phase or record["phase"] == phase)
        ]

    def fault(self, kind: str, node: str = "", **more: Any) -> str:
        """Add a fault to the fleet (`simulator.faults.Fault`) and return its id."""
        wanted = {"kind": kind, **({"node": node} if node else {}), **more}
        return str(self.simulator({"do": "add", "fault": wanted})["id"])

    def clear_faults(self) -> None:
        """Take away all faults."""
        self.simulator({"do": "clear"})

    def state_of(self, node: str) -> dict[str, Any]:
        """Return what is so on the simulated server now: files, settings, services."""
        answer: dict[str, Any] = self.simulator({"do": "state", "node": node})["state"]
        return answer

    def simulator(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the fleet's answer to *request* (`simulator.control`)."""
        answer = ask(self.out, request)
        assert answer["ok"], answer
        return answer

    # ── bad luck ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def kill(self, worker: str, *, restart: bool = True) -> None:
        """Kill a process ("fleet-1", "control", "beat") with -9; *restart* it as the supervisor would."""
        process = self._processes.pop(worker)
        with contextlib.suppress(ProcessLookupError):  # it was killed before, and only has to be started again
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if restart:
            self.restart(worker)

    def stop(self, worker: str) -> None:
        """Stop a process politely (TERM), as an administrator does, and wait for its end."""
        self._end(worker)

    def restart(self, worker: str) -> None:
        """Start a killed or stopped process again."""
        self._run(worker, self._commands[worker])

    def freeze(self, worker: str) -> None:
        """Stop a process as a stalled machine would (SIGSTOP)."""
        os.killpg(self._processes[worker].pid, signal.SIGSTOP)

    def thaw(self, worker: str) -> None:
        """Let a stopped process go on."""
        os.killpg(self._processes[worker].pid, signal.SIGCONT)

    def flush_broker(self) -> None:
        """Empty the broker: every message and result is gone."""
        self.redis.flushall()

    def kill_broker(self) -> None:
        """Kill the broker with -9 and start it again on what its append-only file holds."""
        os.kill(process_id(self._broker.listen) or 0, signal.SIGKILL)
        self._broker.stop()
        self._broker.start()

    def stop_broker(self) -> None:
        """Take the broker away; what is in it stays on its disk."""
        self._broker.stop()

    def start_broker(self) -> None:
        """Give the broker back."""
        self._broker.start()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def queues(self) -> dict[str, int]:
        """Return how many messages wait in each queue."""
        return {name: int(self.redis.llen(f"{KEY_PREFIX}{name}")) for name in QUEUES}

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys of the broker that match *pattern*."""
        return sorted(self.redis.scan_iter(pattern))

    def alive(self) -> dict[str, int]:
        """Return the process id of each process that runs."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def wait_for_workers(self, within_s: float = 60.0) -> None:
        """Wait until each worker that was started has told that it is there."""

        def heard() -> bool:
            pids = {row.info.get("pid") for row in self.journal.read(stock.workers)}
            return all(pid in pids for name, pid in self.alive().items() if name not in {"beat", "simulator"})

        self.wait(heard, within_s, "all workers are there")

    def wait(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait until *condition* holds; fail, saying *what* was waited for, when it does not within the time."""
        deadline = time.monotonic() + within_s
        while not condition():
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended with {process.returncode} while waiting until {what}"
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.05)

    def logs(self, lines: int = 60) -> str:
        """Return the ends of all logs, for a person who reads why a test failed."""
        parts = []
        for path in sorted(self.settings.logs_dir.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"══ {path.name}", *tail]))
        return "\n".join(parts)


@contextlib.contextmanager
def started(shape: Shape) -> Iterator[Engine]:
    """Give a started engine; for tests that need one of their own."""
    with Engine(shape) as engine:
        yield engine
