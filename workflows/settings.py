"""Where certbridge keeps its state, which database and broker it uses, and its timings: environment variables only.

Each setting is `CERTBRIDGE_` and its name in capitals (docs/reference/settings.md; DESIGN.md section 8). What is to be
renewed stands in the inventory, secrets of servers stand with the credentials: neither is here. The database URL may
hold a password, so it is not shown in the repr.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from workflows.destinations import Destinations
from workflows.errors import SettingsError
from workflows.people import Role, read_grant

PREFIX = "CERTBRIDGE_"
FLOWER_USER = "certbridge"
FLOWER_PREFIX = "flower"
"""Flower's pages lie below this path, so that the API can show them below its own."""
_DATABASES = ("sqlite:///", "postgresql://", "postgres://", "postgresql+psycopg://")
_BROKERS = ("redis://", "rediss://", "unix://", "redis+socket://")

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Milliseconds = Annotated[int, Field(ge=1, le=60_000)]
Count = Annotated[int, Field(ge=1, le=4096)]
TCPPort = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """All settings of one process. Frozen; nothing is created on disk, see `prepare_state`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", arbitrary_types_allowed=False
    )

    state: Path = Field(
        default_factory=lambda: default_state(os.environ, Path.home()),
        description="Folder of journal, broker data, transcripts, vault, runbooks and logs; made with mode 0700.",
    )
    database_url: str = Field(
        "", description="Database of the journal: sqlite:///PATH or postgresql://USER@HOST/NAME.", repr=False
    )
    broker_url: str | None = Field(
        None, description="Redis or Valkey 6.2 or later. Without it an embedded one is started.", repr=False
    )
    fleet: Path = Field(Path("fleet.yaml"), description="The inventory.")

    lease_s: Seconds = Field(45.0, description="How long a worker holds a node for a step, in seconds.")
    renew_s: Seconds = Field(10.0, description="How often it renews that, in seconds; less than half of lease_s.")
    reconcile_s: Seconds = Field(
        20.0, description="After how long a lane with work left and nobody on it is sent again, in seconds."
    )
    outbox_ms: Milliseconds = Field(100, description="How often the outbox is looked at, in milliseconds.")
    poll_s: Seconds = Field(2.0, description="How often a task that waits for a node looks again, in seconds.")
    longest_poll_s: Seconds = Field(
        50.0, description="How long a task polls at most before it gives its thread back, in seconds."
    )
    settle_s: Seconds = Field(
        45.0, description="How long a line whose connection was cut may still be at work on its server, in seconds."
    )
    silent_s: Seconds = Field(
        1800.0, description="How long a node that fell silent in the middle of a database operation is waited for."
    )
    outage_nodes: Count = Field(
        3, description="More servers than this silent within outage_s count as a fleet-wide outage: no change begins."
    )
    outage_s: Seconds = Field(300.0, description="How far back silent servers are counted for that, in seconds.")
    idle_s: Seconds = Field(60.0, description="After how long an unused SSH connection is closed, in seconds.")
    facts_hours: Annotated[int, Field(ge=1, le=24 * 365)] = Field(
        24, description="How old the facts of a survey may be for a plan, in hours."
    )
    fleet_threads: Count = Field(256, description="Threads of each `fleet` worker; more than a wave has nodes.")
    fleet_workers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="How many `fleet` workers `up` starts.")
    cluster_threads: Count = Field(4, description="Threads of the `cluster` worker.")
    flower_port: TCPPort = Field(5555, description="Port of Flower on loopback.")
    flower_url: str = Field(
        "", description="Where the API finds Flower when it is on another machine: http://HOST:5555."
    )
    api_port: TCPPort = Field(8700, description="Port of the API and the pages on loopback.")
    public_url: str = Field(
        "", description="Where browsers find the pages, as https://certbridge.example.com: for links, and for OIDC."
    )
    oidc_issuer: str = Field("", description="The OIDC provider, by its issuer; without it there are local users only.")
    oidc_client_id: str = Field("", description="What the provider calls certbridge.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="What certbridge proves itself to it with.")
    oidc_roles: Mapping[str, str] = Field(
        default_factory=dict,
        description='Which group has which role: {"GROUP": "approver", "OTHER": "operator@CLUSTER"}, as JSON.',
        validate_default=True,
    )
    oidc_groups_claim: str = Field("groups", description="The claim of the ID token that holds the groups.")
    oidc_scopes: str = Field("openid profile", description="The scopes that are asked for; `openid` is one of them.")
    oidc_name: str = Field("", description="What the sign-in page calls the provider.")
    oidc_token_days: Annotated[int, Field(ge=1, le=366)] = Field(
        30, description="For how many days after a sign-in through the provider the tokens of that person work."
    )
    webhook_hosts: str = Field(
        "",
        description="Hosts and networks that webhooks may go to: `chat.example.com, 10.0.0.0/8`. Without it anywhere "
        "but to this machine and link-local addresses, which are told only when named.",
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, home: Path | None = None, **values: Any) -> Self:
        """Return the settings of *environ* (default: this process's); *values* by name win over them.

        Raises: SettingsError: a value is wrong; the message names the variable, the value and what would do. Of
        several the first is in the sentence, all are in `error.data["settings"]`.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, Any] = {
            name: text for name in cls.model_fields if (text := environ.get(PREFIX + name.upper(), ""))
        }
        found.setdefault("state", default_state(environ, home or Path.home()))
        try:
            # Everything was read above; the prefix keeps pydantic from reading this process's environment again.
            return cls(_env_prefix="CERTBRIDGE_READ_ALREADY_", **(found | values))
        except ValidationError as error:
            raise _settings_error(error) from None

    @field_validator("state", "fleet")
    @classmethod
    def _expand(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, url: str) -> str:
        if url and not url.startswith(_DATABASES):
            raise _rule("Write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.")
        for scheme in ("postgresql://", "postgres://"):
            if url.startswith(scheme):  # SQLAlchemy would otherwise look for psycopg2
                return "postgresql+psycopg://" + url.removeprefix(scheme)
        return url

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, url: str | None) -> str | None:
        if url and not url.startswith(_BROKERS):
            raise _rule("Write redis://HOST:6379/0, rediss://…, or redis+socket:///PATH.")
        return url

    @field_validator("public_url", "oidc_issuer")
    @classmethod
    def _check_address(cls, url: str) -> str:
        parts = urlsplit(url)
        loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if url and not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and loopback))):
            raise _rule("Write https://HOST; http is for this machine alone.")
        return url

    @field_validator("public_url")
    @classmethod
    def _check_public(cls, url: str) -> str:
        if urlsplit(url).path.strip("/") or "?" in url or "#" in url:
            raise _rule("Write https://HOST or https://HOST:PORT, without a path.")
        return url.rstrip("/")

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def _read_roles(cls, roles: Any) -> Any:
        try:
            found = json.loads(roles) if isinstance(roles, str) else roles
            for said in found.values():
                read_grant(said)
        except (ValueError, AttributeError, TypeError):
            raise _rule(
                'Write JSON: {"GROUP": "ROLE"} or {"GROUP": "ROLE@CLUSTER"}; '
                f"roles are {', '.join(Role)}. Administrators and auditors have no cluster."
            ) from None
        return MappingProxyType(dict(found))

    @field_validator("oidc_scopes")
    @classmethod
    def _check_scopes(cls, scopes: str) -> str:
        if "openid" not in scopes.split():
            raise _rule("Write scopes with spaces between; `openid` has to be one of them.")
        return scopes

    @field_validator("flower_url")
    @classmethod
    def _check_flower(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise _rule("Write http://HOST:5555.")
        return url.rstrip("/")

    @field_validator("webhook_hosts")
    @classmethod
    def _check_hosts(cls, text: str) -> str:
        try:
            Destinations.read(text)
        except ValueError:
            raise _rule("Write names of hosts, addresses and networks: chat.example.com, 10.0.0.0/8.") from None
        return text

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise _rule("Write DEBUG, INFO, WARNING or ERROR.")
        return level.upper()

    def model_post_init(self, _context: Any, /) -> None:
        """Fill in what depends on another setting, and see that the timings fit together."""
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.journal_path}")
        if self.renew_s * 2 >= self.lease_s:
            raise SettingsError(
                f"CERTBRIDGE_RENEW_S={self.renew_s:g} does not fit CERTBRIDGE_LEASE_S={self.lease_s:g}",
                remedy="Renew at least twice within a lease: set CERTBRIDGE_RENEW_S below half of CERTBRIDGE_LEASE_S.",
                settings=("renew_s", "lease_s"),
            )
        missing = [name for name in ("oidc_client_id", "public_url") if not getattr(self, name)]
        if self.oidc_issuer and missing:
            raise SettingsError(
                f"CERTBRIDGE_OIDC_ISSUER is set, but not {' and '.join(PREFIX + name.upper() for name in missing)}",
                remedy="Set them too; docs/howto/sign-in.md shows where to find them.",
                settings=("oidc_issuer", *missing),
            )
        if self.oidc_issuer and not self.oidc_name:
            object.__setattr__(self, "oidc_name", urlsplit(self.oidc_issuer).hostname or "")

    @property
    def destinations(self) -> Destinations:
        """Where messages of webhooks may go."""
        return Destinations.read(self.webhook_hosts)

    @property
    def journal_path(self) -> Path:
        """The SQLite file of the journal, used when no database URL is given."""
        return self.state / "journal.db"

    @property
    def valkey_dir(self) -> Path:
        """The folder of the embedded broker."""
        return self.state / "valkey"

    @property
    def transcripts_dir(self) -> Path:
        """The folder of masked transcripts."""
        return self.state / "transcripts"

    @property
    def vault_dir(self) -> Path:
        """The folder of encrypted keys and backups."""
        return self.state / "vault"

    @property
    def runbooks_dir(self) -> Path:
        """The folder of runbooks and reports."""
        return self.state / "runbooks"

    @property
    def logs_dir(self) -> Path:
        """The folder of log files."""
        return self.state / "logs"

    @property
    def flower_password_file(self) -> Path:
        """The file (mode 0600) with Flower's password, for the API alone; whoever starts Flower makes it."""
        return self.state / "flower-password"

    @property
    def is_sqlite(self) -> bool:
        """Whether the journal is a file on this machine."""
        return self.database_url.startswith("sqlite:")

    @property
    def has_oidc(self) -> bool:
        """Whether people may sign in at an OIDC provider."""
        return bool(self.oidc_issuer)

    def environment(self) -> dict[str, str]:
        """Return the variables that give a subprocess the same settings: {"CERTBRIDGE_STATE": "/…", …}.

        With every secret: for an environment, never for a command line, a file or a log.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {PREFIX + name.upper(): _written(value) for name, value in values.items() if value is not None}


def default_state(environ: Mapping[str, str], home: Path) -> Path:
    """Return $XDG_STATE_HOME/certbridge, or ~/.local/state/certbridge; XDG has relative ones ignored."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else home / ".local" / "state") / "certbridge"


def prepare_state(settings: Settings) -> None:
    """Make the folders of the state with mode 0700, and take the rights of others away where they have some.

    Raises: SettingsError: a folder cannot be made, or is not ours.
    """
    folders = (
        settings.state,
        settings.valkey_dir,
        settings.transcripts_dir,
        settings.vault_dir,
        settings.runbooks_dir,
        settings.logs_dir,
    )
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            raise SettingsError(
                f"CERTBRIDGE_STATE={settings.state}: {folder} cannot be used ({error.strerror})",
                remedy="Set CERTBRIDGE_STATE to a folder of your own.",
                settings=("state",),
            ) from error


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(dict(value), sort_keys=True) if isinstance(value, Mapping) else str(value)


def _rule(remedy: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{remedy}", {"remedy": remedy})


def _settings_error(error: ValidationError) -> SettingsError:
    details = error.errors(include_url=False)
    sentences, remedies = [], []
    for each in details:
        name = str(each["loc"][0])
        # A wrong URL may still hold a password: its value is not repeated.
        value = "…" if name.endswith(("_url", "_secret")) else str(each["input"])
        sentences.append(f"{PREFIX}{name.upper()}={value} is wrong")
        remedy = str(each["ctx"]["remedy"]) if each["type"] == "rule" else f"{each['msg']}."
        remedies.append(f"{PREFIX}{name.upper()}: {remedy}")
    names = tuple(str(each["loc"][0]) for each in details)
    return SettingsError("; ".join(sentences), remedy="\n".join(remedies), settings=names)
