"""Rules over the whole inventory (rows S1, S3 and S10), the primitive checks, and choosing a part by names."""

from __future__ import annotations

import pytest

from workflows.errors import InputError, InventoryError
from workflows.inventory import Fleet, checks, select

BASE = """\
fleet: demo
RELEASE
issuers: {ISSUERS}
clusters:
  - name: seoul
    nodes:
      - {name: n1, address: 10.0.0.1}
      - {name: n2, address: NODE2}
    certificates:
      - name: one
        subject: {SUBJECT}
        subject_alt_names: {NAMES}
        services: [SERVICES]
        MORE
"""
GOOD = {
    "RELEASE": 'release: "3.9"',
    "ISSUERS": "manual: {kind: manual}",
    "NODE2": "10.0.0.2",
    "SUBJECT": "CN: a.example.com",
    "NAMES": "dns: [a.example.com]",
    "SERVICES": "turn",
    "MORE": "",
}


def fleet_with(**parts: str) -> Fleet:
    text = BASE
    for word, value in (GOOD | parts).items():
        text = text.replace(word, value)
    return Fleet.from_yaml(text)


def faults_with(**parts: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        fleet_with(**parts)
    return [f"{finding.where.rpartition(':')[2]} {finding.what}" for finding in caught.value.findings]


def test_the_base_of_these_tests_is_right():
    """Without a change there is neither fault nor warning."""
    assert fleet_with().warnings == ()


@pytest.mark.parametrize(
    ("subject", "fault"),
    [
        ("CN: cms1", "11 CN 'cms1' is neither an FQDN nor a wildcard"),
        ("CN: '*.com'", "11 CN '*.com' is neither an FQDN nor a wildcard"),
        ("CN: 'a.*.example.com'", "11 CN 'a.*.example.com' is neither an FQDN nor a wildcard"),
        ("CN: 10.0.0.1", "11 CN '10.0.0.1' is neither an FQDN nor a wildcard"),
        ("CN: a.example.com, emailAddress: me", "11 'me' is no e-mail address"),
        ("CN: a.example.com, O: 'a\"b'", "11 `pki csr` cannot take O 'a\"b'"),
        ('CN: a.example.com, O: "a\\nb"', "11 `pki csr` cannot take O 'a\\nb'"),
        (f"CN: a.example.com, OU: {'x' * 65}", f"11 OU {'x' * 65!r} is too long"),
        ("CN: a.example.com, O: '{nod}'", "11 unknown placeholder {nod}"),
    ],
)
def test_a_bad_subject_is_a_fault(subject, fault):
    """Row S1: the CN is an FQDN or a wildcard, and every value is one that `pki csr` can take."""
    assert faults_with(SUBJECT=subject, NAMES="") == [fault]


@pytest.mark.parametrize(
    ("names", "faults"),
    [
        ("dns: [b.example.com]", ["12 the names do not hold the CN 'a.example.com'"]),
        ("ip: [10.0.0.1]", ["12 the names do not hold the CN 'a.example.com'"]),
        ("dns: [a.example.com, a_b.example.com]", ["12 'a_b.example.com' is no name of kind dns"]),
        ("dns: [a.example.com, 10.0.0.1]", ["12 '10.0.0.1' is no name of kind dns"]),
        ("dns: [a.example.com, -x.example.com]", ["12 '-x.example.com' is no name of kind dns"]),
        ("dns: [a.example.com, 서울.example.com]", ["12 '서울.example.com' is no name of kind dns"]),
        ("dns: [a.example.com], ip: [10.0.0.300]", ["12 '10.0.0.300' is no name of kind ip"]),
        ("dns: [a.example.com], ip: [fe80::1%eth0]", ["12 'fe80::1%eth0' is no name of kind ip"]),
        (
            "dns: [a.example.com], email: [a@b@c, x]",
            [f"12 {name!r} is no name of kind email" for name in ("a@b@c", "x")],
        ),
    ],
)
def test_bad_alternative_names_are_faults(names, faults):
    """Row S1: a list of names holds the CN, and each name is of its kind."""
    assert faults_with(NAMES=names) == faults


def test_the_cn_is_found_in_the_list_whatever_its_case():
    """DNS names do not differ by case (RFC 4343)."""
    assert fleet_with(SUBJECT="CN: A.Example.com").warnings == ()


def test_a_name_is_judged_after_it_is_filled_in():
    """A pattern that is well formed may become a name that is not; the node is told by the name."""
    text = "CN: '{node}.example.com'"
    faults = faults_with(SUBJECT=text, NAMES="", NODE2="10.0.0.2}\n      - {name: n_3, address: 10.0.0.3")
    assert faults == ["12 CN 'n_3.example.com' is neither an FQDN nor a wildcard"]


def test_xmpp_needs_alternative_names():
    """Row S1: XMPP clients need a SAN."""
    assert faults_with(RELEASE="release: '2.9'", SERVICES="xmpp", NAMES="") == [
        "13 xmpp needs subject alternative names"
    ]
    assert fleet_with(RELEASE="release: '2.9'", SERVICES="xmpp").warnings == ()


@pytest.mark.parametrize("service", checks.SERVICE_RELEASES)
@pytest.mark.parametrize("release", ["2.9", "3.0", "3.2.1", "3.3", "3.12"])
def test_a_service_that_the_release_does_not_have_is_a_fault(release, service):
    """Row S10, for every service and the releases around each border."""
    number = tuple(int(part) for part in release.split("."))
    first = {"webbridge3": (3, 0), "scheduler": (3, 3)}.get(service.partition(".")[0], (2, 9))
    there = first <= number and not (service in {"webbridge", "xmpp", "loadbalancer"} and number >= (3, 0))
    parts = {"RELEASE": f"release: '{release}'", "SERVICES": service}
    if there:
        assert fleet_with(**parts).warnings == ()
    else:
        assert faults_with(**parts) == [f"13 release {release} (node n1) has no service {service!r}"]


def test_an_unknown_release_is_left_to_the_survey():
    """Without a release no service is refused."""
    assert fleet_with(RELEASE="", SERVICES="xmpp, scheduler.https").warnings == ()


def test_proof_of_a_service_the_release_does_not_have_is_a_fault():
    """Row S10 holds for `proof` too."""
    node = "10.0.0.2, proof: {webbridge: none}"
    assert faults_with(NODE2=node) == ["8 release 3.9 (node n2) has no service 'webbridge'"]


def test_nodes_and_clusters_must_differ():
    """Two of one name, or two nodes at one address and port, are faults across clusters."""
    more = "\n  - name: seoul\n    nodes: [{name: n1, address: 10.0.0.9}, {name: n4, address: 10.0.0.2}]"
    assert faults_with(MORE=more) == [
        "15 two clusters are named 'seoul' (the other: fleet.yaml:5)",
        "16 two nodes are named 'n1' (the other: fleet.yaml:7)",
        "16 two nodes have the address 10.0.0.2 port 22 (the other: fleet.yaml:8)",
    ]


def test_one_address_with_two_ports_is_two_nodes():
    """Behind a port forwarder several servers share an address."""
    assert fleet_with(NODE2="10.0.0.1, port: 2222").warnings == ()


def test_certificates_of_a_cluster_must_differ_in_name_and_service():
    """Two of one name are a fault, and so is a service that two claim on the same node."""
    more = "\n      - {name: one, subject: {CN: a.example.com}, services: [turn], nodes: [n2]}"
    assert faults_with(MORE=more) == [
        "15 two certificates of this cluster are named 'one' (the other: fleet.yaml:10)",
        "15 turn of node n2 is claimed twice (fleet.yaml:10 and fleet.yaml:15)",
    ]


def test_certificates_on_different_nodes_may_serve_the_same_service():
    """`nodes:` parts them."""
    more = "nodes: [n1]\n      - {name: two, subject: {CN: a.example.com}, services: [turn], nodes: [n2]}"
    assert len(fleet_with(MORE=more).resolved().clusters[0].certificates) == 2


@pytest.mark.parametrize(
    ("more", "faults"),
    [
        ("key: file", ["14 `key: file` without `key_file`", "14 `key: file` without `csr_file`"]),
        (
            "key_file: a\n        key: file\n        csr_file: '{node}.csr'",
            ["14 the pair of each node needs its own `key_file`"],
        ),
        ("key_file: a", ["14 `key_file` means nothing for `key: node`"]),
        ("per: cluster", ["14 a shared pair made on one node must be read from it to reach the others"]),
        ("nodes: [n1, n3]", ["14 the cluster seoul has no node 'n3'"]),
        ("issuer: lokal", ["14 unknown issuer 'lokal'"]),
    ],
)
def test_what_does_not_go_together_is_a_fault(more, faults):
    """Keys of a certificate that contradict each other or refer to nothing."""
    assert faults_with(MORE=more) == faults


@pytest.mark.parametrize(
    "more",
    [
        "per: cluster\n        allow_key_download: true",
        "per: cluster\n        key: engine",
        "per: cluster\n        key: file\n        key_file: a\n        csr_file: b",
        "per: cluster\n        nodes: [n1]",
        "key: file\n        key_file: '{node}.key'\n        csr_file: '{node}.csr'",
        "files: same",
    ],
)
def test_what_goes_together_is_right(more):
    """The ways in which a pair may be shared or brought in."""
    assert fleet_with(MORE=more).warnings == ()


def test_a_shared_certificate_belongs_to_no_single_node():
    """`{node}` in the subject of a shared certificate is a fault; in its alternative names it is not."""
    faults = faults_with(
        SUBJECT="CN: '{node}.example.com'",
        NAMES="dns: ['{node}.example.com']",
        MORE="per: cluster\n        key: engine",
    )
    assert "11 a certificate that nodes share belongs to no single {node}" in faults


@pytest.mark.parametrize(
    ("issuers", "faults"),
    [
        ("ca: {kind: local}", ["3 the local issuer 'ca' has no `certificate`", "3 the local issuer 'ca' has no `key`"]),
        ("ca: {kind: manual, key: x}", ["3 `key` means nothing for kind: manual"]),
        (
            "manual: {kind: local, certificate: a, key: b}",
            ["3 the issuer `manual` is always the manual one"],
        ),
        ("ca: {kind: acme}", ["3 `kind` cannot be 'acme'"]),
    ],
)
def test_bad_issuers_are_faults(issuers, faults):
    """A local CA needs certificate and key; `manual` is always the manual one."""
    assert faults_with(ISSUERS=issuers) == faults


def test_a_wildcard_for_the_call_bridge_is_a_warning():
    """CUCM does not accept wildcards (mmp-reference section 7); for other services there is nothing to warn of."""
    parts = {"SUBJECT": "CN: '*.example.com'", "NAMES": ""}
    assert [finding.where for finding in fleet_with(**parts, SERVICES="callbridge").warnings] == ["fleet.yaml:11"]
    assert fleet_with(**parts, SERVICES="turn").warnings == ()


def test_a_kind_of_key_that_nobody_asks_for_is_a_warning():
    """`pki csr` on the node decides for itself what key it makes."""
    assert [finding.where for finding in fleet_with(MORE="key_kind: rsa4096").warnings] == ["fleet.yaml:14"]
    assert fleet_with(MORE="key_kind: rsa4096\n        key: engine").warnings == ()


@pytest.mark.parametrize(
    ("holds", "right", "wrong"),
    [
        (
            checks.is_fqdn,
            ["a.b", "xn--9n2bp8q.kr", f"{'a' * 63}.kr"],
            ["a", "a.b.", ".a", "a..b", f"{'a' * 64}.kr", "a.1"],
        ),
        (checks.is_wildcard, ["*.a.b"], ["*.a", "*", "*a.b.c", "**.a.b", "a.*.b", "*.*.b.c"]),
        (checks.is_country, ["KR", "GB", "NO"], ["kr", "UK", "KOR", "K", "XX", ""]),
        (checks.is_basename, ["a", "call-bridge_2"], ["", "a.b", "a b", "é", "a/b", "a\n"]),
        (checks.is_ip, ["10.0.0.1", "2001:db8::1"], ["10.0.0", "10.0.0.1/8", "fe80::1%a", "x"]),
        (
            checks.is_email,
            ["a@b.cd", "a.b+c@d.ef"],
            ["a", "a@", "@b.cd", "a b@c.de", "a@b", ".a@b.cd", f"{'a' * 65}@b.cd"],
        ),
    ],
)
def test_primitive_checks_know_right_from_wrong(holds, right, wrong):
    """Each primitive rule with names on both sides of its borders."""
    assert [text for text in right if not holds(text)] == []
    assert [text for text in wrong if holds(text)] == []


TWO = """\
fleet: demo
clusters:
  - name: seoul
    nodes: [{name: s1, address: 10.0.0.1}, {name: s2, address: 10.0.0.2}]
    certificates:
      - {name: shared, subject: {CN: a.example.com}, services: [webadmin], per: cluster, key: engine}
      - {name: turn, subject: {CN: "{node}.example.com"}, services: [turn]}
  - name: busan
    nodes: [{name: b1, address: 10.0.1.1}]
    certificates:
      - {name: turn, subject: {CN: "{node}.example.com"}, services: [turn]}
"""


@pytest.mark.parametrize(
    ("selectors", "nodes", "wishes"),
    [
        ({}, ["s1", "s2", "b1"], ["shared s1,s2", "turn s1", "turn s2", "turn b1"]),
        ({"clusters": ["busan"]}, ["b1"], ["turn b1"]),
        ({"nodes": ["s2"]}, ["s2"], ["shared s2", "turn s2"]),
        ({"certificates": ["shared"]}, ["s1", "s2"], ["shared s1,s2"]),
        ({"nodes": ["s1", "b1"], "certificates": ["turn"]}, ["s1", "b1"], ["turn s1", "turn b1"]),
    ],
)
def test_selectors_cut_the_fleet_down_to_what_is_named(selectors, nodes, wishes):
    """Empty selectors name everything, several hold together."""
    part = select(Fleet.from_yaml(TWO).resolved(), **selectors)
    assert [node.name for node in part.nodes] == nodes
    found = [f"{wish.name} {','.join(wish.nodes)}" for cluster in part.clusters for wish in cluster.certificates]
    assert found == wishes


@pytest.mark.parametrize(
    ("selectors", "message", "remedy"),
    [
        ({"clusters": ["seol"]}, "unknown cluster 'seol'", "Did you mean 'seoul'?"),
        ({"nodes": ["x", "b11"]}, "unknown node 'x', 'b11'", "Did you mean 'b1'?"),
        ({"certificates": ["xmpp"]}, "unknown certificate 'xmpp'", "Known: shared, turn."),
        ({"clusters": ["seoul"], "nodes": ["b1"]}, "b1: not in the selection", ""),
        ({"clusters": ["busan"], "certificates": ["shared"]}, "nothing is selected", ""),
    ],
)
def test_a_selector_that_names_nothing_is_refused(selectors, message, remedy):
    """The error says which names are unknown and what may be meant."""
    with pytest.raises(InputError) as caught:
        select(Fleet.from_yaml(TWO).resolved(), **selectors)
    assert str(caught.value) == message
    assert remedy in caught.value.remedy()
