"""Numbers for a monitor: how many gates wait and for how long, of what one may see."""

from __future__ import annotations

import re
from functools import partial

import sqlalchemy as sa

from workflows.journal import lanes, tables
from workflows.people import Grant, Permission, Role


def numbers(client) -> dict[str, float]:
    """Return {sample: value}, read by the rules of the text format."""
    answer = client.get("/api/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.removesuffix("\n").split("\n")
    samples = [line for line in lines if not line.startswith("#")]
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE ") and line.endswith(" gauge")}
    found = [re.fullmatch(r'([a-z_]+)\{gate="([a-z-]+)"\} ([0-9.]+)', line) for line in samples]
    assert {one[1] for one in found} == typed
    return {f"{one[1]} {one[2]}": float(one[3]) for one in found}


def aged(seeded, lane: str, seconds: float) -> None:
    """Let the gates of *lane* have been opened so long ago."""
    ago = sa.update(tables.gate).where(tables.gate.c.lane == lane).values(opened_at=tables.gate.c.opened_at - seconds)
    seeded.journal.write(lambda tx: tx.connection.execute(ago))


def test_the_age_of_the_oldest_by_gate_and_what_one_may_see(seeded):
    run = seeded.waiting_run("seoul", "busan")
    aged(seeded, "seoul", 7200)
    aged(seeded, "busan", 3600)
    seen = numbers(seeded.with_token("viola", Permission.READ))
    assert (seen["certbridge_gates_pending sign"], seen["certbridge_gates_pending go"]) == (2, 0)
    assert 7200 <= seen["certbridge_gate_pending_age_seconds sign"] < 7300
    assert seen["certbridge_gate_pending_age_seconds go"] == 0
    mine = numbers(seeded.signed_in("bus"))
    assert mine["certbridge_gates_pending sign"] == 1
    assert 3600 <= mine["certbridge_gate_pending_age_seconds sign"] < 3700
    seeded.journal.write(partial(lanes.cancel_lane, run=run, lane="seoul", by="olga", reason="over"))
    assert numbers(seeded.signed_in("viola"))["certbridge_gates_pending sign"] == 1


def test_nobody_sees_numbers_without_permission(seeded):
    assert seeded.client().get("/api/metrics").status_code == 401
    seeded.person("none", Grant(Role.OPERATOR, "nowhere"))
    assert numbers(seeded.signed_in("none"))["certbridge_gates_pending sign"] == 0
    assert seeded.with_token("viola", Permission.DECIDE).get("/api/metrics").status_code == 403
