"""Up and down: everything on one machine, kept running by supervisord (docs/adr/0011).

`up` writes supervisord's configuration into the state directory, starts the broker, waits until it answers, brings the
database's schema up to date, and only then starts workers, beat, API and Flower. `down` stops them in the reverse order
by TERM and waits: a worker ends the steps it has, and the broker goes last. What the programs are stands in `programs`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import redis
from supervisor.xmlrpc import SupervisorTransport

from workers import embedded, programs, strays
from workflows.broker import socket_path
from workflows.errors import CertbridgeError, EngineError, SettingsError
from workflows.journal import accounts, stock
from workflows.journal.store import Journal
from workflows.settings import FLOWER_PREFIX, PREFIX, Settings, prepare_state

BROKER_WITHIN_S = 30.0
WORKERS_WITHIN_S = 60.0
API_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.05


def say(text: str) -> None:
    """Print a line for the person who started us."""
    print(text, flush=True)  # noqa: T201 - these commands talk to a person


# ── the supervisor that runs, if any ─────────────────────────────────────────────────────────────────────────────────
def control_socket(settings: Settings) -> Path:
    """Return supervisord's socket; beside the broker's, where paths are short and nobody else may look."""
    return socket_path(settings.state).with_name("supervisor.sock")


def call(settings: Settings, method: str, *arguments: Any) -> Any:
    """Return what supervisord answers to *method*, None when nobody answers.

    Raises: xmlrpc.client.Fault: it refuses, for example because it is shutting down.
    """
    transport = SupervisorTransport(None, None, serverurl=f"unix://{control_socket(settings)}")
    with xmlrpc.client.ServerProxy("http://supervisor", transport=transport) as proxy:
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError):
            return None


def is_up(settings: Settings) -> bool:
    """Return whether a supervisor runs on this state."""
    try:
        return call(settings, "getState") is not None
    except xmlrpc.client.Fault:  # it is on its way down
        return True


def processes(settings: Settings) -> dict[str, tuple[str, int]]:
    """Return (state name, process id) of each program by name; nothing when nobody is up."""
    found = call(settings, "getAllProcessInfo") or ()
    return {one["name"]: (one["statename"], one["pid"]) for one in found}


# ── up ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
def up(settings: Settings, *, detach: bool) -> int:
    """Start everything; stay until TERM or Ctrl-C unless *detach*. Returns the exit code.

    Raises: EngineError (running already, broker or workers do not start), SettingsError, JournalError.
    """
    prepare_state(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started so far is to be taken down again
    with _starting(settings):
        if is_up(settings):
            raise EngineError(
                f"certbridge is up already on {settings.state} (process {call(settings, 'getPID')})",
                remedy="Use it, or stop it with `certbridge down`.",
            )
        supervisord = _start(settings)
    if detach:
        say("Running in the background; `certbridge down` stops it.")
        return 0
    return _stay(settings, supervisord)


@contextlib.contextmanager
def _starting(settings: Settings) -> Iterator[None]:
    lock = filelock.FileLock(settings.state / "up.lock")
    try:
        with lock.acquire(blocking=False):
            yield
    except filelock.Timeout:
        raise EngineError(
            f"another `certbridge up` is starting on {settings.state}", remedy="Wait until it says that it is ready."
        ) from None


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    listen = None if settings.broker_url else socket_path(settings.state)
    embedded.prepare_socket_directory(control_socket(settings))
    _check_no_strays(settings)
    if listen is not None:
        say(f"Broker: {embedded.find_server()}, {listen}")
    _check_port_free(settings.flower_port, "Flower", "flower_port")
    _check_port_free(settings.api_port, "the API", "api_port")
    _write_flower_configuration(settings)
    everything = programs.programs(settings, socket=listen)
    # supervisord warns about running as root unless it is told that this is meant.
    user = pwd.getpwuid(0).pw_name if os.geteuid() == 0 else ""
    configuration = settings.state / "supervisord.conf"
    _write_private(
        configuration,
        programs.supervisor_configuration(everything, socket=control_socket(settings), user=user),
    )
    supervisord = _start_supervisord(settings, configuration)
    try:
        _wait_for_broker(settings, listen, supervisord)
        Journal.open(settings.database_url).close()
        say(f"Journal: {settings.journal_path if settings.is_sqlite else 'PostgreSQL'}, schema up to date")
        workers = [program.name for program in everything if program.group == "workers"]
        call(settings, "startProcessGroup", "workers", False)
        call(settings, "startProcessGroup", "beat", False)
        call(settings, "startProcessGroup", "api", False)
        _wait_for_workers(settings, workers, supervisord)
        _wait_for_api(settings, supervisord)
        call(settings, "startProcessGroup", "flower", False)  # last: nobody waits for it
    except BaseException:
        supervisord.terminate()
        supervisord.wait()
        raise
    say(f"Workers: {', '.join(workers)}; clock: beat")
    say(f"Pages and API: http://127.0.0.1:{settings.api_port}/")
    if _nobody(settings):
        say("No account yet: make the first administrator with `certbridge users bootstrap`.")
    say(f"Flower: http://127.0.0.1:{settings.api_port}/{FLOWER_PREFIX}/ for who has signed in")
    say(f"Logs: {settings.logs_dir}")
    return supervisord


def _start_supervisord(settings: Settings, configuration: Path) -> subprocess.Popen[bytes]:
    log = settings.logs_dir / "supervisord.start.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **settings.environment()},
            cwd=settings.state,
            start_new_session=True,  # a Ctrl-C is for `up`, which then stops the rest in order
        )
    _wait("supervisord", lambda: is_up(settings), 20.0, process, log)
    return process


def _wait(
    what: str, ready: Callable[[], bool], within_s: float, supervisord: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        if supervisord.poll() is not None or time.monotonic() > deadline:
            tail = " / ".join(log.read_text(errors="replace").splitlines()[-3:]) if log.exists() else "no log"
            raise EngineError(f"{what} did not start: {tail}", remedy=f"Read {log}.")
        time.sleep(_LOOK_AGAIN_S)


def _wait_for_broker(settings: Settings, listen: Path | None, supervisord: subprocess.Popen[bytes]) -> None:
    if listen is not None:
        _wait(
            "the broker", lambda: embedded.ping(listen), BROKER_WITHIN_S, supervisord, settings.logs_dir / "broker.log"
        )
        return
    say(f"Broker: the operator's, {check_broker(settings.broker_url or '')}")


def check_broker(url: str) -> str:
    """Return name and version of the server at *url*, e.g. "valkey 9.1.2". Raises: EngineError: away, or too old."""
    address = url.replace("redis+socket://", "unix://").partition("?")[0]
    try:
        with contextlib.closing(redis.Redis.from_url(address, socket_connect_timeout=5, socket_timeout=5)) as client:
            info: dict[str, Any] = client.info("server")
    except (redis.RedisError, OSError, ValueError) as error:
        raise EngineError(
            f"the broker of CERTBRIDGE_BROKER_URL does not answer ({type(error).__name__})",
            remedy="Start it, correct CERTBRIDGE_BROKER_URL, or unset it to use the embedded broker.",
        ) from error
    name = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < embedded.MINIMUM:
        raise EngineError(f"the broker is {name} {version}", remedy="Use Redis or Valkey 6.2 or later.")
    return f"{name} {version}"


def _wait_for_workers(settings: Settings, names: Sequence[str], supervisord: subprocess.Popen[bytes]) -> None:
    with Journal.open(settings.database_url) as journal:

        def all_alive() -> bool:
            now = processes(settings)
            alive = {row.info.get("pid") for row in journal.read(stock.workers)}
            return all(now.get(name, ("", 0))[1] in alive for name in names)

        _wait("the workers", all_alive, WORKERS_WITHIN_S, supervisord, settings.logs_dir / f"{names[0]}.log")


def _wait_for_api(settings: Settings, supervisord: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        asking = http.client.HTTPConnection("127.0.0.1", settings.api_port, timeout=5)
        try:
            asking.request("GET", "/healthz")
            return asking.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asking.close()

    _wait("the API", answers, API_WITHIN_S, supervisord, settings.logs_dir / "api.log")


def _nobody(settings: Settings) -> bool:
    with Journal.open(settings.database_url) as journal:
        return journal.read(accounts.nobody)


def _stay(settings: Settings, supervisord: subprocess.Popen[bytes]) -> int:
    asked = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: asked.append(received))
    say("Ctrl-C stops it.")  # only now it does
    while not asked:
        if supervisord.poll() is not None:
            say(f"supervisord ended by itself; read {settings.logs_dir / 'supervisord.log'}.")
            _stop_strays(settings)  # an engine that nobody watches is not what was asked for
            return 1
        time.sleep(0.2)
    for number in (signal.SIGINT, signal.SIGTERM):  # a second one stops the waiting, not the polite end
        signal.signal(number, signal.default_int_handler)
    down(settings)
    supervisord.wait()
    return 0


def _check_no_strays(settings: Settings) -> None:
    found = strays.find(settings)
    if found:
        raise EngineError(
            f"an engine was left behind on {settings.state}: {strays.told(found)}",
            remedy="Stop it with `certbridge down`, then start it again.",
        )


def _check_port_free(port: int, who: str, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise SettingsError(
                f"port {port} on 127.0.0.1 is taken, so {who} cannot use it",
                remedy=f"Set {PREFIX}{setting.upper()} to a free port.",
                settings=(setting,),
            ) from None


def _write_flower_configuration(settings: Settings, host: str = "127.0.0.1") -> Path:
    """Write Flower's configuration with its password, which is made the first time, and return where it is."""
    kept, path = settings.flower_password_file, programs.flower_configuration_path(settings)
    if not kept.exists():
        _write_private(kept, secrets.token_urlsafe(24) + "\n")
    _write_private(path, programs.flower_configuration(settings, kept.read_text().strip(), host=host))
    return path


def _write_private(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    beside.replace(path)


# ── down ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def down(settings: Settings) -> int:
    """Stop everything politely and wait; 0 when it is over, 0 too when nothing was up."""
    if not is_up(settings):
        return _stop_strays(settings)
    with contextlib.suppress(xmlrpc.client.Fault):  # somebody else's `down` came first: then only wait
        for group in reversed(programs.GROUPS):
            _stop_group(settings, group)
        call(settings, "shutdown")
    while is_up(settings):
        time.sleep(_LOOK_AGAIN_S)
    with contextlib.suppress(OSError):  # the sockets are gone, so the directory is empty, or somebody else's
        control_socket(settings).parent.rmdir()
    say("Stopped.")
    return 0


def _stop_group(settings: Settings, group: str) -> None:
    """Send TERM to the programs of *group* and wait until they are gone, telling who is waited for."""
    members = {one["name"] for one in call(settings, "getAllProcessInfo") or () if one["group"] == group}
    if not members:
        return
    call(settings, "stopProcessGroup", group, False)
    began, said = time.monotonic(), False
    while left := [name for name in members if processes(settings).get(name, ("", 0))[1]]:
        if not said and time.monotonic() - began > 2:
            say(f"Waiting for {', '.join(sorted(left))} to end.")
            said = True
        time.sleep(_LOOK_AGAIN_S)


def _stop_strays(settings: Settings) -> int:
    found = strays.find(settings)
    if not found:
        say(f"Nothing is up on {settings.state}.")
        return 0
    say(f"An engine was left behind: {strays.told(found)}.")
    strays.stop(found, say)
    say("Stopped.")
    return 0


# ── one program in the foreground (systemd, containers) ──────────────────────────────────────────────────────────────
def become_worker(settings: Settings, queue: str, *, name: str, threads: int) -> None:
    """Turn this process into a worker of *queue*; returns never."""
    command = programs.worker_command(
        queue, name=name or queue, threads=threads or programs.threads_of(settings, queue), log_level=settings.log_level
    )
    _become(settings, command)


def become_beat(settings: Settings) -> None:
    """Turn this process into beat; returns never."""
    _become(settings, programs.beat_command(settings.log_level))


def become_flower(settings: Settings, host: str) -> None:
    """Turn this process into Flower; returns never. Its password lies in the state, where the API reads it."""
    prepare_state(settings)
    _become(settings, programs.flower_command(_write_flower_configuration(settings, host)))


def _become(settings: Settings, command: Sequence[str]) -> None:
    prepare_state(settings)
    os.chdir(settings.state)
    os.execve(command[0], list(command), {**os.environ, **settings.environment()})  # noqa: S606 - our own program


def main(words: Sequence[str]) -> int:
    """Carry out `python -m workers.supervisor up|down|worker|beat|flower …`."""
    parser = argparse.ArgumentParser(prog="workers.supervisor", description="Start and stop an engine on this machine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up").add_argument("--detach", action="store_true")
    verbs.add_parser("down")
    worker = verbs.add_parser("worker")
    worker.add_argument("queue", choices=("fleet", "cluster", "control"))
    worker.add_argument("--name", default="")
    worker.add_argument("--threads", type=int, default=0)
    verbs.add_parser("beat")
    verbs.add_parser("flower").add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args(words)
    try:
        settings = Settings.load()
        match arguments.verb:
            case "up":
                return up(settings, detach=arguments.detach)
            case "down":
                return down(settings)
            case "worker":
                become_worker(settings, arguments.queue, name=arguments.name, threads=arguments.threads)
            case "beat":
                become_beat(settings)
            case "flower":
                become_flower(settings, arguments.host)
    except CertbridgeError as error:
        print(error, *(f"→ {line}" for line in error.remedy().splitlines()), sep="\n", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        print("Not waited for; it goes on in the background.", file=sys.stderr)  # noqa: T201
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
