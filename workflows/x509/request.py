"""Certificate signing requests: made here, or read from a server or from OpenSSL, and compared with the wish.

Also what requests share with certificates and keys: how a key is described ("rsa-2048") and recognised again
(`spki_sha256`). Not here: the files and lines of `pki csr` (`mmp`), and what the CA sends back (`acceptance`).

Rules: row S2 (two ways to make key and CSR), RFC 2986 (requests), RFC 5280 section 4.2.1.6 (names).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from workflows.errors import CertificateError, Finding
from workflows.x509.names import Findings, Subject, SubjectAltNames

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# All that the library says of damaged input; it has no common class for it.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_OIDS = {
    "CN": NameOID.COMMON_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "C": NameOID.COUNTRY_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
_BLOCK = re.compile(
    rb"-----BEGIN ((?:NEW )?CERTIFICATE REQUEST|(?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)


class KeyKind(StrEnum):
    """The keys that we make; the value is also what `key_kind` calls them."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    EC_P256 = "ec-secp256r1"
    EC_P384 = "ec-secp384r1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request as the rest of the core sees it; *pem* is the normalized file, LF only, one line end last."""

    subject: Subject
    sans: SubjectAltNames
    spki_sha256: str
    key_kind: str  # "rsa-2048", "ec-secp256r1", "ed25519", …
    key_fault: str  # why this key is too weak, '' when it is not
    signature_ok: bool
    signature: str  # "rsa-sha256", "ec-sha384", "ed25519"
    pem: bytes


def make_key(kind: KeyKind) -> PrivateKey:
    """Return a fresh private key."""
    if kind is KeyKind.EC_P256:
        return ec.generate_private_key(ec.SECP256R1())
    if kind is KeyKind.EC_P384:
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa-")))


def key_pem(key: PrivateKey) -> bytes:
    """Return *key* as unencrypted PEM, the only form that a server takes; the caller guards it."""
    # "Traditional" is the form of `pki csr` and of OpenSSL's own `genrsa`, so every release reads it.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def make_request(key: PrivateKey, subject: Subject, sans: SubjectAltNames) -> bytes:
    """Return the PEM request for these names, signed with SHA-256. Check them with `check_names` first.

    Raises: CertificateError: the names cannot be written into a request at all.
    """
    try:
        name = x509.Name([x509.NameAttribute(_OIDS[part], value) for part, value in subject.items()])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(general_names(sans)), critical=False)
        request = builder.sign(key, hashes.SHA256())
    except ValueError as error:
        finding = Finding("request", f"these names cannot be put into a request ({error})", "Correct the names.")
        raise CertificateError([finding]) from error
    return request.public_bytes(serialization.Encoding.PEM)


def read_request(data: bytes, *, where: str = "request") -> RequestView:
    """Read one request: PEM with or without text around it, CR LF, byte order mark, or DER.

    Raises: CertificateError: there is none, more than one, or it cannot be read.
    """
    pem = [match[0] for match in _BLOCK.finditer(data) if match[1].endswith(b"REQUEST")]
    if len(pem) > 1:
        finding = Finding(where, f"there are {len(pem)} requests in one file", "Give one request a file.")
        raise CertificateError([finding])
    try:
        request = x509.load_pem_x509_csr(pem[0]) if pem else x509.load_der_x509_csr(data)
        return view_request(request)
    except UNREADABLE as error:
        finding = Finding(where, "this is no readable certificate signing request", "Fetch or make the CSR again.")
        raise CertificateError([finding]) from error


def view_request(request: x509.CertificateSigningRequest) -> RequestView:
    """Return what a parsed request says. Raises one of UNREADABLE when its inside is damaged."""
    key = request.public_key()
    return RequestView(
        subject=subject_of(request.subject),
        sans=sans_of(request.extensions),
        spki_sha256=spki_sha256(request),
        key_kind=key_kind(key),
        key_fault=key_fault(key),
        signature_ok=request.is_signature_valid,
        signature=_signature(request),
        pem=request.public_bytes(serialization.Encoding.PEM),
    )


def check_request(
    request: RequestView, subject: Subject, sans: SubjectAltNames, *, minimum_rsa_bits: int = 2048
) -> Findings:
    """Return every way in which *request* is not what was wished.

    Names that nobody wished for are a fault: people approve the wish, and the CA would sign more. The CN among
    the SANs is not counted as such, because it adds no name.
    """
    faults: list[Finding] = []
    again = "Make the CSR again under a fresh basename."
    if not request.signature_ok:
        faults.append(Finding("signature", "the request is not signed by its own key", again))
    if request.key_fault:
        faults.append(Finding("key", request.key_fault, "Make a new key: RSA of 2048 bits or more, or EC P-256."))
    elif request.key_kind.startswith("rsa-") and int(request.key_kind[4:]) < minimum_rsa_bits:
        what = f"the key is {request.key_kind}; at least {minimum_rsa_bits} bits are asked for"
        faults.append(Finding("key", what, "Make a longer key, or lower the minimum."))
    asked, there = dict(subject.items()), dict(request.subject.items())
    for part in _OIDS:
        if asked.get(part) != there.get(part):
            what = f"{part} is {there.get(part, 'absent')!r}; wished for is {asked.get(part, 'none')!r}"
            faults.append(Finding(part, what, again))
    where = "subject_alt_names"
    if missing := sans.without(request.sans):
        faults.append(Finding(where, f"the request does not ask for {missing}", again))
    own = SubjectAltNames.parse([subject.CN]) if subject.CN else SubjectAltNames()
    if extra := request.sans.without(sans).without(own):
        faults.append(Finding(where, f"the request asks for {extra}, which nobody wished for", again))
    return Findings(faults=tuple(faults))


def read_private_key(data: bytes, password: bytes | None = None, *, where: str = "private key") -> PrivateKey:
    """Read an RSA or EC private key from PEM (also after EC PARAMETERS or text) or DER.

    Raises: CertificateError: no key, encrypted without a password, wrong password, or a kind that servers do not
    take. The message never carries any of *data*.
    """
    blocks = [match[0] for match in _BLOCK.finditer(data) if match[1].endswith(b"PRIVATE KEY")]
    what, remedy = "this is no readable private key", "Give an RSA or EC key as PEM."
    key: Any = None
    try:
        key = (
            serialization.load_pem_private_key(blocks[0], password)
            if blocks
            else serialization.load_der_private_key(data, password)
        )
    except TypeError:
        encrypted = password is None
        what = "the private key is encrypted" if encrypted else "a password was given, but the key is not encrypted"
        remedy = "Give its password, or decrypt it with `openssl pkey`." if encrypted else "Leave the password out."
    except (ValueError, UnsupportedAlgorithm):
        if password is not None:
            what, remedy = "the private key does not open with this password", "Give the right password."
    if key is not None and not isinstance(key, PrivateKey):
        key, what = None, "the key is neither RSA nor EC"
    if key is None:
        # Outside the handlers on purpose: no library error, and so no key material, hangs on ours.
        raise CertificateError([Finding(where, what, remedy)])
    return key  # type: ignore[no-any-return]


def spki_sha256(thing: Any) -> str:
    """Return the SHA-256 of a certificate's, a request's or a key's SubjectPublicKeyInfo as 64 hex digits."""
    key: Any = thing.public_key() if hasattr(thing, "public_key") else thing
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def key_kind(public_key: object) -> str:
    """Return what kind of key it is: "rsa-2048", "ec-secp256r1", "ed25519"."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"rsa-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"ec-{public_key.curve.name}"
    return type(public_key).__name__.removeprefix("_").removesuffix("PublicKey").lower()


def _signature(request: x509.CertificateSigningRequest) -> str:
    kind = key_kind(request.public_key()).partition("-")[0]
    hashed = request.signature_hash_algorithm
    return f"{kind}-{hashed.name}" if hashed else kind


def key_fault(public_key: object) -> str:
    """Return why a key is too weak or of a kind that TLS servers do not use, or '' (faults.md section 6.1)."""
    if isinstance(public_key, rsa.RSAPublicKey):
        if public_key.key_size < 2048:
            return f"the RSA key has {public_key.key_size} bits; fewer than 2048 are broken"
        # CA/Browser Forum Baseline Requirements section 6.1.5.
        return f"the RSA key has {public_key.key_size} bits, no multiple of 8" if public_key.key_size % 8 else ""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        usual = public_key.curve.name in {"secp256r1", "secp384r1", "secp521r1"}
        return "" if usual else f"the curve {public_key.curve.name} is not one that TLS clients take"
    return f"the key is {key_kind(public_key)}; servers take RSA and EC"


def general_names(sans: SubjectAltNames) -> list[x509.GeneralName]:
    """Return the names in the form that `cryptography` writes. Raises ValueError for a malformed one."""
    return [
        *map(x509.DNSName, sans.dns),
        *(x509.IPAddress(ipaddress.ip_address(name)) for name in sans.ip),
        *map(x509.RFC822Name, sans.email),
    ]


def subject_of(name: x509.Name) -> Subject:
    """Return the parts of *name* that `pki csr` knows; several values of one part are joined by " + "."""
    return Subject(**{part: " + ".join(_texts(name, oid)) for part, oid in _OIDS.items()})


def sans_of(extensions: x509.Extensions) -> SubjectAltNames:
    """Return the DNS names, IP addresses and e-mail addresses among *extensions*; other kinds are left out."""
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return SubjectAltNames()
    return SubjectAltNames(
        dns=tuple(found.get_values_for_type(x509.DNSName)),
        ip=tuple(str(address) for address in found.get_values_for_type(x509.IPAddress)),
        email=tuple(found.get_values_for_type(x509.RFC822Name)),
    )


def _texts(name: x509.Name, oid: x509.ObjectIdentifier) -> Iterable[str]:
    for attribute in name.get_attributes_for_oid(oid):
        value = attribute.value
        yield value if isinstance(value, str) else value.hex()
