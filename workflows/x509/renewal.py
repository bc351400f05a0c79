"""What stands in a certificate, and whether it is time to renew it. The clock is a parameter, always aware UTC.

Rules: RFC 5280 section 4.1.2.5 (validity includes both ends). Not here: whether a certificate is any good
(`acceptance`), and which certificates a fleet uses (`facts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from workflows.errors import CertificateError, Finding
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.request import UNREADABLE, key_kind, sans_of, spki_sha256, subject_of

Usage = Literal["server", "client"]

_USAGES: dict[x509.ObjectIdentifier, str] = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """A certificate as tables, journal and pages show it; hex in lower case without colons, times aware UTC."""

    subject: Subject
    sans: SubjectAltNames
    issuer: str  # RFC 4514, e.g. "CN=Example Issuing CA,O=Example"
    serial: str  # hex
    not_before: datetime
    not_after: datetime
    fingerprint: str  # SHA-256 of the DER
    spki_sha256: str
    key_kind: str
    usages: tuple[str, ...] | None  # "server", "client", "any" or a dotted OID; None when there is no EKU
    is_ca: bool

    @property
    def CN(self) -> str:  # noqa: N802 - the attribute's name
        """The common name, '' when there is none."""
        return self.subject.CN


def view(certificate: x509.Certificate) -> CertificateView:
    """Return what stands in *certificate*.

    Raises: CertificateError: an extension is damaged or stands there twice.
    """
    try:
        extensions = certificate.extensions
        return CertificateView(
            subject=subject_of(certificate.subject),
            sans=sans_of(extensions),
            issuer=certificate.issuer.rfc4514_string(),
            serial=f"{serial_number(certificate):x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=fingerprint(certificate),
            spki_sha256=spki_sha256(certificate),
            key_kind=key_kind(certificate.public_key()),
            usages=_usages(extensions),
            is_ca=is_ca(certificate),
        )
    except UNREADABLE as error:
        finding = Finding("certificate", f"the certificate is damaged ({error})", "Ask the CA for it again.")
        raise CertificateError([finding]) from error


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Return the whole days from *now* to the end of validity; negative once it has passed."""
    return (certificate.not_valid_after_utc - now).days


def due(certificate: x509.Certificate, *, now: datetime, within: timedelta) -> bool:
    """Return whether *certificate* ends within this time from *now*, or has ended."""
    return certificate.not_valid_after_utc - now <= within


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER as 64 hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def serial_number(certificate: x509.Certificate) -> int:
    """Return the serial number, read from the DER: the library warns at zero and below, and will raise one day.

    TBSCertificate is SEQUENCE { [0] version optional, INTEGER serialNumber, … } (RFC 5280 section 4.1).
    """
    der = certificate.tbs_certificate_bytes
    _, begin, _ = _element(der, 0)
    tag, begin, end = _element(der, begin)
    if tag == 0xA0:
        _, begin, end = _element(der, end)
    return int.from_bytes(der[begin:end], "big", signed=True)


def is_ca(certificate: x509.Certificate) -> bool:
    """Return whether basicConstraints says CA (RFC 5280 section 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def allows(certificate: x509.Certificate, usage: Usage) -> bool:
    """Return whether the extended key usage lets it act so; no extension allows all (RFC 5280 section 4.2.1.12)."""
    usages = _usages(certificate.extensions)
    return usages is None or usage in usages or "any" in usages


def _usages(extensions: x509.Extensions) -> tuple[str, ...] | None:
    try:
        oids = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return tuple(_USAGES.get(oid, oid.dotted_string) for oid in oids)


def _element(der: bytes, start: int) -> tuple[int, int, int]:
    """Return tag, begin and end of the contents of the DER element at *start* (X.690 section 8.1.3)."""
    length, begin = der[start + 1], start + 2
    if length & 0x80:
        octets = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + octets], "big"), begin + octets
    return der[start], begin, begin + length
