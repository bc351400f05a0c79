"""Files of certificates as servers want them: full chain, CA bundle, trust store.

Rules: row S8 (entity first, root last, exactly one line end after the last; a CA bundle is the same without the
entity) and RFC 7468 (lines of 64 characters; we write LF). Which service wants which is `mmp.services`' business;
finding the chain is `chain`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from workflows.errors import CertificateError, ChainIncomplete, Finding
from workflows.x509.pile import read_pile
from workflows.x509.renewal import fingerprint

Certificate = x509.Certificate


def render(certificates: Iterable[Certificate]) -> bytes:
    """Return *certificates* as PEM in the order given, LF only, one line end last; b"" for none."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def full_chain(leaf: Certificate, chain: Sequence[Certificate]) -> bytes:
    """Return entity, intermediates, root. *chain* is what `order_chain` gave, with or without the leaf in front."""
    return render((leaf, *_issuers(leaf, chain)))


def ca_bundle(chain: Sequence[Certificate]) -> bytes:
    """Return *chain* (leaf first, as `order_chain` gives it) without its leaf: intermediates, then root.

    Raises: ChainIncomplete: nothing is left, as for a self-signed certificate.
    """
    if len(chain) < 2:
        what = "there are no issuers, so there is no CA bundle"
        raise ChainIncomplete([Finding("chain", what, "Add the certificates of the CA.")])
    return render(chain[1:])


def split(data: bytes, *, where: str = "bundle") -> tuple[Certificate, ...]:
    """Return the certificates of a file in their order; copies count once.

    Raises: CertificateError: something in it is unreadable, is a private key, or nothing is there.
    """
    pile = read_pile({where: data})
    if pile.problems:
        raise CertificateError(pile.problems)
    return tuple(found.certificate for found in pile.certificates)


def trust_with(existing: bytes, add: Iterable[Certificate]) -> bytes:
    """Return the trust store *existing* (b"" for none yet) with *add* at its end, none twice.

    While peers hold old and new certificates side by side, a store must trust both; `trust_without` ends that.

    Raises: CertificateError: *existing* cannot be read whole.
    """
    kept = split(existing, where="trust store") if existing.strip() else ()
    return render({fingerprint(certificate): certificate for certificate in (*kept, *add)}.values())


def trust_without(existing: bytes, remove: Iterable[Certificate]) -> bytes:
    """Return the trust store *existing* without *remove*.

    Raises: CertificateError: *existing* cannot be read whole, or nothing would be left in it.
    """
    gone = {fingerprint(certificate) for certificate in remove}
    kept = [found for found in split(existing, where="trust store") if fingerprint(found) not in gone]
    if not kept:
        what = "no certificate would be left in the trust store, and nothing could connect any more"
        raise CertificateError([Finding("trust store", what, "Put the new certificates in first.")])
    return render(kept)


def _issuers(leaf: Certificate, chain: Sequence[Certificate]) -> Sequence[Certificate]:
    return chain[1:] if chain and fingerprint(chain[0]) == fingerprint(leaf) else chain
