"""Bad disks under SQLite, transcripts and vault: what cannot be written down is not done, and nothing written is lost.

Real processes under `strace`, which lets a system call fail, or kills at the N-th one (faults.md finding 10; F12). The
checks: each command that went out has its intent in the journal; what was answered as written is there; the database
is whole; and when there is room again the work ends by itself, each changing line sent once.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator import pki
from tests import empty_journal
from tests.integration.journal.scribe import COMMANDS
from tests.integration.journal.world import let_leases_run_out, make_run, must_take
from workers.redaction import Redactor
from workers.transcript import Transcripts, check
from workflows.errors import RecordsAway
from workflows.journal import Journal, Kind
from workflows.journal.vault import Vault

ROOT = Path(__file__).parents[3]
LONG = os.environ.get("CERTBRIDGE_CHAOS") == "1"
STRACE = ("strace", "-f", "-qq", "-o", os.devnull)
# Stops at the traced calls only, so that the rest runs at its usual speed; but strace 6.1 sends no signal then.
FAST = "--seccomp-bpf"
SYNCS = 50  # two for each of the 25 lines that a scribe writes down, and some of its own
KILLED_AT = itertools.count(1) if LONG else (2, 3, 11, 24)
FAULTS = ("fdatasync:error=EIO:when=12..20", "pwrite64:error=ENOSPC:when=40..60", "pwrite64:error=EIO:when=60+40")


def traced(inject: str, module: str, *arguments: str, only: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run *module* with the fault *inject* ("call:what:when"), of files *only* if any are named."""
    call = inject.partition(":")[0]
    paths = [word for path in only for word in ("-P", path)]
    return subprocess.run(
        [
            *STRACE,
            *([] if "signal=" in inject else [FAST]),
            *paths,
            "-e",
            f"trace={call}",
            "-e",
            f"inject={inject}",
            sys.executable,
            "-m",
            f"tests.integration.journal.{module}",
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def checked(database: Path, log: Path, told: str, name: str) -> None:
    """Check what the process *name* left behind against what it told, and against the server's log."""
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with Journal.open(f"sqlite:///{database}") as journal:
        assert journal.verify("r1") == ()
        events = [event for event in journal.events("r1") if event.step == name]
        intents = [event.data["line"] for event in events if event.kind is Kind.INTENT]
        outcomes = [event.data["line"] for event in events if event.kind is Kind.OUTCOME]
    acknowledged = [int(line.split()[1]) for line in told.splitlines() if line.startswith("ok ")]
    sent = [int(line.split()[1]) for line in log.read_text().splitlines() if line.split()[0] == name]
    assert len(set(intents)) == len(intents)
    assert set(sent) <= set(intents), "a command went out that the journal does not know"
    assert set(acknowledged) <= set(outcomes), "an outcome that was answered as written is gone"
    assert len(intents) - len(sent) <= told.count("failed") + 1


@pytest.mark.longer
@pytest.mark.needs_strace
def test_killed_at_any_write_to_the_disk(tmp_path: Path) -> None:
    """`kill -9` at the N-th sync of SQLite: the database is whole, and the next process goes on with the same lane."""
    database, log = tmp_path / "journal.db", tmp_path / "server.log"
    with Journal.open(f"sqlite:///{database}") as journal:
        make_run(journal)
    for number in KILLED_AT:
        name = f"s{number}"
        done = traced(f"fdatasync:signal=KILL:when={number}", "scribe", f"sqlite:///{database}", str(log), name)
        if LONG and number > SYNCS and done.returncode == 0:
            break  # it had ended before: a process was killed at each of its syncs
        assert done.returncode != 0
        assert "done" not in done.stdout
        if log.exists():
            checked(database, log, done.stdout, name)
    with Journal.open(f"sqlite:///{database}") as journal:
        let_leases_run_out(journal)
        assert must_take(journal, "after").attempt == 1


@pytest.mark.needs_strace
@pytest.mark.parametrize("fault", FAULTS)
def test_no_command_goes_out_that_could_not_be_written_down(tmp_path: Path, fault: str) -> None:
    """Disk full, or an error of the disk, for a while: those lines are not sent, and later ones are."""
    database, log = tmp_path / "journal.db", tmp_path / "server.log"
    with Journal.open(f"sqlite:///{database}") as journal:
        make_run(journal)
    done = traced(fault, "scribe", f"sqlite:///{database}", str(log), "s1")
    assert done.returncode == 0, done.stderr
    assert "failed" in done.stdout
    assert f"done {COMMANDS}" in done.stdout
    checked(database, log, done.stdout, "s1")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Give a file of keys for simulated servers."""
    pool = pki.KeyPool.of_size(12)
    made: list[rsa.RSAPrivateKey] = [next(pool._keys) for _ in range(12)]
    path = tmp_path / "keys.pem"
    # The journal is there before the disk goes bad: the faults are counted from the first write of the run.
    (tmp_path / "state").mkdir(mode=0o700)
    empty_journal.put(f"sqlite:///{tmp_path / 'state' / 'journal.db'}")
    path.write_bytes(b"".join(pki.key_to_pem(key) for key in made))
    return path


def renewed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the renewal told, which must have come to its end with each changing line sent once."""
    assert "{" in done.stdout, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout[done.stdout.index('{"errors"') :])
    assert set(told["sent"].values()) == {1}, told["sent"]
    assert {line: told["intents"][line] for line in told["sent"]} == told["sent"]
    assert (told["proved"], told["chain"]) == (True, [])
    assert "not done" not in told["errors"]
    return told


@pytest.mark.needs_strace
def test_a_renewal_on_a_disk_that_fails_again_and_again(tmp_path: Path, keys: Path) -> None:
    """Every fifth commit fails: nothing is put back for that, and each changing line is sent once (F12).

    Before, the failed write of an outcome made the engine take the node's changes back, again and again: `webadmin
    disable` went out 16 times.
    """
    told = renewed(traced("fdatasync:error=EIO:when=20+5", "renewer", str(tmp_path), str(keys)))
    assert any("disk I/O error" in error for error in told["errors"])


@pytest.mark.needs_strace
def test_a_renewal_on_a_disk_that_is_full_for_a_while(tmp_path: Path, keys: Path) -> None:
    """Nothing begins while the journal cannot be written; with room again it goes on (F12)."""
    told = renewed(traced("pwrite64:error=ENOSPC:when=150..180", "renewer", str(tmp_path), str(keys)))
    assert any("disk is full" in error for error in told["errors"])


@pytest.mark.needs_strace
def test_a_renewal_whose_transcript_cannot_be_written_for_a_while(tmp_path: Path, keys: Path) -> None:
    """No line is sent that the transcript cannot tell of; the node is not put back for it."""
    transcript = tmp_path / "transcripts" / "20261123-1200-test" / "cmscore1.jsonl"
    done = traced("write:error=ENOSPC:when=40..52", "renewer", str(tmp_path), str(keys), only=[str(transcript)])
    assert renewed(done)["failed"] == []
    assert "records_away" in done.stdout


def test_a_full_disk_is_told_by_the_transcript(tmp_path: Path) -> None:
    """The kernel's own "no space left": a sentence with the file and a remedy, and nothing counted as written."""
    transcripts = Transcripts(tmp_path, Redactor())
    path = transcripts.path("r1", "cmscore1")
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    transcript = transcripts.open("r1", "cmscore1")
    with pytest.raises(RecordsAway, match=r"cmscore1\.jsonl cannot be written \(No space left on device\)") as refused:
        transcript.sent(b"pki csr x CN:y\n")
    assert "Make room" in refused.value.remedy()
    transcript.close()
    path.unlink()
    transcript.sent(b"pki list\n")
    transcript.close()
    assert path.read_text().count("pki") == 1
    assert check(path, transcript.session, transcript.digest())


def test_a_torn_line_of_a_transcript_spoils_no_other(tmp_path: Path) -> None:
    """What a full disk left of a line stands alone, and the session's other lines can still be proved."""
    transcript = Transcripts(tmp_path, Redactor()).open("r1", "cmscore1")
    transcript.note("before")
    with transcript.path.open("ab") as file:
        file.write(b'{"at": "2026-11-26T00:0')
    transcript._torn = True
    transcript.note("after")
    transcript.close()
    assert check(transcript.path, transcript.session, transcript.digest())
    assert [json.loads(line)["text"] for line in transcript.path.read_text().splitlines() if line.endswith("}")] == [
        "before",
        "after",
    ]


@pytest.mark.needs_strace
def test_a_vault_key_is_never_half_written(tmp_path: Path) -> None:
    """With no room for the vault's key nothing is sealed, and no broken key file stays for the next try."""
    program = (
        "import sys; from pathlib import Path; from workflows.journal.vault import Vault;"
        "sys.stdout.write(Vault(Path(sys.argv[1])).seal('row', b'secret').hex())"
    )
    failed = subprocess.run(
        [*STRACE, "-e", "trace=fsync", "-e", "inject=fsync:error=ENOSPC", sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert failed.returncode != 0
    assert failed.stdout == ""
    assert list(tmp_path.iterdir()) == []
    vault = Vault(tmp_path)
    assert vault.unseal("row", vault.seal("row", b"secret")) == b"secret"
