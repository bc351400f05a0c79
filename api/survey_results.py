"""What a survey came to, for the command line and the API alike: facts of the servers that answered, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.journal import Journal, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What a survey came to: the run, the facts of each node that answered, and why the others did not."""

    run: str
    facts: dict[str, NodeFacts]
    failed: dict[str, dict[str, str]]


def surveyed(journal: Journal, state: RunState, names: Sequence[str]) -> Surveyed:
    """Return what the survey whose run is at *state* says of the nodes *names*, in that order."""
    from workflows.facts import NodeFacts
    from workflows.journal import stock

    steps = {step.node: step for lane in state.lanes.values() for step in lane.steps.values()}
    good = [name for name in names if name in steps and steps[name].status == "done"]
    latest = journal.read(partial(stock.latest_facts, nodes=good))
    silent = {"text": "it was not looked at", "remedy": f"See `certbridge runs show {state.run}`."}
    return Surveyed(
        run=state.run,
        facts={name: NodeFacts.from_json(latest[name][2]) for name in good if name in latest},
        failed={
            name: dict((steps[name].error if name in steps else None) or silent) for name in names if name not in latest
        },
    )
