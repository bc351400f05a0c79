"""What people see of a rebuild on simulated servers: a parked node, and certificates that an outside CA signed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from database_engine import GATE, DatabaseEngine
from steps_engine import RUN

from api.cli import run_text
from api.cli.following import exit_code
from api.run_view import RunView, view
from tests.ca import CA, make_ca, pem, without_client_auth
from workflows import papers
from workflows.errors import CertificateError
from workflows.procedures.database_cluster import Purpose, plan_database


def shown(engine: DatabaseEngine) -> RunView:
    """Return how the run stands."""
    journal = engine.work.journal
    plan, _ = engine.work.plan(RUN)
    return view(plan, journal.state(RUN), now=datetime.now(UTC), events=journal.events(RUN))


def text(run: RunView) -> str:
    """Return the lines of `runs show`."""
    return "\n".join(
        "".join(span if isinstance(span, str) else span[0] for span in line) for line in run_text.lines(run)
    )


@pytest.mark.parametrize("own", [False, True])
def test_a_fresh_fleet_with_good_certificates_has_nothing_due(
    start_database: Callable[..., DatabaseEngine], own: bool
) -> None:
    """The simulator's inventory asks for the certificates that its servers have."""
    engine = start_database(joined=2, connected=1, database_days_left=20, database_own_pairs=own)
    found = plan_database(
        engine.inventory, engine.survey(), purpose=Purpose.RENEW, now=datetime.now(UTC), within=timedelta()
    )
    assert found.empty


def test_a_parked_node_is_shown_as_a_degraded_cluster(start_database: Callable[..., DatabaseEngine]) -> None:
    """Exit code 1; who is out, since when, why, and that `runs resume` takes up this node alone."""
    engine = start_database(joined=2, connected=1, database_days_left=-3)
    engine.to_the_gate()
    engine.fleet.fault("database-fails", node="cmscore2", match="join*", text="Couldn't come in")
    assert engine.beyond() == "seoul/cmscore1/agree"

    run = shown(engine)
    seen = text(run)
    assert exit_code(run) == 1
    assert "parked   cmscore2: joins cmscore1" in seen
    assert "Couldn't come in" in seen
    assert "The cluster is degraded: 1 of 3 nodes are not in it (cmscore2: " in seen
    assert f"`certbridge runs resume {RUN}` takes up these nodes alone" in seen
    assert "outage of the database of cmscore2: still out, since " in seen
    assert {one.node: one.measured_s is not None for one in run.away} == {
        "cmscore1": True,
        "cmscore2": False,
        "cmscore3": True,
        "": False,
    }

    engine.resume()
    assert engine.run_lane() == ""
    assert all(one.measured_s is not None for one in shown(engine).away)


def manual(document: dict[str, Any]) -> None:
    """Let people bring the certificates of the database."""
    for cluster in document["clusters"]:
        cluster["database_cluster"]["issuer"] = "manual"


@pytest.fixture
def ca() -> CA:
    """Give a private CA of somebody else."""
    return make_ca(now=datetime.now(UTC))


def test_a_cluster_is_rebuilt_with_certificates_of_an_outside_ca(
    start_database: Callable[..., DatabaseEngine], ca: CA
) -> None:
    """Without clientAuth the client pair is refused and nothing moves; the right ones lead to a good cluster."""
    engine = start_database(manual, joined=2, connected=1, database_days_left=-3)
    journal, now = engine.work.journal, datetime.now(UTC)
    plan = engine.start(engine.database_plan())
    assert engine.run_lane() == "seoul/sign"
    engine.approve("sign")
    requests = papers.requests_of(journal, RUN, plan, "seoul")
    assert list(requests) == ["seoul/dbserver", "seoul/dbclient"]

    bad = {f"{number}.pem": without_client_auth(ca, one.pem).everything for number, one in enumerate(requests.values())}
    with pytest.raises(CertificateError, match="lacks clientAuth"):
        papers.deliver(journal, RUN, {name: pem(found) for name, found in bad.items()}, by="bob", now=now)
    good = {f"{number}.pem": pem(ca.deliver(one.pem).everything) for number, one in enumerate(requests.values())}
    took = papers.deliver(journal, RUN, good, by="bob", now=now)
    assert took.complete == ("seoul",)

    engine.through("sign")
    assert engine.run_lane() == GATE
    assert engine.beyond() == ""
    assert engine.roles() == {"cmscore1": "primary", "cmscore2": "replica", "cmscore3": "connected"}
    assert engine.violations() == []
