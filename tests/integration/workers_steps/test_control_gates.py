"""An approved gate moves the lane, whatever messages are lost or come twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from paper_runs import NOW, RUN, a_run, approve, csr_of, the_fleet

from tests import ca
from tests.integration.journal.world import let_lanes_idle
from workers import control
from workers.context import Work
from workflows import papers
from workflows.errors import GateError
from workflows.inventory import Issuer, IssuerKind
from workflows.journal import Journal, gates, tables
from workflows.journal.events import Kind
from workflows.journal.lanes import lane_row

WISH = "seoul/s1/callbridge"
GATE = {"run": RUN, "lane": "seoul", "gate": "seoul/sign"}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give an open journal."""
    with Journal.open(f"sqlite:///{tmp_path / 'journal.db'}") as opened:
        yield opened


@pytest.fixture
def authority() -> ca.CA:
    """Give a CA."""
    return ca.make_ca()


@pytest.fixture
def work(journal: Journal, tmp_path: Path, authority: ca.CA) -> Work:
    """Give what the control worker has of a run whose issuer, a local CA, has an approved gate before it."""
    for name, one in (("ca", authority.issuing), ("root", authority.root)):
        (tmp_path / f"{name}.crt").write_bytes(ca.pem([one.certificate]))
    key: Any = authority.issuing.key
    (tmp_path / "ca.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    issuer = Issuer(
        name="manual",
        kind=IssuerKind.LOCAL,
        certificate=str(tmp_path / "ca.crt"),
        key=str(tmp_path / "ca.key"),
        chain=(str(tmp_path / "root.crt"),),
        days=200,
    )
    a_run(journal, the_fleet(issuers=(issuer,)))
    approve(journal)
    unused: Any = None
    return Work(
        settings=SimpleNamespace(reconcile_s=30.0),  # type: ignore[arg-type]
        journal=journal,
        loop=unused,
        connections=unused,
        vault=unused,
        credentials=unused,
        holder="control",
    )


class Sent:
    """A broker that keeps what was sent."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def send_task(self, name: str, **_: object) -> None:
        """Keep *name*."""
        self.names.append(name)


def status(work: Work) -> tuple[str, str]:
    """Return the lane's flag and the gate's status."""
    flag = work.journal.read(lambda connection: lane_row(connection, RUN, "seoul")).flag
    return flag, work.journal.state(RUN).lanes["seoul"].gates["seoul/sign"].status


def test_a_lost_message_to_the_issuer_is_sent_again(work: Work) -> None:
    """Nobody else would move the lane; as long as the issuer may be at work, it is not rung again."""
    broker: Any = Sent()
    let_lanes_idle(work.journal, 31)
    control.advance(work, broker, RUN, "seoul", why="the gate was approved")
    assert (control.reconcile(work, broker), broker.names) == (0, ["sign"])
    let_lanes_idle(work.journal, 31)
    assert [control.reconcile(work, broker) for _ in range(2)] == [1, 0]
    assert broker.names == ["sign", "sign"]
    notes = [one.data for one in work.journal.events(RUN) if one.kind is Kind.NOTE]
    assert [(one["repair"], one["found"]) for one in notes] == [("idle gate", control.LEFT_AT_GATE)]


def test_a_second_message_to_the_issuer_does_no_harm(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """It signed what was missing when it looked; the gate is passed by then, and the lane must not stop for that."""
    missing = control.issuers.sign_missing

    def first_another(*asked: Any, **more: Any) -> dict[str, bytes]:
        files = missing(*asked, **more)
        papers.deliver(work.journal, RUN, files, by="issuer", now=NOW)
        assert work.journal.write(partial(gates.pass_gate, **GATE))
        return files

    monkeypatch.setattr(control.issuers, "sign_missing", first_another)
    control.sign(work, RUN, "seoul", now=NOW)
    assert status(work) == ("", "passed")


def test_an_issuer_that_crashes_stops_the_lane(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that waits for an issuer for ever would tell nobody."""
    monkeypatch.setattr(control.issuers, "sign_missing", lambda *_, **__: 1 / 0)
    control.sign(work, RUN, "seoul", now=NOW)
    assert status(work) == ("stopped", "approved")
    assert "ZeroDivisionError" in work.journal.state(RUN).lanes["seoul"].reason


def test_certificates_are_not_taken_behind_a_passed_gate(
    work: Work, authority: ca.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people deliver at once: the second one's certificates were seen by no approver, so they replace nothing."""
    plan, _ = work.plan(RUN)
    csr = csr_of(work.journal, plan, WISH)
    first, second = ({"c.pem": ca.pem([authority.sign(csr), *authority.issuers])} for _ in range(2))
    checked = papers.check_signed

    def meanwhile(*asked: Any, **more: Any) -> Any:
        monkeypatch.setattr(papers, "check_signed", checked)
        papers.deliver(work.journal, RUN, first, by="bob", now=NOW)
        assert work.journal.write(partial(gates.pass_gate, **GATE))
        return checked(*asked, **more)

    monkeypatch.setattr(papers, "check_signed", meanwhile)
    with pytest.raises(GateError, match="meanwhile"):
        papers.deliver(work.journal, RUN, second, by="eve", now=NOW)
    (event,) = [one for one in work.journal.events(RUN) if one.kind.value == "certificates_delivered"]
    assert event.actor == "bob"


def test_the_periodic_look_reminds_of_what_waits(work: Work) -> None:
    """Once: the time of the next reminder is set with it."""
    broker: Any = Sent()
    waiting = {"status": "open", "remind_at": 1.0, "expires_at": None}
    work.journal.write(lambda tx: tx.connection.execute(sa.update(tables.gate).values(**waiting)))
    for _ in range(2):
        control.reconcile(work, broker)
    assert [one.step for one in work.journal.events(RUN) if one.kind is Kind.GATE_REMINDED] == ["seoul/sign"]
