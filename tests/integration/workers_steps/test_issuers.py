"""The issuer `local`: a private CA whose certificate and key lie on disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import ca
from workers.issuers import open_ca, sign
from workflows.errors import CertbridgeError, CSRRejected, IssuerError
from workflows.inventory import Issuer, IssuerKind
from workflows.x509.request import RequestView, read_request

NOW = ca.NOW
NAMES = [x509.DNSName("a1.example.com"), x509.DNSName("join.example.com")]


@pytest.fixture(scope="module")
def authority() -> ca.CA:
    """Give a CA."""
    return ca.make_ca()


@pytest.fixture
def issuer(tmp_path: Path, authority: ca.CA) -> Issuer:
    """Give an issuer whose files are there; its key is not encrypted."""
    (tmp_path / "ca.crt").write_bytes(ca.pem([authority.issuing.certificate]))
    write_key(tmp_path / "ca.key", authority.issuing.key)
    return Issuer(
        name="local",
        kind=IssuerKind.LOCAL,
        certificate=str(tmp_path / "ca.crt"),
        key=str(tmp_path / "ca.key"),
        days=200,
    )


def write_key(path: Path, key: Any, password: bytes | None = None) -> None:
    """Write a key, encrypted when there is a password."""
    encryption: Any = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


def no_passphrase(_: str) -> None:
    """Know no passphrase."""


def request() -> RequestView:
    """Return a request for two names."""
    return read_request(ca.make_csr("a1.example.com", NAMES))


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ({"server"}, [ExtendedKeyUsageOID.SERVER_AUTH]),
        ({"server", "client"}, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    ],
)
def test_it_signs_for_what_the_services_need(issuer: Issuer, authority: ca.CA, usages: Any, expected: Any) -> None:
    """Names and key of the request, the usages of the services, signed by the CA."""
    asked = request()
    made = sign(open_ca(issuer, no_passphrase), asked, usages=frozenset(usages), now=NOW)
    found = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    made.verify_directly_issued_by(authority.issuing.certificate)
    assert (list(found), list(names)) == (expected, NAMES)
    assert (made.not_valid_after_utc, made.not_valid_before_utc < NOW) == (NOW + timedelta(days=200), True)


def test_a_key_that_is_encrypted_opens_with_its_passphrase(issuer: Issuer, authority: ca.CA) -> None:
    """The passphrase is that of a credential, asked for by name."""
    write_key(Path(issuer.key), authority.issuing.key, b"open sesame")
    asked: list[str] = []

    def passphrase(name: str) -> bytes:
        asked.append(name)
        return b"open sesame"

    opened = open_ca(replace(issuer, passphrase_credential="ca"), passphrase)
    sign(opened, request(), usages=frozenset({"server"}), now=NOW)
    assert (asked, "PrivateKey" in repr(opened)) == (["ca"], False)


@pytest.mark.parametrize("given", [None, b"wrong"])
def test_a_key_that_does_not_open_is_told(issuer: Issuer, authority: ca.CA, given: bytes | None) -> None:
    """Without a passphrase or with a wrong one; the sentence does not repeat it."""
    write_key(Path(issuer.key), authority.issuing.key, b"open sesame")
    with pytest.raises(CertbridgeError) as refused:
        open_ca(issuer, lambda _: given)
    assert ("wrong" in repr(given), "sesame" in str(refused.value)) == (given == b"wrong", False)
    assert refused.value.remedy()


def test_a_key_of_another_ca_is_refused(issuer: Issuer) -> None:
    """Certificates signed with it would be trusted by nobody."""
    write_key(Path(issuer.key), ca.new_key())
    with pytest.raises(IssuerError, match="is not the key of"):
        open_ca(issuer, no_passphrase)


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_a_file_that_is_not_there_is_told(issuer: Issuer, which: str) -> None:
    """By its path, with the reason of the operating system."""
    Path(getattr(issuer, which)).unlink()
    with pytest.raises(IssuerError, match="cannot be read"):
        open_ca(issuer, no_passphrase)


def test_a_certificate_file_that_is_none_is_told(issuer: Issuer) -> None:
    """Text that is no PEM is the user's mistake, not ours."""
    Path(issuer.certificate).write_text("certificate? no")
    with pytest.raises(IssuerError, match="no certificate"):
        open_ca(issuer, no_passphrase)


def test_an_expired_ca_signs_nothing(issuer: Issuer) -> None:
    """What it signed would be refused everywhere."""
    with pytest.raises(IssuerError, match="has expired"):
        sign(open_ca(issuer, no_passphrase), request(), usages=frozenset({"server"}), now=NOW + timedelta(days=365 * 6))


def test_nothing_lives_longer_than_its_ca(issuer: Issuer, authority: ca.CA) -> None:
    """A chain is as long as its shortest link."""
    ends = authority.issuing.certificate.not_valid_after_utc
    made = sign(open_ca(issuer, no_passphrase), request(), usages=frozenset({"server"}), now=ends - timedelta(days=30))
    assert made.not_valid_after_utc == ends


def test_a_request_that_was_tampered_with_is_refused(issuer: Issuer) -> None:
    """A CSR is signed by its own key, or nobody knows who asks."""
    with pytest.raises(CSRRejected):
        sign(
            open_ca(issuer, no_passphrase),
            replace(request(), signature_ok=False),
            usages=frozenset({"server"}),
            now=NOW,
        )
