"""Reading `fleet.yaml`: what comes out, and that every fault comes with line and remedy, all at once."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from workflows.errors import InputError, InventoryError
from workflows.inventory import (
    DatabaseRole,
    FilesPolicy,
    Fleet,
    IssuerKind,
    KeyKind,
    KeyOrigin,
    Per,
    Proof,
    ResolvedFleet,
    approval_of,
)

MINIMAL = """\
fleet: demo
clusters:
  - name: seoul
    nodes:
      - {name: cms1, address: 127.1.2.3}
      - {name: cms2, address: 127.1.2.4}
    certificates:
      - name: callbridge
        subject: {CN: "{node}.example.com"}
        services: [callbridge]
"""


def faults_of(text: str) -> list[tuple[int, str]]:
    """Return (line, what is wrong) of every finding."""
    with pytest.raises(InventoryError) as caught:
        Fleet.from_yaml(dedent(text), source="f.yaml")
    assert all(finding.remedy for finding in caught.value.findings)
    return [(int(finding.where.removeprefix("f.yaml:")), finding.what) for finding in caught.value.findings]


def changed(old: str, new: str) -> str:
    """Return the minimal inventory with one thing changed."""
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


def test_built_in_defaults_are_filled_in():
    """What is not written has the documented value."""
    fleet = Fleet.from_yaml(MINIMAL).resolved()
    node, wish = fleet.node("cms1"), fleet.clusters[0].certificates[0]
    assert (fleet.four_eyes, fleet.go_gate, fleet.fail_limit) == (True, True, 0)
    assert (fleet.retention_days, fleet.minimum_days) == (30, 14)
    assert [(issuer.name, issuer.kind) for issuer in fleet.issuers] == [("manual", IssuerKind.MANUAL)]
    assert (node.port, node.interface, node.database_interface, node.credential) == (22, "a", "a", "cms")
    assert (node.release, node.database, node.proof) == ("", DatabaseRole.NONE, ())
    assert (wish.per, wish.key, wish.key_kind) == (Per.NODE, KeyOrigin.NODE, KeyKind.RSA2048)
    assert (wish.files, wish.issuer, wish.trusted_by) == (FilesPolicy.FRESH, "manual", ())


def test_a_certificate_per_node_is_one_wish_for_each_node():
    """Each wish stands on its node alone, with the node's name filled in."""
    wishes = Fleet.from_yaml(MINIMAL).resolved().clusters[0].certificates
    expected = [(("cms1",), "cms1.example.com"), (("cms2",), "cms2.example.com")]
    assert [(wish.nodes, wish.common_name) for wish in wishes] == expected


def test_a_shared_certificate_names_every_node_in_its_alternative_names():
    """`{node}` in the names of a shared certificate makes one name for each node, each once."""
    text = changed("services: [callbridge]", "services: [callbridge]\n        per: cluster\n        key: engine")
    text = text.replace(
        '{CN: "{node}.example.com"}',
        '{CN: "{cluster}.example.com"}\n'
        '        subject_alt_names: {dns: ["{cluster}.example.com", "{node}.{fleet}.com"]}',
    )
    (wish,) = Fleet.from_yaml(text).resolved().clusters[0].certificates
    assert wish.nodes == ("cms1", "cms2")
    assert wish.dns == ("seoul.example.com", "cms1.demo.com", "cms2.demo.com")


def test_lower_levels_override_defaults_of_higher_ones():
    """The thing itself wins, then the defaults of node, cluster and fleet."""
    text = """\
        fleet: demo
        release: "3.9"
        defaults: {credential: fleet, port: 1, interface: a, issuer: manual, subject: {O: Fleet, OU: Fleet, C: KR}}
        clusters:
          - name: seoul
            release: "3.8"
            defaults: {credential: cluster, port: 2, key: engine, subject: {OU: Cluster}}
            nodes:
              - {name: n1, address: a.example, defaults: {port: 3, key: node, subject: {O: Node}}}
              - {name: n2, address: b.example, port: 4, release: 3.10}
            certificates:
              - {name: x, subject: {CN: x.example.com, C: DE}, services: [turn]}
          - name: busan
            nodes: [{name: n3, address: c.example}]
        """
    fleet = Fleet.from_yaml(dedent(text)).resolved()
    assert [node.port for node in fleet.nodes] == [3, 4, 1]
    assert [node.credential for node in fleet.nodes] == ["cluster", "cluster", "fleet"]
    assert [node.release for node in fleet.nodes] == ["3.8", "3.10", "3.9"]
    first, second = fleet.cluster("seoul").certificates
    assert (first.key, second.key) == (KeyOrigin.NODE, KeyOrigin.ENGINE)
    assert first.subject == (("CN", "x.example.com"), ("OU", "Cluster"), ("O", "Node"), ("C", "DE"))
    assert second.subject == (("CN", "x.example.com"), ("OU", "Cluster"), ("O", "Fleet"), ("C", "DE"))


def test_proof_falls_back_to_the_address_of_the_node():
    """`none` means not reachable on purpose; address and port may be left out."""
    text = changed(
        "address: 127.1.2.3}",
        "address: 127.1.2.3, proof: {turn: none, webadmin: {port: 8443}, database: {address: db}}}",
    )
    assert Fleet.from_yaml(text).resolved().node("cms1").proof == (
        Proof(service="turn", address="127.1.2.3", port=0, reachable=False),
        Proof(service="webadmin", address="127.1.2.3", port=8443, reachable=True),
        Proof(service="database", address="db", port=0, reachable=True),
    )


def test_paths_are_relative_to_the_folder_of_the_inventory():
    """Relative paths are joined to it, absolute ones stay."""
    text = MINIMAL.replace(
        "services: [callbridge]",
        "services: [callbridge]\n        key: file\n"
        '        key_file: "k/{node}.key"\n        csr_file: "/x/{node}.csr"',
    ).replace("clusters:", "issuers: {ca: {kind: local, certificate: ca.crt, key: ca.key, chain: [ca.crt]}}\nclusters:")
    fleet = Fleet.from_yaml(text).resolved("/etc/fleet")
    wish, issuer = fleet.clusters[0].certificates[1], fleet.issuer("ca")
    assert (wish.key_file, wish.csr_file) == ("/etc/fleet/k/cms2.key", "/x/cms2.csr")
    assert (issuer.certificate, issuer.chain, issuer.days) == ("/etc/fleet/ca.crt", ("/etc/fleet/ca.crt",), 200)


def test_json_round_trip_gives_an_equal_fleet():
    """The values go through JSON text and come back equal."""
    fleet = Fleet.from_yaml(MINIMAL).resolved()
    assert ResolvedFleet.from_json(json.loads(json.dumps(fleet.to_json()))) == fleet


@pytest.mark.parametrize("data", [{}, {"name": "x"}, {"name": "x", "unknown": 1}])
def test_json_of_something_else_is_refused(data):
    """A plan file that was edited by hand ends in a clear error."""
    with pytest.raises(InputError):
        ResolvedFleet.from_json(data)


def test_words_that_yaml_takes_for_numbers_and_truths_stay_words():
    """Norway is not false, and release 3.10 is not 3.1."""
    text = changed('{CN: "{node}.example.com"}', '{CN: "{node}.example.com", C: NO, O: 0123, OU: yes}')
    wish = Fleet.from_yaml("release: 3.10\n" + text).resolved().clusters[0].certificates[0]
    assert wish.subject[1:] == (("OU", "yes"), ("O", "0123"), ("C", "NO"))


def test_anchors_aliases_and_merge_keys_work():
    """What is written out wins over what is merged in."""
    text = """\
        fleet: demo
        clusters:
          - name: a
            nodes:
              - &one {name: n1, address: 10.0.0.1, port: &p 2222, credential: x}
              - {<<: *one, name: n2, address: 10.0.0.2}
              - {name: n3, address: 10.0.0.3, port: *p}
        """
    nodes = Fleet.from_yaml(dedent(text)).resolved().nodes
    expected = [("n1", 2222, "x"), ("n2", 2222, "x"), ("n3", 2222, "cms")]
    assert [(node.name, node.port, node.credential) for node in nodes] == expected


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "empty"),
        ("fleet: demo\nclusters: [", 3, "not YAML"),
        ("fleet: demo\n\t- x", 2, "not YAML"),
        ("fleet: demo\n---\nfleet: other", 2, "second document"),
        ("fleet: demo\nx: *nothing", 2, "no anchor"),
        ("fleet: demo\nx: &x [*x]", 2, "contains itself"),
        ("fleet: demo\n? [a]\n: b", 2, "key must be a word"),
        ("fleet: demo\nx: \x07", 2, "not YAML"),
        ("fleet: \ud800", 1, "not text"),
        ("- a", 1, "no mapping"),
        ("fleet: demo\nx: " + "[" * 50 + "]" * 50, 2, "nested too deeply"),
        ("fleet: " + "[" * 100_000 + "]" * 100_000, 1, "nested too deeply"),
        ("#" * (10 * 1024 * 1024 + 1), 1, "larger than 10 MB"),
    ],
    ids=range(13),
)
def test_text_that_is_no_inventory_is_named_with_its_line(text, line, part):
    """Neither broken nor hostile YAML gives anything but a finding."""
    found = faults_of(text)[-1]
    assert found[0] == line
    assert part in found[1]


def test_aliases_that_unfold_to_billions_are_refused_quickly():
    """Each line doubles the one before ten times; nothing is unfolded to find out."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    assert "too many values" in faults_of("\n".join(lines))[-1][1]


def test_a_tag_is_refused_and_nothing_is_made_of_it():
    """Tags that would build Python objects are only a fault."""
    found = faults_of(changed("fleet: demo", "fleet: !!python/object/apply:os.getcwd []"))
    assert any("the tag tag:yaml.org,2002:python/object/apply:os.getcwd" in what for _, what in found)


def test_a_key_that_stands_twice_is_named_with_both_lines():
    """The second one is the fault, and the first is told."""
    assert faults_of(changed("clusters:", "go_gate: true\ngo_gate: false\nclusters:")) == [
        (3, "the key 'go_gate' stands twice (first in line 2)")
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("fleet: demo", "fleet: demo\nrelase: 3.9", 2, "unknown key 'relase'"),
        ("fleet: demo", "fleet: a/b", 1, "'a/b' cannot be a name"),
        ("fleet: demo", "fleet: demo\nrelease: 2.8", 2, "release 2.8 is too old"),
        ("fleet: demo", "fleet: demo\nrelease: new", 2, "'new' is no release"),
        ("fleet: demo", "fleet: demo\nretention: 1 month", 2, "'1 month' is no number of days"),
        ("fleet: demo", "fleet: demo\nfail_limit: -1", 2, "`fail_limit` cannot be -1"),
        ("fleet: demo", "fleet: demo\nfour_eyes: maybe", 2, "`four_eyes` is neither true nor false"),
        ("fleet: demo", "fleet:", 1, "`fleet` is no text"),
        ("fleet: demo", "fleet: demo\napprovals: {sing: {}}", 2, "unknown gate 'sing'"),
        ("fleet: demo", "fleet: demo\napprovals: {go: {who: pki}}", 2, "unknown key 'who'"),
        ("fleet: demo", "fleet: demo\napprovals: {go: {stages: [{grp: pki}]}}", 2, "unknown key 'grp'"),
        ("fleet: demo", "fleet: demo\napprovals: {go: {stages: []}}", 2, "`stages` is an empty list"),
        ("fleet: demo", "fleet: demo\napprovals: {go: {stages: [{needs: 0}]}}", 2, "`needs` cannot be 0"),
        ("fleet: demo", "fleet: demo\napprovals: {go: {decide_within: 0d}}", 2, "'0d' is no term of at least one day"),
        ("address: 127.1.2.3}", "address: 127.1.2.3, port: 70000}", 5, "`port` cannot be 70000"),
        ("address: 127.1.2.3}", "address: 127.1.2.3, port: ssh}", 5, "`port` is no number"),
        ("address: 127.1.2.3}", "address: 'ssh://x'}", 5, "'ssh://x' is neither a host name nor an IP address"),
        ("address: 127.1.2.3}", "address: x, database: master}", 5, "`database` cannot be 'master'"),
        ("address: 127.1.2.3}", "address: x, proof: {webadmn: none}}", 5, "unknown service 'webadmn'"),
        ("address: 127.1.2.3}", "address: x, proof: {turn: off}}", 5, "`turn` is no mapping"),
        ("{name: cms1, address: 127.1.2.3}", "{name: cms1}", 5, "the key 'address' is missing"),
        ("name: callbridge", "name: call bridge", 8, "'call bridge' cannot be a basename of `pki csr`"),
        ('{CN: "{node}.example.com"}', "{C: KR}", 9, "the key 'CN' is missing"),
        ('{CN: "{node}.example.com"}', "{CN: a.example.com, C: UK}", 9, "'UK' is not a country of ISO 3166"),
        ('{CN: "{node}.example.com"}', "{CN: a.example.com, C: kr}", 9, "'kr' is not a country of ISO 3166"),
        ("services: [callbridge]", "services: callbridge", 10, "`services` is no list"),
        ("services: [callbridge]", "services: []", 10, "no service uses this certificate"),
        ("services: [callbridge]", "services: [database]", 10, "unknown service 'database'"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(old, new, line, what):
    """One wrong value gives one finding, at its own line."""
    assert faults_of(changed(old, new)) == [(line, what)]


def test_near_misses_are_told_what_may_be_meant():
    """The remedy of an unknown key, service or choice names the nearest known one."""
    text = changed("fleet: demo", "fleet: demo\nfour_eye: false").replace("[callbridge]", "[calbridge]")
    with pytest.raises(InventoryError) as caught:
        Fleet.from_yaml(text)
    remedies = [finding.remedy for finding in caught.value.findings]
    assert remedies == ["Did you mean 'four_eyes'?", "Did you mean 'callbridge'?"]


def test_all_faults_come_in_one_go_and_in_order_of_lines():
    """Faults of syntax rules, of single values and of the whole are told together; none hides another."""
    found = faults_of("""\
        fleet: demo
        relase: 3.9
        clusters:
          - name: seoul
            nodes:
              - {name: cms1}
              - {name: cms1, address: 127.1.2.3, port: 0}
            certificates:
              - name: one
                subject: {CN: short}
                services: [webbridge3, turn]
              - name: two
                subject: {C: KR}
                subject_alt_names: {dns: [bad name]}
                services: [turn]
                nodes: [cms1, cms9]
                issuer: nobody
        """)
    assert found == [
        (2, "unknown key 'relase'"),
        (6, "the key 'address' is missing"),
        (7, "`port` cannot be 0"),
        (7, "two nodes are named 'cms1' (the other: f.yaml:6)"),
        (10, "CN 'short' is neither an FQDN nor a wildcard"),
        (11, "unknown service 'webbridge3'"),
        (13, "the key 'CN' is missing"),
        (14, "'bad name' is no name of kind dns"),
        (15, "turn of node cms1 is claimed twice (f.yaml:9 and f.yaml:12)"),
        (16, "the cluster seoul has no node 'cms9'"),
        (17, "unknown issuer 'nobody'"),
    ]


def test_thousands_of_faults_end_quickly_in_the_first_thousand():
    """A file of something else entirely is not looked at for minutes."""
    nodes = "\n".join(f"      - {{nam: n{number}, address: x}}" for number in range(1500))
    assert len(faults_of(f"fleet: demo\nclusters:\n  - name: a\n    nodes:\n{nodes}\n")) == 1000


def test_approvals_say_who_and_how_long_and_default_to_one_person():
    """Stages in their order and both clocks; what is not written is one person of any group, 14 and 30 days."""
    written = "  sign: {stages: [{group: pki}, {group: security, needs: 2}], decide_within: 7d}"
    fleet = Fleet.from_yaml(changed("fleet: demo", f"fleet: demo\napprovals:\n{written}")).resolved()
    sign, go = (approval_of(fleet.to_json(), gate) for gate in ("sign", "go"))
    assert [(one.group, one.needs) for one in sign.stages] == [("pki", 1), ("security", 2)]
    assert (sign.decide_within.days, sign.valid_for.days) == (7, 30)
    assert ([(one.group, one.needs) for one in go.stages], go.decide_within.days) == ([("", 1)], 14)
    assert ResolvedFleet.from_json(fleet.to_json()) == fleet


def test_a_fleet_without_approvals_is_written_as_before_there_were_any():
    """So that the digest of its plans stays what it was."""
    assert "approvals" not in Fleet.from_yaml(MINIMAL).resolved().to_json()
