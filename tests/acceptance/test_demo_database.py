"""`certbridge demo --database`, as a new user types it."""

import re
from pathlib import Path

import pytest

from tests.acceptance.test_demo import demo, home

__all__ = ["home"]

ROW = re.compile(
    r"^(cmscore\d)  (primary|replica|connected) +(Connected Primary|In Sync|connected) +(\S+) → (\S+)  "
    r"(kept|copy of cmscore1|uses that of cmscore1) +(\S+ \S+ to \S+ \S+)  +(\S+ \S+) +(\d) +yes$",
    re.MULTILINE,
)


@pytest.mark.timeout(240)
def test_demo_rebuilds_an_expired_cluster_on_the_data_of_its_primary(home: Path):
    """Three joined and two connected nodes: exit 0, all in the cluster again, outage predicted and measured."""
    with demo(home, "--database") as process:
        text, _ = process.communicate(timeout=220)

    rows = {row[0]: row[1:] for row in ROW.findall(text)}
    assert process.returncode == 0, text
    expected = {
        "cmscore1": ("primary", "Connected Primary", "kept"),
        "cmscore2": ("replica", "In Sync", "copy of cmscore1"),
        "cmscore3": ("replica", "In Sync", "copy of cmscore1"),
        "cmscore4": ("connected", "connected", "uses that of cmscore1"),
        "cmscore5": ("connected", "connected", "uses that of cmscore1"),
    }
    assert {node: (row[0], row[1], row[4]) for node, row in rows.items()} == expected, text
    assert [node for node, row in rows.items() if not row[2] < row[3]] == [], "each certificate ends later than before"
    assert {row[7] for row in rows.values()} == {"2"}, "one restart on the way out, one on the way in"
    assert "expired: dbserver.crt, dbclient.crt" in text
    assert re.search(r"^seoul: the database cluster was away for \S+ s \(predicted", text, re.MULTILINE)
    assert "the chain is whole" in text
    assert sorted(home.iterdir()) == []
