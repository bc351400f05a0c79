"""OpenSSH's own programs against an appliance."""

import subprocess
from pathlib import Path

import pytest
from simulator_client import write_askpass

from simulator.fleet import FleetHandle

pytestmark = pytest.mark.needs_ssh


def _options(fleet: FleetHandle, directory: Path) -> list[str]:
    known = directory / "known_hosts"
    known.write_text(f"[{fleet.address('cmscore1')}]:2222 {fleet.host_key('cmscore1')}\n")
    return ["-F", "/dev/null", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes"]


def _run(
    program: str, fleet: FleetHandle, directory: Path, typed: str, *words: str, password: str | None = None
) -> "subprocess.CompletedProcess[str]":
    port = ["-P", "2222"] if program == "sftp" else ["-p", "2222"]
    target = f"{fleet.username}@{fleet.address('cmscore1')}"
    terminal = [word for word in words if word.startswith("-")]
    command = [word for word in words if not word.startswith("-")]
    return subprocess.run(
        [program, *terminal, *_options(fleet, directory), *port, target, *command],
        input=typed,
        capture_output=True,
        text=True,
        env=write_askpass(directory, fleet.password if password is None else password),
        timeout=30,
        check=False,
    )


def test_ssh_with_a_pipe_lists_and_inspects(fleet: FleetHandle, tmp_path: Path) -> None:
    """Lines piped into ssh without a terminal are answered in order, without echo."""
    done = _run("ssh", fleet, tmp_path, "pki list\npki inspect turn.crt\nexit\n", "-T")
    assert done.returncode == 0
    assert done.stdout.startswith(
        "Welcome to the CMS VM\ncmscore1> User supplied certificates and keys:\ncallbridge.key\n"
    )
    assert "File contains a PEM encoded certificate\nCertificate:\n" in done.stdout


def test_ssh_with_a_terminal_echoes_what_is_typed(fleet: FleetHandle, tmp_path: Path) -> None:
    """With a terminal the line is echoed and lines end in CR LF."""
    done = _run("ssh", fleet, tmp_path, "hostname\rexit\r", "-tt")
    assert "cmscore1> hostname\ncmscore1\ncmscore1> exit\n" in done.stdout.replace("\r\n", "\n")


def test_ssh_runs_a_command_without_shell(fleet: FleetHandle, tmp_path: Path) -> None:
    """The exec channel answers one command without banner and prompt."""
    done = _run("ssh", fleet, tmp_path, "", "version")
    assert (done.returncode, done.stdout) == (0, "3.9\n")


def test_ssh_is_refused_with_a_wrong_password(fleet: FleetHandle, tmp_path: Path) -> None:
    """A wrong password does not get in, and the log says so without the password."""
    done = _run("ssh", fleet, tmp_path, "", "version", password="not-the-password")
    assert done.returncode == 255
    assert {record.text for record in fleet.records("login-refused")} == {"admin"}


def test_sftp_lists_fetches_puts_renames_and_removes(fleet: FleetHandle, tmp_path: Path) -> None:
    """The five things that are done by SFTP work with OpenSSH's sftp."""
    (tmp_path / "new.crt").write_bytes(b"something new\n")
    script = (
        f"ls -1\nget callbridge.crt {tmp_path}/fetched.crt\nput {tmp_path}/new.crt\n"
        "rename new.crt newer.crt\nrm turn.key\nls -1\n"
    )
    done = _run("sftp", fleet, tmp_path, script, "-q")
    assert done.returncode == 0
    assert (tmp_path / "fetched.crt").read_bytes() == fleet.files("cmscore1")["callbridge.crt"]
    assert fleet.files("cmscore1")["newer.crt"] == b"something new\n"
    assert "turn.key" not in fleet.files("cmscore1")
    assert {"log", "audit", "live.json", "callbridge.key"} <= set(done.stdout.split())
