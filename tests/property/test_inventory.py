"""Laws of the inventory: no text gives anything but a fleet or findings; writing and reading is the identity."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from workflows.errors import Finding, InventoryError
from workflows.inventory import Fleet, ResolvedFleet, checks, select

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)


@st.composite
def databases(draw: st.DrawFn, nodes: list[dict[str, object]]) -> dict[str, object]:
    """Give the first *nodes* a database, the next ones a connection; return what is written of the certificates."""
    joined = draw(st.integers(0, len(nodes)))
    for place, node in enumerate(nodes):
        node["database"] = "joined" if place < joined else draw(st.sampled_from(["connected", "none"][not joined :]))
    if not joined or draw(st.booleans()):
        return {}
    names = {"dns": ["{node}.example.com", "db.{cluster}.example.com"]}
    pairs: dict[str, object] = {
        "ca": {"name": "myca", "subject": {"CN": "{fleet} {cluster}", "O": "Own"}},
        "server": {"subject": {"CN": "db.{cluster}.example.com"}, "subject_alt_names": names},
        "client": {"subject": {"CN": "postgres"}},
        "key": draw(st.sampled_from(["node", "engine"])),
        "issuer": draw(st.sampled_from(["built-in", "manual"])),
    }
    return {"database_cluster": {key: pairs[key] for key in draw(st.sets(st.sampled_from(sorted(pairs)), min_size=1))}}


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, object]:
    """Return a right inventory as plain data: a few clusters, some nodes, certificates of all ways."""
    clusters: list[dict[str, object]] = []
    names = iter(draw(st.lists(NAMES, min_size=12, max_size=12, unique=True)))
    for at in range(draw(st.integers(1, 3))):
        nodes: list[dict[str, object]] = [
            {"name": next(names), "address": f"10.0.{at}.{place + 1}", "port": draw(st.integers(1, 65535))}
            for place in range(draw(st.integers(1, 3)))
        ]
        certificates = [
            {
                "name": service,
                "subject": {"CN": draw(st.sampled_from(["{cluster}.example.com", "*.example.com"])), "C": "KR"},
                "services": [service],
                **draw(
                    st.sampled_from(
                        [{"per": "node"}, {"per": "cluster", "key": "engine"}, {"files": "same", "issuer": "manual"}]
                    )
                ),
            }
            for service in draw(st.lists(st.sampled_from(["webadmin", "turn", "recorder"]), unique=True))
        ]
        clusters.append({"name": f"c{at}", "nodes": nodes, "certificates": certificates} | draw(databases(nodes)))
    return {"fleet": "demo", "release": "3.9", "clusters": clusters}


def findings_of(text: str) -> tuple[Finding, ...]:
    """Return what is wrong with *text*; nothing when it is a fleet."""
    try:
        Fleet.from_yaml(text)
    except InventoryError as error:
        return error.findings
    return ()


@given(st.text())
def test_any_text_gives_a_fleet_or_findings(text):
    """Never another error, whatever the text."""
    assert findings_of(text) != ()  # no text that hypothesis makes is an inventory


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["none", "cluster", "file", "3.9"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("name", "nodes", "address", "certificates", "subject", "CN", "services", "defaults", "proof"),
                    *("database_cluster", "database", "ca", "server", "client", "subject_alt_names", "x"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(["fleet", "clusters", "issuers", "defaults", "release"]), JSON_LIKE))
def test_any_structure_gives_a_fleet_or_findings_with_remedies(data):
    """Right keys with wrong values in wrong places: each finding has place and remedy."""
    findings = findings_of(yaml.safe_dump(data))
    assert [each for each in findings if not (each.where.startswith("fleet.yaml:") and each.remedy)] == []


@given(fleets(), st.data())
def test_one_fault_in_a_right_inventory_is_found_where_it_stands(data, draw):
    """An unknown key anywhere gives one finding, at its line."""
    cluster = draw.draw(st.sampled_from(data["clusters"]))
    databases = [cluster["database_cluster"]] if "database_cluster" in cluster else []
    place = draw.draw(st.sampled_from([data, cluster, *cluster["nodes"], *cluster["certificates"], *databases]))
    place["zzz"] = "1"
    text = yaml.safe_dump(data, default_flow_style=False)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "zzz" in each)
    found = [(finding.where, finding.what) for finding in findings_of(text)]
    assert found == [(f"fleet.yaml:{line}", "unknown key 'zzz'")]


@given(fleets())
def test_values_come_back_equal_from_json(data):
    """from_json(to_json(x)) == x, through text."""
    fleet = Fleet.from_yaml(yaml.safe_dump(data)).resolved("/base")
    assert ResolvedFleet.from_json(json.loads(json.dumps(fleet.to_json()))) == fleet


@given(fleets())
def test_every_wish_stands_on_nodes_of_its_cluster_without_placeholders(data):
    """Nothing that is resolved refers outside its cluster, and nothing is left to fill in."""
    for cluster in Fleet.from_yaml(yaml.safe_dump(data)).resolved().clusters:
        for wish in cluster.certificates:
            assert set(wish.nodes) <= {node.name for node in cluster.nodes}
            assert not any("{" in text for _, text in wish.subject)
            assert checks.is_fqdn(wish.common_name) or checks.is_wildcard(wish.common_name)


@given(fleets())
def test_the_three_pairs_of_a_database_are_told_apart_and_filled_in(data):
    """Three basenames, the client is postgres, and the server is named after joined nodes only."""
    for cluster in Fleet.from_yaml(yaml.safe_dump(data)).resolved().clusters:
        pairs = (cluster.database.ca, cluster.database.server, cluster.database.client)
        assert len({pair.basename for pair in pairs}) == 3
        assert dict(cluster.database.client.subject)["CN"] == "postgres"
        assert [text for pair in pairs for text in (*dict(pair.subject).values(), *pair.dns) if "{" in text] == []
        others = {f"{node.name}.example.com" for node in cluster.nodes if node.database != "joined"}
        assert others.isdisjoint(cluster.database.server.dns)


@given(fleets(), st.data())
def test_selecting_twice_is_selecting_once(data, draw):
    """What is selected holds what it was selected by."""
    fleet = Fleet.from_yaml(yaml.safe_dump(data)).resolved()
    nodes = draw.draw(st.lists(st.sampled_from([node.name for node in fleet.nodes]), min_size=1, unique=True))
    once = select(fleet, nodes=nodes)
    assert select(once, nodes=nodes) == once
    assert {node.name for node in once.nodes} == set(nodes)


@given(NAMES, NAMES)
def test_a_name_is_never_both_wildcard_and_fqdn(one, two):
    """The rules do not overlap."""
    assert checks.is_fqdn(f"{one}.{two}")
    assert checks.is_wildcard(f"*.{one}.{two}")
    assert not checks.is_fqdn(f"*.{one}.{two}")
