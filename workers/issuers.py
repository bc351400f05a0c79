"""Issuers that sign by themselves after the approval. `local`: a private CA whose certificate and key lie on disk.

`manual` needs nothing here: people bring files (`workflows.papers.deliver`). What an issuer signs comes in by the same
door, with the same checks. The CA key is read for each signing and kept nowhere; it is never logged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from workers.context import Work
from workflows import papers
from workflows.errors import CSRRejected, IssuerError
from workflows.inventory import Issuer, IssuerKind, ResolvedFleet
from workflows.plan import Plan
from workflows.x509.request import PrivateKey, RequestView, general_names, read_private_key, spki_sha256

_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
# A CA's clock and a server's differ a little; this much earlier does no harm.
_BACKDATED = timedelta(minutes=5)
Passphrase = Callable[[str], bytes | None]


def sign_missing(
    work: Work, plan: Plan, fleet: ResolvedFleet, run: str, lane: str, *, now: datetime
) -> dict[str, bytes]:
    """Return {file name: PEM} of a certificate for every wish of *lane* that has none and whose issuer signs by itself.

    The issuer's chain files come along. Raises: IssuerError, CSRRejected.
    """
    state = work.journal.state(run).lanes[lane]
    requests = papers.requests_of(work.journal, run, plan, lane)
    files: dict[str, bytes] = {}
    opened: dict[str, LocalCA] = {}
    for wish, request in requests.items():
        issuer = fleet.issuer(plan.wishes[wish]["issuer"])
        if wish in state.certificates or issuer.kind is not IssuerKind.LOCAL:
            continue
        if issuer.name not in opened:
            opened[issuer.name] = open_ca(issuer, work.passphrase)
        certificate = sign(opened[issuer.name], request, usages=papers.wish_of(plan, wish).usages, now=now)
        files[f"{wish}.crt"] = certificate.public_bytes(serialization.Encoding.PEM)
        files |= {path: _read(issuer, path) for path in (issuer.certificate, *issuer.chain)}
    return files


@dataclass(frozen=True, slots=True)
class LocalCA:
    """A private CA, open for signing: opening its key costs more than a signature, so it is done once a lane."""

    issuer: Issuer
    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


def open_ca(issuer: Issuer, passphrase: Passphrase) -> LocalCA:
    """Return the CA of *issuer*. Raises: IssuerError (files that cannot be read, a key that is not the CA's)."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(issuer, issuer.certificate))
    except ValueError:
        raise IssuerError(
            f"{issuer.certificate} holds no certificate in PEM form.", remedy="Correct the issuer in the inventory."
        ) from None
    key = read_private_key(_read(issuer, issuer.key), passphrase(issuer.passphrase_credential))
    if spki_sha256(key) != spki_sha256(certificate):
        raise IssuerError(
            f"{issuer.key} is not the key of {issuer.certificate}.", remedy="Correct the issuer in the inventory."
        )
    return LocalCA(issuer, certificate, key)


def sign(local: LocalCA, request: RequestView, *, usages: frozenset[str], now: datetime) -> x509.Certificate:
    """Return a certificate for *request*, valid for the `days` of the issuer from *now*, at most as long as the CA.

    Raises: IssuerError (the CA has expired), CSRRejected (not signed by its own key).
    """
    if not request.signature_ok:
        raise CSRRejected("The CSR is not signed by its own key.", remedy="Make the request again.")
    issuer, ca, key = local.issuer, local.certificate, local.key
    ends = min(now + timedelta(days=issuer.days), ca.not_valid_after_utc)
    if ends <= now:
        raise IssuerError(f"The CA certificate {issuer.certificate} has expired.", remedy="Renew the CA first.")
    csr = x509.load_pem_x509_csr(request.pem)
    hashed = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(ca.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - _BACKDATED, ca.not_valid_before_utc))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_encipherment=True,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([_USAGES[usage] for usage in sorted(usages, reverse=True)]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), critical=False)
        .add_extension(_authority_key(ca), critical=False)
    )
    names = general_names(request.sans)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashed)


def _authority_key(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the CA's key identifier as it calls itself, else made from its key (RFC 5280 section 4.2.1.1)."""
    try:
        own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())  # type: ignore[arg-type] # a CA's key signs
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _read(issuer: Issuer, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise IssuerError(
            f"Issuer {issuer.name!r}: {path} cannot be read ({error.strerror}).",
            remedy="Correct the path in the inventory, or let this account read the file.",
        ) from None
