"""Live events over a real server: in order, from where one left off, to the end, and only while one may see them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
import uvicorn

from api.routes import events
from workflows.journal import entries, lanes, runs
from workflows.people import Permission


@contextmanager
def served(app) -> Iterator[str]:
    """Serve *app* on a free port of loopback and give its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def live(seeded, monkeypatch):
    """Give the web side with its real server, which looks often."""
    monkeypatch.setattr(events, "LOOK_S", 0.05)
    monkeypatch.setattr(events, "CHECK_EVERY", 1)
    with served(seeded.app) as address:
        seeded.address = address
        yield seeded


def told(live, path: str, name: str, **headers: str) -> Iterator[tuple[str, str, dict]]:
    """Yield (id, event, data) of the stream at *path* as *name* sees it, until it ends."""
    authorization = {"Authorization": f"Bearer {live.token(name)}"}
    with httpx.stream("GET", live.address + path, headers=authorization | headers, timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = {"id": ""}
        for line in answer.iter_lines():
            if not line and "event" in found:
                yield found["id"], found["event"], json.loads(found["data"])
                found = {"id": ""}
            elif not line.startswith(":") and line:
                key, _, value = line.partition(": ")
                found[key] = value


def close(live, run: str) -> None:
    """End the run."""
    for lane in live.journal.state(run).lanes:
        live.journal.write(partial(lanes.cancel_lane, run=run, lane=lane, by="olga", reason=""))
    live.journal.write(lambda tx: runs.close_run(tx, run, "cancelled"))


def test_a_run_is_followed_from_its_first_event_to_its_last(live):
    run = live.waiting_run("seoul")
    stream = told(live, f"/api/runs/{run}/events", "viola")
    count = live.journal.state(run).n
    first = [next(stream) for _ in range(count)]
    assert [one[0] for one in first] == [str(n) for n in range(1, count + 1)]
    assert (first[0][1], first[0][2]["data"]["planned_by"]) == ("run_created", "olga")
    close(live, run)
    rest = list(stream)
    assert [one[1] for one in rest] == ["lane_cancelled", "run_closed", "closed"]
    assert rest[-1][2] == {"run": run, "outcome": "cancelled"}


def test_whoever_comes_back_gets_what_came_after(live):
    run = live.waiting_run("seoul")
    close(live, run)
    last = live.journal.state(run).n
    again = list(told(live, f"/api/runs/{run}/events", "viola", **{"Last-Event-ID": str(last - 1)}))
    assert [(one[0], one[1]) for one in again] == [(str(last), "run_closed"), ("", "closed")]


def test_a_person_of_one_cluster_hears_of_its_lanes_alone(live):
    run = live.waiting_run()
    close(live, run)
    heard = list(told(live, f"/api/runs/{run}/events", "sol"))
    assert {one[2].get("lane") for one in heard} == {"", "seoul", None}
    assert "cms3" not in json.dumps(heard)
    assert "busan" not in json.dumps(heard)
    assert live.with_token("bus").get("/api/runs/none/events").status_code == 404


def test_the_stream_ends_with_the_session(live):
    run = live.waiting_run("seoul")
    secret = live.journal.write(lambda tx: entries.sign_in(tx, live.account("viola"), how="test"))
    cookies = {"certbridge": secret}
    with httpx.stream("GET", f"{live.address}/api/runs/{run}/events", cookies=cookies, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        (session,) = live.journal.read(partial(entries.sessions, account=live.account("viola")))
        live.journal.write(lambda tx: entries.end_session(tx, session.session, by="adam"))
        rest = list(lines)
    assert not any(line == "event: closed" for line in rest)
    assert live.journal.state(run).outcome == "open"


def test_all_runs_are_followed_at_once(live):
    stream = told(live, "/api/events", "viola")
    assert next(stream)[1] == "ready"
    run = live.waiting_run("seoul")
    kinds: set[str] = set()
    gates: list[dict] = []
    while not gates:
        _, event, data = next(stream)
        assert data["run"] == run
        kinds |= set(data.get("kinds", ()))
        gates += [data] if event == "gate" else []
    assert "gate_opened" in kinds
    assert gates == [{"run": run, "lane": "seoul", "gate": "seoul/sign", "kind": "gate_opened"}]
    stream.close()


def test_a_person_of_one_cluster_hears_of_no_run_of_another(live):
    stream = told(live, "/api/events", "sol")
    assert next(stream)[1] == "ready"
    live.waiting_run("busan")
    mine = live.waiting_run("seoul")
    heard: list[dict] = []
    while not any("gate" in one for one in heard):
        heard.append(next(stream)[2])
    assert {one["run"] for one in heard} == {mine}
    stream.close()


def test_a_stranger_and_a_token_that_may_not_read_hear_nothing(live):
    run = live.waiting_run("seoul")
    for path in ("/api/events", f"/api/runs/{run}/events"):
        assert live.client().get(path).status_code == 401
        assert live.with_token("olga", Permission.OPERATE).get(path).status_code == 403


def test_an_account_has_so_many_streams_open_and_no_more(live, monkeypatch):
    """Those of the pages count too; each is freed when it ends, and others are not kept waiting."""
    monkeypatch.setattr(events, "MOST", 2)
    run = live.waiting_run("seoul")
    secret = live.journal.write(lambda tx: entries.sign_in(tx, live.account("viola"), how="test"))
    olga = {"Authorization": f"Bearer {live.token('olga')}"}
    with httpx.Client(base_url=live.address, cookies={"certbridge": secret}, timeout=20) as viola:

        def status(path: str, **more) -> int:
            with viola.stream("GET", path, **more) as answer:
                return answer.status_code

        with viola.stream("GET", f"/runs/{run}/stream") as first, viola.stream("GET", "/api/events") as second:
            assert (first.status_code, second.status_code) == (200, 200)
            for path in ("/api/events", f"/api/runs/{run}/events", f"/runs/{run}/stream"):
                refused = viola.get(path)
                assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(events.AGAIN_S))
            assert viola.get("/api/events").json()["code"] == "TooMany"
            with httpx.stream("GET", live.address + "/api/events", headers=olga) as other:
                assert other.status_code == 200
        deadline = time.monotonic() + 10
        while status("/api/events") == 429:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        close(live, run)
        for _ in range(2 * events.MOST):
            assert viola.get(f"/api/runs/{run}/events").status_code == 200  # each ends by itself
