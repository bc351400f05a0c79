"""Logins: host keys first, one attempt per credential, warm connections, canary secrets nowhere."""

import asyncio
import logging
import time
import traceback
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from conftest import PASSWORD, QUICK, until

from simulator.server import SSH_PORT
from workers.connections import scan_host_key
from workflows.errors import (
    CredentialMissing,
    CredentialResting,
    HostKeyChanged,
    HostKeyUnknown,
    LoginRefused,
    Unreachable,
)
from workflows.mmp.commands import PkiList, Version


def ask_all(world, nodes):
    """Ask every node for its version at the same time; return answers and errors."""

    async def ask(node):
        async with world.connections.session(node, run="run-1") as session:
            return await session.ask(Version())

    async def go():
        return await asyncio.gather(*(ask(node) for node in nodes), return_exceptions=True)

    return world.do(go())


def test_changed_host_key_stops_before_any_password(world):
    """The server's log proves that nobody tried to log in."""
    fault = world.fleet.fault("host-key-change", node="cmscore1")
    with world.session() as session, pytest.raises(HostKeyChanged) as caught:
        world.do(session.ask(Version()))
    assert (world.logins(), caught.value.data["node"]) == ([], "cmscore1")
    world.fleet.mend(fault)
    with world.session() as session:
        assert world.do(session.ask(Version()))[:2] == (3, 9)


def test_host_key_of_another_kind_is_a_changed_key(world):
    """A pin of a kind that the server no longer has is no "old server", but another key."""
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key("openssh").decode()
    world.pins.keys[(world.fleet.address("cmscore1"), SSH_PORT)] = " ".join(other.split()[:2])
    with world.session() as session, pytest.raises(HostKeyChanged):
        world.do(session.ask(Version()))
    assert world.logins() == []


def test_unknown_host_key_stops_before_any_password(world):
    """A node without a pin is not even dialled."""
    world.pins.keys.clear()
    with world.session() as session, pytest.raises(HostKeyUnknown) as caught:
        world.do(session.ask(Version()))
    assert (world.logins(), "certbridge trust cmscore1" in caught.value.remedy()) == ([], True)


def test_host_key_is_scanned_without_a_login(world):
    """`trust` shows key and fingerprint; nobody logs in for it."""
    key, fingerprint = world.do(scan_host_key(world.fleet.address("cmscore1"), SSH_PORT))
    pinned = world.fleet.host_key("cmscore1")
    assert (key, fingerprint) == (pinned, asyncssh.import_public_key(pinned).get_fingerprint())
    assert (fingerprint[:7], world.logins()) == ("SHA256:", [])


def test_scanning_a_closed_port_is_unreachable(world):
    """Nobody listens: that is said in plain words, and the address once."""
    address = world.fleet.address("cmscore1")
    with pytest.raises(Unreachable) as caught:
        world.do(scan_host_key(address, 1))
    assert str(caught.value) == f"{address}:1 does not answer over SSH (Connection refused)"


def test_wrong_password_is_tried_once_in_the_whole_fleet(make_world):
    """The first login goes alone; when it is refused the others do not try, so no account is locked."""
    world = make_world(password="wrong-canary-password")
    results = ask_all(world, [world.node(name) for name in world.fleet.nodes])
    kinds = sorted(type(result).__name__ for result in results)
    assert (kinds, world.logins()) == (["CredentialResting", "CredentialResting", "LoginRefused"], ["login-refused"])
    later = ask_all(world, [world.node()])
    assert (type(later[0]), world.logins()) == (CredentialResting, ["login-refused"])


def test_woken_credential_is_tried_again(make_world):
    """After a person has corrected it, the next login goes out."""
    world = make_world()
    fault = world.fleet.fault("wrong-password", node="cmscore1")
    assert type(ask_all(world, [world.node()])[0]) is LoginRefused
    world.fleet.mend(fault)
    world.circuit.rests.clear()
    assert ask_all(world, [world.node()])[0][:2] == (3, 9)
    assert world.logins() == ["login-refused", "login"]


def test_refused_credential_does_not_stop_another_one(make_world):
    """Credentials rest by name."""
    world = make_world(password="wrong-canary-password")
    ask_all(world, [world.node()])
    assert ask_all(world, [world.node(credential="other")])[0][:2] == (3, 9)


def test_first_login_goes_alone_and_the_others_follow(world):
    """All nodes are asked at once; the log shows one login before any other, then all of them."""
    results = ask_all(world, [world.node(name) for name in world.fleet.nodes])
    assert [result[:2] for result in results] == [(3, 9)] * 3
    assert world.logins() == ["login"] * 3


def test_server_that_does_not_answer_holds_up_nobody(make_world):
    """Waiting for a dead server happens outside the turn of its credential."""
    world = make_world(timings=replace(QUICK, connect_s=2))
    world.fleet.fault("unreachable", node="cmscore1", match="ssh")
    results = ask_all(world, [world.node(name) for name in world.fleet.nodes])
    assert [type(results[0]), *(result[:2] for result in results[1:])] == [Unreachable, (3, 9), (3, 9)]


def test_missing_credential_is_told_before_anything_is_dialled(world):
    """No credential, no connection."""
    (error,) = ask_all(world, [world.node(credential="nobody")])
    assert (type(error), "CERTBRIDGE_CREDENTIAL_NOBODY" in error.remedy(), world.logins()) == (
        CredentialMissing,
        True,
        [],
    )


def test_connection_stays_warm_between_steps(world):
    """Two steps on a node are one login."""
    for _ in range(2):
        with world.session() as session:
            world.do(session.ask(PkiList()))
    assert world.logins() == ["login"]


def test_idle_connection_is_closed_and_opened_again(make_world):
    """Servers cap their sessions, so an unused one is given back; a step in progress keeps its own."""
    world = make_world(timings=replace(QUICK, idle_s=0.1))
    with world.session() as session:
        world.do(session.ask(Version()))
    until(lambda: not world.fleet.fleet.nodes["cmscore1"].connections)
    with world.session() as session:
        world.do(session.ask(Version()))
        world.do(asyncio.sleep(0.15))
        world.do(session.ask(Version()))
    assert world.logins() == ["login"] * 2


def test_stale_connection_after_a_reboot_is_replaced(world):
    """The next step notices that the old connection is gone, and changes nothing blindly on it."""
    with world.session() as session:
        world.do(session.ask(Version()))
        world.fleet.reboot("cmscore1", 0.05)
        until(lambda: not world.fleet.fleet.nodes["cmscore1"].connections)
        until(lambda: world.answers(session))
    assert world.logins() == ["login"] * 2


def test_dropped_connection_is_opened_again(world):
    """`invalidate` is for steps that know the server went away."""
    with world.session() as session:
        world.do(session.ask(Version()))
        session.invalidate()
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert world.logins() == ["login"] * 2


class _Login(asyncssh.SSHServer):
    """Take the right password, or what a subclass takes, and count the attempts."""

    def __init__(self, attempts: list[str]) -> None:
        self.attempts = attempts


class _ExpiredAtLogin(_Login):
    """Want a new password at the login."""

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        self.attempts.append(f"{username}:{password}")
        raise asyncssh.PasswordChangeRequired("Your password has expired")


class _KeyboardInteractive(_Login):
    """Take passwords by keyboard-interactive only, as PAM does."""

    def kbdint_auth_supported(self):
        return True

    def get_kbdint_challenge(self, *_):
        return "", "", "en", [("Password: ", False)]

    def validate_kbdint_response(self, username, responses):
        self.attempts.append(f"{username}:{responses[0]}")
        return responses[0] == PASSWORD


async def cms_shell(process):
    process.stdout.write("Welcome\r\ncms9> ")
    async for line in process.stdin:
        process.stdout.write(f"{line.strip()}\r\n")
        process.stdout.write("3.9.1\r\ncms9> " if line.strip() else "cms9> ")


def against(world, login, shell=cms_shell, **changes):
    """Ask a server of our own for its version; return the answer or the error."""
    with world.server(shell, login) as node:
        return ask_all(world, [replace(node, **changes)])[0]


def test_expired_password_at_the_login_is_a_refused_login_with_a_sentence(world):
    """The password is never changed from here."""
    attempts = []
    error = against(world, lambda: _ExpiredAtLogin(attempts))
    assert (type(error), "has expired" in error.message, len(attempts)) == (LoginRefused, True, 1)
    assert world.circuit.resting("cms") == "cms9 refused it"


def test_expired_password_in_the_shell_is_a_refused_login_with_a_sentence(world):
    """CMS forces the change at the first login, before its prompt (mmp-reference 1.1); no answer is typed."""
    typed = []

    async def shell(process):
        process.stdout.write("Password has expired\r\nPlease enter new password:")
        typed.append(await process.stdin.read())

    error = against(world, None, shell)
    assert (type(error), "Please enter new password" in error.message) == (LoginRefused, True)
    assert (world.circuit.resting("cms"), "".join(typed)) == ("cms9 refused it", "")


def test_keyboard_interactive_login_works_and_is_tried_once(make_world):
    """One attempt, whichever method the server speaks."""
    attempts = []
    assert against(make_world(), lambda: _KeyboardInteractive(attempts)) == (3, 9, 1)
    error = against(make_world(password="wrong-one"), lambda: _KeyboardInteractive(attempts))
    assert (type(error), len(attempts)) == (LoginRefused, 2)


def test_account_with_a_key_logs_in_without_a_password(make_world, tmp_path):
    """A private key from credentials.yaml does it alone."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "id").write_bytes(key.export_private_key())
    (tmp_path / "id").chmod(0o600)
    file = tmp_path / "credentials.yaml"
    file.write_text("keyed: {username: admin, private_key: id}\n")
    file.chmod(0o600)

    class Keyed(asyncssh.SSHServer):
        def public_key_auth_supported(self):
            return True

        def validate_public_key(self, username, offered):
            return (username, offered.public_data) == ("admin", key.public_data)

    assert against(make_world(credentials_file=file), Keyed, credential="keyed") == (3, 9, 1)


def test_silent_cut_is_noticed_by_keepalives(make_world):
    """A link that goes dead without a word ends a command before its own limit."""
    world = make_world(timings=replace(QUICK, keepalive_s=0.1, keepalive_count=2, command_s=30))

    async def go():
        node = world.node()
        async with world.connections.session(node, run="run-1") as session:
            await session.ask(Version())
            link = world.connections._links[(node.name, node.address, node.port, node.credential)]
            # Nothing that the server sends arrives any more, and no FIN either.
            link._connection._transport.pause_reading()
            began = time.monotonic()
            answer = await session.ask(Version())
            return answer, time.monotonic() - began

    answer, took = world.do(go())
    assert (answer[:2], took < 10, world.logins()) == ((3, 9), True, ["login"] * 2)


def test_canary_password_is_nowhere(make_world, caplog, tmp_path):
    """Not in transcripts, logs, errors or anything else under the state folder, even with debug logs on."""
    caplog.set_level(logging.DEBUG)
    asyncssh.set_log_level(logging.DEBUG)
    asyncssh.set_debug_level(2)
    try:
        wrong = "wrong-canary-password"
        bad, good = make_world(password=wrong), make_world()
        errors = ask_all(bad, [bad.node()])
        good.fleet.fault("cut-after", match="version", times=9)
        errors += ask_all(good, [good.node()])
        good.fleet.mend()
        assert ask_all(good, [good.node()])[0][:2] == (3, 9)
    finally:
        asyncssh.set_debug_level(1)
        asyncssh.set_log_level(logging.NOTSET)
    shown = caplog.text + "".join("".join(traceback.format_exception(error)) for error in errors)
    shown += "".join(f"{error!r} {error} {error.remedy()} {error.data}" for error in errors)
    shown += "".join(path.read_text() for path in Path(tmp_path).rglob("*") if path.is_file())
    assert (len(errors), "version" in shown) == (2, True)
    assert [secret for secret in (wrong, PASSWORD) if secret in shown] == []
