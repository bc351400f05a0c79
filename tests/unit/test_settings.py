"""Settings: defaults, what each variable does, and that a wrong one is named without showing secrets."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from workflows.errors import SettingsError
from workflows.settings import Settings, prepare_state

HOME = Path("/home/someone")


def load(**environ: str) -> Settings:
    return Settings.load({f"CERTBRIDGE_{name}": value for name, value in environ.items()}, home=HOME)


def test_defaults_hold_without_any_variable():
    """The state is in the home folder, the journal in the state, the inventory in the current folder."""
    settings = load()
    state = HOME / ".local/state/certbridge"
    assert settings.state == state
    assert settings.database_url == f"sqlite:///{state}/journal.db"
    assert settings.broker_url is None
    assert settings.fleet == Path.cwd() / "fleet.yaml"
    assert (settings.lease_s, settings.renew_s, settings.reconcile_s, settings.outbox_ms) == (45, 10, 20, 100)
    assert (settings.fleet_threads, settings.is_sqlite) == (256, True)


def test_every_folder_is_in_the_state():
    """Changing the state moves everything."""
    settings = load(STATE="/srv/cb")
    folders = (
        settings.valkey_dir,
        settings.transcripts_dir,
        settings.vault_dir,
        settings.runbooks_dir,
        settings.logs_dir,
    )
    assert settings.journal_path == Path("/srv/cb/journal.db")
    assert [folder.name for folder in folders] == ["valkey", "transcripts", "vault", "runbooks", "logs"]
    assert {folder.parent for folder in folders} == {Path("/srv/cb")}


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("/xdg", Path("/xdg/certbridge")),
        ("relative", HOME / ".local/state/certbridge"),
        ("", HOME / ".local/state/certbridge"),
    ],
)
def test_xdg_state_home_is_honoured_when_it_is_absolute(value, state):
    """The XDG specification has relative paths ignored."""
    assert Settings.load({"XDG_STATE_HOME": value}, home=HOME).state == state


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_postgresql_is_used_with_psycopg(given, used):
    """SQLAlchemy would look for another driver."""
    assert load(DATABASE_URL=given).database_url == used


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://root:hunter2@h/d"),
        ("BROKER_URL", "amqp://guest:hunter2@h"),
        ("LEASE_S", "soon"),
        ("LEASE_S", "0"),
        ("OUTBOX_MS", "-1"),
        ("FLEET_THREADS", "2.5"),
        ("FLOWER_PORT", "70000"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_a_remedy(name, value):
    """The sentence names variable and value; the value of a URL is not shown, for it may hold a password."""
    with pytest.raises(SettingsError) as caught:
        load(**{name: value})
    shown = "…" if name.endswith("_URL") else value
    assert str(caught.value) == f"CERTBRIDGE_{name}={shown} is wrong"
    assert caught.value.remedy().startswith(f"CERTBRIDGE_{name}: ")
    assert "hunter2" not in str(caught.value) + caught.value.remedy()
    assert caught.value.data["settings"] == (name.lower(),)


def test_all_wrong_values_are_told_together():
    """Nobody corrects variables one by one."""
    with pytest.raises(SettingsError) as caught:
        load(LEASE_S="x", API_PORT="0")
    assert caught.value.data["settings"] == ("lease_s", "api_port")


def test_a_lease_that_is_not_renewed_in_time_is_refused():
    """One late renewal must not lose the lease."""
    with pytest.raises(SettingsError, match="CERTBRIDGE_RENEW_S=30 does not fit CERTBRIDGE_LEASE_S=45"):
        load(RENEW_S="30")


def test_values_given_by_name_win_over_variables(tmp_path):
    """The demo has a state of its own, whatever the environment says."""
    environ = {"CERTBRIDGE_STATE": "/srv/cb", "CERTBRIDGE_LEASE_S": "90"}
    settings = Settings.load(environ, home=HOME, state=tmp_path)
    assert (settings.state, settings.lease_s) == (tmp_path, 90)


def test_a_mapping_keeps_the_real_environment_out(monkeypatch):
    """What is passed in is all that counts; without it the process's own variables do."""
    monkeypatch.setenv("CERTBRIDGE_LEASE_S", "99")
    assert Settings.load({}, home=HOME).lease_s == 45
    assert Settings.load().lease_s == 99


def test_a_subprocess_gets_the_same_settings():
    """Loading what `environment` gives is loading the same."""
    settings = load(STATE="/srv/cb", DATABASE_URL="postgresql://h/d", BROKER_URL="redis://h:1/0", POLL_S="0.5")
    assert Settings.load(settings.environment(), home=Path("/elsewhere")) == settings


def test_urls_are_not_in_the_repr():
    """They may hold passwords."""
    assert "hunter2" not in repr(load(DATABASE_URL="postgresql://u:hunter2@h/d", BROKER_URL="redis://:hunter2@h/0"))


def test_nothing_is_made_before_prepare_state_is_called(tmp_path):
    """Reading settings leaves the disk alone; preparing makes every folder for the owner only."""
    settings = Settings.load({}, home=HOME, state=tmp_path / "a" / "state")
    assert list(tmp_path.iterdir()) == []
    prepare_state(settings)
    prepare_state(settings)
    made = [settings.state, *sorted(settings.state.iterdir())]
    assert [path.name for path in made] == ["state", "logs", "runbooks", "transcripts", "valkey", "vault"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_rights_of_others_are_taken_away_from_a_folder_that_is_there(tmp_path):
    """A state that was made by hand is closed."""
    tmp_path.chmod(0o755)
    prepare_state(Settings.load({}, home=HOME, state=tmp_path))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_state_that_cannot_be_made_is_a_settings_error(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="cannot be used"):
        prepare_state(Settings.load({}, home=HOME, state=tmp_path / "file" / "state"))


def test_defaults_move_a_lane_again_within_a_minute():
    """Lease, a ring of the clock (every sixth of reconcile_s) and a few seconds to send it (docs/adr/0013)."""
    settings = Settings.load({}, home=HOME)
    assert max(settings.lease_s, settings.reconcile_s) + settings.reconcile_s / 6 + 10 <= 60
    assert settings.renew_s * 4 <= settings.lease_s


OIDC = {
    "OIDC_ISSUER": "https://id.example/realm",
    "OIDC_CLIENT_ID": "certbridge",
    "OIDC_CLIENT_SECRET": "hunter2",
    "OIDC_ROLES": '{"cab": "approver", "ops": "operator@seoul"}',
    "PUBLIC_URL": "https://certbridge.example/",
}


def test_oidc_reaches_a_subprocess_whole_and_its_secret_stands_nowhere_else():
    settings = load(**OIDC)
    assert (settings.has_oidc, settings.oidc_name, settings.public_url) == (
        True,
        "id.example",
        "https://certbridge.example",
    )
    assert dict(settings.oidc_roles) == {"cab": "approver", "ops": "operator@seoul"}
    assert "hunter2" not in repr(settings) + str(settings)
    assert Settings.load(settings.environment(), home=Path("/elsewhere")) == settings
    assert settings.environment()["CERTBRIDGE_OIDC_CLIENT_SECRET"] == "hunter2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OIDC_ISSUER", "http://id.example"),
        ("OIDC_ISSUER", "id.example"),
        ("OIDC_ROLES", "cab=approver"),
        ("OIDC_ROLES", '["cab"]'),
        ("OIDC_ROLES", '{"cab": "king"}'),
        ("OIDC_ROLES", '{"cab": "admin@seoul"}'),
        ("OIDC_SCOPES", "profile"),
        ("PUBLIC_URL", "https://certbridge.example/path"),
        ("PUBLIC_URL", "http://certbridge.example"),
    ],
)
def test_a_wrong_setting_of_oidc_is_named_with_a_remedy(name, value):
    with pytest.raises(SettingsError, match=f"CERTBRIDGE_{name}=") as caught:
        load(**OIDC | {name: value})
    assert caught.value.remedy().startswith(f"CERTBRIDGE_{name}: Write ")


def test_oidc_without_what_it_needs_is_refused():
    with pytest.raises(SettingsError, match="but not CERTBRIDGE_OIDC_CLIENT_ID and CERTBRIDGE_PUBLIC_URL"):
        load(OIDC_ISSUER="https://id.example")
