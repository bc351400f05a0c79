"""Following a run: wait for one that only reads, or watch one until it ends or waits for people.

Only the journal is read. A person who presses Ctrl-C stops looking, not the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Self

import typer

from api.cli import run_text
from api.cli.output import console, note, text_of
from api.cli.progress import Progress
from api.cli.surroundings import need_worker, now
from api.planning import WORKER_LOST_S
from api.run_view import RunView, view
from workflows.actions import new_run_id, start_run
from workflows.errors import NoWorker
from workflows.journal import Event, Journal, Kind, RunState, stock
from workflows.plan import DATABASE, Plan

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_S = 0.2
"""How often the journal is looked at."""

WAITS_AGAIN = timedelta(minutes=1)
"""How often a step that waits is told of although its node says nothing new."""

_WORKERS_S = 5.0
OVER = frozenset({"done", "failed", "parked"})
"""What steps are at that are not gone on with."""
TOLD = frozenset(
    {
        Kind.STEP_DONE,
        Kind.STEP_FAILED,
        Kind.STEP_PARKED,
        Kind.STEPS_REOPENED,
        Kind.BARRIER_PASSED,
        Kind.GATE_OPENED,
        Kind.GATE_APPROVED,
        Kind.GATE_REJECTED,
        Kind.GATE_PASSED,
        Kind.CERTIFICATES_DELIVERED,
        Kind.LANE_STOPPED,
        Kind.LANE_PAUSED,
        Kind.LANE_RESUMED,
        Kind.LANE_CANCELLED,
        Kind.LANE_DONE,
        Kind.PUT_BACK,
        Kind.ROLLBACK_FAILED,
        Kind.RUN_CLOSED,
    }
)


def carry_out(journal: Journal, plan: Plan, *, by: str, what: str) -> RunState:
    """Start a plan that only reads, wait for its end, and return the state; *what* names it for the progress bar.

    Raises: NoWorker: there is none, or none is left.
    """
    need_worker(journal)
    run = new_run_id(now())
    start_run(journal, plan, by=by, run=run)
    steps = [step for lane in plan.lanes for step in lane.steps()]
    with Progress(what, len(steps)) as progress, leaving(run):
        look_for_workers = _Every(_WORKERS_S, partial(_check_workers, journal, run))
        while True:
            state = journal.state(run)
            for lane in state.lanes.values():
                for step in lane.steps.values():
                    if step.status in OVER:
                        progress.done(step.id, step.status)
            if state.outcome != "open" or all(
                lane.status in {"done", "stopped", "cancelled", "paused"} for lane in state.lanes.values()
            ):
                return state
            look_for_workers()
            time.sleep(LOOK_S)


def watch(journal: Journal, run: str) -> int:
    """Show how *run* goes on until it ends or waits for people; return the exit code of DESIGN.md section 9."""
    plan = Plan.from_json(journal.plan(run))
    with leaving(run):
        shown = _watch_live(journal, run, plan) if sys.stderr.isatty() else _watch_lines(journal, run, plan)
    events = journal.events(run) if plan.kind == DATABASE else ()
    run_text.show_end(view(plan, journal.state(run), now=now(), events=events))
    return exit_code(shown) or 0


def exit_code(shown: RunView) -> int | None:
    """Return the exit code for a run that ended or waits for people, None while it moves by itself."""
    left_out = {"failed", "parked", "excused"} & {part.status for lane in shown.lanes for part in lane.parts}
    if shown.outcome == "done" and left_out:
        return 1  # it ended within its fail limit, but a server was left out: never better than its worst node
    if shown.outcome != "open":
        return {"done": 0, "failed": 1}.get(shown.outcome, 4)
    if any(lane.moves for lane in shown.lanes):
        return None
    states = {lane.status for lane in shown.lanes}
    if "waiting" in states:
        return 3
    if "stopped" in states:
        return 1
    return None if states == {"done"} else 4


def _watch_lines(journal: Journal, run: str, plan: Plan) -> RunView:
    told = _last_decision(journal, run)
    waits = Waits()
    look_for_workers = _Every(_WORKERS_S, partial(_warn_of_workers, journal))
    while True:
        for event in journal.events(run, after=told):
            told = event.n
            tell(event, waits)
        shown = view(plan, journal.state(run), now=now())
        if exit_code(shown) is not None:
            return shown
        look_for_workers()
        time.sleep(LOOK_S)


def _last_decision(journal: Journal, run: str) -> int:
    """Return the number of the event just before a person moved the run last; what was before is in `runs show`."""
    return last_decision(journal.events(run))


def last_decision(events: Sequence[Event]) -> int:
    """Return the number of the event of *events* just before a person moved the run last."""
    decisions = {Kind.GATE_APPROVED, Kind.GATE_REJECTED, Kind.LANE_RESUMED}
    numbers = [event.n for event in events if event.kind in decisions]
    if not numbers:
        return 0
    first = numbers[-1]
    while first - 1 in numbers:
        first -= 1  # one decision on several lanes
    return first - 1


def _watch_live(journal: Journal, run: str, plan: Plan) -> RunView:
    with Picture() as picture:
        while True:
            shown = view(plan, journal.state(run), now=now())
            picture.show(shown)
            if exit_code(shown) is not None:
                return shown
            time.sleep(LOOK_S)


class Picture:
    """How a run stands, drawn anew in place on a terminal; times go on by themselves. A context manager."""

    def __init__(self) -> None:
        from rich.live import Live

        self._shown: RunView | None = None
        self._live = Live(
            console=console(sys.stderr),
            get_renderable=self._drawn,
            refresh_per_second=8,
            vertical_overflow="visible",
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, shown: RunView) -> None:
        """Draw *shown* from now on."""
        self._shown = shown

    def _drawn(self) -> RenderableType:
        from rich.console import Group

        return Group(*(text_of(line) for line in run_text.lines(self._shown, short=True)) if self._shown else ())


class Waits:
    """Tells of steps that wait when there is news: the node says something else, or a minute is over."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, datetime]] = {}

    def news(self, event: Event) -> str:
        """Return the line for *event* (a step waits), "" when it says nothing new."""
        data = event.data.get("data") or {}
        if not data.get("operation"):
            return ""
        status = f"{data.get('status', '')} {data.get('silent_since', '')}"
        before = self._told.get(event.step)
        if before is not None and before[0] == status and event.at - before[1] < WAITS_AGAIN:
            return ""
        self._told[event.step] = (status, event.at)
        return f"{event.at:%H:%M:%S} {event.step}: {run_text.operation_text(event.node, data)}"


def tell(event: Event, waits: Waits) -> None:
    """Write the line that tells of *event*, where there is one."""
    if event.kind in TOLD:
        note(line_of(event))
    elif event.kind is Kind.STEP_WAITING and (said := waits.news(event)):
        note(said)


def line_of(event: Event) -> str:
    """Return the line that tells of *event*: when, where, what, by whom and why."""
    data = event.data
    what = event.kind.value.replace("_", " ")
    if event.kind is Kind.GATE_OPENED and data.get("again"):
        # A person who resumes a lane opens the gate that was rejected; else it is the engine that takes back.
        rejected = event.actor != "engine"
        what = f"gate opened again, {'after its rejection' if rejected else 'the earlier approval is void'}"
    where = event.step or event.lane or event.run
    error = data.get("error") or {}
    why = " ".join(
        str(error.get("text") or data.get("reason") or data.get("again") or data.get("outcome") or "").split()
    )
    who = f" by {event.actor}" if event.actor != "engine" else ""
    return f"{event.at:%H:%M:%S} {where}: {what}{who}{f' ({why})' if why else ''}"


def _alive(journal: Journal) -> bool:
    return bool(journal.read(lambda connection: stock.workers(connection, within_s=WORKER_LOST_S)))


def _check_workers(journal: Journal, run: str) -> None:
    if not _alive(journal):
        raise NoWorker(f"No worker answers any more; run {run} goes on as soon as one does.")


def _warn_of_workers(journal: Journal) -> None:
    if not _alive(journal):
        warn_of_workers()


def warn_of_workers() -> None:
    """Say that nobody is there who would carry the run on."""
    note("no worker answers; the run goes on as soon as one does (`certbridge up`)", "yellow")


class _Every:
    """Calls a function when *seconds* are over since it was last called."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._seconds = seconds
        self._function = function
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            self._function()


class leaving:  # noqa: N801 - reads as the context manager it is
    """Tells who presses Ctrl-C that the run goes on without them."""

    def __init__(self, run: str) -> None:
        self._run = run

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            note(f"run {self._run} goes on; look at it again with `certbridge runs watch {self._run}`")
            raise typer.Exit(130)
