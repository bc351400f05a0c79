"""A web side with something behind it: two clusters that were surveyed, a run that is done, one that waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.integration.api.conftest import Web
from tests.integration.cli.cli_world import World, facts_of
from workflows.journal import stock
from workflows.people import Grant, Role
from workflows.settings import Settings, prepare_state

_WANTED = """
      - name: callbridge
        subject: {CN: "{node}.example.com"}
        subject_alt_names: {dns: ["{node}.example.com", join.example.com]}
        services: [callbridge, webadmin]
        trusted_by: [cucm.example.com]"""
FLEET = f"""\
fleet: test
release: "3.9"
clusters:
  - name: seoul
    nodes:
      - {{name: cms1, address: 127.0.0.1, port: 2201}}
      - {{name: cms2, address: 127.0.0.1, port: 2202}}
    certificates:{_WANTED}
  - name: busan
    nodes:
      - {{name: cms3, address: 127.0.0.1, port: 2203}}
    certificates:{_WANTED}
"""
PEOPLE: Mapping[str, tuple[Role | Grant, ...]] = {
    "viola": (Role.VIEWER,),
    "olga": (Role.OPERATOR,),
    "anna": (Role.APPROVER,),
    "audrey": (Role.AUDITOR,),
    "adam": (Role.ADMIN,),
    "sol": (Grant(Role.OPERATOR, "seoul"),),
    "bus": (Grant(Role.VIEWER, "busan"),),
}


class Seeded(Web):
    """A web side and, beside it, the world in which a command line and a played worker live."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, url: str = "") -> None:
        self.world = World(root, monkeypatch, url)
        self.world.fleet.write_text(FLEET)
        chosen = {"database_url": url} if url else {}
        settings = Settings.load({}, state=root / "state", fleet=root / "fleet.yaml", **chosen)
        prepare_state(settings)
        super().__init__(root, self.world.journal, settings)

    def people(self) -> None:
        """Make an account of each role, and two whose grants are for one cluster."""
        for name, roles in PEOPLE.items():
            self.person(name, *roles)

    def survey(self, days: int = 10, *nodes: str) -> None:
        """Keep facts of the servers, whose certificates end in *days* days."""
        for node in nodes or ("cms1", "cms2", "cms3"):
            facts = facts_of(node, datetime.now(UTC) + timedelta(days=days))
            self.journal.write(partial(stock.put_facts, node=node, facts=facts.to_json()))

    def waiting_run(self, *clusters: str, by: str = "olga") -> str:
        """Return a run of *clusters* (all without any) that waits at its sign gates."""
        self.survey()
        self.world.beat()
        words = [word for one in clusters for word in ("--cluster", one)]
        run = self.world.ok("run", "--yes", *words, by=by).strip()
        self.world.advance(run)
        return run

    def done_survey(self, *, fail: Mapping[str, str] | None = None) -> str:
        """Return a survey that is over; nodes of *fail* did not answer."""
        with self.world.worker(fail={f"{name}/survey": why for name, why in (fail or {}).items()}):
            self.world.say("survey")
        return self.journal.runs(limit=1)[0].run
