"""The routes under `/api` and the pages, one module a subject. Each declares what it asks for (`api.auth.identity`)."""

from __future__ import annotations

from fastapi import APIRouter


def routers() -> tuple[APIRouter, ...]:
    """Return the routers of all modules, in the order in which paths are looked for."""
    from api import pages
    from api.routes import (
        acting,
        events,
        fleet,
        flower,
        gates,
        journal,
        metrics,
        oidc,
        plans,
        runs,
        sessions,
        signing,
        surveys,
        tokens,
        users,
        webhooks,
    )

    return (
        fleet.router,
        surveys.router,
        plans.router,
        runs.router,
        acting.router,
        events.router,
        journal.router,
        gates.router,
        metrics.router,
        webhooks.router,
        flower.router,
        users.router,
        sessions.router,
        tokens.router,
        signing.router,
        oidc.router,
        *pages.routers(),
    )
