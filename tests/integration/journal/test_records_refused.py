"""An event table that takes nothing: no changing line is sent, reading goes on, and later the work does (F29).

A trigger of the database refuses the rows, as a revoked right or a broken disk of the audit would. The renewal is a
real one, in this process: fleet, sessions, steps, journal.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(Path(__file__).parents[1] / "workers_steps"))

from steps_engine import Engine, only

from simulator import pki
from simulator.fleet import FleetSettings, start_fleet_in_thread
from tests.integration.journal.renewer import carry_out, told
from tests.integration.journal.world import end, make_run, must_take, take
from workflows.errors import CertbridgeError, RecordsAway, words_of
from workflows.journal import Journal, Kind

REFUSE = {
    "sqlite": "CREATE TRIGGER no_events BEFORE INSERT ON event {when}"
    " BEGIN SELECT RAISE(ABORT, 'the audit is closed'); END",
    "postgresql": "CREATE TRIGGER no_events BEFORE INSERT ON event FOR EACH ROW {when} EXECUTE FUNCTION no_events()",
}
FUNCTION = (
    "CREATE OR REPLACE FUNCTION no_events() RETURNS trigger LANGUAGE plpgsql"
    " AS $$BEGIN RAISE EXCEPTION 'the audit is closed'; END$$"
)


def execute(url: str, *statements: str) -> None:
    """Run *statements* as the administrator of the database."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as server:
            for statement in statements:
                server.execute(statement)  # type: ignore[call-overload]


@contextmanager
def refused(url: str, when: str = "") -> Iterator[None]:
    """Let the event table take no rows (or only none of those *when*) for as long as this lasts."""
    if url.startswith("sqlite"):
        execute(url, REFUSE["sqlite"].format(when=when))
        yield
        execute(url, "DROP TRIGGER no_events")
    else:
        execute(url, FUNCTION, REFUSE["postgresql"].format(when=when))
        yield
        execute(url, "DROP TRIGGER no_events ON event")


def test_nothing_is_claimed_while_no_event_can_be_written(url: str) -> None:
    """Neither claim nor end of a step without its event: the rows stay as they were, and can still be read."""
    with Journal.open(url) as journal:
        make_run(journal)
        claimed = must_take(journal, "s1")
        before = journal.events("r1")
        with refused(url):
            with pytest.raises(RecordsAway, match="could not be written") as refusal:
                take(journal, "s2")
            assert "the audit is closed" in words_of(refusal.value)
            with pytest.raises(RecordsAway, match="could not be written") as refusal:
                end(journal, claimed)
            assert "the audit is closed" in words_of(refusal.value)
            assert journal.events("r1") == before
            assert journal.state("r1").lanes["seoul"].steps["s1"].status == "running"
        end(journal, claimed)
        must_take(journal, "s2")
        assert journal.verify("r1") == ()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Give an engine on one simulated server with one service, with a plan that is not begun."""
    pool = pki.KeyPool.of_size(12)
    keys: list[rsa.RSAPrivateKey] = [next(pool._keys) for _ in range(12)]
    (tmp_path / "keys.pem").write_bytes(b"".join(pki.key_to_pem(key) for key in keys))
    out = tmp_path / "fleet"
    settings = FleetSettings(nodes=1, key_pool=tmp_path / "keys.pem", reboot_s=0.3, services=("webadmin",), out=out)
    with start_fleet_in_thread(settings) as fleet:
        running = Engine(fleet, tmp_path, only(("webadmin",)))
        running.start(running.plan())
        yield running
        running.close()


CLOSED: dict[str, str] = {
    "everything": "",
    "intents": "WHEN NEW.kind = 'intent'",
    "outcomes": "WHEN NEW.kind = 'outcome'",
}


@pytest.mark.parametrize("closed", sorted(CLOSED))
def test_no_line_goes_out_that_the_audit_does_not_take(engine: Engine, closed: str) -> None:
    """Without intents no changing line at all; without outcomes none twice. Opened again, each is sent once in all."""
    url = engine.settings.database_url
    with refused(url, CLOSED[closed]):
        for _ in range(4):
            try_to_go_on(engine)
        changed = [
            one.text
            for one in engine.fleet.records("command", "cmscore1")
            if one.phase == "begin" and one.text.startswith(("backup", "pki csr", "webadmin d", "webadmin e"))
        ]
        assert len(changed) == len(set(changed))
        assert closed == "outcomes" or changed == []
    end_of_it = told(engine, carry_out(engine))
    assert set(end_of_it["sent"].values()) == {1}
    assert (end_of_it["proved"], end_of_it["chain"]) == (True, [])
    assert engine.events(Kind.PUT_BACK) == []


def try_to_go_on(engine: Engine) -> None:
    """Send the lane, as the reconciler does again and again, whatever comes of it."""
    try:
        engine.go_on()
    except CertbridgeError:
        return
