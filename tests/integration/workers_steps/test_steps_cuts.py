"""Cut connections at every changing line: the end is right, and nothing is done twice but for a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from steps_engine import RUN, Engine

from workflows.errors import Unreachable
from workflows.journal.events import Kind

Start = Callable[..., Engine]
CUTS = ("cut-before", "cut-after")
SLOW_S, CUT_AFTER_S = 3.0, 0.3


@contextmanager
def reset_during(engine: Engine, line: str) -> Iterator[None]:
    """Have *line* take SLOW_S on its server, and reset the connection while the server is at it."""
    engine.work.settings = engine.settings.model_copy(update={"settle_s": 2 * SLOW_S})
    engine.fleet.fault("slow", match=f"{line}*", seconds=SLOW_S)
    over = threading.Event()

    def reset() -> None:
        for link in engine.work.connections._links.values():
            if link._connection:
                link._connection.abort()

    def cut() -> None:
        while not any(
            one.phase == "begin" and one.text.startswith(line) for one in engine.fleet.records("command", "cmscore1")
        ):
            if over.wait(0.01):
                return
        over.wait(CUT_AFTER_S)
        engine.work.loop._loop.call_soon_threadsafe(reset)

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        yield
    finally:
        over.set()
        cutting.join()


def begun(engine: Engine, *lines: str) -> list[int]:
    """Return how often the server began each of *lines*."""
    texts = [one.text for one in engine.fleet.records("command", "cmscore1") if one.phase == "begin"]
    return [len([text for text in texts if text.startswith(line)]) for line in lines]


@pytest.mark.parametrize("line", ["webadmin disable", "webadmin certs", "webadmin enable"])
def test_a_line_that_the_server_is_still_at_is_not_sent_again(start: Start, line: str) -> None:
    """The connection is reset in the middle of a slow line: its late effect is awaited, and nothing goes out twice."""
    engine = start("webadmin", services=("webadmin",))
    engine.start(engine.plan())
    assert engine.to_apply(until="seoul/cmscore1/apply/webadmin") == "seoul/cmscore1/apply/webadmin"
    with reset_during(engine, line):
        assert engine.go_on() == ""
    counts = begun(engine, "webadmin disable", "webadmin certs", "webadmin enable")
    served = engine.fleet.served_leaf("cmscore1", "webadmin")
    assert (counts, served) == ([1, 1, 1], engine.new_leaf("seoul/cmscore1/callbridge"))


@pytest.mark.parametrize("line", ["callbridge certs", "callbridge restart"])
def test_a_restart_waits_for_the_late_effect_of_a_line_before_it(start: Start, line: str) -> None:
    """The call bridge is set once and restarted once, wherever the connection was reset."""
    engine = start("callbridge", services=("callbridge",), pin_leaves=False)
    engine.start(engine.plan())
    assert engine.to_apply(until="seoul/cmscore1/apply/callbridge") == "seoul/cmscore1/apply/callbridge"
    with reset_during(engine, line):
        assert engine.go_on() == ""
    assert begun(engine, "callbridge certs", "callbridge restart") == [1, 1]


@pytest.mark.parametrize("kind", CUTS)
def test_a_cut_during_pki_csr_leaves_one_pair(start: Start, kind: str) -> None:
    """Whether the server did it is not known, so it is read: exactly one `pki csr` is carried out."""
    engine = start("turn", services=("turn",))
    engine.fleet.fault(kind, match="pki csr *")
    engine.start(engine.plan())
    assert engine.go_on() == "seoul/sign"
    states = [event.data["state"] for event in engine.events(Kind.OUTCOME) if event.step.endswith("request/turn")]
    assert (engine.done("pki csr"), states[0], states[-1]) == (1, "unknown", "ok")


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("line", ["webadmin disable", "webadmin certs", "webadmin enable"])
def test_a_cut_while_webadmin_changes_does_nothing_twice(start: Start, kind: str, line: str) -> None:
    """The step goes on where it stood: each of the three lines is carried out once."""
    engine = start("webadmin", services=("webadmin",))
    engine.start(engine.plan())
    assert engine.to_apply(until="seoul/cmscore1/apply/webadmin") == "seoul/cmscore1/apply/webadmin"
    engine.fleet.fault(kind, match=f"{line}*")
    assert engine.go_on() == ""
    counts = [engine.done(one) for one in ("webadmin disable", "webadmin certs", "webadmin enable")]
    served = engine.fleet.served_leaf("cmscore1", "webadmin")
    assert (counts, served) == ([1, 1, 1], engine.new_leaf("seoul/cmscore1/callbridge"))


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("line", ["callbridge certs", "callbridge restart"])
def test_a_cut_while_the_call_bridge_changes_restarts_it_once(start: Start, kind: str, line: str) -> None:
    """A port that serves the new leaf shows that the restart took, so calls are not dropped a second time."""
    engine = start("callbridge", services=("callbridge",), pin_leaves=False)
    engine.start(engine.plan())
    assert engine.to_apply(until="seoul/cmscore1/apply/callbridge") == "seoul/cmscore1/apply/callbridge"
    engine.fleet.fault(kind, match=f"{line}*")
    assert engine.go_on() == ""
    served = engine.fleet.served_leaf("cmscore1", "callbridge")
    assert ([engine.done("callbridge certs"), engine.done("callbridge restart")], served) == (
        [1, 1],
        engine.new_leaf("seoul/cmscore1/callbridge"),
    )


@pytest.mark.parametrize("kind", CUTS)
def test_a_restart_nobody_can_see_is_sent_at_most_twice(start: Start, kind: str) -> None:
    """The port is out of sight: the first restart is marked unknown, the second one's answer counts."""

    def hide(document: dict) -> None:
        for node in document["clusters"][0]["nodes"]:
            node["proof"]["callbridge"] = "none"

    engine = start("callbridge", services=("callbridge",), pin_leaves=False, change=hide)
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/callbridge")
    engine.fleet.fault(kind, match="callbridge restart")
    assert engine.go_on() == ""
    restarts = [one for one in engine.fleet.commands("cmscore1") if one == "callbridge restart"]
    states = [event.data["state"] for event in engine.events(Kind.OUTCOME) if event.step.endswith("apply/callbridge")]
    assert (len(restarts), states) == (2, ["ok", "unknown", "ok"])


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("line", ["webbridge3 disable", "webbridge3 c2w trust", "webbridge3 enable"])
def test_a_cut_while_a_store_changes_does_nothing_twice(start: Start, kind: str, line: str) -> None:
    """No port shows what a process trusts; that it was off and is on shows that it was started with its new store."""
    engine = start("callbridge", services=("callbridge", "webbridge3"))
    engine.start(engine.plan())
    step = "seoul/cmscore1/trust/webbridge3"
    assert engine.to_apply(until=step) == step
    engine.fleet.fault(kind, match=f"{line}*")
    assert engine.go_on(until="seoul/cmscore1/apply/callbridge") == "seoul/cmscore1/apply/callbridge"
    counts = [engine.done(one) for one in ("webbridge3 disable", "webbridge3 c2w trust", "webbridge3 enable")]
    assert (counts, engine.step(step).status) == ([1, 1, 1], "done")


@pytest.mark.parametrize("kind", ["partial-upload", "corrupt-upload"])
def test_an_upload_that_went_wrong_is_written_again(start: Start, kind: str) -> None:
    """Nothing refers to a file before its read-back agrees."""
    engine = start("turn", services=("turn",))
    engine.fleet.fault(kind, match="upload turn-1-fullchain.crt")
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    assert engine.fleet.served_leaf("cmscore1", "turn") == engine.new_leaf("seoul/cmscore1/turn")


def test_a_full_disk_stops_the_lane_and_the_run_goes_on_when_there_is_room(start: Start) -> None:
    """The delivery fails with its reason; after `resume` the file is written and the rest follows."""
    engine = start("turn", services=("turn",))
    engine.fleet.fault("disk-full", match="upload turn-1-fullchain.crt", times=9)
    engine.start(engine.plan())
    engine.go_on()
    engine.approve("sign")
    engine.sign()
    assert engine.go_on() == "seoul/delivered"
    assert (engine.lane().status, engine.step("seoul/cmscore1/deliver/turn").status) == ("stopped", "failed")
    engine.fleet.mend()
    engine.resume()
    assert engine.go_on() == "seoul/go"


def test_a_refused_csr_stops_the_lane_and_is_asked_again_after_resume(start: Start) -> None:
    """FAILURE is an answer: nothing is tried again before somebody says so."""
    engine = start("turn", services=("turn",))
    engine.fleet.fault("failure", match="pki csr *", text="no entropy")
    engine.start(engine.plan())
    assert engine.go_on() == "seoul/requested"
    assert "no entropy" in engine.lane().reason
    engine.resume()
    assert (engine.go_on(), engine.done("pki csr")) == ("seoul/sign", 1)


def test_a_login_that_fails_is_no_line_that_may_have_gone_out(start: Start) -> None:
    """A line counts as sent only when there was a connection to send it on: a restart is not skipped for it later."""
    engine = start("callbridge", services=("callbridge",), pin_leaves=False)
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/apply/callbridge")
    engine.fleet.fault("cut-before", match="callbridge restart")
    log_in = engine.work.connections.log_in
    failures: list[str] = []

    async def fail_once(node: Any) -> Any:
        if engine.fleet.records("command", "cmscore1")[-1].text == "callbridge restart" and not failures:
            failures.append(node.name)
            raise Unreachable("nobody answers", node=node.name)
        return await log_in(node)

    engine.work.connections.log_in = fail_once  # type: ignore[method-assign]
    assert engine.go_on() == ""
    intents = [one.data["text"] for one in engine.events(Kind.INTENT) if "restart" in one.data["text"]]
    assert (len(intents), engine.done("callbridge restart"), failures) == (2, 1, ["cmscore1"])


def test_a_secret_in_a_reply_does_not_reach_the_journal(start: Start) -> None:
    """The server repeats a password in its FAILURE line; events and errors show it hidden."""
    engine = start("turn", services=("turn",))
    engine.start(engine.plan())
    engine.fleet.fault("failure", match="pki csr *", text=f"no, {engine.fleet.password} is wrong", times=9)
    assert engine.go_on() == "seoul/requested"
    told = [event.data for event in engine.work.journal.events(RUN) if event.step.endswith("request/turn")]
    assert ("is wrong" in str(told), engine.fleet.password in str(told)) == (True, False)
