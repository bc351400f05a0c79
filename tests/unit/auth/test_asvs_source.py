"""What the source itself shows of secrets (ASVS 5.0: 11.5.1, 13.2.3, 13.3.1)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from workflows.settings import Settings

ROOT = Path(__file__).parents[3]
PRODUCT = ("api", "workers", "workflows")
SHIPPED = ("Dockerfile", "docker-compose.yml", "deploy", *PRODUCT)
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\n[A-Za-z0-9+/]"  # a key that has something in it
    r"|\bcbt_[0-9a-f]{12}_|\bwhsec_[A-Za-z0-9+/]{20}"  # a token, a webhook's secret
    r"|(?i:password|secret|token)\w*\s*[:=]\s*[\"'](?![{$])[^\"'\s]*\d[^\"'\s]{7,}[\"']"
)
FEWEST_BYTES = 16
"""128 bits, as 11.5.1 asks."""


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield (file, call) of every call of `secrets.<name>` in the product."""
    for folder in PRODUCT:
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == f"secrets.{name}":
                    yield str(file.relative_to(ROOT)), node


def test_asvs_11_5_1_what_must_not_be_guessed_is_of_128_bits_or_more_and_of_the_systems_generator():
    """Everything that opens something is made by `token_urlsafe`; `token_hex` makes ids, which open nothing."""
    found = [(file, ast.literal_eval(call.args[0])) for file, call in calls("token_urlsafe")]
    assert {"workflows/journal/entries.py", "workflows/journal/accounts.py"} <= {file for file, _ in found}
    assert [(file, size) for file, size in found if size < FEWEST_BYTES] == []


def test_asvs_11_5_1_the_generator_for_games_makes_no_secret():
    """`random` makes waits uneven in one place, and is imported nowhere else."""
    users = [
        str(file.relative_to(ROOT))
        for folder in PRODUCT
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import random|from random)\b", file.read_text(), re.MULTILINE)
    ]
    assert users == ["workflows/journal/store.py"]


def test_asvs_13_3_1_no_secret_stands_in_what_is_shipped():
    files = [file for name in SHIPPED for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()]
    assert len(files) > 150
    found = {
        str(file.relative_to(ROOT)): SECRETS.findall(text)
        for file in files
        if file.suffix not in {".mo", ".pyc"} and (text := file.read_text(errors="replace")) and SECRETS.search(text)
    }
    assert found == {}


def test_a_secret_in_a_file_would_be_found():
    assert SECRETS.search('PASSWORD = "tulip-9f2c-planted"')
    assert SECRETS.search("-----BEGIN EC PRIVATE KEY-----\nMHcC")
    assert SECRETS.search("cbt_0123456789ab_x")


def test_asvs_13_2_3_no_service_has_a_password_that_we_chose(tmp_path):
    """Servers, database, broker and provider: without what an operator set there is none."""
    bare = Settings.load({}, state=tmp_path)
    assert bare.oidc_client_secret.get_secret_value() == ""
    assert [url for url in (bare.database_url, bare.broker_url) if "@" in (url or "")] == []
    compose = (ROOT / "docker-compose.yml").read_text()
    assert re.findall(r"PASSWORD: (.+)", compose) == ["${POSTGRES_PASSWORD:-}"]
    assert re.findall(r"PASSWORD=(.*)", (ROOT / "deploy" / "compose.env.example").read_text()) == [""]
