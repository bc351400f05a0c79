"""`certbridge demo`: a fleet is renewed from survey to proof, told in plain words, with the commands of every day.

Nothing is acted: `demo_world` starts a simulated fleet and a whole engine, every line after "$" is run as shown, and
the table at the end is made from the journal. Exit code 0 only when every port that was to be renewed is proved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from api.cli.demo_telling import PLAN_LINES, WAITS_FOR_PEOPLE, Telling, agrees, answer, chapter
from api.cli.output import Span, Table, say, show

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedPort:
    """One port before and after: when its certificate ended and ends (YYYY-MM-DD), and what was seen."""

    node: str
    service: str
    address: str
    before: str
    after: str
    chain: int
    proved: bool
    why: str = ""


class Story(Telling):
    """The demo of a renewal."""

    def __init__(self, *, clusters: int, nodes: int, release: str, ask: bool, keep: bool, latency: float) -> None:
        super().__init__(ask=ask, keep=keep)
        self._shape = ("--clusters", str(clusters), "--nodes", str(nodes), "--release", release)
        self._latency = latency

    # ── the chapters ─────────────────────────────────────────────────────────────────────────────────────────────────
    def tell(self) -> int:
        """Tell the whole story and return the exit code. Raises: EngineError, Stopped."""
        self._meet()
        before = self._survey()
        self._plan()
        run = self._request()
        self._sign(run)
        self._go(run)
        return self._prove(run, before)

    def _meet(self) -> None:
        chapter(
            "A fleet to try it on",
            "Simulated Cisco Meeting Servers on loopback addresses: real SSH, real SFTP, real TLS ports. "
            "Their certificates end in 12 days.",
        )
        self.world.start_simulator(*self._shape, "--latency", f"{self._latency:g}")
        if self.asks:
            self._choose_issuer()
        self.start_engine()

    def _survey(self) -> dict[str, NodeFacts]:
        chapter("Survey", "Every server is read at the same time. Nothing is changed.")
        self.must("survey")
        return self.facts()

    def _plan(self) -> None:
        chapter(
            "Plan",
            "What is due, and every single line that would be sent to a server. The run sends exactly these lines, or "
            "stops. The same survey gives the same plan, byte for byte.",
        )
        self.must("plan", "--save", str(self.plan_file), shorten_to=PLAN_LINES)

    def _request(self) -> str:
        chapter(
            "Keys and CSRs, on all servers at once",
            f"New key and CSR on every server, beside the old ones, so nothing is interrupted. Each server takes "
            f"{self._latency:g} s for a key; they all work at the same time. Then the run waits at the gate `sign`.",
        )
        return self.start_run()

    def _sign(self, run: str) -> None:
        chapter(
            "Gate: sign",
            "No worker is busy now, and no message waits: the run stands in the journal until somebody decides, for "
            "hours or weeks if need be. A person looks at the CSRs. (In real life another person than who asked; "
            "the demo's inventory says `four_eyes: false`, since you are alone.)",
        )
        self.decide(run, "sign")
        if self._people_sign(run):
            self._deliver(run)
        else:
            say("The issuer of this fleet is a private CA (`kind: local`), so it signs by itself after the approval.")
        chapter(
            "The certificates come in",
            "Each is matched to its CSR by the public key and checked (names, key, dates, usage, chain) before any "
            "server sees it; then it goes to its server and is read back.",
        )
        self.must("runs", "watch", run, code=WAITS_FOR_PEOPLE)

    def _go(self, run: str) -> None:
        chapter("Gate: go", "From here on services restart. A person sees which, and for how long, and says go.")
        self.decide(run, "go")
        chapter(
            "Apply and prove, one server at a time",
            "Each service is set to its new files and restarted; then every port is looked at from outside. Only when "
            "all ports of a server serve the new certificate does the next server begin; else it is put back.",
        )
        self.must("runs", "watch", run)

    def _prove(self, run: str, before: Mapping[str, NodeFacts]) -> int:
        chapter("Before and after", "Read from the ports themselves, as a client sees them.")
        with self.journal() as journal:
            ports = proved_ports(journal, run, before)
        show(_table(ports))
        report = self.world.root / "report.html"
        self.must("runs", "report", run, "--out", str(report))
        self.must("journal", "verify", run)
        if self.keeps:
            say(f"The report: {report}")
        missing = [port for port in ports if not port.proved]
        took = self.took_s
        say("")
        if missing or not ports:
            say((f"{len(missing)} of {len(ports)} ports are not proved.", "bold red"))
            return 1
        say((f"All {len(ports)} ports serve their new certificates. It took {took:.0f} s.", "bold green"))
        return 0

    # ── who signs ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _choose_issuer(self) -> None:
        if agrees("Do you want to sign the CSRs yourself (else a simulated CA does)?"):
            path = self.world.fleet / "fleet.yaml"
            written = yaml.safe_load(path.read_text())
            written["defaults"]["issuer"] = "manual"
            path.write_text(yaml.safe_dump(written, sort_keys=False))

    def _people_sign(self, run: str) -> bool:
        with self.journal() as journal:
            wishes = journal.plan(run)["wishes"].values()
        return any(wish["issuer"] == "manual" for wish in wishes)

    def _deliver(self, run: str) -> None:
        out = self.world.root / "csr"
        self.must("gates", "csr", run, "--out", str(out))
        say(f"Sign the requests in {out} with a CA of yours; a key to try it with lies in {self.world.fleet / 'ca'}.")
        while True:
            files = answer("Files with the certificates and their chain (blanks between, * allowed): ").split()
            found = [str(path) for name in files for path in _glob(name)]
            if found and self.world.run("gates", "deliver", "--run", run, *found) == 0:
                return


def proved_ports(journal: Journal, run: str, before: Mapping[str, NodeFacts]) -> tuple[ProvedPort, ...]:
    """Return what came of every port that the plan of *run* was to prove, in the order of the plan."""
    from workflows.plan import Plan

    plan = Plan.from_json(journal.plan(run))
    state = journal.state(run)
    found = []
    for lane in plan.lanes:
        for step in (one for one in lane.steps() if one.action == "prove"):
            at = state.lanes[lane.name].steps.get(step.id)
            seen = {(one["service"], one["port"]): one for one in (at.data.get("ports", ()) if at else ())}
            done = at is not None and at.status == "done"
            for port in step.params["ports"]:
                now = seen.get((port["service"], port["port"]), {})
                found.append(_proved(step.node, port, now, before[step.node], done=done))
    return tuple(found)


def _proved(node: str, port: Mapping[str, Any], now: Mapping[str, Any], before: NodeFacts, *, done: bool) -> ProvedPort:
    old = before.port(port["service"])
    return ProvedPort(
        node=node,
        service=port["service"],
        address=f"{port['address']}:{port['port']}",
        before=old.chain[0].not_valid_after[:10] if old and old.chain else "",
        after=str(now.get("not_valid_after", ""))[:10],
        chain=int(now.get("chain", 0)),
        proved=done and bool(now.get("seen")) and not now.get("fault"),
        why=str(now.get("fault", "") or ("" if now else "it was not looked at")),
    )


def _table(ports: Iterable[ProvedPort]) -> Table:
    rows: list[tuple[Span, ...]] = [
        (
            port.node,
            port.service,
            port.address,
            f"{port.before or '?'} → {port.after or '?'}",
            str(port.chain) if port.chain else "?",
            ("yes", "green") if port.proved else (f"no: {port.why}", "bold red"),
        )
        for port in ports
    ]
    return Table(columns=("node", "service", "address", "ends", "chain", "proved"), rows=rows)


def _glob(name: str) -> list[Path]:
    path = Path(name).expanduser()
    return sorted(path.parent.glob(path.name))
