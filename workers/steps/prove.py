"""Stage 800: every port that was reachable before serves the new leaf with its whole chain; else the node is put back.

The status rows must agree. Ports not reachable from here are proved by status and files alone, and reported as *not
seen*. A node that cannot be proved is put back by the lines the plan showed (`workers.rollback`), and the lane stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stamina

from workers.context import StepContext
from workers.session import NodeSession
from workers.steps.recheck import read_settings
from workers.steps.survey import certificate_fact, look
from workflows.errors import NotProved
from workflows.facts import PortFact, PortState
from workflows.mmp.services import Probe
from workflows.x509.bundle import split
from workflows.x509.renewal import fingerprint


async def prove(context: StepContext) -> dict[str, Any]:
    """Return {"ports": [{"service", "address", "port", "seen", "fingerprint", "not_valid_after", …}]}.

    Raises: NotProved, naming every port that does not serve what it should.
    """
    async with context.session() as session:
        settings = await read_settings(session)
        ports = [await _prove_port(context, session, port, settings) for port in context.step.params["ports"]]
    faults = [port["fault"] for port in ports if port["fault"]]
    if faults:
        raise NotProved("; ".join(faults), node=context.step.node, ports=ports)
    return {"ports": ports}


async def _prove_port(
    context: StepContext, session: NodeSession, port: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    wanted, ends, chain = await _wanted(context, port)
    shown = {key: port[key] for key in ("service", "address", "port", "before")}
    if port["probe"] == Probe.NONE.value:
        return {
            **shown,
            "seen": False,
            "fingerprint": wanted,
            "not_valid_after": ends,
            "fault": await _unseen(context, session, port, settings, wanted),
        }
    found = await look_until(context, port, wanted)
    # A port may still serve what the next restart takes away, so the status rows have to agree as well.
    fault = _fault(found, wanted, chain, old="wanted" in port) or _set_wrong(context, port["service"], settings)
    ends = found.chain[0].not_valid_after if found.chain else ""
    served = found.chain[0].fingerprint if found.chain else ""
    return {
        **shown,
        "seen": True,
        "fingerprint": served,
        "not_valid_after": ends,
        "chain": len(found.chain),
        "fault": fault,
    }


async def _wanted(context: StepContext, port: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Return fingerprint, end and chain (fingerprints) of what the port is to serve; a rollback names the leaf only."""
    if "wanted" in port:
        return port["wanted"], port["ends"], []
    leaf, chain = await context.certificate(port["wish"])
    return fingerprint(leaf), certificate_fact(leaf).not_valid_after, [fingerprint(one) for one in chain]


async def look_until(
    context: StepContext, port: Mapping[str, Any], wanted: str, *, to_the_end: bool = False
) -> PortFact:
    """Look at the port until it serves *wanted*, for as long as a service may take to come up after `enable`.

    Raises: Wait: this process was told to stop, unless what is looked at must be known *to_the_end*.
    """

    @stamina.retry(on=_NotYet, timeout=context.patience_s, attempts=None, wait_initial=0.2, wait_max=2.0)
    async def once() -> PortFact:
        found = await look(port["service"], port["address"], port["port"], Probe(port["probe"]))
        if found.state is not PortState.SERVED or found.chain[0].fingerprint != wanted:
            if not to_the_end:
                context.give_way()
            raise _NotYet(found)
        return found

    try:
        return await once()
    except _NotYet as last:
        return last.found  # the caller says in words what was found


class _NotYet(Exception):
    """The port does not serve the wanted certificate yet."""

    def __init__(self, found: PortFact) -> None:
        super().__init__(found.note)
        self.found = found


def _fault(found: PortFact, wanted: str, chain: list[str], *, old: bool) -> str:
    where = f"{found.service} on {found.address}:{found.port}"
    if found.state is not PortState.SERVED:
        return f"{where} does not answer ({found.note})"
    if found.chain[0].fingerprint != wanted:
        ends = found.chain[0].not_valid_after[:10]
        how = "does not serve its old certificate, but one" if old else "still serves a certificate"
        return f"{where} {how} that ends {ends}"
    served = [one.fingerprint for one in found.chain]
    # A server need not send the root (RFC 8446 section 4.4.2); everything between leaf and root must be there.
    intermediates = [fingerprint for fingerprint in chain if fingerprint != wanted][:-1]
    missing = [fingerprint for fingerprint in intermediates if fingerprint not in served]
    return f"{where} serves the new certificate without its whole chain" if missing else ""


async def _unseen(
    context: StepContext, session: NodeSession, port: Mapping[str, Any], settings: Mapping[str, Any], leaf: str
) -> str:
    """Prove a port nobody can see from here: the status names the wanted files, and the file holds the new leaf."""
    service = port["service"]
    wrong, wanted = _set_wrong(context, service, settings), context.wanted_setting(service)
    if wrong or wanted is None:
        return wrong
    held = split(await session.fetch(wanted["certificate"]), where=wanted["certificate"])
    return "" if fingerprint(held[0]) == leaf else f"{wanted['certificate']} of {service} holds another certificate"


def _set_wrong(context: StepContext, service: str, settings: Mapping[str, Any]) -> str:
    """Return how the status rows of *service* differ from what the plan wants, "" when they agree."""
    now, wanted = settings.get(service), context.wanted_setting(service)
    if now is None or wanted is None:
        return f"{service} is gone from the server's status"
    wrong = [f"{what} {now[what] or 'none'}" for what, value in wanted.items() if (now[what] or "") != value]
    return f"{service} is set to {', '.join(wrong)}" if wrong else ""
