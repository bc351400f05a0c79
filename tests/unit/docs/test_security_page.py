"""docs/reference/security.md names tests, files and items of ASVS that are there, and no item of ours is left out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/security.md").read_text()
ASKED = """
2.3.1 2.3.3 2.3.4 2.3.5 2.4.1 3.3.1-3.3.4 3.4.1-3.4.6 3.5.1-3.5.3 4.1.1 4.1.3 4.4.2 5.2.1-5.2.2 5.3.2 6.2.1-6.2.12
6.3.1 6.3.2 6.3.8 6.4.1 6.8.2 7.2.3-7.2.4 7.3.1-7.3.2 7.4.1-7.4.5 8.2.1-8.2.3 8.3.1-8.3.3 9.1.2 10.1.2 10.2.1
10.5.1-10.5.4 11.3.2 11.4.2 11.5.1 13.2.1-13.2.6 13.3.1-13.3.2 13.4.2 13.4.5 14.2.1 14.3.2 16.2.1-16.2.5 16.3.1-16.3.4
16.4.1-16.4.3 16.5.1-16.5.3
"""
"""The items that were chosen for this product."""
_ITEM = re.compile(r"(\d+\.\d+)\.(\d+)(?:-\d+\.\d+\.(\d+))?")


def items(text: str) -> set[str]:
    """Return the items of *text*, ranges taken apart."""
    return {
        f"{chapter}.{number}"
        for chapter, first, last in _ITEM.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


def rows() -> list[list[str]]:
    """Return the cells of every row that begins with an item."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:2] == "| "]
    return [row for row in found if _ITEM.match(row[0])]


def names_of_tests() -> set[str]:
    """Return the name of every test."""
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}


def test_every_test_that_the_page_names_is_there():
    """A test that was renamed or taken away shows nothing any more."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 100
    assert sorted(named - names_of_tests()) == []


def test_every_test_named_after_an_item_is_on_the_page():
    """Whoever writes one puts it where it is looked for."""
    named = {one for one in names_of_tests() if one.startswith("test_asvs_")}
    assert sorted(named - set(re.findall(r"`(test_\w+)`", PAGE))) == []


def test_every_file_that_the_page_names_is_there():
    named = set(re.findall(r"`((?:api|workers|workflows|tests)/[\w/.]+)`", PAGE))
    assert len(named) > 20
    assert sorted(one for one in named if not (ROOT / one).exists()) == []


def test_every_item_that_was_chosen_has_its_row():
    """With tests, or with why there are none."""
    told = {item for row in rows() for item in items(row[0])}
    assert sorted(items(ASKED) - told) == []


def test_every_row_says_what_where_and_which_tests_or_why_not():
    for row in rows():
        assert len(row) in {2, 4}, row[0]
        assert all(row), row[0]
        assert len(row) == 2 or "`test_" in row[3], row[0]
