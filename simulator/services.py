"""The services of an appliance: which there are, what each wants, and the state each is in.

Three layers of state are kept apart, because the product does so: the *files* on the appliance, the *settings* that
name files, and what is *running*, which was read from the files when the service started and no longer cares for them.
The commands that change this state are in `service_commands.py`, what a bare `<service>` prints is in `status.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType


class Wire(Enum):
    """What stands on a port before TLS begins."""

    TLS = "tls"
    XMPP = "starttls-xmpp"
    POSTGRES = "starttls-postgres"
    NONE = "none"  # a client only: nothing listens


class ClientCertificate(Enum):
    """Whether the listener asks the peer for a certificate."""

    NOT_ASKED = "not asked"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointKind:
    """One key and certificate setting of a service. *words* come before `certs` and `listen` on the command line."""

    name: str
    words: tuple[str, ...]
    label: str = ""  # the word before "Key and certificate pair match", where a service has two pairs
    full_chain: bool = False
    optional: bool = False  # the service also runs without a certificate
    port: int | None = None
    wire: Wire = Wire.TLS
    client_certificate: ClientCertificate = ClientCertificate.NOT_ASKED
    trust: str | None = None  # the trust store that peers are checked against


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKind:
    """One service as it is enabled and restarted: its endpoints, and the trust stores it reads when it starts."""

    name: str
    title: str
    endpoints: tuple[EndpointKind, ...]
    trusts: Mapping[str, tuple[str, ...]]  # store name -> command words
    always_on: bool = False  # has `restart` only
    tagged: bool = False  # `loadbalancer enable <tag>`


def _service(
    name: str,
    title: str,
    *endpoints: EndpointKind,
    trusts: tuple[str, ...] = (),
    always_on: bool = False,
    tagged: bool = False,
) -> ServiceKind:
    stores = {words.replace(" ", "."): tuple(words.split()) for words in trusts}
    return ServiceKind(
        name=name,
        title=title,
        endpoints=endpoints,
        trusts=MappingProxyType(stores),
        always_on=always_on,
        tagged=tagged,
    )


def _media(name: str, title: str, port: int, *, sip: bool) -> ServiceKind:
    """Return recorder or streamer: HTTPS with a list of trusted Call Bridges up to 2.9, SIP from 3.0 on (S7 S9)."""
    if sip:
        return _service(name, title, EndpointKind(name=name, words=(name, "sip"), port=port))
    endpoint = EndpointKind(
        name=name,
        words=(name,),
        port=port,
        client_certificate=ClientCertificate.OPTIONAL,
        trust=f"{name}.trust",
    )
    return _service(name, title, endpoint, trusts=(f"{name} trust",))


def service_kinds(*, sip_media: bool) -> Mapping[str, ServiceKind]:
    """Return every service by name; *sip_media* chooses the form that recorder and streamer have from 3.0 on."""
    kinds = (
        _service("webadmin", "Webadmin", EndpointKind(name="webadmin", words=("webadmin",), port=8443)),
        _service(
            "callbridge",
            "Callbridge",
            EndpointKind(
                name="callbridge",
                words=("callbridge",),
                port=5061,
                client_certificate=ClientCertificate.OPTIONAL,
                trust="tls.sip.trust",
            ),
            trusts=(
                "callbridge trust c2w",
                "callbridge trust cluster",
                "callbridge trust branding",
                "callbridge ucm certs",
                "callbridge imps certs",
                "tls sip trust",
            ),
            always_on=True,
        ),
        _service(
            "webbridge",
            "Webbridge",
            EndpointKind(name="webbridge", words=("webbridge",), port=9443),
            trusts=("webbridge trust",),
        ),
        _service(
            "webbridge3",
            "Webbridge3",
            EndpointKind(
                name="webbridge3.https", words=("webbridge3", "https"), label="HTTPS", full_chain=True, port=9443
            ),
            EndpointKind(
                name="webbridge3.c2w",
                words=("webbridge3", "c2w"),
                label="C2W",
                full_chain=True,
                port=9999,
                client_certificate=ClientCertificate.REQUIRED,
                trust="webbridge3.c2w.trust",
            ),
            trusts=("webbridge3 c2w trust",),
        ),
        _service(
            "xmpp",
            "XMPP server",
            EndpointKind(name="xmpp", words=("xmpp",), port=5222, wire=Wire.XMPP),
            trusts=("xmpp cluster trust",),
        ),
        _service("turn", "TURN server", EndpointKind(name="turn", words=("turn",), optional=True, port=5349)),
        _service(
            "loadbalancer",
            "Loadbalancer",
            EndpointKind(name="loadbalancer", words=("loadbalancer",), port=4999),
            tagged=True,
        ),
        _service("trunk", "Trunk", EndpointKind(name="trunk", words=("trunk",), wire=Wire.NONE), tagged=True),
        _media("recorder", "Recorder", 8445, sip=sip_media),
        _media("streamer", "Streamer", 8446, sip=sip_media),
        _service(
            "scheduler",
            "Scheduler",
            EndpointKind(
                name="scheduler.https", words=("scheduler", "https"), label="HTTPS", full_chain=True, port=9447
            ),
            EndpointKind(
                name="scheduler.c2w", words=("scheduler", "c2w"), label="C2W", full_chain=True, wire=Wire.NONE
            ),
            trusts=("scheduler c2w trust",),
        ),
        _service(
            "h323_gateway",
            "H323 gateway",
            EndpointKind(name="h323_gateway", words=("h323_gateway",), optional=True, wire=Wire.NONE),
        ),
        _service("uploader", "Uploader", trusts=("uploader cms trust", "uploader rev trust")),
    )
    return MappingProxyType({kind.name: kind for kind in kinds})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What an endpoint read when it started: it serves this until it starts again."""

    key_file: str
    certificate_file: str
    key: bytes = field(repr=False)
    chain: tuple[bytes, ...]  # PEM, leaf first, as it goes over the wire
    trust: bytes | None  # PEM of the certificates peers are checked against


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """Settings and running state of one endpoint. Without a *port* nothing listens."""

    kind: EndpointKind
    key: str | None = None
    certificate: str | None = None
    bundle: str | None = None
    interface: str = "a"
    port: int | None = None
    running: Running | None = None
    running_port: int | None = None
    served_before: Running | None = None  # what a stale listener goes back to


@dataclass(slots=True, kw_only=True)
class Service:
    """Settings and running state of one service."""

    kind: ServiceKind
    endpoints: dict[str, Endpoint]
    trusts: dict[str, str | None]
    enabled: bool = False
    applied_trusts: dict[str, bytes | None] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)  # further rows of the status, such as the realm of TURN
    tag: str | None = None

    @classmethod
    def of(cls, kind: ServiceKind) -> "Service":
        """Return the service as it comes from the factory: nothing set, not enabled."""
        endpoints = {endpoint.name: Endpoint(kind=endpoint) for endpoint in kind.endpoints}
        return cls(kind=kind, endpoints=endpoints, trusts=dict.fromkeys(kind.trusts), enabled=kind.always_on)

    @property
    def up(self) -> bool:
        """Whether the service is enabled and every endpoint that has a certificate is running."""
        configured = [endpoint for endpoint in self.endpoints.values() if endpoint.certificate is not None]
        return self.enabled and all(endpoint.running is not None for endpoint in configured)
