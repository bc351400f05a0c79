"""The inventory: what the user writes in `fleet.yaml`, checked and resolved; text in, values out, no I/O.

    document   YAML text → a tree in which every value knows its line
    model      what may be written (pydantic; also the source of the JSON Schema)
    checks     primitive rules: FQDN, wildcard, country, basename, services by release
    rules      rules over the whole inventory; `certificate_rules` those of one certificate, `database_rules` those of a
               database cluster; `report` what they found
    approvals  who approves at which gate, and the two clocks
    resolving  defaults and placeholders → the frozen values of `values`
    reading    all of it in one call: `Fleet.from_yaml(text)`
    selecting  a part of a resolved fleet, by name

What the servers themselves say is in `facts`, not here. The format is described in docs/reference/inventory.md.
"""

from workflows.inventory.approvals import Approval, ApprovalStage, approval_of
from workflows.inventory.checks import SERVICE_RELEASES
from workflows.inventory.model import json_schema
from workflows.inventory.reading import Fleet
from workflows.inventory.selecting import select
from workflows.inventory.values import (
    BUILT_IN_CA,
    CertificateWish,
    Cluster,
    DatabasePair,
    DatabaseRole,
    DatabaseWish,
    FilesPolicy,
    Issuer,
    IssuerKind,
    KeyKind,
    KeyOrigin,
    Node,
    Per,
    Proof,
    ResolvedFleet,
)

__all__ = [
    "BUILT_IN_CA",
    "SERVICE_RELEASES",
    "Approval",
    "ApprovalStage",
    "CertificateWish",
    "Cluster",
    "DatabasePair",
    "DatabaseRole",
    "DatabaseWish",
    "FilesPolicy",
    "Fleet",
    "Issuer",
    "IssuerKind",
    "KeyKind",
    "KeyOrigin",
    "Node",
    "Per",
    "Proof",
    "ResolvedFleet",
    "approval_of",
    "json_schema",
    "select",
]
