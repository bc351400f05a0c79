"""The pages: the same values as the API, drawn by templates. A page never knows more than a route does."""

from __future__ import annotations

from fastapi import APIRouter


def routers() -> tuple[APIRouter, ...]:
    """Return the routers of all pages, in the order in which paths are looked for."""
    from api.pages import fleet, gates, journal, plans, preferences, runs, settings

    return (
        preferences.router,
        fleet.router,
        gates.router,
        runs.router,
        plans.router,
        journal.router,
        settings.router,
    )
