"""The web side as one ASGI application: API under /api, pages beside it, assets under /static.

It writes SQL only (DESIGN.md section 4): no Celery message is sent and no server is touched from here. `create_app` is
what tests and `certbridge serve` use alike; whoever makes it opens and closes the journal.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from api import problems
from api.auth.identity import open_to_all
from api.body_size import BodySize
from api.document import describe
from api.here import Server
from api.no_nul import NoNul
from api.protect import Protect
from api.routes import routers
from workflows.journal import Journal
from workflows.settings import Settings

STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings, journal: Journal) -> FastAPI:
    """Return the application that serves *journal* under *settings*."""
    app = FastAPI(
        title="certbridge",
        version=version("certbridge"),
        summary="Renews the certificates of Cisco Meeting Server fleets.",
        # The document itself is for whoever writes scripts; the pages of FastAPI would load from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=_operation_id,
        dependencies=[],
    )
    app.state.server = Server(settings, journal)
    app.add_middleware(NoNul)  # the last that looks: each that is added stands around those before
    app.add_middleware(BodySize)
    app.add_middleware(Protect)
    problems.register(app)
    for router in routers():
        app.include_router(router)
    describe(app)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), "static")

    @app.get("/healthz", include_in_schema=False, dependencies=[open_to_all()])
    def healthz() -> dict[str, str]:
        """Say that the process answers; nothing else is told to strangers."""
        return {"status": "ok"}

    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
