"""fleet, trust, survey and plan, as a person at a shell sees them."""

import json
import stat

import pytest

from tests.integration.cli.cli_world import FLEET, HOST_KEYS
from workflows.journal import Kind, NewEvent, runs, stock


def test_fleet_check_says_what_it_found(world):
    """A right inventory is called right, with its sums."""
    assert "fleet.yaml is right: fleet test, 1 cluster, 2 nodes" in world.ok("fleet", "check")
    assert world.json("fleet", "check") == {
        "certificates": 2,
        "clusters": 1,
        "fleet": "test",
        "nodes": 2,
        "warnings": [],
    }


def test_fleet_check_warns_on_standard_error(world):
    """What works, but hardly as meant, is told with its line, and is no error."""
    world.fleet.write_text(FLEET.replace('CN: "{node}.example.com"', 'CN: "*.example.com"').replace('"{node}', '"*'))
    result = world.say("fleet", "check")
    assert result.exit_code == 0
    assert "warning: fleet.yaml:10: " in result.stderr


def test_fleet_show_fills_in_every_default(world):
    """The resolved inventory is shown, and the schema on request."""
    shown = world.json("fleet", "show")
    assert [node["credential"] for node in shown["clusters"][0]["nodes"]] == ["cms", "cms"]
    assert "cms2.example.com" in world.ok("fleet", "show")
    assert "properties" in json.loads(world.ok("fleet", "show", "--schema"))


def test_the_inventory_is_found_by_its_variable(world, monkeypatch):
    """CERTBRIDGE_FLEET names the inventory when no option does."""
    world.fleet.rename(world.root / "other.yaml")
    monkeypatch.setenv("CERTBRIDGE_FLEET", str(world.root / "other.yaml"))
    assert "other.yaml is right" in world.ok("fleet", "check")


def test_trust_shows_pins_and_then_knows(world):
    """New keys are pinned with --yes by the account; the second time they are the same."""
    with world.worker():
        first = world.json("trust", "--all", "--yes")
        second = world.json("trust", "cms1")
    assert [one["state"] for one in first] == ["pinned", "pinned"]
    assert [one["state"] for one in second] == ["same"]
    pins = world.journal.read(stock.pins)
    assert {where: (pin.key, pin.pinned_by, pin.verified) for where, pin in pins.items()} == {
        ("127.0.0.1", 2201): (HOST_KEYS["cms1"], "ann", False),
        ("127.0.0.1", 2202): (HOST_KEYS["cms2"], "ann", False),
    }


def test_trust_without_anybody_to_ask_pins_nothing(world):
    """In a pipe the fingerprints are shown, and --yes is asked for."""
    with world.worker():
        result = world.say("trust", "--all")
    assert result.exit_code == 2
    assert "SHA256:cms1" in result.stderr
    assert "--yes" in result.stderr
    assert world.journal.read(stock.pins) == {}


def test_trust_refuses_another_key_without_replace(world):
    """A changed host key is an alarm: exit 1, nothing changed; --replace pins it anew."""
    world.journal.write(lambda tx: stock.pin(tx, "127.0.0.1", 2201, HOST_KEYS["cms2"], by="bob", verified=True))
    with world.worker():
        refused = world.say("trust", "cms1", "--yes")
        kept = world.journal.read(stock.pins)["127.0.0.1", 2201].key
        world.ok("trust", "cms1", "--yes", "--replace")
    assert refused.exit_code == 1
    assert "--replace" in refused.stderr
    assert kept == HOST_KEYS["cms2"]
    assert world.journal.read(stock.pins)["127.0.0.1", 2201].key == HOST_KEYS["cms1"]


def test_trust_takes_pins_from_a_file_without_a_worker(world):
    """--from contacts nobody; a node that the file does not name is told."""
    file = world.root / "pins.json"
    file.write_text(json.dumps([{"address": "127.0.0.1", "port": 2201, "key": HOST_KEYS["cms1"]}]))
    result = world.say("trust", "--from", file)
    assert result.exit_code == 1
    assert "missing: " in result.stdout
    assert "pins.json does not name it" in result.stdout
    pins = world.journal.read(stock.pins)
    assert [(where, pin.verified) for where, pin in pins.items()] == [(("127.0.0.1", 2201), True)]


def test_survey_shows_days_left_and_ends_with_0(world):
    """One row per service, with the file and the days it has left."""
    with world.worker():
        shown = world.ok("survey")
    rows = [line.split() for line in shown.splitlines()[1:]]
    assert [(row[0], row[2], row[3], row[5]) for row in rows] == [
        (node, service, "old.crt", "9") for node in ("cms1", "cms2") for service in ("callbridge", "webadmin")
    ]


def test_one_dead_server_does_not_hide_the_others(world):
    """The survey of the other is shown; the exit code is 1, with reason and remedy."""
    with world.worker(fail={"seoul/cms2/survey": "no route to host"}):
        result = world.say("survey", "-o", "json")
    assert result.exit_code == 1
    assert [node["node"] for node in json.loads(result.stdout)["nodes"]] == ["cms1"]
    assert "cms2: no route to host" in result.stderr
    assert "→ Check the network." in result.stderr


def test_survey_records_its_transcripts(world):
    """--record copies the masked transcripts of that run alone."""
    state = world.root / "state" / "transcripts"
    with world.worker():
        first = world.json("survey")["run"]
        (state / first).mkdir(parents=True)
        (state / first / "cms1.jsonl").write_text("{}\n")
        world.ok("survey", "--record", world.root / "empty")
    from api.cli.survey import copy_transcripts

    assert copy_transcripts(state / first, world.root / "recorded") == 1
    assert [file.name for file in (world.root / "recorded").iterdir()] == ["cms1.jsonl"]
    assert list((world.root / "empty").iterdir()) == []


@pytest.mark.parametrize("words", [("survey",), ("trust", "--all"), ("run", "--yes")])
def test_without_a_worker_nothing_is_started(world, words):
    """Whatever touches a server says exit 1 and `certbridge up`, and leaves no run behind."""
    world.survey()
    result = world.say(*words)
    assert result.exit_code == 1
    assert "certbridge up" in result.stderr
    assert world.journal.runs() == []


def test_plan_is_the_same_bytes_twice(world):
    """Show 4 of the issue: the same facts and the same wish give the same bytes."""
    world.survey()
    first, second = world.ok("plan", "-o", "json"), world.ok("plan", "-o", "json")
    assert first == second
    assert json.loads(first)["summary"]["certificates"] == ["seoul/cms1/callbridge", "seoul/cms2/callbridge"]


def test_plan_shows_lines_way_back_and_sums(world):
    """Lines stand as they will be typed, with interruptions, gates, barriers and the digest."""
    world.survey()
    shown = world.ok("plan")
    lines = [line.strip() for line in shown.splitlines()]
    csr = "pki csr callbridge-1 CN:cms1.example.com subjectAltName:cms1.example.com,join.example.com"
    assert csr in lines
    assert "callbridge certs callbridge-1.key callbridge-1.crt callbridge-1-bundle.crt" in lines
    assert "way back: callbridge certs old.key old.crt ca.crt" in lines
    assert "── gate sign: approval of plan and CSRs, then the signed certificates" in lines
    assert lines[-1] == f"digest {world.json('plan')['digest']}"


def test_plan_keeps_to_its_selection_and_time(world):
    """--node narrows it; --within and --now decide what is due."""
    world.survey(days=50)
    assert "Nothing is due" in world.ok("plan")
    due = world.json("plan", "--within", "60d", "--node", "cms2")
    assert due["summary"]["certificates"] == ["seoul/cms2/callbridge"]
    later = world.json("plan", "--now", "2100-01-01")
    assert later["summary"]["certificates"] == ["seoul/cms1/callbridge", "seoul/cms2/callbridge"]


def test_plan_needs_a_fresh_survey_and_makes_one(world):
    """Without facts the answer is exit 2 and `certbridge survey`; --survey reads the servers first."""
    missing = world.say("plan")
    assert missing.exit_code == 2
    assert "no survey of the last 24 hours: cms1, cms2" in missing.stderr
    with world.worker():
        assert "lane seoul" in world.ok("plan", "--survey")


def test_plan_after_a_change_needs_a_new_survey(world):
    """Facts from before the last line that a run sent tell of the past: the run is named, or a survey is asked for."""
    world.survey()
    run = world.started()
    world.journal.append(NewEvent(run=run, kind=Kind.INTENT, node="cms2", data={"line": 0, "text": "pki csr …"}))
    held = world.say("plan")
    assert (held.exit_code, f"cms2 is held by run {run}" in held.stderr) == (4, True)
    world.journal.write(lambda tx: runs.close_run(tx, run, "cancelled"))
    refused = world.say("plan")
    assert (refused.exit_code, "changed after their last survey: cms2" in refused.stderr) == (2, True)
    world.survey()
    assert "lane seoul" in world.ok("plan")


def test_latest_means_the_run_that_changes_servers(world):
    """A survey made since does not hide the renewal that people talk of."""
    run = world.started()
    with world.worker():
        world.ok("survey")
    assert world.journal.runs()[0].run != run
    assert f"run {run}" in world.ok("runs", "show", "@latest")


def test_saved_plan_is_private_and_runs(world):
    """--save writes mode 0600; the file alone starts the run."""
    world.survey()
    world.beat()
    file = world.root / "plan.json"
    world.ok("plan", "--save", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run = world.ok("run", file, "--yes").strip()
    assert world.journal.state(run).digest == json.loads(file.read_text())["digest"]


def test_plan_tells_why_the_last_survey_failed(world):
    """To survey again does not help while the cause is there, so the cause is told."""
    with world.worker(fail={"seoul/cms2/survey": "the server refused user 'admin'"}):
        world.say("survey")
    result = world.say("plan")
    assert result.exit_code == 2
    assert "cms2: its last survey failed: the server refused user 'admin'" in result.stderr
    assert "→ Check the network. Then run `certbridge survey`." in result.stderr
