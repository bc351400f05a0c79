"""A small CA for tests, with one named function for each way in which a CA's answer can be wrong.

    ca = make_ca(now=NOW)                       root and issuing CA, P-256
    certificate = ca.sign(csr_pem)              a good one, for the names in the request
    delivery = wrong_key(ca, csr_pem)           a defect: Delivery(certificate, pool)
    data = pkcs7_pem(delivery.everything)       an encoding: bytes as they come by mail

`DEFECTS` and `ENCODINGS` list them by name. Nothing here uses `workflows`: what is tested does not make its own proof.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA certificate with its key."""

    certificate: x509.Certificate
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What the CA hands out for one request: the certificate, and the issuers with it."""

    certificate: x509.Certificate
    pool: tuple[x509.Certificate, ...]

    @property
    def everything(self) -> tuple[x509.Certificate, ...]:
        """The certificate, then its issuers."""
        return (self.certificate, *self.pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class CA:
    """Root and issuing CA at one moment."""

    root: Authority
    issuing: Authority
    now: dt.datetime
    issuers: tuple[x509.Certificate, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "issuers", (self.issuing.certificate, self.root.certificate))

    def sign(self, csr: bytes, **changes: Any) -> x509.Certificate:
        """Return a certificate for the request; *changes* are the parameters of `leaf`."""
        request = x509.load_pem_x509_csr(csr)
        settings: dict[str, Any] = {
            "subject": request.subject,
            "names": names_of(request),
            "not_before": self.now - dt.timedelta(hours=1),
            "not_after": self.now + dt.timedelta(days=180),
        }
        return leaf(self.issuing, request.public_key(), **(settings | changes))

    def deliver(self, csr: bytes, **changes: Any) -> Delivery:
        """Return a good certificate, or one with *changes*, and both issuers."""
        return Delivery(certificate=self.sign(csr, **changes), pool=self.issuers)


def make_ca(*, now: dt.datetime = NOW, name: str = "Test") -> CA:
    """Return a fresh CA: root for ten years, issuing CA for five."""
    top = root(f"{name} Root CA", now=now)
    return CA(root=top, issuing=intermediate(top, f"{name} Issuing CA", now=now), now=now)


def make_csr(common_name: str, names: Iterable[x509.GeneralName] = (), *, key: Key | None = None) -> bytes:
    """Return a PEM request for these names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of(common_name))
    if sans := list(names):
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key or new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key, which takes no time."""
    return ec.generate_private_key(ec.SECP256R1())


def name_of(common_name: str) -> x509.Name:
    """Return a distinguished name of one CN."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def names_of(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """Return the subject alternative names of a request."""
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


# ── building blocks ──────────────────────────────────────────────────────────────────────────────────────────────────
def root(name: str, *, now: dt.datetime = NOW, key: Key | None = None, years: int = 10) -> Authority:
    """Return a self-signed CA."""
    key = key or new_key()
    built = _ca_builder(name, key.public_key(), now - dt.timedelta(days=30), now + dt.timedelta(days=365 * years))
    built = built.issuer_name(name_of(name))
    return Authority(certificate=_sign(built, key, key.public_key()), key=key)


def intermediate(
    parent: Authority,
    name: str,
    *,
    now: dt.datetime = NOW,
    key: Key | None = None,
    not_before: dt.datetime | None = None,
    not_after: dt.datetime | None = None,
    path_length: int | None = None,
) -> Authority:
    """Return a CA signed by *parent*; giving *key* makes a cross-signed or renewed one."""
    key = key or new_key()
    begin, end = not_before or now - dt.timedelta(days=30), not_after or now + dt.timedelta(days=365 * 5)
    built = _ca_builder(name, key.public_key(), begin, end, path_length).issuer_name(parent.certificate.subject)
    return Authority(certificate=_sign(built, parent.key, parent.key.public_key()), key=key)


def leaf(
    issuer: Authority,
    public_key: Any,
    *,
    subject: x509.Name,
    names: Sequence[x509.GeneralName] = (),
    not_before: dt.datetime,
    not_after: dt.datetime,
    usages: Sequence[x509.ObjectIdentifier] | None = (SERVER, CLIENT),
    is_ca: bool = False,
    serial: int | None = None,
    key_usage: x509.KeyUsage | None = None,
    bare: bool = False,
) -> x509.Certificate:
    """Return an end entity's certificate.

    *usages* None leaves the extended key usage out; *bare* leaves out all that a small CA may forget.
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if not bare:
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(key_usage or key_usage_of(signs_certificates=is_ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return _sign(builder, issuer.key, issuer.key.public_key())


def _ca_builder(
    name: str, public_key: Any, begin: dt.datetime, end: dt.datetime, path_length: int | None = None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage_of(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, key: Key, issuer_key: Any) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def key_usage_of(*, signs_certificates: bool, for_tls: bool = True) -> x509.KeyUsage:
    """Return the key usage of a CA or of a TLS server; without *for_tls* one that is of use to neither."""
    return x509.KeyUsage(
        digital_signature=for_tls,
        content_commitment=not for_tls,
        key_encipherment=for_tls and not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


# ── defects: one function each ───────────────────────────────────────────────────────────────────────────────────────
def wrong_key(ca: CA, csr: bytes) -> Delivery:
    """Give the right names to a key that the request does not have."""
    request = x509.load_pem_x509_csr(csr)
    return ca.deliver(make_csr("unused", names_of(request)), subject=request.subject)


def missing_name(ca: CA, csr: bytes) -> Delivery:
    """Forget the last subject alternative name."""
    return ca.deliver(csr, names=names_of(x509.load_pem_x509_csr(csr))[:-1])


def common_name_only(ca: CA, csr: bytes) -> Delivery:
    """Leave all subject alternative names out."""
    return ca.deliver(csr, names=())


def other_common_name(ca: CA, csr: bytes) -> Delivery:
    """Give somebody else's subject."""
    return ca.deliver(csr, subject=name_of("other.example.net"))


def without_client_auth(ca: CA, csr: bytes) -> Delivery:
    """Allow servers only, as public CAs do since 2026."""
    return ca.deliver(csr, usages=(SERVER,))


def without_server_auth(ca: CA, csr: bytes) -> Delivery:
    """Allow clients only."""
    return ca.deliver(csr, usages=(CLIENT,))


def expired(ca: CA, csr: bytes) -> Delivery:
    """End yesterday."""
    day = dt.timedelta(days=1)
    return ca.deliver(csr, not_before=ca.now - 20 * day, not_after=ca.now - day)


def not_yet_valid(ca: CA, csr: bytes) -> Delivery:
    """Begin in an hour."""
    return ca.deliver(csr, not_before=ca.now + dt.timedelta(hours=1))


def ends_soon(ca: CA, csr: bytes) -> Delivery:
    """End in three days."""
    return ca.deliver(csr, not_after=ca.now + dt.timedelta(days=3))


def sha1_signature(ca: CA, csr: bytes) -> Delivery:
    """Sign with a hash that is broken."""
    issuing = intermediate(ca.root, "Test RSA Issuing CA", now=ca.now, key=rsa_key())
    good = replace(ca, issuing=issuing).sign(csr)
    return Delivery(certificate=with_sha1(good, rsa_key()), pool=(issuing.certificate, ca.root.certificate))


def sha1_issuer(ca: CA, csr: bytes) -> Delivery:
    """Send an issuing CA that is itself signed with a broken hash, by a root with an RSA key."""
    top = root("Test RSA Root CA", now=ca.now, key=rsa_key())
    issuing = intermediate(top, "Test Issuing CA", now=ca.now, key=ca.issuing.key)
    return Delivery(certificate=ca.sign(csr), pool=(with_sha1(issuing.certificate, rsa_key()), top.certificate))


def with_sha1(good: x509.Certificate, key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Return *good*, signed by *key* with SHA-256, as if *key* had signed it with SHA-1.

    The library signs no SHA-1 any more, so the certificate is rewritten: both algorithm identifiers differ in one
    byte (RFC 8017 appendix C: sha256WithRSAEncryption ends in 11, sha1WithRSAEncryption in 5).
    """
    sha256, sha1 = (bytes.fromhex(f"06092a864886f70d0101{last:02x}") for last in (11, 5))
    tbs = good.tbs_certificate_bytes.replace(sha256, sha1)
    signature = key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    whole = good.public_bytes(serialization.Encoding.DER)
    whole = whole.replace(good.tbs_certificate_bytes, tbs).replace(sha256, sha1).replace(good.signature, signature)
    return x509.load_der_x509_certificate(whole)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """Return an RSA key of 2048 bits, made once, because it takes its time."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def is_a_ca(ca: CA, csr: bytes) -> Delivery:
    """Make it able to sign certificates itself."""
    return ca.deliver(csr, is_ca=True)


def missing_intermediate(ca: CA, csr: bytes) -> Delivery:
    """Leave the issuing CA's certificate out."""
    return Delivery(certificate=ca.sign(csr), pool=(ca.root.certificate,))


def missing_root(ca: CA, csr: bytes) -> Delivery:
    """Leave the root's certificate out."""
    return Delivery(certificate=ca.sign(csr), pool=(ca.issuing.certificate,))


def other_ca(ca: CA, csr: bytes) -> Delivery:
    """Sign all as asked, but by another CA."""
    return make_ca(now=ca.now, name="Other").deliver(csr)


def bad_signature(ca: CA, csr: bytes) -> Delivery:
    """Send an issuer of the right name and another key."""
    twin = intermediate(ca.root, "Test Issuing CA", now=ca.now)
    return Delivery(certificate=ca.sign(csr), pool=(twin.certificate, ca.root.certificate))


def expired_intermediate(ca: CA, csr: bytes) -> Delivery:
    """Send an issuing CA that ended last week."""
    old = intermediate(
        ca.root,
        "Test Issuing CA",
        key=ca.issuing.key,
        not_before=ca.now - dt.timedelta(days=900),
        not_after=ca.now - dt.timedelta(days=7),
    )
    return Delivery(certificate=ca.sign(csr), pool=(old.certificate, ca.root.certificate))


def issuer_not_yet_valid(ca: CA, csr: bytes) -> Delivery:
    """Send an issuing CA that begins tomorrow."""
    tomorrow = ca.now + dt.timedelta(days=1)
    new = intermediate(ca.root, "Test Issuing CA", now=ca.now, key=ca.issuing.key, not_before=tomorrow)
    return Delivery(certificate=ca.sign(csr), pool=(new.certificate, ca.root.certificate))


def path_too_long(ca: CA, csr: bytes) -> Delivery:
    """Sign by a CA that its own issuer may not have made (RFC 5280 section 4.2.1.9)."""
    last = intermediate(ca.root, "Test Last CA", now=ca.now, path_length=0)
    below = intermediate(last, "Test Issuing CA", now=ca.now, key=ca.issuing.key)
    return Delivery(certificate=ca.sign(csr), pool=(below.certificate, last.certificate, ca.root.certificate))


def without_tls_key_usage(ca: CA, csr: bytes) -> Delivery:
    """Allow the key to sign documents only."""
    return ca.deliver(csr, key_usage=key_usage_of(signs_certificates=False, for_tls=False))


DEFECTS: dict[str, Callable[[CA, bytes], Delivery]] = {
    defect.__name__: defect
    for defect in (
        wrong_key,
        missing_name,
        common_name_only,
        other_common_name,
        without_client_auth,
        without_server_auth,
        expired,
        not_yet_valid,
        ends_soon,
        without_tls_key_usage,
        sha1_signature,
        sha1_issuer,
        is_a_ca,
        missing_intermediate,
        missing_root,
        other_ca,
        bad_signature,
        expired_intermediate,
        issuer_not_yet_valid,
        path_too_long,
    )
}


# ── encodings: the same certificates as they arrive ──────────────────────────────────────────────────────────────────
def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write one PEM block after the other."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def crlf(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write lines as Windows does."""
    return pem(certificates).replace(b"\n", b"\r\n")


def byte_order_mark(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write UTF-8 as Notepad saves it."""
    return b"\xef\xbb\xbf" + crlf(certificates)


def utf16(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write "Unicode" as Notepad saves it."""
    return crlf(certificates).decode("ascii").encode("utf-16")


def mail(certificates: Iterable[x509.Certificate]) -> bytes:
    """Quote them in a mail, with words around."""
    quoted = b"".join(b"> " + line for line in pem(certificates).splitlines(keepends=True))
    return "Guten Tag,\nanbei das Zertifikat. Schöne Grüße\n".encode() + quoted + b"\n-- \nYour CA\n"


def bag_attributes(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write them as `openssl pkcs12` does."""
    return b"".join(b"Bag Attributes: <No Attributes>\nsubject=CN = x\n\n" + pem([each]) for each in certificates)


def pkcs7_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return a .p7b in letters."""
    return pkcs7.serialize_certificates(list(certificates), serialization.Encoding.PEM)


def pkcs7_der(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return a .p7b in bytes, as Windows exports it."""
    return pkcs7.serialize_certificates(list(certificates), serialization.Encoding.DER)


def der(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write one certificate in bytes."""
    (only,) = certificates
    return only.public_bytes(serialization.Encoding.DER)


def with_private_key(certificates: Iterable[x509.Certificate], key: Key) -> bytes:
    """Put the private key before its certificates, a defect of its own."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + pem(certificates)


ENCODINGS: dict[str, Callable[[Iterable[x509.Certificate]], bytes]] = {
    encoding.__name__: encoding
    for encoding in (pem, crlf, byte_order_mark, utf16, mail, bag_attributes, pkcs7_pem, pkcs7_der)
}
