"""Is the signed certificate the one that was asked for? Every check at once, before any server is touched.

Rules: faults.md section 6.1 and fault F21; CA/Browser Forum ballot SC-081v3 for public lifetimes. Not here: reading
files (`pile`), finding out whose certificate it is (`match`), showing the result (gates).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from workflows.errors import CertificateError, ChainIncomplete, Finding
from workflows.x509.chain import is_self_signed, order_chain, verify_chain
from workflows.x509.names import Findings, Subject, SubjectAltNames
from workflows.x509.renewal import CertificateView, Usage, allows, fingerprint, is_ca, serial_number, view
from workflows.x509.request import RequestView, key_fault

Certificate = x509.Certificate

# Clocks of a CA and of a server differ; this much of "not yet valid" is forgiven.
SKEW: Final = timedelta(minutes=5)
_BROKEN_HASHES: Final = {"md5", "sha1", "md2", "md4"}
# The longest public lifetimes in days by the date of issue, SC-081v3.
_PUBLIC_DAYS: Final = (
    (datetime(2029, 3, 15, tzinfo=UTC), 47),
    (datetime(2027, 3, 15, tzinfo=UTC), 100),
    (datetime(2026, 3, 15, tzinfo=UTC), 200),
    (datetime(2020, 9, 1, tzinfo=UTC), 398),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the certificate is to be. *public_issuer* asks for the warnings of the public web."""

    subject: Subject
    sans: SubjectAltNames
    usages: frozenset[Usage] = frozenset({"server"})
    public_issuer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance(Findings):
    """What was found, and the chain (leaf first, root last; () when it could not be built)."""

    chain: tuple[Certificate, ...] = ()


def check_signed(
    certificate: Certificate,
    *,
    request: RequestView,
    wish: Wish,
    pool: Iterable[Certificate],
    now: datetime,
    current: Certificate | None = None,
    anchors: Iterable[Certificate] = (),
    minimum_days: int = 30,
    private_keys: Sequence[str] = (),
) -> Acceptance:
    """Return every fault and warning of *certificate*, given for *request*, to be used from *now*.

    *pool* holds the issuers delivered with it; *anchors* the roots that the fleet trusts. Without anchors the root
    in the pool is taken at its word, and a warning says so. *current* is the certificate in use, *private_keys* the
    files of the pile that held one (`Pile.private_keys`). Never raises for what the CA sent.
    """
    try:
        seen = view(certificate)
    except CertificateError as error:
        return Acceptance(faults=error.findings)
    trusted = tuple(anchors)
    faults = [
        *_origin(seen, certificate, request, current, private_keys),
        *_names(seen, wish),
        *_usage(certificate, seen, wish),
        *_validity(seen, now, minimum_days),
        *_strength(certificate),
    ]
    chain, broken = _chain(certificate, (*pool, *trusted), trusted, wish.usages, now)
    return Acceptance(
        faults=(*faults, *broken),
        warnings=(*_differences(seen, wish), *_lifetime(seen, wish), *_chain_warnings(chain, trusted, now)),
        chain=chain,
    )


def _origin(
    seen: CertificateView,
    certificate: Certificate,
    request: RequestView,
    current: Certificate | None,
    private_keys: Sequence[str],
) -> Iterator[Finding]:
    if seen.spki_sha256 != request.spki_sha256:
        what = f"the certificate belongs to another key ({seen.key_kind}) than the request ({request.key_kind})"
        yield Finding("key", what, "Have the CA sign this run's CSR, and deliver what it made from that.")
    if current is not None and fingerprint(certificate) == fingerprint(current):
        what = f"this is the certificate that is in use already (serial {seen.serial})"
        yield Finding("serial", what, "Deliver the newly signed certificate.")
    elif current is not None and _identity(certificate) == _identity(current):
        what = f"issuer and serial {seen.serial} are those of the certificate in use, though the contents differ"
        yield Finding("serial", what, "Ask the CA: serial numbers must never repeat.")
    for source in private_keys:
        what = f"there is a private key in {source}; it was not kept"
        yield Finding("pile", what, "Deliver certificates alone, and make a new CSR if others have had that file.")


def _identity(certificate: Certificate) -> tuple[x509.Name, int]:
    return certificate.issuer, serial_number(certificate)


def _names(seen: CertificateView, wish: Wish) -> Iterator[Finding]:
    again = "Have the CA issue it again with the names of the CSR."
    if wish.subject.CN and seen.subject.CN.lower() != wish.subject.CN.lower():
        yield Finding("CN", f"CN is {seen.subject.CN!r}; asked for was {wish.subject.CN!r}", again)
    if missing := wish.sans.without(seen.sans):
        yield Finding("subject_alt_names", f"{missing} is missing from the subject alternative names", again)


def _usage(certificate: Certificate, seen: CertificateView, wish: Wish) -> Iterator[Finding]:
    for usage in sorted(wish.usages):
        if not allows(certificate, usage):
            there = ", ".join(seen.usages or ()) or "nothing"
            what = f"the extended key usage lacks {usage}Auth (it allows {there})"
            remedy = f"Have it issued from a template with {usage}Auth"
            # faults.md, finding 12: the public CAs stopped issuing clientAuth in 2026.
            yield Finding(
                "usage",
                what,
                f"{remedy}; public CAs no longer do, a private CA does." if usage == "client" else f"{remedy}.",
            )
    if not _key_usage_fits(certificate):
        what = "the key usage allows neither digitalSignature nor keyEncipherment, so no TLS"
        yield Finding("usage", what, "Have it issued from a TLS server template.")
    if seen.is_ca:
        what = "this is a CA certificate, not one for a server"
        yield Finding("CA", what, "Deliver the end entity's certificate, or have it issued without CA=true.")


def _key_usage_fits(certificate: Certificate) -> bool:
    """Return whether TLS may use the key; no extension allows all (RFC 5280 section 4.2.1.3)."""
    try:
        value = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return value.digital_signature or value.key_encipherment


def _validity(seen: CertificateView, now: datetime, minimum_days: int) -> Iterator[Finding]:
    again = "Have the CA issue it again."
    if seen.not_after < now:
        yield Finding("validity", f"it expired on {seen.not_after:%Y-%m-%d %H:%M} UTC", again)
    elif seen.not_before > now + SKEW:
        what = f"it is not valid before {seen.not_before:%Y-%m-%d %H:%M} UTC"
        yield Finding("validity", what, "Wait until then, correct the clock here, or have it issued again.")
    if now <= seen.not_after < now + timedelta(days=minimum_days):
        what = f"it ends on {seen.not_after:%Y-%m-%d}, in {(seen.not_after - now).days} days; asked are {minimum_days}"
        yield Finding("validity", what, "Have it issued for longer, or lower the minimum.")


def _strength(certificate: Certificate) -> Iterator[Finding]:
    if fault := key_fault(certificate.public_key()):
        yield Finding("key", fault, "Make a new key and CSR.")
    if weak := _weak_hash(certificate):
        yield Finding("signature", f"it is signed with {weak}", "Have the CA sign with SHA-256 or better.")


def _weak_hash(certificate: Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return f"an unknown algorithm ({certificate.signature_algorithm_oid.dotted_string})"
    return algorithm.name.upper() if algorithm is not None and algorithm.name in _BROKEN_HASHES else ""


def _chain(
    leaf: Certificate,
    pool: tuple[Certificate, ...],
    anchors: tuple[Certificate, ...],
    usages: frozenset[Usage],
    now: datetime,
) -> tuple[tuple[Certificate, ...], tuple[Finding, ...]]:
    """Return the chain and its faults. The library's own verdict is asked only when our words have found nothing."""
    try:
        chain = order_chain(leaf, pool)
    except ChainIncomplete as error:
        return (), error.findings
    faults = [*_issuer_faults(chain, now)]
    if anchors and fingerprint(chain[-1]) not in {fingerprint(anchor) for anchor in anchors}:
        what = f"the chain ends in {chain[-1].subject.rfc4514_string()}, which is not a root that this fleet trusts"
        faults.append(Finding("chain", what, "Have it issued by the right CA, or add that root to the issuer."))
    # What `_validity`, `_usage` and `_strength` have named already would only come a second time.
    named = (
        not leaf.not_valid_before_utc - SKEW <= now <= leaf.not_valid_after_utc
        or not all(allows(leaf, usage) for usage in usages)
        or is_ca(leaf)
        or key_fault(leaf.public_key())
        or _weak_hash(leaf)
    )
    if not faults and not named:
        try:
            # A leaf that begins within the skew is looked at from the moment it begins.
            verify_chain(leaf, pool=pool, anchors=chain[-1:], now=max(now, leaf.not_valid_before_utc), usages=usages)
        except CertificateError as error:
            faults.extend(error.findings)
    return chain, tuple(faults)


def _issuer_faults(chain: tuple[Certificate, ...], now: datetime) -> Iterator[Finding]:
    for issuer in chain[1:]:
        name = issuer.subject.rfc4514_string()
        if issuer.not_valid_after_utc < now:
            what = f"the issuer {name} expired on {issuer.not_valid_after_utc:%Y-%m-%d}"
            yield Finding("chain", what, "Deliver the CA's present certificate of that name.")
        elif issuer.not_valid_before_utc > now + SKEW:
            what = f"the issuer {name} is not valid before {issuer.not_valid_before_utc:%Y-%m-%d}"
            yield Finding("chain", what, "Deliver the CA's present certificate of that name.")
        # A root is trusted for its key, so its own signature does not matter.
        if not is_self_signed(issuer) and (weak := _weak_hash(issuer)):
            yield Finding("chain", f"the issuer {name} is signed with {weak}", "Ask the CA for a newer issuer.")


def _differences(seen: CertificateView, wish: Wish) -> Iterator[Finding]:
    there = dict(seen.subject.items())
    for part, value in wish.subject.items():
        if part != "CN" and there.get(part) != value:
            what = f"{part} is {there.get(part, 'absent')!r}; asked for was {value!r}"
            yield Finding(part, what, "Public CAs change or drop it; nothing depends on it.")
    # A database client is known by its CN (row S1), and nobody compares it with the name of a server.
    if not wish.sans and not seen.sans and "server" in wish.usages:
        what = "there are no subject alternative names, as asked; clients that follow RFC 9525 will refuse it"
        yield Finding("subject_alt_names", what, "Ask for the CN as a subject alternative name next time.")
    if extra := seen.sans.without(wish.sans).without(SubjectAltNames.parse([wish.subject.CN])):
        yield Finding("subject_alt_names", f"the CA added {extra}", "Make sure that these names are yours.")


def _lifetime(seen: CertificateView, wish: Wish) -> Iterator[Finding]:
    if not wish.public_issuer:
        return
    limit = next((days for since, days in _PUBLIC_DAYS if seen.not_before >= since), None)
    # Both ends count (RFC 5280 section 4.1.2.5), hence the second.
    lifetime = seen.not_after - seen.not_before + timedelta(seconds=1)
    if limit is not None and lifetime > timedelta(days=limit):
        what = f"it is valid for {lifetime.days} days; public certificates of its date have at most {limit}"
        yield Finding("validity", what, "Browsers will refuse it if its root is a public one.")


def _chain_warnings(
    chain: tuple[Certificate, ...], anchors: tuple[Certificate, ...], now: datetime
) -> Iterator[Finding]:
    if not chain:
        return
    if not anchors:
        root = chain[-1]
        what = f"the root {root.subject.rfc4514_string()} came with the delivery (SHA-256 {fingerprint(root)})"
        yield Finding("chain", what, "Compare the fingerprint with the one that the CA publishes.")
    for issuer in chain[1:]:
        if now <= issuer.not_valid_after_utc < chain[0].not_valid_after_utc:
            what = f"the issuer {issuer.subject.rfc4514_string()} ends before the certificate does"
            yield Finding("chain", what, f"Count on renewing before {issuer.not_valid_after_utc:%Y-%m-%d}.")
