"""Bad input, seen from outside: each case is a clear sentence with the remedy, the right exit code, nothing half-done.

These are the cases of the issue that no server has a part in; those of servers and workers are tested with an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests import ca as defects
from tests.ca import pem
from tests.integration.cli.cli_world import FLEET, World
from workflows.journal import gates, stock


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Give a world of its own."""
    made = World(tmp_path, monkeypatch)
    yield made
    made.journal.close()


# ── the inventory ────────────────────────────────────────────────────────────────────────────────────────────────────
INVENTORY = {
    "unknown key": ("port: 2201", "prot: 2201", "fleet.yaml:6: unknown key 'prot'", "Did you mean"),
    "bad CN": (
        'CN: "{node}.example.com"',
        "CN: cms one",
        "fleet.yaml:10: CN 'cms one' is neither an FQDN nor a wildcard",
        "wildcard (*.example.com)",
    ),
    "SAN list without the CN": (
        'dns: ["{node}.example.com", join.example.com]',
        "dns: [join.example.com]",
        "the names do not hold the CN 'cms1.example.com'",
        "Add the CN to `dns`",
    ),
    "two nodes of one name": ("name: cms2", "name: cms1", "two nodes are named 'cms1'", "rename one"),
    "a service that the release does not have": (
        "[callbridge, webadmin]",
        "[xmpp]",
        "release 3.9 (node cms1) has no service 'xmpp'",
        "correct the release or the service",
    ),
    "no YAML": ("fleet: test", "fleet: [test", "fleet.yaml:", "→"),
}


@pytest.mark.parametrize("command", [("fleet", "check"), ("plan",), ("survey",)])
@pytest.mark.parametrize("case", INVENTORY)
def test_faults_of_the_inventory_are_named_with_line_and_remedy(world, case, command):
    """Exit 2, file and line, what is wrong, what to do; no command goes on with such an inventory."""
    old, new, what, remedy = INVENTORY[case]
    assert old in FLEET
    world.fleet.write_text(FLEET.replace(old, new, 1))
    result = world.say(*command)
    assert result.exit_code == 2
    assert what in result.stderr
    assert remedy in result.stderr
    assert result.stdout == ""
    assert world.journal.runs() == []


def test_all_faults_are_told_in_one_go(world):
    """Three faults, three lines with their places."""
    text = FLEET.replace("port: 2201", "prot: 2201").replace("name: cms2", "name: cms1").replace("[callbridge", "[xmpp")
    world.fleet.write_text(text)
    result = world.say("fleet", "check")
    assert result.exit_code == 2
    for what in ("unknown key 'prot'", "two nodes are named 'cms1'", "has no service 'xmpp'"):
        assert what in result.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("fleet", "check", "--fleet", "nowhere.yaml"), "nowhere.yaml: the inventory cannot be read"),
        (("plan", "--node", "cms3"), "unknown node 'cms3'"),
        (("plan", "--within", "soon"), "'soon' is no length of time"),
        (("plan", "--now", "yesterday"), "'yesterday' is no time"),
        (("trust",), "No node is named."),
        (("run", "nowhere.json"), "nowhere.json: the plan cannot be read"),
        (("gates", "approve"), "No run waits for people."),
        (("gates", "deliver", "nowhere.pem"), "nowhere.pem: the certificates cannot be read"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_wrong_arguments_are_exit_2(world, words, what):
    """A wrong word is a sentence, before anything is done."""
    result = world.say(*words)
    assert result.exit_code == 2
    assert what in result.stderr
    assert "Traceback" not in result.stderr


# ── keys and requests that are brought in ────────────────────────────────────────────────────────────────────────────
def _bring(world: World, key: bytes, csr: bytes) -> None:
    (world.root / "own.key").write_bytes(key)
    (world.root / "own.csr").write_bytes(csr)
    extra = "        key: file\n        key_file: own.key\n        csr_file: own.csr\n        nodes: [cms1]\n"
    world.fleet.write_text(FLEET + extra)
    world.survey()
    world.beat()


def _pair() -> tuple[bytes, bytes, bytes]:
    """Return a key, a CSR for it, and a CSR of another key, all for the names that are wished."""
    from workflows.x509.names import Subject, SubjectAltNames
    from workflows.x509.request import KeyKind, key_pem, make_key, make_request

    names = SubjectAltNames(dns=("cms1.example.com", "join.example.com"))
    subject = Subject(CN="cms1.example.com")
    key, other = make_key(KeyKind.EC_P256), make_key(KeyKind.EC_P256)
    return key_pem(key), make_request(key, subject, names), make_request(other, subject, names)


def _other_names(key: bytes) -> bytes:
    from workflows.x509.names import Subject, SubjectAltNames
    from workflows.x509.request import make_request, read_private_key

    return make_request(read_private_key(key), Subject(CN="cms9.example.com"), SubjectAltNames())


def test_csr_of_another_key_is_refused(world):
    """A CSR that was not made with the key beside it starts nothing."""
    key, _, other = _pair()
    _bring(world, key, other)
    result = world.say("run", "--yes")
    assert result.exit_code == 2
    assert "own.csr: is not for the key in own.key" in result.stderr
    assert "→ Bring the CSR that was made with this key." in result.stderr
    assert world.journal.runs() == []


def test_csr_that_does_not_say_what_was_wished_is_refused(world):
    """Another CN and missing names are both told."""
    key, _, _ = _pair()
    _bring(world, key, _other_names(key))
    result = world.say("run", "--yes")
    assert result.exit_code == 2
    assert "CN is 'cms9.example.com'" in result.stderr
    assert "the request does not ask for" in result.stderr
    assert world.journal.runs() == []


@pytest.mark.parametrize("bad", ["key", "csr"])
def test_unreadable_key_or_csr_is_refused_without_showing_it(world, bad):
    """What was in the file is never repeated."""
    key, csr, _ = _pair()
    _bring(world, b"hunter2" if bad == "key" else key, b"hunter2" if bad == "csr" else csr)
    result = world.say("run", "--yes")
    assert result.exit_code == 2
    assert f"own.{bad}: this is no readable" in result.stderr
    assert "hunter2" not in result.stderr


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────
CERTIFICATES: dict[str, tuple[Callable[..., defects.Delivery], str, str]] = {
    "for another key": (defects.wrong_key, "belongs to none of the open requests", "made from this run's CSR"),
    "missing SAN": (defects.missing_name, "join.example.com", "→"),
    "no clientAuth": (defects.without_client_auth, "client", "→"),
    "expired": (defects.expired, "it expired on", "Have the CA issue it again"),
    "chain incomplete": (defects.missing_intermediate, "is missing", "Add the certificate of"),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_bad_certificates_are_named_and_nothing_is_taken(world, case):
    """Exit 2, the file and the fault with its remedy; nothing is taken, and the right ones may still come."""
    make, what, remedy = CERTIFICATES[case]
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    folder = world.sign(run, pem)
    csr = world.csrs(run)["seoul/cms1/callbridge"]
    # Alone in its pile: where an issuer is missing, the good one beside it would bring it along.
    bad = world.root / "bad.pem"
    bad.write_bytes(pem(make(world.ca, csr).everything))
    result = world.say("gates", "deliver", bad)
    assert result.exit_code == 2
    assert "bad.pem" in result.stderr
    assert what in result.stderr
    assert remedy in result.stderr
    assert world.journal.state(run).lanes["seoul"].certificates == {}
    assert "lane seoul has all its certificates" in world.ok("gates", "deliver", folder)


def test_one_bad_certificate_keeps_the_good_ones_out(world):
    """Nothing touches a server until all that came is right."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    good, bad = world.csrs(run).values()
    (world.root / "good.pem").write_bytes(pem(world.ca.deliver(good).everything))
    (world.root / "bad.pem").write_bytes(pem(defects.expired(world.ca, bad).everything))
    result = world.say("gates", "deliver", "good.pem", "bad.pem")
    assert result.exit_code == 2
    assert "good.pem" not in result.stderr
    assert world.journal.state(run).lanes["seoul"].certificates == {}


def test_private_key_in_the_pile_is_refused_and_not_kept(world):
    """The file is named, the key is neither shown nor written anywhere."""
    run = world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    key = defects.new_key()
    csr = world.csrs(run)["seoul/cms1/callbridge"]
    data = defects.with_private_key(world.ca.deliver(csr).everything, key)
    (world.root / "mail.pem").write_bytes(data)
    result = world.say("gates", "deliver", "mail.pem")
    assert result.exit_code == 2
    assert "mail.pem" in result.stderr
    assert "private key" in result.stderr
    assert "PRIVATE KEY-----" not in result.stderr
    written = b"".join(file.read_bytes() for file in (world.root / "state").glob("journal.db*"))
    assert b"PRIVATE KEY-----" not in written


def test_certificates_before_the_approval_are_refused(world):
    """Nobody delivers to a gate that is not approved."""
    run = world.at_gate()
    result = world.say("gates", "deliver", world.sign(run, pem))
    assert result.exit_code == 2
    assert "The sign gate is not approved yet" in result.stderr
    assert f"certbridge gates approve {run}" in result.stderr


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_whoever_asked_may_not_approve(world):
    """Four eyes: exit 2, who may, and the gate stays open for another person."""
    world.at_gate(by="ann")
    result = world.say("gates", "approve", "--yes", by="ann")
    assert result.exit_code == 2
    assert "ann asked for this run and may not approve it" in result.stderr
    assert "→ Ask another person to approve" in result.stderr
    assert world.json("gates", "list")[0]["status"] == "open"
    world.ok("gates", "approve", "--yes", by="bob")


def test_a_fleet_without_four_eyes_lets_one_person_do_it(world):
    """Only the inventory can say so."""
    world.fleet.write_text(FLEET.replace("fleet: test", "fleet: test\nfour_eyes: false"))
    world.at_gate(by="ann")
    world.ok("gates", "approve", "--yes", by="ann")


def test_second_approval_says_who_was_first(world):
    """One decision wins; the second is told who decided and when."""
    world.at_gate()
    world.ok("gates", "approve", "--yes", by="bob")
    result = world.say("gates", "approve", "--yes", by="carol")
    assert result.exit_code == 2
    assert "The gate was approved by bob at " in result.stderr
    assert "→ See `certbridge gates show`" in result.stderr


def test_approval_of_what_changed_meanwhile_is_refused(world):
    """The digest that was looked at is not the one that stands there now: exit 2, look again, the gate stays open."""
    run = world.at_gate()
    looked_at = world.json("gates", "list")[0]["digest"]
    changed = {"run": run, "lane": "seoul", "gate": "seoul/sign", "digest": "f" * 64}
    world.journal.write(partial(gates.reopen, **changed, summary={}, why="another CSR"))
    result = world.say("gates", "approve", "--yes", "--digest", looked_at, by="bob")
    assert result.exit_code == 2
    assert f"You looked at {looked_at[:12]}, but ffffffffffff stands there now." in result.stderr
    assert "→ Look at it again with `certbridge gates show`" in result.stderr
    assert world.json("gates", "list")[0]["status"] == "open"
    world.ok("gates", "approve", "--yes", "--digest", "f" * 64, by="bob")


def test_rejection_needs_a_reason(world):
    """Without --reason it is a usage error, with an empty one a refused decision."""
    world.at_gate()
    assert world.say("gates", "reject", "--yes", by="bob").exit_code == 2
    result = world.say("gates", "reject", "--reason", " ", "--yes", by="bob")
    assert result.exit_code == 2
    assert "A rejection needs a reason." in result.stderr


# ── plans and runs ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_changed_plan_file_is_refused(world):
    """A plan that somebody edited after it was made does not run."""
    world.survey()
    world.beat()
    file = world.root / "plan.json"
    world.ok("plan", "--save", file)
    file.write_text(file.read_text().replace("callbridge restart", "callbridge destroy"))
    result = world.say("run", file, "--yes")
    assert result.exit_code == 2
    assert "plan.json was changed after the plan was made" in result.stderr
    assert "→ Make it again" in result.stderr
    assert world.journal.runs() == []


def test_stale_plan_file_is_refused(world):
    """A newer survey that found something else makes a saved plan stale."""
    world.survey()
    world.beat()
    file = world.root / "plan.json"
    world.ok("plan", "--save", file)
    world.survey(9, "cms2")
    result = world.say("run", file, "--yes")
    assert result.exit_code == 2
    assert "The last survey of cms2 found something else than the plan was made from." in result.stderr
    assert "→ Make it again" in result.stderr
    assert world.journal.runs() == []


def test_survey_of_yesterday_is_not_enough(world, monkeypatch):
    """Facts older than 24 hours make no plan."""
    from api.cli import surroundings

    world.survey()
    later = surroundings.now() + timedelta(hours=25)
    monkeypatch.setattr("api.planning._now", lambda: later)
    result = world.say("plan")
    assert result.exit_code == 2
    assert "no survey of the last 24 hours: cms1, cms2" in result.stderr
    assert "→ Run `certbridge survey`, or plan with `--survey`." in result.stderr


def test_second_run_on_the_same_nodes_is_told_for_whom_it_waits(world):
    """Exit 4, which run holds the server and since when; after that run ends it may start."""
    first = world.at_gate()
    result = world.say("run", "--yes", by="bob")
    assert result.exit_code == 4
    assert f"cms1 is held by run {first} since " in result.stderr
    assert f"certbridge runs cancel {first}" in result.stderr
    assert [one.run for one in world.journal.runs()] == [first]


def test_damaged_list_of_host_keys_is_refused(world):
    """A file that is no list of host keys pins nothing."""
    (world.root / "pins.json").write_text('[{"address": "127.0.0.1"}]')
    result = world.say("trust", "--from", "pins.json")
    assert result.exit_code == 2
    assert "pins.json holds no list of host keys" in result.stderr
    assert world.journal.read(stock.pins) == {}
