"""The checker of the order: a good log passes, and each rule is found out by a log that breaks just it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import database_order
import pytest
from database_order import from_file, from_lines

ADDRESSES = {name: f"127.0.0.{number}" for number, name in enumerate("abcdxy", start=1)}
CLUSTERS = {"seoul": ("a", "b", "c", "d")}  # a is the primary, d connects only
PRIMARY = ADDRESSES["a"]
FIVE, THREE = "certs s.key s.crt c.key c.crt ca.crt", "certs c.key c.crt ca.crt"
Lines = Sequence[tuple[str, str]]
REMOVES: Lines = (("d", "remove"), ("b", "remove"), ("c", "remove"), ("a", "remove"))
BUILD: Lines = (
    ("a", FIVE),
    ("a", "localnode a"),
    ("a", "initialize"),
    ("b", FIVE),
    ("b", "localnode a"),
    ("b", f"join {PRIMARY}"),
    ("c", FIVE),
    ("c", f"join {PRIMARY}"),
    ("d", THREE),
    ("d", f"connect {PRIMARY}"),
    ("a", "upgrade_schema"),
)


def check(lines: Lines, **options: bool) -> list[str]:
    """Return what the checker finds in a list of lines."""
    return judge(from_lines([(node, f"database cluster {line}") for node, line in lines]), **options)


def judge(records: list[dict[str, Any]], **options: bool) -> list[str]:
    """Return what the checker finds in records."""
    return database_order.check(records, clusters=CLUSTERS, addresses=ADDRESSES, primary={"seoul": "a"}, **options)


def moved(lines: Lines, line: tuple[str, str], before: tuple[str, str]) -> Lines:
    """Return *lines* with one line moved."""
    rest = [other for other in lines if other != line]
    place = rest.index(before)
    return [*rest[:place], line, *rest[place:]]


def ended(records: list[dict[str, Any]], text: str, outcome: str) -> list[dict[str, Any]]:
    """Return *records* with another outcome for the operation *text*."""
    return [
        {**r, "outcome": outcome} if (r["kind"], r["phase"], r["text"]) == ("database", "end", text) else r
        for r in records
    ]


GOOD: Lines = (*REMOVES, *BUILD)


def test_a_rebuild_in_order_passes() -> None:
    """The order of DESIGN.md section 7."""
    assert check(GOOD) == []


def test_first_building_needs_no_remove() -> None:
    """Nodes that are in no cluster are built straight away."""
    assert check(BUILD, removes=False) == []


def test_reading_and_other_commands_do_not_matter() -> None:
    """Status, files and services may be asked for anywhere."""
    assert check([("b", "status"), *GOOD, ("c", "status"), ("c", "clear_error")]) == []


def test_a_log_that_ends_early_is_good_as_far_as_it_goes() -> None:
    """Stopped before the initialize, the only thing missing is the initialize."""
    assert check(REMOVES, complete=False) == []
    assert check(REMOVES) == ["seoul: initialize was never carried out"]


def test_going_back_before_the_primary_is_removed_passes() -> None:
    """A removed replica may join the primary that is still up."""
    assert check([("b", "remove"), ("b", f"join {PRIMARY}")], complete=False) == []


@pytest.mark.parametrize(
    ("lines", "violation"),
    [
        ([*GOOD, ("a", "initialize")], "initialize on a a second time"),
        ([*GOOD, ("a", "initialize")], "initialize on a though the cluster was initialized already"),
        (
            [("b" if line == ("a", "initialize") else line[0], line[1]) for line in GOOD],
            "initialize on b, but the primary was a",
        ),
        (moved(GOOD, ("b", "remove"), ("b", FIVE)), "remove on b after the initialize"),
        (moved(GOOD, ("b", "remove"), ("b", FIVE)), "initialize on a before the remove of b"),
        ([line for line in GOOD if line != ("d", "remove")], "initialize on a before the remove of d"),
        (moved(GOOD, ("a", "remove"), ("b", "remove")), "remove on the primary a before the remove of b, c"),
        (moved(GOOD, ("a", "remove"), ("c", "remove")), "remove on c after the remove of the primary a"),
        (moved(GOOD, ("a", FIVE), ("a", "remove")), "certs on a while it was in a cluster"),
        (moved(GOOD, ("a", "localnode a"), ("d", "remove")), "localnode on a while it was in a cluster"),
        ([*GOOD, ("c", "certs none")], "certs on c while it was in a cluster"),
        (moved(GOOD, ("b", f"join {PRIMARY}"), ("a", "initialize")), "join on b before a was Connected Primary"),
        (moved(GOOD, ("d", f"connect {PRIMARY}"), ("a", FIVE)), "connect on d before a was Connected Primary"),
        ([*GOOD, ("b", f"join {PRIMARY}")], "join on b a second time"),
        ([*GOOD, ("d", f"connect {PRIMARY}")], "connect on d a second time"),
        ([("b", "remove"), *GOOD], "remove on b a second time"),
        (
            [(node, "join 127.0.0.2" if node == "c" and line.startswith("join") else line) for node, line in GOOD],
            "join on c to 127.0.0.2, but the primary is at 127.0.0.1",
        ),
        ([*GOOD, ("b", "upgrade_schema")], "upgrade_schema on b, which is not the primary a"),
    ],
)
def test_each_rule_is_found_out(lines: Lines, violation: str) -> None:
    """A log that breaks a rule fails with a sentence that names it."""
    assert f"seoul: {violation}" in check(lines)


def test_two_joins_at_once_are_found_out() -> None:
    """The second begins before the first has ended."""
    records = from_lines([(node, f"database cluster {line}") for node, line in GOOD])
    first = next(r for r in records if r["node"] == "b" and r["text"].startswith("join") and r["phase"] == "end")
    records.remove(first)
    records.insert(
        next(
            n
            for n, r in enumerate(records)
            if r["node"] == "c" and r["phase"] == "end" and r["kind"] == "database" and r["text"].startswith("join")
        ),
        first,
    )
    assert judge(records) == [f"seoul: two joins at once: join {PRIMARY} on c during join {PRIMARY} on b"]


def test_a_join_before_the_initialize_has_ended_is_found_out() -> None:
    """Connected Primary is what counts, not that the command was typed."""
    records = from_lines([(node, f"database cluster {line}") for node, line in GOOD])
    ending = next(r for r in records if r["kind"] == "database" and r["text"] == "initialize" and r["phase"] == "end")
    records.remove(ending)
    place = next(n for n, r in enumerate(records) if r["kind"] == "database" and r["text"].startswith("join"))
    records.insert(place + 1, ending)
    assert judge(records) == [
        f"seoul: two operations at once: join {PRIMARY} on b during initialize on a",
        "seoul: join on b before a was Connected Primary",
    ]


def test_an_initialize_that_failed_or_was_lost_did_not_happen() -> None:
    """It may be tried again, and it is no Connected Primary."""
    for outcome in ("failure", "lost"):
        broken = ended(
            from_lines([(n, f"database cluster {t}") for n, t in (*REMOVES, *BUILD[:3])]), "initialize", outcome
        )
        again = from_lines([(n, f"database cluster {t}") for n, t in BUILD[2:]])
        assert judge([*broken, *again]) == []
        assert "seoul: join on b before a was Connected Primary" in judge(
            [*broken, *from_lines([("b", f"database cluster join {PRIMARY}")])]
        )


def test_a_remove_that_failed_leaves_the_node_in_the_cluster() -> None:
    """The primary may not follow, and certificates may not be set."""
    records = from_lines([(n, f"database cluster {t}") for n, t in (("b", "remove"), ("b", FIVE))])
    assert judge(ended(records, "remove", "failure"), complete=False) == ["seoul: certs on b while it was in a cluster"]


def test_a_line_that_never_arrived_does_not_count() -> None:
    """The connection was cut before it was carried out."""
    records = from_lines([("b", f"database cluster {FIVE}")])
    records[-1]["outcome"] = "cut-before"
    assert judge(records, complete=False) == []


def test_clusters_are_judged_apart() -> None:
    """What runs in one cluster is nothing to another."""
    records = from_lines([("a", "database cluster initialize"), ("x", "database cluster initialize")])
    begin, end = records[2:4], records[6:8]
    overlapping = [begin[0], end[0], begin[1], end[1]]
    found = database_order.check(
        overlapping,
        clusters={"seoul": ("a",), "busan": ("x", "y")},
        addresses=ADDRESSES,
        primary={"seoul": "a", "busan": "y"},
        removes=False,
    )
    assert found == ["busan: initialize on x, but the primary was y"]


def test_a_log_is_read_from_its_file(tmp_path: Path) -> None:
    """One JSON object per line."""
    records = from_lines([("a", "database cluster status")])
    path = tmp_path / "commands.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert from_file(path) == records
