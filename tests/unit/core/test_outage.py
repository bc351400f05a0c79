"""The outage of a database cluster: predicted from the lane, measured from the events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workflows import outage
from workflows.journal import Event, Kind
from workflows.plan import Interruption, Lane, Seq, Step

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
USUAL = {"remove": [10, 120], "initialize": [20, 180], "join": [30, 900], "connect": [10, 120]}
CALLS = (Interruption(service="callbridge", what="its calls drop"),)


def move(node: str, verb: str, role: str = "replica") -> Step:
    """Return the step that moves *node*."""
    return Step(
        id=f"seoul/{node}/{verb}",
        node=node,
        action=f"database_{verb}",
        stage=700,
        params={"operation": verb, "usual_s": USUAL[verb], "role": role},
        interrupts=() if node == "cms4" else CALLS,
    )


def lane(*steps: Step) -> Lane:
    """Return a lane of these steps and the proof at the end."""
    agree = Step(id="seoul/cms1/agree", node="cms1", action="database_agree", stage=800)
    return Lane(name="seoul", tree=Seq((*steps, agree)))


REBUILD = lane(
    move("cms4", "remove"),
    move("cms2", "remove"),
    move("cms1", "remove"),
    move("cms1", "initialize"),
    move("cms2", "join"),
    move("cms4", "connect"),
)


def event(kind: Kind, step: str, after_s: float, *, of: str = "seoul", **data: object) -> Event:
    """Return an event of *step*, so many seconds after noon."""
    at = NOON + timedelta(seconds=after_s)
    return Event(run="r", kind=kind, lane=of, step=step, data=data, n=1, at=at, prev="", hash="")


def carried_out(*steps: str, from_s: float = 0) -> list[Event]:
    """Return the events of steps that each took 10 s, one after the other, with a look in between."""
    found = []
    for number, step in enumerate(steps):
        begins = from_s + 10 * number
        found += [event(Kind.STEP_CLAIMED, step, begins), event(Kind.INTENT, step, begins + 1, line=0)]
        found += [event(Kind.STEP_WAITING, step, begins + 5), event(Kind.STEP_DONE, step, begins + 10)]
    return found


def test_a_node_is_away_from_its_own_remove_to_its_own_way_in():
    """All that is done between is one chain, so the usual times add up."""
    expected = {"cms4": (90, 1560), "cms2": (70, 1320), "cms1": (30, 300)}
    assert outage.predicted(REBUILD) == expected
    assert outage.predicted_cluster(REBUILD) == (90, 1560)


def test_a_node_that_is_only_removed_or_only_comes_in_counts_that_step():
    """Dissolving and first building have one half of the way."""
    assert outage.predicted(lane(move("cms2", "remove"), move("cms1", "remove"))) == {
        "cms2": (10, 120),
        "cms1": (10, 120),
    }
    assert outage.predicted(lane(move("cms1", "initialize"), move("cms2", "join")))["cms2"] == (30, 900)


def test_a_lane_without_a_database_has_no_outage():
    """Renewals of services say what they interrupt themselves."""
    other = lane(Step(id="seoul/cms1/apply", node="cms1", action="apply", stage=700))
    assert (outage.predicted(other), outage.measured(other, [])) == ({}, {})


def test_restarts_are_told_where_the_call_bridge_is_on():
    """Each operation restarts the local Call Bridge; a node without one has none to restart."""
    assert outage.restarts(REBUILD) == {"cms2": ("remove", "join"), "cms1": ("remove", "initialize")}


def test_measured_from_the_first_line_out_to_the_end_of_the_way_in():
    """Events of another lane count for nothing, and the proof after the last way in is no outage."""
    steps = [step.id for step in REBUILD.steps()]
    events = [event(Kind.INTENT, steps[0], -500, of="busan"), *carried_out(*steps)]
    assert outage.measured(REBUILD, events) == {"cms4": 59.0, "cms2": 39.0, "cms1": 19.0}
    assert outage.measured_cluster(REBUILD, events) == 59.0
    assert outage.still_out(REBUILD, events) == {}


def test_a_node_that_is_not_in_again_is_still_out_since_its_remove():
    """A parked node has no number, and neither has the cluster."""
    steps = [step.id for step in REBUILD.steps()]
    events = [one for one in carried_out(*steps[:-1]) if one.step != "seoul/cms2/join"]
    assert outage.measured(REBUILD, events) == {"cms4": 59.0, "cms1": 19.0}
    assert outage.measured_cluster(REBUILD, events) is None
    assert outage.still_out(REBUILD, events) == {"cms2": NOON + timedelta(seconds=11)}


def test_a_node_that_was_taken_up_again_counts_to_its_last_end():
    """What was opened anew is not done until it is done again."""
    steps = [step.id for step in REBUILD.steps()]
    opened = event(Kind.STEPS_REOPENED, "", 61, steps=["seoul/cms4/connect"])
    events = [*carried_out(*steps[:-1]), opened]
    assert set(outage.still_out(REBUILD, events)) == {"cms4"}
    events += carried_out("seoul/cms4/connect", from_s=100)
    assert outage.measured(REBUILD, events)["cms4"] == 109.0


def test_a_remove_that_found_all_done_counts_from_its_end():
    """A person may have typed it before; then no line was sent."""
    events = [event(Kind.STEP_DONE, "seoul/cms1/remove", 0), *carried_out("seoul/cms1/initialize", from_s=5)]
    assert outage.measured(lane(move("cms1", "remove"), move("cms1", "initialize")), events) == {"cms1": 15.0}


DISSOLVED = lane(move("cms4", "remove", "connected"), move("cms2", "remove"), move("cms1", "remove", "primary"))


def test_a_connected_node_of_a_dissolution_is_out_until_a_cluster_is_built():
    """It has no database of its own, so no number of seconds is right; the joined nodes keep theirs."""
    assert frozenset({"cms4"}) == outage.until_built(DISSOLVED)
    assert outage.predicted(DISSOLVED) == {"cms2": (10, 120), "cms1": (10, 120)}
    expected = {"cluster": None, "nodes": {"cms2": [10, 120], "cms1": [10, 120], "cms4": None}}
    assert expected == outage.forecast(DISSOLVED)
    events = carried_out(*(step.id for step in DISSOLVED.steps()))
    assert {"cms4"} == set(outage.still_out(DISSOLVED, events))
    assert {"cms2", "cms1"} == set(outage.measured(DISSOLVED, events))
    assert outage.measured_cluster(DISSOLVED, events) is None


def test_a_rebuild_leaves_nobody_without_an_end():
    """Who leaves and comes in again has a predicted time."""
    assert (frozenset(), False) == (outage.until_built(REBUILD), outage.dissolves(REBUILD))


def test_a_remove_that_failed_or_was_refused_took_nothing_away():
    """The node is still in; what counts is the remove that took."""
    failed = {"error": {"code": "CommandRejected", "text": "failed"}}
    events = [event(Kind.INTENT, "seoul/cms4/remove", 0, line=0)]
    assert {"cms4"} == set(outage.still_out(REBUILD, events))
    refused = [*events, event(Kind.OUTCOME, "seoul/cms4/remove", 1, line=0, state="refused")]
    assert outage.still_out(REBUILD, refused) == {}
    events.append(event(Kind.STEP_FAILED, "seoul/cms4/remove", 20, **failed))
    assert outage.still_out(REBUILD, events) == {}
    events += carried_out(*(step.id for step in REBUILD.steps()), from_s=600)
    assert outage.measured(REBUILD, events)["cms4"] == 59.0
    assert outage.measured_cluster(REBUILD, events) == 59.0


def test_a_remove_of_which_nobody_knows_the_end_counts_as_taken():
    """A node that fell silent may be out, so people are told so."""
    events = [event(Kind.INTENT, "seoul/cms4/remove", 0, line=0)]
    events.append(event(Kind.STEP_FAILED, "seoul/cms4/remove", 20, error={"code": "NodeError", "text": "silent"}))
    assert {"cms4"} == set(outage.still_out(REBUILD, events))
