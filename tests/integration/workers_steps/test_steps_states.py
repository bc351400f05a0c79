"""Services that are off, ports nobody can see, files that keep their names, keys made elsewhere, drift."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from steps_engine import RUN, Engine

from tests import ca
from workflows import actions
from workflows.journal import stock
from workflows.journal.events import Kind

Start = Callable[..., Engine]


def shared(document: dict[str, Any], **changes: Any) -> None:
    """Wish for one pair of the whole cluster."""
    (cluster,) = document["clusters"]
    for one in cluster["certificates"]:
        one |= {
            "per": "cluster",
            "allow_key_download": True,
            "subject": {"CN": "join.example.com"},
            "subject_alt_names": {"dns": ["join.example.com", "{node}.example.com"]},
            **changes,
        }


def test_a_service_that_was_off_gets_its_files_and_stays_off(start: Start) -> None:
    """Its `certs` line is sent, nothing is switched on, and the port is reported as not seen."""
    engine = start("turn", services=("turn",))
    engine.fleet.execute("cmscore1", "turn disable")
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    turn = engine.fleet.state("cmscore1")["services"]["turn"]
    (port,) = engine.step("seoul/cmscore1/prove").data["ports"]
    assert (turn["enabled"], turn["endpoints"]["turn"]["certificate"], port["seen"], port["fault"]) == (
        False,
        "turn-1-fullchain.crt",
        False,
        "",
    )


def out_of_sight(document: dict[str, Any]) -> None:
    """Say that TURN cannot be reached from here."""
    for node in document["clusters"][0]["nodes"]:
        node["proof"]["turn"] = "none"


def test_a_port_out_of_sight_is_proved_by_status_and_file(start: Start) -> None:
    """Reported as not seen, with the certificate that the file holds."""
    engine = start("turn", services=("turn",), change=out_of_sight)
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    (port,) = engine.step("seoul/cmscore1/prove").data["ports"]
    assert (port["seen"], port["fault"]) == (False, "")
    assert engine.fleet.served_leaf("cmscore1", "turn") == engine.new_leaf("seoul/cmscore1/turn")


def test_a_port_out_of_sight_whose_file_holds_something_else_is_not_proved(start: Start) -> None:
    """The status names the right file, and the file is wrong: that is no proof."""
    engine = start("turn", services=("turn",), change=out_of_sight)
    engine.start(engine.plan())
    engine.to_apply(until="seoul/cmscore1/prove")
    engine.fleet.put_file("cmscore1", "turn-1-fullchain.crt", engine.fleet.files("cmscore1")["turn.crt"])
    assert engine.go_on() == "seoul/cmscore1/prove"
    error = engine.step("seoul/cmscore1/prove").error or {}
    assert "turn-1-fullchain.crt of turn holds another certificate" in error["text"]


def test_same_files_keep_their_names_and_the_old_ones_are_set_aside(start: Start) -> None:
    """Row S9: after the run the settings are what they were, and the files hold the new pair."""

    def same(document: dict[str, Any]) -> None:
        document["defaults"]["files"] = "same"

    engine = start(services=("webadmin", "callbridge", "webbridge3", "turn"), change=same)
    before = engine.fleet.files("cmscore1")
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    after = engine.fleet.files("cmscore1")
    for name in ("callbridge.key", "callbridge.crt", "callbridge-bundle.crt", "turn.key", "turn.crt"):
        stem, _, extension = name.rpartition(".")
        assert (after[f"{stem}-old1.{extension}"], after[name] != before[name]) == (before[name], True), name
    assert engine.fleet.state("cmscore1")["services"]["webadmin"]["endpoints"]["webadmin"]["key"] == "callbridge.key"
    assert engine.fleet.served_leaf("cmscore1", "webadmin") == engine.new_leaf("seoul/cmscore1/callbridge")
    assert [name for name in after if "scratch" in name] == []
    assert engine.plan().empty


def test_a_server_that_cannot_rename_is_found_before_anything_changes(start: Start) -> None:
    """The scratch file of stage 200 shows it, and the remedy says `fresh`."""

    def same(document: dict[str, Any]) -> None:
        document["defaults"]["files"] = "same"

    engine = start("turn", services=("turn",), change=same)
    engine.fleet.fault("rename-refused")
    engine.start(engine.plan())
    assert engine.go_on() == "seoul/prepared"
    error = engine.step("seoul/cmscore1/prepare").error or {}
    assert ("files: fresh" in error["remedy"], engine.done("pki csr")) == (True, 0)


def test_a_shared_key_goes_from_node_to_node(start: Start) -> None:
    """One `pki csr` on the first node; the others serve the same pair, and no key is left in the journal."""
    engine = start("turn", services=("turn",), nodes=2, change=shared)
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    files = [engine.fleet.files(node)["turn-1.key"] for node in ("cmscore1", "cmscore2")]
    leaves = [engine.fleet.served_leaf(node, "turn") for node in ("cmscore1", "cmscore2")]
    assert (files[0], leaves) == (files[1], [engine.new_leaf("seoul/turn")] * 2)
    assert [engine.done("pki csr", node) for node in ("cmscore1", "cmscore2")] == [1, 0]


def test_a_key_of_the_engine_is_sealed_until_it_is_there(start: Start) -> None:
    """The request step touches no server; the key goes up encrypted only by SSH, with its certificate."""
    engine = start("turn", services=("turn",), nodes=2, change=partial(shared, key="engine"))
    engine.start(engine.plan())
    assert engine.to_apply() == ""
    leaves = [engine.fleet.served_leaf(node, "turn") for node in ("cmscore1", "cmscore2")]
    key = engine.fleet.files("cmscore1")["turn-1.key"]
    sealed = engine.work.journal.read(partial(stock.sealed, sealed_id=f"{RUN}/seoul/turn.key"))
    assert leaves == [engine.new_leaf("seoul/turn")] * 2
    assert (b"PRIVATE KEY" in key, b"PRIVATE KEY" in (sealed or b"")) == (True, False)


def test_a_key_that_was_brought_in_is_used(start: Start, tmp_path: Any) -> None:
    """Row S2: key and CSR come from another tool; they are sealed with the run."""
    key = ca.rsa_key()
    names = [x509.DNSName("cmscore1.example.com")]
    files = {"key": ca.with_private_key([], key), "csr": ca.make_csr("cmscore1.example.com", names, key=key)}
    for name, data in files.items():
        (tmp_path / f"turn.{name}").write_bytes(data)

    def brought(document: dict[str, Any]) -> None:
        for one in document["clusters"][0]["certificates"]:
            one |= {
                "key": "file",
                "key_file": str(tmp_path / "turn.key"),
                "csr_file": str(tmp_path / "turn.csr"),
                "subject": {"CN": "cmscore1.example.com"},
            }

    engine = start("turn", services=("turn",), change=brought)

    def seal(tx: Any) -> None:
        for name, data in files.items():
            row = f"{RUN}/seoul/cmscore1/turn.{name}"
            stock.seal(tx, row, engine.work.vault.seal(row, data))

    actions.start_run(engine.work.journal, engine.plan(), by="ann", run=RUN, also=seal)
    assert engine.to_apply() == ""
    served = engine.fleet.served_leaf("cmscore1", "turn")
    assert served is not None
    assert served.public_key().public_numbers() == key.public_key().public_numbers()


def test_a_server_that_changed_after_go_is_left_alone(start: Start) -> None:
    """Every `expects` is read again behind the gate; the difference is in the reason."""
    engine = start("turn", services=("turn",))
    engine.start(engine.plan())
    engine.go_on()
    engine.approve("sign")
    engine.sign()
    engine.go_on()
    engine.approve("go")
    engine.through("go")
    engine.fleet.execute("cmscore1", "turn disable")
    assert engine.go_on() == "seoul/as-approved"
    assert "turn: enabled none instead of True" in engine.lane().reason
    assert engine.events(Kind.PUT_BACK) == []


def test_a_name_that_was_taken_meanwhile_stops_before_anything_is_made(start: Start) -> None:
    """Stage 200 sees it, so `pki csr` never meets a basename in use."""
    engine = start("turn", services=("turn",))
    engine.start(engine.plan())
    engine.fleet.put_file("cmscore1", "turn-1.crt", b"somebody else's")
    assert engine.go_on() == "seoul/prepared"
    assert ("turn-1.crt is there already" in engine.lane().reason, engine.done("pki csr")) == (True, 0)


def test_an_expired_pair_without_its_key_can_still_be_renewed(start: Start) -> None:
    """There is no way back and the plan says so; that the old pair does not match stops nothing."""
    engine = start("turn", services=("turn",), days_left=-1)
    engine.fleet.put_file("cmscore1", "turn.key", engine.fleet.files("cmscore1")["ca-bundle.crt"])
    plan = engine.start(engine.plan())
    assert engine.to_apply() == ""
    assert any("no way back except the backup" in line for line in plan.notices)
    served = engine.fleet.served_leaf("cmscore1", "turn")
    assert served is not None
    assert served.public_bytes(Encoding.DER) == engine.new_leaf("seoul/cmscore1/turn").public_bytes(Encoding.DER)
