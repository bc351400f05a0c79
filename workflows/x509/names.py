"""What a certificate may be called: subject, subject alternative names, and the rules both must obey.

Here live the two values that every other x509 module speaks of, and `check_names`, which says at plan time what
a server or a CA would refuse later. Not here: reading names out of requests and certificates (`request`,
`renewal`) and comparing them with what was asked (`request`, `acceptance`).

Rules: base document rows S1 and S3 (DESIGN.md section 1); length bounds from RFC 5280 appendix A.1; DNS labels
from RFC 1123 section 2.1 and RFC 5890 section 2.3; wildcards from RFC 9525 section 6.3.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final, Literal

import iso3166

from workflows.errors import Finding

Kind = Literal["service", "xmpp", "database_server", "database_client", "ca"]

# RFC 5280 appendix A.1: ub-common-name and its neighbours.
_LONGEST: Final = {"CN": 64, "OU": 64, "O": 64, "L": 128, "ST": 128, "C": 2, "emailAddress": 255}
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
# RFC 5321 section 4.1.2, without quoted local parts: no CA that we know of signs those.
_EMAIL_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A distinguished name as `pki csr` spells its parts; a part that is not there is ''.

    The fields stand in the order in which they are written into a request. Several values of one attribute, as in
    two OUs, read back as one text joined by " + ", so that they never equal a wish for one of them.
    """

    CN: str = ""
    OU: str = ""
    O: str = ""  # noqa: E741 - the attribute's name in `pki csr` and in RFC 4514
    L: str = ""
    ST: str = ""
    C: str = ""
    emailAddress: str = ""  # noqa: N815 - the attribute's name in `pki csr`

    def items(self) -> tuple[tuple[str, str], ...]:
        """Return the parts that are there: (("CN", "cms.example.com"), ("C", "KR"))."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return tuple((name, value) for name, value in pairs if value)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectAltNames:
    """DNS names, IP addresses and e-mail addresses, each in the order given."""

    dns: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    email: tuple[str, ...] = ()

    @classmethod
    def parse(cls, names: Iterable[str]) -> SubjectAltNames:
        """Sort a plain list as `subjectAltName:` takes it: an @ makes an e-mail address, digits an IP address."""
        dns: list[str] = []
        ip: list[str] = []
        email: list[str] = []
        for name in (name.strip() for name in names):
            (email if "@" in name else ip if _address(name) else dns).append(name)
        return cls(dns=tuple(dns), ip=tuple(ip), email=tuple(email))

    def normalized(self) -> SubjectAltNames:
        """Return the same names as they compare: DNS in lower case, IP in its shortest form, sorted, none twice."""
        return SubjectAltNames(
            dns=tuple(sorted({name.lower() for name in self.dns})),
            ip=tuple(sorted({_address(name) or name for name in self.ip})),
            email=tuple(sorted({_fold_email(name) for name in self.email})),
        )

    def without(self, other: SubjectAltNames) -> SubjectAltNames:
        """Return the names that *other* does not hold, compared normalized."""
        mine, theirs = self.normalized(), other.normalized()
        return SubjectAltNames(
            dns=tuple(name for name in mine.dns if name not in theirs.dns),
            ip=tuple(name for name in mine.ip if name not in theirs.ip),
            email=tuple(name for name in mine.email if name not in theirs.email),
        )

    def __iter__(self) -> Iterator[str]:
        return iter((*self.dns, *self.ip, *self.email))

    def __bool__(self) -> bool:
        return bool(self.dns or self.ip or self.email)

    def __str__(self) -> str:
        return ", ".join(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a check found: *faults* forbid going on, *warnings* are shown to whoever decides."""

    faults: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing forbids going on."""
        return not self.faults


def check_names(subject: Subject, sans: SubjectAltNames, *, kind: Kind) -> Findings:
    """Return all that is wrong with the names of a certificate of this *kind*, in one go.

    `where` of each finding is the field: "CN", "C", …, "subject_alt_names". Source: rows S1 and S3.
    """
    faults = [*_subject_faults(subject), *_san_faults(sans)]
    warnings: list[Finding] = []
    held = subject.CN.lower() in {name.lower() for name in (*sans.dns, *sans.ip)}
    if kind in {"service", "xmpp"} and subject.CN:
        fault = dns_fault(subject.CN, wildcard=True, least_labels=2)
        if fault:
            remedy = "Give the fully qualified name of the service, or a wildcard such as *.example.com."
            faults.append(Finding("CN", f"CN {subject.CN!r} {fault}", remedy))
        if sans and not held:
            what = f"the list does not hold the CN {subject.CN}"
            faults.append(Finding("subject_alt_names", what, f"Add {subject.CN} to subject_alt_names."))
    if kind == "xmpp" and not sans:
        what = "XMPP clients refuse a certificate without subject alternative names"
        faults.append(Finding("subject_alt_names", what, "List the XMPP domain and the server names."))
    if kind == "service" and subject.CN and not sans:
        what = "there is no list; clients that follow RFC 9525 do not look at the CN and will refuse the certificate"
        warnings.append(Finding("subject_alt_names", what, f"List at least {subject.CN}."))
    if kind == "database_server" and subject.CN and sans and not held:
        what = f"the list does not hold the CN {subject.CN}; the database accepts that, other software may not"
        warnings.append(Finding("subject_alt_names", what, f"Add {subject.CN} unless it was left out on purpose."))
    if kind == "database_client" and subject.CN and subject.CN != "postgres":
        what = f"CN {subject.CN!r} is not the name that the database asks of its clients"
        faults.append(Finding("CN", what, "Write exactly CN: postgres."))
    return Findings(faults=tuple(faults), warnings=tuple(warnings))


def dns_fault(name: str, *, wildcard: bool = True, least_labels: int = 1) -> str:
    """Return why *name* is no DNS name ("has an empty label"), or '' when it is one."""
    if not name.isascii():
        return f"is not in its A-label form{_a_label_hint(name)}"
    if len(name) > 253:
        return f"has {len(name)} characters; DNS allows 253"
    labels = name.split(".")
    if labels[0] == "*" and wildcard:
        labels = labels[1:]
        if len(labels) < 2:
            return "is a wildcard over a whole top level domain"
    if fault := next(filter(None, map(_label_fault, labels)), ""):
        return fault
    if labels[-1].isdigit():
        return "is an IP address" if _address(name) else "ends in a number, as no DNS name does"
    return "" if len(labels) >= least_labels else "is not fully qualified"


def _label_fault(label: str) -> str:
    """Return what is wrong with one label: letters, digits, hyphens inside, at most 63, xn-- only with punycode."""
    if not label:
        return "has an empty label (two dots, or a dot at an end)"
    if "*" in label:
        return "has a * that is not the whole leftmost label"
    if len(label) > 63:
        return f"has a label of {len(label)} characters; DNS allows 63"
    if not _LABEL.fullmatch(label):
        return f"has the label {label!r}; only letters, digits and hyphens inside are allowed"
    if label[2:4] == "--" and not _is_a_label(label.lower()):
        return f"has the label {label!r}, which is no A-label"
    return ""


def _is_a_label(label: str) -> bool:
    """Return whether *label* is "xn--" and the punycode of letters, marks and digits, at least one beyond ASCII."""
    try:
        decoded = label.removeprefix("xn--").encode("ascii").decode("punycode")
        again = decoded.encode("punycode").decode("ascii")
    except UnicodeError:
        return False
    # RFC 5892, told short: its few contextual characters are not taken.
    proper = all(letter == "-" or unicodedata.category(letter)[0] in "LMN" for letter in decoded)
    return label == f"xn--{again}" and not decoded.isascii() and proper


def _a_label_hint(name: str) -> str:
    try:
        return f", {unicodedata.normalize('NFC', name).encode('idna').decode('ascii')}"
    except UnicodeError:
        return ""


def _subject_faults(subject: Subject) -> Iterator[Finding]:
    if not subject.CN.strip():
        yield Finding("CN", "there is no CN", "Give a CN; `pki csr` needs one.")
    for name, value in subject.items():
        if name != "C" and len(value) > _LONGEST[name]:
            what = f"{name} has {len(value)} characters; X.509 allows {_LONGEST[name]}"
            yield Finding(name, what, "Shorten it; longer names belong into subject_alt_names.")
        if any(unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"} for letter in value) or '"' in value:
            what = f"{name} {value!r} holds a quotation mark or an invisible character"
            yield Finding(name, what, "Remove it; the server's command line cannot carry it.")
        elif value != value.strip():
            yield Finding(name, f"{name} {value!r} begins or ends with a space", "Remove the space.")
    if subject.C and subject.C not in iso3166.countries_by_alpha2:
        upper = subject.C.strip().upper()
        known = f"Write {upper}." if upper in iso3166.countries_by_alpha2 else "Use two capital letters, e.g. KR or GB."
        yield Finding("C", f"C {subject.C!r} is no ISO 3166 country code", known)
    if subject.emailAddress and (fault := _email_fault(subject.emailAddress)):
        yield Finding("emailAddress", f"emailAddress {subject.emailAddress!r} {fault}", "Write name@example.com.")


def _san_faults(sans: SubjectAltNames) -> Iterator[Finding]:
    where = "subject_alt_names"
    for name in sans.dns:
        if fault := dns_fault(name):
            yield Finding(where, f"DNS name {name!r} {fault}", "Correct the name, or remove it from the list.")
    for name in sans.ip:
        if not _address(name):
            yield Finding(where, f"{name!r} is no IP address", "Write it as 192.0.2.1 or 2001:db8::1, without a mask.")
    for name in sans.email:
        if fault := _email_fault(name):
            yield Finding(where, f"e-mail address {name!r} {fault}", "Write name@example.com.")


def _email_fault(address: str) -> str:
    local, at, domain = address.rpartition("@")
    if not at or not _EMAIL_LOCAL.fullmatch(local) or local[0] == "." or local[-1] == "." or ".." in local:
        return "is not of the form name@domain"
    fault = dns_fault(domain, wildcard=False)
    return fault and f"has a domain that {fault}"


def _fold_email(address: str) -> str:
    # RFC 5280 section 7.5: the local part compares exactly, the domain without regard to case.
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


def _address(name: str) -> str:
    """Return the shortest form of an IP address, or '' when *name* is none."""
    try:
        return "" if "%" in name else str(ipaddress.ip_address(name))
    except ValueError:
        return ""
