"""What goes wrong with operations of the database, on demand."""

from collections.abc import Callable

import asyncssh
import pytest
from simulator_client import confirm, talk, wait_for

from simulator.fleet import FleetHandle

STATUS = "database cluster status"
LOST = "ERROR                    : The operation was interrupted\nStatus                   : "


@pytest.fixture
def cluster(start_fleet: Callable[..., FleetHandle]) -> FleetHandle:
    """Return a fleet of two joined nodes, cmscore1 the primary; an operation takes about a tenth of a second."""
    return start_fleet(joined=2, speed=300.0)


def outcomes(fleet: FleetHandle) -> list[tuple[str, str | None]]:
    """Return (operation, outcome) of the operations that have ended."""
    return [(r.text, r.outcome) for r in fleet.records("database") if r.phase == "end"]


def back(fleet: FleetHandle, node: str) -> None:
    """Wait until *node* is back from a reboot."""
    wait_for(lambda: fleet.broken_links() == [] and not fleet.fleet.nodes[node].appliance.away)


def begin(fleet: FleetHandle, node: str, line: str) -> None:
    """Start an operation."""
    assert "started..." in fleet.execute(node, f"database cluster {line}", "Y")


def move(fleet: FleetHandle, node: str, line: str) -> dict[str, object]:
    """Start an operation, wait for its end and return the state of the database."""
    begin(fleet, node, line)
    fleet.wait_idle("seoul")
    return fleet.database(node)


def test_an_operation_can_fail_with_a_text(cluster: FleetHandle) -> None:
    """It is as if nothing had happened, but for the ERROR row; the next try goes well."""
    before = cluster.database("cmscore2")
    cluster.fault("database-fails", node="cmscore2", match="remove", text="no space left")
    after = move(cluster, "cmscore2", "remove")
    assert (after["role"], after["data"], after["error"]) == ("replica", before["data"], "no space left")
    assert cluster.execute("cmscore2", STATUS).startswith("ERROR                    : no space left\n")
    assert move(cluster, "cmscore2", "remove")["status"] == "Disabled"
    assert outcomes(cluster) == [("remove", "failure"), ("remove", "ok")]


def test_a_join_that_fails_has_not_touched_the_data(cluster: FleetHandle) -> None:
    """The pattern is held against the operation and its address."""
    before = move(cluster, "cmscore2", "remove")
    cluster.fault("database-fails", match="join *")
    after = move(cluster, "cmscore2", f"join {cluster.address('cmscore1')}")
    assert (after["status"], after["progress"], after["data"]) == ("Disabled", "Failed", before["data"])


def test_a_reboot_in_the_middle_of_initialize_loses_it(cluster: FleetHandle) -> None:
    """Afterwards the node is Disabled, with its data; a second try goes well."""
    for node in ("cmscore2", "cmscore1"):
        data = move(cluster, node, "remove")["data"]
    cluster.fault("database-reboot", node="cmscore1", match="initialize", text="lost", seconds=0.2)
    begin(cluster, "cmscore1", "initialize")
    wait_for(lambda: outcomes(cluster)[-1] == ("initialize", "lost"))
    back(cluster, "cmscore1")
    assert cluster.execute("cmscore1", STATUS).startswith(LOST + "Disabled\n")
    assert cluster.database("cmscore1")["data"] == data
    assert move(cluster, "cmscore1", "initialize")["role"] == "primary"


def test_an_operation_may_go_on_after_the_reboot(cluster: FleetHandle) -> None:
    """The node comes back and finishes what it had begun."""
    for node in ("cmscore2", "cmscore1"):
        data = move(cluster, node, "remove")["data"]
    cluster.fault("database-reboot", node="cmscore1", match="initialize", text="continues", seconds=0.2)
    begin(cluster, "cmscore1", "initialize")
    wait_for(lambda: cluster.fleet.nodes["cmscore1"].appliance.away)
    cluster.wait_idle("seoul")
    assert (cluster.database("cmscore1")["role"], cluster.database("cmscore1")["data"]) == ("primary", data)
    assert outcomes(cluster)[-1] == ("initialize", "ok")


def test_a_remove_lost_in_a_reboot_leaves_the_node_in_the_cluster(cluster: FleetHandle) -> None:
    """What was lost has not happened."""
    cluster.fault("database-reboot", node="cmscore2", match="remove", seconds=0.2)
    begin(cluster, "cmscore2", "remove")
    wait_for(lambda: outcomes(cluster) == [("remove", "lost")])
    back(cluster, "cmscore2")
    assert cluster.execute("cmscore2", STATUS).startswith(LOST + "Error\n")
    assert cluster.database("cmscore2")["role"] == "replica"


def test_a_reboot_while_the_data_are_copied_leaves_none(start_fleet: Callable[..., FleetHandle]) -> None:
    """The old data are gone and the new are not whole."""
    fleet = start_fleet(joined=2, speed=300.0, database_s={"join": 1200.0})
    before = move(fleet, "cmscore2", "remove")["data"]
    begin(fleet, "cmscore2", f"join {fleet.address('cmscore1')}")
    wait_for(lambda: bool(fleet.database("cmscore2")["syncing"]))
    fleet.reboot("cmscore2", 0.1)
    wait_for(lambda: outcomes(fleet)[-1][1] == "lost")
    after = fleet.database("cmscore2")
    assert after["status"] == "Disabled"
    assert after["data"] not in {before, fleet.database("cmscore1")["data"]}


def test_an_operation_can_be_stuck(cluster: FleetHandle) -> None:
    """For some time, or for ever: in progress until the node is rebooted."""
    cluster.fault("database-stuck", node="cmscore2", match="remove", seconds=30)
    assert move(cluster, "cmscore2", "remove")["status"] == "Disabled"
    cluster.fault("database-stuck", node="cmscore1", match="remove")
    begin(cluster, "cmscore1", "remove")
    assert cluster.execute("cmscore1", STATUS).startswith("Status                   : Removing\n")
    cluster.reboot("cmscore1", 0.1)
    cluster.wait_idle("seoul")
    assert outcomes(cluster) == [("remove", "ok"), ("remove", "lost")]


def test_a_cut_after_the_command_does_not_stop_the_operation(cluster: FleetHandle) -> None:
    """The client sees a broken connection, and the operation runs on."""
    cluster.fault("cut-after", node="cmscore2", match="database cluster remove")
    with pytest.raises((EOFError, OSError, asyncssh.Error)):
        confirm(cluster, "cmscore2", "database cluster remove")
    wait_for(lambda: outcomes(cluster) == [("remove", "ok")])
    assert cluster.database("cmscore2")["status"] == "Disabled"


def test_a_cut_before_the_command_starts_nothing(cluster: FleetHandle) -> None:
    """Only the log tells the two apart."""
    cluster.fault("cut-before", node="cmscore2", match="database cluster remove")
    with pytest.raises((EOFError, OSError, asyncssh.Error)):
        confirm(cluster, "cmscore2", "database cluster remove")
    assert cluster.records("database") == ()


def test_a_failing_command_starts_nothing(cluster: FleetHandle) -> None:
    """FAILURE instead of the question."""
    cluster.fault("failure", node="cmscore2", match="database cluster remove", text="busy")
    assert talk(cluster, "cmscore2", "database cluster remove") == ["FAILURE: busy\n"]
    assert cluster.records("database") == ()


def test_a_reboot_right_after_the_command_loses_the_operation(start_fleet: Callable[..., FleetHandle]) -> None:
    """The fault on the command reboots while the operation has just begun."""
    fleet = start_fleet(joined=2, speed=1.0)
    fleet.fault("reboot", node="cmscore2", match="database cluster remove", seconds=0.1)
    with pytest.raises((EOFError, OSError, asyncssh.Error)):
        confirm(fleet, "cmscore2", "database cluster remove")
    wait_for(lambda: outcomes(fleet) == [("remove", "lost")])


def test_an_ended_fleet_ends_its_operations(start_fleet: Callable[..., FleetHandle]) -> None:
    """Nothing is left running when the fleet is closed."""
    fleet = start_fleet(joined=2, speed=1.0)
    begin(fleet, "cmscore2", "remove")
    fleet._do(fleet.fleet.close())
    assert outcomes(fleet) == [("remove", "lost")]
