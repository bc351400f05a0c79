"""The MMP commands as frozen values: each knows its line, what its reply means, and what is known about both.

Here lives the spelling of every line that is ever sent, with the checks that keep one value from becoming two words or
two lines. Not here: what replies look like inside (`mmp.replies`) and which service wants which files (`mmp.services`).

A *form* is the line with holes: "pki match <key> <certificate>"; `[<bundle>]` may be left out; the hole's name says
what it may hold. `command_of(line)` goes the way back, so a plan's lines find their time limit, question and verdict.
`is_reading_line` is strict: a line is a reading one only when it is, letter for letter, what one of the classes in
`READING` would send.
Sources: mmp-reference sections 1 to 5 and 11; the standing is that of the *reply* (see `Standing`).
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from workflows.errors import InputError
from workflows.mmp import replies
from workflows.mmp.conversation import Reply
from workflows.mmp.replies import DatabaseStatus, Inspection, Licence, PkiAnswer, Standing, Status, User, Verdict

T = TypeVar("T")


class TimeClass(Enum):
    """How long a command may take; the session gives up after `TIMEOUTS_S`."""

    QUICK = "quick"  # prints what is known
    KEY = "key"  # makes a key
    SERVICE = "service"  # stops or starts a service
    LONG = "long"  # moves a database or writes a backup


TIMEOUTS_S: Mapping[TimeClass, float] = {
    TimeClass.QUICK: 20.0,
    TimeClass.KEY: 180.0,
    TimeClass.SERVICE: 120.0,
    TimeClass.LONG: 600.0,
}
"""Seconds; our own choice, no timings are documented (mmp-reference 3.2)."""


# ── words of a line ──────────────────────────────────────────────────────────────────────────────────────────────────
_PLAIN_WORD = re.compile(r"[A-Za-z0-9._:,@*/+=-]+")
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_FILE = re.compile(r"[^\s/\\-][^/\\]*")
_RULES: Mapping[str, tuple[re.Pattern[str], str]] = {
    # the hole's name → (what it may hold, the same in words)
    "basename": (re.compile(r"[A-Za-z0-9_-]+"), "letters, digits, hyphen and underscore (S1)"),
    "ca_basename": (re.compile(r"[A-Za-z0-9_-]+"), "letters, digits, hyphen and underscore (S1)"),
    "name": (re.compile(r"[A-Za-z0-9_-]+"), "letters, digits, hyphen and underscore"),
    "tag": (re.compile(r"[A-Za-z0-9_-]+"), "letters, digits, hyphen and underscore"),
    "topic": (re.compile(r"[a-z0-9_]+"), "a command word"),
    "interface": (re.compile(r"[a-z]{1,5}"), "an interface name such as a"),
    "address": (re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*"), "a host name or IP address"),
}
_FILE_RULE = (_FILE, "a file name without slash, backslash or leading hyphen")


def quoted(value: str) -> str:
    """Return *value* as it stands in a line: as it is, or in double quotes when it has blanks or the like.

    Source: mmp-reference 1.1 (`OU:"Cisco Support"`). Raises: InputError: the value is empty, or holds quotes, a
    backslash or control characters, for which no way to write them is documented.
    """
    refused = [
        char for char in value if char in "\"'\\`" or unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]
    if not value.strip() or value != value.strip() or refused:
        shown = "".join(char if char.isprintable() else "·" for char in value)
        raise InputError(
            f"A server's command line cannot take the value {shown!r}.",
            remedy="Leave out quotes, backslashes, control characters and blanks at either end.",
        )
    return value if _PLAIN_WORD.fullmatch(value) else f'"{value}"'


def words_of(line: str) -> tuple[str, ...]:
    """Return the words of *line* without quotes: ("pki", "csr", "web", "O:A B") for `pki csr web O:"A B"`."""
    return tuple(word.replace('"', "") for word in _WORD.findall(line))


# ── what all commands have ───────────────────────────────────────────────────────────────────────────────────────────
class Command(ABC, Generic[T]):
    """A command whose reply means a T; `await session.ask(command)` gives that T."""

    __slots__ = ()

    form: ClassVar[str]
    changes: ClassVar[bool] = False
    time_class: ClassVar[TimeClass] = TimeClass.QUICK
    standing: ClassVar[Standing]
    manual: ClassVar[str]
    question: ClassVar[str] = ""
    """Regular expression of the one question that may be answered, "" for none; searched in `Question.text`."""
    answer: ClassVar[str] = ""
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Holes that stand for command words: the words they may be."""

    def __post_init__(self) -> None:
        """Raise InputError when a value does not fit its hole."""
        self.line()

    @property
    def own_standing(self) -> Standing:
        """How well the reply to this very line is known; *standing* is that of the best known line of the class."""
        return self.standing

    @property
    def timeout_s(self) -> float:
        """Seconds after which the session gives the command up."""
        return TIMEOUTS_S[self.time_class]

    def line(self) -> str:
        """Return the line to send, without line end; every value is checked and quoted."""
        return _fill(
            self.form, {item.name: getattr(self, item.name) for item in fields(cast("Any", self))}, self.choices
        )

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Return the command that would send exactly *line*, None when this class would not."""
        values = _match(cls.form, words_of(line), cls.choices)
        if values is None:
            return None
        try:
            command = cls(**values)
        except InputError:
            return None
        return command if command.line() == line else None

    @abstractmethod
    def parse(self, reply: Reply) -> T:
        """Return what *reply* means; raise UnexpectedReply when it holds no such thing."""


def _holes(form: str) -> list[tuple[str, bool, bool]]:
    """Return (word, is a hole, may be left out) for each word of *form*."""
    return [(word.strip("[<>]"), "<" in word, word.startswith("[")) for word in form.split()]


def _fill(form: str, values: Mapping[str, str], choices: Mapping[str, tuple[str, ...]]) -> str:
    parts: list[str] = []
    for word, is_hole, optional in _holes(form):
        value = values[word] if is_hole else ""
        if not is_hole:
            parts.append(word)
        elif word in choices:
            if value not in choices[word]:
                raise InputError(f"`{form}` has no {word} {value!r}.", remedy=f"It has: {', '.join(choices[word])}.")
            parts.append(value)
        elif value or not optional:
            pattern, in_words = _RULES.get(word, _FILE_RULE)
            text = quoted(value)
            if not pattern.fullmatch(value):
                raise InputError(f"`{form}` cannot take {value!r} as {word}.", remedy=f"It takes {in_words}.")
            parts.append(text)
    return " ".join(parts)


def _match(form: str, words: tuple[str, ...], choices: Mapping[str, tuple[str, ...]]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    rest = list(words)
    for word, is_hole, optional in _holes(form):
        if is_hole and word in choices:
            # A choice may be several words ("webbridge3 https certs"); the longest that fits wins.
            fitting = [choice for choice in choices[word] if choice.split() == rest[: len(choice.split())]]
            if not fitting:
                return None
            values[word] = max(fitting, key=len)
            del rest[: len(values[word].split())]
        elif not rest:
            if not optional:
                return None
        elif is_hole:
            values[word] = rest.pop(0)
        elif rest.pop(0) != word:
            return None
    return None if rest else values


class _Reading(Command[T]):
    """A command that only reads; `is_reading_line` knows those in `READING`."""

    __slots__ = ()


class _Changing(Command[Verdict]):
    """A command that changes the server; its reply is a Verdict, and the state read afterwards is the proof."""

    __slots__ = ()
    changes: ClassVar[bool] = True
    done: ClassVar[str] = ""
    """Regular expression of a line that says it is done, where the command does not speak in SUCCESS lines."""

    def parse(self, reply: Reply) -> Verdict:
        """Return the verdict; a guessed transcript never leads to ok."""
        return Verdict.of(reply.text, standing=self.own_standing, done=self.done)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Version(_Reading[tuple[int, ...]]):
    """`version`: the release. (3, 9, 1)."""

    form: ClassVar[str] = "version"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 5 (S10)"

    def parse(self, reply: Reply) -> tuple[int, ...]:
        """Return the release number, major first."""
        return replies.parse_version(reply.text)


@dataclass(frozen=True, slots=True)
class Date(_Reading[datetime]):
    """`date`: the server's clock, aware UTC."""

    form: ClassVar[str] = "date"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "recalled, MMP Command Line Reference"

    def parse(self, reply: Reply) -> datetime:
        """Return the time in UTC."""
        return replies.parse_date(reply.text)


@dataclass(frozen=True, slots=True)
class Help(_Reading[str]):
    """`help`: the commands there are, as text."""

    form: ClassVar[str] = "help [<topic>]"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 1.1 (S23)"
    topic: str = ""

    def parse(self, reply: Reply) -> str:
        """Return the text as it came."""
        return reply.text


@dataclass(frozen=True, slots=True)
class License(_Reading[tuple[Licence, ...]]):
    """`license`: (Licence(feature="callbridge", status="Activated", expiry=date(2023, 4, 28)), …)."""

    form: ClassVar[str] = "license"
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "mmp-reference 5 (S6)"

    def parse(self, reply: Reply) -> tuple[Licence, ...]:
        """Return the features; unknown rows are left out."""
        return replies.parse_licences(reply.text)


@dataclass(frozen=True, slots=True)
class UserList(_Reading[tuple[User, ...]]):
    """`user list`: (User(name="admin", role="admin", password_expiry=date(2017, 11, 5), logged_in=True), …)."""

    form: ClassVar[str] = "user list"
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "mmp-reference 1.2 (S22, S25)"

    def parse(self, reply: Reply) -> tuple[User, ...]:
        """Return the accounts in the order shown."""
        return replies.parse_users(reply.text)


@dataclass(frozen=True, slots=True)
class PkiList(_Reading[tuple[str, ...]]):
    """`pki list`: the names of keys, certificates and requests on the server, ("web.key", "web.crt", "root.cer")."""

    form: ClassVar[str] = "pki list"
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "mmp-reference 2.2 (S6)"

    def parse(self, reply: Reply) -> tuple[str, ...]:
        """Return the names in the order shown."""
        return replies.parse_pki_list(reply.text)


@dataclass(frozen=True, slots=True)
class PkiInspect(_Reading[Inspection]):
    """`pki inspect <file>`: what a stored file is. Inspection(kind=Kind.CERTIFICATE, elements=(…,))."""

    form: ClassVar[str] = "pki inspect <file>"
    standing: ClassVar[Standing] = Standing.RECALLED
    manual: ClassVar[str] = "base document step 4; mmp-reference 2.2"
    file: str

    def parse(self, reply: Reply) -> Inspection:
        """Return kind and what can be read of each certificate."""
        return replies.parse_inspection(reply.text)


@dataclass(frozen=True, slots=True)
class PkiMatch(_Reading[PkiAnswer]):
    """`pki match <key> <certificate>`: whether the two belong together."""

    form: ClassVar[str] = "pki match <key> <certificate>"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 4; mmp-reference 2.2, 11"
    key: str
    certificate: str

    def parse(self, reply: Reply) -> PkiAnswer:
        """Return yes, no or not known."""
        return replies.parse_pki_answer(reply.text)


@dataclass(frozen=True, slots=True)
class PkiVerify(_Reading[PkiAnswer]):
    """`pki verify <certificate> <bundle>`: whether the bundle proves the certificate."""

    form: ClassVar[str] = "pki verify <certificate> <bundle>"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 4; mmp-reference 2.2, 11"
    certificate: str
    bundle: str

    def parse(self, reply: Reply) -> PkiAnswer:
        """Return yes, no or not known."""
        return replies.parse_pki_answer(reply.text)


@dataclass(frozen=True, slots=True)
class ServiceStatus(_Reading[Status]):
    """`webadmin`, `callbridge`, …: the bare word shows the status rows. Status(rows=(("Enabled", "true"), …))."""

    form: ClassVar[str] = "<process>"
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "mmp-reference 4.1 (S5, S6, S7, S8, S9)"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "process": (
            "webadmin",
            "callbridge",
            "webbridge",
            "webbridge3",
            "xmpp",
            "turn",
            "recorder",
            "streamer",
            "scheduler",
            "uploader",
            "loadbalancer list",
            "xmpp cluster status",
        )
    }
    process: str

    def parse(self, reply: Reply) -> Status:
        """Return the rows; raise UnexpectedReply for a reply without any."""
        return replies.parse_status(reply.text)


@dataclass(frozen=True, slots=True)
class DatabaseClusterStatus(_Reading[DatabaseStatus]):
    """`database cluster status`: the cluster as this node sees it."""

    form: ClassVar[str] = "database cluster status"
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "mmp-reference 3.3 (S1)"

    def parse(self, reply: Reply) -> DatabaseStatus:
        """Return state, nodes, files and last command."""
        return replies.parse_database_status(reply.text)


# ── keys and requests ────────────────────────────────────────────────────────────────────────────────────────────────
_ATTRIBUTES = ("CN", "OU", "O", "L", "ST", "C", "emailAddress", "subjectAltName")


def _attributes_of(command: object) -> str:
    """Return the attributes that are set, as they stand in the line: `CN:web.example.com O:"Example Ltd"`."""
    parts: list[str] = []
    for attribute in _ATTRIBUTES:
        value = getattr(command, attribute)
        text = ",".join(value) if isinstance(value, tuple) else value
        if isinstance(value, tuple) and any("," in name or " " in name for name in value):
            raise InputError(f"A name in subjectAltName holds a comma or a blank: {text!r}.")
        if text:
            parts.append(f"{attribute}:{quoted(text)}")
    return " ".join(parts)


def _attributes_from(words: tuple[str, ...]) -> dict[str, Any] | None:
    values: dict[str, Any] = {}
    for word in words:
        attribute, colon, value = word.partition(":")
        if not colon or attribute not in _ATTRIBUTES or attribute in values:
            return None
        values[attribute] = tuple(value.split(",")) if attribute == "subjectAltName" else value
    return values


@dataclass(frozen=True, slots=True)
class _WithSubject(_Changing):
    """A command that takes a basename and the attributes of a subject."""

    time_class: ClassVar[TimeClass] = TimeClass.KEY
    basename: str
    CN: str
    OU: str = ""
    O: str = ""  # noqa: E741 - the names are those of the command line
    L: str = ""
    ST: str = ""
    C: str = ""
    emailAddress: str = ""  # noqa: N815 - the names are those of the command line
    subjectAltName: tuple[str, ...] = ()  # noqa: N815 - the names are those of the command line

    def line(self) -> str:
        """Return the line with the attributes in the order of the manual."""
        if not self.CN:
            raise InputError("A subject needs a CN (S1).")
        if self.C and not re.fullmatch(r"[A-Za-z]{2}", self.C):
            raise InputError(f"C is a country in two letters, not {self.C!r} (S1).")
        head = _fill(self.form.partition(" <CN")[0], {"basename": self.basename}, {})
        return f"{head} {_attributes_of(self)}"

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Return the command that would send exactly *line*, None when this class would not."""
        words = words_of(line)
        head = _match(cls.form.partition(" <CN")[0], words[:3], {})
        attributes = _attributes_from(words[3:])
        if head is None or not attributes or "CN" not in attributes:
            return None
        values: dict[str, Any] = {**head, **attributes}
        try:
            command = cls(**values)
        except InputError:
            return None
        return command if command.line() == line else None


@dataclass(frozen=True, slots=True)
class PkiCsr(_WithSubject):
    """`pki csr <basename> <CN:…> […]`: makes <basename>.key and .csr; breaks a service that uses the name (S9)."""

    form: ClassVar[str] = (
        "pki csr <basename> <CN:value> [OU:<value>] [O:<value>] [L:<value>] [ST:<value>] [C:<value>] "
        "[emailAddress:<value>] [subjectAltName:<value>]"
    )
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "base document step 1 (S1); mmp-reference 2.1, 2.2 (S6, S20)"
    done: ClassVar[str] = r"(?m)^Created key file \S+ and CSR \S+$"


@dataclass(frozen=True, slots=True)
class PkiSelfsigned(_WithSubject):
    """`pki selfsigned <basename> <CN:…> […]`: makes <basename>.key and a self-signed <basename>.crt (S4)."""

    form: ClassVar[str] = (
        "pki selfsigned <basename> <CN:value> [OU:<value>] [O:<value>] [L:<value>] [ST:<value>] [C:<value>] "
        "[emailAddress:<value>] [subjectAltName:<value>]"
    )
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 3 (S4); mmp-reference 2.1, 11"


@dataclass(frozen=True, slots=True)
class PkiSign(_Changing):
    """`pki sign <basename> <ca_basename>`: the built-in CA signs <basename>.csr into <basename>.crt (S4)."""

    form: ClassVar[str] = "pki sign <basename> <ca_basename>"
    time_class: ClassVar[TimeClass] = TimeClass.KEY
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 3 (S4); mmp-reference 2.1, 11"
    basename: str
    ca_basename: str


# ── services ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class ServiceCerts(_Changing):
    """`webadmin certs <key> <certificate> [<bundle>]` and the like: names the files; says nothing when all is well."""

    form: ClassVar[str] = "<words> <key> <certificate> [<bundle>]"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 5 (S7); mmp-reference 4.3"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "words": (
            "webadmin certs",
            "callbridge certs",
            "webbridge certs",
            "webbridge3 https certs",
            "webbridge3 c2w certs",
            "xmpp certs",
            "turn certs",
            "recorder certs",
            "recorder sip certs",
            "streamer certs",
            "streamer sip certs",
            "scheduler https certs",
            "scheduler c2w certs",
        )
    }
    words: str
    key: str
    certificate: str
    bundle: str = ""


@dataclass(frozen=True, slots=True)
class TrustBundle(_Changing):
    """`callbridge trust c2w <bundle>` and the like: names the file of those who are trusted."""

    form: ClassVar[str] = "<words> <bundle>"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 4.3 (S5, S6, S9, S11 to S14)"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "words": (
            "callbridge trust c2w",
            "callbridge trust cluster",
            "webbridge trust",
            "webbridge3 c2w trust",
            "xmpp cluster trust",
            "recorder trust",
            "streamer trust",
            "scheduler c2w trust",
            "uploader cms trust",
        )
    }
    words: str
    bundle: str


@dataclass(frozen=True, slots=True)
class LoadbalancerAuth(_Changing):
    """`loadbalancer auth <tag> <key> <certificate> <bundle>`: the bundle says which trunks are trusted."""

    form: ClassVar[str] = "loadbalancer auth <tag> <key> <certificate> <bundle>"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 11"
    tag: str
    key: str
    certificate: str
    bundle: str


_SWITCHED = (
    "webadmin",
    "webbridge",
    "webbridge3",
    "xmpp",
    "turn",
    "recorder",
    "streamer",
    "scheduler",
    "uploader",
    "loadbalancer",
)


@dataclass(frozen=True, slots=True)
class _Switch(_Changing):
    """A command that stops or starts a process; a load balancer is named by its tag."""

    time_class: ClassVar[TimeClass] = TimeClass.SERVICE
    process: str
    tag: str = ""

    def line(self) -> str:
        """Return the line; only a load balancer has a tag, and must have one."""
        if (self.process == "loadbalancer") != bool(self.tag):
            raise InputError(f"A load balancer is named by its tag, and nothing else is ({self.process} {self.tag!r}).")
        # Explicit class: zero-argument super() does not work in dataclasses with slots before Python 3.14.
        return Command.line(self)


@dataclass(frozen=True, slots=True)
class ServiceEnable(_Switch):
    """`webadmin enable` and the like: one SUCCESS or FAILURE line for each check."""

    form: ClassVar[str] = "<process> enable [<tag>]"
    standing: ClassVar[Standing] = Standing.VERBATIM
    manual: ClassVar[str] = "base document step 5 (S7); mmp-reference 4.2 (S6, S21)"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"process": _SWITCHED}

    @property
    def own_standing(self) -> Standing:
        """How well this line's reply is known: verbatim for three services, recalled for most, guessed for two."""
        known = {"loadbalancer": Standing.GUESSED, "scheduler": Standing.GUESSED}
        verbatim = {"streamer", "uploader", "webbridge"}
        return Standing.VERBATIM if self.process in verbatim else known.get(self.process, Standing.RECALLED)


@dataclass(frozen=True, slots=True)
class ServiceDisable(_Switch):
    """`webadmin disable` and the like: the service stops."""

    form: ClassVar[str] = "<process> disable [<tag>]"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 5 (S7); mmp-reference 4.3"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"process": _SWITCHED}


@dataclass(frozen=True, slots=True)
class ServiceRestart(_Changing):
    """`callbridge restart` and the like: the service stops and starts with the files now named."""

    form: ClassVar[str] = "<process> restart"
    time_class: ClassVar[TimeClass] = TimeClass.SERVICE
    standing: ClassVar[Standing] = Standing.RECALLED
    manual: ClassVar[str] = "base document step 5 (S7); mmp-reference 4.2, 11"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "process": ("callbridge", "webadmin", "webbridge", "webbridge3", "recorder", "streamer", "scheduler")
    }
    process: str

    @property
    def own_standing(self) -> Standing:
        """How well this line's reply is known: only the call bridge's is remembered."""
        return Standing.RECALLED if self.process == "callbridge" else Standing.GUESSED


@dataclass(frozen=True, slots=True)
class BackupSnapshot(_Changing):
    """`backup snapshot <name>`: writes <name>.bak, which holds private keys."""

    form: ClassVar[str] = "backup snapshot <name>"
    time_class: ClassVar[TimeClass] = TimeClass.LONG
    standing: ClassVar[Standing] = Standing.RECALLED
    manual: ClassVar[str] = "mmp-reference 5, 11 (S3, S10)"
    done: ClassVar[str] = r"(?m)^\S+\.bak ready for download"
    name: str


# ── the database cluster ─────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class DatabaseClusterCerts(_Changing):
    """`database cluster certs` with five files: a joined node."""

    form: ClassVar[str] = (
        "database cluster certs <server_key> <server_certificate> <client_key> <client_certificate> <ca_certificate>"
    )
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 3 (S5); mmp-reference 3.1 (S1, S2)"
    server_key: str
    server_certificate: str
    client_key: str
    client_certificate: str
    ca_certificate: str


@dataclass(frozen=True, slots=True)
class DatabaseClusterClientCerts(_Changing):
    """`database cluster certs` with three files: a node that connects only."""

    form: ClassVar[str] = "database cluster certs <client_key> <client_certificate> <ca_certificate>"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 3 (S5); mmp-reference 3.1 (S1, S27)"
    client_key: str
    client_certificate: str
    ca_certificate: str


@dataclass(frozen=True, slots=True)
class DatabaseClusterCertsNone(_Changing):
    """`database cluster certs none`: forgets the files named."""

    form: ClassVar[str] = "database cluster certs none"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 3.1"


@dataclass(frozen=True, slots=True)
class DatabaseClusterLocalnode(_Changing):
    """`database cluster localnode <interface>`: the interface the database listens on."""

    form: ClassVar[str] = "database cluster localnode <interface>"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "base document step 3 (S5); mmp-reference 3.1 (S1, S29)"
    interface: str


@dataclass(frozen=True, slots=True)
class _DatabaseMove(_Changing):
    """A command that starts a move of the database; the progress is read from `database cluster status`."""

    time_class: ClassVar[TimeClass] = TimeClass.LONG
    # The wording is recalled only, so it is matched loosely; the answer must be a capital letter (mmp-reference 1.3,
    # S2).
    standing: ClassVar[Standing] = Standing.GUESSED
    question: ClassVar[str] = r"\(Y/n\)"
    answer: ClassVar[str] = "Y"


@dataclass(frozen=True, slots=True)
class DatabaseClusterInitialize(_DatabaseMove):
    """`database cluster initialize`: this node becomes the primary with the data it has."""

    form: ClassVar[str] = "database cluster initialize"
    manual: ClassVar[str] = "base document step 3 (S5); mmp-reference 1.3, 3.1 (S1, S3)"


@dataclass(frozen=True, slots=True)
class DatabaseClusterJoin(_DatabaseMove):
    """`database cluster join <address>`: this node's data are overwritten with the primary's."""

    form: ClassVar[str] = "database cluster join <address>"
    manual: ClassVar[str] = "base document step 3 (S5); mmp-reference 1.3, 3.1 (S1, S3)"
    address: str


@dataclass(frozen=True, slots=True)
class DatabaseClusterConnect(_DatabaseMove):
    """`database cluster connect <address>`: this node uses a database on other nodes."""

    form: ClassVar[str] = "database cluster connect <address>"
    manual: ClassVar[str] = "base document step 3 (S5); mmp-reference 1.3, 3.1 (S1, S27)"
    address: str


@dataclass(frozen=True, slots=True)
class DatabaseClusterRemove(_DatabaseMove):
    """`database cluster remove`: this node leaves the cluster; replicas first, the primary last."""

    form: ClassVar[str] = "database cluster remove"
    manual: ClassVar[str] = "base document step 5 (S5); mmp-reference 1.3, 3.1 (S2, S3)"


@dataclass(frozen=True, slots=True)
class DatabaseClusterUpgradeSchema(_Changing):
    """`database cluster upgrade_schema`: on the primary, once all nodes are in sync."""

    form: ClassVar[str] = "database cluster upgrade_schema"
    time_class: ClassVar[TimeClass] = TimeClass.LONG
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 3.1 (S1, S10)"


@dataclass(frozen=True, slots=True)
class DatabaseClusterClearError(_Changing):
    """`database cluster clear_error`: takes the ERROR row away."""

    form: ClassVar[str] = "database cluster clear_error"
    standing: ClassVar[Standing] = Standing.GUESSED
    manual: ClassVar[str] = "mmp-reference 3.1 (S1)"


# ── the lists ────────────────────────────────────────────────────────────────────────────────────────────────────────
READING: tuple[type[Command[Any]], ...] = (
    Version,
    Date,
    Help,
    License,
    UserList,
    PkiList,
    PkiInspect,
    PkiMatch,
    PkiVerify,
    ServiceStatus,
    DatabaseClusterStatus,
)
"""All commands that only read; the session sends these whether or not the plan lists them."""

CHANGING: tuple[type[Command[Verdict]], ...] = (
    PkiCsr,
    PkiSelfsigned,
    PkiSign,
    ServiceCerts,
    TrustBundle,
    LoadbalancerAuth,
    ServiceEnable,
    ServiceDisable,
    ServiceRestart,
    BackupSnapshot,
    DatabaseClusterCertsNone,
    DatabaseClusterCerts,
    DatabaseClusterClientCerts,
    DatabaseClusterLocalnode,
    DatabaseClusterInitialize,
    DatabaseClusterJoin,
    DatabaseClusterConnect,
    DatabaseClusterRemove,
    DatabaseClusterUpgradeSchema,
    DatabaseClusterClearError,
)
"""All commands that change a server; the session sends these only when the plan lists their line."""


def command_of(line: str) -> Command[Any]:
    """Return the command whose line is exactly *line*; raise InputError when none is."""
    for known in (*READING, *CHANGING):
        command = known.from_line(line)
        if command is not None:
            return command
    raise InputError(f"No command of this program has the line {line!r}.")


def is_reading_line(line: str) -> bool:
    """Return whether *line* is, letter for letter, a line of a command that only reads."""
    return any(known.from_line(line) is not None for known in READING)
