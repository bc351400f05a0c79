"""A journal, the application on it, people with roles, and clients that are signed in as them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from tests.postgres import postgres_server, postgres_url
from workflows.journal import Journal, Transaction, accounts, entries
from workflows.people import Grant, Permission, Role
from workflows.settings import Settings, prepare_state

__all__ = ["postgres_server", "postgres_url"]

ORIGIN = "https://certbridge.test"


def on_both(fixture: str) -> pytest.MarkDecorator:
    """Return the mark of a test whose *fixture* (`web`, `seeded`) stands on SQLite and then on PostgreSQL."""
    return pytest.mark.parametrize(fixture, ["sqlite", "postgresql"], indirect=True)


class Web:
    """The application of one state directory."""

    def __init__(self, root: Path, journal: Journal, settings: Settings) -> None:
        self.root, self.journal, self.settings = root, journal, settings
        self.app = create_app(settings, journal)

    def client(self, **headers: str) -> TestClient:
        """Return a client that nobody is signed in with; it speaks as a browser on our own pages does."""
        return TestClient(
            self.app,
            base_url=ORIGIN,
            raise_server_exceptions=False,
            follow_redirects=False,
            headers={"Sec-Fetch-Site": "same-origin"} | headers,
        )

    def person(self, name: str, *roles: Role | Grant, groups: tuple[str, ...] = ()) -> str:
        """Make an account and return its id."""
        grants = [one if isinstance(one, Grant) else Grant(one) for one in roles]
        return self.journal.write(lambda tx: accounts.add(tx, name=name, by="test", grants=grants, groups=groups))

    def account(self, name: str) -> str:
        """Return the id of the account called *name*."""
        found = self.journal.read(lambda connection: accounts.by_name(connection, name))
        assert found is not None
        return found.account

    def signed_in(self, name: str) -> TestClient:
        """Return a client with a session of *name*."""
        client = self.client()
        secret = self.journal.write(lambda tx: entries.sign_in(tx, self.account(name), how="test"))
        client.cookies.set("__Host-certbridge", secret, domain="certbridge.test")
        return client

    def token(self, name: str, *scopes: Permission) -> str:
        """Return a token of *name*; without scopes it may do all that the account may."""
        wanted = scopes or tuple(Permission)

        def make(tx: Transaction) -> str:
            return entries.make_token(tx, self.account(name), name="test", scopes=wanted, lasts_s=3600, by=name)[1]

        return self.journal.write(make)

    def with_token(self, name: str, *scopes: Permission) -> TestClient:
        """Return a client with a token of *name* and nothing of a browser."""
        client = TestClient(self.app, base_url=ORIGIN, raise_server_exceptions=False, follow_redirects=False)
        client.headers["Authorization"] = f"Bearer {self.token(name, *scopes)}"
        return client


@pytest.fixture(scope="session")
def web_class() -> type[Web]:
    """Give `Web`, for tests that need an application of their own making."""
    return Web


def _url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database on PostgreSQL where the test says so (`on_both`), else ""."""
    asked = getattr(request, "param", "sqlite") == "postgresql"
    return str(request.getfixturevalue("postgres_url")) if asked else ""


@pytest.fixture
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Web]:
    """Give an application on an empty journal."""
    chosen: dict[str, Any] = {"database_url": url} if (url := _url(request)) else {}
    chosen["webhook_hosts"] = "127.0.0.0/8"
    settings = Settings.load({}, state=tmp_path / "state", fleet=tmp_path / "fleet.yaml", **chosen)
    prepare_state(settings)
    with Journal.open(settings.database_url) as journal:
        yield Web(tmp_path, journal, settings)


@pytest.fixture
def seeded(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an application with two clusters, an account of each role, and a played worker (see `seeded`)."""
    from tests.integration.api.seeded import Seeded

    made = Seeded(tmp_path, monkeypatch, _url(request))
    made.people()
    yield made
    made.journal.close()
