"""What every route stands on: the settings and the journal of this process, and reading the inventory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request

from workflows.errors import InputError, NotThere
from workflows.inventory import Fleet, ResolvedFleet
from workflows.journal import Journal, runs
from workflows.plan import Plan
from workflows.settings import Settings

T = TypeVar("T")
_KEPT_PLANS = 16


@dataclass(slots=True)
class Server:
    """This process of the API. *parts* holds what a module keeps for the life of the process, by its name."""

    settings: Settings
    journal: Journal
    parts: dict[str, Any] = field(default_factory=dict)
    # The inventory by its text, plans by their run: reading one of 2,000 servers takes longer than a page may.
    _inventory: tuple[str, Fleet, ResolvedFleet] | None = None
    _plans: OrderedDict[str, Plan] = field(default_factory=OrderedDict)
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
                return self._plans[run]
        self.check_run(run)
        found = Plan.from_json(self.journal.plan(run))
        with self._lock:
            self._plans[run] = found
            while len(self._plans) > _KEPT_PLANS:
                self._plans.popitem(last=False)
        return found

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


def server(request: Request) -> Server:
    """Return the server that *request* came to."""
    return cast("Server", request.app.state.server)


Here = Annotated[Server, Depends(server)]
