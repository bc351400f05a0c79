"""What a step has in its hands: the plan, its line numbers, the journal, a session, the papers of its lane.

`Work` is one per worker process and holds what lives long; `StepContext` is one per attempt of a step. Every change
goes through `change` and `upload` here: intent row, act, outcome row (DESIGN.md section 4), so no step can forget it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography import x509

from workers import clock, runbooks
from workers.connections import Connections
from workers.credentials import Credentials
from workers.failpoints import failpoint
from workers.loop import LoopThread
from workers.session import NodeSession
from workflows import papers
from workflows.errors import CertbridgeError, CommandRejected, LeaseLost
from workflows.facts import NodeFacts
from workflows.inventory import KeyOrigin, Node, ResolvedFleet
from workflows.journal import claims, stock
from workflows.journal.claims import Claim
from workflows.journal.store import Journal, Transaction
from workflows.journal.vault import Vault
from workflows.mmp.replies import Outcome, Verdict
from workflows.plan import Lane, Line, LineKind, Plan, Step
from workflows.settings import Settings
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.request import KeyKind

T = TypeVar("T")

_KEY_KINDS = {
    "rsa2048": KeyKind.RSA_2048,
    "rsa3072": KeyKind.RSA_3072,
    "rsa4096": KeyKind.RSA_4096,
    "ec256": KeyKind.EC_P256,
    "ec384": KeyKind.EC_P384,
}
# Numbers of undo lines in the journal begin here, so that they are told apart from the step's own lines.
UNDO_OFFSET = 1000
_KEPT_PLANS = 16


@dataclass(slots=True)
class Work:
    """What a worker process keeps: settings, journal, the loop with its connections, the vault, plans it has read."""

    settings: Settings
    journal: Journal
    loop: LoopThread
    connections: Connections
    vault: Vault
    credentials: Credentials
    holder: str
    plans: dict[str, tuple[Plan, ResolvedFleet]] = field(default_factory=dict)
    reading: threading.Lock = field(default_factory=threading.Lock)
    ending: threading.Event = field(default_factory=threading.Event)
    """Set when this process was told to stop: nothing begins any more, and whoever only waits gives way."""
    monotonic: Callable[[], float] = clock.elapsed

    def passphrase(self, credential: str) -> bytes | None:
        """Return the password of *credential*, None for "". Raises: CredentialMissing."""
        password = self.credentials.resolve(credential).password if credential else None
        return password.reveal().encode() if password else None

    def plan(self, run: str) -> tuple[Plan, ResolvedFleet]:
        """Return plan and inventory of *run*; a plan never changes, so it is read once."""
        known = self.plans.get(run)
        if known is not None:
            return known
        # One thread reads it and the others wait: a plan of 200 servers takes half a second to read.
        with self.reading:
            known = self.plans.get(run)
            if known is None:
                while len(self.plans) >= _KEPT_PLANS:
                    self.plans.pop(next(iter(self.plans)))
                plan = Plan.from_json(self.journal.plan(run))
                known = self.plans[run] = (plan, ResolvedFleet.from_json(plan.fleet))
        return known


class Wait(Exception):
    """The server is still at it: the step gives its thread back and looks again in *wait_s* seconds.

    *data* is what the journal keeps for those who watch: {"operation", "since", "elapsed_s", "usual_s", "status"}.
    """

    def __init__(self, wait_s: float, data: Mapping[str, Any]) -> None:
        super().__init__(f"{data.get('operation', 'the server')} is still under way")
        self.wait_s = wait_s
        self.data = data


class Redo(Exception):
    """Earlier *parts* of the lane (steps, barriers) are to be gone through anew before this step: *why*."""

    def __init__(self, parts: tuple[str, ...], why: str) -> None:
        super().__init__(why)
        self.parts = parts
        self.why = why


@dataclass(slots=True)
class Held:
    """Until when a lease is surely held, by this machine's own clock: counted from before it was asked for."""

    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WishView:
    """A wish of the plan as a step needs it."""

    id: str
    basename: str
    key: KeyOrigin
    key_kind: KeyKind
    key_file: str
    csr_file: str
    subject: Subject
    sans: SubjectAltNames
    services: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class StepContext:
    """One attempt of one step. `sent` counts, per line number, how often it went out since the node was put back."""

    work: Work
    run: str
    plan: Plan
    fleet: ResolvedFleet
    lane: Lane
    step: Step
    claim: Claim
    held: Held
    sent: dict[int, int]
    outcomes: dict[int, str]
    began: bool
    """Whether a line was sent already, now or by an earlier attempt: then `expects` is no longer asked."""
    looked_at: frozenset[int] = frozenset()
    """Lines that were sent last before a person resumed the lane, who thus knows of them."""
    sent_at: dict[int, float] = field(default_factory=dict)
    """When each line was sent last, by `work.monotonic`."""

    def give_way(self) -> None:
        """Return while this process may go on waiting. Raises: Wait: it was told to stop; another one looks again."""
        if self.work.ending.is_set():
            raise Wait(self.work.settings.poll_s, {"why": "its worker was told to stop; the next one looks again"})

    # ── reading the plan and the journal ─────────────────────────────────────────────────────────────────────────────
    @property
    def node(self) -> Node:
        """The node of this step, from the inventory that the plan carries."""
        return self.fleet.node(self.step.node)

    @property
    def patience_s(self) -> float:
        """How long a port may take to serve its new certificate, in seconds."""
        return min(45.0, self.work.settings.longest_poll_s)

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.now(UTC)

    def wish(self, wish_id: str) -> WishView:
        """Return the wish *wish_id* of the plan."""
        one = self.plan.wishes[wish_id]
        return WishView(
            id=wish_id,
            basename=one["basename"],
            key=KeyOrigin(one["key"]),
            key_kind=_KEY_KINDS[one["key_kind"]],
            key_file=one["key_file"],
            csr_file=one["csr_file"],
            subject=papers.subject_of(one),
            sans=papers.sans_of(one),
            services=tuple(one["services"]),
        )

    async def certificate(self, wish_id: str) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
        """Return the delivered certificate of *wish_id* and its chain (leaf first, root last)."""
        return await asyncio.to_thread(self._certificate, wish_id)

    def _certificate(self, wish_id: str) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
        journal = self.work.journal
        return papers.certificate_of(journal, journal.state(self.run).lanes[self.lane.name], wish_id)

    def ports_of(self, node: str) -> tuple[Mapping[str, Any], ...]:
        """Return the ports of *node* that its prove step will look at."""
        return tuple(
            port
            for step in self.lane.steps()
            if step.action == "prove" and step.node == node
            for port in step.params["ports"]
        )

    def wanted_setting(self, service: str) -> Mapping[str, str] | None:
        """Return what *service* on this node is to be set to when its apply step is done."""
        for step in self.lane.steps():
            wanted = step.params.get("wanted", {}) if step.action in {"apply", "restore"} else {}
            if step.node == self.step.node and service in wanted:
                setting: Mapping[str, str] = wanted[service]
                return setting
        return None

    # ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @asynccontextmanager
    async def session(self, node: str = "") -> AsyncIterator[NodeSession]:
        """Give a session on this step's node (or on *node*, its source), which may send the lines of this step."""
        there = self.fleet.node(node or self.step.node)
        allowed = (*self.step.lines, *self.step.undo)
        async with self.work.connections.session(there, run=self.run, allowed=allowed) as session:
            yield session

    # ── changing: intent, act, outcome ───────────────────────────────────────────────────────────────────────────────
    def number_of(self, line: Line) -> int:
        """Return the number of *line* among the lines of this step."""
        return self.step.lines.index(line)

    def was_sent(self, line: Line, number: int | None = None) -> bool:
        """Return whether *line* was sent since the node was last put back, whatever came of it."""
        return self.times_sent(line, number) > 0

    def times_sent(self, line: Line, number: int | None = None) -> int:
        """Return how often *line* was sent since the node was last put back."""
        return self.sent.get(self.number_of(line) if number is None else number, 0)

    def may_be_under_way(self) -> bool:
        """Return whether the last line of this step, which begins an operation, went out and was not refused."""
        last = len(self.step.lines) - 1
        return last >= 0 and self.sent.get(last, 0) > 0 and self.outcomes.get(last) != "refused"

    def late_s(self, number: int) -> float:
        """Return how long line *number* may still be at work on its server, in seconds; 0 when its end is known.

        The server goes on with a line whose connection was cut, so a repeat that comes too early would be undone by
        the late effect of the first one (faults.md F15).
        """
        if not self.sent.get(number) or self.outcomes.get(number) in {"ok", "refused"}:
            return 0.0
        sent_at = self.sent_at.get(number, self.work.monotonic())
        return max(0.0, sent_at + self.work.settings.settle_s - self.work.monotonic())

    def outcome_of(self, line: Line, number: int | None = None) -> str:
        """Return "ok", "refused", "unknown", or "" when *line* was not sent since the node was last put back."""
        return self.outcomes.get(self.number_of(line) if number is None else number, "")

    async def change(
        self, session: NodeSession, line: Line, *, number: int | None = None, tolerate_refusal: bool = False
    ) -> None:
        """Send a command, or make a rename or delete, of the plan.

        Raises: CommandRejected (the server said FAILURE), OutcomeUnknown (nobody knows), LeaseLost, Stopped.
        """

        async def act() -> tuple[str, str]:
            if line.kind is LineKind.RENAME:
                await session.rename(line, before_sending=self._must_hold)
            elif line.kind is LineKind.DELETE:
                await session.delete(line, before_sending=self._must_hold)
            else:
                return _judged(await session.change(line, before_sending=self._must_hold))
            return "ok", ""

        await session.ready(line)
        await self._noted(line, number, act, tolerate_refusal=tolerate_refusal)

    async def upload(self, session: NodeSession, line: Line, data: bytes) -> str:
        """Upload *data* as *line* says, unless it is there already; return its SHA-256."""
        if self.was_sent(line):
            seen = await self._same_there(session, line, data)
            if seen:
                await self.settle(line, self.number_of(line))
                return seen
        digest = ""

        async def act() -> tuple[str, str]:
            nonlocal digest
            digest = (await session.upload(line, data, before_each_write=self._must_hold)).sha256
            return "ok", f"sha256 {digest}"

        await session.ready(line)
        await self._noted(line, None, act)
        return digest

    async def fetch(self, session: NodeSession, line: Line) -> bytes:
        """Fetch the file of *line*; reading changes nothing, so there is no intent row."""
        return await session.fetch(line.text)

    async def settle(self, line: Line, number: int) -> None:
        """Write the outcome of a line whose answer was lost, now that the server shows that it took."""
        if self.outcomes.get(number) != "ok" and self.sent.get(number):
            await self.write(claims_outcome(self.claim, number, "ok", f"recovered: the server shows `{line.text}`"))
            self.outcomes[number] = "ok"

    async def _noted(
        self, line: Line, number: int | None, act: Callable[[], Any], *, tolerate_refusal: bool = False
    ) -> None:
        place = self.number_of(line) if number is None else number
        failpoint("before_intent", str(line), self.step.id)
        await self.write(claims_intent(self.claim, place, str(line), back=place >= UNDO_OFFSET))
        await self._keep_runbook()
        failpoint("after_intent", str(line), self.step.id)
        self.sent[place] = self.sent.get(place, 0) + 1
        self.sent_at[place] = self.work.monotonic()
        self.looked_at -= {place}
        self.began = True
        self.outcomes.pop(place, None)
        self._must_hold()
        try:
            state, text = await act()
            failpoint("after_effect", str(line), self.step.id)
        except asyncio.CancelledError:
            # The step's time is over, or its lease: the server may go on with the line, and the journal says so.
            await self._outcome(place, "unknown", "the step was broken off before the server had answered")
            raise
        except CommandRejected as error:
            await self._outcome(place, "refused", error.message)
            raise
        except CertbridgeError as error:
            await self._outcome(place, "unknown", error.message)
            raise
        await self._outcome(place, state, text)
        failpoint("after_outcome", str(line), self.step.id)
        if state == "refused" and not tolerate_refusal:
            raise CommandRejected(f"`{line.text}` was refused: {text}", node=self.step.node, command=line.text)

    def _must_hold(self) -> None:
        """Raise LeaseLost when the lease may have run out since the intent: a process that stood still has woken."""
        if self.work.monotonic() >= self.held.until:
            raise LeaseLost("The lease ran out; nothing more was sent.", node=self.step.node, step=self.step.id)

    async def _outcome(self, number: int, state: str, text: str) -> None:
        await self.write(claims_outcome(self.claim, number, state, text))
        await self._keep_runbook()
        self.outcomes[number] = state

    async def _keep_runbook(self) -> None:
        await runbooks.keep_in_time(self.work.settings, self.work.journal, self.plan, self.run)

    async def _same_there(self, session: NodeSession, line: Line, data: bytes) -> str:
        """Return the SHA-256 of the file on the server when it is *data*, else ""."""
        there = any(entry.name == line.text and entry.size == len(data) for entry in await session.listing())
        return hashlib.sha256(data).hexdigest() if there and await session.holds(line, data) else ""

    async def wait_for_files(self, session: NodeSession, names: set[str]) -> set[str]:
        """Look for *names* until they are there, for 20 s at most (a key takes seconds); return what is there then."""
        deadline = min(20.0, self.work.settings.longest_poll_s)
        waited = 0.0
        while True:
            there = {entry.name for entry in await session.listing()}
            if names <= there or waited >= deadline:
                return there
            self.give_way()
            await asyncio.sleep(self.work.settings.poll_s)
            waited += self.work.settings.poll_s

    # ── the journal, from the loop ───────────────────────────────────────────────────────────────────────────────────
    async def write(self, function: Callable[[Transaction], T]) -> T:
        """Return what *function* returned, once it is committed."""
        return await asyncio.wrap_future(self.work.journal.submit(function))

    async def put_blob(self, kind: str, data: bytes) -> str:
        """Keep public material and return its SHA-256."""
        return await self.write(functools.partial(stock.put_blob, kind=kind, content=data))

    async def put_facts(self, facts: NodeFacts) -> str:
        """Keep what a survey read and return its digest."""
        return await self.write(
            functools.partial(stock.put_facts, node=facts.node, facts=facts.to_json(), run=self.run)
        )

    async def seal(self, row: str, data: bytes) -> None:
        """Keep a secret encrypted under the name *row*."""
        sealed = await asyncio.to_thread(self.work.vault.seal, row, data)
        await self.write(functools.partial(stock.seal, sealed_id=row, ciphertext=sealed))

    async def unseal(self, row: str) -> bytes | None:
        """Return the secret kept under *row*, None when there is none."""
        sealed = await asyncio.to_thread(self.work.journal.read, functools.partial(stock.sealed, sealed_id=row))
        return None if sealed is None else await asyncio.to_thread(self.work.vault.unseal, row, sealed)


def claims_intent(claim: Claim, number: int, text: str, *, back: bool = False) -> Callable[[Transaction], Any]:
    """Return the function that writes the intent row of a line; *back*: it takes an earlier one back."""
    return functools.partial(claims.intent, claim=claim, line_no=number, text=text, back=back)


def claims_outcome(claim: Claim, number: int, state: str, text: str) -> Callable[[Transaction], Any]:
    """Return the function that writes the outcome row of a line."""
    return functools.partial(claims.outcome, claim=claim, line_no=number, state=state, text=text)  # type: ignore[arg-type]


def _judged(verdict: Verdict) -> tuple[str, str]:
    """Return (state, text) of a reply. No FAILURE is not yet success: the step reads the status afterwards."""
    if verdict.outcome is Outcome.REFUSED:
        return "refused", "; ".join(verdict.failures) or verdict.text
    if verdict.outcome is Outcome.UNKNOWN and not verdict.silent:
        return "unknown", verdict.text
    return "ok", verdict.text or "(answered without a word)"
