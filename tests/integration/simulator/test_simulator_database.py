"""A database cluster taken apart and built again, typed by hand over SSH; and what is refused or fails on the way."""

import io
import json
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import database_order
import pytest
import yaml
from cryptography import x509
from simulator_client import confirm, refused, served_database, talk

from simulator.control import ask
from simulator.database_status import status
from simulator.fleet import FleetHandle

PAIRS = ("server.key", "server.crt", "client.key", "client.crt", "authority.crt")
FIVE, THREE = " ".join(PAIRS), " ".join(PAIRS[2:])
STATUS = "database cluster status"
QUICK = 400.0  # simulated seconds per second


@pytest.fixture
def cluster(start_fleet: Callable[..., FleetHandle]) -> FleetHandle:
    """Return a quick fleet of three joined nodes, cmscore1 the primary, and a connected one."""
    return start_fleet(joined=3, connected=1, speed=QUICK)


def make_pairs(fleet: FleetHandle, node: str, client: str = "postgres") -> None:
    """Make the five files on *node* with the built-in CA and hand them out (S4)."""
    talk(
        fleet,
        node,
        "pki selfsigned authority CN:authority",
        "pki csr server CN:db.example.com subjectAltName:other.example.com",
        f"pki csr client CN:{client}",
        "pki sign server authority",
        "pki sign client authority",
    )
    files = fleet.files(node)
    for other in fleet.nodes:
        for name in PAIRS:
            fleet.put_file(other, name, files[name])


def operate(fleet: FleetHandle, node: str, line: str) -> dict[str, object]:
    """Type a line that starts an operation, confirm it, wait for its end; return the state of the database."""
    assert "started..." in confirm(fleet, node, f"database cluster {line}")
    fleet.wait_idle("seoul")
    return fleet.database(node)


def quickly(fleet: FleetHandle, node: str, line: str) -> dict[str, object]:
    """Do as `operate` does, without SSH."""
    assert "started..." in fleet.execute(node, f"database cluster {line}", "Y")
    fleet.wait_idle("seoul")
    return fleet.database(node)


def take_apart(fleet: FleetHandle) -> None:
    """Remove all nodes of a fleet of one cluster, the primary last."""
    for node in reversed(fleet.nodes):
        quickly(fleet, node, "remove")


def configure(fleet: FleetHandle, node: str, files: str = FIVE) -> None:
    """Set certificates and interface."""
    assert fleet.execute(node, f"database cluster certs {files}") == ""
    assert fleet.execute(node, "database cluster localnode a") == ""


@pytest.mark.parametrize(("release", "primary", "replica"), [("3.9", "Primary", "Replica"), ("2.9", "Master", "Slave")])
def test_an_expired_cluster_is_rebuilt_by_hand(
    start_fleet: Callable[..., FleetHandle], release: str, primary: str, replica: str
) -> None:
    """Row S5, typed line by line: all end in sync or connected, with the data of the primary, in the right order."""
    fleet = start_fleet(joined=3, connected=2, primary=1, database_days_left=-3, speed=QUICK, release=release)
    nodes, address = list(fleet.nodes), fleet.address("cmscore2")
    data = fleet.database("cmscore2")["data"]
    assert f": {primary} ( Connection Failure )\n" in talk(fleet, "cmscore5", STATUS)[0]
    make_pairs(fleet, "cmscore2")
    for node in ("cmscore4", "cmscore5", "cmscore1", "cmscore3", "cmscore2"):
        assert operate(fleet, node, "remove")["status"] == "Disabled"
    for node in ("cmscore2", "cmscore1", "cmscore3"):
        replies = talk(fleet, node, f"database cluster certs {FIVE}", "database cluster localnode a")
        assert replies == ["", ""]
        operate(fleet, node, "initialize" if node == "cmscore2" else f"join {address}")
    for node in ("cmscore4", "cmscore5"):
        talk(fleet, node, f"database cluster certs {THREE}")
        operate(fleet, node, f"connect {address}")
    shown = [talk(fleet, node, STATUS)[0] for node in nodes]
    assert [text.count(f": Connected {primary}\n") for text in shown] == [1] * 5
    assert [text.count(f": Connected {replica} ( In Sync )\n") for text in shown] == [2] * 5
    assert [text.count("(me)") for text in shown] == [1, 1, 1, 0, 0]
    assert [fleet.database(node)["data"] == data for node in nodes] == [True, True, True, False, False]
    violations = database_order.check(
        fleet.records(),
        clusters={"seoul": nodes},
        addresses={node: fleet.address(node) for node in nodes},
        primary={"seoul": "cmscore2"},
    )
    assert violations == []


def test_only_a_capital_y_goes_on(cluster: FleetHandle) -> None:
    """S2: a small y leaves the node where it is."""
    answer = confirm(cluster, "cmscore2", "database cluster remove", "y")
    assert "started" not in answer
    assert cluster.database("cmscore2")["role"] == "replica"
    assert cluster.records("database") == ()


def test_nothing_can_be_set_while_a_node_is_in_a_cluster(cluster: FleetHandle) -> None:
    """S2: certificates only change once the node is out; nor is it put into a second cluster."""
    lines = ("certs none", "localnode b", "initialize", f"join {cluster.address('cmscore1')}", "connect 127.0.0.9")
    replies = [cluster.execute("cmscore2", f"database cluster {line}", "Y") for line in lines]
    assert [reply.startswith("FAILURE: ") for reply in replies] == [True] * 5


def test_a_node_of_no_cluster_needs_interface_and_certificates_first(fleet: FleetHandle) -> None:
    """`initialize` wants both, `remove` and `upgrade_schema` want a cluster, `certs` wants the files to be there."""
    lines = ("initialize", "remove", "upgrade_schema", f"certs {FIVE}", "certs callbridge.key", "localnode z")
    replies = [fleet.execute("cmscore1", f"database cluster {line}", "Y") for line in lines]
    assert [reply.startswith("FAILURE: ") for reply in replies] == [True] * 6
    fleet.execute("cmscore1", "database cluster localnode a")
    assert fleet.execute("cmscore1", "database cluster initialize", "Y") == "FAILURE: no certificates configured\n"


def test_a_cluster_is_built_for_the_first_time(start_fleet: Callable[..., FleetHandle]) -> None:
    """Without a cluster at the start every node is Disabled and has no files of the database."""
    fleet = start_fleet(joined=2, database_ready=False, speed=QUICK)
    assert talk(fleet, "cmscore1", STATUS) == ["Status                   : Disabled\n"]
    assert [name for name in fleet.files("cmscore1") if name.startswith("db")] == []
    make_pairs(fleet, "cmscore1")
    for node, line in (("cmscore1", "initialize"), ("cmscore2", f"join {fleet.address('cmscore1')}")):
        configure(fleet, node)
        assert quickly(fleet, node, line)["progress"] == "Success"
    assert fleet.database("cmscore2")["data"] == fleet.database("cmscore1")["data"]


def test_settings_outlive_a_remove(cluster: FleetHandle) -> None:
    """Interface, certificates and last command are still told by a node that has left."""
    quickly(cluster, "cmscore2", "remove")
    shown = cluster.execute("cmscore2", STATUS)
    assert shown.startswith("Status                   : Disabled\n\nInterface                : a\n")
    assert shown.endswith("Last command             : 'database cluster remove' (Success)\n")


def test_a_removed_replica_goes_its_own_way(cluster: FleetHandle) -> None:
    """Its call bridge writes to its own copy from then on; the primary keeps its data through remove and initialize."""
    data = cluster.database("cmscore1")["data"]
    assert cluster.database("cmscore2")["data"] == data
    take_apart(cluster)
    assert cluster.database("cmscore2")["data"] != data
    assert cluster.database("cmscore1")["data"] == data
    assert quickly(cluster, "cmscore1", "initialize")["data"] == data


def test_initialize_on_the_wrong_node_and_join_lose_the_data(cluster: FleetHandle) -> None:
    """The mistake that the order protects from can be made here, and be seen."""
    data = cluster.database("cmscore1")["data"]
    take_apart(cluster)
    quickly(cluster, "cmscore2", "initialize")
    after = quickly(cluster, "cmscore1", f"join {cluster.address('cmscore2')}")
    assert after["data"] == cluster.database("cmscore2")["data"] != data
    assert after["joined_from"] == cluster.address("cmscore2")


def test_an_operation_restarts_the_call_bridge(cluster: FleetHandle) -> None:
    """Its port is away for a moment and comes back; other services stay."""
    appliance = cluster.fleet.nodes["cmscore2"].appliance
    reconcile, seen = appliance.changed, []

    def watched() -> None:
        reconcile()
        seen.append([refused(cluster, "cmscore2", port) for port in (5061, 8443)])

    appliance.changed = watched
    quickly(cluster, "cmscore2", "remove")
    assert seen == [[True, False], [False, False]]
    restarts = [cluster.database(node)["callbridge_restarts"] for node in ("cmscore1", "cmscore2")]
    assert restarts == [0, 1]


def test_states_follow_each_other_while_a_node_joins(start_fleet: Callable[..., FleetHandle]) -> None:
    """Attaching, then Enabled with a copy in progress, then in sync; meanwhile nothing else can be started."""
    fleet = start_fleet(joined=2, speed=QUICK, database_s={"join": 1000.0})
    address, joining = fleet.address("cmscore1"), fleet.fleet.nodes["cmscore2"].appliance
    quickly(fleet, "cmscore2", "remove")
    seen: list[str] = []
    joining.changed = lambda: seen.append(status(joining))
    fleet.execute("cmscore2", f"database cluster join {address}", "Y")
    assert fleet.execute("cmscore2", STATUS).startswith("Status                   : Attaching\n")
    for line in (f"join {address}", "certs none", "remove", "upgrade_schema"):
        assert fleet.execute("cmscore2", f"database cluster {line}", "Y") == (
            "FAILURE: a database cluster operation is in progress\n"
        )
    fleet.wait_idle("seoul")
    copying, _callbridge_away, joined = seen
    assert copying.startswith("Status                   : Enabled\n")
    assert ": Connected Replica ( Sync in progress )\n" in copying
    assert f"'database cluster join {address}' (In progress)" in copying
    assert "Connected Replica ( In Sync )" in joined
    assert f"'database cluster join {address}' (Success)" in joined


def test_the_database_port_is_open_on_joined_nodes_only(cluster: FleetHandle) -> None:
    """PostgreSQL answers an SSLRequest and serves the server certificate, an expired one too."""
    leaf = served_database(cluster, "cmscore1")
    assert leaf == cluster.served_leaf("cmscore1", "database") == served_database(cluster, "cmscore2")
    assert refused(cluster, "cmscore4", 5432)
    quickly(cluster, "cmscore2", "remove")
    assert refused(cluster, "cmscore2", 5432)


def test_the_database_wants_tls(cluster: FleetHandle) -> None:
    """A startup message without TLS is answered by nothing."""
    with socket.create_connection((cluster.address("cmscore1"), 5432), timeout=5) as plain:
        plain.sendall(bytes.fromhex("0000000800030000"))
        assert plain.recv(1) == b""


def test_an_expired_certificate_is_served(start_fleet: Callable[..., FleetHandle]) -> None:
    """Expiry keeps nodes apart, not the port shut."""
    fleet = start_fleet(joined=2, database_days_left=-3)
    assert served_database(fleet, "cmscore2") == fleet.served_leaf("cmscore2", "database")


def _fails(fleet: FleetHandle, node: str, line: str) -> str:
    """Return the text of the ERROR row after an operation that fails; the node is as it was."""
    before = fleet.database(node)
    after = quickly(fleet, node, line)
    assert (after["progress"], after["status"], after["data"]) == ("Failed", before["status"], before["data"])
    shown = fleet.execute(node, STATUS)
    assert f"Last command             : 'database cluster {line}' (Failed)\n" in shown
    return shown.splitlines()[0].removeprefix("ERROR                    : ")


def test_a_client_that_is_not_postgres_is_refused(cluster: FleetHandle) -> None:
    """S1: CN is postgres, nothing else."""
    make_pairs(cluster, "cmscore1", client="postgrest")
    take_apart(cluster)
    configure(cluster, "cmscore1")
    assert _fails(cluster, "cmscore1", "initialize") == "Client certificate client.crt: the CN must be postgres"


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ("dbserver.key server.crt client.key client.crt authority.crt", "Key and certificate server.crt do not match"),
        ("server.key server.crt dbclient.key client.crt authority.crt", "Key and certificate client.crt do not match"),
        ("server.key server.crt client.key client.crt dbca.crt", "Certificate server.crt could not be verified"),
        ("client.crt server.crt client.key client.crt authority.crt", "client.crt could not be read"),
        ("server.key server.crt client.key client.crt client.key", "client.key could not be read"),
        ("dbserver.key dbserver.crt dbclient.key dbclient.crt dbca.crt", "Certificate dbserver.crt has expired"),
    ],
)
def test_bad_files_are_found_when_the_operation_takes_them_up(
    start_fleet: Callable[..., FleetHandle], files: str, error: str
) -> None:
    """`certs` takes whatever is there; `initialize` fails and says why, and nothing has changed."""
    fleet = start_fleet(joined=1, database_days_left=-1, speed=QUICK)
    make_pairs(fleet, "cmscore1")
    take_apart(fleet)
    configure(fleet, "cmscore1", files)
    assert _fails(fleet, "cmscore1", "initialize").startswith(error)


def test_a_join_needs_a_connected_primary(cluster: FleetHandle) -> None:
    """Not itself, not a replica, not a node that is not there, not one that is off the network."""
    quickly(cluster, "cmscore3", "remove")
    addresses = [cluster.address(node) for node in ("cmscore3", "cmscore2", "cmscore4")]
    for address in (*addresses, "127.0.0.9"):
        assert _fails(cluster, "cmscore3", f"join {address}") == f"Couldn't connect to a primary at {address}"
    address = cluster.address("cmscore1")
    for match in ("ssh", "database"):
        fault = cluster.fault("unreachable", node="cmscore1", match=match)
        assert _fails(cluster, "cmscore3", f"connect {address}") == f"Couldn't connect to a primary at {address}"
        cluster.mend(fault)
    assert quickly(cluster, "cmscore3", f"join {address}")["error"] is None


def test_all_nodes_share_one_authority(cluster: FleetHandle) -> None:
    """A node with another CA certificate than the primary's does not get in."""
    make_pairs(cluster, "cmscore2")
    quickly(cluster, "cmscore2", "remove")
    configure(cluster, "cmscore2")
    address = cluster.address("cmscore1")
    assert _fails(cluster, "cmscore2", f"join {address}") == f"The CA certificate differs from that of {address}"


def test_five_nodes_are_the_most(start_fleet: Callable[..., FleetHandle]) -> None:
    """S4: a sixth does not join."""
    fleet = start_fleet(joined=5, connected=1, speed=QUICK)
    quickly(fleet, "cmscore6", "remove")
    files = fleet.files("cmscore1")
    for name in ("dbserver.key", "dbserver.crt"):
        fleet.put_file("cmscore6", name, files[name])
    configure(fleet, "cmscore6", "dbserver.key dbserver.crt dbclient.key dbclient.crt dbca.crt")
    line = f"join {fleet.address('cmscore1')}"
    assert _fails(fleet, "cmscore6", line) == "The cluster has 5 nodes already"


def test_the_schema_is_upgraded_on_the_primary_with_all_in_sync(cluster: FleetHandle) -> None:
    """S1: else it fails with the text of the manual; the error is cleared by a command of its own."""
    for node, fault in (("cmscore2", None), ("cmscore1", "database-sync-lost")):
        if fault is not None:
            cluster.fault(fault, node="cmscore3")
        cluster.execute(node, "database cluster upgrade_schema")
        cluster.wait_idle("seoul")
        assert cluster.execute(node, STATUS).startswith(
            "ERROR                    : Couldn't upgrade the schema\nStatus                   : Error\n"
        )
    cluster.mend()
    cluster.execute("cmscore1", "database cluster clear_error")
    assert cluster.execute("cmscore1", STATUS).startswith("Status                   : Enabled\n")
    cluster.execute("cmscore1", "database cluster upgrade_schema")
    cluster.wait_idle("seoul")
    assert cluster.database("cmscore1")["progress"] == "Success"
    assert cluster.database("cmscore1")["callbridge_restarts"] == 0


def test_the_primary_can_be_removed_under_its_replicas(cluster: FleetHandle) -> None:
    """The appliance lets it happen; the others have lost it then."""
    quickly(cluster, "cmscore1", "remove")
    assert ": Primary ( Connection Failure )\n" in cluster.execute("cmscore2", STATUS)
    assert ": Primary ( Connection Failure )\n" in cluster.execute("cmscore4", STATUS)


def test_a_backup_tells_whose_data_it_holds(cluster: FleetHandle) -> None:
    """The archive has the fingerprint of the data, so that a test can tell backups apart."""
    cluster.execute("cmscore2", "backup snapshot before")
    with tarfile.open(fileobj=io.BytesIO(cluster.files("cmscore2")["before.bak"])) as archive:
        member = archive.extractfile("database.json")
        assert member is not None
        assert json.loads(member.read()) == {"data": cluster.database("cmscore1")["data"], "role": "replica"}


def test_each_node_may_have_pairs_of_its_own(start_fleet: Callable[..., FleetHandle]) -> None:
    """Recommended by S1; the names of the files are the same. Only the primary has the key of the authority."""
    shared, own = start_fleet(joined=2), start_fleet(joined=2, database_own_pairs=True)
    for fleet, same in ((shared, True), (own, False)):
        first, second = (fleet.files(node) for node in ("cmscore1", "cmscore2"))
        assert (first["dbserver.crt"] == second["dbserver.crt"]) is same
        assert first["dbca.crt"] == second["dbca.crt"]
        assert ["dbca.key" in first, "dbca.key" in second] == [True, False]


def test_the_inventory_names_the_roles_and_the_certificates(
    start_fleet: Callable[..., FleetHandle], tmp_path: Path
) -> None:
    """fleet.yaml says who is joined and connected, and asks for the names that the certificates of the fleet have."""
    fleet = start_fleet(joined=2, connected=1, out=tmp_path / "asked")
    start_fleet(nodes=4, out=tmp_path / "usual")
    start_fleet(nodes=1, out=tmp_path / "alone")
    asked, usual, alone = (
        yaml.safe_load((tmp_path / n / "fleet.yaml").read_text())["clusters"][0] for n in ("asked", "usual", "alone")
    )
    assert [node["database"] for node in asked["nodes"]] == ["joined", "joined", "connected"]
    assert [node["database"] for node in usual["nodes"]] == ["joined", "joined", "joined", "connected"]
    assert asked["database_cluster"]["ca"]["subject"]["CN"] == "seoul database CA"
    assert usual["database_cluster"] == asked["database_cluster"]
    assert "database_cluster" not in alone
    leaf = x509.load_pem_x509_certificate(fleet.files("cmscore2")["dbserver.crt"])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    expected = ["db.seoul.example.com", "cmscore1.example.com", "cmscore2.example.com"]
    assert names.get_values_for_type(x509.DNSName) == expected


def test_the_control_socket_tells_of_the_database(start_fleet: Callable[..., FleetHandle], tmp_path: Path) -> None:
    """State of a node, and whether a cluster has come to rest."""
    fleet = start_fleet(joined=2, speed=1.0, out=tmp_path)
    answer = ask(tmp_path, {"do": "database", "node": "cmscore2"})
    assert answer == {"ok": True, "database": fleet.database("cmscore2")}
    assert ask(tmp_path, {"do": "idle", "cluster": "seoul"}) == {"ok": True, "idle": True}
    fleet.execute("cmscore2", "database cluster remove", "Y")
    assert ask(tmp_path, {"do": "idle", "cluster": "seoul"}) == {"ok": True, "idle": False}
    assert ask(tmp_path, {"do": "idle", "cluster": "busan"})["ok"] is False


def test_clusters_do_not_know_each_other(start_fleet: Callable[..., FleetHandle]) -> None:
    """Each has its own primary; a node cannot join the other's."""
    fleet = start_fleet(clusters=2, joined=2, speed=QUICK)
    assert fleet.database("busan-1")["data"] != fleet.database("cmscore1")["data"]
    quickly(fleet, "cmscore2", "remove")
    assert _fails(fleet, "cmscore2", f"join {fleet.address('busan-1')}").startswith("Couldn't connect to a primary")
