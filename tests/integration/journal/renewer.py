"""A whole renewal in one process, to be given a bad disk: `renewer.py FOLDER KEYS`. Prints what came of it, as JSON.

Fleet, sessions, steps and journal are real (`steps_engine`); this program does what people, beat and supervisor would:
it approves, resumes what stopped, and lets a lease that nobody renews run out. It gives up after 120 rounds.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "workers_steps"))

from steps_engine import RUN, Engine, only

from simulator.fleet import FleetSettings, start_fleet_in_thread
from tests.integration.journal.world import let_leases_run_out
from workflows.errors import CertbridgeError, words_of
from workflows.journal.events import Kind
from workflows.plan import LineKind

ROUNDS = 400


def decide(engine: Engine, name: str) -> None:
    """Approve the gate called *name* and go through it; what was written down before the disk failed stays done."""
    if engine.lane().gates[f"seoul/{name}"].status == "open":
        engine.approve(name)
    if name == "sign" and not engine.lane().certificates:
        engine.sign()
    else:
        engine.through(name)


def move(engine: Engine) -> str:
    """Do what is next on the lane, and return where it then stands; "" at its end."""
    at = engine.go_on()
    if at in {"seoul/sign", "seoul/go"}:
        decide(engine, at.partition("/")[2])
    elif at.startswith("not sent"):
        status = engine.lane().status
        if status == "stopped":
            engine.resume()
        elif status == "waiting":
            for name in ("sign", "go"):
                gate = engine.lane().gates.get(f"seoul/{name}")
                if gate is not None and gate.status != "passed":
                    decide(engine, name)
        else:
            let_leases_run_out(engine.work.journal)
    return at


def carry_out(engine: Engine) -> list[str]:
    """Carry the run out to its end, whatever the disk says, and return the errors met."""
    errors: list[str] = []
    for _ in range(ROUNDS):
        try:
            if move(engine) == "":
                return errors
        except (CertbridgeError, OSError) as error:
            errors.append(f"{type(error).__name__}: {words_of(error)}")
    return [*errors, "not done"]


def told(engine: Engine, errors: list[str]) -> dict[str, Any]:
    """Return what the servers got, and what the journal says of it."""
    begun = Counter(one.text for one in engine.fleet.records("command", "cmscore1") if one.phase == "begin")
    plan, _ = engine.work.plan(RUN)
    lines = [line.text for step in plan.lane("seoul").steps() for line in step.lines if line.kind is LineKind.COMMAND]
    leaves = engine.served("cmscore1", "webadmin")
    return {
        "errors": errors,
        "sent": {line: begun[line] for line in lines},
        "intents": dict(Counter(event.data["text"] for event in engine.events(Kind.INTENT))),
        "failed": [event.data.get("error", {}).get("text", "") for event in engine.events(Kind.STEP_FAILED)],
        "proved": leaves["webadmin"] == engine.new_leaf("seoul/cmscore1/callbridge"),
        "chain": list(engine.work.journal.verify(RUN)),
    }


def main() -> None:
    """Renew, and print."""
    folder, keys = map(Path, sys.argv[1:])
    settings = FleetSettings(nodes=1, key_pool=keys, reboot_s=0.3, services=("webadmin",), out=folder / "fleet")
    with start_fleet_in_thread(settings) as fleet:
        engine = Engine(fleet, folder, only(("webadmin",)))
        engine.start(engine.plan())
        sys.stdout.write(json.dumps(told(engine, carry_out(engine))))
        engine.close()


if __name__ == "__main__":
    main()
