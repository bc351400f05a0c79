"""Deliveries by what they hold, under names that lead nowhere (ASVS 5.0: 5.2.2, 5.3.2); sizes: `test_body_size`."""

from __future__ import annotations

import io
import zipfile

import pytest

from tests.ca import pkcs7_der
from tests.integration.api.seeded import Seeded


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Give the world once; the tests here look, or are refused."""
    with pytest.MonkeyPatch.context() as patch:
        made = Seeded(tmp_path_factory.mktemp("uploads"), patch)
        made.people()
        yield made
        made.journal.close()


@pytest.fixture(scope="module")
def delivering(seeded):
    """Give where certificates are waited for, whoever delivers, and the certificates."""
    run = seeded.waiting_run("seoul")
    anna, gate = seeded.signed_in("anna"), f"/api/runs/{run}/gates/seoul/sign"
    assert anna.post(f"{gate}/approve", json={"digest": anna.get(gate).json()["digest"]}).status_code == 200
    files = [one.read_bytes() for one in sorted(seeded.world.sign(run, pkcs7_der).iterdir())]
    return f"/api/runs/{run}/deliveries", seeded.signed_in("olga"), files


def files_of(root):
    """Return every file below *root* with what it holds, without those of the journal."""
    return {one: one.read_bytes() for one in root.rglob("*") if one.is_file() and "journal" not in one.name}


def packed(*named: tuple[str, bytes]) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, data in named:
            archive.writestr(name, data)
    return found.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cms1.crt", b"MZ\x90\x00\x03"),
        ("cms1.pem", b"\x7fELF\x02\x01\x01"),
        ("cms1.cer", b"<!DOCTYPE html><script>alert(1)</script>"),
        ("cms1.p7b", b"%PDF-1.7"),
        ("cms1.zip", b"\x89PNG\r\n\x1a\n"),
        ("cms1.crt", packed(("one.crt", b"x"))),
        ("cms1.crt", b""),
    ],
)
def test_asvs_5_2_2_what_is_no_certificate_is_refused_whatever_its_name(delivering, name, data):
    path, olga, _ = delivering
    answer = olga.post(path, files={"files": (name, data, "application/pkix-cert")})
    assert answer.status_code == 422
    assert "alert" not in answer.text
    assert olga.get(path).json()["total"] == 0


def test_asvs_5_2_2_a_certificate_is_one_whatever_its_name_and_kind(delivering):
    """Mail programs rename files; what is in them decides."""
    path, olga, (first, second) = delivering
    sent = [("files", ("one.exe", first, "image/png")), ("files", ("two", second, "text/html"))]
    answer = olga.post(f"{path}?check=true", files=sent)
    assert [(one["name"], len(one["wishes"]), one["faults"]) for one in answer.json()["files"]] == [
        ("one.exe", 1, []),
        ("two", 1, []),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/cron.d/x",
        "/etc/passwd",
        "..\\..\\state\\vault\\key",
        "a/../../b.crt",
        "..",
        "x\x00.crt",
        "%2e%2e%2fx",
    ],
)
def test_asvs_5_3_2_a_name_leads_to_no_file(delivering, seeded, name):
    """Neither the name of a file nor one in an archive: nothing is written, and no path is told back."""
    path, olga, (first, _) = delivering
    before = files_of(seeded.root)
    shown = []
    for sent in ((name, first), ("mail.zip", packed((name, first)))):
        answer = olga.post(f"{path}?check=true", files={"files": sent})
        assert answer.status_code in {200, 422}, answer.text
        shown += [one["name"] for one in answer.json().get("files", ())]
    assert files_of(seeded.root) == before
    for one in shown:
        folder, _, last = one.rpartition("/")
        assert folder in {"", "mail.zip"}
        assert last not in {"", ".", ".."}
        assert "\\" not in last
        assert last.isprintable()


def test_asvs_5_3_2_no_path_of_a_route_leads_to_a_file_outside(seeded, delivering):
    """Assets come from their folder alone, a report from the journal; names of runs and steps open no file."""
    secret = seeded.root / "secret.txt"
    secret.write_text("tulip-outside")
    run = delivering[0].split("/")[3]
    client = seeded.signed_in("viola")
    up = ("..%2f" * 8, "../" * 8, "%2e%2e/" * 8, "..%5c" * 8, "%00/")
    for before in ("/static/", "/static/vendor/", f"/api/runs/{run}/steps/", "/api/runs/", "/runs/", "/api/nodes/"):
        for way in up:
            answer = client.get(f"{before}{way}{str(secret).lstrip('/')}")
            assert answer.status_code in {404, 405, 303, 422}, (before, way, answer.status_code)
            assert "tulip-outside" not in answer.text
