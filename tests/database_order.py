"""A witness of its own: what a command log says about the order in which a database cluster was rebuilt.

It knows neither our code nor the simulator's, only the rules of DESIGN.md section 7 (last paragraph) and S2, S3, S5. It
reads the simulator's log (`commands.jsonl` or its records), or a plain list of lines that a plan wants to type.

An operation begins and ends with a record of kind "database"; one that ended well was *carried out*. The order is
judged when an operation begins, however it ends: what the appliance then refuses should not have been typed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_PREFIX = "database cluster "
_OPERATIONS = ("initialize", "join", "connect", "remove", "upgrade_schema")
_ONCE = frozenset(_OPERATIONS) - {"upgrade_schema"}
_SETTINGS = ("certs", "localnode")
_NOT_TYPED = "cut-before"  # such a line never arrived


def check(
    records: Iterable[Any],
    *,
    clusters: Mapping[str, Sequence[str]],
    addresses: Mapping[str, str],
    primary: Mapping[str, str],
    removes: bool = True,
    complete: bool = True,
) -> list[str]:
    """Return every violation in words; [] for a good log.

    clusters: cluster -> its nodes; addresses: node -> address; primary: cluster -> the node that was its primary.
    *removes* False: no node was in a cluster at the beginning. *complete* False: the log may end anywhere.
    """
    events = [_as_dict(record) for record in records]
    unheard = {e["number"] for e in events if e["kind"] == "command" and e.get("outcome") == _NOT_TYPED}
    found = []
    for cluster, nodes in clusters.items():
        watch = _Watch(
            cluster=cluster,
            nodes=tuple(nodes),
            primary=primary[cluster],
            address=addresses[primary[cluster]],
            clustered=set(nodes) if removes else set(),
            up=removes,
        )
        for event in events:
            if event["node"] in watch.nodes and event["number"] not in unheard:
                watch.see(event)
        if complete and not watch.count("initialize"):
            watch.complain("initialize was never carried out")
        found += watch.violations
    return found


def from_lines(lines: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the records of a log in which each (node, line) is typed, and each operation begins and ends, well."""
    records: list[dict[str, Any]] = []
    for number, (node, line) in enumerate(lines):
        kinds = [("command", line, 2 * number)]
        text = line.removeprefix(_PREFIX)
        if line.startswith(_PREFIX) and text.partition(" ")[0] in _OPERATIONS:
            kinds.append(("database", text, 2 * number + 1))
        for kind, shown, own_number in kinds:
            common = {"node": node, "kind": kind, "text": shown, "number": own_number}
            records += [{**common, "phase": "begin"}, {**common, "phase": "end", "outcome": "ok"}]
    return records


def from_file(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `commands.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _as_dict(record: Any) -> dict[str, Any]:
    return dict(record) if isinstance(record, Mapping) else asdict(record)


@dataclass(kw_only=True)
class _Watch:
    """What is known of one cluster after the records seen so far."""

    cluster: str
    nodes: tuple[str, ...]
    primary: str
    address: str  # of the primary
    clustered: set[str]  # nodes in a cluster, or on the way into it
    up: bool  # there is a Connected Primary
    running: dict[int, tuple[str, str]] = field(default_factory=dict)  # number -> (node, operation)
    carried_out: list[tuple[str, str]] = field(default_factory=list)  # (node, verb)
    violations: list[str] = field(default_factory=list)

    def complain(self, text: str) -> None:
        """Keep a violation."""
        self.violations.append(f"{self.cluster}: {text}")

    def count(self, verb: str, node: str | None = None) -> int:
        """Return how often *verb* was carried out, on *node* or anywhere."""
        return sum(1 for where, what in self.carried_out if what == verb and node in {None, where})

    def see(self, event: Mapping[str, Any]) -> None:
        """Take one record into account."""
        node, text = event["node"], event["text"]
        if event["kind"] == "database":
            if event["phase"] == "begin":
                self._begin(event["number"], node, text)
            else:
                self._end(event["number"], node, text, event["outcome"])
        elif event["kind"] == "command" and event["phase"] == "begin" and text.startswith(_PREFIX):
            verb, _, arguments = text.removeprefix(_PREFIX).partition(" ")
            if verb in _SETTINGS and arguments and node in self.clustered:
                self.complain(f"{verb} on {node} while it was in a cluster")

    def _begin(self, number: int, node: str, text: str) -> None:
        verb, _, target = text.partition(" ")
        for other, running in self.running.values():
            both = "two joins" if verb == "join" and running.startswith("join") else "two operations"
            self.complain(f"{both} at once: {text} on {node} during {running} on {other}")
        self.running[number] = (node, text)
        if verb in _ONCE and self.count(verb, node):
            self.complain(f"{verb} on {node} a second time")
        match verb:
            case "initialize":
                self._initialize(node)
            case "join" | "connect":
                self._enter(node, verb, target)
            case "remove":
                self._remove(node)
            case "upgrade_schema" if node != self.primary:
                self.complain(f"upgrade_schema on {node}, which is not the primary {self.primary}")

    def _initialize(self, node: str) -> None:
        if node != self.primary:
            self.complain(f"initialize on {node}, but the primary was {self.primary}")
        if self.count("initialize"):
            self.complain(f"initialize on {node} though the cluster was initialized already")
        left = sorted(self.clustered)
        if left:
            self.complain(f"initialize on {node} before the remove of {', '.join(left)}")
        self.clustered.add(node)

    def _enter(self, node: str, verb: str, target: str) -> None:
        if target != self.address:
            self.complain(f"{verb} on {node} to {target}, but the primary is at {self.address}")
        if not self.up:
            self.complain(f"{verb} on {node} before {self.primary} was Connected Primary")
        self.clustered.add(node)

    def _remove(self, node: str) -> None:
        if self.count("initialize"):
            self.complain(f"remove on {node} after the initialize")
        elif node == self.primary:
            left = sorted(self.clustered - {node})
            if left:
                self.complain(f"remove on the primary {node} before the remove of {', '.join(left)}")
        elif self.count("remove", self.primary):
            self.complain(f"remove on {node} after the remove of the primary {self.primary}")
        if node == self.primary:
            self.up = False

    def _end(self, number: int, node: str, text: str, outcome: str) -> None:
        verb = text.partition(" ")[0]
        self.running.pop(number, None)
        if outcome == "ok":
            self.carried_out.append((node, verb))
        if verb in _ONCE and (outcome == "ok") is (verb == "remove"):
            self.clustered.discard(node)
        if node == self.primary and verb in {"initialize", "remove"}:
            self.up = (outcome == "ok") is (verb == "initialize")  # a `remove` that failed leaves the primary up
