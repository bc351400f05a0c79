"""Settings, files and running services: what takes effect when."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest
from cryptography import x509
from simulator_client import refused, renewed, served, shell, talk, wait_for

from simulator.fleet import FleetHandle


def _leaf(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_old_certificate_is_served_until_enable(fleet: FleetHandle) -> None:
    """`webadmin certs` changes nothing on the port; disable and enable do."""
    old, new = served(fleet, "cmscore1", 8443), _leaf(renewed(fleet, "cmscore1", "webadmin-1"))
    assert talk(fleet, "cmscore1", "webadmin certs webadmin-1.key webadmin-1.crt webadmin-1-bundle.crt") == [""]
    assert served(fleet, "cmscore1", 8443) == old
    assert talk(fleet, "cmscore1", "webadmin disable") == [""]
    assert refused(fleet, "cmscore1", 8443)
    assert talk(fleet, "cmscore1", "webadmin enable")[0] == (
        "SUCCESS: TLS interface and port configured\n"
        "SUCCESS: Key and certificate pair match\n"
        "SUCCESS: certificate verified against CA bundle\n"
    )
    assert served(fleet, "cmscore1", 8443) == new


def test_enable_without_disable_changes_nothing(fleet: FleetHandle) -> None:
    """`enable` on a service that is on leaves what it serves."""
    old = served(fleet, "cmscore1", 5349)
    renewed(fleet, "cmscore1", "turn-1")
    talk(fleet, "cmscore1", "turn certs turn-1.key turn-1.crt turn-1-bundle.crt", "turn enable")
    assert served(fleet, "cmscore1", 5349) == old


def test_callbridge_restart_takes_the_new_certificate(fleet: FleetHandle) -> None:
    """`callbridge restart` puts the stored setting in service."""
    new = _leaf(renewed(fleet, "cmscore1", "cb-1"))
    talk(fleet, "cmscore1", "callbridge certs cb-1.key cb-1.crt cb-1-bundle.crt", "callbridge restart")
    assert served(fleet, "cmscore1", 5061) == new


def test_request_under_a_name_in_use_breaks_the_service(fleet: FleetHandle) -> None:
    """`pki csr` on the running key's basename takes the port down at once, and the old pair no longer matches."""
    talk(fleet, "cmscore1", "pki csr turn CN:cmscore1.example.com")
    assert refused(fleet, "cmscore1", 5349)
    assert (
        talk(fleet, "cmscore1", "turn disable", "turn enable")[1] == "FAILURE: Key and certificate pair do not match\n"
    )
    assert refused(fleet, "cmscore1", 5349)
    renewed(fleet, "cmscore1", "turn")
    assert "SUCCESS: TURN server enabled" in talk(fleet, "cmscore1", "turn enable")[0]
    assert not refused(fleet, "cmscore1", 5349)


def test_missing_file_is_refused_by_certs(fleet: FleetHandle) -> None:
    """`certs` with a file that is not there fails and keeps the setting."""
    before = fleet.state("cmscore1")["services"]["webadmin"]
    assert talk(fleet, "cmscore1", "webadmin certs nothing.key callbridge.crt")[0].startswith("FAILURE: ")
    assert fleet.state("cmscore1")["services"]["webadmin"] == before


def test_webbridge3_wants_the_full_chain(fleet: FleetHandle) -> None:
    """A leaf without its issuers is refused at restart, and the service stays down."""
    renewed(fleet, "cmscore1", "wb-1")
    replies = talk(fleet, "cmscore1", "webbridge3 https certs wb-1.key wb-1.crt", "webbridge3 restart")
    assert replies[0] == ""
    assert "FAILURE: HTTPS full chain of certificates does not verify\n" in replies[1]
    assert refused(fleet, "cmscore1", 9443)
    replies = talk(fleet, "cmscore1", "webbridge3 https certs wb-1.key wb-1-fullchain.crt", "webbridge3 restart")
    assert "FAILURE" not in replies[1]
    assert fleet.state("cmscore1")["services"]["webbridge3"]["endpoints"]["webbridge3.https"]["serves"]["chain"] == 3


def test_c2w_serves_its_leaf_and_refuses_a_peer_without_certificate(fleet: FleetHandle) -> None:
    """The leaf can be read from the c2w port though the handshake is refused."""
    assert served(fleet, "cmscore1", 9999) == fleet.served_leaf("cmscore1", "webbridge3.c2w")
    wait_for(lambda: any(r.text == "webbridge3.c2w" and r.outcome != "ok" for r in fleet.records("probe")))


def test_c2w_accepts_the_pinned_call_bridge(fleet: FleetHandle, tmp_path: Path) -> None:
    """A peer that shows the pinned Call Bridge certificate is let in."""
    pair = tmp_path / "pair.pem"
    files = fleet.files("cmscore1")
    pair.write_bytes(files["callbridge.key"] + files["callbridge.crt"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(pair)
    with (
        socket.create_connection((fleet.address("cmscore1"), 9999), timeout=5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert secured.recv(12) == b"HTTP/1.1 200"


def test_trust_store_takes_effect_at_restart(start_fleet: Callable[..., FleetHandle]) -> None:
    """Web Bridges that pin the old Call Bridge refuse the new one until their store is changed and they restart."""
    fleet = start_fleet(nodes=2)
    assert fleet.broken_links() == []
    renewed(fleet, "cmscore1", "cb-1")
    talk(fleet, "cmscore1", "callbridge certs cb-1.key cb-1.crt cb-1-bundle.crt", "callbridge restart")
    assert fleet.broken_links() == ["cmscore1 -> cmscore1", "cmscore1 -> cmscore2"]
    both = fleet.files("cmscore1")["cb-1.crt"] + fleet.files("cmscore1")["callbridge-trust.crt"]
    for node in fleet.nodes:
        fleet.put_file(node, "trust-1.crt", both)
        talk(fleet, node, "webbridge3 c2w trust trust-1.crt")
    assert fleet.broken_links() == ["cmscore1 -> cmscore1", "cmscore1 -> cmscore2"]
    talk(fleet, "cmscore1", "webbridge3 restart")
    assert fleet.broken_links() == ["cmscore1 -> cmscore2"]
    talk(fleet, "cmscore2", "webbridge3 restart")
    assert fleet.broken_links() == []


def test_stores_that_hold_the_authority_need_no_change(start_fleet: Callable[..., FleetHandle]) -> None:
    """With the authority in the trust stores a renewed Call Bridge is accepted."""
    fleet = start_fleet(pin_leaves=False)
    renewed(fleet, "cmscore1", "cb-1")
    talk(fleet, "cmscore1", "callbridge certs cb-1.key cb-1.crt cb-1-bundle.crt", "callbridge restart")
    assert fleet.broken_links() == []


def test_reboot_asks_and_brings_back_stored_settings(fleet: FleetHandle) -> None:
    """A capital Y reboots; the new host name and the stored certificate are in effect afterwards."""
    new = _leaf(renewed(fleet, "cmscore1", "turn-1"))
    old = served(fleet, "cmscore1", 5349)

    async def session(key: str) -> str:
        async with shell(fleet, "cmscore1") as conversation:
            await conversation.ask("turn certs turn-1.key turn-1.crt turn-1-bundle.crt")
            said = await conversation.ask("hostname cms.example.com")
            conversation.send("reboot\r")
            await conversation.until("(Y/n)")
            conversation.send(key)
            await conversation.until(conversation.prompt)
            return said

    assert asyncio.run(session("y")) == "A reboot is required for the change to take effect\n"
    assert served(fleet, "cmscore1", 5349) == old
    with pytest.raises((EOFError, OSError, asyncssh.Error)):
        asyncio.run(session("Y"))
    wait_for(lambda: fleet.state("cmscore1")["hostname"] == "cms.example.com")
    wait_for(lambda: not refused(fleet, "cmscore1", 5349))
    assert served(fleet, "cmscore1", 5349) == new


@pytest.mark.parametrize("days", [12.0, -3.0])
def test_old_certificates_expire_when_asked(start_fleet: Callable[..., FleetHandle], days: float) -> None:
    """`days_left` decides when the certificates at start run out, in the past too."""
    fleet = start_fleet(days_left=days)
    left = served(fleet, "cmscore1", 8443).not_valid_after_utc - datetime.now(UTC)
    assert abs(left - timedelta(days=days)) < timedelta(minutes=5)


def test_ctrl_c_ends_a_running_command(fleet: FleetHandle) -> None:
    """`syslog follow` shows the commands of others until Ctrl-C."""

    async def session() -> str:
        async with shell(fleet, "cmscore1") as conversation:
            conversation.send("syslog follow\r")
            await conversation.until("syslog follow\r\n")
            async with shell(fleet, "cmscore1") as other:
                await other.ask("version")
            shown = await conversation.until("issued command < version>: permission granted")
            conversation.send("\x03")
            await conversation.until(conversation.prompt)
            assert await conversation.ask("version") == "3.9\n"
            return shown

    assert "local0.info cmscore1 cli: User admin from 127.0.0.1" in asyncio.run(session())
