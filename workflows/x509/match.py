"""Whose certificate is it? Certificates of a pile are matched to requests by public key, never by name or file name.

Not here: whether the matched certificate is right (`acceptance`), reading the pile (`pile`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509

from workflows.errors import Finding
from workflows.x509.pile import Found
from workflows.x509.renewal import fingerprint, is_ca, serial_number
from workflows.x509.request import spki_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What belongs to what. Request ids are in exactly one of *by_id*, *missing* and *ambiguous*."""

    by_id: Mapping[str, Found]
    issuers: tuple[x509.Certificate, ...]  # CA certificates that answer no request: the pool for chains
    unmatched: tuple[Found, ...]  # certificates that answer no request and are no CA
    missing: tuple[str, ...]  # request ids without a certificate
    ambiguous: Mapping[str, tuple[Found, ...]]  # request ids with several different certificates
    problems: tuple[Finding, ...]  # unmatched and ambiguous in words; missing is not one: more files may come


def match_by_key(certificates: Iterable[Found], requests: Mapping[str, str]) -> Matched:
    """Return which certificate answers which request; *requests* is {request id: spki_sha256}.

    One certificate answers every request with its key. Two different certificates for one key are ambiguous: which
    of them was meant is for people to say.
    """
    found = {fingerprint(item.certificate): item for item in certificates}
    by_key: dict[str, list[Found]] = {}
    for item in found.values():
        by_key.setdefault(spki_sha256(item.certificate), []).append(item)
    asked = set(requests.values())
    rest = [item for key, items in by_key.items() if key not in asked for item in items]
    unmatched = tuple(item for item in rest if not is_ca(item.certificate))
    answers = {name: tuple(by_key.get(key, ())) for name, key in requests.items()}
    ambiguous = {name: items for name, items in answers.items() if len(items) > 1}
    return Matched(
        by_id={name: items[0] for name, items in answers.items() if len(items) == 1},
        issuers=tuple(item.certificate for item in rest if is_ca(item.certificate)),
        unmatched=unmatched,
        missing=tuple(name for name, items in answers.items() if not items),
        ambiguous=ambiguous,
        problems=(*map(_stranger, unmatched), *(_choice(name, items) for name, items in ambiguous.items())),
    )


def _stranger(item: Found) -> Finding:
    subject = item.certificate.subject.rfc4514_string()
    what = (
        f"the certificate {subject} (serial {serial_number(item.certificate):x}) belongs to none of the open requests"
    )
    return Finding(item.source, what, "It was issued for another key. Deliver the one made from this run's CSR.")


def _choice(name: str, items: tuple[Found, ...]) -> Finding:
    serials = ", ".join(f"{serial_number(item.certificate):x} in {item.source}" for item in items)
    what = f"there are {len(items)} different certificates for its key (serials {serials})"
    return Finding(name, what, "Deliver only the one that is to be used.")
