"""What `pki inspect` prints: OpenSSL's `-text` layout of certificates and requests (MMP reference 2.2, recalled).

Private keys are named, never printed.
"""

import textwrap
from collections.abc import Mapping
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from simulator import pki
from simulator.texts import say

_SHORT = MappingProxyType(
    {
        "countryName": "C",
        "stateOrProvinceName": "ST",
        "localityName": "L",
        "organizationName": "O",
        "organizationalUnitName": "OU",
        "commonName": "CN",
    }
)
_SIGNATURES = MappingProxyType(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA1: "sha1WithRSAEncryption",
        SignatureAlgorithmOID.RSA_WITH_SHA256: "sha256WithRSAEncryption",
        SignatureAlgorithmOID.RSA_WITH_SHA384: "sha384WithRSAEncryption",
        SignatureAlgorithmOID.RSA_WITH_SHA512: "sha512WithRSAEncryption",
        SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
        SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    }
)
_USAGES = MappingProxyType(
    {
        ExtendedKeyUsageOID.SERVER_AUTH: "TLS Web Server Authentication",
        ExtendedKeyUsageOID.CLIENT_AUTH: "TLS Web Client Authentication",
        ExtendedKeyUsageOID.EMAIL_PROTECTION: "E-mail Protection",
        ExtendedKeyUsageOID.CODE_SIGNING: "Code Signing",
    }
)


def describe(data: bytes, overrides: Mapping[str, str]) -> str:
    """Return what `pki inspect` says about a file with the content *data*."""
    encoding = "PEM" if b"-----BEGIN" in data else "DER"
    certificates = pki.load_certificates(data)
    if certificates:
        head = say("pki.inspect-certificate", overrides, encoding=encoding)
        return head + "".join(_certificate(certificate) for certificate in certificates)
    request = pki.load_request(data)
    if request is not None:
        return say("pki.inspect-csr", overrides, encoding=encoding) + _request(request)
    try:
        key = pki.load_key(data)
    except TypeError:
        return say("pki.inspect-locked", overrides, encoding=encoding)
    if key is None:
        return say("pki.inspect-unknown", overrides)
    algorithm = "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC"
    return say("pki.inspect-key", overrides, encoding=encoding, bits=key.key_size, algorithm=algorithm)


def distinguished_name(name: x509.Name) -> str:
    """Return *name* as OpenSSL prints it: `C = GB, O = Example Ltd, CN = a.example.com`."""
    parts = []
    for attribute in name:
        label = getattr(attribute.oid, "_name", attribute.oid.dotted_string)
        parts.append(f"{_SHORT.get(label, label)} = {attribute.value!s}")
    return ", ".join(parts)


def _certificate(certificate: x509.Certificate) -> str:
    algorithm = _SIGNATURES.get(certificate.signature_algorithm_oid, certificate.signature_algorithm_oid.dotted_string)
    lines = [
        "Certificate:",
        "    Data:",
        "        Version: 3 (0x2)",
        "        Serial Number:",
        "            "
        + _colons(certificate.serial_number.to_bytes(certificate.serial_number.bit_length() // 8 + 1, "big")),
        f"    Signature Algorithm: {algorithm}",
        "        Issuer: " + distinguished_name(certificate.issuer),
        "        Validity",
        f"            Not Before: {certificate.not_valid_before_utc:%b %e %H:%M:%S %Y} GMT",
        f"            Not After : {certificate.not_valid_after_utc:%b %e %H:%M:%S %Y} GMT",
        "        Subject: " + distinguished_name(certificate.subject),
        *_public_key(certificate.public_key()),
        "        X509v3 extensions:",
        *_extensions(certificate.extensions, 12),
        f"    Signature Algorithm: {algorithm}",
        *_dump(certificate.signature, 9, 18),
    ]
    return "\n".join(lines) + "\n"


def _request(request: x509.CertificateSigningRequest) -> str:
    algorithm = _SIGNATURES.get(request.signature_algorithm_oid, request.signature_algorithm_oid.dotted_string)
    lines = [
        "Certificate Request:",
        "    Data:",
        "        Version: 1 (0x0)",
        "        Subject: " + distinguished_name(request.subject),
        *_public_key(request.public_key()),
        "        Attributes:",
        *(["        Requested Extensions:"] if len(request.extensions) else ["            a0:00"]),
        *_extensions(request.extensions, 12),
        f"    Signature Algorithm: {algorithm}",
        *_dump(request.signature, 9, 18),
    ]
    return "\n".join(lines) + "\n"


def _public_key(key: object) -> list[str]:
    lines = ["        Subject Public Key Info:"]
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        modulus = numbers.n.to_bytes(key.key_size // 8 + 1, "big")
        lines += [
            "            Public Key Algorithm: rsaEncryption",
            f"                RSA Public-Key: ({key.key_size} bit)",
            "                Modulus:",
            *_dump(modulus, 20, 15),
            f"                Exponent: {numbers.e} (0x{numbers.e:x})",
        ]
    elif isinstance(key, ec.EllipticCurvePublicKey):
        lines += [
            "            Public Key Algorithm: id-ecPublicKey",
            f"                Public-Key: ({key.key_size} bit)",
            f"                ASN1 OID: {key.curve.name}",
        ]
    return lines


def _extensions(extensions: x509.Extensions, indent: int) -> list[str]:
    lines = []
    for extension in extensions:
        value = extension.value
        critical = " critical" if extension.critical else ""
        match value:
            case x509.BasicConstraints():
                title, text = "X509v3 Basic Constraints", f"CA:{str(value.ca).upper()}"
            case x509.SubjectKeyIdentifier():
                title, text = "X509v3 Subject Key Identifier", _colons(value.digest).upper()
            case x509.AuthorityKeyIdentifier():
                title, text = "X509v3 Authority Key Identifier", "keyid:" + _colons(value.key_identifier or b"").upper()
            case x509.KeyUsage():
                title, text = "X509v3 Key Usage", ", ".join(_key_usages(value))
            case x509.ExtendedKeyUsage():
                title = "X509v3 Extended Key Usage"
                text = ", ".join(_USAGES.get(usage, usage.dotted_string) for usage in value)
            case x509.SubjectAlternativeName():
                title, text = "X509v3 Subject Alternative Name", ", ".join(_general_name(name) for name in value)
            case _:
                title, text = extension.oid.dotted_string, "..."
        lines += [f"{'':{indent}}{title}:{critical}", f"{'':{indent + 4}}{text}"]
    return lines


def _key_usages(usage: x509.KeyUsage) -> list[str]:
    table = {
        "Digital Signature": usage.digital_signature,
        "Non Repudiation": usage.content_commitment,
        "Key Encipherment": usage.key_encipherment,
        "Data Encipherment": usage.data_encipherment,
        "Key Agreement": usage.key_agreement,
        "Certificate Sign": usage.key_cert_sign,
        "CRL Sign": usage.crl_sign,
    }
    return [name for name, used in table.items() if used]


def _general_name(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP Address:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case _:
            return f"othername:{name.value!s}"


def _colons(data: bytes) -> str:
    return data.hex(":")


def _dump(data: bytes, indent: int, per_line: int) -> list[str]:
    return [" " * indent + line for line in textwrap.wrap(_colons(data), per_line * 3, break_on_hyphens=False)]
