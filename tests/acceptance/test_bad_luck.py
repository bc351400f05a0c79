"""What goes wrong on servers: a clear sentence, the remedy, nothing half-done, and `runs resume` works after mending.

Each test has clusters of its own, so none leaves anything for another.
"""

from __future__ import annotations

from typing import Any

import pytest
from acceptance_engine import Engine, Shape
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from renewing import (
    FAILED,
    WAITS,
    Renewal,
    at_console,
    begin,
    count,
    delete_file,
    marked,
    must,
    nodes_of,
    planned,
    read_file,
    say,
    seen,
)

from simulator import pki

ENGINE = Shape(
    clusters=17,
    nodes=1,
    key_pool="400",
    simulator=("--services=webadmin,callbridge",),
    settings={"lease_s": 8.0, "longest_poll_s": 2.0},
)
PORTS = {"webadmin": "webadmin", "callbridge": "callbridge"}


@pytest.fixture(scope="module", autouse=True)
def _surveyed(engine: Engine) -> None:
    """Read the whole fleet once; every test changes its own servers only."""
    must(engine, "survey")


@pytest.fixture(autouse=True)
def _mended(engine: Engine) -> Any:
    """Leave no fault behind."""
    yield
    engine.clear_faults()


def node_of(engine: Engine, cluster: str) -> str:
    """Return the only node of *cluster*."""
    (node,) = nodes_of(engine, cluster)
    return node


def leaves(engine: Engine, node: str) -> dict[str, str]:
    """Return {service: fingerprint of the leaf that is served}."""
    services = engine.state_of(node)["services"]
    return {name: services[name]["endpoints"][endpoint]["serves"]["fingerprint"] for name, endpoint in PORTS.items()}


def why(run: Renewal, part: str) -> str:
    """Return the sentence of a step that failed, with its remedy."""
    found = run.part(part)
    assert found["status"] == "failed"
    assert found["error"]["remedy"] != ""
    return f"{found['error']['text']} → {found['error']['remedy']}"


def cut_off(engine: Engine, node: str) -> None:
    """Cut all connections of *node*, so that the next step logs in again."""
    engine.simulator({"do": "remove", "id": engine.fault("unreachable", node, match="ssh")})


# ── reaching a server ────────────────────────────────────────────────────────────────────────────────────────────────
def test_survey_of_a_silent_server_reads_the_others_and_says_which(engine):
    """Exit code 1, a sentence and a remedy for the one; the facts of the other are there."""
    silent, other = node_of(engine, "seoul"), node_of(engine, "busan")
    engine.fault("unreachable", silent, match="ssh")
    said = say(engine, "survey", "--cluster", "seoul", "--cluster", "busan", "-o", "json")
    assert said.code == FAILED
    assert (silent in said.err, "does not answer" in said.err, "Check address, port" in said.err) == (True,) * 3
    assert other in said.out
    assert must(engine, "survey", "--cluster", "busan").code == 0


def test_server_that_goes_away_while_it_makes_a_key_stops_its_lane_only(engine):
    """The other lane reaches its gate; after the reboot `resume` goes on, and `pki csr` is not sent again."""
    node = node_of(engine, "incheon")
    engine.fault("reboot", node, match="pki csr *", seconds=60)
    run = begin(engine, "--cluster", "incheon", "--cluster", "busan")
    run.watch(WAITS)
    assert (run.lane("incheon")["status"], run.lane("busan")["status"]) == ("stopped", "waiting")
    assert "does not answer" in why(run, f"incheon/{node}/request/callbridge")
    engine.simulator({"do": "reboot", "node": node, "seconds": 0.1})
    wait_until_it_answers(engine, node)
    run.resume()
    run.watch(WAITS)
    assert (run.lane("incheon")["status"], count(seen(engine, node), "pki csr")) == ("waiting", 1)
    must(engine, "runs", "cancel", run.run, "--yes")


def test_changed_host_key_gets_no_password(engine):
    """No login is even tried; the sentence says why and how to pin again; with the old key back the run goes on."""
    node = node_of(engine, "daegu")
    cut_off(engine, node)
    engine.fault("host-key-change", node)
    after = marked(engine)
    run = begin(engine, "--cluster", "daegu")
    run.watch(FAILED)
    sentence = why(run, f"daegu/{node}/prepare")
    logins = [one for one in engine.log(node=node) if one["number"] > after and one["kind"].startswith("login")]
    assert ("no password was sent" in sentence, "trust NODE --replace" in sentence) == (True, True)
    assert logins == []
    engine.clear_faults()
    run.resume()
    run.watch(WAITS)


# ── making keys and requests ─────────────────────────────────────────────────────────────────────────────────────────
def test_question_that_the_plan_does_not_expect_is_not_answered(engine):
    """Ctrl-C is sent, no key is made, the question stands in the error; asked no more, the run goes on."""
    node = node_of(engine, "daejeon")
    engine.fault("question", node, match="pki csr *", text="Overwrite all keys? (Y/n)")
    run = begin(engine, "--cluster", "daejeon")
    run.watch(FAILED)
    assert "Overwrite all keys? (Y/n)" in why(run, f"daejeon/{node}/request/callbridge")
    assert "callbridge-1.key" not in engine.state_of(node)["files"]
    run.resume()
    run.watch(WAITS)


def test_file_name_taken_since_the_plan_is_seen_before_anything_is_made(engine):
    """Somebody's file has the fresh name: the step names it, nothing is sent; without it the run goes on."""
    node = node_of(engine, "gwangju")
    at_console(engine, node, files={"callbridge-1.crt": b"somebody's own\n"})
    after = marked(engine)
    run = begin(engine, "--cluster", "gwangju")
    run.watch(FAILED)
    assert "callbridge-1.crt is there already" in why(run, f"gwangju/{node}/prepare")
    assert seen(engine, node, after=after) == []
    delete_file(engine, node, "callbridge-1.crt")
    run.resume()
    run.watch(WAITS)


def test_request_that_does_not_say_what_was_wished_stops_the_lane(engine):
    """Another CSR under the right name is fetched: names and subject are compared, and the difference is told."""
    node = node_of(engine, "suwon")
    engine.fault("cut-after", node, match="pki csr *")
    run = begin(engine, "--cluster", "suwon")
    engine.wait(lambda: "callbridge-1.csr" in engine.state_of(node)["files"], 30, "the CSR is made")
    right = read_file(engine, node, "callbridge-1.csr")
    at_console(engine, node, files={"callbridge-1.csr": other_request()})
    run.watch(FAILED)
    assert "CSR does not say what was wished" in why(run, f"suwon/{node}/request/callbridge")
    at_console(engine, node, files={"callbridge-1.csr": right})
    run.resume()
    run.watch(WAITS)
    assert count(seen(engine, node), "pki csr") == 1


def other_request() -> bytes:
    """Return a CSR for somebody else."""
    key = pki.KeyPool.of_size(1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody.example.org")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(next(key._keys), SHA256()).public_bytes(Encoding.PEM)


# ── uploads ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("cluster", "kind"), [("ulsan", "partial-upload"), ("jeju", "corrupt-upload")])
def test_upload_that_went_wrong_is_overwritten_before_anything_refers_to_it(engine, cluster, kind):
    """A piece of a file, or a wrong bit: it is read back, written again, and only then named in a command."""
    node = node_of(engine, cluster)
    engine.fault(kind, node, match="upload callbridge-1.crt")
    run = begin(engine, "--cluster", cluster)
    run.to_go()
    uploads = engine.log(node=node, kind="upload", text="callbridge-1.crt", phase="begin")
    named = [one for one in engine.log(node=node, kind="command", phase="begin") if "callbridge-1.crt" in one["text"]]
    whole = x509.load_pem_x509_certificates(read_file(engine, node, "callbridge-1.crt"))
    assert (len(uploads), len(whole)) == (2, 1)
    assert named[0]["number"] > uploads[-1]["number"]


def test_upload_that_goes_wrong_every_time_stops_before_anything_refers_to_it(engine):
    """The sentence names the file; once the cause is mended, `resume` delivers it."""
    node = node_of(engine, "sejong")
    engine.fault("corrupt-upload", node, match="upload callbridge-1.crt", times=100)
    run = begin(engine, "--cluster", "sejong")
    run.watch(WAITS)
    run.approve()
    run.watch(FAILED)
    assert "callbridge-1.crt" in why(run, f"sejong/{node}/deliver/callbridge")
    assert [one for one in engine.log(node=node, kind="command") if "callbridge-1.crt" in one["text"]] == []
    engine.clear_faults()
    run.resume()
    run.watch(WAITS)
    assert run.lane()["waiting"]["name"] == "go"


# ── cut connections ──────────────────────────────────────────────────────────────────────────────────────────────────
# The second restart of a run is the one of stage 700; stage 600 has one for the trust stores.
CUT_LINES = {"pki csr *": 0, "webadmin enable": 0, "callbridge restart": 1}


def sent(engine: Engine, run: Renewal, node: str) -> dict[str, int]:
    """Return how often each line was sent, and check that whatever else was sent is as planned."""
    changes = seen(engine, node)
    assert list(dict.fromkeys(one.said for one in changes)) == list(
        dict.fromkeys(one.said for one in planned(run.plan(), node))
    )
    return {line: count(changes, line.rstrip(" *")) for line in CUT_LINES}


def test_lines_cut_after_they_were_done_are_not_sent_again(engine):
    """The answers to `pki csr`, `webadmin enable` and the restart are lost; the server shows that all were done."""
    node = node_of(engine, "seoul2")
    for line, skip in CUT_LINES.items():
        engine.fault("cut-after", node, match=line, skip=skip)
    run = begin(engine, "--cluster", "seoul2")
    run.to_the_end()
    assert sent(engine, run, node) == {"pki csr *": 1, "webadmin enable": 1, "callbridge restart": 2}


def test_lines_cut_before_they_were_done_are_sent_once_more(engine):
    """The server shows that nothing happened, so the run sends the line again and ends well by itself."""
    node = node_of(engine, "busan2")
    for line, skip in CUT_LINES.items():
        engine.fault("cut-before", node, match=line, skip=skip)
    run = begin(engine, "--cluster", "busan2")
    run.to_the_end()
    assert sent(engine, run, node) == {"pki csr *": 2, "webadmin enable": 2, "callbridge restart": 3}


def test_reboot_in_the_middle_of_apply_is_waited_out(engine):
    """The server goes away after `webadmin enable`; the run finds it done when it is back, and ends well by itself."""
    node = node_of(engine, "incheon2")
    engine.fault("reboot", node, match="webadmin enable", seconds=1)
    begin(engine, "--cluster", "incheon2").to_the_end()
    assert count(seen(engine, node), "webadmin enable") == 1


# ── putting back ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_refused_line_puts_the_server_back_and_stops_its_lane_only(engine):
    """FAILURE at `webadmin enable`: the old leaf is on every port, the other lane ends, `resume` ends this one too."""
    node, other = node_of(engine, "daegu2"), node_of(engine, "daejeon2")
    old, others_old = leaves(engine, node), leaves(engine, other)
    engine.fault("failure", node, match="webadmin enable", text="no space left")
    run = begin(engine, "--cluster", "daegu2", "--cluster", "daejeon2")
    run.to_go()
    run.approve("--gate", "go")
    run.watch(FAILED)
    failed = run.part(f"daegu2/{node}/apply/webadmin")
    assert "no space left" in why(run, failed["id"])
    assert (failed["data"]["put_back"], leaves(engine, node)) == (True, old)
    assert (run.lane("daegu2")["status"], run.lane("daejeon2")["status"]) == ("stopped", "done")
    assert set(leaves(engine, other).values()).isdisjoint(others_old.values())
    run.resume()
    run.watch(0)
    assert set(leaves(engine, node).values()).isdisjoint(old.values())


def test_port_that_goes_on_serving_the_old_certificate_puts_the_server_back(engine):
    """The settings are new but the port is not: proof fails, the old pair is set again everywhere, the lane stops."""
    node = node_of(engine, "gwangju2")
    old = leaves(engine, node)
    engine.fault("stale-listener", node, match="callbridge")
    run = begin(engine, "--cluster", "gwangju2")
    run.to_go()
    run.approve("--gate", "go")
    run.watch(FAILED)
    assert "still serves a certificate" in why(run, f"gwangju2/{node}/prove")
    state = engine.state_of(node)["services"]
    settings = {state[name]["endpoints"][endpoint]["certificate"] for name, endpoint in PORTS.items()}
    assert (leaves(engine, node), settings) == (old, {"callbridge.crt"})
    engine.clear_faults()
    run.resume()
    run.watch(0)
    assert set(leaves(engine, node).values()).isdisjoint(old.values())


def test_server_changed_by_somebody_after_the_approval_is_left_alone(engine):
    """The setting read again after `go` differs: the difference is told and nothing is sent; set back, it goes on."""
    node = node_of(engine, "suwon2")
    run = begin(engine, "--cluster", "suwon2")
    run.to_go()
    at_console(engine, node, "webadmin certs callbridge.key callbridge.crt")
    after = marked(engine)
    run.approve("--gate", "go")
    run.watch(FAILED)
    sentence = why(run, f"suwon2/{node}/recheck")
    assert "bundle none instead of callbridge-bundle.crt" in sentence
    assert seen(engine, node, after=after) == []
    at_console(engine, node, "webadmin certs callbridge.key callbridge.crt callbridge-bundle.crt")
    run.resume()
    run.watch(0)


def wait_until_it_answers(engine: Engine, node: str) -> None:
    """Wait until a person can log in to *node* again."""

    def answers() -> bool:
        try:
            at_console(engine, node, "version")
        except OSError:
            return False
        return True

    engine.wait(answers, 30, f"{node} answers")
