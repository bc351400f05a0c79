"""What the database asks of its certificates (S1, MMP reference 3.2): pure functions over the contents of files.

The client's CN is `postgres`, the chain is verified (`sslmode=verify-ca`), the host name is not; so the server's names
are free.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from simulator import pki

CLIENT_NAME = "postgres"


def chain(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates in *data* as PEM, in order."""
    return tuple(pki.to_pem(certificate) for certificate in pki.load_certificates(data))


def expired(data: bytes, now: datetime) -> bool:
    """Tell whether *data* holds a certificate that is out of date; a key never is."""
    return any(now > certificate.not_valid_after_utc for certificate in pki.load_certificates(data))


def problem(files: Sequence[str], contents: Mapping[str, bytes], now: datetime) -> tuple[str, str] | None:
    """Return (key of the text, file) of the first thing wrong with five or three files, or None when all is well."""
    *pairs, authority_file = files
    authorities = pki.load_certificates(contents.get(authority_file, b""))
    if not authorities:
        return "database.unreadable", authority_file
    if expired(contents[authority_file], now):
        return "database.expired", authority_file
    for key_file, certificate_file in zip(pairs[::2], pairs[1::2], strict=True):
        found = _pair_problem(key_file, certificate_file, contents, authorities, now)
        if found is not None:
            return found
    client = pki.load_certificates(contents[pairs[-1]])[0]
    names = [str(name.value) for name in client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return None if names == [CLIENT_NAME] else ("database.client-name", pairs[-1])


def _pair_problem(
    key_file: str,
    certificate_file: str,
    contents: Mapping[str, bytes],
    authorities: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[str, str] | None:
    certificates = pki.load_certificates(contents.get(certificate_file, b""))
    try:
        key = pki.load_key(contents.get(key_file, b""))
    except TypeError:  # locked by a pass phrase
        key = None
    if key is None or not certificates:
        return "database.unreadable", certificate_file if key else key_file
    if not pki.same_key(key, certificates[0]):
        return "database.no-match", certificate_file
    if expired(contents[certificate_file], now):
        return "database.expired", certificate_file
    if not _verified(certificates, authorities):
        return "database.no-verify", certificate_file
    return None


def _verified(certificates: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> bool:
    """Tell whether the first certificate leads, over what else its file holds, to one of *authorities*."""
    current, pool = certificates[0], certificates[1:]
    for _ in range(len(certificates)):
        if any(pki.issued_by(current, authority) for authority in authorities):
            return True
        upper = next((candidate for candidate in pool if pki.issued_by(current, candidate)), None)
        if upper is None:
            return False
        current = upper
    return False


def same_authority(one: bytes, other: bytes) -> bool:
    """Tell whether two CA files hold the same certificates."""
    return set(chain(one)) == set(chain(other))
