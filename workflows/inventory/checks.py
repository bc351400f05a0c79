"""Primitive rules of names, countries, basenames and services: a text goes in, a truth or a reason comes out.

Rows S1, S3 and S10 of the base document; host names after RFC 1123 section 2.1, wildcards after RFC 9525 section 6.3,
lengths of subject attributes after RFC 5280 appendix A.1. Nothing here knows where in the file a text stands: that is
`rules`. Certificates that come back from a CA are judged in `x509.names`, which has its own reading of names.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable

import iso3166

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_BASENAME = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_RELEASE = re.compile(r"\d{1,3}\.\d{1,3}(?:\.\d{1,4})?")

OLDEST_RELEASE = (2, 9)  # row S10
_LAST_OF_2 = (2, 9)

# Service → the first release that has it, and the last one (None: still there). Rows S3, S7, S10.
SERVICE_RELEASES: dict[str, tuple[tuple[int, int], tuple[int, int] | None]] = {
    "webadmin": (OLDEST_RELEASE, None),
    "callbridge": (OLDEST_RELEASE, None),
    "turn": (OLDEST_RELEASE, None),
    "recorder": (OLDEST_RELEASE, None),
    "streamer": (OLDEST_RELEASE, None),
    "webbridge": (OLDEST_RELEASE, _LAST_OF_2),
    "xmpp": (OLDEST_RELEASE, _LAST_OF_2),
    "loadbalancer": (OLDEST_RELEASE, _LAST_OF_2),
    "webbridge3.https": ((3, 0), None),
    "webbridge3.c2w": ((3, 0), None),
    "scheduler.https": ((3, 3), None),
    "scheduler.c2w": ((3, 3), None),
}

# The longest value of each subject attribute, in characters; ub-common-name and its neighbours.
SUBJECT_LENGTHS = {"CN": 64, "OU": 64, "O": 64, "L": 128, "ST": 128, "C": 2, "emailAddress": 255}


def is_host_name(text: str) -> bool:
    """Say whether *text* is a DNS name of one or more labels, in ASCII, without the dot of the root."""
    labels = text.split(".")
    # A last label of digits only would be read as an IPv4 address (RFC 1123 section 2.1).
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def is_fqdn(text: str) -> bool:
    """Say whether *text* is a host name with a domain: "cms1.example.com", not "cms1"."""
    return "." in text and is_host_name(text)


def is_wildcard(text: str) -> bool:
    """Say whether *text* is "*." and a domain of at least two labels; the star is the whole first label."""
    return text.startswith("*.") and is_fqdn(text[2:])


def is_dns(text: str) -> bool:
    """Say whether *text* may be a DNS name of a certificate: a host name or a wildcard."""
    return is_host_name(text) or is_wildcard(text)


def is_ip(text: str) -> bool:
    """Say whether *text* is an IPv4 or IPv6 address, without zone and without prefix length."""
    try:
        return not getattr(ipaddress.ip_address(text), "scope_id", None)
    except ValueError:
        return False


def is_email(text: str) -> bool:
    """Say whether *text* is an ASCII mailbox: local part (RFC 5321 section 4.1.2, unquoted), @, domain name."""
    local, at, domain = text.rpartition("@")
    return bool(at) and len(local) <= 64 and bool(_LOCAL_PART.fullmatch(local)) and is_fqdn(domain)


def is_country(text: str) -> bool:
    """Say whether *text* is an assigned ISO 3166-1 alpha-2 code in capitals: "KR"."""
    return len(text) == 2 and text.isupper() and text in iso3166.countries_by_alpha2


def is_basename(text: str) -> bool:
    """Say whether *text* may be the basename of `pki csr`: letters, digits, `-` and `_` (row S1)."""
    return bool(_BASENAME.fullmatch(text))


def is_name(text: str) -> bool:
    """Say whether *text* may name a fleet, cluster, node or issuer: it becomes part of step ids and file names."""
    return bool(_NAME.fullmatch(text))


def is_subject_value(text: str) -> bool:
    """Say whether `pki csr` can take *text*: quotes would end the quoted value, control characters the line."""
    return bool(text.strip()) and '"' not in text and text.isprintable()


def is_line_value(text: str) -> bool:
    """Say whether *text* fits into a line for a server; `mmp.commands.quoted` has no way to write the rest."""
    return is_subject_value(text) and text == text.strip() and not set(text) & set("'\\`")


def release_number(text: str) -> tuple[int, int] | None:
    """Return (3, 9) for "3.9" or "3.9.2", or None when *text* is no release."""
    if not _RELEASE.fullmatch(text):
        return None
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def has_service(release: str, service: str) -> bool:
    """Say whether *release* ("3.9") has *service*; an unknown release ("") is given the benefit of the doubt."""
    number = release_number(release)
    first, last = SERVICE_RELEASES[service]
    return number is None or (first <= number and (last is None or number <= last))


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'callbridge'?", or "" when nothing known is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(text.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]!r}?" if near else ""
