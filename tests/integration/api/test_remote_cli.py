"""The command line over the API: the same outputs, exit codes, sentences and remedies as on the machine itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import NoKeyringError, PasswordDeleteError

from api.cli import elsewhere
from api.client import Client, Target, check_url
from tests.integration.api.remote_world import far_side, served
from workflows.errors import CertbridgeError, InputError
from workflows.people import Permission


@pytest.fixture
def url(seeded) -> Iterator[str]:
    """Give the address of a real server."""
    with served(seeded.app) as address:
        yield address


@pytest.fixture
def there(seeded, url, monkeypatch):
    """Give a function that runs a command over the API as somebody."""
    return far_side(seeded, url, monkeypatch)


class Memory(KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        self.kept[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        """Return it."""
        return self.kept.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        """Forget it."""
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("none")


class Broken(Memory):
    """A keyring that no desktop stands behind; it fails as `keyring` does in a container."""

    def set_password(self, *_: str) -> None:
        """Fail."""
        raise NoKeyringError("no backend")

    get_password = delete_password = set_password  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def ring():
    """Give a keyring of this test's own, so that nobody's is touched."""
    before, mine = keyring.get_keyring(), Memory()
    keyring.set_keyring(mine)
    yield mine
    keyring.set_keyring(before)


def both(seeded, there, *words: str):
    """Return what a command says on the machine and over the API: exit code, output."""
    here, far = seeded.world.say(*words), there(*words)
    return (here.exit_code, here.stdout), (far.exit_code, far.stdout)


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "list"),
        ("runs", "list", "-o", "json"),
        ("runs", "show", "@latest"),
        ("runs", "show", "@latest", "-o", "json"),
        ("journal", "show", "@latest"),
        ("journal", "show", "@latest", "-o", "json"),
        ("runs", "pause", "@latest", "--preview"),
        ("runs", "resume", "@latest", "--preview"),
        ("runs", "watch", "@latest"),
        ("plan",),
    ],
)
def test_commands_say_the_same_as_on_the_machine(seeded, there, words):
    seeded.waiting_run()
    here, far = both(seeded, there, *words)
    assert far == here
    assert here[1]


def test_a_run_is_planned_started_paused_and_cancelled(seeded, there):
    seeded.survey()
    seeded.world.beat()
    started = there("run", "--yes")
    assert started.exit_code == 0, started.stderr
    run = started.stdout.strip()
    assert seeded.journal.state(run).requested_by == "olga"
    assert "seoul" in there("runs", "pause", run, "--reason", "lunch").stdout
    assert seeded.journal.state(run).lanes["seoul"].status == "paused"
    assert "goes on" in there("runs", "resume", run, "--lane", "seoul").stdout
    refused = there("runs", "cancel", run)
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert there("runs", "cancel", run, "--yes").exit_code == 0
    assert seeded.journal.state(run).lanes["seoul"].status == "cancelled"


def test_problems_are_the_errors_of_the_machine(seeded, there):
    seeded.survey()
    seeded.world.beat()
    there("run", "--yes")
    here, far = seeded.world.say("run", "--yes"), there("run", "--yes")
    assert (far.exit_code, far.stderr.splitlines()[-2:]) == (here.exit_code, here.stderr.splitlines()[-2:])
    unknown = there("runs", "show", "nothing")
    assert (unknown.exit_code, "There is no run nothing" in unknown.stderr, "→" in unknown.stderr) == (2, True, True)
    denied = there("run", "--yes", who="viola")
    assert (denied.exit_code, "may not do this" in denied.stderr) == (1, True)


def test_journal_is_verified_and_exported_by_who_may(seeded, there, tmp_path):
    run = seeded.waiting_run()
    whole = there("journal", "verify", run, who="audrey")
    assert (whole.exit_code, "the chain is whole" in whole.stdout) == (0, True)
    out = tmp_path / "out.ndjson"
    assert there("journal", "export", run, "--out", str(out), who="audrey").exit_code == 0
    head, *events = (json.loads(line) for line in out.read_text().splitlines())
    assert (head["run"], [one["n"] for one in events][:2]) == (run, [1, 2])
    assert there("journal", "verify", run).exit_code == 1
    assert there("runs", "report", run, "--out", str(tmp_path / "r.html"), who="viola").exit_code == 0
    assert run in (tmp_path / "r.html").read_text()


def test_gates_are_seen_decided_and_their_requests_fetched(seeded, there, tmp_path):
    run = seeded.waiting_run("seoul", by="olga")
    assert run in there("gates", "list", who="anna").stdout
    shown = there("gates", "show", who="anna")
    assert (shown.exit_code, "digest" in shown.stdout, "callbridge" in shown.stdout) == (0, True, True)
    denied = there("gates", "approve", "--yes")
    assert (denied.exit_code in {1, 2}, seeded.journal.state(run).lanes["seoul"].status) == (True, "waiting")
    done = there("gates", "approve", run, "--gate", "sign", "--yes", who="anna")
    assert (done.exit_code, "approved sign of lane seoul" in done.stdout) == (0, True), done.stderr
    again = there("gates", "reject", run, "--reason", "no", "--yes", who="anna")
    assert (again.exit_code, "decided" in again.stderr) == (2, True)
    out = tmp_path / "csr"
    fetched = there("gates", "csr", run, "--out", str(out))
    assert (fetched.exit_code, any(out.glob("*.csr"))) == (0, True), fetched.stderr
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing")
    refused = there("gates", "deliver", "--run", run, str(junk))
    assert (refused.exit_code, "junk.pem" in refused.stderr) == (2, True), refused.stdout


@pytest.mark.parametrize(
    "words", [("doctor",), ("db", "migrate"), ("up",), ("down",), ("worker", "fleet"), ("beat",), ("trust", "cms1")]
)
def test_what_needs_the_machine_says_so(there, words):
    refused = there(*words)
    assert (refused.exit_code, "machine of the engine" in refused.stderr) == (2, True)
    assert "--local" in refused.stderr


def test_login_keeps_the_token_in_the_keyring_and_logout_forgets_it(seeded, url, ring, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    token = seeded.token("olga")
    done = seeded.world.say("login", url, "--token-stdin", answer=f"{token}\n")
    assert (done.exit_code, done.stdout) == (0, f"Logged in to {url} as olga; the token is in the keyring.\n")
    assert ring.kept == {("certbridge", url): token}
    files = [path.read_text() for path in (tmp_path / "config").rglob("*") if path.is_file()]
    assert [token in text for text in files] == [False]
    run = seeded.journal.runs(limit=1)
    assert (seeded.world.say("runs", "list", "-o", "json").stdout, run) == ("[]\n", [])
    assert seeded.world.say("doctor").exit_code == 2
    assert seeded.world.say("--local", "runs", "list", "-o", "json").exit_code == 0
    assert seeded.world.say("logout").stdout == f"Logged out of {url}.\n"
    assert ring.kept == {}
    elsewhere.Choice.remote = None
    assert elsewhere.target() is None


def test_without_a_keyring_a_private_file_is_told(seeded, url, monkeypatch, tmp_path):
    keyring.set_keyring(Broken())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = seeded.world.say("login", url, "--token-stdin", answer=f"{seeded.token('olga')}\n")
    file = tmp_path / "config" / "certbridge" / "token"
    assert f"the token is in the file {file}, which only you may read" in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert seeded.world.say("runs", "list").exit_code == 0
    seeded.world.say("logout")
    assert not file.exists()


@pytest.mark.parametrize("token", ["cbt_wrong", "", "two words"])
def test_a_token_that_opens_nothing_is_not_kept(seeded, url, ring, monkeypatch, tmp_path, token):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    refused = seeded.world.say("login", url, "--token-stdin", answer=f"{token}\n")
    assert (refused.exit_code, ring.kept) in [(1, {}), (2, {})]
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("url", ["http://certbridge.example.com", "ftp://x", "https://u:p@x", "nothing", "https://"])
def test_a_token_is_sent_to_no_address_in_the_clear(url):
    with pytest.raises(InputError):
        check_url(url)


def test_nobody_there_is_told_in_a_sentence():
    with (
        Client(Target(url="http://127.0.0.1:1", token="hidden")) as client,
        pytest.raises(CertbridgeError, match="does not answer") as away,
    ):
        client.get("/api/me")
    assert away.value.remedy()
    assert "hidden" not in repr(Target(url="u", token="hidden")) + str(away.value)


def test_a_token_for_reading_only_reads(there, seeded):
    seeded.waiting_run()
    assert there("runs", "list", scopes=(Permission.READ,)).exit_code == 0
    assert there("runs", "pause", "@latest", scopes=(Permission.READ,)).exit_code == 1


def test_an_address_where_nobody_is_leaves_standard_output_empty(tmp_path):
    """Each try again is not told there: it holds results, and scripts read it."""
    with socket.socket() as held:  # bound and not listening: refused at once
        held.bind(("127.0.0.1", 0))
        words = ["login", f"http://127.0.0.1:{held.getsockname()[1]}", "--token-stdin"]
        run = "from api import client; client._TRIES = 2; from api.cli import main; main()"
        own = {name: value for name, value in os.environ.items() if not name.startswith("CERTBRIDGE_")}
        done = subprocess.run(
            [sys.executable, "-c", run, *words],
            input="cbt_word\n",
            capture_output=True,
            text=True,
            check=False,
            env=own | {"XDG_CONFIG_HOME": str(tmp_path)},
        )
    assert (done.returncode != 0, done.stdout, "does not answer" in done.stderr) == (True, "", True)
