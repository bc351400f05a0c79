"""What every route stands on: the settings and the journal of this process, and reading the inventory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request

from workflows.errors import InputError, NotThere
from workflows.inventory import Fleet, ResolvedFleet
from workflows.journal import Journal, runs
from workflows.plan import Lane, Plan, Seq
from workflows.settings import Settings

T = TypeVar("T")
_KEPT_STEPS = 200_000
"""So many steps of plans are kept: a few plans of 2,000 servers, or hundreds of one cluster each."""
_KEPT_GATES = 2_000


@dataclass(slots=True)
class Server:
    """This process of the API. *parts* holds what a module keeps for the life of the process, by its name."""

    settings: Settings
    journal: Journal
    parts: dict[str, Any] = field(default_factory=dict)
    # The inventory by its text, plans by their run: reading one of 2,000 servers takes longer than a page may.
    _inventory: tuple[str, Fleet, ResolvedFleet] | None = None
    _plans: OrderedDict[str, tuple[Plan, int]] = field(default_factory=OrderedDict)
    _gates: OrderedDict[str, Plan] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fleet(self) -> tuple[Fleet, ResolvedFleet]:
        """Return the inventory as written and as resolved. Raises: InventoryError; InputError: no such file."""
        file = self.settings.fleet
        try:
            text = file.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise InputError(
                f"{file.name}: the inventory cannot be read ({said})",
                remedy="Set CERTBRIDGE_FLEET on the machine of the API.",
            ) from None
        with self._lock:
            if self._inventory is None or self._inventory[0] != text:
                fleet = Fleet.from_yaml(text, file.name)
                self._inventory = (text, fleet, fleet.resolved(str(file.parent)))
            return self._inventory[1:]

    def plan(self, run: str) -> Plan:
        """Return the plan of *run*. Raises: NotThere."""
        with self._lock:
            if run in self._plans:
                self._plans.move_to_end(run)
                return self._plans[run][0]
        self.check_run(run)
        found = Plan.from_json(self.journal.plan(run))
        with self._lock:
            # Each carries the inventory of the whole fleet, and most of them the same one.
            same = next((one.fleet for one, _ in self._plans.values() if one.fleet == found.fleet), found.fleet)
            found = replace(found, fleet=same)
            self._plans[run] = (found, sum(1 for lane in found.lanes for _ in lane.steps()))
            while len(self._plans) > 1 and sum(steps for _, steps in self._plans.values()) > _KEPT_STEPS:
                self._plans.popitem(last=False)
            self._gates[run] = _gates_alone(found)
            while len(self._gates) > _KEPT_GATES:
                self._gates.popitem(last=False)
        return found

    def gates_alone(self, run: str) -> Plan:
        """Return the plan of *run* with its gates and what the inventory says of them, and nothing else.

        That is all which lists of gates need of it, and small enough to be kept for every run that waits.
        Raises: NotThere.
        """
        with self._lock:
            if run in self._gates:
                self._gates.move_to_end(run)
                return self._gates[run]
        return _gates_alone(self.plan(run))

    def part(self, name: str, make: Callable[[], T]) -> T:
        """Return what is kept under *name* in `parts`, made by *make* the first time."""
        with self._lock:
            if name not in self.parts:
                self.parts[name] = make()
            kept: T = self.parts[name]
            return kept

    def check_run(self, run: str) -> None:
        """Return when there is such a run. Raises: NotThere."""
        if not run.isprintable() or not self.journal.read(partial(runs.exists, run=run)):
            raise NotThere(f"There is no run {run} in the journal.", remedy="See the list of runs.")


def _gates_alone(plan: Plan) -> Plan:
    fleet = {name: plan.fleet[name] for name in ("four_eyes", "approvals") if name in plan.fleet}
    lanes = tuple(Lane(name=one.name, tree=Seq(one.gates())) for one in plan.lanes)
    return Plan(kind=plan.kind, purpose=plan.purpose, fleet=fleet, lanes=lanes)


def server(request: Request) -> Server:
    """Return the server that *request* came to."""
    return cast("Server", request.app.state.server)


Here = Annotated[Server, Depends(server)]
