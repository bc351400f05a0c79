"""The request sheet: what is asked of the CA, in words and as CSV, without the CSRs themselves.

It may leave the house before anybody has approved; the CSR files may not (DESIGN.md section 7, stage 400).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows.journal import Journal
    from workflows.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; `usages` are the extended key usages wanted, `spki_sha256` the digest of its public key."""

    wish: str
    subject: str
    names: tuple[str, ...]
    key: str
    usages: tuple[str, ...]
    spki_sha256: str
    issuer: str
    file: str
    signature: str
    pem: bytes


_ELSEWHERE = frozenset({"signature", "pem"})
"""What the sheet leaves out: it says what is wanted, not how the CSR was made."""


def requests(journal: Journal, run: str, plan: Plan, lane: str) -> tuple[Request, ...]:
    """Return the requests of *lane* that are made, in the order of the plan."""
    from workflows.papers import requests_of, wish_of

    return tuple(
        Request(
            wish=wish,
            subject=str(seen.subject),
            names=(*seen.sans.dns, *seen.sans.ip, *seen.sans.email),
            key=seen.key_kind,
            usages=tuple(f"{usage}Auth" for usage in sorted(wish_of(plan, wish).usages)),
            spki_sha256=seen.spki_sha256,
            issuer=str(plan.wishes[wish]["issuer"]),
            file=f"{wish.replace('/', '_')}.csr",
            signature=seen.signature,
            pem=seen.pem,
        )
        for wish, seen in requests_of(journal, run, plan, lane).items()
    )


def as_text(run: str, found: Sequence[Request]) -> str:
    """Return the sheet for people."""
    parts = [f"Requests of run {run}: {len(found)}\n"]
    parts += [
        f"\n{one.wish}\n"
        f"  subject            {one.subject}\n"
        f"  alternative names  {', '.join(one.names) or 'none'}\n"
        f"  key                {one.key}\n"
        f"  usages wanted      {', '.join(one.usages)}\n"
        f"  public key         SHA-256 {one.spki_sha256}\n"
        f"  file               {one.file}\n"
        for one in found
    ]
    return "".join(parts)


def as_csv(found: Sequence[Request]) -> str:
    """Return the sheet for spreadsheets: RFC 4180, one request a row."""
    stream = io.StringIO()
    names = [field.name for field in fields(Request) if field.name not in _ELSEWHERE]
    writer = csv.writer(stream)
    writer.writerow(names)
    for one in found:
        writer.writerow([_cell(getattr(one, name)) for name in names])
    return stream.getvalue()


def as_json(one: Request) -> dict[str, object]:
    """Return everything but the CSR itself."""
    return {field.name: getattr(one, field.name) for field in fields(Request) if field.name != "pem"}


def _cell(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
