"""A server reboots by itself between two lines of a service: what it stored and serves is looked at (F18)."""

from __future__ import annotations

from collections.abc import Callable

from steps_engine import Engine

Start = Callable[..., Engine]


def test_f18_a_reboot_between_certs_and_restart_leaves_one_restart_at_most(start: Start) -> None:
    """The setting was stored, and the boot took it up: `certs` is not sent again, and no more restarts than needed."""
    engine = start("callbridge", services=("callbridge",), pin_leaves=False)
    engine.start(engine.plan())
    assert engine.to_apply(until="seoul/cmscore1/apply/callbridge") == "seoul/cmscore1/apply/callbridge"
    engine.fleet.fault("reboot", match="callbridge certs*", seconds=0.3)
    assert engine.go_on() == ""
    typed = engine.fleet.commands("cmscore1")
    assert sum(line.startswith("callbridge certs ") for line in typed) == 1
    assert typed.count("callbridge restart") <= 1
    assert engine.fleet.served_leaf("cmscore1", "callbridge") == engine.new_leaf("seoul/cmscore1/callbridge")
