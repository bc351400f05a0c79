"""The worker is killed with -9 at each failpoint in turn, on the smallest plan: each change is sent once (show 4).

Real processes; the test restarts who died, as the supervisor would. Three of the failpoints are in the default suite,
all of them with CERTBRIDGE_CHAOS=1. The table of counts stands in the report of a failure, and with `pytest -rP`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from acceptance_engine import Engine
from renewing import Change, begin, must, nodes_of, planned, seen

from workers.failpoints import VARIABLE

SMALLEST = ("--services=webadmin",)
QUICK = ("after_intent:webadmin certs", "after_effect:pki csr", "after_send")
PLACES = (
    "before_intent:pki csr",
    "after_intent:pki csr",
    "after_effect:pki csr",
    "after_outcome:pki csr",
    "after_effect:sftp upload",
    "before_intent:webadmin certs",
    "after_intent:webadmin certs",
    "after_effect:webadmin certs",
    "after_outcome:webadmin enable",
    "before_claim",
    "after_claim",
    "before_finish",
    "after_finish",
    "before_barrier",
    "after_barrier",
    "before_gate",
    "after_gate",
    "before_send",
    "after_send",
    "after_sign",
)


@contextmanager
def supervised(engine: Engine) -> Iterator[list[str]]:
    """Start who died again until the end of the block; gives the names of those who died."""
    died: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for name in ("fleet-1", "control"):
                if name not in engine.alive():
                    died.append(name)
                    engine.restart(name)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield died
    finally:
        over.set()
        thread.join()


def table(place: str, wanted: list[Change], got: list[Change]) -> str:
    """Return how often each change was to be sent, and was."""
    to_be, was = (Counter(" ".join(one.said) for one in changes) for changes in (wanted, got))
    rows = [f"{to_be[said]:>7} {was[said]:>4}  {said}" for said in (to_be | was)]
    return "\n".join([f"killed at {place}", "planned sent  change", *rows])


@pytest.mark.parametrize(
    "place", [pytest.param(one, marks=() if one in QUICK else pytest.mark.chaos) for one in PLACES]
)
def test_each_change_is_sent_once_though_its_worker_is_killed(make_engine: Callable[..., Engine], place: str) -> None:
    """Who dies at the failpoint is started again; the run ends, and the simulator saw each change once."""
    engine = make_engine(
        nodes=1,
        simulator=SMALLEST,
        settings={"lease_s": 4.0, "renew_s": 1.0, "reconcile_s": 1.5},
        environment={VARIABLE: f"{place}=kill9,once"},
    )
    with supervised(engine) as died:
        must(engine, "survey")
        run = begin(engine)
        run.to_the_end()
    (node,) = nodes_of(engine, "seoul")
    wanted, got = planned(run.plan(), node), seen(engine, node)
    print(table(place, wanted, got))  # noqa: T201 - the table is what the show asks for
    assert len(died) == 1
    # A restart may come twice; the smallest plan has none, so nothing comes twice here.
    assert [one.said for one in got] == [one.said for one in wanted]
