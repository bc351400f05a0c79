"""A journal, the application on it, people with roles, and clients that are signed in as them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from workflows.journal import Journal, Transaction, accounts, entries
from workflows.people import Grant, Permission, Role
from workflows.settings import Settings, prepare_state

ORIGIN = "https://certbridge.test"


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


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """Give an application on an empty journal."""
    settings = Settings.load({}, state=tmp_path / "state", fleet=tmp_path / "fleet.yaml", webhook_hosts="127.0.0.0/8")
    prepare_state(settings)
    with Journal.open(settings.database_url) as journal:
        yield Web(tmp_path, journal, settings)


@pytest.fixture
def seeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an application with two clusters, an account of each role, and a played worker (see `seeded`)."""
    from tests.integration.api.seeded import Seeded

    made = Seeded(tmp_path, monkeypatch)
    made.people()
    yield made
    made.journal.close()
