"""Whole fleets: many nodes, the command log, the program, the control socket, the files written."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from simulator_client import shell, talk, wait_for

from simulator import commandlog
from simulator.control import ask
from simulator.fleet import FleetHandle


def test_two_hundred_nodes_start_quickly(start_fleet: Callable[..., FleetHandle]) -> None:
    """200 nodes in 20 clusters are up within half a minute on a slow machine, each with its own address."""
    began = time.monotonic()
    fleet = start_fleet(clusters=20, nodes=10)
    assert time.monotonic() - began < 30
    assert len({fleet.address(node) for node in fleet.nodes}) == 200
    assert talk(fleet, fleet.nodes[-1], "version") == ["3.9\n"]


def test_log_shows_requests_at_the_same_time(start_fleet: Callable[..., FleetHandle]) -> None:
    """With latency, requests on eight nodes overlap, and on one node one after the other they do not."""
    fleet = start_fleet(nodes=8, latency={"pki csr": 0.4})

    async def request(node: str, *names: str) -> None:
        async with shell(fleet, node) as conversation:
            for name in names:
                await conversation.ask(f"pki csr {name} CN:a.example.com")

    async def everywhere() -> None:
        await asyncio.gather(*(request(node, "fresh") for node in fleet.nodes))

    asyncio.run(everywhere())
    assert commandlog.most_at_once(list(fleet.records()), "pki csr") == 8
    asyncio.run(request("cmscore1", "second", "third"))
    later = [r for r in fleet.records("command") if "second" in r.text or "third" in r.text]
    assert commandlog.most_at_once(later, "pki csr") == 1


def test_log_on_disk_holds_no_secret(start_fleet: Callable[..., FleetHandle], tmp_path: Path) -> None:
    """Begin and end of each command are in the file; passwords and keys are not."""
    fleet = start_fleet(out=tmp_path, password="correct-horse")
    talk(fleet, "cmscore1", "turn credentials someone battery-staple example.com", "pki list")
    lines = (tmp_path / "commands.jsonl").read_text()
    records = [json.loads(line) for line in lines.splitlines()]
    commands = [(r["text"], r["phase"], r.get("outcome")) for r in records if r["kind"] == "command"]
    assert commands == [
        ("turn credentials someone **** example.com", "begin", None),
        ("turn credentials someone **** example.com", "end", "ok"),
        ("pki list", "begin", None),
        ("pki list", "end", "ok"),
    ]
    assert [secret for secret in ("correct-horse", "battery-staple", "PRIVATE KEY") if secret in lines] == []
    assert "battery-staple" not in fleet.execute("cmscore1", "help")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def test_program_writes_its_files_obeys_the_socket_and_stops(key_file: Path, tmp_path: Path) -> None:
    """`python -m simulator` is ready when `ready` is there, takes faults at run time, and ends with 0 on TERM."""
    out = tmp_path / "fleet"
    words = ["--clusters", "2", "--nodes", "2", "--key-pool", str(key_file), "--out", str(out), "--latency", "0.1"]
    fault = ["--fault", '{"kind": "failure", "match": "version", "text": "not today"}']
    command = [sys.executable, "-W", "error", "-m", "simulator", *words, *fault]
    with subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE) as program:
        try:
            wait_for((out / "ready").exists)
            inventory = yaml.safe_load((out / "fleet.yaml").read_text())
            assert [n["name"] for c in inventory["clusters"] for n in c["nodes"]] == [
                "cmscore1",
                "cmscore2",
                "busan-1",
                "busan-2",
            ]
            assert stat.S_IMODE((out / "credentials.yaml").stat().st_mode) == 0o600
            assert len(json.loads((out / "pins.json").read_text())) == 4
            faults = ask(out, {"do": "faults"})["faults"]
            assert [(f["kind"], f["match"]) for f in faults] == [("failure", "version")]
            added = ask(out, {"do": "add", "fault": {"kind": "hang", "node": "busan-*"}})
            assert ask(out, {"do": "remove", "id": added["id"]}) == {"ok": True}
            assert ask(out, {"do": "add", "fault": {"kind": "earthquake"}})["ok"] is False
            assert ask(out, {"do": "state", "node": "busan-1"})["state"]["services"]["turn"]["up"] is True
        finally:
            program.send_signal(signal.SIGTERM)
        _, complaints = program.communicate(timeout=30)
    assert (program.returncode, complaints.decode().splitlines()) == (0, [f"simulator: 4 nodes, files in {out}"])


def test_program_refuses_an_unknown_service(tmp_path: Path) -> None:
    """A service that the release does not have is exit 2 and one line."""
    words = ["--services", "webbridge", "--release", "3.9", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "simulator", *words], env=_environment(), capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (2, b"simulator: release 3.9 has no webbridge\n")


def test_inventory_names_services_ports_and_authority(start_fleet: Callable[..., FleetHandle], tmp_path: Path) -> None:
    """fleet.yaml holds what a renewal of this fleet needs, with paths that exist beside it."""
    start_fleet(out=tmp_path)
    inventory = yaml.safe_load((tmp_path / "fleet.yaml").read_text())
    cluster = inventory["clusters"][0]
    assert cluster["nodes"][0]["proof"] == {
        "webadmin": {"port": 8443},
        "callbridge": {"port": 5061},
        "webbridge3.https": {"port": 9443},
        "webbridge3.c2w": {"port": 9999},
        "turn": {"port": 5349},
    }
    assert {c["name"]: c["services"] for c in cluster["certificates"]} == {
        "callbridge": ["webadmin", "callbridge"],
        "webbridge": ["webbridge3.https", "webbridge3.c2w"],
        "turn": ["turn"],
    }
    local = inventory["issuers"]["local"]
    assert all((tmp_path / name).exists() for name in (local["certificate"], local["key"], *local["chain"]))


def test_host_name_may_be_qualified_and_banner_may_look_like_a_prompt(start_fleet: Callable[..., FleetHandle]) -> None:
    """The prompt is the whole host name, after a banner that holds `>`."""
    fleet = start_fleet(fqdn_hostnames=True, banner="Authorised users only> really\n")

    async def session() -> str:
        async with shell(fleet, "cmscore1", "cmscore1.example.com") as conversation:
            return await conversation.ask("version")

    assert asyncio.run(session()) == "3.9\n"


@pytest.mark.parametrize("typed", ["version\rdate\r", "version\ndate\n", "version\r\ndate\r\n"])
def test_pasted_lines_are_carried_out_in_order(fleet: FleetHandle, typed: str) -> None:
    """Several lines in one piece, with any line end, run one after the other."""

    async def session() -> None:
        async with shell(fleet, "cmscore1") as conversation:
            conversation.send(typed)
            await conversation.until(conversation.prompt)
            await conversation.until(conversation.prompt)

    asyncio.run(session())
    assert fleet.commands("cmscore1") == ("version", "date")
