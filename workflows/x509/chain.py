"""Chains: who issued whom, in which order, and whether a verifier accepts the result at a given time.

`order_chain` only finds the issuers; `verify_chain` hands the whole to the path validation of `cryptography`, with
our own rules where private CAs need more room than the public web gives them (each is listed, with its reason, by
`make limbo`). Not here: what the certificate was wished to be (`acceptance`), files (`bundle`).

Rules: RFC 5280 section 6.1, RFC 9525 section 6 (a name is looked for among the SANs only, never in the CN).
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache, partial

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import verification

from workflows.errors import CertificateError, ChainIncomplete, Finding
from workflows.x509.names import dns_fault
from workflows.x509.renewal import Usage, allows, fingerprint, serial_number
from workflows.x509.request import UNREADABLE, key_fault, sans_of

Certificate = x509.Certificate


def order_chain(leaf: Certificate, pool: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Return *leaf* and its issuers, leaf first, root last; `mmp.services` says who wants how much of it.

    Linked by issuer name and signature (RFC 5280 section 6.1.3 a). Where several issuers fit (cross-signed,
    renewed under the same name), those that outlive the leaf come first, then the shortest way to a root, then the
    smaller fingerprint; so the order of *pool* and copies in it change nothing, and loops end. Apart from that
    choice expiry is not looked at, see `renewal.due`.

    Raises: ChainIncomplete: no certificate in *pool* issued the last one found; `data["missing"]` is its name.
    """
    candidates = {fingerprint(certificate): certificate for certificate in pool}
    lasting = {
        key: candidate
        for key, candidate in candidates.items()
        if candidate.not_valid_after_utc >= leaf.not_valid_after_utc
    }
    way = _shortest_way(leaf, lasting) or _shortest_way(leaf, candidates)
    if not way:
        raise _incomplete(leaf, candidates)
    return way


@lru_cache(maxsize=16384)  # a fleet's deliveries ask the same of the same few issuers again and again
def issued(issuer: Certificate, certificate: Certificate) -> bool:
    """Return whether *issuer* bears the issuer's name and its key signed *certificate*, with SHA-1 too."""
    if issuer.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, UnsupportedAlgorithm):
        return _signed_with_old_hash(issuer, certificate)
    except (TypeError, InvalidSignature):
        return False
    return True


def is_self_signed(certificate: Certificate) -> bool:
    """Return whether *certificate* is signed by its own key, as a root is."""
    return issued(certificate, certificate)


def verify_chain(
    leaf: Certificate,
    *,
    pool: Iterable[Certificate],
    anchors: Iterable[Certificate],
    now: datetime,
    usages: frozenset[Usage] = frozenset(),
    peer_name: str = "",
    maximum_depth: int | None = None,
) -> tuple[Certificate, ...]:
    """Return the chain from *leaf* to one of *anchors* that holds at *now*.

    *usages* must each be allowed by every extended key usage on the way (no extension allows all); *peer_name*, a
    DNS name or IP address, must be among the SANs. Without it a leaf may be without SANs (database clients).
    *maximum_depth* counts the intermediates. Revocation is not looked at: there is no network here.

    Raises: CertificateError: what the verifier said. ChainIncomplete: there is no anchor at all.
    """
    store = list(anchors)
    if not store:
        raise ChainIncomplete([Finding("chain", "there is no root to trust", "Add the root certificate of the CA.")])
    builder = (
        verification.PolicyBuilder()
        .store(verification.Store(store))
        .time(now)
        .extension_policies(ca_policy=_issuer_policy(usages), ee_policy=_leaf_policy(usages, named=bool(peer_name)))
    )
    if maximum_depth is not None:
        builder = builder.max_chain_depth(maximum_depth)
    try:
        if peer_name:
            verifier = builder.build_server_verifier(_general_name(peer_name))
            chain = verifier.verify(leaf, list(pool))
        else:
            chain = builder.build_client_verifier().verify(leaf, list(pool)).chain
        _check_each(chain)
    except (verification.VerificationError, *UNREADABLE) as error:
        reason = str(error).removeprefix("validation failed: ").partition(" (encountered processing")[0]
        what = f"no chain to a trusted root holds at {now:%Y-%m-%d %H:%M} UTC ({reason})"
        finding = Finding("chain", what, "Give the right issuers, or have the certificate issued again.")
        raise CertificateError([finding]) from error
    return tuple(chain)


def _shortest_way(leaf: Certificate, candidates: dict[str, Certificate]) -> tuple[Certificate, ...]:
    """Return the shortest chain from *leaf* to a self-signed certificate, () when there is none.

    Breadth first, and each certificate once: at most one signature check per pair, whatever the pool holds.
    """
    start = fingerprint(leaf)
    known = {**candidates, start: leaf}
    came_from: dict[str, str] = {start: ""}
    waiting = deque([start])
    while waiting:
        key = waiting.popleft()
        if is_self_signed(known[key]):
            way = [key]
            while came_from[way[-1]]:
                way.append(came_from[way[-1]])
            return tuple(known[step] for step in reversed(way))
        for issuer in sorted(_issuers(known[key], candidates)):
            if issuer not in came_from:
                came_from[issuer] = key
                waiting.append(issuer)
    return ()


def _signed_with_old_hash(issuer: Certificate, certificate: Certificate) -> bool:
    # The library verifies no SHA-1 in certificates any more, but old roots still sign themselves so, and a leaf
    # that is signed so should be refused for that, not for a missing issuer.
    key = issuer.public_key()
    try:
        algorithm = certificate.signature_hash_algorithm
        if algorithm is None or not isinstance(key, rsa.RSAPublicKey):
            return False
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuers(certificate: Certificate, candidates: dict[str, Certificate]) -> Iterator[str]:
    for key, candidate in candidates.items():
        if issued(candidate, certificate):
            yield key


def _incomplete(leaf: Certificate, candidates: dict[str, Certificate]) -> ChainIncomplete:
    """Return the error that names what is missing: the issuer of the last certificate that can be reached."""
    last, seen = leaf, {fingerprint(leaf)}
    while following := sorted(set(_issuers(last, candidates)) - seen):
        seen.add(following[0])
        last = candidates[following[0]]
    missing, subject = last.issuer.rfc4514_string(), last.subject.rfc4514_string()
    named = any(candidate.subject == last.issuer for candidate in candidates.values())
    if any(issuer in seen for issuer in _issuers(last, candidates)):
        what, remedy = (
            f"the issuers of {subject} only name each other; none is a root",
            "Add the CA's root certificate.",
        )
    elif named:
        what = f"{subject} names {missing} as its issuer, but the certificate of that name here did not sign it"
        remedy = f"Add the certificate of {missing} that belongs to the key which signed."
    else:
        what, remedy = f"the issuer of {subject} is missing: {missing}", f"Add the certificate of {missing}."
    return ChainIncomplete([Finding("chain", what, remedy)], missing=missing, issuer_of=subject)


def _general_name(name: str) -> verification.Subject:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _leaf_policy(usages: frozenset[Usage], *, named: bool) -> verification.ExtensionPolicy:
    criticality = verification.Criticality
    policy = (
        verification.ExtensionPolicy.webpki_defaults_ee()
        # Small private CAs leave the authority's key identifier out; the signature is checked all the same.
        .may_be_present(x509.AuthorityKeyIdentifier, criticality.NON_CRITICAL, None)
        .may_be_present(x509.ExtendedKeyUsage, criticality.AGNOSTIC, partial(_check_usages, usages))
    )
    if named:
        return policy
    return policy.may_be_present(x509.SubjectAlternativeName, criticality.AGNOSTIC, None)


def _issuer_policy(usages: frozenset[Usage]) -> verification.ExtensionPolicy:
    criticality = verification.Criticality
    return (
        verification.ExtensionPolicy.webpki_defaults_ca()
        # OpenSSL's stock configuration makes roots without keyUsage (RFC 5280 section 4.2.1.3 then allows all).
        .may_be_present(x509.KeyUsage, criticality.AGNOSTIC, _check_issuer_key_usage)
        .may_be_present(x509.SubjectKeyIdentifier, criticality.NON_CRITICAL, None)
        .may_be_present(x509.AuthorityKeyIdentifier, criticality.NON_CRITICAL, None)
        .may_be_present(x509.ExtendedKeyUsage, criticality.AGNOSTIC, partial(_check_usages, usages))
    )


def _check_usages(
    usages: frozenset[Usage],
    _policy: verification.Policy,
    certificate: Certificate,
    _found: x509.ExtendedKeyUsage | None,
) -> None:
    for usage in sorted(usages):
        if not allows(certificate, usage):
            raise ValueError(f"the extended key usage of {certificate.subject.rfc4514_string()} lacks {usage}Auth")


def _check_issuer_key_usage(
    _policy: verification.Policy, certificate: Certificate, found: x509.KeyUsage | None
) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError(f"{certificate.subject.rfc4514_string()} may not sign certificates (keyUsage)")


def _check_each(chain: Sequence[Certificate]) -> None:
    """Refuse what the library leaves to its caller: weak keys, wildcards over everything, serials that are none.

    RFC 5280 section 4.1.2.2 wants serials above zero; roots are let off, because some of the best known have zero.
    """
    for certificate in chain:
        subject = certificate.subject.rfc4514_string()
        if fault := key_fault(certificate.public_key()):
            raise ValueError(f"{subject}: {fault}")
        if serial_number(certificate) <= 0 and certificate is not chain[-1]:
            raise ValueError(f"{subject}: the serial number is not positive")
    for name in sans_of(chain[0].extensions).dns:
        if name.startswith("*.") and (fault := dns_fault(name)):
            raise ValueError(f"{name} {fault}")
