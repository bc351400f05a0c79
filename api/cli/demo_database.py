"""`certbridge demo --database`: a database cluster whose certificates are expired is taken apart and built again.

Told as `demo` tells a renewal, with the commands of every day. The table at the end is made from the journal, from a
survey of its own, and from what the simulator says of each node's data past all command lines. Exit code 0 only when
every node is in sync or connected and the data of the primary is on all joined nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.cli.demo_telling import PLAN_LINES, Telling, chapter
from api.cli.output import Span, Table, lasted, say, show

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.journal import Journal
    from workflows.plan import Lane

GATE = "point-of-no-return"
GATE_LINES = 40
EXPIRED_DAYS = 3

SPEED = "10"
"""So many seconds of a real operation go by in one: slow enough to be seen, and a minute for all."""

POLLS: Mapping[str, float] = {"poll_s": 0.5, "longest_poll_s": 2.0}
"""A simulated database is quick, so it is looked at often; on a real one each look may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnd:
    """How a node ended: its place, its certificate before and after (YYYY-MM-DD), its data, and how long it was away.

    `predicted` is in seconds from and to; `measured` is None for a node that is not in the cluster again.
    """

    node: str
    role: str
    status: str
    before: str
    after: str
    data: str
    predicted: tuple[int, int]
    measured: float | None
    restarts: int
    well: bool


class DatabaseStory(Telling):
    """The demo of a rebuild."""

    def __init__(self, *, clusters: int, joined: int, connected: int, release: str, ask: bool, keep: bool) -> None:
        super().__init__(ask=ask, keep=keep, **POLLS)
        counts = ("--clusters", str(clusters), "--joined", str(joined), "--connected", str(connected))
        self._shape = (*counts, f"--database-days-left=-{EXPIRED_DAYS}", "--release", release, "--speed", SPEED)

    def tell(self) -> int:
        """Tell the whole story and return the exit code. Raises: EngineError, Stopped."""
        self._meet()
        facts = self._survey()
        self._plan()
        run = self._prepare()
        databases = {node: self.world.simulated(node) for node in facts}
        self._rebuild(run)
        return self._prove(run, facts, databases)

    # ── the chapters ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _meet(self) -> None:
        chapter(
            "A database cluster to try it on",
            "Simulated Cisco Meeting Servers on loopback addresses: real SSH, real SFTP, real TLS ports. The "
            f"certificates of their database ended {EXPIRED_DAYS} days ago, so they no longer talk to each other.",
        )
        self.world.start_simulator(*self._shape)
        self.start_engine()

    def _survey(self) -> dict[str, NodeFacts]:
        chapter(
            "Survey",
            "Every server is read at the same time, and nothing is changed. Each still answers on its command line, "
            "and says who the primary was; all of them must say the same.",
        )
        self.must("survey")
        return self.facts()

    def _plan(self) -> None:
        chapter(
            "Plan",
            "The certificates of a database cannot be changed while the cluster stands: it is taken apart and put "
            "together again, the primary first, one node at a time. A join on the wrong node would destroy the data, "
            "so every line is planned before anything moves.",
        )
        self.must("plan", "--database", "renew", "--save", str(self.plan_file), shorten_to=PLAN_LINES)

    def _prepare(self) -> str:
        chapter(
            "What can be done while the cluster stands",
            "New pairs are made and signed by the CA inside the primary, handed out, read back, matched and verified "
            "on every node. Nothing in use is touched. Then the run waits for a person.",
        )
        return self.start_run()

    def _rebuild(self, run: str) -> None:
        chapter(
            "Gate: point of no return",
            "A person sees the lines that are left, what is lost meanwhile, and whether there is a way back. (In real "
            "life another person than who asked; the demo's inventory says `four_eyes: false`.)",
        )
        self.decide(run, GATE, show_lines=GATE_LINES)
        chapter(
            "Apart, and together again",
            "Every node is read again and backed up first. Then connected nodes leave, replicas, the primary last; the "
            "old primary is initialized; each replica joins alone, each connected node connects. These commands come "
            "back at once, so every operation is followed by the status until it is over.",
        )
        self.must("runs", "watch", run)

    def _prove(self, run: str, before: Mapping[str, NodeFacts], databases: Mapping[str, Mapping[str, Any]]) -> int:
        chapter("What became of it", "Read from the servers themselves, and from behind the simulator's curtain.")
        self.must("survey")
        after = self.facts()
        now = {node: self.world.simulated(node) for node in before}
        with self.journal() as journal:
            ends = node_ends(journal, run, before, after, databases, now)
            away = list(_cluster_lines(journal, run))
        show(_table(ends))
        for line in away:
            say(line)
        report = self.world.root / "report.html"
        self.must("runs", "report", run, "--out", str(report))
        self.must("journal", "verify", run)
        if self.keeps:
            say(f"The report: {report}")
        bad = [one.node for one in ends if not one.well]
        say("")
        if bad or not ends:
            say((f"Not as it should be: {', '.join(bad) or 'there are no nodes'}.", "bold red"))
            return 1
        well = f"All {len(ends)} nodes are in their cluster again, on the data of the primary."
        say((f"{well} It took {self.took_s:.0f} s.", "bold green"))
        return 0


def node_ends(
    journal: Journal,
    run: str,
    before: Mapping[str, NodeFacts],
    after: Mapping[str, NodeFacts],
    old: Mapping[str, Mapping[str, Any]],
    new: Mapping[str, Mapping[str, Any]],
) -> tuple[NodeEnd, ...]:
    """Return how every node of the run ended, the primary first.

    *before* and *after* are surveys, *old* and *new* the simulator's own word on each database ({"data": …}).
    """
    from workflows import outage
    from workflows.plan import Plan

    plan = Plan.from_json(journal.plan(run))
    events = journal.events(run)
    found = []
    for lane in plan.lanes:
        predicted, measured = outage.predicted(lane), outage.measured(lane, events)
        roles = _roles(lane)
        primary = next(node for node, role in roles.items() if role == "primary")
        for node, role in roles.items():
            fact = after[node].database_cluster if node in after else None
            status = _status(fact)
            copied = role == "connected" or new[node]["data"] == old[primary]["data"]
            found.append(
                NodeEnd(
                    node=node,
                    role=role,
                    status=status,
                    before=_ends(before[node]),
                    after=_ends(after[node]) if node in after else "",
                    data=_data(role, primary, copied=copied),
                    predicted=predicted[node],
                    measured=measured.get(node),
                    restarts=int(new[node]["callbridge_restarts"]) - int(old[node]["callbridge_restarts"]),
                    well=copied and status == _WELL[role] and node in measured,
                )
            )
    return tuple(found)


_WELL = {"primary": "Connected Primary", "replica": "In Sync", "connected": "connected"}


def _roles(lane: Lane) -> dict[str, str]:
    """Return {node: the role it comes in with}, in the order in which the nodes come in."""
    said = {"database_initialize": "primary", "database_join": "replica", "database_connect": "connected"}
    return {step.node: said[step.action] for step in lane.steps() if step.action in said}


def _status(fact: Any) -> str:
    """Return where a node stands by its own status, in the words of the server."""
    if fact is None or fact.disabled:
        return "not in the cluster"
    if fact.error or fact.expired:
        return str(fact.error) or f"expired: {', '.join(fact.expired)}"
    if fact.me is None:
        at = [one for one in fact.members if one.role == "primary"]
        return "connected" if at and at[0].connected else "not connected"
    if fact.me.role == "primary":
        return "Connected Primary" if fact.me.connected else str(fact.me.text)
    return "In Sync" if fact.me.in_sync else str(fact.me.text)


def _data(role: str, primary: str, *, copied: bool) -> str:
    if role == "connected":
        return f"uses that of {primary}"
    if not copied:
        return "LOST"
    return "kept" if role == "primary" else f"copy of {primary}"


def _ends(facts: NodeFacts) -> str:
    from api.survey_database import soonest

    _, end = soonest(facts)
    return f"{end:%Y-%m-%d}" if end else "?"


def _cluster_lines(journal: Journal, run: str) -> Iterable[str]:
    from api.cli.run_text import span_of
    from workflows import outage
    from workflows.plan import Plan

    events = journal.events(run)
    for lane in Plan.from_json(journal.plan(run)).lanes:
        took = outage.measured_cluster(lane, events)
        yield (
            f"{lane.name}: the database cluster was away for {lasted(took) if took is not None else '?'} "
            f"(predicted for real servers: {span_of(outage.predicted_cluster(lane))})"
        )


def _table(ends: Iterable[NodeEnd]) -> Table:
    from api.cli.run_text import span_of

    rows: list[tuple[Span, ...]] = [
        (
            one.node,
            one.role,
            (one.status, "green" if one.status == _WELL[one.role] else "bold red"),
            f"{one.before} → {one.after or '?'}",
            (one.data, "bold red" if one.data == "LOST" else "green"),
            span_of(one.predicted),
            "still out" if one.measured is None else lasted(one.measured),
            str(one.restarts),
            ("yes", "green") if one.well else ("no", "bold red"),
        )
        for one in ends
    ]
    columns = ("node", "role", "status", "ends", "data", "predicted", "measured", "Call Bridge restarts", "well")
    return Table(columns=columns, rows=rows)
