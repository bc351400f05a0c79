"""What may be written in `fleet.yaml`: the keys, their types and, for each single value, what it may be.

The JSON Schema is made from these models, so the descriptions here are what an editor shows. Rules that look at more
than one value are in `rules`; defaults are filled in by `resolving`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from workflows.inventory import checks
from workflows.inventory.approvals import GATES
from workflows.inventory.values import BUILT_IN_CA, DatabaseRole, FilesPolicy, IssuerKind, KeyKind, KeyOrigin, Per

_DAYS = re.compile(r"(\d{1,4})d")
_TERM = re.compile(r"[1-9]\d{0,3}d")
_SPAN = re.compile(r"[1-9]\d{0,3}[hd]")
# Proof may also be told for the database port, which is no service of `fleet.yaml`.
PROOF_SERVICES = (*checks.SERVICE_RELEASES, "database")


def _rule(holds: Callable[[str], bool], what: str, remedy: str) -> AfterValidator:
    def check(text: str) -> str:
        if holds(text):
            return text
        raise PydanticCustomError("rule", "{what}", {"what": f"{text!r} {what}", "remedy": remedy})

    return AfterValidator(check)


def _check_release(text: str) -> str:
    number = checks.release_number(text)
    if number is None:
        raise PydanticCustomError("rule", "{what}", {"what": f"{text!r} is no release", "remedy": 'Write it as "3.9".'})
    if number < checks.OLDEST_RELEASE:
        what = f"release {text} is too old"
        raise PydanticCustomError("rule", "{what}", {"what": what, "remedy": "certbridge knows 2.9 and later."})
    return text


def _check_service(known: tuple[str, ...]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text in known:
            return text
        remedy = checks.did_you_mean(text, known) or f"Services are {', '.join(known)}."
        if text == "database":
            remedy = "Leave it out: the certificates of the database stand in `database_cluster` of the cluster."
        raise PydanticCustomError("rule", "{what}", {"what": f"unknown service {text!r}", "remedy": remedy})

    return check


def _check_gate(text: str) -> str:
    if text in GATES:
        return text
    remedy = checks.did_you_mean(text, GATES) or f"Gates are {', '.join(GATES)}."
    raise PydanticCustomError("rule", "{what}", {"what": f"unknown gate {text!r}", "remedy": remedy})


def _read_proof(value: Any) -> Any:
    return {"reachable": False} if value == "none" else value


Name = Annotated[
    str,
    _rule(
        checks.is_name,
        "cannot be a name",
        "Use letters, digits, `-`, `_` and `.`, beginning with a letter or digit, 63 at most.",
    ),
]
Basename = Annotated[
    str,
    _rule(checks.is_basename, "cannot be a basename of `pki csr`", "Use letters, digits, `-` and `_` only."),
    Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"}),
]
Host = Annotated[
    str,
    _rule(
        lambda text: checks.is_host_name(text) or checks.is_ip(text),
        "is neither a host name nor an IP address",
        "Write a host name or an address, without port and without user.",
    ),
]
Country = Annotated[
    str,
    _rule(checks.is_country, "is not a country of ISO 3166", "Write its two letters in capitals, e.g. KR or GB."),
    Field(json_schema_extra={"pattern": "^[A-Z]{2}$"}),
]
Days = Annotated[
    str,
    _rule(lambda text: bool(_DAYS.fullmatch(text)), "is no number of days", "Write it as 30d."),
    Field(json_schema_extra={"pattern": "^[0-9]{1,4}d$"}),
]
Term = Annotated[
    str,
    _rule(lambda text: bool(_TERM.fullmatch(text)), "is no term of at least one day", "Write it as 14d."),
    Field(json_schema_extra={"pattern": "^[1-9][0-9]{0,3}d$"}),
]
Span = Annotated[
    str,
    _rule(lambda text: bool(_SPAN.fullmatch(text)), "is no number of hours or days", "Write it as 24h or 3d."),
    Field(json_schema_extra={"pattern": "^[1-9][0-9]{0,3}[hd]$"}),
]
Release = Annotated[
    str, AfterValidator(_check_release), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
Service = Annotated[
    str,
    AfterValidator(_check_service(tuple(checks.SERVICE_RELEASES))),
    WithJsonSchema({"type": "string", "enum": list(checks.SERVICE_RELEASES)}),
]
GateName = Annotated[str, AfterValidator(_check_gate), WithJsonSchema({"type": "string", "enum": list(GATES)})]
ProofService = Annotated[
    str,
    AfterValidator(_check_service(PROOF_SERVICES)),
    WithJsonSchema({"type": "string", "enum": list(PROOF_SERVICES)}),
]
Text = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Interface = Literal["a", "b", "c", "d"]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WrittenSubjectParts(_Written):
    """The subject of a certificate without its CN. `{node}`, `{cluster}` and `{fleet}` are filled in."""

    organizational_unit: Text | None = Field(None, alias="OU", description="Organizational unit.")
    organization: Text | None = Field(None, alias="O", description="Organization.")
    locality: Text | None = Field(None, alias="L", description="Locality, e.g. the city.")
    state: Text | None = Field(None, alias="ST", description="State or province.")
    country: Country | None = Field(None, alias="C", description="Country: two letters of ISO 3166, e.g. KR.")
    email_address: Text | None = Field(None, alias="emailAddress", description="E-mail address.")

    def pairs(self) -> dict[str, str]:
        """Return what is written, in the order of `pki csr`: {"CN": …, "OU": …}."""
        written = self.model_dump(by_alias=True, exclude_none=True)
        return {attribute: written[attribute] for attribute in SUBJECT_ORDER if attribute in written}


# The order in which mmp-reference section 11 lists the attributes of `pki csr`.
SUBJECT_ORDER = ("CN", "OU", "O", "L", "ST", "C", "emailAddress")


class WrittenSubject(WrittenSubjectParts):
    """The subject of a certificate. `{node}`, `{cluster}` and `{fleet}` are filled in."""

    common_name: Text = Field(alias="CN", description="Common name: an FQDN or a wildcard (`*.example.com`).")


class WrittenNames(_Written):
    """The subject alternative names. If there are any, the CN must be among the DNS names."""

    dns: tuple[Text, ...] = Field((), description="DNS names. With `per: cluster`, {node} makes one for each node.")
    ip: tuple[Text, ...] = Field((), description="IP addresses.")
    email: tuple[Text, ...] = Field((), description="E-mail addresses.")

    def all(self) -> tuple[str, ...]:
        """Return the names of all kinds."""
        return self.dns + self.ip + self.email


class WrittenProof(_Written):
    """Where a service is looked at, if not at the node's address or not where the survey finds it listening."""

    address: Host | None = Field(None, description="Host name or IP address. Default: the node's address.")
    port: Port | None = Field(None, description="TCP port. Default: where the survey finds the service listening.")
    reachable: bool = Field(
        default=True, description="false: cannot be reached from here; the word `none` means it too."
    )


Proof = Annotated[
    WrittenProof,
    BeforeValidator(_read_proof),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "none", "description": "Not reachable from here, on purpose."},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "address": {"type": "string", "description": "Default: the node's address."},
                        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                        "reachable": {"type": "boolean", "description": "false is the same as `none`."},
                    },
                },
            ]
        }
    ),
]


class WrittenDefaults(_Written):
    """Values for everything below that does not say otherwise. A node's defaults win over its cluster's, and so on."""

    credential: Name | None = Field(None, description="Name of the credential for SSH. Built in: cms.")
    port: Port | None = Field(None, description="SSH port. Built in: 22.")
    interface: Interface | None = Field(None, description="Network interface of the services. Built in: a.")
    database: DatabaseRole | None = Field(None, description="Role in the database cluster. Built in: none.")
    database_interface: Interface | None = Field(None, description="Interface of the database. Built in: `interface`.")
    per: Per | None = Field(None, description="One pair per node or one per cluster. Built in: node.")
    key: KeyOrigin | None = Field(None, description="Where keys are made. Built in: node.")
    key_kind: KeyKind | None = Field(None, description="Kind of the keys the engine makes. Built in: rsa2048.")
    files: FilesPolicy | None = Field(None, description="Fresh file names or the same ones. Built in: fresh.")
    issuer: Name | None = Field(None, description="Who signs. Built in: manual.")
    subject: WrittenSubjectParts | None = Field(None, description="Parts of every subject, e.g. O and C.")


class WrittenIssuer(_Written):
    """Somebody who signs. The issuer `manual` (people bring the certificates) is always there."""

    kind: IssuerKind = Field(description="manual: people bring certificates. local: a private CA with its key on disk.")
    certificate: Text | None = Field(None, description="local: the CA certificate. Relative to this file.")
    key: Text | None = Field(None, description="local: the CA key; may be encrypted. Relative to this file.")
    chain: tuple[Text, ...] = Field((), description="local: the CA certificates up to the root. Relative to this file.")
    days: int | None = Field(None, ge=1, le=3650, description="local: lifetime of what it signs, in days. Default 200.")
    passphrase_credential: Name | None = Field(
        None, description="local: name of the credential whose password opens the CA key."
    )


class WrittenNode(_Written):
    """One CMS server."""

    name: Name = Field(description="Its name, unique in the fleet.")
    address: Host = Field(description="Host name or IP address of its command line (SSH).")
    release: Release | None = Field(None, description='Release, e.g. "3.9". Without it the survey tells.')
    port: Port | None = Field(None, description="SSH port.")
    interface: Interface | None = Field(None, description="Network interface of the services.")
    database: DatabaseRole | None = Field(None, description="Role in the database cluster.")
    database_interface: Interface | None = Field(None, description="Network interface of the database.")
    database_address: Host | None = Field(
        None, description="Where its peers reach its database. Without it the survey tells, else `address`."
    )
    credential: Name | None = Field(None, description="Name of the credential for SSH; the secret stands elsewhere.")
    proof: dict[ProofService, Proof] = Field(
        default_factory=dict, description="Where services are looked at. `none`: not reachable from here on purpose."
    )
    defaults: WrittenDefaults = Field(WrittenDefaults(), description="Defaults for this node.")


class WrittenCertificate(_Written):
    """A certificate that is wanted, with its key."""

    name: Basename = Field(description="Its name, and the basename of its files: letters, digits, - and _.")
    subject: WrittenSubject = Field(description="Who it is for.")
    subject_alt_names: WrittenNames = Field(WrittenNames(), description="Further names.")
    # That it is not empty is a rule, so that a misspelt service does not hide the other faults of its certificate.
    services: tuple[Service, ...] = Field(description="The services that use it.", json_schema_extra={"minItems": 1})
    per: Per | None = Field(None, description="node: each node its own pair. cluster: one pair that the nodes share.")
    key: KeyOrigin | None = Field(
        None, description="node: `pki csr` on the server. engine: made here. file: brought in with its CSR."
    )
    key_kind: KeyKind | None = Field(None, description="Kind of a key that the engine makes.")
    key_file: Text | None = Field(None, description="key: file: the private key. Relative to this file.")
    csr_file: Text | None = Field(None, description="key: file: the CSR. Relative to this file.")
    nodes: tuple[Name, ...] | None = Field(None, min_length=1, description="Only these nodes of the cluster.")
    issuer: Name | None = Field(None, description="Who signs.")
    files: FilesPolicy | None = Field(None, description="fresh: new file names. same: the names of the old files.")
    trusted_by: tuple[Text, ...] = Field((), description="What people must tell elsewhere, in words.")
    allow_key_download: bool = Field(
        default=False, description="A shared pair made on one node may be read from it and handed to the others."
    )


class WrittenDatabaseSubject(WrittenSubjectParts):
    """The subject of a database certificate. `{cluster}` and `{fleet}` are filled in."""

    common_name: Text | None = Field(
        None, alias="CN", description="Common name; not looked at as a host name. The client's is always postgres."
    )


class WrittenDatabaseNames(_Written):
    """The subject alternative names of the server pair. The database does not look at them."""

    dns: tuple[Text, ...] = Field((), description="DNS names. {node} makes one for each joined node.")
    ip: tuple[Text, ...] = Field((), description="IP addresses.")


class WrittenDatabasePair(_Written):
    """A certificate of the database cluster."""

    name: Basename | None = Field(None, description="The basename of its files: letters, digits, - and _.")
    subject: WrittenDatabaseSubject = Field(WrittenDatabaseSubject(), description="Who it is for.")


class WrittenDatabaseServer(WrittenDatabasePair):
    """The server pair of the database cluster, for the joined nodes."""

    subject_alt_names: WrittenDatabaseNames = Field(WrittenDatabaseNames(), description="Further names.")


class WrittenDatabaseCluster(_Written):
    """The certificates of the database cluster: server pair, client pair and the CA that signs them."""

    issuer: Name = Field(
        BUILT_IN_CA, description="built-in: the CA inside the servers signs. Else an issuer of the inventory."
    )
    key: Literal["node", "engine"] = Field(
        "node", description="node: made on the primary and handed out. engine: made here."
    )
    key_kind: KeyKind | None = Field(None, description="Kind of a key that the engine makes. Built in: rsa2048.")
    keep_ca: bool = Field(default=True, description="Keep the built-in CA that is in use while it is good.")
    ca: WrittenDatabasePair = Field(WrittenDatabasePair(), description="The built-in CA. Default name: dbca.")
    server: WrittenDatabaseServer = Field(
        WrittenDatabaseServer(), description="The pair of the joined nodes. Default name: dbserver."
    )
    client: WrittenDatabasePair = Field(
        WrittenDatabasePair(), description="The pair of joined and connected nodes. Default name: dbclient."
    )


class WrittenCluster(_Written):
    """Nodes that belong together; a lone node is a cluster of one."""

    name: Name = Field(description="Its name, unique in the fleet.")
    release: Release | None = Field(None, description='Release of its nodes, e.g. "3.9".')
    defaults: WrittenDefaults = Field(WrittenDefaults(), description="Defaults for this cluster.")
    nodes: tuple[WrittenNode, ...] = Field(
        min_length=1, description="Its nodes, in the order in which they are served."
    )
    certificates: tuple[WrittenCertificate, ...] = Field((), description="The certificates wanted on its nodes.")
    database_cluster: WrittenDatabaseCluster | None = Field(
        None, description="The certificates of its database cluster."
    )


class WrittenStage(_Written):
    """One stage of an approval: so many different people of a group."""

    group: Text | None = Field(None, description="The group of its approvers. Without it: anybody who may approve.")
    needs: int = Field(1, ge=1, le=99, description="How many different people must approve. Default 1.")


class WrittenApproval(_Written):
    """Who approves at a gate, and how long people and approvals have."""

    stages: tuple[WrittenStage, ...] = Field(
        (WrittenStage(),), min_length=1, description="One after the other. Default: one person of any group."
    )
    decide_within: Term = Field("14d", description="What nobody decided in this time is rejected. Default 14d.")
    valid_for: Term = Field("30d", description="An approval that was not used in this time is void. Default 30d.")
    remind_after: Span = Field("24h", description="People are reminded after this time, then daily. Default 24h.")
    escalate_after: Span = Field("72h", description="After this time reminders name escalate_to. Default 72h.")
    escalate_to: Text | None = Field(None, description="The group to turn to. Without it: nobody is named.")


class WrittenFleet(_Written):
    """The inventory of certbridge: which servers there are and which certificates they should have."""

    fleet: Name = Field(description="The name of the fleet.")
    release: Release | None = Field(None, description='Release of all nodes, e.g. "3.9".')
    four_eyes: bool = Field(default=True, description="Whoever asks for a run may not approve it.")
    approvals: dict[GateName, WrittenApproval] = Field(
        default_factory=dict, description="Who approves, by gate: sign, go, point-of-no-return."
    )
    go_gate: bool = Field(default=True, description="Ask again before anything is applied.")
    fail_limit: int = Field(0, ge=0, description="How many nodes of a lane may fail before the lane stops.")
    retention: Days = Field("30d", description="How long old files are kept, e.g. 30d.")
    minimum_days: int = Field(14, ge=1, le=3650, description="Days a new certificate must be valid at the least.")
    defaults: WrittenDefaults = Field(WrittenDefaults(), description="Defaults for the whole fleet.")
    issuers: dict[Name, WrittenIssuer] = Field(default_factory=dict, description="Who signs, by name.")
    clusters: tuple[WrittenCluster, ...] = Field(min_length=1, description="The clusters.")

    @property
    def retention_days(self) -> int:
        """The retention as a number of days."""
        return int(self.retention.removesuffix("d"))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `fleet.yaml` (draft 2020-12), for editors and for docs/reference."""
    schema = WrittenFleet.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "certbridge inventory", **schema}
