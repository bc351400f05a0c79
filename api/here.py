"""What every route stands on: the settings and the journal of this process, and reading the inventory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from workflows.errors import InputError, NotThere
from workflows.inventory import Fleet, ResolvedFleet
from workflows.journal import Journal, runs
from workflows.plan import Plan
from workflows.settings import Settings


@dataclass(slots=True)
class Server:
    """This process of the API. *parts* holds what a module keeps for the life of the process, by its name."""

    settings: Settings
    journal: Journal
    parts: dict[str, Any] = field(default_factory=dict)

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
        fleet = Fleet.from_yaml(text, file.name)
        return fleet, fleet.resolved(str(file.parent))

    def plan(self, run: str) -> Plan:
        """Return the plan of *run*. Raises: NotThere."""
        self.check_run(run)
        return Plan.from_json(self.journal.plan(run))

    def check_run(self, run: str) -> None:
        """Return when there is such a run. Raises: NotThere."""
        if not run.isprintable() or not self.journal.read(partial(runs.exists, run=run)):
            raise NotThere(f"There is no run {run} in the journal.", remedy="See the list of runs.")


def server(request: Request) -> Server:
    """Return the server that *request* came to."""
    return cast("Server", request.app.state.server)


Here = Annotated[Server, Depends(server)]
