"""Every route of an application as something that can be asked for, with real names in its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.auth.identity import Asked, asked_by

STREAMS = ("/events", "/stream")
"""What has no end ends so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A method and a path; *template* is the path as the route has it, *needs* what it asks for."""

    method: str
    path: str
    template: str
    needs: Asked

    @property
    def is_safe(self) -> bool:
        """Whether it only looks."""
        return self.method in {"GET", "HEAD"}

    @property
    def is_endless(self) -> bool:
        """Whether its answer goes on for as long as somebody listens."""
        return self.template.endswith(STREAMS)


def every(app: FastAPI, names: Mapping[str, str]) -> Iterator[Ask]:
    """Yield all that *app* can be asked for; *names* are those for its paths, "x" for what has none."""
    for one in iter_route_contexts(app.routes):
        if not isinstance(one.route, APIRoute):
            continue
        told: dict[str, Any] = {part.name: names.get(part.name, "x") for part in one.route.dependant.path_params}
        needs = next(found for each in one.route.dependant.dependencies if (found := asked_by(each.call)) is not None)
        template = str(one.path_format)
        for method in sorted(one.methods or ()):
            yield Ask(method=method, path=template.format(**told), template=template, needs=needs)
