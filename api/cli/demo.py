"""`certbridge demo`: a fleet is renewed from survey to proof, told in plain words, with the commands of every day.

Nothing is acted: `demo_world` starts a simulated fleet and a whole engine, every line after "$" is run as shown, and
the table at the end is made from the journal. Exit code 0 only when every port that was to be renewed is proved.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import yaml

from api.cli.demo_world import World
from api.cli.output import Span, Table, say, show
from api.cli.surroundings import on_terminal
from workflows.errors import EngineError, InputError, Stopped

if TYPE_CHECKING:
    from workflows.facts import NodeFacts
    from workflows.journal import Journal

WAITS_FOR_PEOPLE = 3
_PLAN_LINES = 24
_GATE_LINES = 16


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


class Story:
    """The demo; a context manager that takes everything down again."""

    def __init__(self, *, clusters: int, nodes: int, release: str, ask: bool, keep: bool, latency: float) -> None:
        if ask and not on_terminal():
            raise InputError("`--ask` needs a terminal to ask on.", remedy="Leave out `--ask`.")
        self._shape = ("--clusters", str(clusters), "--nodes", str(nodes), "--release", release)
        self._latency = latency
        self._ask = ask
        self._keep = keep
        self._began = time.monotonic()
        self._world: World

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, _interrupt)  # TERM takes everything down as Ctrl-C does
        self._world = World(keep=self._keep)
        return self

    def __exit__(self, *error: object) -> None:
        say(("Taking everything down again.", "dim"))
        self._world.__exit__(*error)

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
        world = self._world
        _chapter(
            "A fleet to try it on",
            "Simulated Cisco Meeting Servers on loopback addresses: real SSH, real SFTP, real TLS ports. "
            "Their certificates end in 12 days.",
        )
        world.start_simulator(*self._shape, "--latency", f"{self._latency:g}")
        if self._ask:
            self._choose_issuer()
        _chapter(
            "The engine",
            "A broker, workers, a clock and Flower, all on this machine, with a state directory of the demo's own. "
            "Workers are separate processes; this takes some seconds.",
        )
        world.start_engine()
        _copy_private(world.fleet / "credentials.yaml", world.state / "credentials.yaml")
        _chapter(
            "Whom we talk to",
            "No password goes to a server whose host key is not known. Here the keys come from the simulator; on a "
            "real fleet `certbridge trust NODE` shows each fingerprint, and you compare it with the server's own.",
        )
        self._must("trust", "--from", str(world.fleet / "pins.json"))

    def _survey(self) -> dict[str, NodeFacts]:
        _chapter("Survey", "Every server is read at the same time. Nothing is changed.")
        self._must("survey")
        return self._facts()

    def _plan(self) -> None:
        _chapter(
            "Plan",
            "What is due, and every single line that would be sent to a server. The run sends exactly these lines, or "
            "stops. The same survey gives the same plan, byte for byte.",
        )
        self._must("plan", "--save", str(self._plan_file), shorten_to=_PLAN_LINES)

    def _request(self) -> str:
        _chapter(
            "Keys and CSRs, on all servers at once",
            f"New key and CSR on every server, beside the old ones, so nothing is interrupted. Each server takes "
            f"{self._latency:g} s for a key; they all work at the same time. Then the run waits at the gate `sign`.",
        )
        self._must("run", str(self._plan_file), "--yes", "--watch", code=WAITS_FOR_PEOPLE)
        with self._journal() as journal:
            return journal.runs(limit=1)[0].run

    def _sign(self, run: str) -> None:
        _chapter(
            "Gate: sign",
            "No worker is busy now, and no message waits: the run stands in the journal until somebody decides, for "
            "hours or weeks if need be. A person looks at the CSRs. (In real life another person than who asked; "
            "the demo's inventory says `four_eyes: false`, since you are alone.)",
        )
        self._decide(run, "sign")
        if self._people_sign(run):
            self._deliver(run)
        else:
            say("The issuer of this fleet is a private CA (`kind: local`), so it signs by itself after the approval.")
        _chapter(
            "The certificates come in",
            "Each is matched to its CSR by the public key and checked (names, key, dates, usage, chain) before any "
            "server sees it; then it goes to its server and is read back.",
        )
        self._must("runs", "watch", run, code=WAITS_FOR_PEOPLE)

    def _go(self, run: str) -> None:
        _chapter("Gate: go", "From here on services restart. A person sees which, and for how long, and says go.")
        self._decide(run, "go")
        _chapter(
            "Apply and prove, one server at a time",
            "Each service is set to its new files and restarted; then every port is looked at from outside. Only when "
            "all ports of a server serve the new certificate does the next server begin; else it is put back.",
        )
        self._must("runs", "watch", run)

    def _prove(self, run: str, before: Mapping[str, NodeFacts]) -> int:
        _chapter("Before and after", "Read from the ports themselves, as a client sees them.")
        with self._journal() as journal:
            ports = proved_ports(journal, run, before)
        show(_table(ports))
        report = self._world.root / "report.html"
        self._must("runs", "report", run, "--out", str(report))
        self._must("journal", "verify", run)
        if self._keep:
            say(f"The report: {report}")
        missing = [port for port in ports if not port.proved]
        took = time.monotonic() - self._began
        say("")
        if missing or not ports:
            say((f"{len(missing)} of {len(ports)} ports are not proved.", "bold red"))
            return 1
        say((f"All {len(ports)} ports serve their new certificates. It took {took:.0f} s.", "bold green"))
        return 0

    # ── what the chapters share ──────────────────────────────────────────────────────────────────────────────────────
    @property
    def _plan_file(self) -> Path:
        return self._world.root / "plan.json"

    def _must(self, *words: str, code: int = 0, shorten_to: int = 0) -> None:
        found = self._world.run(*words, shorten_to=shorten_to)
        if found != code:
            raise EngineError(
                f"`certbridge {' '.join(words)}` ended with {found} and not with {code}; the demo cannot go on.",
                remedy="Run the demo with `--keep` and read the logs, then report it.",
            )

    def _decide(self, run: str, gate: str) -> None:
        if not self._ask:
            self._must("gates", "show", run, "--gate", gate, shorten_to=_GATE_LINES)
            self._must("gates", "approve", run, "--gate", gate, "--yes", shorten_to=_GATE_LINES)
        elif self._world.run("gates", "approve", run, "--gate", gate):  # it shows all of it, and asks
            self._must("gates", "reject", run, "--gate", gate, "--reason", "said no in the demo", "--yes")
            raise Stopped("You said no: the run ends here, and nothing more is changed.")

    def _choose_issuer(self) -> None:
        if _agrees("Do you want to sign the CSRs yourself (else a simulated CA does)?"):
            path = self._world.fleet / "fleet.yaml"
            written = yaml.safe_load(path.read_text())
            written["defaults"]["issuer"] = "manual"
            path.write_text(yaml.safe_dump(written, sort_keys=False))

    def _people_sign(self, run: str) -> bool:
        with self._journal() as journal:
            wishes = journal.plan(run)["wishes"].values()
        return any(wish["issuer"] == "manual" for wish in wishes)

    def _deliver(self, run: str) -> None:
        out = self._world.root / "csr"
        self._must("gates", "csr", run, "--out", str(out))
        say(f"Sign the requests in {out} with a CA of yours; a key to try it with lies in {self._world.fleet / 'ca'}.")
        while True:
            files = _answer("Files with the certificates and their chain (blanks between, * allowed): ").split()
            found = [str(path) for name in files for path in _glob(name)]
            if found and self._world.run("gates", "deliver", "--run", run, *found) == 0:
                return

    def _facts(self) -> dict[str, NodeFacts]:
        from workflows.facts import NodeFacts
        from workflows.inventory import Fleet
        from workflows.journal import stock

        path = self._world.settings.fleet
        names = [node.name for node in Fleet.from_yaml(path.read_text()).resolved(str(path.parent)).nodes]
        with self._journal() as journal:
            latest = journal.read(partial(stock.latest_facts, nodes=names))
        return {name: NodeFacts.from_json(data) for name, (_, _, data) in latest.items()}

    def _journal(self) -> Journal:
        from workflows.journal import Journal

        return Journal.open(self._world.settings.database_url)


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


def _chapter(title: str, words: str) -> None:
    say("")
    say((f"── {title} ", "bold"))
    say(words)


def _agrees(question: str) -> bool:
    return _answer(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def _answer(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise Stopped("Nobody answers any more, so the demo ends here.") from None


def _glob(name: str) -> list[Path]:
    path = Path(name).expanduser()
    return sorted(path.parent.glob(path.name))


def _copy_private(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    target.write_bytes(source.read_bytes())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
