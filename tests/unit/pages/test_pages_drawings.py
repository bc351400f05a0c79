"""What pages draw from a run: what it waits for, the grid, the Gantt chart; and who trusts whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.fleet_view import Trusted
from api.pages import gantt, texts, trust_map, words
from api.pages.grid import grid
from api.pages.waits import waits
from api.run_view import LaneView, PartView, RunView, Waiting
from workflows.plan import Barrier, Gate, Lane, Par, Seq, Step

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BEGAN = NOW - timedelta(minutes=10)


@pytest.fixture(autouse=True)
def _english():
    texts.speak("en")


def a_step(name: str, node: str, stage: int) -> Step:
    return Step(id=f"seoul/{node}/{name}", node=node, action=name, stage=stage, title=f"{node}: {name}")


LANE = Lane(
    name="seoul",
    tree=Seq(
        (
            Par((a_step("request", "a1", 300), a_step("request", "a2", 300))),
            Barrier(id="seoul/requested", name="requested", holds="every request is made"),
            Gate(id="seoul/sign", name="sign", needs="approval"),
            a_step("deliver", "a1", 500),
            a_step("deliver", "a2", 500),
        )
    ),
)


def a_part(step: Step, status: str = "open", **more: object) -> PartView:
    said = {"id": step.id, "kind": "step", "title": step.title, "stage": step.stage, "node": step.node}
    return PartView(**said, status=status, **more)  # type: ignore[arg-type]


def a_lane(status: str = "running", states: tuple[str, ...] = ("open",) * 6, **more: object) -> LaneView:
    leaves = (*LANE.tree.parts[0].parts, *LANE.tree.parts[1:])  # type: ignore[union-attr]
    parts = []
    for number, (leaf, state) in enumerate(zip(leaves, states, strict=True)):
        times = {
            "started_at": BEGAN + timedelta(seconds=30 * number) if state != "open" else None,
            "ended_at": BEGAN + timedelta(seconds=30 * number + 20)
            if state in {"done", "approved", "failed"}
            else None,
        }
        if isinstance(leaf, Step):
            parts.append(a_part(leaf, state, **times))
        else:
            kind = "gate" if isinstance(leaf, Gate) else "barrier"
            parts.append(PartView(id=leaf.id, kind=kind, title="every request is made", status=state, **times))
    values = {"name": "seoul", "status": status, "reason": "", "moves": status == "running", "parts": tuple(parts)}
    return LaneView(**(values | more))  # type: ignore[arg-type]


def a_run(*lanes: LaneView, outcome: str = "open") -> RunView:
    return RunView(
        run="r", kind="renewal", fleet="f", digest="d", requested_by="ann", created_at=BEGAN, closed_at=None,
        outcome=outcome, status="running", lanes=lanes,
    )  # fmt: skip


# ── what it waits for ────────────────────────────────────────────────────────────────────────────────────────────────
def test_steps_at_work_are_named_with_since_when_and_how_long_usually():
    (said,) = waits(a_run(a_lane(states=("running", "running", *("open",) * 4))))
    assert said.text == "Waits for “request” on a1, a2."
    assert (said.since, said.usual) == (BEGAN, "3 s to 1 min")


@pytest.mark.parametrize(("stage", "named"), [(700, "remove"), (720, "initialize"), (780, "upgrade schema")])
@pytest.mark.parametrize("data", [{}, {"operation": "cluster"}])
def test_what_a_database_run_waits_for_is_named_as_in_its_grid(stage, named, data):
    lane = a_lane(states=("done",) * 4 + ("waiting", "open"))
    parts = tuple(replace(part, data=data, stage=stage) if part.status == "waiting" else part for part in lane.parts)
    shown = replace(a_run(replace(lane, parts=parts)), kind="database")
    (said,) = waits(shown)
    assert said.text == f"Waits for “{named}” on a1."
    assert named in grid(shown).columns


def test_a_long_operation_tells_what_the_server_says_since_when_and_the_usual_time():
    lane = a_lane(states=("done",) * 4 + ("waiting", "open"))
    since = NOW - timedelta(minutes=4)
    data = {"operation": "join", "since": since.isoformat(), "usual_s": [30, 900], "status": "61 %"}
    parts = tuple(replace(part, data=data, stage=740) if part.status == "waiting" else part for part in lane.parts)
    (said,) = waits(replace(a_run(replace(lane, parts=parts)), kind="database"))
    assert (said.text, said.since, said.usual) == ("Waits for “join” on a1.", since, "30 s to 15 min")
    assert said.more == ("The server says: 61 %",)


def test_a_gate_is_waited_for_by_its_name():
    gate = Waiting(gate="seoul/sign", name="sign", on="approval", since=NOW, who="anyone but ann", people=True)
    (said,) = waits(a_run(a_lane("waiting", ("done", "done", "done", "waiting", "open", "open"), waiting=gate)))
    assert said.text == "Waits for a decision at the gate “Sign”."
    assert (said.look, said.gate, said.since) == ("people", "seoul/sign", NOW)


@pytest.mark.parametrize(
    ("states", "text"),
    [
        (("open",) * 6, "Waits for a worker to take up: a1: request."),
        (("done", "done", *("open",) * 4), "Waits at the barrier: every request is made."),
        (("done",) * 6, "Waits for the engine to close the lane."),
    ],
)
def test_between_two_steps_there_is_a_sentence_too(states, text):
    (said,) = waits(a_run(a_lane(states=states)))
    assert text == said.text


def test_a_lane_that_stopped_tells_why_and_what_to_do():
    lane = a_lane("stopped", ("failed", "done", *("open",) * 4))
    error = {"code": "Unreachable", "text": "no answer", "remedy": "Check the network."}
    parts = tuple(replace(part, error=error) if part.status == "failed" else part for part in lane.parts)
    (said,) = waits(a_run(replace(lane, parts=parts)))
    assert said.look == "trouble"
    assert said.more == ("a1: no answer<br>Check the network.",)


def test_what_is_over_waits_for_nothing():
    (said,) = waits(a_run(a_lane("done", ("done",) * 6), outcome="done"))
    assert (said.look, said.text) == ("over", "Everything is done.")


# ── the grid ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_grid_has_a_row_for_each_server_and_gates_stand_between_the_stages():
    found = grid(a_run(a_lane(states=("done", "running", *("open",) * 4))))
    assert found.columns == ("request", "Sign", "deliver")
    assert [(row.node, [cell and cell.status for cell in row.cells]) for row in found.rows] == [
        ("", [None, "open", None]),
        ("a1", ["done", None, "open"]),
        ("a2", ["running", None, "open"]),
    ]


def test_the_worst_of_several_steps_is_what_a_cell_shows():
    lane = a_lane(states=("done", "done", *("open",) * 4))
    more = tuple(
        replace(lane.parts[0], id=f"x{number}", status=status) for number, status in enumerate(("failed", "open"))
    )
    found = grid(a_run(replace(lane, parts=(*lane.parts, *more))))
    cell = found.rows[1].cells[0]
    assert cell is not None
    assert (cell.status, cell.done, cell.total, cell.part) == ("failed", 1, 3, "")


def test_a_run_of_very_many_servers_is_shown_lane_by_lane():
    parts = tuple(a_part(a_step("request", f"n{number}", 300), "done") for number in range(200))
    found = grid(a_run(a_lane(parts=parts)))
    assert found.folded
    assert len(found.rows) == 1
    assert not grid(a_run(a_lane(parts=parts)), lane="seoul").folded


# ── the Gantt chart ──────────────────────────────────────────────────────────────────────────────────────────────────
def chart(*states: str) -> gantt.Chart:
    return gantt.chart(LANE, a_lane(states=states), created_at=BEGAN, now=NOW)


def test_every_step_has_a_planned_bar_and_what_began_one_of_its_own():
    found = chart("done", "running", *("open",) * 4)
    assert {bar.part for bar in found.planned} == {step.id for step in LANE.steps()}
    assert {(bar.part, bar.status) for bar in found.actual} == {
        ("seoul/a1/request", "done"),
        ("seoul/a2/request", "running"),
    }


def test_what_runs_at_once_begins_at_once_and_what_follows_stands_behind_the_gate():
    found = {bar.part: bar for bar in chart(*("open",) * 6).planned}
    assert found["seoul/a1/request"].x == found["seoul/a2/request"].x
    assert found["seoul/a1/deliver"].x > found["seoul/a1/request"].x + found["seoul/a1/request"].width
    assert found["seoul/a2/deliver"].x >= found["seoul/a1/deliver"].x + found["seoul/a1/deliver"].width


@pytest.mark.parametrize("states", [("open",) * 6, ("done",) * 3 + ("approved", "running", "open"), ("done",) * 6])
def test_nothing_is_drawn_outside_the_chart(states):
    found = chart(*states)
    for bar in (*found.planned, *found.actual):
        assert gantt.LEFT <= bar.x <= bar.x + bar.width <= found.width + 1
        assert 0 <= bar.y <= found.height - 8


def test_a_gate_is_a_band_that_tells_how_long_it_took():
    (band,) = chart("done", "done", "done", "approved", "done", "open").gates
    assert (band.name, band.lasted_s, band.since) == ("sign", 30.0, None)


@pytest.mark.parametrize("status", ["waiting", "approved"])
def test_the_time_of_a_gate_runs_on_while_it_holds_the_lane(status):
    (band,) = chart("done", "done", "done", status, "open", "open").gates
    assert band.since is not None
    assert band.lasted_s == (NOW - band.since).total_seconds()


# ── colours and arrows ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("days", "level"), [(-1, 0), (0, 1), (6, 1), (7, 2), (29, 2), (30, 3), (89, 4), (90, 5), (4000, 5)]
)
def test_the_heat_follows_the_days(days, level):
    assert level == words.heat(days)


def test_there_is_an_arrow_for_each_server_that_trusts_another():
    said = {"store": "s", "file": "f", "trusts": "x", "trusts_service": "callbridge"}
    links = [
        Trusted(node="a", trusts_node="b", by="leaf", **said),
        Trusted(node="a", trusts_node="a", by="leaf", **said),
    ]
    drawing = trust_map.drawn(["a", "b", "c"], links)
    assert drawing is not None
    assert [(arc.title, arc.leaf) for arc in drawing.arcs] == [("a → b", True)]
    assert trust_map.drawn([f"n{number}" for number in range(30)], links) is None
