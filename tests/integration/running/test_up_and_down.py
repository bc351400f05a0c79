"""`up` and `down`: everything on one machine, started in order, kept running, stopped in order."""

import base64
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import embedded, processes, strays, supervisor
from workflows.broker import socket_path
from workflows.journal import Journal, stock
from workflows.settings import Settings

PROGRAMS = {"broker", "fleet-1", "cluster", "control", "beat", "api", "flower"}


def run(settings: Settings, *words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `certbridge words…` on the state of *settings*."""
    return subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, **settings.environment()},
    )


def wait(condition: Callable[[], bool], within_s: float = 30) -> bool:
    """Return whether *condition* held within the time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def engine(settings: Settings) -> Iterator[Settings]:
    """Give the settings of an engine that is up, and take it down afterwards."""
    began = run(settings, "up", "--detach")
    assert began.returncode == 0, began.stdout + began.stderr
    yield settings
    ended = run(settings, "down")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def flower(settings: Settings, password: str) -> int:
    """Return the status that Flower answers with for this password."""
    word = base64.b64encode(f"certbridge:{password}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.flower_port}/flower/workers", headers={"Authorization": f"Basic {word}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.mark.timeout(300)
def test_engine_is_whole_and_private_and_mends_itself(engine):
    """All programs run, workers report, secrets are closed, a second `up` is refused, a killed worker comes back."""
    names = {name for name, (state, _) in supervisor.processes(engine).items() if state == "RUNNING"}
    assert wait(lambda: set(supervisor.processes(engine)) == PROGRAMS)
    assert PROGRAMS - {"flower"} <= names

    with Journal.open(engine.database_url) as journal:
        rows = journal.read(stock.workers)
        assert {queue for row in rows for queue in row.queues} == {"fleet", "cluster", "control"}

        second = run(engine, "up", "--detach")
        assert (second.returncode, "certbridge down" in second.stderr) == (1, True), second.stderr

        before = supervisor.processes(engine)["fleet-1"][1]
        os.kill(before, signal.SIGKILL)

        def came_back() -> bool:
            now = supervisor.processes(engine)["fleet-1"][1]
            alive = {row.info["pid"] for row in journal.read(stock.workers)}
            return now not in {0, before} and now in alive

        assert wait(came_back, 60)

    password = (engine.state / "flower-password").read_text().strip()
    assert wait(lambda: flower(engine, password) == 200)
    assert flower(engine, "guessed") == 401
    private = [engine.state / name for name in ("flower-password", "flowerconfig.py", "supervisord.conf")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in arguments


@contextlib.contextmanager
def in_the_foreground(settings):
    """Start `up` and read what it says until it only waits; give the process and these lines."""
    with subprocess.Popen(
        [sys.executable, "-m", "workers.supervisor", "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, **settings.environment()},
        start_new_session=True,
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield process, lines


@pytest.mark.timeout(300)
def test_up_in_the_foreground_ends_politely_on_ctrl_c(settings):
    """Ctrl-C ends workers by TERM and the broker last; the same state can come up again afterwards, with its data."""
    with in_the_foreground(settings) as (process, lines):
        listen = socket_path(settings.state)
        answered = embedded.ping(listen)
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=100)

    assert process.returncode == 0, "".join(lines) + rest
    assert answered
    assert not embedded.ping(listen)
    assert rest.splitlines()[-1] == "Stopped."
    log = (settings.logs_dir / "supervisord.log").read_text().splitlines()
    stopped = [line.split("stopped: ")[1].split()[0] for line in log if "stopped: " in line]
    assert stopped[-1] == "broker"
    assert set(stopped) == PROGRAMS
    assert "worker: Warm shutdown" in (settings.logs_dir / "fleet-1.log").read_text()
    with Journal.open(settings.database_url) as journal:
        assert journal.read(stock.workers) == []


@pytest.mark.timeout(300)
def test_up_in_the_foreground_stops_everything_when_its_supervisor_is_killed(settings):
    """Nobody would watch these programs any more: they end, it says so, and its exit code is no success."""
    with in_the_foreground(settings) as (process, _):
        holders = [processes.name_of(pid) for _, pid in supervisor.processes(settings).values()]
        os.kill(supervisor.call(settings, "getPID"), signal.SIGKILL)
        rest, _ = process.communicate(timeout=100)

    assert process.returncode == 1, rest
    assert f"supervisord ended by itself; read {settings.logs_dir / 'supervisord.log'}." in rest.splitlines()
    assert len(holders) == len(PROGRAMS)
    assert all(processes.is_gone(holder) for holder in holders)


def test_down_with_nothing_up_says_so(settings):
    """It is no fault to stop what does not run."""
    done = run(settings, "down")

    assert (done.returncode, done.stdout) == (0, f"Nothing is up on {settings.state}.\n")


@pytest.mark.timeout(300)
def test_engine_that_lost_its_supervisor_is_told_refused_and_stopped(engine):
    """After a kill -9 of supervisord its programs go on; `up` and `doctor` name them, `down` ends every one."""
    assert wait(lambda: all(state == "RUNNING" for state, _ in supervisor.processes(engine).values()))
    left = {name: pid for name, (_, pid) in supervisor.processes(engine).items()}
    holders = [processes.name_of(pid) for pid in left.values()]
    os.kill(supervisor.call(engine, "getPID"), signal.SIGKILL)
    assert wait(lambda: not supervisor.is_up(engine))

    refused = run(engine, "up", "--detach")
    told = run(engine, "doctor")
    stopped = run(engine, "down")
    again = run(engine, "down")

    assert (refused.returncode, "certbridge down" in refused.stderr) == (1, True), refused.stderr
    for name, pid in left.items():
        assert f"{name} (process {pid})" in refused.stderr
        assert f"{name} (process {pid})" in " ".join(told.stdout.split())
        assert f"{name} (process {pid})" in stopped.stdout
    assert stopped.returncode == 0
    assert all(processes.is_gone(holder) for holder in holders)
    assert again.stdout == f"Nothing is up on {engine.state}.\n"
    fresh = run(engine, "up", "--detach")
    assert fresh.returncode == 0, fresh.stderr


def test_down_leaves_other_states_and_hand_started_workers_alone(settings, folder):
    """Only what a supervisor started on this very state is an engine that was left behind."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    marks = {"SUPERVISOR_GROUP_NAME": "workers", "SUPERVISOR_PROCESS_NAME": "fleet-1"}
    other = {**os.environ, **marks, "CERTBRIDGE_STATE": str(folder / "other")}
    by_hand = {**os.environ, **settings.environment()}
    ours = {**by_hand, **marks}
    with (
        subprocess.Popen(sleeper, env=other) as first,
        subprocess.Popen(sleeper, env=by_hand) as second,
        subprocess.Popen(sleeper, env=ours) as third,
    ):
        assert wait(lambda: bool(strays.find(settings)))

        found = strays.find(settings)
        strays.stop(found, lambda _: None)

        assert [(one.name, one.pid) for one in found] == [("fleet-1", third.pid)]
        assert third.wait(10) == -signal.SIGTERM
        assert (first.poll(), second.poll()) == (None, None)
        first.kill()
        second.kill()


def test_down_stops_a_broker_that_lost_its_supervisor(settings):
    """A broker alone, which has written over its environment, is found by its socket."""
    with embedded.EmbeddedServer(settings.valkey_dir, socket_path(settings.state)):
        refused = run(settings, "up", "--detach")
        done = run(settings, "down")

        assert (refused.returncode, "certbridge down" in refused.stderr) == (1, True), refused.stderr
        assert done.returncode == 0
        assert not embedded.ping(socket_path(settings.state))


def test_broker_that_does_not_answer_is_told_before_anything_runs(settings):
    """With the operator's URL nothing is started in its place; the message names the variable, not the password."""
    url = "redis://:secret@127.0.0.1:1/0"

    done = run(Settings.load({}, **{**settings.model_dump(exclude_none=True), "broker_url": url}), "up", "--detach")

    assert done.returncode == 1
    assert "CERTBRIDGE_BROKER_URL" in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert not supervisor.is_up(settings)
