"""The shape of a cluster's database, from the command line to the roles of its nodes."""

from pathlib import Path

import pytest

from simulator.__main__ import parser, settings_of
from simulator.database import USUAL_SECONDS
from simulator.settings import FleetSettings


def _settings(*words: str) -> FleetSettings:
    return settings_of(parser().parse_args(["--out", "unused", *words]))


@pytest.mark.parametrize(
    ("words", "roles"),
    [
        ((), ["joined"] * 3),
        (("--nodes", "1"), ["none"]),
        (("--nodes", "5"), ["joined"] * 3 + ["connected"] * 2),
        (("--joined", "1"), ["joined"]),
        (("--joined", "5", "--connected", "2"), ["joined"] * 5 + ["connected"] * 2),
        (("--connected", "1"), ["joined", "connected"]),
    ],
)
def test_the_first_nodes_are_joined_and_the_others_connected(words: tuple[str, ...], roles: list[str]) -> None:
    """Three are joined unless the command line says otherwise; a server alone has no cluster."""
    settings = _settings(*words)
    assert [settings.database.role(index) for index in range(settings.nodes_per_cluster)] == roles


@pytest.mark.parametrize(
    "words",
    [
        ("--joined", "0", "--connected", "1"),
        ("--joined", "2", "--primary", "2"),
        (
            "--joined",
            "-1",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(words: tuple[str, ...]) -> None:
    """Nobody connects to nothing, and the primary is one of the joined."""
    with pytest.raises(ValueError, match="no cluster has"):
        _ = _settings(*words).database


def test_the_command_line_reaches_the_settings() -> None:
    """Every option of the database."""
    words = "--joined 3 --primary 1 --database none --database-pairs own --database-days-left -3 --speed 7"
    settings = _settings(*words.split(), "--database-s", "join=600,remove=5")
    shape = settings.database
    assert (shape.primary, shape.ready, shape.own_pairs, shape.days_left) == (1, False, True, -3.0)
    assert settings.operations_s == {**USUAL_SECONDS, "join": 600.0, "remove": 5.0}
    assert settings.speed == 7.0


def test_an_operation_that_is_not_there_has_no_seconds() -> None:
    """A slip in --database-s is told."""
    with pytest.raises(ValueError, match="no database operation joni"):
        _ = FleetSettings(database_s={"joni": 1.0}, out=Path("unused")).operations_s


def test_the_database_lasts_as_long_as_the_rest_unless_told() -> None:
    """--days-left is for all certificates."""
    assert _settings("--days-left", "5").database.days_left == 5.0
