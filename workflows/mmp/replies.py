"""What the answers of a server mean: text in, frozen values out.

Here live the verdict on a changing command, the parsers of status rows and listings, and the mask for secrets. Not
here: cutting the stream into replies (`mmp.conversation`) and deciding what to do (`procedures`). Rows nobody has seen
before are kept, not fatal; where a value is needed and missing, or the server says FAILURE, `UnexpectedReply` carries
the masked text.
Sources: mmp-reference sections 1.4, 2.2, 3.3, 4.1, 4.2 and 5; samples and their standing are the files in
tests/transcripts/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from typing import NoReturn

from workflows.errors import UnexpectedReply


class Standing(Enum):
    """How well a reply is known."""

    VERBATIM = "verbatim"  # printed in a document by its maker, layout or tokens
    RECALLED = "recalled"  # remembered from the manual
    GUESSED = "guessed"  # made up until a real server says otherwise


class Outcome(Enum):
    """What a reply says about a changing command."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # read the state


_MASK = "********"
_SECRET_ROW = re.compile(r"(?im)^([ \t]*(?:[\w-]+ )*(?:password|secret|passphrase)[ \t]*:[ \t]*)(\S.*)$")
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def mask(text: str) -> str:
    """Return *text* with the values of password and secret rows and the bodies of PEM private keys hidden.

    "none" stays, since it says that there is no secret; masking twice changes nothing (mmp-reference 4.1: `turn`,
    `xmpp callbridge list`).
    """
    hidden = _PRIVATE_KEY.sub(lambda found: f"{found[1]}\n{_MASK}\n{found[2] or '-----END PRIVATE KEY-----'}", text)
    return _SECRET_ROW.sub(
        lambda found: found[0] if found[2].strip().casefold() == "none" else f"{found[1]}{_MASK}", hidden
    )


def _unexpected(what: str, text: str) -> NoReturn:
    shown = mask(text)
    raise UnexpectedReply(
        f"{what}: {shown.strip() or '(nothing)'}",
        remedy="Keep the transcript: a reply nobody has seen belongs into tests/transcripts/.",
        reply=shown,
    )


def _refuse_failure(text: str) -> None:
    if re.search(r"(?m)^\s*FAILURE\b", text):
        _unexpected("The server refused to say", text)


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the reply to a changing command says; never proof by itself (DESIGN section 5)."""

    outcome: Outcome
    successes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    text: str = ""

    @property
    def silent(self) -> bool:
        """Whether the server said nothing, as `certs` and `trust` do when all is well."""
        return not self.text.strip()

    @property
    def reboot_required(self) -> bool:
        """Whether the server says that the change waits for a reboot (mmp-reference 1.4)."""
        return "reboot is required" in self.text

    @classmethod
    def of(cls, text: str, *, standing: Standing, done: str = "") -> Verdict:
        """Return the verdict on *text*.

        Any FAILURE line: refused. At least one SUCCESS line, or a line that matches *done*: ok, unless *standing* is
        guessed. All else, silence too: unknown. Source: mmp-reference 4.2, "driver rule".
        """
        lines = text.splitlines()
        successes = tuple(found[1] for line in lines if (found := re.match(r"\s*SUCCESS\b:?\s*(.*)", line)))
        failures = tuple(
            found[1] for line in lines if (found := re.match(r"(?i)\s*(?:FAILURE|ERROR)\b\s*:?\s*(.*)", line))
        )
        if failures:
            outcome = Outcome.REFUSED
        elif standing is not Standing.GUESSED and (successes or (done and re.search(done, text))):
            outcome = Outcome.OK
        else:
            outcome = Outcome.UNKNOWN
        return cls(outcome=outcome, successes=successes, failures=failures, text=mask(text))


# ── status rows ──────────────────────────────────────────────────────────────────────────────────────────────────────
def _label(text: str) -> str:
    return " ".join(text.split()).casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The rows of a status, in order; labels are compared without case and runs of blanks; secrets are masked."""

    rows: tuple[tuple[str, str], ...]

    def get(self, label: str) -> str | None:
        """Return the value of the first row called *label*, None when there is none."""
        return next(iter(self.values_of(label)), None)

    def values_of(self, *labels: str) -> tuple[str, ...]:
        """Return the values of all rows with one of *labels*, in order: ("a", "b") for `Listen interface`."""
        wanted = {_label(label) for label in labels}
        return tuple(value for label, value in self.rows if _label(label) in wanted)

    def blocks(self, label: str) -> tuple[Status, ...]:
        """Return the rows cut before each row called *label*; the whole when it stands nowhere. Never empty."""
        starts = [number for number, (name, _) in enumerate(self.rows) if _label(name) == _label(label)]
        if not starts:
            return (self,)
        ends = [*starts[1:], len(self.rows)]
        return tuple(Status(rows=self.rows[start:end]) for start, end in zip(starts, ends, strict=True))


def parse_status(text: str) -> Status:
    """Return the rows of a service status.

    A row is cut at its first ` : ` (columns are irregular), else at its first colon, else at a run of two blanks
    (`Listen interface      a`). A line without any of these is kept under the label "". Source: mmp-reference 4.1.
    Raises: UnexpectedReply: a FAILURE, or no row at all.
    """
    rows = tuple(_row(line.strip()) for line in mask(text).splitlines() if line.strip(" \t*"))
    if not any(label for label, _ in rows) or any(label in {"FAILURE", "ERROR"} for label, _ in rows):
        _unexpected("This is no status", text)
    return Status(rows=rows)


def _row(line: str) -> tuple[str, str]:
    padded = f"{line} "
    for separator in (r"\s:\s", r":\s", r"\s{2,}|\t"):
        parts = re.split(separator, padded, maxsplit=1)
        if len(parts) == 2 and parts[0].strip():
            return " ".join(parts[0].split()), parts[1].strip()
    return "", line


# ── the database cluster ─────────────────────────────────────────────────────────────────────────────────────────────
class Role(Enum):
    """What a node is to the database cluster; both wordings are known (mmp-reference 3.3)."""

    PRIMARY = "primary"  # Primary, Master
    REPLICA = "replica"  # Replica, Slave
    UNKNOWN = "unknown"


class Progress(Enum):
    """How the last command stands."""

    SUCCESS = "success"
    FAILED = "failed"
    IN_PROGRESS = "in progress"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseNode:
    """One row under "Nodes:"; DatabaseNode(address="10.48.54.119", me=True, role=Role.REPLICA, in_sync=True, …)."""

    address: str
    me: bool
    role: Role
    connected: bool
    in_sync: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """The database cluster as one node sees it; None and () where the reply does not say.

    *expired* are the names of the files that the status marks as expired.
    """

    state: str
    error: str | None = None
    nodes: tuple[DatabaseNode, ...] = ()
    node_in_use: str | None = None
    interface: str | None = None
    server_key: str | None = None
    server_certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    ca_certificate: str | None = None
    expired: tuple[str, ...] = ()
    last_command: str | None = None
    progress: Progress = Progress.UNKNOWN
    other_rows: tuple[tuple[str, str], ...] = ()
    text: str = ""

    @property
    def disabled(self) -> bool:
        """Whether this node is in no cluster."""
        return self.state.casefold() == "disabled"

    @property
    def enabled(self) -> bool:
        """Whether this node is in a cluster and at rest."""
        return self.state.casefold() == "enabled"

    @property
    def primary(self) -> str | None:
        """The address of the one primary, None when there is none or more than one."""
        found = [node.address for node in self.nodes if node.role is Role.PRIMARY]
        return found[0] if len(found) == 1 else None

    @property
    def me(self) -> DatabaseNode | None:
        """The row of this node; None for a node that only connects."""
        return next((node for node in self.nodes if node.me), None)


_FILES = {
    "server key": "server_key",
    "server certificate": "server_certificate",
    "client key": "client_key",
    "client certificate": "client_certificate",
    "ca certificate": "ca_certificate",
    "interface": "interface",
    "node in use": "node_in_use",
}
_ROWS = {*_FILES, "status", "error", "last command"}
_HEADINGS = {"nodes", "certificates"}
# How expiry is marked is not known, only that it is (mmp-reference 3.3, S2): "( Expired )", "- expired", "EXPIRED".
_MARK = re.compile(r"(?:^|\s+)(?:\(\s*(?P<mark>[^()]*)\)|[^\w\s(]*\s*(?P<bare>(?:has )?expired))\W*$", re.IGNORECASE)
_LONGEST_MARK = 100
_UNDER_WAY = re.compile(
    r"\b(initiali[sz]ing|attaching|joining|connecting|removing|detaching|disconnecting|upgrading|in progress)\b"
)


def parse_database_status(text: str) -> DatabaseStatus:
    """Return what `database cluster status` shows.

    Source: mmp-reference 3.3 (S1): one node per indented line under "Nodes:", `(me)` marks this one, an ERROR row may
    come first. A Status such as "Attaching" means in progress, whatever the last command says: that row may still be
    the one of before.
    Raises: UnexpectedReply: there is no Status row.
    """
    values: dict[str, str] = {}
    nodes: list[DatabaseNode] = []
    others: list[tuple[str, str]] = []
    in_nodes = False
    for line in filter(str.strip, text.splitlines()):
        label, value = _row(line.strip())
        known = _label(label or line).rstrip(":")
        if in_nodes and line[0] in " \t" and label:
            nodes.append(_node(label, value))
            continue
        in_nodes = known == "nodes"
        if known in _ROWS:
            values[known] = value
        elif known not in _HEADINGS:
            others.append((label, value))
    if "status" not in values:
        _unexpected("This is no database cluster status", text)
    command, progress = _last_command(values.get("last command", ""))
    if _UNDER_WAY.search(_label(values["status"])):
        progress = Progress.IN_PROGRESS
    marked = {row: _unmarked(values.get(row, "")) for row in _FILES}
    files = {
        name: None if marked[row][0].casefold() in {"", "none"} else marked[row][0] for row, name in _FILES.items()
    }
    return DatabaseStatus(
        state=values["status"],
        error=None if values.get("error", "").casefold() in {"", "none"} else values["error"],
        nodes=tuple(nodes),
        expired=tuple(
            name for row, column in _FILES.items() if "expired" in _label(marked[row][1]) and (name := files[column])
        ),
        last_command=command,
        progress=progress,
        other_rows=tuple(others),
        text=text,
        **files,
    )


def _unmarked(value: str) -> tuple[str, str]:
    """Return ("dbclient.cer", "Expired ") for `dbclient.cer ( Expired )`; the mark is "" where there is none."""
    found = _MARK.search(value, max(0, len(value) - _LONGEST_MARK))  # a longer run of blanks would take long
    return (value[: found.start()], found["mark"] or found["bare"] or "") if found else (value, "")


def _node(label: str, value: str) -> DatabaseNode:
    words = _label(value)
    roles = {"primary": Role.PRIMARY, "master": Role.PRIMARY, "replica": Role.REPLICA, "slave": Role.REPLICA}
    found = {role for word, role in roles.items() if re.search(rf"\b{word}\b", words)}
    return DatabaseNode(
        address=label.replace("(me)", "").strip(),
        me="(me)" in label,
        role=found.pop() if len(found) == 1 else Role.UNKNOWN,
        connected=re.match(r"connected\b", words) is not None and not re.search(r"\b(failure|failed)\b", words),
        in_sync=re.search(r"\(\s*in sync\s*\)", words) is not None,
        text=value,
    )


def _last_command(value: str) -> tuple[str | None, Progress]:
    if not value:
        return None, Progress.UNKNOWN
    found = re.fullmatch(r"'?(.*?)'?\s*(?:\(([^()]*)\))?", value)
    if found is None:
        return value, Progress.UNKNOWN
    words = {
        "success": Progress.SUCCESS,
        "failed": Progress.FAILED,
        "failure": Progress.FAILED,
        "in progress": Progress.IN_PROGRESS,
    }
    return found[1], words.get(_label(found[2] or ""), Progress.UNKNOWN)


# ── pki ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def parse_pki_list(text: str) -> tuple[str, ...]:
    """Return the file names of `pki list`, in its order; () when the server has none.

    Source: mmp-reference 2.2 (S6): a heading that ends in a colon, then one name per line. Raises: UnexpectedReply: no
    heading, or a FAILURE.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(re.match(r"(?i)(failure|error)\b", line) for line in lines):
        _unexpected("The files cannot be listed", text)
    if lines and not any(line.endswith(":") for line in lines):
        _unexpected("This is no list of files", text)
    return tuple(line for line in lines if not line.endswith(":"))


class Kind(Enum):
    """What a stored file is."""

    PRIVATE_KEY = "private key"
    CERTIFICATE = "certificate"
    BUNDLE = "bundle"  # more than one certificate
    CSR = "csr"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedCertificate:
    """One certificate of a file, as far as the text shows it; times in UTC."""

    subject: str | None
    issuer: str | None
    not_valid_before: datetime | None
    not_valid_after: datetime | None
    subject_alt_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What `pki inspect` tells of a file; *certificates* in the order of the file, () for keys and requests."""

    kind: Kind
    certificates: tuple[InspectedCertificate, ...] = ()
    text: str = ""

    @property
    def not_valid_after(self) -> datetime | None:
        """When the first certificate ends, None when not shown."""
        return self.certificates[0].not_valid_after if self.certificates else None


def parse_inspection(text: str) -> Inspection:
    """Return what the file is.

    Source: base document step 4; mmp-reference 2.2 ("File contains a PEM encoded certificate", then OpenSSL's text
    layout). A FAILURE and a text that names no kind are `Kind.UNKNOWN`: the file itself can still be fetched and read.
    Raises: UnexpectedReply: an empty reply.
    """
    if not text.strip():
        _unexpected("`pki inspect` said nothing", text)
    lowered = text.casefold()
    certificates = tuple(_certificate(part) for part in re.split(r"(?m)^\s*Certificate:\s*$", text)[1:])
    if re.search(r"certificates and keys\.*\s*not found|no such file|does not exist|file not found", lowered):
        kind = Kind.MISSING
    elif re.search(r"private key|\brsa key\b|\bec key\b", lowered.partition("certificate:\n")[0]):
        kind = Kind.PRIVATE_KEY
    elif re.search(r"certificate (signing )?request|\bcsr\b", lowered):
        kind = Kind.CSR
    elif len(certificates) > 1 or re.search(r"contains .*bundle", lowered):
        kind = Kind.BUNDLE
    elif certificates or re.search(r"contains .*certificate", lowered):
        kind = Kind.CERTIFICATE
    else:
        kind = Kind.UNKNOWN
    listed = certificates if kind in {Kind.CERTIFICATE, Kind.BUNDLE} else ()
    return Inspection(kind=kind, certificates=listed, text=mask(text))


def _certificate(part: str) -> InspectedCertificate:
    def after(label: str) -> str | None:
        found = re.search(rf"(?m)^\s*{label}\s*:[ \t]*(\S.*?)\s*$", part)
        return found[1] if found else None

    names = re.search(r"Subject Alternative Name:[^\n]*\n\s*([^\n]+)", part)
    return InspectedCertificate(
        subject=after("Subject"),
        issuer=after("Issuer"),
        not_valid_before=_openssl_time(after("Not Before")),
        not_valid_after=_openssl_time(after("Not After")),
        subject_alt_names=tuple(name.strip() for name in names[1].split(",")) if names else (),
    )


def _openssl_time(value: str | None) -> datetime | None:
    """Return the time that OpenSSL prints as "Nov  5 10:00:00 2026 GMT"."""
    if value is None:
        return None
    try:
        return datetime.strptime(" ".join(value.split()), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    except ValueError:
        return None


class PkiAnswer(Enum):
    """The answer of `pki match` and `pki verify`; a guessed wording, so `unknown` must be lived with."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


def parse_pki_answer(text: str) -> PkiAnswer:
    """Return yes or no where the wording is clear, else unknown: the caller then compares the fetched files itself.

    Source: mmp-reference 2.2 and 11 (guessed wordings). No is looked for first, since "do not match" holds "match".
    """
    lowered = _label(text)
    if re.search(r"\bunable to (open|read|load)\b|\bno such\b|\bnot found\b|^usage\b|\bunknown command\b", lowered):
        return PkiAnswer.UNKNOWN  # the question was not answered
    if re.search(r"\bfail|\berror\b|\bnot\b|n't\b|\bunable\b|\binvalid\b|\bmismatch|\bexpired\b", lowered):
        return PkiAnswer.NO
    if re.search(r"\bsuccess|\bmatch|\bverified\b|\bverifies\b", lowered):
        return PkiAnswer.YES
    return PkiAnswer.UNKNOWN


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def parse_version(text: str) -> tuple[int, ...]:
    """Return the release number: (3, 9, 1).

    Source: mmp-reference 5 (no sample: the first number with a dot is taken). Raises: UnexpectedReply: there is none.
    """
    _refuse_failure(text)
    found = re.search(r"(?<![\w.])(\d{1,4}(?:\.\d{1,6}){1,5})(?![\w])", text, re.ASCII)
    if found is None:
        _unexpected("This is no release number", text)
    return tuple(int(part) for part in found[1].split("."))


_ISO_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2})(?:\.\d+)?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?", re.ASCII
)
_UNIX_TIME = re.compile(
    r"([A-Z][a-z]{2}) +(\d{1,2}) (\d{2}:\d{2}:\d{2})(?: (UTC|GMT))? (\d{4})(?: (UTC|GMT))?", re.ASCII
)


def parse_date(text: str) -> datetime:
    """Return the clock as aware UTC.

    No sample is known: ISO and `date`-like forms are read; of several times the one marked UTC wins, and a time
    without mark is taken as UTC, the server's system time. Raises: UnexpectedReply: no time.
    """
    _refuse_failure(text)
    found: list[tuple[bool, datetime]] = []
    for line in text.splitlines():
        marked = re.search(r"\b(UTC|GMT)\b", line) is not None
        if iso := _ISO_TIME.search(line):
            zone = iso[3] if iso[3] and iso[3][0] in "+-" else ""
            found.append((marked or bool(iso[3]), _time(f"{iso[1]} {iso[2]}", "%Y-%m-%d %H:%M:%S", zone, text)))
        elif unix := _UNIX_TIME.search(line):
            found.append((marked, _time(f"{unix[1]} {unix[2]} {unix[3]} {unix[5]}", "%b %d %H:%M:%S %Y", "", text)))
    if not found:
        _unexpected("This is no time", text)
    return next((moment for marked, moment in found if marked), found[0][1])


def _time(value: str, layout: str, zone: str, text: str) -> datetime:
    try:
        moment = datetime.strptime(value, layout).replace(tzinfo=UTC)
        if not zone:
            return moment
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        return moment.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        _unexpected("This is no time", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """One feature of `license`; expiry None when none is shown."""

    feature: str
    status: str
    expiry: date | None


def parse_licences(text: str) -> tuple[Licence, ...]:
    """Return the features of `license`; source: mmp-reference 5 (S6). Rows of another shape are left out."""
    rows = re.finditer(r"(?m)^\s*Feature:\s*(\S+)\s+status:\s*(.+?)(?:\s+expiry:\s*(\S+).*)?$", text)
    return tuple(Licence(feature=row[1], status=row[2].strip(), expiry=_day(row[3])) for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One account of `user list`; password_expiry None when it never ends or is not shown."""

    name: str
    role: str
    password_expiry: date | None
    logged_in: bool


def parse_users(text: str) -> tuple[User, ...]:
    """Return the accounts of `user list`; source: mmp-reference 1.2 (S25). Raises: UnexpectedReply: no heading row."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    starts = [number for number, words in enumerate(lines) if words[:2] == ["USERNAME", "ROLE"]]
    if not starts:
        _unexpected("This is no list of users", text)
    return tuple(
        User(name=words[0], role=words[1], password_expiry=_day(words[2]), logged_in=words[-1].casefold() == "yes")
        for words in lines[starts[0] + 1 :]
        if len(words) >= 4
    )


def _day(value: str | None) -> date | None:
    """Return the day that is printed as "2023-Apr-28"; None for years beyond 9999, which stand for "never"."""
    try:
        return datetime.strptime(value or "", "%Y-%b-%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
