"""Reading a pile: files of any format in any order, as a CA, a mail or a portal hands them out.

PEM, DER, PKCS#7 in both, bare base64, many in one file, CR LF, byte order marks (UTF-16 too), text before, between
and after. A private key in the pile is named and dropped: nothing here keeps its bytes. What the pile means is
decided elsewhere: `match` (whose is it), `chain` (who issued it), `acceptance` (is it right).

Rules: RFC 7468 (textual encodings), RFC 2315 (PKCS#7), faults.md section 6.1 (size limit, no private keys).
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs7

from workflows.errors import CertificateError, Finding
from workflows.x509.renewal import fingerprint, view
from workflows.x509.request import UNREADABLE, RequestView, view_request

LARGEST_FILE: Final = 1_000_000
MOST_CERTIFICATES: Final = 500

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #]{1,60})-----")
_QUOTE = re.compile(rb"^[> \t]+", re.MULTILINE)
_BARE_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+=*\s*")
# What PKCS#12 begins with: SEQUENCE, then INTEGER 3 (RFC 7292 section 4).
_PKCS12 = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x80)\x02\x01\x03", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A certificate and the file it came from."""

    certificate: x509.Certificate
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRequest:
    """A request and the file it came from."""

    request: RequestView
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pile:
    """What was in the files. *private_keys* are the names of files that held one, never the keys."""

    certificates: tuple[Found, ...] = ()
    requests: tuple[FoundRequest, ...] = ()
    private_keys: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Reading:
    """What has been found so far; the same certificate twice counts once."""

    certificates: dict[str, Found] = field(default_factory=dict)
    requests: dict[bytes, FoundRequest] = field(default_factory=dict)
    private_keys: dict[str, None] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)

    def problem(self, source: str, what: str, remedy: str) -> None:
        self.problems.append(Finding(source, what, remedy))

    def certificate(self, source: str, certificate: x509.Certificate) -> None:
        view(certificate)  # a damaged extension shows here, not when somebody looks at it later
        self.certificates.setdefault(fingerprint(certificate), Found(certificate=certificate, source=source))

    def request(self, source: str, request: x509.CertificateSigningRequest) -> None:
        seen = view_request(request)
        self.requests.setdefault(seen.pem, FoundRequest(request=seen, source=source))


def read_pile(files: Mapping[str, bytes]) -> Pile:
    """Return all certificates and requests in *files* (name → content), in order, and every problem met.

    Never raises for content. A file over 1 MB, without anything in it, or with something unreadable is a problem;
    a private key is a problem too, and its file stands in `private_keys`.
    """
    reading = _Reading()
    for source, data in files.items():
        _read_file(reading, source, data)
    found = tuple(reading.certificates.values())
    if len(found) > MOST_CERTIFICATES:
        what = f"{len(found)} different certificates are more than a delivery holds ({MOST_CERTIFICATES})"
        reading.problem("pile", what, "Give only the new certificates and their issuers.")
        found = found[:MOST_CERTIFICATES]
    return Pile(
        certificates=found,
        requests=tuple(reading.requests.values()),
        private_keys=tuple(reading.private_keys),
        problems=tuple(reading.problems),
    )


def _read_file(reading: _Reading, source: str, data: bytes) -> None:
    if len(data) > LARGEST_FILE:
        reading.problem(
            source, f"the file has {len(data)} bytes; at most {LARGEST_FILE} are read", "Is it the right file?"
        )
        return
    data = _without_mark(data)
    blocks = 0
    for label, body in _blocks(data):
        blocks += 1
        _read_block(reading, source, label, body)
    if blocks == 0 and not _read_binary(reading, source, data):
        what = "there is no certificate in this file"
        reading.problem(source, what, "Give PEM, DER or PKCS#7 (.pem, .cer, .crt, .der, .p7b).")


def _without_mark(data: bytes) -> bytes:
    """Return *data* without byte order mark, UTF-16 turned into bytes of one octet each."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace").encode("utf-8", "replace")
    return data.removeprefix(codecs.BOM_UTF8)


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield (label, DER) of each PEM block; DER is None when its end or its base64 is missing."""
    position = 0
    while begin := _BEGIN.search(data, position):
        label = begin[1]
        end = data.find(b"-----END " + label + b"-----", begin.end())
        following = _BEGIN.search(data, begin.end())
        if end < 0 or (following and following.start() < end):
            yield label, None
            position = begin.end()
            continue
        position = end
        text = data[begin.end() : end]
        try:
            # A mail may quote the block with "> "; encrypted keys have headers, but those are dropped unread.
            yield label, base64.b64decode(b"".join(_QUOTE.sub(b"", text).split()), validate=True)
        except binascii.Error:
            yield label, None


def _read_block(reading: _Reading, source: str, label: bytes, der: bytes | None) -> None:
    name = label.decode("ascii")
    if label.endswith(b"PRIVATE KEY"):
        _private_key(reading, source)
        return
    parsers: dict[bytes, Callable[[_Reading, str, bytes], None]] = {
        b"CERTIFICATE": _certificate,
        b"X509 CERTIFICATE": _certificate,
        b"TRUSTED CERTIFICATE": _certificate,
        b"CERTIFICATE REQUEST": _request,
        b"NEW CERTIFICATE REQUEST": _request,
        b"PKCS7": _pkcs7,
        b"PKCS #7 SIGNED DATA": _pkcs7,
        b"CMS": _pkcs7,
    }
    parser = parsers.get(label)
    if parser is None:
        return  # EC PARAMETERS, X509 CRL and the like are no concern of a delivery
    if der is None or not _try(parser, reading, source, der):
        what = f"a {name} block is cut off or damaged"
        reading.problem(source, what, "Ask for the file again, or copy the whole block.")


def _read_binary(reading: _Reading, source: str, data: bytes) -> bool:
    """Read DER, or base64 without any BEGIN line; return whether something was there."""
    stripped = data.strip()
    if stripped and _BARE_BASE64.fullmatch(stripped):
        try:
            data = base64.b64decode(b"".join(stripped.split()), validate=True)
        except binascii.Error:
            return False
    if any(_try(parser, reading, source, data) for parser in (_certificate, _pkcs7, _request)):
        return True
    if _PKCS12.match(data):
        _private_key(reading, source)
        return True
    try:
        load_der_private_key(data, None)
    except TypeError:
        pass  # an encrypted key: still a key
    except UNREADABLE:
        return False
    _private_key(reading, source)
    return True


def _try(parser: Callable[[_Reading, str, bytes], None], reading: _Reading, source: str, der: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            # The library warns of BER and of old serial numbers; neither is the reader's business.
            warnings.simplefilter("ignore")
            parser(reading, source, der)
    except (*UNREADABLE, CertificateError):
        return False
    return True


def _certificate(reading: _Reading, source: str, der: bytes) -> None:
    reading.certificate(source, x509.load_der_x509_certificate(der))


def _request(reading: _Reading, source: str, der: bytes) -> None:
    reading.request(source, x509.load_der_x509_csr(der))


def _pkcs7(reading: _Reading, source: str, der: bytes) -> None:
    for certificate in pkcs7.load_der_pkcs7_certificates(der):
        reading.certificate(source, certificate)


def _private_key(reading: _Reading, source: str) -> None:
    if source not in reading.private_keys:
        reading.private_keys[source] = None
        what = "there is a private key in this file; it was not kept"
        remedy = "Take it out, deliver the certificates alone, and ask who else has had this file."
        reading.problem(source, what, remedy)
