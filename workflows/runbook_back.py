"""How far the rebuild of a database cluster has come, by the journal, and which way back holds at that moment.

Until the primary's `remove` each removed node goes back by its own lines; after it the whole cluster is built again
with the old files; where these had ended already there is no way back but forward (DESIGN.md section 7). A line whose
outcome is not known counts as sent: the lines back say what they give, so what is still in place is left out. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workflows.errors import CommandRejected
from workflows.journal.fold import LaneState, StepState
from workflows.plan import Lane, Line, LineKind, Step
from workflows.procedures.database_places import CONNECTED, PRIMARY
from workflows.procedures.database_steps import moving
from workflows.runbook_lines import DISABLED, ENTERS, REMOVE, Cluster, files_made, gives_lines, step_lines

_NO_WAY = "none"  # how the plan's `way_back` begins where the old pairs had ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A lane and what the journal knows of it."""

    lane: Lane
    state: LaneState
    cluster: Cluster

    @classmethod
    def of(cls, lane: Lane, state: LaneState) -> Standing:
        """Return how *lane* stands."""
        return cls(lane=lane, state=state, cluster=Cluster.of(lane))

    def step(self, step: Step) -> StepState:
        """Return the state of *step*, an empty one when nobody was on it."""
        return self.state.steps.get(step.id) or StepState(id=step.id)

    def done(self, step: Step) -> bool:
        """Return whether *step* is done."""
        return self.step(step).status == "done"

    def sent(self, step: Step) -> tuple[Line, ...]:
        """Return the lines of *step* that went out and were not refused: they may have taken."""
        states = dict(self.step(step).lines)
        return tuple(
            line for number, line in enumerate(step.lines) if states.get(number) in {"intent", "ok", "unknown"}
        )

    def failed(self, step: Step) -> bool:
        """Return whether the operation of *step* is known to have failed: its status said so, or it was refused."""
        state = self.step(step)
        return state.status in {"failed", "parked"} and (state.error or {}).get("code") == CommandRejected.__name__

    def moved(self, step: Step) -> bool:
        """Return whether the line of *step* that begins an operation went out; a `remove` that failed took nothing."""
        if step.action == REMOVE and self.failed(step):
            return False
        return self.done(step) or (bool(step.lines) and step.lines[-1] in self.sent(step))

    @property
    def removes(self) -> tuple[Step, ...]:
        """The steps that take a node out, in order, the primary's last."""
        return tuple(step for step in self.lane.steps() if step.action == REMOVE)

    @property
    def out(self) -> tuple[Step, ...]:
        """The removals that were begun."""
        return tuple(step for step in self.removes if self.moved(step))

    @property
    def entered(self) -> tuple[Step, ...]:
        """The ways in that were begun."""
        return tuple(step for step in self.lane.steps() if step.action in ENTERS and self.moved(step))

    @property
    def outside(self) -> tuple[str, ...]:
        """The nodes that were taken out of their cluster, as far as we know, and are not in one again."""
        back_in = {step.node for step in self.lane.steps() if step.action in ENTERS and self.done(step)}
        return tuple(step.node for step in self.out if step.node not in back_in)

    @property
    def untouched(self) -> bool:
        """Whether no node was taken out of its cluster or into one."""
        return not self.out and not self.entered

    def leftovers(self) -> dict[str, list[str]]:
        """Return {node: new files that may be there}, whatever came of the lines that made them."""
        found: dict[str, dict[str, None]] = {}
        for step in self.lane.steps():
            for line in step.lines if self.done(step) else self.sent(step):
                there = found.setdefault(step.node, {})
                there |= dict.fromkeys(files_made(line))
                if line.kind is LineKind.DELETE:
                    there.pop(line.text, None)
        return {node: list(names) for node, names in found.items() if names}

    def backups(self) -> tuple[tuple[str, StepState], ...]:
        """Return (node, step) of the backups that were fetched."""
        return tuple((step.node, self.step(step)) for step in self.lane.steps() if "backup" in self.step(step).data)


def back(standing: Standing) -> Iterator[str]:
    """Yield the lines back that hold now, and in one sentence which way back that is."""
    primary = standing.cluster.primary
    if standing.untouched:
        yield "Nothing to undo: no node was taken out of its cluster or into one."
        yield from _leftovers(standing)
    elif not standing.removes and not any(step.action == "database_initialize" for step in standing.lane.steps()):
        names = ", ".join(step.node for step in standing.entered)
        yield f"{names} came back to {primary} with the files of before; there is nothing further back."
    elif not standing.removes:
        yield from _leave(standing)
    elif gone := [step.node for step in standing.removes if _lost(standing, step)]:
        yield (
            f"There is no way back but forward, or the backups: the old files of {', '.join(gone)} were no way back "
            "when the plan was made (expired, or not there)."
        )
    elif _each_by_its_own(standing):
        names = ", ".join(step.node for step in standing.out)
        yield f"{primary} is still in the cluster, so each removed node ({names}) goes back by its own lines:"
        for step in reversed(standing.out):
            yield f"- {step.node}, {step.params['role']} of {primary}, with its old files"
            yield from step_lines(step, standing.cluster, step.undo)
    elif not any(step.node == primary for step in standing.removes):
        yield (
            "There is no way back but forward, or the backups: "
            f"{primary}, whose data is kept, was in no cluster to which the others could go back."
        )
    else:
        yield from _whole(standing)
    yield from _backups(standing)


def _lost(standing: Standing, step: Step) -> bool:
    """Return whether the old files of a node are no way back; before the primary's turn only removed nodes count."""
    lost = not step.undo or str(step.params["way_back"]).startswith(_NO_WAY)
    return lost and (not _each_by_its_own(standing) or step in standing.out)


def _each_by_its_own(standing: Standing) -> bool:
    """Return whether the cluster that stood still stands on its primary, so that nodes can come back to it."""
    primary = standing.cluster.primary
    removed = any(step.node == primary for step in standing.out)
    was = [
        expect.value["role"]
        for step in standing.lane.steps()
        if step.node == primary and step.action == "database_recheck"
        for expect in step.expects
        if expect.kind == "database"
    ]
    return not removed and was == [PRIMARY]


def _whole(standing: Standing) -> Iterator[str]:
    """Yield the way of the whole cluster back: everything out, then in with the old files, the old primary first."""
    cluster = standing.cluster
    yield f"The whole cluster is built again with the old files, on the data of {cluster.primary}, in this order."
    yield "With the engine, `certbridge runs rollback` does the same. Never `initialize` any other node."
    old = {step.node: step for step in standing.removes}
    order = list(old)
    order += [step.node for step in standing.entered if step.node not in old]
    order.sort(key=lambda node: node == cluster.primary)  # the primary last
    yield "- every node leaves the cluster"
    for node in order:
        home = old[node].undo if node in old else ()
        yield from _way_out(standing, node, home)
    ways_in = sorted(old.values(), key=lambda step: {PRIMARY: 0, CONNECTED: 2}.get(step.params["role"], 1))
    for step in ways_in:
        yield f"- {step.node} comes in as {step.params['role']}, with its old files"
        yield from step_lines(step, cluster, step.undo)
    if stranger := [node for node in order if node not in old]:
        yield f"- {', '.join(stranger)}: in no cluster before this run, so it stays out"


def _leave(standing: Standing) -> Iterator[str]:
    """Yield the way back of a first building: what came in leaves; data that a join overwrote does not come back."""
    yield "Before this run no node was in a cluster. What came in leaves again, the primary last;"
    yield "what a joined node held alone before is in its backup only."
    for step in reversed(standing.entered):
        yield from _way_out(standing, step.node, ())


def _way_out(standing: Standing, node: str, home: tuple[Line, ...]) -> Iterator[str]:
    """Yield the `remove` of a node, which is left out where it is out, or in with its old files already."""
    ended = "; ".join(standing.cluster.gives(line) for line in home if line.content != "set:localnode")
    yield f"    {node}> {_REMOVE.text}    (asks {_REMOVE.question}: answer with a capital {_REMOVE.answer})"
    yield from gives_lines(node, DISABLED, ended)


_REMOVE = moving("database cluster remove", "remove")


def _leftovers(standing: Standing) -> Iterator[str]:
    found = standing.leftovers()
    if not found:
        yield "No file was left on any node."
        return
    yield "New files that may be on the nodes; nothing uses them, so keep or delete them:"
    for node, names in found.items():
        yield f"- {node}: {', '.join(names)}"


def _backups(standing: Standing) -> Iterator[str]:
    found = standing.backups()
    if found:
        yield "Backups of this run (sealed in the journal; also on the node):"
    for node, state in found:
        backup = state.data["backup"]
        when = f", {state.ended_at:%Y-%m-%d %H:%M:%S} UTC" if state.ended_at else ""
        yield f"- {backup['name']} on {node}: {backup['size']} bytes, SHA-256 {backup['sha256']}{when}"
