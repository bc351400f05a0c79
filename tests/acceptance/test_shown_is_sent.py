"""What a plan shows is what the servers get: every line and transfer, in order, nothing else (shows 4 and 7)."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from acceptance_engine import Engine, Shape
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from renewing import (
    Renewal,
    at_console,
    begin,
    cluster_of,
    count,
    marked,
    must,
    nodes_of,
    password,
    planned,
    rewrite,
    same_as_planned,
    seen,
    steps_of,
)

SERVICES = "webadmin,callbridge,webbridge3,turn,recorder,streamer,scheduler"
ENGINE = Shape(clusters=6, nodes=2, key_pool="600", simulator=(f"--services={SERVICES}",), threads=32)
# Cluster by cluster, what its inventory is about; the last one belongs to the test with keys from OpenSSL.
EVERYTHING, SAME_FILES, ENGINE_KEYS, HANDED_OUT, OFF_AND_UNSEEN, KEY_FILES = (
    "seoul",
    "busan",
    "incheon",
    "daegu",
    "daejeon",
    "gwangju",
)
TOGETHER = (EVERYTHING, SAME_FILES, ENGINE_KEYS, HANDED_OUT, OFF_AND_UNSEEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole run over five clusters: the plan as it was shown before, and where the log stood then."""

    run: Renewal
    plan: dict[str, Any]
    after: int
    engine: Engine


def shared(inventory: dict[str, Any], cluster: str, **more: str | bool) -> None:
    """Let the cluster have one certificate only, for webadmin and callbridge of all its nodes together."""
    one = cluster_of(inventory, cluster)
    names = [f"{node['name']}.example.com" for node in one["nodes"]]
    one["certificates"] = [
        {
            "name": "shared",
            "per": "cluster",
            "services": ["webadmin", "callbridge"],
            "subject": {"CN": "join.example.com", "O": "Example"},
            "subject_alt_names": {"dns": ["join.example.com", *names]},
            **more,
        }
    ]


def only(inventory: dict[str, Any], cluster: str, *names: str) -> list[dict[str, Any]]:
    """Keep the certificates called *names* of a cluster, and return them."""
    one = cluster_of(inventory, cluster)
    one["certificates"] = [certificate for certificate in one["certificates"] if certificate["name"] in names]
    return list(one["certificates"])


def inventory_of_all_kinds(inventory: dict[str, Any]) -> None:
    """Write what makes each cluster different."""
    for certificate in only(inventory, SAME_FILES, "callbridge", "webbridge", "recorder"):
        certificate["files"] = "same"
    shared(inventory, ENGINE_KEYS, key="engine")
    shared(inventory, HANDED_OUT, key="node", allow_key_download=True)
    only(inventory, OFF_AND_UNSEEN, "turn", "webbridge", "streamer")
    for node in cluster_of(inventory, OFF_AND_UNSEEN)["nodes"]:
        node["proof"]["webbridge3.https"] = "none"


@pytest.fixture(scope="module")
def whole(engine: Engine) -> Whole:
    """Give a run over all clusters but the last, from survey to the end."""
    rewrite(engine, inventory_of_all_kinds)
    for node in nodes_of(engine, OFF_AND_UNSEEN):
        at_console(engine, node, "turn disable")
    must(engine, "survey")
    after = marked(engine)
    clusters = [word for name in TOGETHER for word in ("--cluster", name)]
    shown = engine.ok("plan", "-o", "json", *clusters)
    assert engine.ok("plan", "-o", "json", *clusters) == shown
    run = begin(engine, *clusters)
    run.to_the_end()
    return Whole(run=run, plan=json.loads(shown)["plan"], after=after, engine=engine)


def test_a_plan_made_twice_has_the_same_bytes(engine):
    """Two processes, each with its own hash seed, write the same plan of the whole fleet."""
    rewrite(engine, inventory_of_all_kinds)
    must(engine, "survey")
    words = ("plan", "--within", "500d", "-o", "json")  # also what another test renewed just now
    first, second = engine.ok(*words), engine.ok(*words)
    assert (first == second, len(json.loads(first)["plan"]["lanes"]) > 0) == (True, True)


@pytest.mark.parametrize("cluster", TOGETHER)
def test_servers_get_exactly_what_the_plan_showed(whole, cluster):
    """Changing lines, uploads and renames are those of the plan, node by node, in its order."""
    for node in nodes_of(whole.engine, cluster):
        assert len(planned(whole.plan, node)) > 0
        same_as_planned(whole.engine, whole.plan, node, whole.after)


def test_the_run_carries_the_plan_that_was_shown(whole):
    """The plan in the journal is the one that `plan -o json` printed."""
    assert json.loads(json.dumps(whole.run.plan())) == whole.plan


def test_kept_file_names_are_made_by_renaming(whole):
    """With `files: same` no service gets a `certs` line; active files move aside and new ones take their names."""
    node = nodes_of(whole.engine, SAME_FILES)[0]
    changes = seen(whole.engine, node, after=whole.after)
    assert any(one.said == ("rename", "callbridge.key callbridge-old1.key") for one in changes)
    assert [one.text for one in changes if re.match(r"\w+( \w+)? certs ", one.text)] == []
    endpoint = whole.engine.state_of(node)["services"]["callbridge"]["endpoints"]["callbridge"]
    assert (endpoint["key"], endpoint["serves"]["chain"]) == ("callbridge.key", 3)


def test_a_key_of_the_engine_is_the_same_on_every_server(whole):
    """`key: engine` for the whole cluster: no `pki csr` anywhere, one leaf on both servers."""
    nodes = nodes_of(whole.engine, ENGINE_KEYS)
    assert [count(seen(whole.engine, node, after=whole.after), "pki csr") for node in nodes] == [0, 0]
    assert len({served(whole.engine, node, "callbridge") for node in nodes}) == 1


def test_a_shared_pair_is_handed_from_the_server_that_made_it(whole):
    """`key: node` with `allow_key_download`: one `pki csr`, the key read there and written to the other server."""
    first, second = nodes_of(whole.engine, HANDED_OUT)
    requests = {node: count(seen(whole.engine, node, after=whole.after), "pki csr") for node in (first, second)}
    (source,) = [node for node, number in requests.items() if number]
    (receiver,) = {first, second} - {source}
    read = [one["text"] for one in whole.engine.log(node=source, kind="download", phase="end")]
    written = [one["text"] for one in whole.engine.log(node=receiver, kind="upload", phase="end")]
    assert requests[source] == 1
    assert ("shared-1.key" in read, "shared-1.key" in written) == (True, True)
    assert served(whole.engine, first, "callbridge") == served(whole.engine, second, "callbridge")


def test_a_service_that_was_off_gets_its_files_and_stays_off(whole):
    """TURN was off: it is set to the new files, neither enabled nor restarted."""
    for node in nodes_of(whole.engine, OFF_AND_UNSEEN):
        turn = whole.engine.state_of(node)["services"]["turn"]
        (line,) = [one.text for one in seen(whole.engine, node, after=whole.after) if one.text.startswith("turn ")]
        words = line.split()
        assert (turn["enabled"], words[:3]) == (False, ["turn", "certs", "turn-1.key"])
        assert turn["endpoints"]["turn"]["certificate"] == words[3]


def test_a_port_without_proof_is_reported_as_not_seen(whole):
    """`proof: none`: status and files prove it, and the report says that nobody looked at the port."""
    for node in nodes_of(whole.engine, OFF_AND_UNSEEN):
        ports = whole.run.part(f"{OFF_AND_UNSEEN}/{node}/prove")["data"]["ports"]
        looked = {one["service"]: one["seen"] for one in ports}
        assert (looked["webbridge3.https"], looked["webbridge3.c2w"], looked["streamer"]) == (False, True, True)
        assert [one["fault"] for one in ports if one["fault"]] == []


def test_the_same_renewal_again_has_nothing_to_do(whole):
    """After a new survey nothing is due, and nothing is sent (checker, I10)."""
    clusters = [word for name in TOGETHER for word in ("--cluster", name)]
    must(whole.engine, "survey", *clusters)
    before = {node: len(seen(whole.engine, node)) for name in TOGETHER for node in nodes_of(whole.engine, name)}
    said = must(whole.engine, "run", "--yes", *clusters)
    assert "Nothing is due" in said.err
    assert {node: len(seen(whole.engine, node)) for node in before} == before


def test_no_secret_is_in_any_file_or_command_line(whole):
    """Passwords and private keys are neither in the state (journal, logs, transcripts, broker) nor in /proc."""
    canaries = [password(whole.engine).encode(), b"turnsecret", b"PRIVATE KEY-----\nMII"]
    kept = [path for path in whole.engine.state.rglob("*") if path.is_file() and path.name != "credentials.yaml"]
    found = [(path.name, secret) for path in kept for secret in canaries if secret in path.read_bytes()]
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in whole.engine.alive().values()]
    assert {"journal.db", "control.log"} < {path.name for path in kept}
    assert any("transcripts" in path.parts for path in kept)
    assert found == []
    assert [line for line in lines if any(secret in line for secret in canaries)] == []


# ── seen with OpenSSL ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.needs_openssl
def test_openssl_likes_every_request(whole, tmp_path):
    """`openssl req -verify` for each file of `gates csr`, and the names in them are the wished ones."""
    must(whole.engine, "gates", "csr", whole.run.run, "--out", tmp_path)
    files = sorted(tmp_path.glob("*.csr"))
    said = [openssl("req", "-verify", "-noout", "-in", str(file)) for file in files]
    assert len(files) == len(whole.plan["wishes"])
    assert [one for one in said if "verify OK" not in one] == []


@pytest.mark.needs_openssl
@pytest.mark.parametrize("cluster", TOGETHER)
def test_openssl_sees_the_new_leaf_with_its_whole_chain_on_every_port(whole, cluster, tmp_path):
    """`openssl s_client` trusts only the root, so the chain must come from the server; its key is that of the CSR."""
    requests = json.loads(must(whole.engine, "gates", "csr", whole.run.run, "--out", tmp_path, "-o", "json").out)
    files = {one["wish"]: tmp_path / one["file"] for one in requests["requests"]}
    ports = [
        port
        for node in nodes_of(whole.engine, cluster)
        for port in whole.run.part(f"{cluster}/{node}/prove")["data"]["ports"]
        if port["seen"]
    ]
    wishes = {
        (port["address"], port["port"]): port["wish"]
        for step in planned_proofs(whole.plan)
        for port in step["params"]["ports"]
    }
    root = str(whole.engine.out / "ca" / "ca.crt")
    assert len(ports) > 0
    for port in ports:
        address = (port["address"], port["port"])
        target = f"{address[0]}:{address[1]}"
        said = openssl("s_client", "-connect", target, "-CAfile", root, "-showcerts", stdin="Q\n")
        served_chain = x509.load_pem_x509_certificates(said.encode())
        request = x509.load_pem_x509_csr(files[wishes[address]].read_bytes())
        assert "Verify return code: 0 (ok)" in said, target
        assert public_key(served_chain[0]) == public_key(request), target
        assert len(served_chain) >= 2, target


@pytest.mark.needs_openssl
def test_a_key_and_request_of_openssl_are_used(engine, tmp_path):
    """`key: file`: key and CSR come from OpenSSL, go to every server of the cluster, and are served there."""
    nodes = nodes_of(engine, KEY_FILES)
    names = ",".join(f"DNS:{name}" for name in ("join.example.com", *(f"{node}.example.com" for node in nodes)))
    key, csr = tmp_path / "own.key", tmp_path / "own.csr"
    subject = ["-subj", "/CN=join.example.com/O=Example", "-addext", f"subjectAltName={names}"]
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", str(key), "-out", str(csr))
    rewrite(engine, lambda inventory: shared(inventory, KEY_FILES, key="file", key_file=str(key), csr_file=str(csr)))
    must(engine, "survey", "--cluster", KEY_FILES)
    after = marked(engine)
    shown = json.loads(must(engine, "plan", "-o", "json", "--cluster", KEY_FILES).out)["plan"]
    run = begin(engine, "--cluster", KEY_FILES)
    run.to_the_end()
    for node in nodes:
        same_as_planned(engine, shown, node, after)
        assert count(seen(engine, node, after=after), "pki csr") == 0
    wanted = public_key(x509.load_pem_x509_csr(csr.read_bytes()))
    (address,) = {
        one["address"]
        for cluster in yaml.safe_load((engine.out / "fleet.yaml").read_text())["clusters"]
        for one in cluster["nodes"]
        if one["name"] == nodes[1]
    }
    said = openssl("s_client", "-connect", f"{address}:8443", "-showcerts", stdin="Q\n")
    assert public_key(x509.load_pem_x509_certificates(said.encode())[0]) == wanted


def openssl(*words: str, stdin: str = "") -> str:
    """Return all that `openssl words…` says."""
    done = subprocess.run(["openssl", *words], input=stdin, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def public_key(item: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return the public key of a certificate or request, to compare."""
    return item.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def planned_proofs(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of *plan* that prove."""
    return [step for step in steps_of(plan) if step["action"] == "prove"]


def served(engine: Engine, node: str, endpoint: str) -> str:
    """Return the fingerprint of the leaf that an endpoint of *node* serves now."""
    service = engine.state_of(node)["services"][endpoint.split(".", maxsplit=1)[0]]
    return str(service["endpoints"][endpoint]["serves"]["fingerprint"])
