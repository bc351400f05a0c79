"""`certbridge doctor`: every fault with its remedy, and exit 1 as long as there is one."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from workers.app import worker_info
from workers.embedded import EmbeddedServer, process_id
from workers.failpoints import VARIABLE
from workflows.broker import socket_path
from workflows.facts import DatabaseState, NodeFacts
from workflows.journal import Journal, stock
from workflows.settings import Settings, prepare_state

FLEET = """\
fleet: example
release: '3.9'
defaults: {credential: cms, interface: a}
clusters:
- name: seoul
  nodes:
  - {name: cms1, address: 127.0.0.1}
  certificates:
  - name: web
    services: [webadmin]
    subject: {CN: cms1.example.com}
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILKQgPz4PGoxbaICz/8X3TOMver7ssaY60g1kXdtFdIn"


def doctor(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `certbridge doctor` on the state of *settings*."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CERTBRIDGE_")}
    return subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", "doctor", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
        env=own | settings.environment() | {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"},
    )


def verdicts(done: subprocess.CompletedProcess[str]) -> set[tuple[str, str]]:
    """Return (verdict, what) of every line that is a finding."""
    rows = [line for line in done.stdout.splitlines() if not line.startswith("        →")]
    return {(line[:6].strip(), line[8:].split(":")[0]) for line in rows}


@pytest.fixture
def fleet(settings: Settings) -> Settings:
    """Give settings with an inventory of one node."""
    settings.fleet.write_text(FLEET)
    return settings


def test_fresh_machine_is_told_what_is_missing(fleet):
    """Nothing runs and nothing is known: each gap is a finding with a remedy, and all of them come in one go."""
    done = doctor(fleet)

    found = verdicts(done)
    assert done.returncode == 1
    assert {("FAILED", "broker"), ("FAILED", "workers"), ("FAILED", "credentials"), ("FAILED", "host keys")} <= found
    assert {("ok", "inventory"), ("ok", "database"), ("note", "clocks")} <= found
    assert done.stdout.count("FAILED") <= done.stdout.count("→")
    assert "CERTBRIDGE_CREDENTIAL_CMS" in done.stdout
    assert "certbridge trust cms1" in done.stdout


def test_every_server_without_a_key_is_in_the_remedy(fleet):
    """A few are named whole; for many there is one word that means all of them."""
    node = "  - {name: cms1, address: 127.0.0.1}\n"
    for number, words in ((4, "certbridge trust cms1 cms2 cms3 cms4`"), (6, "certbridge trust --all`")):
        nodes = "".join(node.replace("cms1", f"cms{one}").replace("0.1}", f"0.{one}}}") for one in range(1, number + 1))
        fleet.fleet.write_text(FLEET.replace(node, nodes))
        assert words in doctor(fleet).stdout


def test_broker_that_hangs_is_told_from_none(fleet):
    """It holds its socket and says nothing: to start it again by `up` alone would not help."""
    prepare_state(fleet)
    with EmbeddedServer(fleet.valkey_dir, socket_path(fleet.state)):
        number = process_id(socket_path(fleet.state))
        assert number
        os.kill(number, signal.SIGSTOP)
        try:
            said = doctor(fleet).stdout
        finally:
            os.kill(number, signal.SIGCONT)
    assert "the embedded broker runs, but does not answer" in said
    assert "the embedded broker does not run" in doctor(fleet).stdout


def test_machine_in_order_passes_every_check(fleet):
    """With broker, workers, credential, pin and survey there, nothing fails and the exit code is 0."""
    prepare_state(fleet)
    credentials = fleet.state / "credentials.yaml"
    credentials.write_text("cms: {username: admin, password: secret-word}\n")
    credentials.chmod(0o600)
    with EmbeddedServer(fleet.valkey_dir, socket_path(fleet.state)), Journal.open(fleet.database_url) as journal:
        journal.write(lambda tx: stock.beat(tx, "one@here", ["fleet", "cluster", "control"], {"pid": 1}))
        journal.write(lambda tx: stock.pin(tx, "127.0.0.1", 22, KEY, by="test", verified=True))
        journal.write(lambda tx: stock.put_facts(tx, "cms1", facts(skew=2.0).to_json()))
        done = doctor(fleet)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert {
        ("ok", "broker"),
        ("ok", "workers"),
        ("ok", "credentials"),
        ("ok", "host keys"),
        ("ok", "clocks"),
    } <= verdicts(done)
    assert "secret-word" not in done.stdout + done.stderr


def test_clock_that_is_off_fails(fleet):
    """A certificate may not be valid yet on a server whose clock is two minutes behind."""
    prepare_state(fleet)
    with Journal.open(fleet.database_url) as journal:
        journal.write(lambda tx: stock.put_facts(tx, "cms1", facts(skew=-120.0).to_json()))

    done = doctor(fleet)

    assert ("FAILED", "clocks") in verdicts(done)
    assert "cms1 is 120 s behind this machine" in done.stdout


def test_failpoints_of_a_worker_are_told_wherever_it_was_started(fleet):
    """Its own environment counts, not that of whoever asks: a worker may run on another machine."""
    prepare_state(fleet)
    rules = "after_effect:pki csr=kill9"
    with Journal.open(fleet.database_url) as journal:
        for name, environ in {"fleet-1@far": {VARIABLE: rules}, "fleet-2@far": {}}.items():
            journal.write(partial(stock.beat, worker=name, queues=["fleet"], info=worker_info(environ)))

    done = doctor(fleet)

    assert ("FAILED", "failpoints") in verdicts(done)
    (line,) = [line for line in done.stdout.splitlines() if "failpoints:" in line]
    assert "fleet-1@far" in line
    assert rules in line


def test_resting_credential_is_woken_on_request(fleet):
    """It is told until somebody says that it is mended; then it is awake, and the journal holds who did it."""
    prepare_state(fleet)
    with Journal.open(fleet.database_url) as journal:
        journal.write(lambda tx: stock.rest_credential(tx, "cms", "cms1 refused it"))
        told = doctor(fleet)
        woken = doctor(fleet, "--credential", "cms")
        left = journal.read(stock.resting)

    assert "cms rests, because a server refused it: cms1 refused it" in told.stdout
    assert "certbridge doctor --credential cms" in told.stdout
    assert "cms is awake again" in woken.stdout
    assert left == {}


def test_open_state_directory_fails(fleet):
    """Others could read keys and passwords there; the remedy is the command that closes it."""
    fleet.state.mkdir(mode=0o755)
    fleet.state.chmod(0o755)

    done = doctor(fleet)

    assert ("FAILED", "state") in verdicts(done)
    assert f"chmod 0700 {fleet.state}" in done.stdout


def test_wrong_inventory_is_a_finding_with_its_line(settings):
    """The other checks are still made."""
    settings.fleet.write_text(FLEET.replace("webadmin", "webadmim"))

    done = doctor(settings)

    assert {("FAILED", "inventory"), ("FAILED", "workers")} <= verdicts(done)
    assert "fleet.yaml:10: unknown service 'webadmim'\n" in done.stdout


def facts(*, skew: float) -> NodeFacts:
    """Return the facts of a server that tells nothing but its clock."""
    return NodeFacts(
        node="cms1",
        at="2026-11-23T12:00:00+00:00",
        release="3.9",
        hostname="cms1",
        clock_skew_s=skew,
        database=DatabaseState.DISABLED,
        database_primary="",
        services=(),
        trust=(),
        files=(),
        ports=(),
    )
