"""Webhooks: written with the event, signed as Standard Webhooks says, at least once, and no secret but once.

The receivers are real HTTP servers on loopback. `verified` is written from the specification alone.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.api.conftest import on_both
from workers import webhooks as sending
from workers.webhooks import Sender
from workflows.journal import lanes, runs, telling, webhooks
from workflows.journal.events import Kind, NewEvent
from workflows.journal.vault import Vault
from workflows.people import Permission, Role

ROOT = Path(__file__).parents[3]


class Receiver:
    """A receiver that answers *status*; `got` holds what came."""

    def __init__(self) -> None:
        self.status, self.said, self.location = 200, b"thanks", ""
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.came = threading.Semaphore(0)
        self.hold: threading.Event | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                heads = {name.lower(): value for name, value in self.headers.items()}
                outer.got.append((self.path, heads, body))
                outer.came.release()
                if outer.hold:
                    outer.hold.wait(20)
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", str(len(outer.said)))
                self.end_headers()
                self.wfile.write(outer.said)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/told"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bodies(self) -> list[dict[str, Any]]:
        """Return what came, read."""
        return [json.loads(body) for _, _, body in self.got]


def verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Return whether the message is signed, by the words of the specification (v1, symmetric)."""
    assert secret.startswith("whsec_")
    key = base64.b64decode(secret[6:])
    assert 24 <= len(key) <= 64
    content = headers["webhook-id"] + "." + headers["webhook-timestamp"] + "." + body.decode()
    expected = base64.b64encode(hmac.digest(key, content.encode(), "sha256")).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    given = [one.partition(",") for one in headers["webhook-signature"].split(" ")]
    return fresh and any(version == "v1" and hmac.compare_digest(one, expected) for version, _, one in given)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def admin(web):
    web.person("root", Role.ADMIN)
    return web.signed_in("root")


@pytest.fixture
def sender(web) -> Sender:
    return Sender(web.journal, Vault(web.settings.vault_dir), web.settings.destinations)


@pytest.fixture
def public(monkeypatch) -> None:
    """Let loopback count as the Internet: of an answer from inside only the status is kept."""
    monkeypatch.setattr(sending, "is_public", lambda _: True)


def make(admin, receiver, **more: Any) -> dict[str, Any]:
    answer = admin.post("/api/webhooks", json={"url": receiver.url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def create(web, run: str = "r1") -> None:
    """Write a run with one lane."""
    plan = {"kind": "renewal", "fleet": "acme", "lanes": []}
    web.journal.write(
        lambda tx: runs.create_run(
            tx,
            run=run,
            kind="renewal",
            fleet="acme",
            digest="d" * 64,
            requested_by="ann",
            plan=plan,
            lanes=["seoul"],
            resources=[],
        )
    )


def settle(sender: Sender) -> None:
    sender.look()
    sender.wait(20)


def history(admin, hook: dict[str, Any]) -> list[dict[str, Any]]:
    return admin.get(f"/api/webhooks/{hook['webhook']}/deliveries").json()["items"]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.mark.usefixtures("public")
@on_both("web")
def test_what_happens_is_told_signed_and_without_words(web, admin, receiver, sender):
    hook = make(admin, receiver)
    create(web)
    web.journal.write(lambda tx: lanes.stop_lane(tx, "r1", "seoul", "the reply was: hidden-word"))
    settle(sender)
    assert [one["type"] for one in receiver.bodies()] == ["run.created", "lane.stopped"]
    assert [verified(hook["secret"], heads, body) for _, heads, body in receiver.got] == [True, True]
    assert not verified(hook["secret"], receiver.got[0][1], receiver.got[0][2] + b" ")
    assert receiver.bodies()[1]["data"] == {"run": "r1", "event": 2, "lane": "seoul", "by": "engine"}
    assert b"hidden-word" not in b"".join(body for _, _, body in receiver.got)
    assert [(one["state"], one["tries"], one["status"], one["said"]) for one in history(admin, hook)] == [
        ("delivered", 1, 200, "thanks")
    ] * 2
    settle(sender)
    assert len(receiver.got) == 2


@on_both("web")
def test_it_is_written_with_the_event_or_not_at_all(web, admin, receiver, sender):
    hook = make(admin, receiver)
    with pytest.raises(RuntimeError):
        web.journal.write(_create_and_fail)
    assert history(admin, hook) == []


def _create_and_fail(tx) -> None:
    runs.create_run(
        tx,
        run="r2",
        kind="renewal",
        fleet="acme",
        digest="d" * 64,
        requested_by="ann",
        plan={},
        lanes=["l"],
        resources=[],
    )
    raise RuntimeError("no")


@on_both("web")
def test_one_is_told_only_of_what_one_asked_for(web, admin, receiver, sender):
    make(admin, receiver, kinds=["run.closed"])
    create(web)
    web.journal.write(lambda tx: runs.close_run(tx, "r1", "cancelled"))
    settle(sender)
    assert [(one["type"], one["data"]["outcome"]) for one in receiver.bodies()] == [("run.closed", "cancelled")]


def test_an_outage_has_a_name_of_its_own():
    event = NewEvent(run="r", kind=Kind.LANE_STOPPED, data={"circuit": "outage"})
    assert telling.type_of(event) == "outage.began"
    assert telling.type_of(NewEvent(run="r", kind=Kind.LANE_STOPPED)) == "lane.stopped"
    assert telling.type_of(NewEvent(run="r", kind=Kind.STEP_DONE)) == ""


@pytest.mark.usefixtures("public")
@on_both("web")
def test_a_refused_message_is_tried_again_later_under_the_same_id(web, admin, receiver, sender):
    hook = make(admin, receiver)
    receiver.status, receiver.said = 503, b"not\x00now " + b"x" * 5000
    create(web)
    settle(sender)
    settle(sender)  # not before its time
    (one,) = history(admin, hook)
    assert (one["state"], one["tries"], one["status"], len(one["said"])) == ("waiting", 1, 503, 200)
    assert one["said"].startswith("not now xxx")
    receiver.status = 204
    assert admin.post(f"/api/webhooks/{hook['webhook']}/deliveries/{one['id']}/again").status_code == 202
    settle(sender)
    assert {heads["webhook-id"] for _, heads, _ in receiver.got} == {one["message"]}
    assert (len(receiver.got), history(admin, hook)[0]["state"]) == (2, "delivered")


def test_a_dead_receiver_with_a_long_queue_holds_up_nobody_else(web, admin, receiver, sender):
    dead = Receiver()
    dead.status = 500
    try:
        hook = make(admin, dead)
        for _ in range(120):
            web.journal.write(partial(webhooks.test, webhook=hook["webhook"], by="root"))
        make(admin, receiver)
        create(web)
        settle(sender)
        assert [one["type"] for one in receiver.bodies()] == ["run.created"]
        settle(sender)
        assert len(dead.got) == 1, "after a failure it rests as a whole"
        assert web.journal.read(webhooks.due) == []
    finally:
        dead.server.shutdown()
        dead.server.server_close()


def test_what_was_refused_comes_after_what_is_new(web, admin, receiver):
    hook = make(admin, receiver)
    first, second = [web.journal.write(partial(webhooks.test, webhook=hook["webhook"], by="root")) for _ in range(2)]
    ((_, refused), _) = web.journal.read(webhooks.due)
    web.journal.write(partial(later, 0, partial(webhooks.tried, delivery=refused, status=400, said="")))
    web.journal.write(lambda tx: [tx.connection.execute(sa.text(one)) for one in AN_HOUR_AGO])
    assert [one.id for _, one in web.journal.read(webhooks.due)] == [second, first]


AN_HOUR_AGO = (
    "UPDATE webhook_delivery SET due_at = due_at - 3600, at = at - 3600",
    "UPDATE webhook SET rests_until = rests_until - 3600",
)


@on_both("web")
def test_a_dead_receiver_with_steady_new_messages_is_tried_once_in_its_rest(web, admin, receiver, sender):
    hook = make(admin, receiver)
    receiver.status = 503
    for _ in range(5):
        create(web, f"r{len(history(admin, hook))}")
        settle(sender)
    assert (len(receiver.got), len(history(admin, hook))) == (1, 5)
    waits = []
    for _ in range(4):
        web.journal.write(lambda tx: [tx.connection.execute(sa.text(one)) for one in AN_HOUR_AGO])
        settle(sender)
        waits.append(web.journal.read(lambda c: round(c.execute(sa.text(LEFT[c.dialect.name])).scalar_one())))
    assert waits[0] in range(15, 21)
    assert all(wait in range(50, 61) for wait in waits[1:])
    assert len(receiver.got) == 5
    receiver.status = 200
    admin.post(f"/api/webhooks/{hook['webhook']}/test")  # a person does not wait
    settle(sender)
    assert [one["state"] for one in history(admin, hook)][:1] == ["delivered"]
    settle(sender)
    assert len(receiver.got) > 6, "after a success it rests no more"


LEFT = {
    "sqlite": "SELECT rests_until - (julianday('now') - 2440587.5) * 86400.0 FROM webhook",
    "postgresql": "SELECT rests_until - extract(epoch from clock_timestamp()) FROM webhook",
}


@on_both("web")
def test_what_waits_ends_when_it_is_switched_off_and_is_not_sent_when_it_is_switched_on(web, admin, receiver, sender):
    hook = make(admin, receiver)
    path = f"/api/webhooks/{hook['webhook']}"
    create(web)
    admin.patch(path, json={"active": True})  # it is
    assert [one["state"] for one in history(admin, hook)] == ["waiting"]
    admin.patch(path, json={"active": False})
    assert [one["state"] for one in history(admin, hook)] == ["given up"]
    admin.post(f"{path}/test")
    admin.patch(path, json={"active": True})
    settle(sender)
    assert (receiver.got, [one["state"] for one in history(admin, hook)]) == ([], ["given up"] * 2)
    create(web, "r2")
    create(web, "r3")
    receiver.status = 410
    settle(sender)
    assert [one["state"] for one in history(admin, hook)] == ["given up"] * 4
    receiver.status = 200
    admin.patch(path, json={"active": True})
    settle(sender)
    assert len(receiver.got) == 1


@on_both("web")
def test_what_has_waited_for_a_day_is_not_sent(web, admin, receiver, sender):
    """However it came to wait: the worker that sends may have been away."""
    hook = make(admin, receiver)
    create(web)
    web.journal.write(lambda tx: tx.connection.execute(sa.text("UPDATE webhook_delivery SET at = at - 86400")))
    settle(sender)
    assert receiver.got == []
    sender.prune()
    assert [one["state"] for one in history(admin, hook)] == ["given up"]


def test_a_long_queue_is_given_up_within_its_day(web, admin, receiver):
    hook = make(admin, receiver)
    for _ in range(3):
        web.journal.write(partial(webhooks.test, webhook=hook["webhook"], by="root"))
    (_, delivery), *_ = web.journal.read(webhooks.due)
    web.journal.write(
        partial(later, webhooks.GIVEN_UP_S, partial(webhooks.tried, delivery=delivery, status=0, said=""))
    )
    assert [one["state"] for one in history(admin, hook)] == ["waiting"] * 2 + ["given up"]
    web.journal.write(partial(later, webhooks.GIVEN_UP_S, webhooks.give_up))
    assert [one["state"] for one in history(admin, hook)] == ["given up"] * 3


@on_both("web")
def test_what_ended_is_forgotten_after_a_month_and_not_before(web, admin, receiver, sender):
    hook = make(admin, receiver)
    create(web)
    settle(sender)
    web.journal.write(partial(webhooks.test, webhook=hook["webhook"], by="root"))
    month = 30 * 86_400.0
    web.journal.write(partial(later, month - 60, webhooks.prune))
    assert [one["state"] for one in history(admin, hook)] == ["waiting", "delivered"]
    web.journal.write(
        lambda tx: tx.connection.execute(sa.text(f"UPDATE webhook_delivery SET done_at = done_at - {month}"))
    )
    sender.prune()
    assert [one["state"] for one in history(admin, hook)] == ["waiting"]


def later(by_s: float, write: Callable[[Any], Any], tx: Any) -> Any:
    """Do *write* as if so many seconds had passed."""
    tx._group.clock += by_s
    try:
        return write(tx)
    finally:
        tx._group.clock -= by_s


def test_waits_grow_and_end_within_a_day():
    waits = [webhooks.delay_s(tries) for tries in range(1, 12)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (5, 6 * 3600)


@on_both("web")
def test_after_a_day_it_is_given_up(web, admin, receiver, sender):
    hook = make(admin, receiver)
    create(web)
    receiver.status = 500
    ((_, delivery),) = web.journal.read(webhooks.due)
    give_up = partial(webhooks.tried, delivery=delivery, status=500, said="")
    web.journal.write(partial(later, webhooks.GIVEN_UP_S, give_up))
    assert history(admin, hook)[0]["state"] == "given up"
    settle(sender)
    assert receiver.got == []


def test_gone_switches_it_off(web, admin, receiver, sender):
    hook = make(admin, receiver)
    receiver.status = 410
    create(web)
    settle(sender)
    create(web, "r2")
    settle(sender)
    assert len(receiver.got) == 1
    assert admin.get("/api/webhooks").json()["items"][0]["active"] is False
    assert history(admin, hook)[0]["state"] == "given up"


def test_a_redirect_is_not_followed(web, admin, receiver, sender):
    hook = make(admin, receiver)
    receiver.status, receiver.location = 307, receiver.url + "/elsewhere"
    create(web)
    settle(sender)
    assert [path for path, _, _ in receiver.got] == ["/told"]
    assert (history(admin, hook)[0]["state"], history(admin, hook)[0]["status"]) == ("waiting", 307)


def test_nobody_there_is_told_without_the_address(web, admin, receiver, sender):
    hook = make(admin, receiver)
    receiver.server.shutdown()
    receiver.server.server_close()
    create(web)
    settle(sender)
    one = history(admin, hook)[0]
    assert (one["state"], one["status"], one["said"]) == ("waiting", 0, "no answer (ConnectError)")


def test_a_slow_receiver_holds_up_nobody_else(web, admin, receiver, sender):
    slow = Receiver()
    slow.hold = threading.Event()
    try:
        make(admin, slow)
        make(admin, receiver)
        create(web)
        sender.look()
        assert receiver.came.acquire(timeout=10)
        assert slow.came.acquire(timeout=10)
        sender.look()
        assert len(slow.got) == 1, "it is not told twice at once"
    finally:
        slow.hold.set()
        sender.wait(20)
        slow.server.shutdown()
        slow.server.server_close()


SENDING = """
import sys, threading
from pathlib import Path
from workers.webhooks import Sender
from workflows.destinations import Destinations
from workflows.journal import Journal
from workflows.journal.vault import Vault
with Journal.open(sys.argv[1]) as journal:
    Sender(journal, Vault(Path(sys.argv[2])), Destinations.read("127.0.0.0/8")).run(threading.Event())
"""


def test_a_worker_killed_in_the_middle_sends_it_again_under_the_same_id(web, admin, receiver):
    hook = make(admin, receiver)
    create(web)
    receiver.hold = threading.Event()
    words = [sys.executable, "-c", SENDING, web.settings.database_url, str(web.settings.vault_dir)]
    with subprocess.Popen(words, cwd=ROOT) as first:
        assert receiver.came.acquire(timeout=30)
        os.kill(first.pid, signal.SIGKILL)
    receiver.hold.set()
    with subprocess.Popen(words, cwd=ROOT) as second:
        until(lambda: history(admin, hook)[0]["state"] == "delivered")
        second.kill()
    assert len({heads["webhook-id"] for _, heads, _ in receiver.got}) == 1
    assert len(receiver.got) == 2


def test_the_secret_is_shown_once_and_a_new_one_counts_from_then_on(web, admin, receiver, sender):
    hook = make(admin, receiver)
    path = f"/api/webhooks/{hook['webhook']}"
    web.person("eve", Role.AUDITOR)
    shown = admin.get("/api/webhooks").text + web.signed_in("eve").get(f"{path}/deliveries").text
    told = json.dumps([event.data for event in web.journal.events("fleet")])
    assert hook["secret"] not in shown + told
    assert "/told" not in told
    fresh = admin.patch(path, json={"new_secret": True}).json()["secret"]
    assert fresh != hook["secret"]
    admin.post(f"{path}/test")
    settle(sender)
    ((_, heads, body),) = receiver.got
    assert (verified(fresh, heads, body), verified(hook["secret"], heads, body)) == (True, False)
    assert json.loads(body)["type"] == "webhook.test"


@pytest.mark.usefixtures("public")
def test_auditors_see_where_it_goes_and_not_what_opens_it(web, admin, receiver, sender):
    receiver.status, receiver.said = 404, b"there is no /told?key=hidden-word"
    hook = admin.post("/api/webhooks", json={"url": f"{receiver.url}?key=hidden-word"}).json()
    assert hook["url"].endswith("/told?key=hidden-word")
    web.person("eve", Role.AUDITOR)
    auditor = web.signed_in("eve")
    create(web)
    settle(sender)
    assert auditor.get("/api/webhooks").json()["items"][0]["url"] == receiver.url.removesuffix("/told")
    ((mine,), (theirs,)) = history(admin, hook), history(auditor, hook)
    assert (mine["said"], theirs["status"], theirs["said"]) == ("there is no /told?key=hidden-word", 404, "")
    page = auditor.get("/settings/webhooks").text
    assert (receiver.url.removesuffix("/told") in page, "hidden-word" in page, "/told" in page) == (True, False, False)
    assert "?key=hidden-word" in admin.get("/settings/webhooks").text
    token = web.with_token("root", Permission.READ, Permission.AUDIT)
    assert "hidden-word" not in token.get("/api/webhooks").text


@on_both("web")
def test_switched_off_nothing_is_told_and_removed_nothing_is_left(web, admin, receiver, sender):
    hook = make(admin, receiver)
    path = f"/api/webhooks/{hook['webhook']}"
    assert admin.patch(path, json={"active": False}).json()["active"] is False
    create(web)
    settle(sender)
    assert receiver.got == []
    assert admin.delete(path).status_code == 204
    assert admin.delete(path).status_code == 404
    assert admin.get(f"{path}/deliveries").status_code == 404
    assert admin.post(f"{path}/deliveries/1/again").status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.example/told",
        "http://127.0.0.1.example/told",
        "ftp://127.0.0.1/",
        "https:///told",
        "https://user:hidden@receiver.example/",
        "https://receiver.example/#part",
        "https://receiver.example:port/",
        "https://re ceiver.example/",
        "//receiver.example/",
    ],
)
def test_an_address_that_is_none_is_refused(admin, url):
    answer = admin.post("/api/webhooks", json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "InputError")
    assert answer.json()["remedy"]
    assert "hidden" not in answer.text


def test_unknown_kinds_are_refused_with_those_that_there_are(admin, receiver):
    answer = admin.post("/api/webhooks", json={"url": receiver.url, "kinds": ["run.exploded"]})
    assert answer.status_code == 422
    assert "gate.opened" in answer.json()["remedy"]


@pytest.mark.parametrize(
    ("role", "lists", "makes"),
    [
        (Role.ADMIN, 200, 201),
        (Role.AUDITOR, 200, 403),
        (Role.OPERATOR, 403, 403),
        (Role.APPROVER, 403, 403),
        (Role.VIEWER, 403, 403),
    ],
)
def test_administrators_change_and_auditors_list(web, receiver, role, lists, makes):
    web.person("ann", role)
    client = web.signed_in("ann")
    assert client.get("/api/webhooks").status_code == lists
    assert client.post("/api/webhooks", json={"url": receiver.url}).status_code == makes
