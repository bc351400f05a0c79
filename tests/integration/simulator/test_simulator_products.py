"""What an appliance makes and serves, judged by the openssl program."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_client import download, talk

from simulator.fleet import FleetHandle

pytestmark = pytest.mark.needs_openssl

PORTS_2 = [8443, 5061, 9443, 5349, 4999, 8445, 8446]
PORTS_3 = [8443, 5061, 9443, 9999, 5349, 8445, 8446, 9447]


def _openssl(*words: str, data: bytes = b"") -> str:
    done = subprocess.run(["openssl", *words], input=data, capture_output=True, timeout=30, check=False)
    return (done.stdout + done.stderr).decode()


def test_openssl_likes_the_request(fleet: FleetHandle) -> None:
    """`pki csr` gives a request whose signature openssl verifies, with every attribute in it."""
    subject = 'CN:cms.example.com OU:"Cisco Support" O:Example L:Seoul ST:Seoul C:KR'
    line = f"pki csr fresh {subject} subjectAltName:cms.example.com,10.1.2.3"
    assert "Created key file fresh.key and CSR fresh.csr" in talk(fleet, "cmscore1", line)[0]
    text = _openssl("req", "-verify", "-noout", "-subject", "-text", data=download(fleet, "cmscore1", "fresh.csr"))
    assert "verify OK" in text
    assert "subject=C = KR, ST = Seoul, L = Seoul, O = Example, OU = Cisco Support, CN = cms.example.com" in text
    assert "DNS:cms.example.com, IP Address:10.1.2.3" in text


def _chain(address: str, port: int, *words: str) -> list[str]:
    shown = _openssl("s_client", "-connect", f"{address}:{port}", "-showcerts", *words)
    return re.findall(r"^ *\d s:(.*)$", shown, re.MULTILINE)


@pytest.mark.parametrize(("release", "ports"), [("2.9", PORTS_2), ("3.9", PORTS_3)])
def test_every_port_serves_leaf_and_root(
    start_fleet: Callable[..., FleetHandle], release: str, ports: list[int]
) -> None:
    """Each TLS port of the release shows the node's certificate and the authority above it."""
    services = ("webadmin", "callbridge", "turn", "recorder", "streamer")
    services += ("webbridge", "xmpp", "loadbalancer") if release == "2.9" else ("webbridge3", "scheduler")
    fleet = start_fleet(release=release, services=services)
    expected = ["O = Example, CN = cmscore1.example.com", "O = Example, CN = Simulator Root CA"]
    assert {port: _chain(fleet.address("cmscore1"), port) for port in ports} == dict.fromkeys(ports, expected)


def test_xmpp_serves_after_starttls(start_fleet: Callable[..., FleetHandle]) -> None:
    """Openssl's own STARTTLS dialogue for XMPP leads to the certificate."""
    fleet = start_fleet(release="2.9")
    names = _chain(fleet.address("cmscore1"), 5222, "-starttls", "xmpp", "-xmpphost", "example.com")
    assert names[0] == "O = Example, CN = cmscore1.example.com"


def test_inspect_agrees_with_openssl(fleet: FleetHandle) -> None:
    """Dates, names, key and serial number of `pki inspect` are those that openssl prints."""
    ours = talk(fleet, "cmscore1", "pki inspect callbridge.crt")[0]
    theirs = _openssl("x509", "-text", "-noout", data=fleet.files("cmscore1")["callbridge.crt"])
    wanted = (
        r"(Not Before: .*|Not After : .*|Subject: .*|Issuer: .*|DNS:.*|TLS Web .*|[0-9a-f]{2}(?::[0-9a-f]{2}){14}:)$"
    )
    assert re.findall(wanted, ours, re.MULTILINE) == re.findall(wanted, theirs, re.MULTILINE)


def test_new_certificates_chain_to_the_authority_on_disk(
    start_fleet: Callable[..., FleetHandle], tmp_path: Path
) -> None:
    """Openssl verifies issuing certificate and old leaf against DIR/ca/ca.crt."""
    fleet = start_fleet(out=tmp_path)
    (tmp_path / "leaf.crt").write_bytes(fleet.files("cmscore1")["turn.crt"])
    ca = str(tmp_path / "ca" / "ca.crt")
    verified = _openssl("verify", "-CAfile", ca, str(tmp_path / "ca" / "issuing.crt"), str(tmp_path / "leaf.crt"))
    assert verified.count(": OK") == 2
