"""A worker that cannot work ends and is started again by its supervisor; it takes no messages that it would lose."""

import os
import socket
import subprocess

import redis

from workers.embedded import EmbeddedServer
from workers.programs import worker_command
from workflows.broker import KEY_PREFIX, broker_url, make_app, socket_path
from workflows.settings import prepare_state


def test_worker_without_its_journal_ends_and_takes_no_message(settings):
    """The database is away when the worker starts: it says so and ends with 1, and the message still waits."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        url = f"postgresql://certbridge:hidden-word@127.0.0.1:{nobody.getsockname()[1]}/journal"
        prepare_state(settings)
        listen = socket_path(settings.state)
        with EmbeddedServer(settings.valkey_dir, listen):
            app = make_app(broker_url(settings))
            app.send_task("survey", kwargs={"run": "r"}, queue="fleet", ignore_result=True)
            app.close()
            done = subprocess.run(
                worker_command("fleet", name="fleet-1", threads=2, log_level="INFO"),
                env={**os.environ, **settings.environment(), "CERTBRIDGE_DATABASE_URL": url},
                cwd=settings.state,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            with redis.Redis(unix_socket_path=str(listen)) as client:
                waiting = client.llen(f"{KEY_PREFIX}fleet")
    said = done.stdout + done.stderr
    assert (done.returncode, waiting, "worker_cannot_start" in said, "hidden-word" in said) == (1, 1, True, False), said
