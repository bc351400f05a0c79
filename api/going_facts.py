"""The facts from which a plan back may be made over the API: a survey after what the run changed.

The command line reads the servers itself before it plans the way back. A request must not wait for that, so people
survey first (POST /api/surveys), and here is only judged whether they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from api.here import Server
from api.known import known
from workflows.errors import PlanStale
from workflows.facts import NodeFacts
from workflows.inventory import ResolvedFleet, select
from workflows.journal import stock
from workflows.plan import Plan


def facts_to_go_back(here: Server, before: Plan, lanes: Sequence[str]) -> tuple[dict[str, NodeFacts], frozenset[str]]:
    """Return the facts of all servers of *lanes*, and which did not answer. Raises: PlanStale: survey them first."""
    fleet = select(ResolvedFleet.from_json(before.fleet), lanes)
    names = [node.name for node in fleet.nodes]
    changed = here.journal.read(partial(stock.last_changes, nodes=names))
    oldest = datetime.now(UTC) - timedelta(hours=here.settings.facts_hours)
    bar = {name: max(oldest, changed.get(name, oldest)) for name in names}
    answers = known(here).answers
    silent = frozenset(
        name for name in names if name in answers and answers[name].error and answers[name].at > bar[name]
    )
    latest = here.journal.read(partial(stock.latest_facts, nodes=names))
    old = [name for name in names if name not in silent and (name not in latest or latest[name][1] <= bar[name])]
    if old:
        more = f" and {len(old) - 5} more" if len(old) > 5 else ""
        raise PlanStale(
            f"Not surveyed since the run changed them: {', '.join(old[:5])}{more}.",
            remedy=f"Survey {', '.join(lanes)} first, and ask again when that run has ended.",
            survey=tuple(lanes),
        )
    return {name: NodeFacts.from_json(latest[name][2]) for name in names if name not in silent}, silent
