"""A fleet-wide outage opens a circuit: while many servers are silent, no new change begins anywhere.

One silent server stops its lane. Many at once mean that the network, and not a server, is away; then a restart that
begins now may be cut in its middle on server after server. So the lane stops before the step, with a reason that names
the servers, and a person who knows that the network is back resumes it. Steps that interrupt nothing (proofs,
and stores closed from the next restart on) go on, and so does what was begun.
"""

from __future__ import annotations

import structlog

from workflows.journal import claims, silence
from workflows.journal.claims import Drop, DropReason
from workflows.journal.lanes import stop_lane
from workflows.journal.store import Transaction
from workflows.plan import Step
from workflows.settings import Settings

log = structlog.get_logger()

FIRST_CHANGE = 600
"""The stage from which on a step changes what services use."""
_NO_CHANGE = frozenset({"prove", "close"})
_SHOWN = 8


def refusal(
    tx: Transaction,
    settings: Settings,
    *,
    run: str,
    lane: str,
    step: Step,
    generation: int,
    predecessors: frozenset[str],
    resources: tuple[str, ...],
) -> Drop | None:
    """Stop *lane* when *step* would begin a change in the middle of an outage, and return why; None: it may begin."""
    if step.stage < FIRST_CHANGE or not step.node or not step.lines or step.action in _NO_CHANGE:
        return None
    if not silence.is_new(tx, run, lane, step.id):
        return None
    # Where the claim is refused anyway (a message that came early, twice or late), nothing would begin, so nothing is
    # stopped: the lane may be well on its way.
    refused = claims.refusal(
        tx,
        run=run,
        lane=lane,
        step=step.id,
        generation=generation,
        predecessors=predecessors,
        resources=resources,
    )
    if refused is not None:
        return None
    nodes = silence.silent_nodes(tx, within_s=settings.outage_s, run=run, lane=lane)
    if len(nodes) <= settings.outage_nodes:
        return None
    text = why(nodes, settings, run)
    stop_lane(tx, run, lane, text, data={"circuit": "outage", "nodes": list(nodes), "step": step.id})
    log.warning("outage_circuit_open", run=run, lane=lane, nodes=nodes)
    return Drop(reason=DropReason.STOPPED, text=text)


def why(nodes: tuple[str, ...], settings: Settings, run: str) -> str:
    """Return the reason in words, with the remedy."""
    named = ", ".join(nodes[:_SHOWN]) + (f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else "")
    return (
        f"{len(nodes)} servers did not answer within the last {settings.outage_s:g} s ({named}): the network seems to "
        f"be away, so no further change begins. When it is back: `certbridge runs resume {run}`."
    )
