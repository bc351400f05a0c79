"""Each named fault, seen from the client's side and in the command log."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from simulator_client import (
    connected,
    download,
    refused,
    renewed,
    served,
    shell,
    talk,
    upload,
    wait_for,
)

from simulator.fleet import FleetHandle, FleetSettings, start_fleet_in_thread


def _outcome(fleet: FleetHandle, text: str) -> str | None:
    """Return the outcome of the last command that was *text*."""
    return [r.outcome for r in fleet.records("command") if r.text == text and r.phase == "end"][-1]


@pytest.mark.parametrize(("kind", "done"), [("cut-before", False), ("cut-after", True), ("reboot", True)])
def test_cut_connection_hides_whether_the_command_was_done(fleet: FleetHandle, kind: str, done: bool) -> None:
    """The client sees the same end of the connection; only the appliance knows whether the key was made."""
    fleet.fault(kind, match="pki csr *", seconds=0.2)
    with pytest.raises((EOFError, OSError, asyncssh.Error)):
        talk(fleet, "cmscore1", "pki csr fresh CN:a.example.com")
    wait_for(lambda: _outcome(fleet, "pki csr fresh CN:a.example.com") == kind)
    assert ("fresh.key" in fleet.files("cmscore1")) is done


def test_reboot_takes_the_node_away_and_brings_it_back(fleet: FleetHandle) -> None:
    """SSH and all ports are closed for a while; files and settings are there afterwards."""
    before = fleet.files("cmscore1")
    fleet.fault("reboot", match="version", seconds=0.5)
    with pytest.raises((EOFError, OSError, asyncssh.Error)):
        talk(fleet, "cmscore1", "version")
    wait_for(lambda: refused(fleet, "cmscore1", 2222) and refused(fleet, "cmscore1", 8443))
    wait_for(lambda: not refused(fleet, "cmscore1", 2222))
    assert talk(fleet, "cmscore1", "version") == ["3.9\n"]
    assert fleet.files("cmscore1") == before
    assert served(fleet, "cmscore1", 8443) == fleet.served_leaf("cmscore1", "webadmin")


def test_hang_gives_no_answer(fleet: FleetHandle) -> None:
    """A hanging command answers neither with output nor with a prompt, and Ctrl-C does not help."""
    fleet.fault("hang", match="turn restart")

    async def session() -> str:
        async with shell(fleet, "cmscore1") as conversation:
            conversation.send("turn restart\r\x03")
            await conversation.until("turn restart\r\n")
            try:
                async with asyncio.timeout(0.3):
                    return await conversation.until(conversation.prompt)
            except TimeoutError:
                return "nothing"

    assert asyncio.run(session()) == "nothing"
    wait_for(lambda: _outcome(fleet, "turn restart") == "interrupted")


def test_hang_with_seconds_is_carried_out_though_the_client_has_gone(fleet: FleetHandle) -> None:
    """A device may still do late what nobody waits for any more."""
    fleet.fault("hang", match="pki csr *", seconds=0.3)

    async def session() -> None:
        async with shell(fleet, "cmscore1") as conversation:
            conversation.send("pki csr late CN:a.example.com\r")
            await conversation.until("example.com\r\n")

    asyncio.run(session())
    assert "late.key" not in fleet.files("cmscore1")
    wait_for(lambda: "late.key" in fleet.files("cmscore1"))


def test_slow_answers_late(fleet: FleetHandle) -> None:
    """The answer is right and comes after the seconds asked for."""
    fleet.fault("slow", match="version", seconds=0.3)
    began = time.monotonic()
    assert talk(fleet, "cmscore1", "version") == ["3.9\n"]
    assert time.monotonic() - began >= 0.3


def test_failure_says_so_and_does_nothing(fleet: FleetHandle) -> None:
    """The command answers FAILURE with the text given, once, and changes nothing."""
    fleet.fault("failure", match="pki csr *", text="disk error")
    before = fleet.files("cmscore1")
    first, second = talk(fleet, "cmscore1", "pki csr a CN:a.example.com", "pki csr b CN:a.example.com")
    assert first == "FAILURE: disk error\n"
    assert second.endswith("ready for download via SFTP\n")
    assert set(fleet.files("cmscore1")) == set(before) | {"b.key", "b.csr"}


def test_garbage_surrounds_the_answer(fleet: FleetHandle) -> None:
    """A stray log line and bytes that are no text come before and after the answer."""
    fleet.fault("garbage", match="version")
    reply = talk(fleet, "cmscore1", "version")[0]
    assert reply.count("sfpool:  Health check") == 2
    assert "�" in reply
    assert "3.9\n" in reply


@pytest.mark.parametrize(("key", "enabled"), [("Y", True), ("y", False)])
def test_question_goes_on_only_after_a_capital_y(fleet: FleetHandle, key: str, enabled: bool) -> None:
    """An unexpected question is asked before the command; anything but Y leaves it undone."""
    fleet.execute("cmscore1", "turn disable")
    fleet.fault("question", match="turn enable", text="Really? (Y/n)")

    async def session() -> None:
        async with shell(fleet, "cmscore1") as conversation:
            conversation.send("turn enable\r")
            await conversation.until("Really? (Y/n)")
            conversation.send(key)
            await conversation.until(conversation.prompt)

    asyncio.run(session())
    assert fleet.state("cmscore1")["services"]["turn"]["enabled"] is enabled


def test_partial_upload_leaves_a_piece_and_cuts(fleet: FleetHandle) -> None:
    """The connection dies in the middle of a put, and what arrived stays."""
    fleet.fault("partial-upload", match="upload a.crt", count=100)
    with pytest.raises((asyncssh.Error, OSError)):
        upload(fleet, "cmscore1", "a.crt", b"x" * 1000)
    assert fleet.files("cmscore1")["a.crt"] == b"x" * 100
    upload(fleet, "cmscore1", "a.crt", b"y" * 1000)
    assert download(fleet, "cmscore1", "a.crt") == b"y" * 1000
    wait_for(lambda: [r.outcome for r in fleet.records("upload") if r.phase == "end"] == ["partial-upload", "ok"])


def test_corrupt_upload_keeps_the_size(fleet: FleetHandle) -> None:
    """One bit is wrong, nothing else."""
    fleet.fault("corrupt-upload", match="upload a.crt")
    upload(fleet, "cmscore1", "a.crt", bytes(1000))
    stored = download(fleet, "cmscore1", "a.crt")
    assert (len(stored), sum(byte.bit_count() for byte in stored)) == (1000, 1)


def test_disk_full_fails_the_upload(fleet: FleetHandle) -> None:
    """The server says failure and the connection stays."""
    fleet.fault("disk-full", match="upload a.crt")
    with pytest.raises(asyncssh.SFTPFailure, match="no space"):
        upload(fleet, "cmscore1", "a.crt", b"x" * 1000)
    assert fleet.files("cmscore1")["a.crt"] == b""


def test_key_download_is_refused(fleet: FleetHandle) -> None:
    """Private keys cannot be fetched, certificates can."""
    fleet.fault("refuse-key-download")
    with pytest.raises(asyncssh.SFTPPermissionDenied):
        download(fleet, "cmscore1", "turn.key")
    assert download(fleet, "cmscore1", "turn.crt") == fleet.files("cmscore1")["turn.crt"]


def test_rename_is_refused(fleet: FleetHandle) -> None:
    """Renaming fails and both names are as before."""
    fleet.fault("rename-refused", match="rename turn.crt *")

    async def session() -> None:
        async with connected(fleet, "cmscore1") as connection, connection.start_sftp_client() as sftp:
            await sftp.rename("turn.crt", "turn-old1.crt")

    with pytest.raises(asyncssh.SFTPFailure):
        asyncio.run(session())
    assert "turn.crt" in fleet.files("cmscore1")


def _login_works(fleet: FleetHandle, password: str | None = None) -> bool:
    async def session() -> bool:
        try:
            async with connected(fleet, "cmscore1", password):
                return True
        except asyncssh.PermissionDenied:
            return False

    return asyncio.run(session())


def test_right_password_is_refused(fleet: FleetHandle) -> None:
    """A rotated password: the right one is refused until the fault is mended."""
    fault = fleet.fault("wrong-password")
    assert not _login_works(fleet)
    fleet.mend(fault)
    assert _login_works(fleet)


def test_account_is_locked_after_refusals(fleet: FleetHandle) -> None:
    """After two wrong passwords the right one is refused too; without the fault there is no lock-out."""
    fault = fleet.fault("lockout", count=2, seconds=60)
    assert [_login_works(fleet, "wrong"), _login_works(fleet, "wrong"), _login_works(fleet)] == [False] * 3
    fleet.mend(fault)
    assert _login_works(fleet)


def test_host_key_changes(fleet: FleetHandle) -> None:
    """The pinned key no longer fits, no password is asked for, and mending brings the old key back."""
    fault = fleet.fault("host-key-change", node="cmscore1")
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        talk(fleet, "cmscore1", "version")
    assert fleet.records("login") == fleet.records("login-refused") == ()
    fleet.mend(fault)
    assert talk(fleet, "cmscore1", "version") == ["3.9\n"]


def test_stale_listener_serves_the_old_certificate_after_enable(fleet: FleetHandle) -> None:
    """The commands say success, the setting is new, the port serves the old certificate."""
    fleet.fault("stale-listener", match="turn")
    old = served(fleet, "cmscore1", 5349)
    renewed(fleet, "cmscore1", "turn-1")
    lines = ("turn disable", "turn certs turn-1.key turn-1.crt turn-1-bundle.crt", "turn enable")
    assert "FAILURE" not in "".join(talk(fleet, "cmscore1", *lines))
    assert fleet.state("cmscore1")["services"]["turn"]["endpoints"]["turn"]["certificate"] == "turn-1.crt"
    assert served(fleet, "cmscore1", 5349) == old


def test_unreachable_ports_are_closed(fleet: FleetHandle) -> None:
    """One endpoint, or SSH, cannot be reached while the fault lasts; the service itself is up."""
    web, ssh = fleet.fault("unreachable", match="webadmin"), fleet.fault("unreachable", match="ssh")
    assert [refused(fleet, "cmscore1", port) for port in (8443, 2222, 5061)] == [True, True, False]
    assert fleet.state("cmscore1")["services"]["webadmin"]["up"]
    fleet.mend(web)
    fleet.mend(ssh)
    assert [refused(fleet, "cmscore1", port) for port in (8443, 2222)] == [False, False]


def test_clock_is_off(fleet: FleetHandle) -> None:
    """`date` and what is made by that clock are off by the seconds asked for."""
    fleet.fault("clock-skew", seconds=-400 * 86400)
    assert "2026" not in talk(fleet, "cmscore1", "date")[0].replace(str(time.gmtime().tm_year), "2026")
    fleet.execute("cmscore1", "pki selfsigned old CN:old.example.com")
    assert "certificate" in fleet.execute("cmscore1", "pki verify old.crt old.crt")


def test_faults_keep_to_their_node_count_and_skips(start_fleet: Callable[..., FleetHandle]) -> None:
    """A fault for one node leaves the other alone; skip and times say which occurrences it takes."""
    fleet = start_fleet(nodes=2)
    fleet.fault("failure", node="cmscore1", match="version", skip=1, times=2)
    replies = talk(fleet, "cmscore1", *["version"] * 4)
    assert [reply.startswith("FAILURE") for reply in replies] == [False, True, True, False]
    assert talk(fleet, "cmscore2", *["version"] * 4) == ["3.9\n"] * 4


def test_a_command_that_ends_after_its_fleet_opens_no_port_again(key_file: Path) -> None:
    """A listening socket that nobody closes any more would be left behind, and tell of itself in another test."""
    with start_fleet_in_thread(FleetSettings(nodes=1, key_pool=key_file)) as fleet:
        address = fleet.address("cmscore1")
        fleet.fault("hang", match="pki csr *", seconds=30)

        async def session() -> None:
            async with shell(fleet, "cmscore1") as conversation:
                conversation.send("pki csr late CN:a.example.com\r")
                await conversation.until("example.com\r\n")

        asyncio.run(session())
    for port in (2222, 8443):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=5).close()
