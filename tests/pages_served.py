"""The application of a pages world behind a port of this machine, for a real browser; and the list of all pages."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import uvicorn

from api.app import create_app
from workflows.journal import accounts, entries
from workflows.plan import Plan

PAGES = (
    "sign-in",
    "invitation",
    "problem",
    "fleet",
    "cluster",
    "runs",
    "run",
    "run-done",
    "step",
    "journal",
    "inbox",
    "gate-sign",
    "gate-go",
    "gate-database",
    "plan-new",
    "plan",
    "run-plan",
    "pause",
    "settings",
    "users",
    "webhooks",
    "about",
)
"""The names of all pages, as `pages_of` has them."""


class Served:
    """A server in a thread of its own; a context manager. *world* has `settings` and `journal`."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.app = create_app(world.settings, world.journal)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.address = ""
        self.runs: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(30):
            raise RuntimeError("the server did not start within 30 s")
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def _serve(self) -> None:
        startup = self._server.startup

        async def started(*words: Any, **named: Any) -> None:
            await startup(*words, **named)
            self._started.set()

        self._server.startup = started  # type: ignore[method-assign]
        self._server.run()

    def session(self, name: str) -> str:
        """Return the secret of a new session of *name*."""
        found = self.world.journal.read(partial(accounts.by_name, name=name))
        assert found is not None, name
        secret: str = self.world.journal.write(partial(entries.sign_in, account=found.account, how="test"))
        return secret

    def pages(self, runs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return every page of a filled world: {name: (who looks at it, "" nobody; path)}."""
        return pages_of(self.world, runs)


def pages_of(world: Any, runs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return every page of a filled world: {name: (who looks at it, "" nobody; path)}."""
    done = Plan.from_json(world.journal.plan(runs["done"]))
    step = next(step for step in done.lanes[0].steps() if step.action == "apply")
    return {
        "sign-in": ("", "/sign-in"),
        "invitation": ("", "/invitation"),
        "problem": ("olivia", "/runs/20260101-0000-none"),
        "fleet": ("olivia", "/"),
        "cluster": ("olivia", "/clusters/seoul"),
        "runs": ("olivia", "/runs"),
        "run": ("olivia", f"/runs/{runs['rebuild']}"),
        "run-done": ("olivia", f"/runs/{runs['done']}"),
        "step": ("olivia", f"/runs/{runs['done']}/steps/{step.id}"),
        "journal": ("audrey", f"/journal?verify=yes&run={runs['go']}"),
        "inbox": ("anna", "/gates"),
        "gate-sign": ("anna", f"/runs/{runs['sign']}/gates/london/sign"),
        "gate-go": ("anna", f"/runs/{runs['go']}/gates/busan/go"),
        "gate-database": ("anna", f"/runs/{runs['rebuild']}/gates/seoul/point-of-no-return"),
        "plan-new": ("olivia", "/plans/new"),
        "plan": ("olivia", f"/plans/{runs['plan']}"),
        "run-plan": ("olivia", f"/runs/{runs['go']}/plan"),
        "pause": ("olivia", f"/runs/{runs['rebuild']}/pause"),
        "settings": ("olivia", "/settings"),
        "users": ("ada", "/settings/users"),
        "webhooks": ("ada", "/settings/webhooks"),
        "about": ("olivia", "/settings/about"),
    }
