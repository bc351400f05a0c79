"""`database cluster status`: the layouts of S1, and what is guessed where no sample was found."""

from datetime import UTC, datetime, timedelta

from simulator import pki
from simulator.appliance import Appliance
from simulator.database import DatabaseCluster, Progress, Role
from simulator.database_status import status
from simulator.faults import Fault, FaultKind, Faults
from simulator.layout import wish
from simulator.pki import FreshKeys
from simulator.releases import Release

FILES = ("dbclusterserver.key", "dbclusterserver.cer", "dbclusterclient.key", "dbclusterclient.cer", "vngtpRootca.cer")
PRIMARY, REPLICA, LAST, CONNECTED = "10.48.36.61", "10.48.36.118", "10.48.36.182", "10.48.36.200"
KEY = pki.KeyPool.of_size(1)
HEALTHY = """\
Status                   : Enabled

Nodes:
    10.48.36.61          : Connected Primary
    10.48.36.118         : Connected Replica ( In Sync )
    10.48.36.182 (me)    : Connected Replica ( In Sync )
Node in use              : 10.48.36.61

Interface                : a

Certificates
  Server Key             : dbclusterserver.key
  Server Certificate     : dbclusterserver.cer
  Client Key             : dbclusterclient.key
  Client Certificate     : dbclusterclient.cer
  CA Certificate         : vngtpRootca.cer

Last command             : 'database cluster join 10.48.36.61' (Success)
"""
SCHEMA = """\
ERROR                    : Couldn't upgrade the schema
Status                   : Error

Nodes:
    10.48.36.61 (me)     : Connected Primary
    10.48.36.118         : Connected Replica ( In Sync )
    10.48.36.182         : Connected Replica ( In Sync )
Node in use              : 10.48.36.61

Interface                : a

Certificates
  Server Key             : dbclusterserver.key
  Server Certificate     : dbclusterserver.cer
  Client Key             : dbclusterclient.key
  Client Certificate     : dbclusterclient.cer
  CA Certificate         : vngtpRootca.cer

Last command             : 'database cluster upgrade_schema' (Failed)
"""


def certificate(days_left: float) -> bytes:
    """Return a self-signed certificate that ends in *days_left*."""
    ends = datetime.now(UTC) + timedelta(days=days_left)
    key = next(KEY._keys)
    root = pki.make_root(key=key, wish=wish("any"), not_before=ends - timedelta(days=365), not_after=ends)
    return pki.to_pem(root.certificate)


def nodes(*faults: Fault, release: str = "3.9", days_left: float = 10) -> dict[str, Appliance]:
    """Return a cluster of three joined nodes and a connected one, by address."""
    cluster, table, data = DatabaseCluster(), Faults(faults), certificate(days_left)
    taken = {name: b"" if name.endswith(".key") else data for name in FILES}
    appliances = {}
    for number, address in enumerate((PRIMARY, REPLICA, LAST, CONNECTED), start=1):
        appliance = Appliance(
            name=f"cms{number}",
            cluster="seoul",
            address=address,
            release=Release.parse(release),
            hostname=f"cms{number}",
            faults=table,
            keys=FreshKeys(),
            database_cluster=cluster,
        )
        own = appliance.database
        role = Role.PRIMARY if address == PRIMARY else Role.CONNECTED if address == CONNECTED else Role.REPLICA
        verb = {Role.PRIMARY: "initialize", Role.REPLICA: f"join {PRIMARY}", Role.CONNECTED: f"connect {PRIMARY}"}[role]
        own.interface, own.files, own.taken = "a", FILES[2:] if role is Role.CONNECTED else FILES, taken
        own.last_command = verb
        own.enter(role, PRIMARY)
        appliances[address] = appliance
    return appliances


def rows(appliance: Appliance) -> list[str]:
    """Return the rows of the nodes, without padding."""
    shown = status(appliance).split("Nodes:\n")[1].split("Node in use")[0]
    return [" ".join(line.split()) for line in shown.splitlines()]


def test_a_healthy_cluster_reads_as_in_the_manual() -> None:
    """S1, byte for byte, as a replica sees it."""
    assert status(nodes()[LAST]) == HEALTHY


def test_a_failed_schema_upgrade_reads_as_in_the_manual() -> None:
    """S1: the ERROR row comes first, and the last command has failed."""
    primary = nodes()[PRIMARY]
    primary.database.last_command, primary.database.progress = "upgrade_schema", Progress.FAILED
    primary.database.error = "Couldn't upgrade the schema"
    assert status(primary) == SCHEMA


def test_releases_before_3_say_master_and_slave() -> None:
    """The older wording has the same layout."""
    expected = HEALTHY.replace("Primary", "Master").replace("Replica", "Slave")
    assert status(nodes(release="2.9")[LAST]) == expected


def test_a_connected_node_is_not_among_the_nodes_and_has_three_files() -> None:
    """Nobody is (me), and there is no server pair."""
    shown = status(nodes()[CONNECTED])
    assert "(me)" not in shown
    assert "Server Key" not in shown
    assert "  Client Key             : dbclusterclient.key\n" in shown


def test_a_node_of_no_cluster_says_disabled_and_nothing_else() -> None:
    """A new server has one row."""
    appliance = nodes()[LAST]
    own = appliance.database
    own.leave()
    own.interface, own.files, own.last_command = None, (), None
    assert status(appliance) == "Status                   : Disabled\n"


def test_expired_certificates_cut_the_nodes_off_from_each_other_but_roles_are_told() -> None:
    """Every other node shows a failed connection with its role; the file carries a marker."""
    appliances = nodes(days_left=-1)
    assert rows(appliances[REPLICA]) == [
        "10.48.36.61 : Primary ( Connection Failure )",
        "10.48.36.118 (me) : Connected Replica ( Out of Sync )",
        "10.48.36.182 : Replica ( Connection Failure )",
    ]
    assert rows(appliances[PRIMARY])[0] == "10.48.36.61 (me) : Connected Primary"
    shown = status(appliances[PRIMARY])
    assert shown.startswith("ERROR                    : ")
    assert "\nStatus                   : Error\n" in shown
    assert "  Client Certificate     : dbclusterclient.cer ( Expired )\n" in shown


def test_a_clock_that_runs_ahead_finds_certificates_expired() -> None:
    """The appliance's own clock counts."""
    ahead = Fault(kind=FaultKind.CLOCK_SKEW, node="cms2", seconds=20 * 86400)
    assert "( Expired )" in status(nodes(ahead)[REPLICA])


def test_an_unreachable_member_is_shown_as_such_by_its_peers() -> None:
    """A node that is off the network, or that reboots, keeps its role word."""
    appliances = nodes(Fault(kind=FaultKind.UNREACHABLE, node="cms3", match="ssh"))
    assert rows(appliances[PRIMARY])[2] == "10.48.36.182 : Replica ( Connection Failure )"
    appliances[REPLICA].away = True
    assert rows(appliances[PRIMARY])[1] == "10.48.36.118 : Replica ( Connection Failure )"


def test_replicas_of_a_removed_primary_have_lost_it() -> None:
    """The others still follow it, and cannot reach it."""
    appliances = nodes()
    appliances[PRIMARY].database.leave()
    assert rows(appliances[LAST]) == [
        "10.48.36.61 : Primary ( Connection Failure )",
        "10.48.36.118 : Connected Replica ( Out of Sync )",
        "10.48.36.182 (me) : Connected Replica ( Out of Sync )",
    ]


def test_a_split_names_another_node_as_primary() -> None:
    """Only the node with the fault tells the other story."""
    appliances = nodes(Fault(kind=FaultKind.DATABASE_SPLIT, node="cms3", text=REPLICA))
    assert rows(appliances[LAST])[:2] == [
        "10.48.36.61 : Connected Replica ( In Sync )",
        "10.48.36.118 : Connected Primary",
    ]
    assert f"Node in use              : {REPLICA}\n" in status(appliances[LAST])
    assert rows(appliances[PRIMARY])[0] == "10.48.36.61 (me) : Connected Primary"


def test_a_replica_that_lost_its_sync_says_so_everywhere() -> None:
    """Its row is out of sync in its own status and in its peers'."""
    appliances = nodes(Fault(kind=FaultKind.DATABASE_SYNC_LOST, node="cms2"))
    shown = "10.48.36.118 : Connected Replica ( Out of Sync )"
    assert rows(appliances[PRIMARY])[1] == shown
    assert rows(appliances[REPLICA])[1] == shown.replace(" :", " (me) :")


def test_a_replica_that_copies_is_not_in_sync_yet() -> None:
    """While the data are copied the status is Enabled and the command in progress."""
    appliance = nodes()[LAST]
    appliance.database.syncing, appliance.database.progress = True, Progress.IN_PROGRESS
    assert rows(appliance)[2] == "10.48.36.182 (me) : Connected Replica ( Sync in progress )"
    assert status(appliance).startswith("Status                   : Enabled\n")
    assert "'database cluster join 10.48.36.61' (In progress)\n" in status(appliance)
