from __future__ import annotations

import datetime as dt

import pytest
from cryptography.hazmat.primitives import hashes

from tests.ca import NOW, SERVER
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.renewal import CertificateView, allows, days_left, due, serial_number, view
from workflows.x509.request import read_request

DAY = dt.timedelta(days=1)


def test_view_says_what_stands_in_the_certificate(ca, csr):
    """Everything a table, the journal or a page shows."""
    certificate = ca.sign(csr, usages=(SERVER,), serial=0xC0FFEE)
    assert view(certificate) == CertificateView(
        subject=Subject(CN="cms.example.com"),
        sans=SubjectAltNames(dns=("cms.example.com", "cms1.example.com"), ip=("192.0.2.10",)),
        issuer="CN=Test Issuing CA",
        serial="c0ffee",
        not_before=NOW - dt.timedelta(hours=1),
        not_after=NOW + 180 * DAY,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        spki_sha256=read_request(csr).spki_sha256,
        key_kind="ec-secp256r1",
        usages=("server",),
        is_ca=False,
    )


def test_view_of_a_ca(ca):
    """A root has no usages of its own, and is a CA."""
    seen = view(ca.root.certificate)
    assert (seen.CN, seen.is_ca, seen.usages, seen.not_after.tzinfo) == ("Test Root CA", True, None, dt.UTC)


@pytest.mark.parametrize(("after", "days"), [(10 * DAY, 10), (10 * DAY - dt.timedelta(seconds=1), 9), (-DAY, -1)])
def test_days_left_are_whole_days(after, days, ca, csr):
    """Negative once the end has passed."""
    assert days_left(ca.sign(csr, not_before=NOW - 30 * DAY, not_after=NOW + after), NOW) == days


@pytest.mark.parametrize(("after", "expected"), [(31 * DAY, False), (30 * DAY, True), (-DAY, True)])
def test_certificate_is_due_within_the_time_given(after, expected, ca, csr):
    """The border counts, and the expired too."""
    certificate = ca.sign(csr, not_before=NOW - 30 * DAY, not_after=NOW + after)
    assert due(certificate, now=NOW, within=30 * DAY) is expected


@pytest.mark.parametrize(("usages", "expected"), [(None, True), ((SERVER,), False)])
def test_absent_usage_allows_all(usages, expected, ca, csr):
    """RFC 5280 section 4.2.1.12."""
    assert allows(ca.sign(csr, usages=usages), "client") is expected


@pytest.mark.parametrize("serial", [1, 127, 128, 2**158 + 5])
def test_serial_number_is_read_from_the_der(serial, ca, csr):
    """Our own reading agrees with the library's for every length."""
    certificate = ca.sign(csr, serial=serial)
    assert (serial_number(certificate), certificate.serial_number) == (serial, serial)
