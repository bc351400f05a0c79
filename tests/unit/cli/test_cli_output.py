"""Printing: plain tables, JSON that can be compared, lengths of time, and the page of commands."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import pytest
import typer

from api.cli import output, reference, surroundings
from api.cli.output import Format, Table
from workflows.errors import Finding, FourEyes, InventoryError

CLI_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


class Colour(Enum):
    """Something to be made plain."""

    RED = "red"


@dataclass(frozen=True)
class Thing:
    """Something to be made plain."""

    when: datetime
    colours: frozenset[Colour]


def test_plain_table_is_aligned_and_never_cut(capsys):
    """In a pipe columns are aligned, and nothing is shortened."""
    output.show(Table(columns=("a", "b"), rows=[("x" * 200, ("y", "red")), ("z", "")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"a{' ' * 199}  b", f"{'x' * 200}  y", "z"]


def test_json_is_sorted_plain_and_ends_with_a_line_end():
    """Equal values have equal bytes."""
    thing = Thing(when=datetime(2026, 1, 2, tzinfo=UTC), colours=frozenset({Colour.RED}))
    text = output.as_text({"b": (1, 2), "a": thing}, Format.JSON)
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert output.plain(thing) == {"when": "2026-01-02T00:00:00+00:00", "colours": ["red"]}


def test_errors_are_shown_with_their_remedies(capsys):
    """A finding a line with its place; what to do comes behind an arrow."""
    output.show_error(InventoryError([Finding("fleet.yaml:3", "bad CN", "Mend it.")]))
    output.show_error(FourEyes())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[:2] == ["fleet.yaml:3: bad CN", "  → Mend it."]
    assert captured.err.splitlines()[3].startswith("→ Ask another person")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12, "12 s"), (119, "119 s"), (180, "3 min"), (18_000, "5 h"), (200_000, "2 d")],
)
def test_lengths_of_time_are_short(seconds, text):
    """One unit, whole numbers where it is long."""
    assert output.lasted(seconds) == text


@pytest.mark.parametrize(("text", "hours"), [("30d", 720), ("12h", 12), ("2w", 336)])
def test_spans_are_read(text, hours):
    """Days, hours, weeks."""
    assert surroundings.read_span(text).total_seconds() == hours * 3600


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30 days"])
def test_other_spans_are_refused(text):
    """Anything else is a usage error."""
    with pytest.raises(typer.BadParameter):
        surroundings.read_span(text)


def test_moments_without_a_zone_are_utc():
    """Written with a zone they keep it."""
    assert surroundings.read_moment("2026-11-23T22:00") == datetime(2026, 11, 23, 22, tzinfo=UTC)
    assert surroundings.read_moment("2026-11-23T22:00+09:00") == datetime(2026, 11, 23, 13, tzinfo=UTC)


def test_identity_is_the_effective_account_whatever_the_environment_says(monkeypatch):
    """USER and LOGNAME change nothing; an account without a name is told by its number."""
    before = surroundings.account()
    monkeypatch.setenv("USER", "eve")
    monkeypatch.setenv("LOGNAME", "eve")
    assert surroundings.account() == before
    monkeypatch.setattr("os.geteuid", lambda: 3_000_000_001)
    assert surroundings.account() == "uid-3000000001"


def test_the_page_of_commands_is_up_to_date():
    """Write it again with `python -m api.cli.reference > docs/reference/cli.md` when this fails."""
    assert CLI_PAGE.read_text(encoding="utf-8") == reference.page()
