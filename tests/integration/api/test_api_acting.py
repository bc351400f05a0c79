"""Resume, pause, cancel and going back over HTTP, each with its preview; the report; and keys that make it once."""

from __future__ import annotations

import threading

import pytest

from tests.integration.api.conftest import on_both
from tests.integration.cli.cli_world import World
from workflows.journal import accounts, asked, tables
from workflows.journal.engines import parse, writing
from workflows.people import Grant, Role


def test_pause_and_resume_with_their_previews(seeded):
    run = seeded.waiting_run()
    olga = seeded.signed_in("olga")
    before = olga.get(f"/api/runs/{run}/pause/preview", params={"lane": "seoul"}).json()
    assert (before["action"], before["lanes"]) == ("pause", ["seoul"])
    done = olga.post(f"/api/runs/{run}/pause", json={"lane": "seoul", "reason": "lunch"}).json()
    assert (done["lanes"], done["preview"]) == (["seoul"], before)
    state = seeded.journal.state(run).lanes["seoul"]
    assert (state.status, state.reason) == ("paused", "lunch")
    assert olga.post(f"/api/runs/{run}/pause", json={"lane": "seoul"}).json()["lanes"] == []
    assert olga.get(f"/api/runs/{run}/resume/preview").json()["lanes"] == ["seoul"]
    assert olga.post(f"/api/runs/{run}/resume", json={"reason": "back"}).json()["lanes"] == ["seoul"]
    note = [one for one in seeded.journal.events(run) if one.kind == "note"]
    assert [(one.actor, one.data["reason"]) for one in note] == [("olga", "back")]
    assert olga.post(f"/api/runs/{run}/pause", json={"lane": "jeju"}).status_code == 404


def test_cancel_frees_the_servers(seeded):
    run = seeded.waiting_run("seoul")
    olga = seeded.signed_in("olga")
    assert "ends for good" in olga.get(f"/api/runs/{run}/cancel/preview").json()["effect"]
    assert olga.post(f"/api/runs/{run}/cancel", json={"reason": "no"}).json()["lanes"] == ["seoul"]
    assert olga.post(f"/api/runs/{run}/cancel", json={}).json()["lanes"] == []


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\x9b", "\u202e"])
def test_a_reason_holds_nothing_that_a_terminal_would_carry_out(seeded, letter):
    run = seeded.waiting_run("seoul")
    olga, said = seeded.signed_in("olga"), f"a{letter}[2Jb"
    for what in ("pause", "resume", "cancel", "rollback"):
        assert olga.post(f"/api/runs/{run}/{what}", json={"reason": said}).status_code == 422, what
        assert olga.post(f"/runs/{run}/{what}", data={"reason": said}).status_code == 422, what
    assert seeded.journal.state(run).lanes["seoul"].status == "waiting"


def test_a_reason_may_have_several_lines_as_a_browser_sends_them(seeded):
    run = seeded.waiting_run("seoul")
    assert seeded.signed_in("olga").post(f"/runs/{run}/pause", data={"reason": "점심\r\nlunch"}).status_code == 303
    assert seeded.journal.state(run).lanes["seoul"].reason == "점심\nlunch"


def test_acting_on_a_run_needs_all_its_lanes(seeded):
    run = seeded.waiting_run()
    sol = seeded.signed_in("sol")
    for what in ("resume", "pause", "cancel", "rollback"):
        assert sol.post(f"/api/runs/{run}/{what}", json={}).status_code == 403, what
        assert seeded.signed_in("viola").post(f"/api/runs/{run}/{what}", json={}).status_code == 403, what
    assert sol.post(f"/api/runs/{run}/pause", json={"lane": "seoul"}).status_code == 200
    assert sol.get(f"/api/runs/{run}/pause/preview").status_code == 200
    assert "busan" not in sol.get(f"/api/runs/{run}/pause/preview").text
    assert sol.get(f"/api/runs/{run}/report").status_code == 403
    assert seeded.signed_in("bus").get(f"/api/runs/{run}/report").status_code == 403


def test_a_hidden_lane_is_answered_as_one_that_is_not_there(seeded):
    run = seeded.waiting_run()
    sol = seeded.signed_in("sol")

    def answers(lane: str) -> list[tuple[int, str]]:
        previews = [
            sol.get(f"/api/runs/{run}/{what}/preview", params={"lane": lane})
            for what in ("resume", "pause", "cancel", "rollback")
        ]
        acts = [sol.post(f"/api/runs/{run}/{what}", json={"lane": lane}) for what in ("resume", "pause", "rollback")]
        shown = [sol.get(f"/api/runs/{run}{part}", params={"lane": lane}) for part in ("", "/plan", "/steps")]
        return [(one.status_code, one.text.replace(lane, "LANE")) for one in (*previews, *acts, *shown)]

    hidden = answers("busan")
    assert hidden == answers("jeju_")
    assert [status for status, _ in hidden] == [404, 404, 404, 403, 404, 404, 403, 404, 404, 404]
    assert not any("busan" in text or "cms3" in text for _, text in hidden)


def test_what_one_may_not_do_is_told_without_the_names_of_hidden_clusters(seeded):
    run = seeded.waiting_run()
    plan = seeded.signed_in("olga").post("/api/plans", json={}).json()["digest"]
    bus, sol = seeded.signed_in("bus"), seeded.signed_in("sol")
    for what in ("resume", "pause", "cancel", "rollback"):
        assert "busan" not in sol.post(f"/api/runs/{run}/{what}", json={}).text, what
    assert "busan" not in sol.get(f"/api/runs/{run}/rollback/preview").text
    refused = sol.post("/api/runs", json={"plan": plan})
    assert (refused.status_code, "busan" in refused.text) == (403, False)
    assert "seoul" not in bus.post(f"/api/runs/{run}/pause", json={}).text
    seeded.person("both", Grant(Role.OPERATOR, "seoul"), Grant(Role.VIEWER, "busan"))
    refused = seeded.signed_in("both").post("/api/runs", json={"plan": plan})
    assert refused.json()["detail"] == "both may not operate for busan."


def test_going_back_wants_a_survey_that_is_newer_than_the_run(seeded):
    run = seeded.waiting_run("seoul")
    world: World = seeded.world
    olga = seeded.signed_in("olga")
    olga.post(f"/api/runs/{run}/pause", json={})
    seeded.journal.write(lambda tx: tx.append(_intent(run)))
    answer = olga.get(f"/api/runs/{run}/rollback/preview")
    assert (answer.status_code, answer.json()["code"]) == (409, "PlanStale")
    assert answer.json()["remedy"].startswith("Survey seoul first")
    world.advance(olga.post("/api/surveys", json={}).json()["run"])
    answer = olga.get(f"/api/runs/{run}/rollback/preview")
    assert (answer.status_code, answer.json()["code"]) == (422, "NothingToUndo")  # nothing was changed on any server


def _intent(run):
    from workflows.journal import Kind, NewEvent

    return NewEvent(run=run, kind=Kind.INTENT, lane="seoul", step="seoul/cms1/prepare", node="cms1", data={"line": 0})


def test_the_report_is_one_page_to_be_kept(seeded):
    run = seeded.waiting_run("seoul")
    answer = seeded.signed_in("viola").get(f"/api/runs/{run}/report")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == f'attachment; filename="{run}.html"'
    assert run in answer.text


# ── Idempotency-Key ──────────────────────────────────────────────────────────────────────────────────────────────────
@on_both("seeded")
def test_the_same_request_with_the_same_key_is_carried_out_once(seeded):
    seeded.world.beat()
    olga = seeded.signed_in("olga")
    first = olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"})
    second = olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"})
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    assert len(seeded.journal.runs()) == 1
    other = olga.post("/api/surveys", json={"clusters": ["seoul"]}, headers={"Idempotency-Key": "a"})
    assert other.status_code == 422
    theirs = seeded.signed_in("sol").post("/api/surveys", json={}, headers={"Idempotency-Key": "a"})
    assert theirs.json()["run"] != first.json()["run"]


def test_an_answer_is_not_given_again_to_who_lost_the_cluster_in_between(seeded):
    """With a header as with the key of a page's button: what it tells of is not of theirs any more."""
    seeded.survey()
    sol, key = seeded.signed_in("sol"), {"Idempotency-Key": "a"}
    asked_for = {"clusters": ["seoul"]}
    plan = sol.post("/api/plans", json=asked_for, headers=key).json()
    assert sol.post("/api/plans", json=asked_for, headers=key).json() == plan
    seeded.world.beat()
    button = {"plan": plan["digest"], "key": "b"}
    started = sol.post("/runs", data=button)
    assert sol.post("/runs", data=button).headers["location"] == started.headers["location"]
    grants = [Grant(Role.OPERATOR, "busan")]
    seeded.journal.write(lambda tx: accounts.set_grants(tx, seeded.account("sol"), grants, by="adam"))
    again = sol.post("/api/plans", json=asked_for, headers=key)
    assert (again.status_code, plan["digest"] in again.text) == (422, False)
    again = sol.post("/runs", data=button)
    assert (again.status_code, "location" in again.headers) == (422, False)


def test_a_request_that_failed_may_be_made_again_with_its_key(seeded):
    olga = seeded.signed_in("olga")
    assert olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"}).status_code == 503
    seeded.world.beat()
    assert olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"}).status_code == 202


def test_a_plan_that_is_asked_for_again_has_the_status_of_the_first_time(seeded):
    seeded.survey()
    olga = seeded.signed_in("olga")
    first, second = (olga.post("/api/plans", json={}, headers={"Idempotency-Key": "p"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert olga.post("/api/plans", json={}).status_code == 200


@on_both("seeded")
def test_the_same_key_at_once_has_one_effect(seeded):
    seeded.world.beat()
    clients = [seeded.signed_in("olga") for _ in range(8)]
    start = threading.Barrier(len(clients))
    answers = []

    def ask(client):
        start.wait()
        answers.append(client.post("/api/surveys", json={}, headers={"Idempotency-Key": "x"}))

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert {one.status_code for one in answers} <= {202, 409}
    assert len({one.json()["run"] for one in answers if one.status_code == 202}) == 1
    assert len(seeded.journal.runs()) == 1


@on_both("seeded")
def test_a_request_that_was_lost_may_be_made_again(seeded):
    seeded.world.beat()
    account = seeded.account("olga")
    olga = seeded.signed_in("olga")
    first = olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"})
    engine = writing(parse(seeded.settings.database_url))
    table = tables.idempotency
    with engine.begin() as connection:
        connection.execute(table.update().values(status=0))
    assert olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"}).status_code == 409
    with engine.begin() as connection:
        connection.execute(table.update().values(at=table.c.at - asked.LOST_AFTER_S - 1))
    engine.dispose()
    again = olga.post("/api/surveys", json={}, headers={"Idempotency-Key": "a"})
    assert (again.status_code, again.json()["run"] != first.json()["run"]) == (202, True)
    assert account
