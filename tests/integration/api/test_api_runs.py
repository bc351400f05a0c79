"""Runs over HTTP: the list with its filters, one whole, its plan, and what a step did."""

from __future__ import annotations

import json

from tests.integration.api.conftest import on_both


@on_both("seeded")
def test_runs_are_listed_newest_first_with_filters(seeded):
    survey = seeded.done_survey()
    waiting = seeded.waiting_run("seoul")
    client = seeded.signed_in("viola")
    listed = client.get("/api/runs").json()
    assert ([one["run"] for one in listed["items"]], listed["total"]) == ([waiting, survey], 2)
    assert [one["status"] for one in listed["items"]] == ["waiting", "done"]
    found = {
        "kind=survey": [survey],
        "status=waiting": [waiting],
        "status=running": [],
        "outcome=open": [waiting],
        "cluster=busan": [survey],
        "requested_by=olga": [waiting],
    }
    assert found == {query: [x["run"] for x in client.get(f"/api/runs?{query}").json()["items"]] for query in found}


def test_a_run_shows_its_lanes_and_what_they_wait_for(seeded):
    run = seeded.waiting_run("seoul")
    shown = seeded.signed_in("viola").get(f"/api/runs/{run}").json()
    assert (shown["status"], shown["requested_by"], shown["planned_by"]) == ("waiting", "olga", "olga")
    lane = shown["lanes"][0]
    assert (lane["waiting"]["name"], lane["waiting"]["people"]) == ("sign", True)
    assert lane["parts_total"] == len(lane["parts"]) > lane["parts_done"] > 0
    same = json.loads(seeded.world.ok("runs", "show", run, "-o", "json"))
    assert [part["id"] for part in same["lanes"][0]["parts"]] == [part["id"] for part in lane["parts"]]
    assert set(same) - set(shown) == set()


def test_steps_are_listed_and_one_shows_lines_attempts_and_its_task(seeded):
    run = seeded.waiting_run("seoul")
    client = seeded.signed_in("viola")
    steps = client.get(f"/api/runs/{run}/steps", params={"node": "cms1", "status": "done"}).json()
    assert steps["total"] == len(steps["items"]) > 0
    assert {one["node"] for one in steps["items"]} == {"cms1"}
    request = next(one["id"] for one in steps["items"] if "/request/" in one["id"])
    step = client.get(f"/api/runs/{run}/steps/{request}").json()
    assert step["plan"]["lines"][0]["text"].startswith("pki csr")
    assert [one["text"] for one in step["sent"]] == [one["shown"] for one in step["plan"]["lines"]]
    (attempt,) = step["attempts_made"]
    assert (attempt["outcome"], attempt["attempt"], len(attempt["task"])) == ("done", 1, 36)
    assert client.get(f"/api/runs/{run}/steps/seoul/nothing").status_code == 404


def test_a_step_shows_what_was_said_during_its_attempts_alone(seeded):
    run = seeded.waiting_run("seoul")
    folder = seeded.settings.transcripts_dir / run
    folder.mkdir()
    client = seeded.signed_in("viola")
    every = client.get(f"/api/runs/{run}/steps", params={"node": "cms1", "status": "done"}).json()["items"]
    wheres = {one["id"]: f"/api/runs/{run}/steps/{one['id']}" for one in every}
    times = {step: client.get(where).json()["attempts_made"][0]["started_at"] for step, where in wheres.items()}
    said = {"session": "long ago", "is": "sent", "text": "version", "at": "2020-01-01T00:00:00Z"}
    lines = [json.dumps(said)]
    lines += [json.dumps(said | {"session": step, "text": f"of {step}", "at": at}) for step, at in times.items()]
    (folder / "cms1.jsonl").write_text("\n".join(lines) + "\n{torn")
    assert len(times) > 1
    for step, where in wheres.items():
        assert [(one["text"], one["attempt"]) for one in client.get(where).json()["transcript"]] == [(f"of {step}", 1)]
    whole = client.get(wheres["seoul/cms1/prepare"], params={"whole": True}).json()["transcript"]
    assert {one["text"]: one["attempt"] for one in whole} == {
        "version": 0,
        **{f"of {step}": int(step == "seoul/cms1/prepare") for step in times},
    }
    page = client.get(f"/runs/{run}/steps/seoul/cms1/prepare").text
    assert ("of seoul/cms1/prepare" in page, "version</code>" in page, 'href="?whole=1#said"' in page) == (1, 0, 1)
    page = client.get(f"/runs/{run}/steps/seoul/cms1/prepare?whole=1").text
    assert ("of seoul/cms1/prepare" in page, "version</code>" in page, 'href="?#said"' in page) == (1, 1, 1)
    assert client.get(f"/api/runs/{run}/steps/seoul/cms2/prepare").json()["transcript"] == []


def test_the_plan_of_a_run_says_every_line(seeded):
    run = seeded.waiting_run("seoul")
    plan = seeded.signed_in("viola").get(f"/api/runs/{run}/plan").json()
    (lane,) = plan["lanes"]
    assert "ends" in lane["why"] or "days" in lane["why"]
    texts = [line["text"] for part in lane["parts"] for line in part["lines"]]
    assert any(text.startswith("callbridge certs") for text in texts)
    assert plan["summary"]["certificates"] == ["seoul/cms1/callbridge", "seoul/cms2/callbridge"]


@on_both("seeded")
def test_a_person_of_one_cluster_sees_the_lanes_of_that_cluster_alone(seeded):
    both, busan = seeded.waiting_run(), ""
    seeded.world.ok("runs", "cancel", both, "--yes")
    seeded.world.advance(both)
    client = seeded.signed_in("sol")
    listed = client.get("/api/runs").json()["items"]
    assert [(one["run"], list(one["lanes"])) for one in listed] == [(both, ["seoul"])]
    shown = client.get(f"/api/runs/{both}").json()
    assert ([one["name"] for one in shown["lanes"]], shown["lanes_total"]) == (["seoul"], 1)
    for path in ("", "/plan", "/steps?limit=500"):
        answer = client.get(f"/api/runs/{both}{path}")
        assert answer.status_code == 200
        assert "busan" not in answer.text, path
        assert "cms3" not in answer.text, path
    assert client.get(f"/api/runs/{both}?lane=busan").status_code == 404
    assert client.get(f"/api/runs/{both}/steps/busan/cms3/prepare").status_code == 404
    assert busan == ""


def test_a_run_that_touches_none_of_ones_clusters_is_not_there(seeded):
    run = seeded.waiting_run("seoul")
    client = seeded.signed_in("bus")
    assert client.get("/api/runs").json()["total"] == 0
    for path in ("", "/plan", "/steps", "/steps/seoul/cms1/prepare"):
        assert client.get(f"/api/runs/{run}{path}").status_code == 404


def test_lanes_are_paged(seeded):
    run = seeded.waiting_run()
    client = seeded.signed_in("viola")
    first = client.get(f"/api/runs/{run}?limit=1").json()
    second = client.get(f"/api/runs/{run}?limit=1&offset=1").json()
    assert [one["name"] for one in first["lanes"] + second["lanes"]] == ["busan", "seoul"]
    assert first["lanes_total"] == 2
