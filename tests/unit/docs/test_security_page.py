"""docs/reference/security.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_that_the_page_names_is_there():
    """A test that was renamed or taken away shows nothing any more."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reference/security.md").read_text()))
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 30
    assert sorted(named - there) == []
