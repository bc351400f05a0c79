"""The programs of an engine, and that supervisord reads its configuration as it is meant."""

from itertools import pairwise
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from workers.programs import (
    STOP_WITHIN_S,
    flower_command,
    flower_configuration,
    programs,
    supervisor_configuration,
    worker_command,
)
from workflows.settings import Settings


def read(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> ServerOptions:
    """Return what supervisord makes of the configuration *text* when it is started in *folder*."""
    (folder / "logs").mkdir(parents=True)
    path = folder / "supervisord.conf"
    path.write_text(text)
    monkeypatch.chdir(folder)
    options = ServerOptions()
    options.realize(["-c", str(path)])
    return options


@pytest.mark.parametrize("name", ["plain", "with blank", "per%cent", "semi ;colon", "quo'te"])
def test_supervisord_reads_every_program_as_it_was_meant(folder, name, monkeypatch):
    """Whatever the state directory is called, commands, logs and signals arrive unchanged."""
    state = folder / name
    settings = Settings.load({}, state=state, fleet_workers=2)
    wanted = programs(settings, socket=folder / "s" / "valkey.sock")

    options = read(state, supervisor_configuration(wanted, socket=folder / "s" / "control.sock"), monkeypatch)

    found = {one.name: one for group in options.process_group_configs for one in group.process_configs}
    assert set(found) == {program.name for program in wanted}
    assert {Path(one.stdout_logfile).absolute() for one in found.values()} == {
        state / "logs" / f"{name}.log" for name in found
    }
    assert {one.stopsignal.name for one in found.values()} == {"SIGTERM"}
    assert found["control"].command.split()[1:] == " ".join(wanted[4].command[1:]).split()


def test_broker_starts_first_and_stops_last(folder, monkeypatch):
    """Groups start by rising priority and stop by falling priority; only the broker starts at once."""
    settings = Settings.load({}, state=folder)
    wanted = programs(settings, socket=folder / "valkey.sock")

    options = read(folder, supervisor_configuration(wanted, socket=folder / "control.sock"), monkeypatch)

    groups = sorted(options.process_group_configs, key=lambda group: group.priority)
    assert [group.name for group in groups] == ["broker", "workers", "beat", "api", "flower"]
    assert [one.name for group in groups for one in group.process_configs if one.autostart] == ["broker"]
    assert {one.stopwaitsecs for one in groups[1].process_configs} == {STOP_WITHIN_S}


def test_operators_broker_is_neither_started_nor_stopped(folder):
    """With CERTBRIDGE_BROKER_URL there is no broker among the programs."""
    settings = Settings.load({}, state=folder, broker_url="redis://127.0.0.1:6379/0")

    assert [program.name for program in programs(settings, socket=None)] == [
        "fleet-1",
        "fleet-2",
        "cluster",
        "control",
        "beat",
        "api",
        "flower",
    ]


def test_control_works_alone_and_fleet_has_threads_for_a_wave():
    """Pools as measured: solo for control, threads elsewhere."""
    control = worker_command("control", name="control", threads=1, log_level="INFO")
    fleet = worker_command("fleet", name="fleet-1", threads=256, log_level="INFO")

    assert ("-P", "solo") in pairwise(control)
    assert ("-c", "256") in pairwise(fleet)
    assert ("-P", "threads") in pairwise(fleet)


def test_password_of_flower_stands_in_its_file_and_not_in_its_command(folder):
    """What `ps` shows holds no secret; Flower is read only and on loopback."""
    settings = Settings.load({}, state=folder, flower_port=5999)
    values: dict[str, object] = {}

    exec(flower_configuration(settings, "hidden'word"), values)

    assert "hidden" not in " ".join(flower_command(folder / "flowerconfig.py"))
    assert values["basic_auth"] == ["certbridge:hidden'word"]
    assert (values["address"], values["port"], values["read_only"]) == ("127.0.0.1", 5999, True)
    assert values["url_prefix"] == "flower"
