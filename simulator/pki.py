"""Keys, requests and certificates of an appliance: pure functions over bytes, no state and no network.

Keys are RSA 2048 as `pki csr` makes them (its two runs of dots are the two primes, MMP reference 2.2). The lines that
the `pki` commands print are in `pki_commands.py`, the layout of `pki inspect` in `inspection.py`.
"""

import asyncio
import ipaddress
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

type_of_key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
SHA256 = hashes.SHA256()
BASENAME = re.compile(r"[A-Za-z0-9_-]+")
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_ATTRIBUTES = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}


class AttributeRejected(ValueError):
    """An attribute of `pki csr` cannot be used; the argument is the attribute as typed."""


class KeySource(Protocol):
    """Where new private keys come from."""

    async def take(self) -> rsa.RSAPrivateKey:
        """Return a key nobody else was given."""


class FreshKeys:
    """Makes every key when it is asked for (about 50 ms each), off the event loop."""

    async def take(self) -> rsa.RSAPrivateKey:
        """Return a new RSA 2048 key."""
        return await asyncio.to_thread(rsa.generate_private_key, 65537, 2048)


class KeyPool:
    """Hands out keys made beforehand, round robin, for fleets so large that RSA would be the measured thing."""

    def __init__(self, keys: Sequence[rsa.RSAPrivateKey]) -> None:
        if not keys:
            raise ValueError("a key pool needs at least one key")
        self._keys = itertools.cycle(keys)

    @classmethod
    def of_size(cls, size: int) -> "KeyPool":
        """Return a pool of *size* different keys.

        The keys share primes (n keys need about the square root of 2n primes), so a thousand cost little more than
        twenty. Such keys are worthless outside a simulation: whoever has two public keys can factor them.
        """
        primes: list[int] = []
        while len(primes) * (len(primes) - 1) // 2 < size:
            numbers = rsa.generate_private_key(65537, 2048).private_numbers()
            primes += [numbers.p, numbers.q]
        pairs = itertools.islice(itertools.combinations(primes, 2), size)
        return cls([_key_of_primes(p, q) for p, q in pairs])

    @classmethod
    def from_file(cls, path: Path) -> "KeyPool":
        """Return the pool of all PEM keys in the file at *path*. Raises: OSError, ValueError."""
        keys = [load_key(block) for block in pem_blocks(path.read_bytes())]
        return cls([key for key in keys if isinstance(key, rsa.RSAPrivateKey)])

    async def take(self) -> rsa.RSAPrivateKey:
        """Return the next key of the pool."""
        return next(self._keys)


def _key_of_primes(p: int, q: int) -> rsa.RSAPrivateKey:
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(e, p * q),
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)  # the primes come from whole keys


def key_to_pem(key: type_of_key) -> bytes:
    """Return *key* as unencrypted PEM in OpenSSL's traditional form."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def to_pem(item: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return a certificate or request as PEM."""
    return item.public_bytes(serialization.Encoding.PEM)


def pem_blocks(data: bytes) -> list[bytes]:
    """Return the PEM blocks found in *data*, in order."""
    return [match.group(0) + b"\n" for match in _PEM_BLOCK.finditer(data)]


def load_key(data: bytes, password: bytes | None = None) -> type_of_key | None:
    """Return the RSA or EC private key in *data* (PEM or DER), or None. Raises: TypeError when it is locked."""
    loader = serialization.load_pem_private_key if b"-----BEGIN" in data else serialization.load_der_private_key
    try:
        key = loader(data, password, unsafe_skip_rsa_key_validation=True)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None


def load_certificates(data: bytes) -> list[x509.Certificate]:
    """Return the certificates in *data* (PEM, any number, or one in DER), in order; [] when there is none."""
    try:
        if b"-----BEGIN" in data:
            return [
                x509.load_pem_x509_certificate(b) for b in pem_blocks(data) if b.startswith(b"-----BEGIN CERTIFICATE-")
            ]
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        return []


def load_request(data: bytes) -> x509.CertificateSigningRequest | None:
    """Return the request in *data* (PEM or DER), or None."""
    try:
        return x509.load_pem_x509_csr(data) if b"-----BEGIN" in data else x509.load_der_x509_csr(data)
    except ValueError:
        return None


def same_key(key: type_of_key, certificate: x509.Certificate) -> bool:
    """Tell whether *certificate* holds the public half of *key*."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The subject and alternative names of a request or certificate."""

    subject: x509.Name
    names: tuple[x509.GeneralName, ...]

    @property
    def common_name(self) -> str:
        """The CN, or an empty text."""
        values = self.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(values[0].value) if values else ""


def read_attributes(words: Iterable[str]) -> Wish:
    """Return the wish that attributes such as `CN:a.example.com` and `subjectAltName:a,b` express.

    Raises: AttributeRejected: unknown, given twice, empty or malformed (C is not two letters).
    """
    values: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition(":")
        known = name in _ATTRIBUTES or name == "subjectAltName"
        if not known or not value or name in values or (name == "C" and not re.fullmatch("[A-Za-z]{2}", value)):
            raise AttributeRejected(word)
        values[name] = value
    alternative = values.pop("subjectAltName", "")
    try:
        subject = x509.Name([x509.NameAttribute(_ATTRIBUTES[n], values[n]) for n in _ATTRIBUTES if n in values])
        names = tuple(_general_name(text) for text in alternative.split(",") if text)
    except ValueError as problem:
        raise AttributeRejected(str(problem)) from problem
    return Wish(subject=subject, names=names)


def _general_name(text: str) -> x509.GeneralName:
    """Return *text* as IP address, e-mail address or DNS name (S20: all of them may stand in subjectAltName)."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.RFC822Name(text) if "@" in text else x509.DNSName(text)


def make_request(key: type_of_key, wish: Wish) -> x509.CertificateSigningRequest:
    """Return a request for *wish* signed by *key* (SHA-256)."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(wish.subject)
    if wish.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(wish.names), critical=False)
    return builder.sign(key, hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certification authority: its certificate and key."""

    certificate: x509.Certificate
    key: type_of_key

    def issue(
        self,
        *,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        wish: Wish,
        not_before: datetime,
        not_after: datetime,
        is_authority: bool = False,
    ) -> x509.Certificate:
        """Return a certificate for *wish*: an end entity's with serverAuth and clientAuth, or an authority's."""
        return _certificate(
            public_key=public_key,
            wish=wish,
            issuer=self.certificate.subject,
            signer=self.key,
            not_before=not_before,
            not_after=not_after,
            is_authority=is_authority,
        )


def make_root(*, key: type_of_key, wish: Wish, not_before: datetime, not_after: datetime) -> Authority:
    """Return a self-signed authority."""
    certificate = _certificate(
        public_key=key.public_key(),
        wish=wish,
        issuer=wish.subject,
        signer=key,
        not_before=not_before,
        not_after=not_after,
        is_authority=True,
    )
    return Authority(certificate=certificate, key=key)


def make_selfsigned(*, key: type_of_key, wish: Wish, now: datetime) -> x509.Certificate:
    """Return what `pki selfsigned` makes: a self-signed certificate that may also sign others, for ten years."""
    return make_root(
        key=key, wish=wish, not_before=now - timedelta(hours=1), not_after=now + timedelta(days=3650)
    ).certificate


def _certificate(
    *,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    wish: Wish,
    issuer: x509.Name,
    signer: type_of_key,
    not_before: datetime,
    not_after: datetime,
    is_authority: bool,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(wish.subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_key_usage(is_authority=is_authority), critical=True)
    )
    if not is_authority:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if wish.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(wish.names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not is_authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def chain_problem(leaf: x509.Certificate, pool: Sequence[x509.Certificate], now: datetime | None) -> str | None:
    """Return why *leaf* cannot be led to a self-signed certificate in *pool*, in OpenSSL's words, or None.

    With *now* every certificate must also be in date; None leaves the dates out.
    """
    current = leaf
    for _ in range(len(pool) + 1):
        if now is not None and now > current.not_valid_after_utc:
            return "certificate has expired"
        if now is not None and now < current.not_valid_before_utc:
            return "certificate is not yet valid"
        if current.subject == current.issuer:
            return None if current in pool else "self-signed certificate"
        issuer = next((candidate for candidate in pool if issued_by(current, candidate)), None)
        if issuer is None:
            return "unable to get local issuer certificate"
        current = issuer
    return "certificate chain too long"


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether *issuer* is an authority that signed *certificate*."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return constraints.ca


def ordered_full_chain(data: bytes) -> bool:
    """Tell whether *data* is a full chain file: entity, its issuers in order, a self-signed root at the end (S15)."""
    chain = load_certificates(data)
    if not chain or chain[-1].subject != chain[-1].issuer:
        return False
    return all(issued_by(lower, upper) for lower, upper in itertools.pairwise(chain))
