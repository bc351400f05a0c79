"""A step that kills its worker each time: three tries, then it is parked and says so; no endless loop (F4).

Real processes; the test starts who died again, as the supervisor would. The worker dies between two lines whose
outcomes are known, so each next try may begin as soon as the death is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from acceptance_engine import Engine
from renewing import FAILED, Renewal, begin, must, nodes_of, planned, seen

from workers.failpoints import VARIABLE
from workflows.journal.events import Event, Kind

WITHIN_S = 90.0
TRIES = 3
LOOKS_EVERY_S = 0.5  # the least that beat takes (`workers.app.create_app`)


def kept_alive(engine: Engine, run: Renewal) -> int:
    """Start the worker again whenever it died, until the lane stands; return how often that was."""
    deaths = 0
    deadline = time.monotonic() + WITHIN_S
    while (lane := engine.journal.state(run.run).lanes["seoul"]).status != "stopped":
        assert time.monotonic() < deadline, f"the lane goes on and on: {deaths} deaths, {lane}"
        if "fleet-1" not in engine.alive():
            deaths += 1
            engine.restart("fleet-1")
        time.sleep(0.05)
    return deaths


def told(engine: Engine, run: Renewal, kind: Kind, step: str) -> list[Event]:
    """Return what the journal says of *step*."""
    return [event for event in engine.journal.events(run.run) if (event.kind, event.step) == (kind, step)]


def reconciled(engine: Engine) -> int:
    """Return how often the control worker has looked for lanes that nobody is on."""
    log = (engine.settings.logs_dir / "control.log").read_text(errors="replace")
    return sum("Task reconcile[" in line and "succeeded" in line for line in log.splitlines())


def test_a_step_that_kills_its_worker_each_time_is_parked_and_ends_once_it_is_mended(
    make_engine: Callable[..., Engine],
) -> None:
    """Three workers die of it; the reason says so, nothing tries it again; mended and resumed, each line came once."""
    engine = make_engine(
        nodes=1,
        simulator=("--services=webadmin",),
        settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.0},
        environment={VARIABLE: "before_intent:webadmin certs=kill9"},
    )
    (node,) = nodes_of(engine, "seoul")
    step = f"seoul/{node}/apply/webadmin"
    must(engine, "survey")
    run = begin(engine)
    run.to_go()
    run.approve("--gate", "go")

    assert kept_alive(engine, run) == TRIES
    last = "no try left an error, so each time its process ended or lost its lease"
    reason = f"{step} was tried {TRIES} times without an end; {last}"
    assert run.lane()["reason"] == reason
    (parked,) = told(engine, run, Kind.STEP_PARKED, step)
    assert (parked.data["error"]["text"], parked.data["attempt"]) == (reason, TRIES)
    shown = run.watch(FAILED).out
    assert (reason in " ".join(shown.split()), "runs resume" in shown) == (True, True)
    assert [one.text for one in seen(engine, node)][-1] == "webadmin disable"

    # Twice as long as a lane may stand with work left and nobody on it: one that is to go on would have gone on.
    looks = reconciled(engine) + int(2 * engine.settings.reconcile_s / LOOKS_EVERY_S)
    engine.wait(lambda: reconciled(engine) >= looks, 60, "the reconciler has looked again and again")
    assert len(told(engine, run, Kind.STEP_CLAIMED, step)) == TRIES
    assert run.lane()["status"] == "stopped"

    engine.kill("fleet-1", restart=False)
    del engine.environment[VARIABLE]
    engine.restart("fleet-1")
    run.resume()
    run.watch(0)
    assert [one.said for one in seen(engine, node)] == [one.said for one in planned(run.plan(), node)]
    assert engine.journal.verify(run.run) == ()
