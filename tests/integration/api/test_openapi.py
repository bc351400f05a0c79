"""The OpenAPI document is valid, whole, and says of every operation who may use it."""

from __future__ import annotations

import jsonschema
import pytest
import schemathesis

from api.problems import MEDIA_TYPE
from workflows.people import Permission


@pytest.fixture
def document(web):
    """Give the document as anybody gets it."""
    answer = web.client().get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def operations(document):
    """Yield (name, operation) of the document."""
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield f"{method.upper()} {path}", operation


def test_it_is_a_valid_document(document):
    schemathesis.openapi.from_dict(document).validate()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_operation_has_a_body_that_is_described_and_problems(document):
    for name, operation in operations(document):
        good = {code: one for code, one in operation["responses"].items() if code < "400"}
        assert good, name
        for code, answer in good.items():
            shapes = [one["schema"] for one in answer.get("content", {}).values()]
            assert code == "204" or all(shapes), name
            assert code == "204" or shapes, name
        bad = {code: one for code, one in operation["responses"].items() if code >= "400"}
        assert all(list(one["content"]) == [MEDIA_TYPE] for one in bad.values()), name
        assert {"409", "422", "429", "503"} <= bad.keys(), name


def test_every_operation_says_who_may_use_it(document):
    found = dict(operations(document))
    assert found["POST /api/runs"]["x-permission"] == Permission.OPERATE
    assert found["GET /api/journal/export"]["x-permission"] == Permission.AUDIT
    for name, operation in found.items():
        assert "security" in operation, name
        if operation["security"]:
            assert {"401", "403"} <= operation["responses"].keys(), name
    assert {name for scheme in document["components"]["securitySchemes"] for name in [scheme]} == {"token", "session"}


def test_what_starts_something_takes_an_idempotency_key(document):
    for name in ("POST /api/runs", "POST /api/plans", "POST /api/surveys", "POST /api/runs/{run}/pause"):
        parameters = [one["name"] for one in dict(operations(document))[name]["parameters"]]
        assert "idempotency-key" in parameters, name
