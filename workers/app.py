"""The Celery application of a worker process, and what is set up and torn down with it.

`celery -A workers.app worker -Q fleet` is started by `certbridge up` or `certbridge worker`. Each process has one
journal writer, one event loop with its connections, and a heartbeat row that tells the CLI that somebody is there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

import structlog
from celery import Celery, signals
from celery.exceptions import WorkerShutdown

from workers import control, failpoints, logs, processes, repair, webhooks
from workers.connections import Connections
from workers.context import Work
from workers.credentials import Credentials
from workers.keeping import JournalCircuit, JournalPins
from workers.login import Timings
from workers.loop import LoopThread
from workers.redaction import Redactor
from workers.transcript import Transcripts
from workflows.broker import broker_url, make_app
from workflows.errors import CertbridgeError, words_of
from workflows.journal import stock
from workflows.journal.store import Journal
from workflows.journal.vault import Vault
from workflows.settings import Settings, prepare_state

HEARTBEAT_S = 5.0

log = structlog.get_logger()


def create_app(settings: Settings) -> Celery:
    """Return the application with its tasks and the clock of beat; nothing is connected yet."""
    from workers import tasks

    app = make_app(broker_url(settings))
    tasks.register(app)
    # A broker that is away must not hold up a process that is to end: what was not sent still stands in the outbox.
    app.conf.task_publish_retry_policy = {**app.conf.task_publish_retry_policy, "errback": _give_up_at_the_end}
    app.conf.beat_schedule = {
        "reconcile": {
            "task": control.RECONCILE,
            "schedule": max(0.5, settings.reconcile_s / 6),
            "options": {"queue": "control", "expires": max(1.0, settings.reconcile_s)},
        }
    }
    app.conf.beat_schedule_filename = str(settings.state / "beat-schedule")
    return app


def _give_up_at_the_end(error: Exception, _interval_s: float) -> None:
    """End the tries at sending once this process is to end; kombu calls this before each new one."""
    if Running.ending.is_set():
        raise error


class Running:
    """What this worker process has open; empty in a process that only sends."""

    work: Work | None = None
    ending = threading.Event()
    """Set at TERM: nothing begins any more."""
    stopping = threading.Event()
    """Set when nothing runs any more."""
    threads: tuple[threading.Thread, ...] = ()


def work() -> Work:
    """Return this process's `Work`. Raises: RuntimeError outside a worker."""
    if Running.work is None:
        raise RuntimeError("this process is not a worker")
    return Running.work


def open_work(settings: Settings, redactor: Redactor) -> Work:
    """Return journal, loop, connections and vault of this process, opened; *redactor* learns every secret.

    Raises: SettingsError: failpoints that are none. JournalError.
    """
    prepare_state(settings)
    rules = failpoints.switch_on(settings.state)
    if rules:
        log.warning("failpoints_are_set", rules=[str(rule) for rule in rules])
    journal = Journal.open(settings.database_url)
    loop = LoopThread()
    loop.start()
    credentials = Credentials(settings.state / "credentials.yaml", learn=redactor.register)
    connections = Connections(
        credentials,
        JournalPins(journal),
        Transcripts(settings.transcripts_dir, redactor),
        JournalCircuit(journal),
        Timings(idle_s=settings.idle_s),
    )
    return Work(
        settings=settings,
        journal=journal,
        loop=loop,
        connections=connections,
        vault=Vault(settings.vault_dir),
        credentials=credentials,
        holder=processes.holder(),
        ending=Running.ending,
    )


def close_work(open_now: Work) -> None:
    """Close everything `open_work` opened."""
    open_now.loop.call(open_now.connections.close())
    open_now.loop.stop()
    open_now.journal.close()


def worker_info(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what a worker tells of itself: {"pid", "host"}, and "failpoints" when it is to fail on purpose."""
    rules = environ.get(failpoints.VARIABLE, "")
    return {"pid": os.getpid(), "host": socket.gethostname(), **({"failpoints": rules} if rules else {})}


def _heartbeat(open_now: Work, name: str, queues: tuple[str, ...]) -> None:
    info = worker_info(os.environ)
    while True:
        try:
            open_now.journal.write(lambda tx: stock.beat(tx, name, queues, info))
        except Exception as error:  # noqa: BLE001 - a heartbeat that fails must be tried again, whatever it was
            log.warning("heartbeat_failed", error=type(error).__name__)
        if Running.stopping.wait(HEARTBEAT_S):
            break
    try:
        open_now.journal.write(lambda tx: stock.leave(tx, name))
    except CertbridgeError as error:
        log.warning("leave_failed", error=type(error).__name__)


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:
    logs.set_up(redactor, settings.log_level)


@signals.worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    try:
        open_now = open_work(settings, redactor)
    except Exception as error:
        # Celery only logs what a handler raises, and would then take messages that nobody here can carry out.
        log.exception("worker_cannot_start")
        raise WorkerShutdown(1) from error
    try:
        # Whom the supervisor restarted finds what its predecessor held; nobody need wait for those leases to run out.
        repair.let_go_of_the_dead(open_now)
    except CertbridgeError as error:
        log.warning("repair_failed", error=words_of(error))
    queues = tuple(sender.app.amqp.queues.consume_from)
    threads = [threading.Thread(target=_heartbeat, args=(open_now, sender.hostname, queues), daemon=True)]
    if "control" in queues:
        threads.append(
            threading.Thread(target=control.watch_outbox, args=(open_now, sender.app, Running.stopping), daemon=True)
        )
        telling = webhooks.Sender(open_now.journal, open_now.vault, open_now.settings.destinations)
        threads.append(threading.Thread(target=telling.run, args=(Running.stopping,), daemon=True))
    Running.work = open_now
    Running.threads = tuple(threads)
    for thread in threads:
        thread.start()


@signals.worker_shutting_down.connect
def _end(**_: Any) -> None:
    Running.ending.set()  # from a signal handler: no lock may be taken here that this thread may hold already


@signals.worker_shutdown.connect
def _stop(**_: Any) -> None:
    Running.stopping.set()
    open_now, Running.work = Running.work, None
    for thread in Running.threads:
        thread.join(timeout=10)
    if open_now is not None:
        close_work(open_now)


redactor = Redactor()
settings = Settings.load()
app = create_app(settings)
