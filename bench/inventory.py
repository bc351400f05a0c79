"""How long a fleet.yaml of 2,000 nodes takes to read, resolve, carry as JSON and select from: run and read.

python bench/inventory.py [NODES]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from workflows.inventory import Fleet, ResolvedFleet, select


def fleet_text(nodes: int) -> str:
    """Return a fleet of *nodes* nodes in clusters of ten, each cluster with four certificates per node."""
    lines = ['fleet: bench\nrelease: "3.9"\nclusters:']
    for cluster in range(nodes // 10):
        lines.append(f"  - name: c{cluster}\n    nodes:")
        lines += [
            f"      - name: c{cluster}n{node}\n        address: 10.{cluster // 250}.{cluster % 250}.{node + 1}\n"
            f"        port: 22\n        interface: a\n        credential: cms\n"
            f"        database: {'joined' if node < 3 else 'connected'}\n"
            f"        proof: {{webadmin: {{port: 8443}}, turn: none}}"
            for node in range(10)
        ]
        lines.append("    certificates:")
        lines += [
            f"      - name: {service.partition('.')[0]}\n        services: [{service}]\n        per: node\n"
            f'        subject: {{CN: "{{node}}.example.com", O: Example, C: KR}}\n'
            f'        subject_alt_names: {{dns: ["{{node}}.example.com", "join.example.com"], ip: [10.0.0.1]}}'
            for service in ("callbridge", "webadmin", "webbridge3.https", "turn")
        ]
    return "\n".join(lines) + "\n"


def timed(name: str, act: Callable[[], Any]) -> Any:
    """Do it, print how long it took, return what it gave."""
    start = time.perf_counter()
    result = act()
    print(f"{name:<28} {time.perf_counter() - start:7.2f} s")
    return result


def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    text = fleet_text(nodes)
    print(f"{nodes} nodes, {len(text) / 1e6:.1f} MB of YAML")
    fleet = timed("read and check", lambda: Fleet.from_yaml(text))
    resolved = timed("resolve", lambda: fleet.resolved("."))
    data = timed("to JSON", lambda: json.dumps(resolved.to_json()))
    again = timed("from JSON", lambda: ResolvedFleet.from_json(json.loads(data)))
    timed("select one node", lambda: select(resolved, nodes=["c3n3"]))
    print("round trip equal:", again == resolved)
    broken = text.replace("interface: a", "interface: q").replace("{node}.example.com", "{node}", 1)
    timed("read one with many faults", lambda: _faults(broken))


def _faults(text: str) -> None:
    from workflows.errors import InventoryError

    try:
        Fleet.from_yaml(text)
    except InventoryError as error:
        print(f"  {len(error.findings)} faults")


if __name__ == "__main__":
    main()
