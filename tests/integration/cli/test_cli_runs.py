"""run, runs, gates, journal and db, as the people see them who ask, approve and bring certificates."""

import csv
import json
import re
import stat
import zipfile
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from api.cli import surroundings
from tests.ca import crlf, pem, pkcs7_der
from tests.integration.cli.cli_world import FLEET
from workflows import actions
from workflows.errors import JournalError
from workflows.journal import Journal, Kind, NewEvent, claims, lanes, runs, stock, tables
from workflows.journal.vault import Vault
from workflows.plan import ROLLBACK, Plan
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.request import KeyKind, key_pem, make_key, make_request


def tamper(tx):
    """Change an event as somebody would who owns the database file."""
    triggers = tx.connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
    for name in triggers:
        tx.connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
    tx.connection.exec_driver_sql("UPDATE event SET actor = 'eve' WHERE n = 2")


def test_run_shows_first_lines_and_prints_its_id(world):
    """Lines of stages 200 and 300 are shown on standard error; the id is the result; `--yes` needs few lines."""
    world.survey()
    world.beat()
    asked = world.say("run").stderr
    assert "pki csr callbridge-1" in asked
    assert "callbridge restart" not in asked
    result = world.say("run", "--yes")
    assert result.exit_code == 0
    assert len(result.stderr.splitlines()) < 10
    assert "  due because: cms1, cms2: callbridge: old.crt ends " in result.stderr
    assert world.journal.state(result.stdout.strip()).requested_by == "ann"


def test_whoever_saved_the_plan_may_not_approve_the_run_that_somebody_else_starts(world):
    """The author of a file is known by its digest, whatever way it reached the one who starts it."""
    world.survey()
    world.beat()
    file = world.root / "plan.json"
    world.ok("plan", "--save", file, by="eve")
    run = world.ok("run", file, "--yes", by="ann").strip()
    assert (world.journal.state(run).requested_by, world.journal.state(run).planned_by) == ("ann", "eve")
    world.advance(run)
    assert "who may decide: anyone but ann, eve" in world.ok("runs", "show", run)
    assert world.json("gates", "list")[0]["waiting"]["who"] == "anyone but ann, eve"
    refused = world.say("gates", "approve", "--yes", by="eve")
    assert (refused.exit_code, "eve made its plan and may not approve it" in refused.stderr) == (2, True)
    world.ok("gates", "approve", "--yes", by="bob")


def test_whoever_made_the_plan_first_is_its_author_without_a_file_too(world):
    """The same wish against the same facts is the same plan, so a run of it has the author that it was kept with."""
    world.survey()
    world.beat()
    world.ok("plan", "--save", world.root / "plan.json", by="eve")
    world.ok("plan", "--save", world.root / "again.json", by="bob")
    run = world.ok("run", "--yes", by="ann").strip()
    assert world.journal.state(run).planned_by == "eve"


def test_run_asks_on_a_terminal_and_no_means_nothing(world, monkeypatch):
    """A no ends with exit 4, and nothing was started."""
    world.survey()
    world.beat()
    monkeypatch.setattr(surroundings, "on_terminal", lambda: True)
    result = world.say("run", answer="n\n")
    assert result.exit_code == 4
    assert world.journal.runs() == []
    assert world.say("run", answer="y\n").exit_code == 0


def test_run_without_a_terminal_wants_yes(world):
    """Nobody can be asked in a pipe: exit 2 and --yes."""
    world.survey()
    world.beat()
    result = world.say("run")
    assert result.exit_code == 2
    assert "--yes" in result.stderr


def test_run_with_nothing_due_is_done(world):
    """Everything as wanted is no error, and starts nothing."""
    world.survey(days=300)
    result = world.say("run", "--yes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing is due" in result.stderr


def test_watch_ends_at_the_gate_with_3_and_at_the_end_with_0(world):
    """--watch says who must decide; later the watch ends with the run."""
    world.survey()
    with world.worker():
        result = world.say("run", "--yes", "--watch")
        assert result.exit_code == 3
        assert "waiting on: approval of plan and CSRs" in result.stdout
        assert "who may decide: anyone but ann" in result.stdout
        run = world.journal.runs()[0].run
        world.ok("gates", "approve", "--yes", by="bob")
        assert world.say("runs", "watch", run).exit_code == 3
        world.ok("gates", "deliver", world.sign(run, pem))
        assert world.say("runs", "watch", "@latest").exit_code == 3
        world.ok("gates", "approve", "--gate", "go", "--yes", by="bob")
        result = world.say("runs", "watch", "@latest")
        assert result.exit_code == 0
        # What was before the last decision is for `runs show`.
        assert ("/prove: step done" in result.stderr, "/request/" in result.stderr) == (True, False)


def test_watch_of_a_failed_run_ends_with_1_and_tells_why(world):
    """A lane that stopped ends the watch with exit 1, the reason and the remedy; resume lets it go on."""
    run = world.started()
    world.advance(run, fail={"seoul/cms2/prepare": "no route to host"})
    result = world.say("runs", "watch", run)
    assert result.exit_code == 1
    assert "no route to host" in result.stdout
    assert "→ Check the network." in result.stdout
    assert "lane seoul goes on" in world.ok("runs", "resume", run)
    world.advance(run)
    assert world.say("runs", "watch", run).exit_code == 3


def test_interrupted_watch_leaves_the_run(world, monkeypatch):
    """Ctrl-C stops looking, not the run: exit 130 and how to look again."""
    run = world.started()

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("api.cli.following.time.sleep", interrupt)
    result = world.say("runs", "watch", run)
    assert result.exit_code == 130
    assert f"run {run} goes on" in result.stderr
    assert world.journal.state(run).outcome == "open"


def test_show_draws_the_tree_and_what_it_waits_for(world):
    """Every step has its state; the open gate says since when and for whom."""
    run = world.at_gate()
    shown = world.ok("runs", "show", "@latest")
    assert "✓ done     cms1: key and CSR callbridge-1" in shown
    assert "waiting on: approval of plan and CSRs, then the signed certificates, since " in shown
    as_json = world.json("runs", "show", run)
    assert as_json["status"] == "waiting"
    assert as_json["lanes"][0]["waiting"]["who"] == "anyone but ann"
    statuses = {part["id"]: part["status"] for part in as_json["lanes"][0]["parts"]}
    assert statuses["seoul/cms1/request/callbridge"] == "done"
    assert statuses["seoul/cms1/apply/callbridge"] == "open"


def test_list_is_newest_first_with_states(world):
    """The list tells kind, requester and how each stands."""
    run = world.at_gate()
    assert [(one["run"], one["status"], one["requested_by"]) for one in world.json("runs", "list")] == [
        (run, "waiting", "ann")
    ]
    assert run in world.ok("runs", "list")


def test_a_rollback_is_named_in_the_list_and_where_it_is_shown(world):
    """Both kinds of plans have one, and it is neither a renewal nor a rebuild to whoever reads the list."""
    first = world.started()
    made = Plan.from_json(world.journal.plan(first))
    world.journal.write(lambda tx: runs.close_run(tx, first, "cancelled"))
    actions.start_run(world.journal, replace(made, purpose=ROLLBACK), by="ann", run="back-1")
    (line,) = [line for line in world.ok("runs", "list").splitlines() if "back-1" in line]
    assert "renewal rollback" in line
    purposes = {one["run"]: (one["kind"], one["purpose"]) for one in world.json("runs", "list")}
    assert sorted(purposes.values()) == [("renewal", ""), ("renewal", "rollback")]
    assert "renewal rollback of" in world.ok("runs", "show", "back-1")


def test_the_text_of_a_note_is_shown_whole(world):
    """A repair says what was found and what was done; nothing of it is cut off."""
    run = world.at_gate()
    found, done = "the process that was at work on it, host:1:2-3, is gone", "its lease was ended " + "and so on " * 20
    world.journal.append(NewEvent(run=run, kind=Kind.NOTE, lane="seoul", data={"found": found, "done": done}))
    shown = " ".join(world.ok("journal", "show", run).split())
    assert f"{found}; {done.strip()}" in shown


def test_pause_resume_and_cancel(world):
    """Pause holds, resume goes on, cancel ends for good and needs a yes."""
    run = world.at_gate()
    assert "is held" in world.ok("runs", "pause", run, "--reason", "lunch")
    assert world.json("runs", "show", run)["lanes"][0]["status"] == "paused"
    world.ok("runs", "resume", run)
    assert world.say("runs", "cancel", run).exit_code == 2
    world.ok("runs", "cancel", run, "--yes")
    assert world.json("runs", "show", run)["lanes"][0]["status"] == "cancelled"


def test_cancelling_says_when_a_run_ends(world):
    """A step at work goes on to its end; who cancels once more is told so, and asked nothing."""
    run = world.started()
    plan = Plan.from_json(world.journal.plan(run))
    step = next(one for one in plan.lanes[0].steps() if one.action == "prepare")
    write = world.journal.write
    generation = write(lambda tx: lanes.raise_generation(tx, run, "seoul", "test"))
    taken = write(
        partial(
            claims.claim,
            run=run,
            lane="seoul",
            step=step.id,
            node=step.node,
            generation=generation,
            holder="test",
            predecessors=frozenset(),
            resources=(),
        )
    )
    said = f"the step that runs has ended: {step.id}"
    assert said in world.say("runs", "cancel", run, "--yes").stderr
    assert f"is cancelled already; it ends when {said}" in world.say("runs", "cancel", run).stderr
    write(lambda tx: claims.finish(tx, taken, status="done"))
    write(lambda tx: runs.close_run(tx, run, "cancelled"))
    again = world.say("runs", "cancel", run)
    assert (again.exit_code, again.stderr) == (0, f"run {run} was over already\n")


@pytest.mark.parametrize("name", ["nope", "", "caf\udce9"])
@pytest.mark.parametrize(
    "words", [("runs", "show"), ("runs", "watch"), ("runs", "resume"), ("journal", "show"), ("runs", "report")]
)
def test_a_run_that_is_not_there(world, words, name):
    """Naming no run is wrong input: a sentence with its remedy, not a traceback."""
    result = world.say(*words, name)
    assert result.exit_code == 2
    assert "There is no run" in result.stderr
    assert "certbridge runs list" in result.stderr


def test_latest_without_any_run(world):
    """@latest of nothing is exit 2."""
    assert world.say("runs", "show", "@latest").exit_code == 2


def test_request_sheet_before_and_csrs_after_approval(world):
    """Before the approval the sheet alone leaves the house, afterwards the CSR files too."""
    run = world.at_gate()
    before, after = world.root / "before", world.root / "after"
    world.ok("gates", "csr", "--out", before)
    assert sorted(file.name for file in before.iterdir()) == ["request-sheet.csv", "request-sheet.txt"]
    with (before / "request-sheet.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["wish"], row["names"], row["usages"]) for row in rows] == [
        (f"seoul/{node}/callbridge", f"{node}.example.com join.example.com", "clientAuth serverAuth")
        for node in ("cms1", "cms2")
    ]
    sheet = (before / "request-sheet.txt").read_text()
    assert "BEGIN" not in sheet
    columns = {re.match(r"  (?:\S+ )*\S+ {2,}", line).end() for line in sheet.splitlines() if line.startswith("  ")}
    assert len(columns) == 1, sheet
    world.ok("gates", "approve", "--yes", by="bob")
    world.ok("gates", "csr", run, "--out", after)
    assert (after / "seoul_cms1_callbridge.csr").read_bytes() == world.csrs(run)["seoul/cms1/callbridge"]


def test_gates_list_and_show_say_what_is_decided_on(world):
    """The list says who may decide; show has requests, digest and the lines behind the gate."""
    run = world.at_gate()
    (listed,) = world.json("gates", "list")
    assert (listed["run"], listed["gate"], listed["waiting"]["who"]) == (run, "sign", "anyone but ann")
    shown = world.ok("gates", "show")
    assert "callbridge certs callbridge-1.key callbridge-1.crt callbridge-1-bundle.crt" in shown
    assert listed["digest"] in shown
    assert re.search(r"^  in all: \d+ commands and \d+ transfers on 2 nodes, \d+ restarts$", shown, re.MULTILINE)
    assert "seoul/cms1/callbridge: CN=cms1.example.com; cms1.example.com, join.example.com" in shown


def test_approval_is_bound_to_its_digest_and_time(world):
    """The first digits of the digest are enough; --not-before is told wherever the gate is shown."""
    world.at_gate()
    later = (surroundings.now() + timedelta(days=20)).replace(microsecond=0).isoformat()
    digest = world.json("gates", "list")[0]["digest"]
    world.ok("gates", "approve", "--yes", "--digest", digest[:12], "--not-before", later, by="bob")
    (shown,) = world.json("gates", "show")
    assert (shown["status"], shown["decided_by"], shown["not_before"]) == ("approved", "bob", later)


def test_approval_for_a_time_when_it_is_void_is_refused(world):
    """It says how far ahead one may approve."""
    world.at_gate()
    refused = world.say("gates", "approve", "--yes", "--not-before", "2100-01-01T00:00+00:00", by="bob")
    assert refused.exit_code == 2
    assert "2100-01-01 00:00 UTC is later than an approval is good for." in refused.stderr
    assert "within the next 30 days" in refused.stderr


def test_an_approval_of_several_people_is_voted_for_and_shown(world):
    """Stages, votes, who is missing and the clock; the CSRs come with the last vote."""
    terms = "approvals: {sign: {stages: [{needs: 2}], decide_within: 7d}}"
    world.fleet.write_text(FLEET.replace("fleet: test", f"fleet: test\n{terms}"))
    run = world.at_gate()
    first = world.say("gates", "approve", "--yes", "--reason", "names are right", by="bob")
    assert first.stdout.startswith("voted for sign of lane seoul")
    assert f"more people are needed: `certbridge gates show {run}` says who" in first.stderr
    shown = world.ok("gates", "show")
    assert "  stage 1: 2 of any group, 1 person missing\n    bob approved at " in shown
    assert "  to be decided until " in shown
    again = world.say("gates", "approve", "--yes", by="bob")
    assert (again.exit_code, "bob approved at" in again.stderr) == (2, True)
    assert world.ok("gates", "approve", "--yes", by="eve").startswith("approved sign of lane seoul")
    assert "  the approval is good until " in world.ok("gates", "show")


def test_rejection_stops_and_resume_opens_it_again(world):
    """A rejection carries its reason to whoever asked; after resume the gate is open again."""
    run = world.at_gate()
    world.ok("gates", "reject", "--reason", "wrong names", "--yes", by="bob")
    assert "bob rejected sign: wrong names" in world.ok("runs", "show", run)
    world.ok("runs", "resume", run)
    assert world.json("gates", "list")[0]["status"] == "open"


def test_deliver_takes_folders_zips_and_any_format_in_parts(world):
    """A first delivery says what is missing, the second completes the lane."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    first, second = sorted(world.sign(run, pkcs7_der).iterdir())
    archive = world.root / "mail.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(first, "inner/first.p7b")
    took = world.json("gates", "deliver", archive)
    assert (took["taken"], took["missing"]) == (["seoul/cms1/callbridge"], ["seoul/cms2/callbridge"])
    folder = world.root / "more"
    folder.mkdir()
    second.rename(folder / "second.p7b")
    shown = world.ok("gates", "deliver", folder, "--run", run)
    assert "matched seoul/cms2/callbridge" in shown
    assert "lane seoul has all its certificates" in shown


def test_brought_keys_are_sealed_in_the_commit_that_starts_the_run(world):
    """`key: file`: key and CSR rest encrypted under the run; the plan and the journal do not hold the key."""
    key = make_key(KeyKind.EC_P256)
    (world.root / "own.key").write_bytes(key_pem(key))
    names = SubjectAltNames(dns=("cms1.example.com", "join.example.com"))
    (world.root / "own.csr").write_bytes(make_request(key, Subject(CN="cms1.example.com"), names))
    extra = "        key: file\n        key_file: own.key\n        csr_file: own.csr\n        nodes: [cms1]\n"
    world.fleet.write_text(FLEET + extra)
    run = world.started()
    row = f"{run}/seoul/cms1/callbridge.key"
    sealed = world.journal.read(lambda connection: stock.sealed(connection, row))
    assert Vault(world.root / "state" / "vault").unseal(row, sealed) == key_pem(key)
    assert "PRIVATE" not in world.ok("journal", "export", run)


def test_report_is_one_page_with_everything(world):
    """Ports before and after, who approved, the replies, the verdict on the chain; nothing loaded from elsewhere."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    world.ok("gates", "deliver", world.sign(run, crlf))
    world.advance(run)
    world.ok("gates", "approve", "--yes", by="bob")
    world.advance(run)
    folder = world.root / "state" / "transcripts" / run
    folder.mkdir(parents=True)
    said = [("sent", "pki list\n"), ("received", "pki list\r\n<b>callbridge.crt</b>\r\ncms1> ")]
    lines = [json.dumps({"at": "t", "session": "s", "is": kind, "text": text}) for kind, text in said]
    (folder / "cms1.jsonl").write_text("\n".join(lines) + "\n")
    world.ok("runs", "report", run, "--out", world.root / "report.html")
    page = (world.root / "report.html").read_text()
    assert "&lt;b&gt;callbridge.crt&lt;/b&gt;</pre>" in page
    row = r">bob</td><td[^>]*>gate approved</td><td[^>]*>seoul/sign</td><td[^>]*><code>([^<]+)</code>"
    approved = re.search(row, page)
    digest = world.journal.state(run).lanes["seoul"].gates["seoul/sign"].digest
    assert approved is not None
    assert approved[1] == digest[:12]
    assert ">2030-01-01</td>" in page
    closed = world.journal.state(run).closed_at
    assert f"After {closed + timedelta(days=30):%Y-%m-%d} (`retention`) a person may delete them" in page
    assert "each bound to the one before it" in page
    assert "http://" not in page
    assert "https://" not in page


def test_journal_show_verify_and_export(world):
    """Every event is shown; the whole chain is called whole, a changed one ends with exit 1."""
    run = world.at_gate()
    assert world.json("journal", "show", run)[0]["kind"] == "run_created"
    assert "the chain is whole" in world.ok("journal", "verify", run)
    exported = [json.loads(line) for line in world.ok("journal", "export", run).splitlines()]
    assert exported[0]["plan"]["kind"] == "renewal"
    assert [event["n"] for event in exported[1:]] == list(range(1, len(exported)))
    world.journal.write(tamper)
    result = world.say("journal", "verify", run)
    assert result.exit_code == 1
    assert "event 2 was changed" in result.stderr


def test_backup_and_restore(world, monkeypatch):
    """A backup is private, whole, never written over; taken in elsewhere it has the same runs."""
    run = world.at_gate()
    file = world.root / "backup.db"
    world.ok("db", "backup", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert world.say("db", "backup", file).exit_code == 2
    refused = world.say("db", "restore", file, "--yes")
    assert refused.exit_code == 1
    assert "certbridge down" in refused.stderr
    monkeypatch.setenv("CERTBRIDGE_STATE", str(world.root / "other"))
    world.ok("db", "restore", file)
    with Journal.open(f"sqlite:///{world.root / 'other' / 'journal.db'}") as other:
        assert [one.run for one in other.runs()] == [run]


def test_restore_refuses_what_is_no_journal(world):
    """Another file is refused before anything is touched."""
    (world.root / "letter.txt").write_text("dear certbridge")
    result = world.say("db", "restore", world.root / "letter.txt", "--yes")
    assert result.exit_code == 2
    assert "is no journal" in result.stderr


def test_migrate_brings_a_new_journal_up(world):
    """The schema's number is told."""
    assert f"the journal has schema {tables.HEAD}" in world.ok("db", "migrate")


def test_unexpected_errors_are_a_sentence_and_debug_shows_where(world, monkeypatch):
    """No traceback by itself; with --debug there is one."""

    def fail(*_args, **_more):
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr("workflows.journal.Journal.runs", fail)
    result = world.say("runs", "list")
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert "ZeroDivisionError: of nothing" in result.stderr
    assert "Traceback" in world.say("--debug", "runs", "list").stderr


def test_yaml_says_the_same_as_json(world):
    """-o yaml is the same value."""
    import yaml

    world.at_gate()
    assert yaml.safe_load(world.ok("runs", "list", "-o", "yaml")) == world.json("runs", "list")


def test_closed_runs_are_told_by_their_outcome(world):
    """A run that was closed as failed ends a watch with 1."""
    run = world.started()
    world.journal.write(lambda tx: runs.close_run(tx, run, "failed"))
    assert world.say("runs", "watch", run).exit_code == 1
    with pytest.raises(JournalError):
        world.journal.state("other")


def test_run_that_left_a_server_out_ends_with_1(world):
    """Within the fail limit the others are renewed, but whoever only looks at the exit code must notice."""
    world.fleet.write_text("fail_limit: 1\n" + world.fleet.read_text())
    world.survey()
    world.beat()
    run = world.ok("run", "--yes").strip()
    world.advance(run, fail={"seoul/cms2/prepare": "no route to host"})
    world.ok("gates", "approve", run, "--yes", by="bob")
    world.ok("gates", "deliver", world.sign(run, pem))
    world.advance(run)
    world.ok("gates", "approve", run, "--gate", "go", "--yes", by="bob")
    world.advance(run)
    result = world.say("runs", "watch", run)
    assert (result.exit_code, "no route to host" in result.stdout) == (1, True)
    assert world.journal.state(run).outcome == "done"
