"""The database cluster of the inventory: its defaults, its rules (rows S1 and S4), and its JSON."""

from __future__ import annotations

import json

import pytest

from workflows.errors import InventoryError
from workflows.inventory import (
    BUILT_IN_CA,
    Cluster,
    DatabasePair,
    DatabaseWish,
    Fleet,
    KeyKind,
    KeyOrigin,
    ResolvedFleet,
)

ROLES = "joined joined joined"


def text_of(database: str = "", *, roles: str = ROLES, nodes: str = "", more: str = "") -> str:
    """Return a fleet of one cluster; *database* stands in `database_cluster`, *nodes* at its last node."""
    listed = "".join(
        f"      - {{name: n{at}, address: 10.0.0.{at}, database: {role}{nodes if at == len(roles.split()) else ''}}}\n"
        for at, role in enumerate(roles.split(), 1)
    )
    written = f"    database_cluster: {{{database}}}\n" if database else ""
    return f"fleet: demo\nclusters:\n  - name: seoul\n    nodes:\n{listed}{written}{more}"


def cluster_of(text: str) -> Cluster:
    return Fleet.from_yaml(text).resolved().clusters[0]


def faults_of(text: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        Fleet.from_yaml(text)
    assert all(finding.remedy for finding in caught.value.findings)
    return [f"{finding.where.rpartition(':')[2]} {finding.what}" for finding in caught.value.findings]


def warnings_of(text: str) -> list[str]:
    return [finding.what for finding in Fleet.from_yaml(text).warnings]


# ── what is meant ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_cluster_that_says_nothing_has_the_defaults():
    """Built-in CA, keys made on the primary, names by the cluster; the client is postgres."""
    expected = DatabaseWish(
        issuer=BUILT_IN_CA,
        key=KeyOrigin.NODE,
        key_kind=KeyKind.RSA2048,
        keep_ca=True,
        ca=DatabasePair(basename="dbca", subject=(("CN", "seoul-database-ca"),)),
        server=DatabasePair(basename="dbserver", subject=(("CN", "seoul-database-server"),)),
        client=DatabasePair(basename="dbclient", subject=(("CN", "postgres"),)),
    )
    assert expected == cluster_of(text_of()).database


def test_everything_may_be_written():
    """What is written wins; placeholders are filled in, and {node} means every joined node."""
    database = (
        "issuer: ca, key: engine, key_kind: ec256, keep_ca: false, "
        'ca: {name: a, subject: {CN: "{cluster} of {fleet}", O: Own}}, '
        'server: {name: b, subject: {CN: "db.{cluster}.example.com"}, subject_alt_names: '
        '{dns: ["{node}.example.com", "db.{cluster}.example.com"], ip: [10.0.0.1]}}, '
        "client: {name: c, subject: {CN: postgres, OU: DB}}"
    )
    more = "    defaults: {subject: {O: Example, C: KR}}\nissuers: {ca: {kind: manual}}\n"
    expected = DatabaseWish(
        issuer="ca",
        key=KeyOrigin.ENGINE,
        key_kind=KeyKind.EC256,
        keep_ca=False,
        ca=DatabasePair(basename="a", subject=(("CN", "seoul of demo"), ("O", "Own"), ("C", "KR"))),
        server=DatabasePair(
            basename="b",
            subject=(("CN", "db.seoul.example.com"), ("O", "Example"), ("C", "KR")),
            dns=("n1.example.com", "n3.example.com", "n4.example.com", "db.seoul.example.com"),
            ip=("10.0.0.1",),
        ),
        client=DatabasePair(basename="c", subject=(("CN", "postgres"), ("OU", "DB"), ("O", "Example"), ("C", "KR"))),
    )
    text = text_of(database, roles="joined connected joined joined", more=more)
    assert expected == cluster_of(text).database


def test_of_the_defaults_only_the_subject_counts():
    """Who makes the other keys and who signs them says nothing of the database; {node} has no meaning here."""
    more = "defaults: {key: file, issuer: elsewhere, key_kind: ec384, subject: {O: Example, OU: '{node}'}}\n"
    wish = cluster_of(text_of(more=more)).database
    assert (wish.key, wish.issuer, wish.key_kind) == (KeyOrigin.NODE, BUILT_IN_CA, KeyKind.RSA2048)
    assert wish.client.subject == (("CN", "postgres"), ("O", "Example"))


def test_a_long_name_of_a_cluster_makes_a_common_name_that_fits():
    """Names of clusters have up to 63 characters, and a CN 64 (RFC 5280, appendix A.1)."""
    text = text_of("keep_ca: true").replace("seoul", "s" * 63)
    wish = cluster_of(text).database
    assert max(len(dict(pair.subject)["CN"]) for pair in (wish.ca, wish.server)) == 64


def test_the_wish_goes_through_json_and_comes_back_equal():
    """Plans carry it to the workers."""
    fleet = Fleet.from_yaml(text_of("server: {subject_alt_names: {ip: [10.0.0.1]}}", nodes=", database_address: db3"))
    resolved = fleet.resolved()
    assert ResolvedFleet.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved
    assert [node.database_address for node in resolved.nodes] == ["", "", "db3"]


def test_a_resolved_inventory_from_before_can_still_be_read():
    """Journals hold plans that know nothing of the database cluster."""
    resolved = Fleet.from_yaml(text_of()).resolved()
    data = resolved.to_json()
    del data["clusters"][0]["database"]
    for node in data["clusters"][0]["nodes"]:
        del node["database_address"]
    assert ResolvedFleet.from_json(data).clusters[0].nodes == resolved.clusters[0].nodes


def test_the_database_is_looked_at_where_its_address_says():
    """`proof` without an address means the database's own, not that of the command line."""
    text = text_of(nodes=", database_address: 10.9.9.9, proof: {database: {port: 5433}, webadmin: {port: 445}}")
    proofs = {proof.service: (proof.address, proof.port) for proof in cluster_of(text).nodes[-1].proof}
    assert proofs == {"database": ("10.9.9.9", 5433), "webadmin": ("10.0.0.3", 445)}


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("database", "fault"),
    [
        ("client: {subject: {CN: Postgres}}", "the CN of the client is 'Postgres'"),
        ("client: {subject: {CN: '{cluster}'}}", "the CN of the client is 'seoul'"),
        ('server: {subject: {CN: "it\'s"}}', '`pki csr` cannot take CN "it\'s"'),
        ("server: {subject: {CN: ' a'}}", "`pki csr` cannot take CN ' a'"),
        ("ca: {subject: {CN: 'a\\b'}}, key: engine", "`pki csr` cannot take CN 'a\\\\b'"),
        ("server: {subject: {CN: 'a\"b'}}, key: engine", "`pki csr` cannot take CN 'a\"b'"),
        (f"ca: {{subject: {{CN: {'x' * 65}}}}}", f"CN {'x' * 65!r} is too long"),
        ("server: {subject: {CN: ''}}", "`CN` is empty"),
        ("ca: {subject: {emailAddress: me}}", "'me' is no e-mail address"),
        ("server: {subject: {CN: '{node}'}}", "a certificate that nodes share belongs to no single {node}"),
        ("ca: {subject: {CN: '{custer}'}}", "unknown placeholder {custer}"),
        ("server: {subject_alt_names: {dns: ['{nod}']}}", "unknown placeholder {nod}"),
        ("server: {subject_alt_names: {dns: [10.0.0.1]}}", "'10.0.0.1' is no name of kind dns"),
        ("server: {subject_alt_names: {ip: ['{node}']}}", "'n1' is no name of kind ip"),
        ("server: {subject_alt_names: {email: [a@b.c]}}", "unknown key 'email'"),
        ("client: {subject_alt_names: {dns: [a.b]}}", "unknown key 'subject_alt_names'"),
        ("ca: {name: a.b}", "'a.b' cannot be a basename of `pki csr`"),
        ("ca: {name: dbclient}", "`ca` and `client` of the database cluster have the basename 'dbclient'"),
        ("key: file", "`key` cannot be 'file'"),
        ("issuer: buildin", "unknown issuer 'buildin'"),
        ("issuer: nobody", "unknown issuer 'nobody'"),
        ("key: engine, key_kind: dsa", "`key_kind` cannot be 'dsa'"),
    ],
)
def test_what_the_database_cannot_have_is_a_fault(database, fault):
    """Rows S1 and S4, one fault for one mistake."""
    assert [what.partition(" ")[2] for what in faults_of(text_of(database))][:1] == [fault]
    assert {what.partition(" ")[0] for what in faults_of(text_of(database))} == {"8"}


def test_a_misspelt_issuer_gets_a_hint():
    """`built-in` is known beside the issuers of the inventory."""
    with pytest.raises(InventoryError) as caught:
        Fleet.from_yaml(text_of("issuer: buildin"))
    assert [finding.remedy for finding in caught.value.findings] == ["Did you mean 'built-in'?"]


def test_no_issuer_of_the_inventory_is_named_built_in():
    """It would be told from the CA inside the servers by nothing."""
    assert faults_of(text_of(more="issuers: {built-in: {kind: manual}}\n")) == [
        "8 the issuer `built-in` is always the CA inside the servers"
    ]


@pytest.mark.parametrize("database", ["", "keep_ca: true"])
def test_other_certificates_have_other_names(database):
    """Their files lie in one folder, whether or not the database is written about."""
    more = "    certificates: [{name: dbclient, subject: {CN: a.example.com}, services: [turn]}]\n"
    (fault,) = faults_of(text_of(database, more=more))
    assert fault.endswith("'dbclient' is the basename of `client` of the database cluster too")


def test_a_cluster_without_joined_nodes_has_no_database():
    """Neither certificates for it, nor anything to connect to."""
    assert faults_of(text_of("key: node", roles="none standalone")) == ["7 a database cluster without a joined node"]
    assert faults_of(text_of(roles="none connected")) == [
        "6 n2 has nothing to connect to: no node of the cluster seoul is joined"
    ]


@pytest.mark.parametrize("wrong", ["    defaults: {database: conected}\n", ""])
def test_a_misspelt_role_is_told_once(wrong):
    """That no node is joined then is an echo of it."""
    text = text_of("key: node", roles="none connected" if wrong else "joind connected", more=wrong)
    (fault,) = faults_of(text)
    assert "`database` cannot be" in fault


def test_no_more_than_five_nodes_are_joined():
    """mmp-reference 3.2."""
    assert faults_of(text_of(roles="joined " * 6)) == ["4 6 nodes of the cluster seoul are joined"]


def test_each_node_has_a_database_address_of_its_own():
    """A join that reaches the wrong node destroys data."""
    text = text_of(nodes=", database_address: DB1").replace("n1, ", "n1, database_address: db1, ")
    assert faults_of(text) == ["7 n1 and n3 have the database address db1"]


def test_a_database_as_service_is_sent_to_where_it_stands():
    """It is no service of a certificate."""
    more = "    certificates: [{name: a, subject: {CN: a.example.com}, services: [database]}]\n"
    with pytest.raises(InventoryError) as caught:
        Fleet.from_yaml(text_of(more=more))
    assert "`database_cluster`" in caught.value.findings[0].remedy


# ── warnings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("joined", []),
        ("joined joined", ["seoul: an even number of nodes (2) is joined"]),
        (ROLES, []),
        (
            "joined " * 4,
            [
                "seoul: 4 joined nodes; some of the maker's documents allow three, others five",
                "seoul: an even number of nodes (4) is joined",
            ],
        ),
        ("joined " * 5, ["seoul: 5 joined nodes; some of the maker's documents allow three, others five"]),
        ("joined connected connected standalone", []),
    ],
)
def test_an_odd_number_up_to_three_is_as_recommended(roles, expected):
    """Sources differ about the most (mmp-reference 3.2)."""
    assert expected == warnings_of(text_of(roles=roles))


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        (
            "server: {subject: {CN: db.example.com}, subject_alt_names: {dns: [a.example.com]}}",
            ["seoul: the names of the database server do not hold its CN 'db.example.com'"],
        ),
        ("server: {subject: {CN: DB.example.com}, subject_alt_names: {dns: [db.example.com]}}", []),
        ("key_kind: ec256", ["seoul: `key_kind` is only for keys that the engine makes"]),
        ("key: engine, key_kind: ec256", []),
        (
            "issuer: manual, keep_ca: true, ca: {name: x}",
            [f"seoul: `{key}` means nothing where the issuer manual signs" for key in ("ca", "keep_ca")],
        ),
        ("issuer: built-in, keep_ca: true, ca: {name: x, subject: {CN: any text}}", []),
    ],
)
def test_what_means_nothing_is_a_warning(database, expected):
    """It works, but hardly as meant."""
    assert expected == warnings_of(text_of(database))


def test_a_database_address_without_a_database_is_a_warning():
    """Only joined nodes are reached by their peers."""
    text = text_of(roles="joined connected", nodes=", database_address: db2")
    assert warnings_of(text) == ["n2: `database_address` means nothing where no database is joined"]
