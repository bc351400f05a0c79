"""The reference pages say what the code does: JSON Schema, the example, every key, every setting."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from workflows.inventory import SERVICE_RELEASES, Fleet, KeyKind, json_schema
from workflows.settings import PREFIX, Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def example() -> str:
    page = (REFERENCE / "inventory.md").read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]


def test_the_schema_file_is_up_to_date():
    """It is what the models say; the message tells how it is made again."""
    command = "python -c 'import json, workflows.inventory as i; print(json.dumps(i.json_schema(), indent=2))'"
    written = json.loads((REFERENCE / "fleet.schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(), f"{command} > docs/reference/fleet.schema.json"


def test_the_schema_is_a_schema_and_takes_the_example():
    """Editors get a valid schema of draft 2020-12 that agrees with the reader."""
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load(example()), json_schema())


@pytest.mark.parametrize(
    "fault", [{"unknown": 1}, {"retention": "a month"}, {"clusters": []}, {"issuers": {"ca": {"kind": "acme"}}}]
)
def test_the_schema_refuses_what_the_reader_refuses(fault):
    """Unknown keys and wrong choices are seen while typing."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(example()) | fault, json_schema())


def test_the_example_of_the_reference_is_right():
    """It can be read without fault or warning, and says what the page says of it."""
    fleet = Fleet.from_yaml(example())
    assert fleet.warnings == ()
    cluster = fleet.resolved().clusters[0]
    nodes = ("cmscore1.example.com", "cmscore2.example.com", "cmscore3.example.com")
    assert cluster.certificates[-1].dns == ("seoul.example.com", *nodes, "cmsedge1.example.com", "join.example.com")
    assert cluster.database.server.dns == ("db.seoul.example.com", *nodes)


def test_every_key_choice_and_service_stands_in_the_reference():
    """What the schema knows, the page describes."""
    page = (REFERENCE / "inventory.md").read_text(encoding="utf-8")
    schema = json_schema()
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}
    assert [word for word in sorted({*keys, *SERVICE_RELEASES, *KeyKind}) if f"`{word}" not in page] == []


def test_every_setting_stands_in_the_reference_with_its_default():
    """A new setting is described when it is made."""
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert sorted(rows) == sorted(PREFIX + name.upper() for name in Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float):
            assert rows[PREFIX + name.upper()] == f"`{field.default:g}`"
