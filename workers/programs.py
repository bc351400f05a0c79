"""The programs of an engine on one machine, as values: command lines, and supervisord's configuration of them.

Broker, workers, beat, API, Flower; who starts and stops them is `supervisor`. Nothing here starts anything or reads the
machine. Where the numbers come from: engine-notes section 9 (threads, queues, TERM only) and section 6 (Flower).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workflows.broker import CONTROL_QUEUE
from workflows.settings import FLOWER_PREFIX, FLOWER_USER, Settings

# A worker is given this long to end its steps after TERM before it is killed; a step polls for 50 s at most, but an
# upload or a `pki csr` over a slow line takes as long as its plan allows.
STOP_WITHIN_S = 900
LOG_BYTES = "10MB"
LOG_BACKUPS = 5
# In this order they start; in the reverse order they stop, so that the broker outlives all who use it.
GROUPS = ("broker", "workers", "beat", "api", "flower")
_CELERY = (sys.executable, "-m", "celery", "-A", "workers.app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program under the supervisor. *first*: started at once; the others when the broker answers."""

    name: str
    group: str
    command: tuple[str, ...]
    stop_within_s: int
    first: bool = False


def worker_command(queue: str, *, name: str, threads: int, log_level: str) -> tuple[str, ...]:
    """Return the command line of a worker of *queue*; `control` is alone with itself (pool solo)."""
    pool = ("-P", "solo") if queue == CONTROL_QUEUE else ("-P", "threads", "-c", str(threads))
    # Nobody listens to gossip, and mingle makes every start a second longer; events for Flower go on.
    quick = ("--without-gossip", "--without-mingle")
    return (*_CELERY, "worker", "-Q", queue, *pool, "-n", f"{name}@%h", *quick, "--loglevel", log_level)


def beat_command(log_level: str) -> tuple[str, ...]:
    """Return the command line of beat, the clock."""
    return (*_CELERY, "beat", "--pidfile=", "--loglevel", log_level)


def api_command(settings: Settings) -> tuple[str, ...]:
    """Return the command line of API and pages, on loopback; a program of its own, since workers know no `api`."""
    return (sys.executable, "-m", "api", "serve", "--host", "127.0.0.1", "--port", str(settings.api_port))


def flower_command(configuration: Path) -> tuple[str, ...]:
    """Return the command line of Flower; its password stands in *configuration*, not here where `ps` shows it."""
    return (*_CELERY, "flower", f"--conf={configuration}")


def flower_configuration(settings: Settings, password: str, *, host: str = "127.0.0.1") -> str:
    """Return Flower's configuration: loopback, password, read only (it must be no second control plane).

    Its pages lie below the path under which the API shows them to people who have signed in.
    """
    values = {
        "address": host,
        "port": settings.flower_port,
        "url_prefix": FLOWER_PREFIX,
        "basic_auth": [f"{FLOWER_USER}:{password}"],
        "read_only": True,
        "persistent": True,
        "db": str(settings.state / "flower.db"),
        "state_save_interval": 60_000,
        "purge_offline_workers": 3600,
    }
    return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def flower_configuration_path(settings: Settings) -> Path:
    """Return where Flower's configuration is kept (mode 0600)."""
    return settings.state / "flowerconfig.py"


def threads_of(settings: Settings, queue: str) -> int:
    """Return how many threads a worker of *queue* has."""
    return {"fleet": settings.fleet_threads, "cluster": settings.cluster_threads}.get(queue, 1)


def programs(settings: Settings, *, socket: Path | None) -> tuple[Program, ...]:
    """Return all programs of this machine; *socket* is that of the embedded broker, None when the operator has one."""
    broker: tuple[Program, ...] = ()
    if socket is not None:
        command = (
            sys.executable,
            "-m",
            "workers.embedded",
            "--data",
            str(settings.valkey_dir),
            "--socket",
            str(socket),
        )
        broker = (Program(name="broker", group="broker", command=command, stop_within_s=60, first=True),)
    workers = [("fleet", f"fleet-{number}") for number in range(1, settings.fleet_workers + 1)]
    workers += [("cluster", "cluster"), (CONTROL_QUEUE, "control")]
    return (
        *broker,
        *(
            Program(
                name=name,
                group="workers",
                command=worker_command(
                    queue, name=name, threads=threads_of(settings, queue), log_level=settings.log_level
                ),
                stop_within_s=STOP_WITHIN_S,
            )
            for queue, name in workers
        ),
        Program(name="beat", group="beat", command=beat_command(settings.log_level), stop_within_s=30),
        Program(name="api", group="api", command=api_command(settings), stop_within_s=30),
        Program(
            name="flower",
            group="flower",
            command=flower_command(flower_configuration_path(settings)),
            stop_within_s=30,
        ),
    )


def supervisor_configuration(all_programs: Sequence[Program], *, socket: Path, user: str = "") -> str:
    """Return supervisord's configuration, for a supervisord that is started in the state directory.

    Paths are relative to it: supervisord expands its own %(here)s twice, so a "%" in the path would stop it.
    *user* silences supervisord's warning when it runs as root on purpose. The environment (which may hold the
    database's password) is inherited, not written here.
    """
    parts = [
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            pidfile="supervisord.pid",
            logfile="logs/supervisord.log",
            logfile_maxbytes=LOG_BYTES,
            logfile_backups=str(LOG_BACKUPS),
            childlogdir="logs",
            umask="077",
            **({"user": user} if user else {}),
        ),
        _section("unix_http_server", file=_literal(str(socket)), chmod="0700"),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    for priority, group in enumerate(GROUPS, start=1):
        members = [program for program in all_programs if program.group == group]
        if not members:
            continue
        names = ",".join(program.name for program in members)
        parts.append(_section(f"group:{group}", programs=names, priority=str(priority)))
        parts.extend(_program(program) for program in members)
    return "\n".join(parts)


def _program(program: Program) -> str:
    return _section(
        f"program:{program.name}",
        command=_literal(shlex.join(program.command)),
        autostart=str(program.first).lower(),
        autorestart="true",
        startsecs="1",
        # A worker that cannot reach its broker or database is to go on trying, not to be given up.
        startretries="1000000",
        stopsignal="TERM",  # never QUIT: Celery's threads pool dies of it (engine-notes 2.13)
        stopwaitsecs=str(program.stop_within_s),
        redirect_stderr="true",
        stdout_logfile=f"logs/{program.name}.log",
        stdout_logfile_maxbytes=LOG_BYTES,
        stdout_logfile_backups=str(LOG_BACKUPS),
    )


def _section(name: str, **values: str) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _literal(text: str) -> str:
    return text.replace("%", "%%")
