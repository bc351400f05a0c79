"""The services table: what each CMS service wants, by release.

Here lives, for every service that carries a certificate: the files its `certs` line takes, the lines that put them in
service, what that interrupts, where its status shows the files in use, its port and how to probe it, the extended key
usage it needs, and the trust stores that pin other services' leaves. Not here: the database cluster
(`procedures.database_cluster`), and reading files.

Rules come from the base document (rows S7, S8, S10), mmp-reference sections 4.1, 4.3, 4.4 and 7; rows marked *guessed*
are labels of status outputs nobody has seen, so a reader must take a missing row as "not known".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from workflows.errors import InputError
from workflows.mmp.commands import (
    LoadbalancerAuth,
    ServiceCerts,
    ServiceDisable,
    ServiceEnable,
    ServiceRestart,
    TrustBundle,
)
from workflows.mmp.replies import Status

Release = tuple[int, int]
"""(major, minor), e.g. (3, 9); patch levels change no rule here."""

_FIRST: Release = (2, 9)
_3_0: Release = (3, 0)
_3_2: Release = (3, 2)
_3_3: Release = (3, 3)


class Takes(Enum):
    """Which files the `certs` line of a service takes."""

    BUNDLE = "key, certificate, bundle"  # bundle: intermediates and root, without the entity (S8)
    FULL_CHAIN = "key, full chain"  # entity first, root last, one file (S8)
    TRUST = "key, certificate, trust bundle"  # the third file is whom to trust, not how to be trusted


class Apply(Enum):
    """How a service takes up new files (S7)."""

    DISABLE_ENABLE = "disable, certs, enable"
    RESTART = "certs, restart"


class Probe(Enum):
    """How the certificate of a port can be read from outside."""

    TLS = "tls"
    STARTTLS_XMPP = "starttls-xmpp"
    STARTTLS_POSTGRES = "starttls-postgres"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """One place where a service listens: Listening(interface="a", port=445); interface "" when not shown."""

    interface: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What the status of a service shows now; None means "not set", for *enabled* "the status does not say"."""

    enabled: bool | None
    key: str | None
    certificate: str | None
    bundle: str | None
    listening: tuple[Listening, ...]
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStore:
    """A file of a process that says whom it trusts; its leaf pins must be renewed before the leaf's owner changes.

    *names_leaf_of* are the services whose leaves it may pin (a hint: the fetched file decides, by fingerprint).
    """

    name: str
    process: str
    words: str
    rows: tuple[str, ...]
    names_leaf_of: tuple[str, ...]
    first: Release = _FIRST
    last: Release | None = None
    manual: str

    def current(self, status: Status, *, tag: str = "") -> str | None:
        """Return the file name that *status* of the process shows for this store, None when not set or not shown."""
        return _value(_block(status, tag), self.rows)

    def line(self, bundle: str, *, settings: ServiceSettings | None = None) -> str:
        """Return the line that sets the store to *bundle*; a load balancer's needs *settings* (tag, key, …)."""
        if self.process == "loadbalancer":
            if settings is None or not settings.key or not settings.certificate:
                raise InputError("The trust bundle of a load balancer is set together with its key and certificate.")
            return LoadbalancerAuth(settings.tag, settings.key, settings.certificate, bundle).line()
        return TrustBundle(self.words, bundle).line()

    def apply_lines(self, bundle: str, *, enabled: bool, settings: ServiceSettings | None = None) -> tuple[str, ...]:
        """Return the lines that set the store and make it effective; of a process that is off, only the first."""
        tag = settings.tag if settings else ""
        return process_apply(
            self.process, enabled=enabled, certs_lines=(self.line(bundle, settings=settings),), tag=tag
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service that carries a certificate, in the releases *first* to *last* (None: still there)."""

    name: str
    process: str
    first: Release = _FIRST
    last: Release | None = None
    takes: Takes
    words: str
    apply: Apply = Apply.DISABLE_ENABLE
    enabled_rows: tuple[str, ...] = ("Enabled",)
    key_rows: tuple[str, ...] = ("Key file",)
    certificate_rows: tuple[str, ...] = ("Certificate file",)
    bundle_rows: tuple[str, ...] = ("CA Bundle file",)
    listen_rows: tuple[str, ...]
    port_rows: tuple[str, ...] = ()
    default_port: int | None
    probe: Probe = Probe.TLS
    eku: frozenset[str] = frozenset({"server"})
    interrupts: str
    outage_s: tuple[int, int]
    manual: str

    def exists_in(self, release: Release) -> bool:
        """Return whether *release* has this service in this form."""
        return self.first <= release and (self.last is None or release <= self.last)

    @property
    def status_line(self) -> str:
        """The reading line whose reply `current` understands, e.g. "webbridge3"."""
        return "loadbalancer list" if self.process == "loadbalancer" else self.process

    @property
    def wants_bundle(self) -> bool:
        """Whether new files come with a third one; `turn` from 3.0 wants none and yet takes one, for the way back."""
        return self.takes is not Takes.FULL_CHAIN

    def certs_line(self, key: str, certificate: str, bundle: str = "", *, tag: str = "") -> str:
        """Return the line that names the files; *certificate* is the full chain file where the service takes one.

        Raises: InputError: a bundle for a full chain service, or a load balancer without tag or trust bundle.
        """
        if self.takes is Takes.TRUST:
            return LoadbalancerAuth(tag, key, certificate, bundle).line()
        if bundle and not self.bundle_rows:
            raise InputError(f"{self.name} takes a key and a full chain; it has no place for the bundle {bundle}.")
        return ServiceCerts(self.words, key, certificate, bundle).line()

    def apply_lines(
        self, *, enabled: bool, key: str, certificate: str, bundle: str = "", tag: str = ""
    ) -> tuple[str, ...]:
        """Return disable / certs / enable, or certs / restart; of a service that is off, the certs line only."""
        line = self.certs_line(key, certificate, bundle, tag=tag)
        return process_apply(self.process, enabled=enabled, certs_lines=(line,), tag=tag)

    def lines_back(self, old: ServiceSettings) -> tuple[str, ...]:
        """Return the lines that put the files of *old* in service again; none when no files were set before.

        A service whose *old* status did not say whether it is on is taken as on: it is then restarted, never left off.
        """
        if not old.key or not old.certificate:
            return ()
        return self.apply_lines(
            enabled=old.enabled is not False,
            key=old.key,
            certificate=old.certificate,
            bundle=old.bundle or "",
            tag=old.tag,
        )

    def current(self, status: Status, *, tag: str = "") -> ServiceSettings:
        """Return what *status* (the reply to `status_line`) shows; of several load balancers *tag*, or the first."""
        block = _block(status, tag)
        certificate = _value(block, self.certificate_rows)
        enabled = _flag(_value(block, self.enabled_rows))
        if self.apply is Apply.RESTART:
            # A call bridge has no Enabled row; it runs as soon as it has a certificate (mmp-reference 4.1).
            enabled = certificate is not None
        return ServiceSettings(
            enabled=enabled,
            key=_value(block, self.key_rows),
            certificate=certificate,
            bundle=_value(block, self.bundle_rows),
            listening=self._listening(block),
            tag=_value(block, ("Tag",)) or tag,
        )

    def _listening(self, block: Status) -> tuple[Listening, ...]:
        """Return where the status says that TLS is listened for; the default port where it names none."""
        port = self.default_port
        shown = _first(block, self.port_rows)
        if shown is not None:
            port = int(shown) if shown.isdigit() else None  # "none": the service has no TLS port
        found: list[Listening] = []
        for value in block.values_of(*self.listen_rows):
            # "tcp a:7000, tls a:7001": only the TLS half counts (recorder and streamer from 3.0).
            secure = re.search(r"\btls\s+([^,]*)", value)
            for interface, own_port in re.findall(r"\b([a-z])(?::(\d+))?(?![\w.:])", secure[1] if secure else value):
                number = int(own_port) if own_port else port
                if number is not None:
                    found.append(Listening(interface=interface, port=number))
        unseen = not block.values_of(*self.listen_rows)
        if unseen and port is not None:
            return (Listening(interface="", port=port),)
        return tuple(found)

    @property
    def trust_stores(self) -> tuple[TrustStore, ...]:
        """The trust stores of the same process, in releases that overlap with this service's."""
        return tuple(store for store in TRUST_STORES if store.process == self.process and _overlap(self, store))


_BOTH = frozenset({"server", "client"})

SERVICES: tuple[Service, ...] = (
    Service(
        name="webadmin",
        process="webadmin",
        takes=Takes.BUNDLE,
        words="webadmin certs",
        listen_rows=("TLS listening interface",),
        port_rows=("TLS listening port",),
        default_port=443,
        # mmp-reference 7 shows templates with both usages for webadmin. Only "server" is demanded here: the Web Admin
        # never opens a connection of its own, and public CAs give no clientAuth any more (7.1); "both" is still
        # accepted.
        interrupts="the web admin page and the API of this server do not answer",
        outage_s=(5, 30),
        manual="mmp-reference 4.1, 4.3 (S5, S11)",
    ),
    Service(
        name="callbridge",
        process="callbridge",
        takes=Takes.BUNDLE,
        words="callbridge certs",
        apply=Apply.RESTART,
        listen_rows=("Listening interfaces",),
        default_port=5061,
        eku=_BOTH,  # client towards web bridges, cluster peers and mutual SIP TLS (7.1)
        interrupts="all calls on this server drop",
        outage_s=(10, 60),
        manual="mmp-reference 4.1, 4.3 (S5, S8)",
    ),
    Service(
        name="webbridge",
        process="webbridge",
        last=(2, 9),
        takes=Takes.BUNDLE,
        words="webbridge certs",
        listen_rows=("Interface whitelist",),  # guessed, after the streamer of 2.x
        default_port=443,
        interrupts="web app users of this server are disconnected",
        outage_s=(5, 30),
        manual="mmp-reference 4.3 (S11, S21)",
    ),
    Service(
        name="webbridge3.https",
        process="webbridge3",
        first=_3_0,
        takes=Takes.FULL_CHAIN,
        words="webbridge3 https certs",
        key_rows=("HTTPS Key file",),
        certificate_rows=("HTTPS Full chain certificate file",),
        bundle_rows=(),
        listen_rows=("HTTPS listening ports and interfaces",),
        default_port=443,
        interrupts="web app users of this server are disconnected",
        outage_s=(5, 30),
        manual="mmp-reference 4.1, 4.3 (S5, S14)",
    ),
    Service(
        name="webbridge3.c2w",
        process="webbridge3",
        first=_3_0,
        takes=Takes.FULL_CHAIN,
        words="webbridge3 c2w certs",
        key_rows=("C2W Key file",),
        certificate_rows=("C2W Full chain certificate file",),
        bundle_rows=(),
        listen_rows=("C2W listening ports and interfaces",),
        default_port=9999,
        eku=_BOTH,  # the C2W link is mutual TLS
        interrupts="web app users of this server are disconnected, and its link to the call bridges is down",
        outage_s=(5, 30),
        manual="mmp-reference 4.1, 4.3 (S5, S14)",
    ),
    Service(
        name="xmpp",
        process="xmpp",
        last=(2, 9),
        takes=Takes.BUNDLE,
        words="xmpp certs",
        listen_rows=("Listening interfaces", "Interface whitelist"),  # guessed
        default_port=5222,
        probe=Probe.STARTTLS_XMPP,
        eku=_BOTH,  # peers of an XMPP cluster are clients of each other
        interrupts="app users signed in through this server are disconnected",
        outage_s=(10, 60),
        manual="mmp-reference 4.3 (S11, S12)",
    ),
    Service(
        name="turn",
        process="turn",
        last=(2, 9),
        takes=Takes.BUNDLE,
        words="turn certs",
        key_rows=("TLS key",),
        certificate_rows=("TLS cert",),
        bundle_rows=("TLS bundle",),
        listen_rows=("Listen interface",),
        port_rows=("TLS port",),
        default_port=443,
        interrupts="media relayed through this server stops",
        outage_s=(5, 20),
        manual="base document step 5; mmp-reference 4.1",
    ),
    Service(
        name="turn",
        process="turn",
        first=_3_0,
        takes=Takes.FULL_CHAIN,  # `turn certs <key> <fullchain>` (S5)
        words="turn certs",
        key_rows=("TLS key",),
        certificate_rows=("TLS cert",),
        bundle_rows=("TLS bundle",),
        listen_rows=("Listen interface",),
        port_rows=("TLS port",),
        default_port=443,
        interrupts="media relayed through this server stops",
        outage_s=(5, 20),
        manual="mmp-reference 4.1, 4.3 (S5)",
    ),
    Service(
        name="loadbalancer",
        process="loadbalancer",
        last=(2, 9),
        takes=Takes.TRUST,
        words="loadbalancer auth",
        # The row labels of `loadbalancer list` are guessed; whichever of them a server shows is read.
        key_rows=("Key file", "Auth key file"),
        certificate_rows=("Certificate file", "Auth certificate file"),
        bundle_rows=("Trust bundle", "Auth trust bundle"),
        listen_rows=("Trunk interface",),
        default_port=3999,  # guessed
        eku=_BOTH,  # trunk and load balancer check each other
        interrupts="app users who come in through this edge server are disconnected",
        outage_s=(5, 30),
        manual="mmp-reference 11",
    ),
    Service(
        name="recorder",
        process="recorder",
        last=(2, 9),
        takes=Takes.BUNDLE,
        words="recorder certs",
        listen_rows=("Interface whitelist",),  # guessed, after the streamer of 2.x
        default_port=8443,
        interrupts="recordings in progress on this server end",
        outage_s=(5, 30),
        manual="mmp-reference 4.3 (S13)",
    ),
    Service(
        name="recorder",
        process="recorder",
        first=_3_0,
        takes=Takes.BUNDLE,
        words="recorder sip certs",
        key_rows=("SIP key file",),
        certificate_rows=("SIP certificate file",),
        bundle_rows=("SIP CA Bundle file",),
        listen_rows=("SIP interfaces",),
        default_port=None,  # the SIP TLS port has no default: it is set with `recorder sip listen`
        interrupts="recordings in progress on this server end",
        outage_s=(5, 30),
        manual="mmp-reference 4.1, 4.3 (S7)",
    ),
    Service(
        name="streamer",
        process="streamer",
        last=(2, 9),
        takes=Takes.BUNDLE,
        words="streamer certs",
        listen_rows=("Interface whitelist",),
        default_port=8443,
        interrupts="live streams from this server end",
        outage_s=(5, 30),
        manual="mmp-reference 4.1, 4.3 (S9)",
    ),
    Service(
        name="streamer",
        process="streamer",
        first=_3_0,
        takes=Takes.BUNDLE,
        words="streamer sip certs",
        key_rows=("SIP key file",),
        certificate_rows=("SIP certificate file",),
        bundle_rows=("SIP CA Bundle file",),
        listen_rows=("SIP interfaces",),
        default_port=None,
        interrupts="live streams from this server end",
        outage_s=(5, 30),
        manual="mmp-reference 4.1, 4.3 (S6)",
    ),
    Service(
        name="scheduler.https",
        process="scheduler",
        first=_3_3,
        takes=Takes.FULL_CHAIN,
        words="scheduler https certs",
        key_rows=("HTTPS Key file",),  # the row labels of the scheduler are guessed, after webbridge3
        certificate_rows=("HTTPS Full chain certificate file",),
        bundle_rows=(),
        listen_rows=("HTTPS listening ports and interfaces", "HTTPS listening interface"),
        port_rows=("HTTPS listening port",),
        default_port=9443,
        interrupts="meetings cannot be scheduled from the web app",
        outage_s=(10, 60),
        manual="mmp-reference 4.3 (S14)",
    ),
    Service(
        name="scheduler.c2w",
        process="scheduler",
        first=_3_3,
        takes=Takes.FULL_CHAIN,
        words="scheduler c2w certs",
        key_rows=("C2W Key file",),
        certificate_rows=("C2W Full chain certificate file",),
        bundle_rows=(),
        listen_rows=(),
        default_port=None,  # the scheduler is the client of the C2W link: nothing listens
        probe=Probe.NONE,
        eku=_BOTH,
        interrupts="meetings cannot be scheduled from the web app",
        outage_s=(10, 60),
        manual="mmp-reference 4.3 (S14)",
    ),
)

TRUST_STORES: tuple[TrustStore, ...] = (
    TrustStore(
        name="callbridge.c2w",
        process="callbridge",
        words="callbridge trust c2w",
        rows=("C2W trusted certs",),
        names_leaf_of=("webbridge3.c2w",),
        first=_3_0,
        manual="mmp-reference 4.1, 4.3 (S5)",
    ),
    TrustStore(
        name="callbridge.cluster",
        process="callbridge",
        words="callbridge trust cluster",
        rows=("Callbridge cluster trusted certs",),
        # Peers of a call bridge cluster reach each other through the Web Admin, each showing its call bridge
        # certificate.
        names_leaf_of=("callbridge", "webadmin"),
        manual="mmp-reference 4.1, 4.3 (S5, S8)",
    ),
    TrustStore(
        name="webbridge.trust",
        process="webbridge",
        words="webbridge trust",
        rows=("Trust bundle",),  # guessed, after the streamer of 2.x
        names_leaf_of=("callbridge",),
        last=(2, 9),
        manual="mmp-reference 4.3, 7 (S11, S18)",
    ),
    TrustStore(
        name="webbridge3.c2w",
        process="webbridge3",
        words="webbridge3 c2w trust",
        rows=("C2W Trust bundle",),
        names_leaf_of=("callbridge", "scheduler.c2w"),
        first=_3_0,
        manual="mmp-reference 4.1, 4.3 (S5, S14)",
    ),
    TrustStore(
        name="xmpp.cluster",
        process="xmpp",
        words="xmpp cluster trust",
        rows=("Cluster trust bundle",),  # guessed
        names_leaf_of=("xmpp",),
        last=(2, 9),
        manual="mmp-reference 4.3, 7 (S12)",
    ),
    TrustStore(
        name="loadbalancer.auth",
        process="loadbalancer",
        words="loadbalancer auth",
        rows=("Trust bundle", "Auth trust bundle"),
        names_leaf_of=("callbridge",),
        last=(2, 9),
        manual="mmp-reference 11",
    ),
    TrustStore(
        name="recorder.trust",
        process="recorder",
        words="recorder trust",
        rows=("Trust bundle",),
        names_leaf_of=("callbridge",),
        last=(2, 9),
        manual="mmp-reference 4.3, 7 (S13)",
    ),
    TrustStore(
        name="streamer.trust",
        process="streamer",
        words="streamer trust",
        rows=("Trust bundle",),
        names_leaf_of=("callbridge",),
        last=(2, 9),
        manual="mmp-reference 4.1, 4.3 (S9)",
    ),
    TrustStore(
        name="scheduler.c2w",
        process="scheduler",
        words="scheduler c2w trust",
        rows=("C2W Trust bundle",),  # guessed, after webbridge3
        names_leaf_of=("webbridge3.c2w",),
        first=_3_3,
        manual="mmp-reference 4.3 (S14)",
    ),
    TrustStore(
        name="uploader.cms",
        process="uploader",
        words="uploader cms trust",
        rows=("CMS trust bundle",),
        names_leaf_of=("webadmin",),
        first=_3_2,
        manual="mmp-reference 4.1, 4.3 (S6)",
    ),
)


def services_of(release: Release) -> tuple[Service, ...]:
    """Return the services that *release* has, in the order of the table; names are unique within a release."""
    return tuple(entry for entry in SERVICES if entry.exists_in(release))


def trust_stores_of(release: Release) -> tuple[TrustStore, ...]:
    """Return the trust stores that *release* has."""
    return tuple(
        store for store in TRUST_STORES if store.first <= release and (store.last is None or release <= store.last)
    )


def service(name: str, release: Release) -> Service:
    """Return the service called *name* in *release*; raise InputError that names the release and its services."""
    for entry in services_of(release):
        if entry.name == name:
            return entry
    shown = f"{release[0]}.{release[1]}"
    elsewhere = sorted({_releases(entry) for entry in SERVICES if entry.name == name})
    where = f"; {name} is there in release {' and '.join(elsewhere)}" if elsewhere else ""
    raise InputError(
        f"CMS {shown} has no service {name!r}{where}.",
        remedy=f"Services of {shown}: {', '.join(entry.name for entry in services_of(release))}.",
    )


def process_apply(process: str, *, enabled: bool, certs_lines: Sequence[str], tag: str = "") -> tuple[str, ...]:
    """Return *certs_lines* with what makes them effective, once for all sub-services of *process*.

    ("webbridge3 disable", "webbridge3 https certs …", "webbridge3 c2w certs …", "webbridge3 enable"); for callbridge
    the lines and then "callbridge restart". A process that is off keeps being off: the lines only.
    """
    lines = tuple(certs_lines)
    if not enabled or not lines:
        return lines
    if process == "callbridge":
        return (*lines, ServiceRestart(process).line())
    return (ServiceDisable(process, tag).line(), *lines, ServiceEnable(process, tag).line())


def _releases(entry: Service) -> str:
    first = f"{entry.first[0]}.{entry.first[1]}"
    if entry.last is None:
        return f"{first} and later"
    return first if entry.first == entry.last else f"{first} to {entry.last[0]}.{entry.last[1]}"


def _overlap(one: Service, other: TrustStore) -> bool:
    return (other.last is None or one.first <= other.last) and (one.last is None or other.first <= one.last)


def _block(status: Status, tag: str) -> Status:
    """Return the rows of one tag, where a status lists several things one after the other (`loadbalancer list`)."""
    blocks = status.blocks("Tag")
    return next((block for block in blocks if tag and block.get("Tag") == tag), blocks[0])


def _first(status: Status, rows: tuple[str, ...]) -> str | None:
    return next((value for row in rows if (value := status.get(row)) is not None), None)


def _value(status: Status, rows: tuple[str, ...]) -> str | None:
    value = _first(status, rows)
    return None if value is None or value.casefold() in {"", "none", "not set"} else value


def _flag(value: str | None) -> bool | None:
    return {"true": True, "enabled": True, "yes": True, "false": False, "disabled": False, "no": False}.get(
        (value or "").casefold()
    )
