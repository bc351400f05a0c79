"""Stage 800 of a database run: all nodes tell the same story, and the ports show it; or no node is in a cluster.

A node that was left for later makes the cluster degraded: that is said here, and the lane does not end well until it is
in (faults.md F26).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from workers.context import StepContext
from workers.steps.database_make import certificate_made
from workers.steps.database_move import left_for_later
from workers.steps.database_status import in_sync, in_words, is_connected, is_primary
from workers.steps.survey import look, read_database
from workflows.errors import NodeError, NotProved
from workflows.facts import DatabaseFact, PortState
from workflows.mmp.services import Probe
from workflows.procedures.database_places import CONNECTED, NONE, PRIMARY
from workflows.x509.renewal import fingerprint


async def database_agree(context: StepContext) -> dict[str, Any]:
    """Return {"nodes": {node: status in words}, "ports": […]}. Raises: NotProved: who does not agree, and in what."""
    left = await asyncio.to_thread(left_for_later, context)
    nodes, faults = await _statuses(context, set(left))
    ports = [
        await _port(context, one) for one in context.step.params["nodes"] if one["port"] and one["node"] not in left
    ]
    faults += [port["fault"] for port in ports if port["fault"]]
    if left:
        gone = "; ".join(f"{node}: {why}" for node, why in left.items())
        raise NotProved(
            f"The cluster is degraded: {len(left)} of {len(context.step.params['nodes'])} nodes are not in it ({gone})."
            + (f" Also: {'; '.join(faults)}" if faults else ""),
            remedy=f"Mend the cause, then `certbridge runs resume {context.run}` takes up these nodes alone.",
            node=context.step.node,
            result={"nodes": nodes, "ports": ports},
        )
    if faults:
        raise NotProved("; ".join(faults), node=context.step.node, result={"nodes": nodes, "ports": ports})
    return {"nodes": nodes, "ports": ports}


async def database_dissolved(context: StepContext) -> dict[str, Any]:
    """Return {"nodes": {node: status in words}} when no node is in a cluster any more. Raises: NotProved."""
    nodes, faults = await _statuses(context, set())
    if faults:
        raise NotProved("; ".join(faults), node=context.step.node, result={"nodes": nodes})
    return {"nodes": nodes}


async def _statuses(context: StepContext, left: set[str]) -> tuple[dict[str, str], list[str]]:
    """Return every node's status in words, and what is wrong; nodes settle for as long as a poll may take."""
    waited = 0.0
    while True:
        nodes: dict[str, str] = {}
        faults: list[str] = []
        for one in context.step.params["nodes"]:
            try:
                async with context.session(one["node"]) as session:
                    fact = await read_database(session)
            except NodeError as error:
                nodes[one["node"]] = f"does not tell: {error.message}"
                faults += [] if one["node"] in left else [f"{one['node']} does not tell: {error.message}"]
                continue
            nodes[one["node"]] = in_words(fact)
            if one["node"] not in left and (fault := _fault(one, fact, str(context.step.params.get("primary", "")))):
                faults.append(f"{one['node']} {fault}")
        if not faults or waited >= context.patience_s:
            return nodes, faults
        context.give_way()
        await asyncio.sleep(context.work.settings.poll_s)
        waited += context.work.settings.poll_s


def _fault(wanted: Mapping[str, Any], fact: DatabaseFact | None, primary: str) -> str:
    if fact is None:
        return "gives no status that is understood"
    if wanted["role"] == NONE:
        return "" if fact.disabled else f"is still in a cluster: {in_words(fact)}"
    holds = {PRIMARY: is_primary, CONNECTED: is_connected}.get(wanted["role"], in_sync)
    if not holds(fact, primary):
        return f"is not {wanted['role']} of {primary}: {in_words(fact)}"
    if list(fact.files) != wanted["files"]:
        return f"uses {', '.join(fact.files)} and not {', '.join(wanted['files'])}"
    # The primary is the one that knows of all replicas.
    behind = [one.address for one in fact.members if one.role == "replica" and not one.in_sync]
    return f"says that {', '.join(behind)} is not in sync" if wanted["role"] == PRIMARY and behind else ""


async def _port(context: StepContext, one: Mapping[str, Any]) -> dict[str, Any]:
    address, port, before = one["port"]["address"], one["port"]["port"], one["port"]["before"]
    found = await look("database", address, port, Probe.STARTTLS_POSTGRES)
    served = found.chain[0].fingerprint if found.state is PortState.SERVED else ""
    wanted = await _wanted(context)
    fault = ""
    if not served:
        fault = f"database on {address}:{port} does not answer ({found.note})"
    elif wanted and served != wanted:
        fault = f"database on {address}:{port} still serves another certificate"
    return {
        "node": one["node"],
        "service": "database",
        "address": address,
        "port": port,
        "before": before,
        "seen": True,
        "fingerprint": served,
        "not_valid_after": found.chain[0].not_valid_after if served else "",
        "chain": len(found.chain),
        "fault": fault,
    }


async def _wanted(context: StepContext) -> str:
    """Return the fingerprint of the new server certificate, "" when the old pairs came back."""
    wish = context.step.params["wish"]
    return fingerprint(await certificate_made(context, wish)) if wish else ""
