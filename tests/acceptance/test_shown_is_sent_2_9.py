"""On release 2.9, with every service it has, the servers get exactly what the plan showed (show 4)."""

from __future__ import annotations

import json
import re

from acceptance_engine import Shape
from renewing import begin, marked, must, nodes_of, planned, same_as_planned

SERVICES = "webadmin,callbridge,webbridge,xmpp,turn,loadbalancer,recorder,streamer"
ENGINE = Shape(nodes=2, release="2.9", key_pool="200", simulator=(f"--services={SERVICES}",))


def test_a_fleet_of_2_9_gets_exactly_what_the_plan_showed(engine):
    """All services of 2.9 are renewed; lines and transfers are those of the plan, and every port is proved."""
    must(engine, "survey")
    after = marked(engine)
    shown = json.loads(must(engine, "plan", "-o", "json").out)["plan"]
    run = begin(engine)
    run.to_the_end()
    for node in nodes_of(engine, "seoul"):
        same_as_planned(engine, shown, node, after)
        lines = {line.text.split()[0] for line in planned(shown, node) if re.search(" (certs|auth) ", line.text)}
        assert lines == set(SERVICES.split(","))
        ports = run.part(f"seoul/{node}/prove")["data"]["ports"]
        assert [(one["service"], one["fault"]) for one in ports if not one["seen"] or one["fault"]] == []
