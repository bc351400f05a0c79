"""An upload that is to be written again looks at its lease first: whoever stood still in between writes no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from failpoints_engine import Clock, virtual_clock
from steps_engine import Engine

from workflows.journal.events import Event, Kind

# Far longer than a test: no renewal comes in between by itself.
LEASE_S = 60.0
FILE = "turn-1-fullchain.crt"
AGAIN = ("partial-upload", "corrupt-upload")  # after a cut, and when what is read back differs


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Give the clock of journal and machine, which can be put forward."""
    with virtual_clock() as clock:
        yield clock


@pytest.fixture
def engine(clock: Clock, start: Callable[..., Engine]) -> Engine:
    """Give an engine whose run is about to deliver a certificate."""
    engine = start("turn", services=("turn",))
    engine.work.settings = engine.work.settings.model_copy(update={"lease_s": LEASE_S, "renew_s": LEASE_S / 3})
    engine.work.monotonic = clock.monotonic
    engine.start(engine.plan())
    assert engine.go_on() == "seoul/sign"
    engine.approve("sign")
    engine.sign()
    return engine


def writes(engine: Engine) -> int:
    """Return how often the server saw that the file was written."""
    return len([one for one in engine.fleet.records("upload") if one.phase == "begin" and one.text == FILE])


def outcomes(engine: Engine) -> list[Event]:
    """Return what the journal holds on the ends of the line."""
    intents = [one for one in engine.events(Kind.INTENT) if one.data["text"] == f"sftp upload {FILE}"]
    lines = {(one.step, one.data["line"]) for one in intents}
    return [one for one in engine.events(Kind.OUTCOME) if (one.step, one.data["line"]) in lines]


@pytest.mark.parametrize("kind", AGAIN)
def test_an_upload_is_not_written_again_when_its_lease_has_gone(engine: Engine, clock: Clock, kind: str) -> None:
    """The process stands still behind the first write; another one may have the node by then, and finishes."""
    engine.fleet.fault(kind, match=f"upload {FILE}")
    skipped: list[float] = []

    def stands_still() -> float:
        if writes(engine) and not skipped:
            skipped.append(LEASE_S * 1.2)
            clock.skip(LEASE_S * 1.2)
        return clock.monotonic()

    engine.work.monotonic = stands_still
    engine.go_on()
    assert (writes(engine), [one.data["state"] for one in outcomes(engine)]) == (1, ["unknown"])
    assert outcomes(engine)[0].data["text"] == "The lease ran out; nothing more was sent."

    engine.work.monotonic = clock.monotonic
    clock.skip(LEASE_S * 1.2)
    assert engine.go_on() == "seoul/go"
    assert (writes(engine), [one.data["state"] for one in outcomes(engine)]) == (2, ["unknown", "ok"])


@pytest.mark.parametrize("kind", AGAIN)
def test_an_upload_is_written_again_under_a_lease_that_lives(engine: Engine, kind: str) -> None:
    """Nothing stood still: the second write comes by itself, under the same intent."""
    engine.fleet.fault(kind, match=f"upload {FILE}")
    assert engine.go_on() == "seoul/go"
    assert (writes(engine), [one.data["state"] for one in outcomes(engine)]) == (2, ["ok"])
