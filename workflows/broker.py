"""The Celery application: settings measured in engine-notes section 9, and nothing that a user may turn.

Celery is only the doorbell: at most once delivery, early ack, nothing kept in Redis that the journal does not know.
Task bodies live in `workers.tasks`; here is what every process shares, whether it sends or works.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from queue import Empty
from typing import Any, ClassVar

import kombu.transport.redis
from celery import Celery

from workflows.settings import Settings

KEY_PREFIX = "cr:"
CONTROL_QUEUE = "control"
VISIBILITY_TIMEOUT_S = 6 * 3600
# A short policy for processes that a person waits for; workers keep trying for two minutes (engine-notes 2.11).
SHORT_RETRY: dict[str, float] = {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
_LONG_RETRY: dict[str, float] = {"max_retries": 120, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1.0}


class Channel(kombu.transport.redis.Channel):
    """kombu 5.7.0 closes a channel twice when Redis goes away, and the second time kills the worker.

    Reading the outstanding BRPOP first lets the first close run to its end (engine-notes 2.11b). Remove this when a
    later kombu passes `test_worker_survives_loss_of_redis` without it.
    """

    def close(self) -> None:
        """Close the channel, the outstanding BRPOP first."""
        if self._in_poll:
            try:
                self._brpop_read()
            except (Empty, *self.connection_errors):
                pass
        super().close()


kombu.transport.redis.Transport.Channel = Channel

_TRANSPORT: dict[str, Any] = {
    "visibility_timeout": VISIBILITY_TIMEOUT_S,
    "global_keyprefix": KEY_PREFIX,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "health_check_interval": 25,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 3,
}


class Configuration:
    """The settings of engine-notes section 9, plus the clock of beat."""

    task_serializer: ClassVar = "json"
    result_serializer: ClassVar = "json"
    accept_content: ClassVar = ["json"]
    timezone: ClassVar = "UTC"
    # Nothing is ever unacked in Redis: a started message can never come back as a second one.
    task_acks_late: ClassVar = False
    worker_disable_prefetch: ClassVar = True
    worker_prefetch_multiplier: ClassVar = 1
    task_reject_on_worker_lost: ClassVar = False
    worker_deduplicate_successful_tasks: ClassVar = False
    worker_cancel_long_running_tasks_on_connection_loss: ClassVar = False
    # Chords need results; they are small ids and live three days.
    task_ignore_result: ClassVar = False
    task_track_started: ClassVar = True
    task_send_sent_event: ClassVar = True
    worker_send_task_events: ClassVar = True
    task_allow_error_cb_on_chord_header: ClassVar = False
    result_chord_join_timeout: ClassVar = 30.0
    result_expires: ClassVar = 3 * 86400
    result_chord_expires: ClassVar = 7 * 86400
    broker_connection_retry_on_startup: ClassVar = True
    broker_connection_max_retries: ClassVar = None
    task_publish_retry: ClassVar = True
    task_publish_retry_policy: ClassVar = _LONG_RETRY
    result_backend_always_retry: ClassVar = True
    result_backend_max_retries: ClassVar = 60
    redis_socket_timeout: ClassVar = 30
    redis_socket_connect_timeout: ClassVar = 5
    redis_retry_on_timeout: ClassVar = True
    redis_backend_health_check_interval: ClassVar = 25
    visibility_timeout: ClassVar = VISIBILITY_TIMEOUT_S
    result_backend_transport_options: ClassVar = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "global_keyprefix": KEY_PREFIX,
    }
    broker_transport_options: ClassVar = _TRANSPORT
    task_default_queue: ClassVar = "fleet"
    worker_hijack_root_logger: ClassVar = False
    worker_eta_task_limit: ClassVar = 1000


def make_app(broker_url: str, *, main: str = "certbridge") -> Celery:
    """Return a Celery application that talks to *broker_url* for messages and results."""
    app = Celery(main, broker=broker_url, backend=broker_url, set_as_current=True)
    app.config_from_object(Configuration)
    app.conf.broker_url = broker_url
    app.conf.result_backend = broker_url
    # Canvas looks the application up; the thread that empties the outbox must find this one, too.
    app.set_default()
    return app


def broker_url(settings: Settings) -> str:
    """Return the operator's URL, else that of the embedded server's unix socket."""
    return settings.broker_url or f"redis+socket://{socket_path(settings.state)}?virtual_host=0"


def socket_path(state: Path) -> Path:
    """Return where the embedded server's unix socket is for the state directory *state*.

    A socket's path must stay under 108 bytes (engine-notes section 5), so it lies in a short directory of its own,
    named after the state directory.
    """
    name = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:10]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and len(runtime) < 60 and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    return base / f"certbridge-{os.geteuid()}-{name}" / "valkey.sock"
