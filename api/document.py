"""The OpenAPI document, made true: what each operation asks for, and the problems that it may answer with.

FastAPI describes parameters and bodies by itself. It does not know who is let in (`api.auth.identity`) and that every
fault is a problem (RFC 9457), so both are added here. Examples of answers are in `examples.json`, by the name of their
schema: what the API said of two small clusters, with lists cut short.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from api.auth.identity import PLAIN_COOKIE, SECURE_COOKIE, asked_by
from api.problems import MEDIA_TYPE, Problem

DESCRIPTION = """\
Everything that certbridge's pages show and do. A program sends a token (`Authorization: Bearer cbt_…`), a browser its
session's cookie. Times are ISO 8601 with their zone, in UTC. Lists are pages: `items`, `total` and `next_offset`,
asked for with `limit` and `offset`. Every fault is a problem (RFC 9457) with a stable `code`, a sentence and a remedy.
What starts something takes an `Idempotency-Key`. A person whose grants are for some clusters sees and does those alone.
"""
_PROBLEMS = {
    "400": "The request is broken.",
    "401": "Nobody is signed in, or the token opens nothing.",
    "403": "Whoever asks may not do this.",
    "404": "There is no such thing, or whoever asks may not see it.",
    "409": "Something else was first, or what was looked at has changed since.",
    "422": "What was asked for is wrong; `findings` says where.",
    "429": "Too many requests; try again later.",
    "503": "Something that is needed does not answer: a worker, or the journal.",
}
EXAMPLES = Path(__file__).parent / "examples.json"
_EXAMPLE = {
    "type": "urn:certbridge:problem:PlanStale",
    "title": "The plan no longer fits the fleet.",
    "status": 409,
    "detail": "The last survey of cms1 found something else than the plan was made from.",
    "code": "PlanStale",
    "remedy": "Make a new plan.",
    "findings": [],
}


def describe(app: FastAPI) -> None:
    """Let *app* answer /openapi.json with the whole truth; it is made once, when somebody asks."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=DESCRIPTION, routes=app.routes
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}") | {
        "examples": [_EXAMPLE]
    }
    schemas |= schemas["Problem"].pop("$defs", {})
    _add_examples(schemas)
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of a 422, which we do not answer with
        schemas.pop(name, None)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token from /api/tokens."},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": SECURE_COOKIE,
            "description": f"The session of a browser; over plain HTTP on loopback it is called {PLAIN_COOKIE}.",
        },
    }
    declared = _routes(app)
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _complete(path, operation, declared[path, method.upper()])
    return made


def _add_examples(schemas: dict[str, Any]) -> None:
    """Give each schema of an answer its example; a page of a list is made of that of its rows."""
    for name, example in json.loads(EXAMPLES.read_text("utf-8")).items():
        schemas[name]["examples"] = [example]
        if (page := f"Page_{name}_") in schemas:
            schemas[page]["examples"] = [{"items": [example], "total": 1, "next_offset": None}]


def _routes(app: FastAPI) -> dict[tuple[str, str], APIRoute]:
    return {
        (str(one.path_format), method): one.route
        for one in iter_route_contexts(app.routes)
        if isinstance(one.route, APIRoute)
        for method in one.methods or ()
    }


def _complete(path: str, operation: dict[str, Any], route: APIRoute) -> None:
    """Say who may ask, and with what problems *operation* may answer."""
    ask = next(found for one in route.dependant.dependencies if (found := asked_by(one.call)) is not None)
    codes = {"422", "429", "503"}
    if "{" in path:
        codes.add("404")
    if operation.get("requestBody"):
        codes |= {"400", "409"}
    if not ask.open:
        codes |= {"401", "403"}
    operation["security"] = [] if ask.open else [{"session": []}] if ask.session else [{"token": []}, {"session": []}]
    if ask.permission:
        operation["x-permission"] = ask.permission
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds the permission `{ask.permission}`."
    answers = operation["responses"]
    answers.pop("default", None)
    # Reading what a person does next may find that something has changed meanwhile.
    for code in sorted(codes | {"404", "409"}):
        answers[code] = {
            "description": _PROBLEMS[code],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
