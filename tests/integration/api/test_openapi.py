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


ASKED_MOST = (
    "/api/fleet",
    "/api/nodes/{node}",
    "/api/clusters/{cluster}",
    "/api/runs",
    "/api/runs/{run}",
    "/api/runs/{run}/gates/{lane}/{name}",
    "/api/runs/{run}/pause/preview",
    "/api/certificates",
    "/api/journal",
    "/api/me",
)
SENT_MOST = (
    "/api/surveys",
    "/api/plans",
    "/api/runs",
    "/api/runs/{run}/pause",
    "/api/runs/{run}/rollback",
    "/api/runs/{run}/gates/{lane}/{name}/approve",
    "/api/runs/{run}/deliveries",
    "/api/tokens",
    "/api/users",
    "/api/webhooks",
)


# ── examples ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def answered(document):
    """Yield (name, name of the schema) of every good answer that is JSON of a shape of its own."""
    for name, operation in operations(document):
        for code, answer in operation["responses"].items():
            reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
            if code < "400" and reference:
                yield name, reference.rpartition("/")[2]


def test_every_example_fits_its_schema_and_says_nothing_more(document):
    """Valid with formats, and without a name that the schema does not have: such an example has grown old."""
    schemas = document["components"]["schemas"]
    seen = 0
    for name, schema in schemas.items():
        for example in schema.get("examples", ()):
            whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(whole, format_checker=checker).validate(example)
            assert example.keys() <= schema["properties"].keys(), name
            seen += 1
    assert seen > 40


def test_every_answer_of_the_main_routes_has_an_example(document):
    schemas = document["components"]["schemas"]
    have = {name for name, schema in answered(document) if schemas[schema].get("examples")}
    wanted = {f"GET {path}" for path in ASKED_MOST} | {f"POST {path}" for path in SENT_MOST}
    assert sorted(wanted - have) == []
    assert len(have) > 35


def test_no_example_has_grown_old(seeded):
    """What is asked for most has every name that its example has; a new one may come first to the answer."""
    document = seeded.client().get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    run = seeded.waiting_run("seoul")
    olga = seeded.signed_in("olga")
    paths = dict(answered(document))
    names = {"run": run, "node": "cms1", "cluster": "seoul", "lane": "seoul", "name": "sign"}
    for path in ASKED_MOST:
        (example,) = schemas[paths[f"GET {path}"]]["examples"]
        assert example.keys() <= olga.get(path.format(**names)).json().keys(), path
